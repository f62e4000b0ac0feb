"""Progress of long calls: a bar on a terminal, what a caller gives in its place, or nothing."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qrnn.errors import DataError

if TYPE_CHECKING:
    from rich.progress import Progress

Report = Callable[[int, int], Any]
"""What is called with (done, all)."""

Wanted = Report | bool | None
"""What a caller says of progress: a function that is told of it; None for a bar where stderr is a terminal; True for a bar; False for none."""

PATIENCE_SECONDS = 0.5
"""How long a call of Python runs before its bar appears, so that short calls show nothing."""

_shown = threading.Lock()
"""Held by the one bar that is on the terminal: calls inside of others, and of other threads, show none."""


@contextmanager
def reporting(wanted: Wanted, label: str, patience: float | None = None) -> Iterator[Report]:
    """Yield the function that is to be called with (done, all): the caller's own, one that moves a bar, or one that does nothing.

    The bar stands on stderr, appears after ``patience`` seconds, `PATIENCE_SECONDS` when None, and vanishes when done. Without the library rich
    there is none.
    """
    if callable(wanted):
        yield wanted
    elif wanted not in (None, True, False):
        raise DataError(
            f"progress={wanted!r}, expected a function of (done, all), None for a bar on a terminal, True, or False"
        )
    elif wanted is False or not _shown.acquire(blocking=False):
        yield _nothing
    else:
        bar = _bar(always=wanted is True)
        try:
            yield _nothing if bar is None else _Moving(bar, label, PATIENCE_SECONDS if patience is None else patience)
        finally:
            if bar is not None:
                bar.stop()
            _shown.release()


def _nothing(done: int, total: int) -> None:
    """Tell nobody."""


def _bar(always: bool) -> Progress | None:
    """Return a bar that has not started; None where it would not be seen, or rich is not installed."""
    if not always and not _may_be_terminal():
        return None  # before rich is imported, which takes time
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ModuleNotFoundError:
        return None
    out = Console(stderr=True, highlight=False, markup=False, emoji=False, force_terminal=True if always else None)
    if not out.is_terminal:
        return None
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=out, transient=True)


def _may_be_terminal() -> bool:
    """Return whether stderr is a terminal, or the environment makes rich take it for one."""
    named = any(os.environ.get(name) for name in ("FORCE_COLOR", "TTY_COMPATIBLE"))
    return named or (sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty())


class _Moving:
    """Moves a bar, and starts it once the call has taken long enough."""

    def __init__(self, bar: Progress, label: str, patience: float) -> None:
        self._bar, self._label = bar, label
        self._task = bar.add_task(label, total=None)
        self._begin = time.monotonic() + patience
        if patience <= 0:
            bar.start()

    def __call__(self, done: int, total: int) -> None:
        if not self._bar.live.is_started and time.monotonic() >= self._begin:
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total)
