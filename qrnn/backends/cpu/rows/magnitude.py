"""Magnitudes and powers of two features: the squares are summed feature by feature, and the roots are taken of whole vectors of sums."""

from __future__ import annotations

from typing import Any

from numba import int64

from qrnn.arithmetic.fixedpoint import saturate, shift_right_round
from qrnn.arithmetic.roots import integer_root, sum_of_squares
from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.python_calls import FIRST, LAST


@jit
def magnitudes(
    place: Any, root: bool, a_shift: int, b_shift: int, epsilon: int, shift: int, left: Any, right: Any, squares: Any, a: Any, b: Any, out: Any
) -> None:  # fmt: skip
    """Set out[m, k] to `magnitude16`, or without ``root`` to `power16`, of a[m, left[k]] and b[m, right[k]]; squares [F] int64 is scratch."""
    for m in range(place[FIRST], place[LAST]):
        for k in range(squares.shape[0]):
            squares[k] = sum_of_squares(int64(a[m, left[k]]), int64(b[m, right[k]]), a_shift, b_shift, epsilon)
        if root:
            for k in range(squares.shape[0]):
                squares[k] = integer_root(squares[k])
        for k in range(squares.shape[0]):
            out[m, k] = saturate(shift_right_round(squares[k], shift), -32768, 32767)
