"""The integers of a converter become those of a graph input without a real number in between (docs/arithmetic.md, section 7)."""

from qrnn.arithmetic.fixedpoint import saturate, shift_right_round

CODE_MULTIPLIER_MAX = (1 << 30) - 1
CODE_BIAS_MAX = 1 << 61
CODE_SHIFT_MAX = 62
"""With these bounds every int32 code gives a sum below 2^62."""


def from_code(code: int, multiplier: int, bias: int, shift: int, limit: int) -> int:
    """Return clamp(round((code · multiplier + bias) / 2^shift), ±limit), halves up: the integer of a graph input for a converter's code.

    code int32; |multiplier| < 2^30; |bias| ≤ 2^61; shift 0 … 62; limit 1 … 32767.
    """
    return saturate(shift_right_round(code * multiplier + bias, shift), 0 - limit, limit)
