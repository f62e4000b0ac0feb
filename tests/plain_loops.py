"""Compute tests whose point is not the CPU's fused steps by plain loops, which are compiled once for all cells.

Fused steps are a kernel for each cell, width of weights and form of gates, each of which takes about 4 s to compile. The plain loops are one
kernel for all of them, with the same bits. So the default run sets ``QRNN_CPU_ISA`` to the plain loops, except for tests in tests/backends and
tests with the mark ``fused``. A test that uses the fixture ``loops`` takes them wherever it is. Tests with the marks ``matrix`` and ``long``
are computed by the best instruction set. With the option ``--fused``, and where the variable has a value already, all tests leave it as it
is.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from qrnn.backends.cpu.isa import PLAIN

VARIABLE = "QRNN_CPU_ISA"
BACKENDS = Path(__file__).parent / "backends"


def add_options(parser: pytest.Parser) -> None:
    """Add the option of the command line."""
    parser.addoption(
        "--fused", action="store_true", help="compute every test by the best instruction set, never by plain loops"
    )


def takes_plain_loops(item: pytest.Item) -> bool:
    """Return whether a test is computed by plain loops."""
    if item.config.getoption("fused") or any(item.get_closest_marker(name) for name in ("matrix", "long")):
        return False
    if "loops" in getattr(item, "fixturenames", ()):
        return True
    return BACKENDS not in item.path.parents and item.get_closest_marker("fused") is None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Set the variable for a test, its fixtures and the programs that it starts."""
    if VARIABLE in os.environ or not takes_plain_loops(item):
        return (yield)
    with mock.patch.dict(os.environ, {VARIABLE: PLAIN}):
        return (yield)
