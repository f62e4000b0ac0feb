"""The numeric contract is this code (docs/arithmetic.md): scalar integer functions, and nothing else in the project does arithmetic.

They are plain Python, so the reference backend runs them on unbounded integers; a compiled backend registers `CONTRACT` with its compiler,
in order, and calls the same functions from its loops.
"""

from collections.abc import Callable
from typing import Any

from qrnn.arithmetic import (
    cells,
    choices,
    codes,
    fixedpoint,
    gates,
    logarithms,
    moments,
    norms,
    octaves,
    quotients,
    reductions,
    roots,
    running_softmax,
)

CONTRACT_VERSION = "1.1"
"""The version of the contract; it changes when any input can give other bits than before, and when it defines what it did not."""

WITHOUT_OFFSETS = "1.0"
"""The version of the contract that defines every model none of whose tensors has an offset: 1.1 gives such a model the same bits."""

CONTRACT: tuple[Callable[..., Any], ...] = (
    fixedpoint.choose,
    fixedpoint.magnitude,
    fixedpoint.saturate,
    fixedpoint.saturate16,
    fixedpoint.saturate32,
    fixedpoint.saturate16_shifted,
    fixedpoint.shift_right_round,
    fixedpoint.requantize,
    fixedpoint.multiply_q15,
    fixedpoint.align16,
    fixedpoint.add16,
    fixedpoint.to_operand,
    codes.from_code,
    gates.piecewise_linear,
    gates.evaluate_odd,
    gates.evaluate_ramp,
    gates.evaluate_table,
    gates.evaluate_threshold,
    gates.evaluate,
    gates.exp_weight,
    gates.softmax_divide,
    cells.preactivation,
    cells.peephole,
    cells.candidate_after_reset,
    cells.reset_operand,
    cells.coupled_forget,
    cells.lstm_cell_state,
    cells.lstm_output_argument,
    cells.lstm_hidden_state,
    cells.gru_hidden_state,
    cells.rnn_hidden_state,
    cells.begin_state,
    norms.norm_variance,
    norms.norm_exponent,
    norms.norm_scale,
    norms.normalize,
    roots.integer_root,
    roots.sum_of_squares,
    roots.magnitude16,
    roots.power16,
    quotients.divide16,
    octaves.leading_bit,
    octaves.octave_value,
    logarithms.natural_log,
    logarithms.log_power16,
    logarithms.log_softmax16,
    reductions.add_to_sum,
    reductions.sum_high,
    reductions.sum_low,
    reductions.divide_sum,
    moments.add_to_squares,
    moments.mean_distance,
    moments.mean_square,
    moments.sample_square,
    moments.added_root,
    moments.normalize_distance,
    moments.moment16,
    running_softmax.power_place,
    running_softmax.score_place,
    running_softmax.power_exponent,
    running_softmax.power_mantissa,
    running_softmax.joined_sum,
    running_softmax.weighted_sum,
    running_softmax.weighted_mean,
    choices.choice_distance,
    choices.choice_weight,
    choices.product_high,
    choices.product_low,
    choices.weight_share,
    choices.fed_value,
)
"""Every function of the contract, each after those it calls."""
