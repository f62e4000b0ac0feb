"""Limit the time of every phase of a test: `SECONDS`, or what its mark ``time_limit`` says; more on a busy machine.

A test that Python runs fails with a traceback of where it was. One that does not come back to Python from compiled code is ended with its
process, `GRACE` seconds later, and the tracebacks of all threads are written to stderr.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Generator
from typing import Any

import pytest

SECONDS = 120.0
"""No test without a mark takes more than 30 s on a machine of its own."""

LONGER = 5
"""How many times over a test may take its limit, while others keep the machine busy."""

GRACE = 60.0

_stderr = sys.__stderr__


def pytest_configure() -> None:
    """Keep the real stderr, which pytest puts aside while tests run."""
    global _stderr
    if sys.__stderr__ is not None:
        _stderr = os.fdopen(os.dup(sys.__stderr__.fileno()), "w")


def pytest_unconfigure() -> None:
    """Close what `pytest_configure` opened."""
    global _stderr
    if _stderr is not None and _stderr is not sys.__stderr__:
        _stderr.close()
    _stderr = sys.__stderr__


def seconds_of(item: pytest.Item) -> float:
    """Return the limit of a test."""
    mark = item.get_closest_marker("time_limit")
    return float(mark.args[0]) if mark else SECONDS


def busy() -> bool:
    """Return whether more than twice as many processes want to run as there are cores."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > 2 * (os.cpu_count() or 1)


def _limited(item: pytest.Item, phase: str) -> Generator[None, Any, Any]:
    seconds = seconds_of(item)
    alarms = hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()

    left = LONGER

    def start() -> None:
        faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=_stderr)
        if alarms:
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def stop(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left and busy():
            start()
        else:
            pytest.fail(f"{phase} took more than {seconds:g} s")

    if alarms:
        before = signal.signal(signal.SIGALRM, stop)
    start()
    try:
        return (yield)
    finally:
        if alarms:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _limited(item, "setup"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _limited(item, "call"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _limited(item, "teardown"))
