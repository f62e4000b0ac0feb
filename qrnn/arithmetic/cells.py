"""The cells of the contract are computed one unit at a time (docs/arithmetic.md, section 4).

Names: ``x_part`` and ``h_part`` are the requantized sums of one row of W·x + b and R·h + b (int32); ``r z i f g o n`` are gate outputs,
|·| ≤ 2^15, with the fraction bits of their function: 15 for all that are bounded by 1. h is int16 with h_frac fraction bits (15 for bounded
cells), c int32 with c_frac. Products are exact in 64 bits, and in 32 where docs/arithmetic.md, section 9, says so.
"""

from qrnn.arithmetic.fixedpoint import saturate, saturate16, saturate16_shifted, saturate32, shift_right_round

STATE_LIMIT = 32767
"""Hidden states lie within ±STATE_LIMIT."""


def preactivation(x_part: int, h_part: int, pre_shift: int) -> int:
    """Add both partial sums, then saturate once: int16 in the gate's input format."""
    return saturate16_shifted(x_part + h_part, pre_shift)


def peephole(c: int, weight: int, shift: int) -> int:
    """Return the cell's part of a pre-activation, weight · c, in the partial sums' format, within ±2^30; weight int16, shift 0 … 46.

    The part is added to x_part, which then still fits an int32; the sum with h_part takes 33 bits.
    """
    return saturate(shift_right_round(c * weight, shift), -(1 << 30), 1 << 30)


def candidate_after_reset(x_part: int, h_part: int, r: int, r_frac: int, pre_shift: int) -> int:
    """Return the pre-activation of a GRU's n with linear_before_reset = 1: W·x + r·(R·h + b), with one rounding and one saturation."""
    return saturate16_shifted(x_part + shift_right_round(h_part * r, r_frac), pre_shift)


def reset_operand(r: int, h: int, r_frac: int, shift: int, limit: int) -> int:
    """Return the operand of r·h of a GRU with linear_before_reset = 0, rounded once from the full product."""
    return saturate(shift_right_round(r * h, r_frac + shift), -limit, limit)


def coupled_forget(i: int, i_frac: int) -> int:
    """Return f = 1 - i, exactly; i_frac fraction bits."""
    return (1 << i_frac) - i


def lstm_cell_state(i: int, f: int, g: int, c: int, f_frac: int, product_shift: int) -> int:
    """Return c' = sat32(round(f·c) + round(i·g)), each rounded to c's fraction bits; product_shift = i_frac + g_frac - c_frac, 0 … 30."""
    return saturate32(shift_right_round(c * f, f_frac) + shift_right_round(i * g, product_shift))


def lstm_output_argument(c: int, shift: int) -> int:
    """Return c as the int16 argument of the output activation, saturated; shift = c_frac - in_frac ≥ 0."""
    return saturate16(shift_right_round(c, shift))


def lstm_hidden_state(o: int, activated_c: int, shift: int) -> int:
    """Return h = o · activation(c) in one rounding; shift = o_frac + out_frac - h_frac, 0 … 30."""
    return saturate(shift_right_round(o * activated_c, shift), -STATE_LIMIT, STATE_LIMIT)


def gru_hidden_state(z: int, n: int, h: int, z_frac: int, n_shift: int) -> int:
    """Return h' = z·h + (1 - z)·n with one rounding; n is first rounded to h's fraction bits, n_shift = n_frac - h_frac ≥ 0.

    For z in [0, 1] this is a convex combination of two values within ±32767, which cannot saturate.
    """
    blend = z * h + ((1 << z_frac) - z) * shift_right_round(n, n_shift)
    return saturate(shift_right_round(blend, z_frac), -STATE_LIMIT, STATE_LIMIT)


def rnn_hidden_state(activated: int, shift: int) -> int:
    """Return h = f(pre-activation), rounded from the function's fraction bits to those of h; shift = out_frac - h_frac ≥ 0."""
    return saturate(shift_right_round(activated, shift), -STATE_LIMIT, STATE_LIMIT)


def begin_state(x: int, left_shift: int, right_shift: int, low: int, high: int) -> int:
    """Return an initial state that is computed: x in the state's format, rounded half up or shifted left, within low … high.

    x int32; one of the shifts is 0, the other 0 … 30: ``left_shift`` goes to more fraction bits, ``right_shift`` to fewer.
    """
    return saturate(shift_right_round(x * (1 << left_shift), right_shift), low, high)
