"""Real numbers, and whole arrays of integers, are rounded here by the contract's rule (docs/arithmetic.md, sections 1 and 7).

Code that turns real numbers into integers calls `round_half_up`; code that computes a matrix's operands for NumPy calls `operands`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.arithmetic.fixedpoint import shift_right_round


def round_half_up(values: Any) -> Any:
    """Return floor(x + 1/2): the nearest whole number, halves towards plus infinity, of a float64 or of each in an array; still float64.

    The rule is that of `shift_right_round`, which rounds integers. NaN and infinities stay what they are. Backends also compile it, for one
    value.
    """
    return np.floor(values + 0.5)


def operands(q: npt.NDArray[np.integer[Any]], shift: int, limit: int) -> npt.NDArray[np.int64]:
    """Return `fixedpoint.to_operand` of each int16 in an array, as int64: clamp(round(q / 2^shift), ±limit)."""
    rounded: Any = shift_right_round(q.astype(np.int64), shift)  # type: ignore[arg-type]
    clamped: npt.NDArray[np.int64] = np.clip(rounded, -limit, limit)
    return clamped
