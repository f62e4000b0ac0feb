"""Gate functions in integers (docs/arithmetic.md, section 3): tables, ramps, thresholds, and the integer softmax.

A gate function is one row of ``params`` (int64, columns named below) and one row of ``tables`` (int32). Input int16 with
``in_frac`` fraction bits, output within ±32768 with ``out_frac``:

    ODD        y = offset + sign(x) · p(min(|x|, 32767 - cut)), and -y where offset < 0      sigmoid (offset 2^14), tanh (offset 0)
    RAMP       y = clamp((x·slope + intercept + 2^(shift-1)) >> shift, low, high)          hard sigmoid, hard tanh, ReLU, affine
    TABLE      y = p(clamp(x, lowest, highest) + 32768)                   leaky ReLU, ELU, softplus; p over the whole int16 range
    THRESHOLD  y = below where x ≤ at, else min(x·slope + intercept, high)                      step, thresholded ReLU
"""

from collections.abc import Sequence
from typing import Any

from qrnn.arithmetic.fixedpoint import choose, magnitude, multiply_q15, saturate, shift_right_round

KIND, IN_FRAC, OUT_FRAC = 0, 1, 2
OFFSET, SEGMENT_BITS, CUT = 3, 4, 5
SLOPE, INTERCEPT, SHIFT, LOW, HIGH = 3, 4, 5, 6, 7
LOWEST, HIGHEST = 3, 5
THRESHOLD_AT, THRESHOLD_SLOPE, THRESHOLD_INTERCEPT, THRESHOLD_HIGH, THRESHOLD_BELOW = 3, 4, 5, 6, 7
PARAMS = 8
"""The number of columns of a row of ``params``. OFFSET, SEGMENT_BITS and CUT belong to ODD; SLOPE … HIGH to RAMP; LOWEST, SEGMENT_BITS and
HIGHEST to TABLE; THRESHOLD_… to THRESHOLD. Columns that a kind does not use are zero."""

ODD, RAMP, TABLE, THRESHOLD = 0, 1, 2, 3
"""The kinds of gate functions."""

EXP_FRAC = 11
"""The fraction bits of the argument of the softmax's exp(-d) table: d in [0, 16)."""

PROBABILITY_FRAC = 14
"""The fraction bits of layer outputs in [0, 1] (sigmoid and softmax heads), so that 1 itself fits in int16."""


def piecewise_linear(x: int, table: Sequence[int], segment_bits: int) -> int:
    """Return p(x) for x ≥ 0: table[k] + round((table[k+1] - table[k]) · fraction), k = x >> segment_bits.

    ``segment_bits`` 0 … 15; ``table`` reaches to entry k + 1: 2^(15 - segment_bits) + 1 entries for x ≤ 32767, 2^(16 - segment_bits) + 1
    for x ≤ 65535. The fraction is taken to Q0.15, so one rounding, half up. Neighbours differ by at most 65534: the product is an int32.
    """
    k = x >> segment_bits
    fraction = (x << (15 - segment_bits)) & 32767
    return table[k] + multiply_q15(table[k + 1] - table[k], fraction)


def evaluate_odd(x: int, offset: int, segment_bits: int, cut: int, table: Sequence[int]) -> int:
    """Return y = offset + sign(x) · p(min(|x|, 32767 - cut)) for an int16 x, and -y where offset < 0; |-32768| counts as 32767.

    ``offset`` 0 or ±2^14. A negative one gives |offset| - sign(x) · p: exactly 1 - f for the f of the positive offset, which entries of the
    opposite sign would not, since halves are rounded up whatever the sign. ``cut`` 0 … 32767 clips the argument.
    """
    p = piecewise_linear(saturate(magnitude(x), 0, 32767 - cut), table, segment_bits)
    y = choose(x < 0, offset - p, offset + p)
    return choose(offset < 0, 0 - y, y)


def evaluate_ramp(x: int, slope: int, intercept: int, shift: int, low: int, high: int) -> int:
    """Return clamp(round((x · slope + intercept) / 2^shift), low, high) for an int16 x; |x · slope + intercept| + 2^shift < 2^31."""
    return saturate(shift_right_round(x * slope + intercept, shift), low, high)


def evaluate_table(x: int, lowest: int, highest: int, segment_bits: int, table: Sequence[int]) -> int:
    """Return p(clamp(x, lowest, highest) + 32768) for an int16 x; knot k of the table is x = (k << segment_bits) - 32768.

    -32768 ≤ lowest ≤ highest ≤ 32767; entries within ±32768.
    """
    return piecewise_linear(saturate(x, lowest, highest) + 32768, table, segment_bits)


def evaluate_threshold(x: int, threshold: int, slope: int, intercept: int, high: int, below: int) -> int:
    """Return ``below`` where x ≤ threshold, else min(x · slope + intercept, high), for an int16 x; |x · slope + intercept| < 2^31."""
    line = x * slope + intercept
    return choose(x <= threshold, below, choose(line > high, high, line))


def evaluate(x: int, params: Any, tables: Any, row: int) -> int:
    """Return the value of gate function ``row`` at x, an int16."""
    p = params[row]
    if p[KIND] == ODD:
        return evaluate_odd(x, p[OFFSET], p[SEGMENT_BITS], p[CUT], tables[row])
    if p[KIND] == TABLE:
        return evaluate_table(x, p[LOWEST], p[HIGHEST], p[SEGMENT_BITS], tables[row])
    if p[KIND] == THRESHOLD:
        return evaluate_threshold(
            x, p[THRESHOLD_AT], p[THRESHOLD_SLOPE], p[THRESHOLD_INTERCEPT], p[THRESHOLD_HIGH], p[THRESHOLD_BELOW]
        )
    return evaluate_ramp(x, p[SLOPE], p[INTERCEPT], p[SHIFT], p[LOW], p[HIGH])


def exp_weight(d: int, frac: int, table: Sequence[int]) -> int:
    """Return exp(-d) in Q0.15, for d ≥ 0 with ``frac`` fraction bits (0 … 15), d int32; table over [0, 16), 128 segments."""
    if frac > EXP_FRAC:
        d = shift_right_round(d, frac - EXP_FRAC)
    else:
        d = d << (EXP_FRAC - frac)
    return piecewise_linear(saturate(d, 0, 32767), table, 8)


def softmax_divide(weight: int, total: int) -> int:
    """Return round(2^14 · weight / total), halves up: one probability in Q1.14; weight ≤ 2^15, 0 < total < 2^31."""
    return ((weight << 15) + total) // (2 * total)
