"""The cells of the contract (docs/arithmetic.md, section 4), one unit at a time.

Names: ``x_part`` and ``h_part`` are the requantized sums of one row of W·x + b and R·h + b (int32); ``r z i f g o n`` are gate outputs
in Q0.15; h is int16 with h_frac fraction bits (15 for bounded cells), c int32 with c_frac.
"""

from qrnn.arithmetic.fixedpoint import (
    multiply_q15,
    saturate,
    saturate16,
    saturate16_shifted,
    saturate32,
    shift_right_round,
)


def preactivation(x_part: int, h_part: int, pre_shift: int) -> int:
    """Both partial sums added, then saturated once: int16 in the gate's input format."""
    return saturate16_shifted(x_part + h_part, pre_shift)


def candidate_after_reset(x_part: int, h_part: int, r: int, pre_shift: int) -> int:
    """GRU with linear_before_reset = 1: pre-activation of n, W·x + r·(R·h + b), one rounding, one saturation."""
    return saturate16_shifted(x_part + multiply_q15(h_part, r), pre_shift)


def reset_operand(r: int, h: int, shift: int, limit: int) -> int:
    """GRU with linear_before_reset = 0: the matvec operand of r·h, rounded once from the full product."""
    return saturate(shift_right_round(r * h, 15 + shift), -limit, limit)


def lstm_cell_state(i: int, f: int, g: int, c: int, c_frac: int) -> int:
    """c' = sat32(round(f·c) + round(i·g)), both rounded to c_frac fraction bits; 12 ≤ c_frac ≤ 30."""
    return saturate32(multiply_q15(c, f) + shift_right_round(i * g, 30 - c_frac))


def lstm_output_argument(c: int, c_frac: int, in_frac: int) -> int:
    """c as the int16 argument of the output activation, which has in_frac ≤ c_frac fraction bits: the cell's saturation."""
    return saturate16(shift_right_round(c, c_frac - in_frac))


def lstm_hidden_state(o: int, activated_c: int, h_frac: int) -> int:
    """h = o · tanh(c), from two Q0.15 factors to h_frac fraction bits in one rounding; |h| ≤ 32767."""
    return shift_right_round(o * activated_c, 30 - h_frac)


def gru_hidden_state(z: int, n: int, h: int, h_frac: int) -> int:
    """h' = z·h + (1 - z)·n with one rounding: a convex combination of two int16, so it cannot leave int16.

    n is Q0.15; where h_frac < 15 it is rounded to h_frac first.
    """
    return (z * h + (32768 - z) * shift_right_round(n, 15 - h_frac) + 16384) >> 15


def rnn_hidden_state(activated: int, out_frac: int, h_frac: int) -> int:
    """h = f(pre-activation), taken from the function's out_frac ≥ h_frac fraction bits."""
    return shift_right_round(activated, out_frac - h_frac)
