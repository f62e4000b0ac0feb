"""What compiled loops read of a forward pass: functions' values and derivatives, and states, be these integers or real numbers.

A run of integers has the arguments of its functions, which are looked up in tables of every int16; a run of real numbers has the values and
derivatives themselves, [..., 2]. Which of them an array is, its axes or its type say when a loop is compiled. Importing this module
registers the contract's functions with Numba (`qrnn.backends.cpu.jit`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from qrnn.arithmetic.cells import lstm_output_argument
from qrnn.arithmetic.fixedpoint import saturate, shift_right_round
from qrnn.backends.cpu import jit as jit

_OPTIONS = {"nogil": True}


def look_up(
    arguments: Any, tables: Any, gate: int, n: int, t: int, first: int, count: int, w: Any, row: int, slope_row: int
) -> None:  # fmt: skip
    """Set w[row] to the values of a function, and w[slope_row] to its derivatives: ``count`` from column ``first`` on, at step t of sequence n.

    ``arguments`` [N, T, G·H] int16 and ``tables`` [G, 65536, 2], or values and
    derivatives as ``arguments`` [N, T, G·H, 2].
    """
    raise NotImplementedError


@overload(look_up, jit_options=_OPTIONS)  # type: ignore[untyped-decorator]
def _look_up(
    arguments: Any, tables: Any, gate: Any, n: Any, t: Any, first: Any, count: Any, w: Any, row: Any, slope_row: Any
) -> Any:  # fmt: skip
    if arguments.ndim == 4:

        def given(
            arguments: Any, tables: Any, gate: Any, n: Any, t: Any, first: Any, count: Any, w: Any, row: Any, slope_row: Any
        ) -> None:  # fmt: skip
            for u in range(count):
                w[row, u] = arguments[n, t, np.uintp(first + u), 0]
                w[slope_row, u] = arguments[n, t, np.uintp(first + u), 1]

        return given

    def by_table(
        arguments: Any, tables: Any, gate: Any, n: Any, t: Any, first: Any, count: Any, w: Any, row: Any, slope_row: Any
    ) -> None:  # fmt: skip
        for u in range(count):
            place = int(arguments[n, t, np.uintp(first + u)]) + 32768
            w[row, u] = tables[gate, place, 0]
            w[slope_row, u] = tables[gate, place, 1]

    return by_table


def look_up_cell(
    arguments: Any, tables: Any, shift: int, n: int, t: int, first: int, count: int, w: Any, row: int, slope_row: int
) -> None:  # fmt: skip
    """Do as `look_up` for the function of c, whose argument is c [N, T, H] int32 without ``shift`` of its fraction bits."""
    raise NotImplementedError


@overload(look_up_cell, jit_options=_OPTIONS)  # type: ignore[untyped-decorator]
def _look_up_cell(
    arguments: Any, tables: Any, shift: Any, n: Any, t: Any, first: Any, count: Any, w: Any, row: Any, slope_row: Any
) -> Any:  # fmt: skip
    if arguments.ndim == 4:

        def given(
            arguments: Any, tables: Any, shift: Any, n: Any, t: Any, first: Any, count: Any, w: Any, row: Any, slope_row: Any
        ) -> None:  # fmt: skip
            look_up(arguments, tables, 0, n, t, first, count, w, row, slope_row)

        return given

    def by_table(
        arguments: Any, tables: Any, shift: Any, n: Any, t: Any, first: Any, count: Any, w: Any, row: Any, slope_row: Any
    ) -> None:  # fmt: skip
        for u in range(count):
            place = lstm_output_argument(int(arguments[n, t, np.uintp(first + u)]), shift) + 32768
            w[row, u] = tables[0, place, 0]
            w[slope_row, u] = tables[0, place, 1]

    return by_table


def read_number(number: Any, shift: int, limit: int) -> tuple[Any, bool]:
    """Return a number of a state as a matrix reads it, and whether it is not clamped for that.

    An integer loses ``shift`` bits and is kept within ±``limit``; a real number is read as it is.
    """
    raise NotImplementedError


@overload(read_number, jit_options=_OPTIONS)  # type: ignore[untyped-decorator]
def _read_number(number: Any, shift: Any, limit: Any) -> Any:
    if isinstance(number, types.Float):

        def as_it_is(number: Any, shift: Any, limit: Any) -> Any:
            return number, True

        return as_it_is

    def narrowed(number: Any, shift: Any, limit: Any) -> Any:
        whole = shift_right_round(int(number), shift)
        return saturate(whole, -limit, limit), -limit <= whole <= limit

    return narrowed
