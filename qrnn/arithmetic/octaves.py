"""Functions of one int16 by tables whose segments double in width from octave to octave (docs/arithmetic.md, section 5).

Each sign has a table of its own. Its knots stand at every whole number below 2^(bits+1), and from there on 2^bits segments divide each octave
[2^e, 2^(e+1)). So a function that is steep near 0, as a root, a logarithm or a reciprocal, and one that is smooth everywhere need few entries.
"""

from collections.abc import Sequence

from qrnn.arithmetic.fixedpoint import choose, magnitude, saturate, shift_right_round

OCTAVE_GUARD = 8
"""The fraction bits that an entry has beside those of the output, so that the value is rounded once."""

OCTAVE_ENTRY_MAX = 1 << 26
"""The largest magnitude of an entry: 2^18 units of the output, which saturates."""


def leading_bit(v: int) -> int:
    """Return the place of the leading bit of v, floor(log2(v)), and 0 for v = 0; v 0 … 65535."""
    by8 = choose(v < 256, 0, 8)
    w = v >> by8
    by4 = choose(w < 16, 0, 4)
    w = w >> by4
    by2 = choose(w < 4, 0, 2)
    w = w >> by2
    return by8 + by4 + by2 + choose(w < 2, 0, 1)


def octave_value(x: int, bits: int, table: Sequence[int]) -> int:
    """Return the value of a function at x, an int16; -32768 counts as -32767. ``bits`` 0 … 14.

    ``table`` has (16 - bits) · 2^bits + 1 entries for x ≥ 0 and as many for x < 0, each within ±2^26 and with 8 more fraction bits than the
    output. Between the knots the value is linear. It is rounded once, half up, and saturated to int16.
    """
    m = saturate(magnitude(x), 0, 32767)
    shift = saturate(leading_bit(m) - bits, 0, 14)
    k = (m >> shift) + (shift << bits) + choose(x < 0, ((16 - bits) << bits) + 1, 0)
    part = m - ((m >> shift) << shift)
    value = table[k] * (1 << shift) + (table[k + 1] - table[k]) * part
    return saturate(shift_right_round(value, shift + OCTAVE_GUARD), -32768, 32767)
