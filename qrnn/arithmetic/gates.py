"""Gate functions in integers (docs/arithmetic.md, section 3): piecewise-linear tables, ramps, and the integer softmax.

A gate function is one row of ``params`` (int64, columns named below) and one row of ``tables`` (int32). Input int16 with
``in_frac`` fraction bits, output with ``out_frac``:

    ODD   y = offset + sign(x) · p(|x|)          sigmoid (offset 2^14), tanh (offset 0); p from the table
    RAMP  y = clamp((x·slope + intercept + 2^(shift-1)) >> shift, low, high)      hard sigmoid, ReLU
"""

from collections.abc import Sequence
from typing import Any

from qrnn.arithmetic.fixedpoint import multiply_q15, saturate, shift_right_round

KIND, IN_FRAC, OUT_FRAC, OFFSET, SEGMENT_BITS = 0, 1, 2, 3, 4
SLOPE, INTERCEPT, SHIFT, LOW, HIGH = 3, 4, 5, 6, 7
PARAMS = 8
"""Columns of a row of ``params``; OFFSET and SEGMENT_BITS belong to ODD, SLOPE … HIGH to RAMP."""

ODD, RAMP = 0, 1

EXP_FRAC = 11
"""Fraction bits of the argument of the softmax's exp(-d) table: d in [0, 16)."""

PROBABILITY_FRAC = 14
"""Fraction bits of layer outputs in [0, 1] (sigmoid and softmax heads), so that 1 itself fits in int16."""


def piecewise_linear(x: int, table: Sequence[int], segment_bits: int) -> int:
    """p(x) for 0 ≤ x ≤ 32767: table[k] + round((table[k+1] - table[k]) · fraction), k = x >> segment_bits.

    ``table`` has 2^(15 - segment_bits) + 1 entries; the fraction is taken to Q0.15, so one rounding, half up.
    """
    k = x >> segment_bits
    fraction = (x & ((1 << segment_bits) - 1)) << (15 - segment_bits)
    return table[k] + multiply_q15(table[k + 1] - table[k], fraction)


def evaluate_odd(x: int, offset: int, segment_bits: int, table: Sequence[int]) -> int:
    """offset + sign(x) · p(|x|) for an int16 x; |-32768| counts as 32767."""
    magnitude = 0 - x if x < 0 else x  # not -x: a compiler may keep x in 16 bits, where -32768 has no negative
    p = piecewise_linear(32767 if magnitude > 32767 else magnitude, table, segment_bits)
    return offset - p if x < 0 else offset + p


def evaluate_ramp(x: int, slope: int, intercept: int, shift: int, low: int, high: int) -> int:
    """clamp(round((x · slope + intercept) / 2^shift), low, high) for an int16 x; |x · slope + intercept| + 2^shift < 2^31."""
    return saturate(shift_right_round(x * slope + intercept, shift), low, high)


def evaluate(x: int, params: Any, tables: Any, row: int) -> int:
    """Gate function ``row`` at x, an int16."""
    p = params[row]
    if p[KIND] == ODD:
        return evaluate_odd(x, p[OFFSET], p[SEGMENT_BITS], tables[row])
    return evaluate_ramp(x, p[SLOPE], p[INTERCEPT], p[SHIFT], p[LOW], p[HIGH])


def exp_weight(d: int, frac: int, table: Sequence[int]) -> int:
    """exp(-d) in Q0.15, for d ≥ 0 with ``frac`` fraction bits (0 … 15), d int32; table over [0, 16), 128 segments."""
    if frac > EXP_FRAC:
        d = shift_right_round(d, frac - EXP_FRAC)
    else:
        d = d << (EXP_FRAC - frac)
    return piecewise_linear(32767 if d > 32767 else d, table, 8)


def softmax_divide(weight: int, total: int) -> int:
    """round(2^14 · weight / total), halves up: one probability in Q1.14; weight ≤ 2^15, 0 < total < 2^31."""
    return ((weight << 15) + total) // (2 * total)
