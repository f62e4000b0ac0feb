"""The functions of the contract that the runtime in C has, their names there, and the bounds of their arguments.

The bounds are those of docs/arithmetic.md, section 9.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contract_dialects import INT32, LANES, SIGNED, UNSIGNED, Lanes, Scalar
from contract_to_c import Callee

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

INT16 = (-32768, 32767)
GATE = (-32768, 32768)
"""The bounds of a gate function's values."""
UNIT = (0, 1 << 15)
"""The bounds of a gate that scales a state, under QRNN_UNIT_GATES: [0, 1] with 15 fraction bits."""
STATE = (-cells.STATE_LIMIT, cells.STATE_LIMIT)
PARTIAL = (-(1 << 30) + 1, (1 << 30) - 1)
"""A requantized sum."""
FRAC = (0, 15)
SUM = (-reductions.SUM_MAX, reductions.SUM_MAX)
"""The bounds of a sum of int16."""
NORM_VARIANCE = (1 << 62) - 1
"""The largest variance of a row that is normalized."""
MAGNITUDES = (-INT32[1], INT32[1])
"""Every int32 that has a magnitude."""
LINE = (-(1 << 31) + (1 << 15), (1 << 31) - 1 - (1 << 15))


@dataclass(frozen=True)
class Argument:
    """An argument: its type in C, and its bounds.

    An argument that can be only one number is written as that number; with ``fixed`` it is no parameter either.
    """

    kind: str
    low: int
    high: int
    fixed: bool = False


@dataclass(frozen=True)
class TableArgument:
    """A table: the type of its entries in C, their bounds, and the function that reads one for each lane."""

    kind: str
    low: int
    high: int
    entry: str = ""


@dataclass(frozen=True)
class Function:
    """A function of the contract as the runtime has it.

    ``only_if`` is the condition of the preprocessor under which it is compiled. ``facts`` are bounds of expressions that intervals do not
    see; each has its reason in ``note``. ``leave`` names the saturation at the end that is left to a gate function. ``saturated`` are
    arguments that are saturated to int16 before anything else.
    """

    function: Callable[..., Any]
    section: int
    arguments: Mapping[str, Argument | TableArgument]
    name: str = ""
    result: str = SIGNED
    only_if: str = ""
    facts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    note: str = ""
    leave: str | None = None
    saturated: tuple[str, ...] = ()

    @property
    def c_name(self) -> str:
        """The function's name in C."""
        return "qrnn_" + (self.name or self.function.__name__)


def lane(bounds: tuple[int, int]) -> Argument:
    """Return an argument that may differ from lane to lane."""
    return Argument(LANES, *bounds)


def signed(bounds: tuple[int, int]) -> Argument:
    """Return a signed 32-bit argument that is the same in every lane."""
    return Argument(SIGNED, *bounds)


def bits(low: int, high: int) -> Argument:
    """Return an argument that is a number of bits."""
    return Argument(UNSIGNED, low, high)


def fixed(n: int) -> Argument:
    """Return an argument that is always ``n``, and is no parameter."""
    return Argument(SIGNED, n, n, fixed=True)


def long(bounds: tuple[int, int]) -> Argument:
    """Return a 64-bit argument."""
    return Argument("int64_t", *bounds)


WIDE = (-(1 << 62), 1 << 62)
PLACE = (-running_softmax.LARGEST_PLACE, running_softmax.LARGEST_PLACE)
"""The bounds of a score times log2(e)."""
WEIGHTED = (-running_softmax.WEIGHTED_MAX, running_softmax.WEIGHTED_MAX + INT32[1])
"""The bounds of a weighted sum that is joined of its parts."""
WORD = (0, (1 << 32) - 1)
"""The bounds of an unsigned number of 32 bits."""
INPUTS = {"from_frac": bits(*FRAC), "to_frac": bits(*FRAC)}
GRU = {"z": lane(GATE), "n": lane(GATE), "h": lane(STATE), "z_frac": bits(*FRAC), "n_shift": bits(*FRAC)}
CELL = {
    "i": lane(GATE),
    "f": lane((-(1 << 15), 1 << 16)),
    "g": lane(GATE),
    "c": lane(INT32),
    "f_frac": bits(*FRAC),
    "product_shift": bits(0, 30),
}
RESET = {
    "x_part": lane(PARTIAL),
    "h_part": lane(PARTIAL),
    "r": lane(GATE),
    "r_frac": bits(*FRAC),
    "pre_shift": fixed(0),
}
ODD: dict[str, Argument | TableArgument] = {
    "x": lane(MAGNITUDES),
    "offset": signed((-(1 << 14), 1 << 14)),
    "segment_bits": bits(*FRAC),
    "cut": signed((0, 32767)),
    "table": TableArgument("int16_t", *INT16, entry="qrnn_lanes_entry16"),
}
SQUARES = {
    "a": signed(INT16),
    "b": signed(INT16),
    "a_shift": bits(0, 30),
    "b_shift": bits(0, 30),
    "epsilon": long((0, roots.SQUARES_MAX - 1)),
}
UNIT_GATES, NOT_UNIT_GATES = "defined(QRNN_UNIT_GATES)", "!defined(QRNN_UNIT_GATES)"

SCALARS: tuple[Function, ...] = (
    Function(fixedpoint.magnitude, 2, {"x": signed(MAGNITUDES)}),
    Function(
        fixedpoint.saturate, 2, {"x": signed(INT32), "low": fixed(INT32[0]), "high": signed(INT32)}, "at_most",
        note="There is no lower end.",
    ),
    Function(
        fixedpoint.saturate, 2, {"x": signed(INT32), "low": signed(INT32), "high": fixed(INT32[1])}, "at_least",
        note="There is no upper end.",
    ),
    Function(fixedpoint.saturate, 2, {"x": signed(INT32), "low": signed(INT32), "high": signed(INT32)}),
    Function(
        fixedpoint.saturate, 2, {"x": long(WIDE), "low": Argument("int64_t", WIDE[0], WIDE[0], fixed=True), "high": long(WIDE)}, "at_most64",
        "int64_t", note="There is no lower end.",
    ),
    Function(
        fixedpoint.saturate, 2, {"x": long(WIDE), "low": long(WIDE), "high": Argument("int64_t", WIDE[1], WIDE[1], fixed=True)}, "at_least64",
        "int64_t", note="There is no upper end.",
    ),
    Function(fixedpoint.saturate, 2, {"x": long(WIDE), "low": long(WIDE), "high": long(WIDE)}, "saturate64", "int64_t"),
    Function(fixedpoint.saturate16, 2, {"x": signed(INT32)}, only_if="!defined(QRNN_HAS_SSAT)"),
    Function(fixedpoint.saturate16_shifted, 2, {"x": signed(INT32), "left_shift": bits(*FRAC)}),
    Function(
        fixedpoint.shift_right_round, 2, {"x": signed(INT32), "shift": bits(0, 30)},
        facts={"x + (1 << shift >> 1)": INT32}, note="x + 2^(shift - 1) fits 32 bits wherever this is called.",
    ),
    Function(
        fixedpoint.shift_right_round, 2, {"x": long((-(1 << 62), (1 << 62) - 1)), "shift": bits(0, 62)},
        "shift_right_round64", "int64_t",
    ),
    Function(
        fixedpoint.requantize, 2, {"acc": signed(MAGNITUDES), "multiplier": signed((0, (1 << 31) - 2)), "left_shift": bits(0, 30)},
        only_if="!defined(QRNN_HAS_REQUANTIZE)", facts={"acc << left_shift": MAGNITUDES},
        note="|acc| * 2^left_shift < 2^31 is proved for every row when a model is made and when it is loaded.",
    ),
    Function(fixedpoint.align16, 2, {"x": signed(INT16), **INPUTS}),
    Function(
        fixedpoint.add16, 2,
        {"a": signed(INT16), "b": signed(INT16), "a_shift": bits(*FRAC), "b_shift": bits(*FRAC), "out_shift": bits(*FRAC)},
        facts={"(a << a_shift) + (b << b_shift)": (-(1 << 30) - (1 << 15), (1 << 30) + (1 << 15))},
        note="One of a_shift and b_shift is 0.",
    ),
    Function(fixedpoint.to_operand, 2, {"x": signed(INT16), "shift": bits(*FRAC), "limit": signed((1, 32767))}),
    Function(
        codes.from_code, 7,
        {
            "code": signed(INT32), "multiplier": signed((-codes.CODE_MULTIPLIER_MAX, codes.CODE_MULTIPLIER_MAX)),
            "bias": long((-codes.CODE_BIAS_MAX, codes.CODE_BIAS_MAX)), "shift": bits(0, codes.CODE_SHIFT_MAX), "limit": signed((1, 32767)),
        },
    ),
    Function(
        gates.piecewise_linear, 3,
        {"x": signed((0, 32767)), "table": TableArgument("uint16_t", 0, 1 << 15), "segment_bits": bits(*FRAC)},
    ),
    Function(
        gates.exp_weight, 3, {"d": signed((0, 65535)), "frac": bits(*FRAC), "table": TableArgument("uint16_t", 0, 1 << 15)},
        only_if="!defined(QRNN_HAS_EXP_WEIGHT)",
    ),
    Function(
        gates.softmax_divide, 3, {"weight": Argument(UNSIGNED, *UNIT), "total": Argument(UNSIGNED, 1, INT32[1])}, result=UNSIGNED,
    ),
    Function(
        cells.peephole, 4, {"c": signed(INT32), "weight": signed(INT16), "shift": bits(0, 46)},
    ),
    Function(
        norms.norm_variance, 5,
        {
            "count": signed((1, norms.NORM_FEATURES)), "total": signed((-(1 << 30) + (1 << 15), (1 << 30) - (1 << 15))),
            "squares": long((0, norms.NORM_FEATURES << 30)), "shift": bits(0, 30), "epsilon": long((0, norms.NORM_TERM_MAX - 1)),
        },
        result="int64_t",
        facts={
            "count * squares - total * total": (0, 1 << 60),
            "count * squares - total * total << shift": (0, norms.NORM_TERM_MAX),
        },
        note="count * squares >= total^2 by Cauchy and Schwarz, and count^2 * 2^shift <= 2^31 is checked for every layer.",
    ),
    Function(norms.norm_exponent, 5, {"variance": long((1, NORM_VARIANCE))}),
    Function(
        norms.norm_scale, 5, {"variance": long((1, NORM_VARIANCE)), "exponent": signed((0, 30))},
        facts={
            "variance << shift": (1 << 60, NORM_VARIANCE), "t": (1 << 18, (1 << 20) + (1 << 17)), "t * t * m": (0, (1 << 63) - 1),
            "odd": ((1 << 16) + 1, (1 << 17) + 1), "r": (1 << 15, 1 << 16),
        },
        note="exponent is that of variance. The bounds of t, of t * t * m and of r are those of every m.",
    ),
    Function(
        norms.normalize, 5,
        {
            "x": signed(INT16), "count": signed((1, norms.NORM_FEATURES)),
            "total": signed((-(1 << 30) + (1 << 15), (1 << 30) - (1 << 15))), "scale": signed((1 << 15, 1 << 16)),
            "exponent": signed((0, 30)), "gain": signed(INT16), "gain_shift": signed((-128, 127)), "bias": signed(INT32),
        },
    ),
    Function(
        roots.integer_root, 5, {"v": long((0, NORM_VARIANCE))}, result="int64_t",
        facts={
            "choose(v < 1, 1, v)": (1, NORM_VARIANCE), "norm_exponent(positive)": (0, 30),
            "norm_scale(positive, exponent)": (1 << 15, 1 << 16), "v >> exponent": (0, (1 << 32) - 1),
            "s * s": (0, (1 << 62) + (1 << 48)), "v - s * s >> exponent": (-(1 << 19), 1 << 19),
            "(v >> exponent) * scale >> 16": (0, (1 << 31) + (1 << 16)),
            "s + ((v - s * s >> exponent) * scale >> 17) - 1": (-1, 1 << 31), "(s + 1) * (s + 1)": (0, (1 << 62) + (1 << 33)),
        },
        note="v < 4^(exponent + 1), and the root of v is s but for 2^-16 of itself and 2; then it is one of s - 1 ... s + 2.",
    ),
    Function(
        reductions.add_to_sum, 5, {"high": signed(INT16), "low": signed((0, INT32[1])), "x": long((-(1 << 46), 1 << 46))},
        result="int64_t",
    ),
    Function(reductions.sum_high, 5, {"total": long(SUM)}),
    Function(reductions.sum_low, 5, {"total": long(SUM)}),
    Function(reductions.divide_sum, 5, {"total": long(SUM), "divisor": long((1, 1 << 46)), "shift": bits(*FRAC)}),
    Function(
        moments.add_to_squares, 5, {"high": signed((0, INT32[1])), "low": signed((0, INT32[1])), "x": long((-(1 << 61), 1 << 61))},
        result="int64_t",
    ),
    Function(moments.mean_distance, 5, {"x": signed(INT16), "count": signed((1, INT32[1])), "total": long(SUM)}),
    Function(
        moments.mean_square, 5, {"count": signed((1, INT32[1])), "total": long(SUM), "squares": long((0, moments.SQUARE_SUM_MAX))},
        result="int64_t",
        facts={
            "within + count * 32768": (0, (1 << 47) - 1), "(within + count * 32768) // count": (0, 1 << 16),
            "within - q * count": (0, INT32[1]), "r * r - less * count": (0, INT32[1]),
            "r * r // count": (0, INT32[1]), "count - rest": (1, INT32[1]), "top - high * count": (0, INT32[1]), "top // count": (0, 1 << 30),
            "(low << 28) + (part << 28) // count": (0, 1 << 60),
        },
        note="|within| <= count * 2^15; r, rest and low are remainders of divisions by count, and top is at most count * 2^30.",
    ),
    Function(
        moments.sample_square, 5, {"square": long((0, moments.SQUARE_MAX)), "count": signed((1, INT32[1]))}, result="int64_t",
    ),
    Function(moments.added_root, 5, {"square": long((0, NORM_VARIANCE)), "outside": signed((0, INT32[1]))}, result="int64_t"),
    Function(
        moments.normalize_distance, 5,
        {
            "distance": signed((-(1 << 30), 1 << 30)), "scale": signed((1 << 15, 1 << 16)), "exponent": signed((0, 30)),
            "gain": signed(INT16), "gain_shift": signed((-128, 127)), "bias": signed(INT32),
        },
    ),
    Function(
        moments.moment16, 5,
        {"value": long((0, NORM_VARIANCE)), "before": bits(0, 62), "multiplier": signed((1 << 30, INT32[1])), "shift": bits(16, 62)},
    ),
    Function(
        cells.begin_state, 4,
        {"x": long(INT32), "left_shift": bits(0, 30), "right_shift": bits(0, 30), "low": long(INT32), "high": long(INT32)},
    ),
    Function(
        roots.sum_of_squares, 5, SQUARES, result="int64_t", facts={"a * a": (0, 1 << 30), "b * b": (0, 1 << 30)},
        note="The squares are at most 2^61, which is checked for every layer.",
    ),
    Function(
        roots.magnitude16, 5, {**SQUARES, "shift": bits(1, 30)},
        facts={"sum_of_squares(a, b, a_shift, b_shift, epsilon)": (0, NORM_VARIANCE)},
    ),
    Function(
        roots.power16, 5, {**SQUARES, "shift": bits(0, 46)},
        facts={"sum_of_squares(a, b, a_shift, b_shift, epsilon)": (0, NORM_VARIANCE)},
    ),
    Function(
        quotients.divide16, 5, {"a": signed(INT16), "b": signed(INT16), "a_shift": bits(0, 31), "b_shift": bits(0, 31)},
        facts={"choose(magnitude(b) < 1, 1, magnitude(b))": (1, 1 << 15)},
    ),
    Function(octaves.leading_bit, 5, {"v": signed((0, 65535))}),
    Function(
        octaves.octave_value, 5,
        {"x": signed(INT16), "bits": bits(0, 14), "table": TableArgument("int32_t", -octaves.OCTAVE_ENTRY_MAX, octaves.OCTAVE_ENTRY_MAX)},
        facts={"m - (m >> shift << shift)": (0, (1 << 14) - 1)},
    ),
    Function(
        gates.piecewise_linear, 3,
        {"x": signed((0, 32767)), "table": TableArgument("int32_t", 0, logarithms.LN2), "segment_bits": bits(*FRAC)},
        "piecewise_linear_log",
    ),
    Function(
        logarithms.natural_log, 5, {"v": long((1, NORM_VARIANCE)), "table": TableArgument("int32_t", 0, logarithms.LN2)},
        facts={"w >> by16": (0, 65535), "e": (0, 61), "v << 61 - e": (1 << 61, NORM_VARIANCE)}, note="e is the place of the leading bit of v.",
    ),
    Function(
        logarithms.log_power16, 5,
        {
            **SQUARES, "least": long((1, roots.SQUARES_MAX - 1)), "multiplier": signed((-(1 << 24), 1 << 24)),
            "bias": long((1 - logarithms.LOG_BIAS_MAX, logarithms.LOG_BIAS_MAX - 1)), "shift": bits(0, 46),
            "table": TableArgument("int32_t", 0, logarithms.LN2),
        },
        facts={"sum_of_squares(a, b, a_shift, b_shift, epsilon)": (0, NORM_VARIANCE), "choose(v < least, least, v)": (1, NORM_VARIANCE)},
    ),
    Function(
        logarithms.log_softmax16, 5,
        {
            "d": signed((0, 65535)), "total": long((1 << 15, INT32[1])), "in_frac": bits(*FRAC), "out_frac": signed((-16, 15)),
            "table": TableArgument("int32_t", 0, logarithms.LN2),
        },
    ),
    Function(running_softmax.power_place, 5, {"score": signed(INT16), "in_frac": bits(*FRAC)}, result="int64_t"),
    Function(
        running_softmax.score_place, 5,
        {"product": long((-(1 << 61), 1 << 61)), "multiplier": signed(MAGNITUDES), "shift": bits(0, 62)},
        result="int64_t", facts={"product * multiplier": WIDE}, note="A layer's multiplier is small enough for its products.",
    ),
    Function(running_softmax.power_exponent, 5, {"place": long(PLACE)}),
    Function(
        running_softmax.power_mantissa, 5,
        {"place": long(PLACE), "table": TableArgument("int32_t", 1 << running_softmax.POWER_BITS, 2 << running_softmax.POWER_BITS)},
    ),
    Function(
        running_softmax.joined_sum, 5, {"high": signed((-(1 << 30), 1 << 30)), "low": signed((0, INT32[1]))}, result="int64_t",
    ),
    Function(
        running_softmax.weighted_sum, 5,
        {"total": long(WEIGHTED), "rise": signed((0, 1 << 17)), "term": long((-(1 << 39), 1 << 39)), "below": signed((0, 1 << 17))},
        result="int64_t",
    ),
    Function(
        running_softmax.weighted_mean, 5,
        {"total": long(WEIGHTED), "weight": long((0, WEIGHTED[1])), "up": bits(*FRAC), "down": bits(*FRAC)},
        facts={
            "choose(weight < 274877906944, 274877906944, weight)": (1 << 38, (1 << 61) + INT32[1]), "upper >> by16": (0, 65535),
            "weight >> shift": (1 << 30, INT32[1]),
        },
        note="shift + 30 is the place of the leading bit of weight.",
    ),
    Function(
        choices.choice_distance, 12,
        {
            "top": long((-(1 << 32), 1 << 32)), "score": long((-(1 << 32), 1 << 32)), "probabilities": bits(0, 1),
            "logs": TableArgument("int32_t", 0, logarithms.LN2),
        },
        facts={"choose(top < 1, 1, top)": (1, 1 << 32), "choose(score < 1, 1, score)": (1, 1 << 32)},
    ),
    Function(
        choices.choice_weight, 12,
        {
            "distance": signed((-1, INT32[1])), "multiplier": signed((1, INT32[1])), "shift": bits(0, 62),
            "powers": TableArgument("int32_t", 1 << running_softmax.POWER_BITS, 2 << running_softmax.POWER_BITS),
        },
    ),
    Function(choices.product_high, 12, {"a": long(WORD), "b": long(WORD)}, result="int64_t"),
    Function(choices.product_low, 12, {"a": long(WORD), "b": long(WORD)}, result="int64_t"),
    Function(choices.weight_share, 12, {"total": long((0, (1 << 40) - 1)), "word": long(WORD)}, result="int64_t"),
    Function(
        choices.fed_value, 12,
        {
            "q": signed(INT16), "multiplier": long((0, (1 << 46) - 1)), "bias": long((1 - (1 << 61), (1 << 61) - 1)), "shift": bits(0, 62),
            "limit": signed((1, 32767)),
        },
    ),
)  # fmt: skip
"""The functions of qrnn_contract.h, each after those it calls."""

VECTORS: tuple[Function, ...] = (
    *(
        Function(
            gates.piecewise_linear, 3,
            {"x": lane((0, 65535)), "table": TableArgument(kind, *bounds, entry=f"qrnn_lanes_entry{width}"), "segment_bits": bits(*FRAC)},
            f"piecewise_linear{width}", LANES, only_if=condition,
        )
        for width, kind, bounds, condition in (
            (16, "int16_t", INT16, "!defined(QRNN_HAS_PIECEWISE_LINEAR16)"), (32, "int32_t", GATE, ""),
        )
    ),
    Function(gates.evaluate_odd, 3, ODD, result=LANES, only_if="defined(QRNN_USE_CUT)"),
    Function(gates.evaluate_odd, 3, ODD | {"cut": signed((0, 0))}, result=LANES, only_if="!defined(QRNN_USE_CUT)"),
    Function(
        gates.evaluate_ramp, 3,
        {
            "x": lane(INT32), "slope": signed((-32767, 32767)), "intercept": signed(INT32), "shift": bits(*FRAC),
            "low": signed(GATE), "high": signed(GATE),
        },
        result=LANES, saturated=("x",), facts={"x * slope + intercept": LINE},
        note="|x * slope + intercept| + 2^15 < 2^31 is checked for every gate function.",
    ),
    Function(
        gates.evaluate_table, 3,
        {
            "x": lane(INT32), "lowest": signed(INT16), "highest": signed(INT16), "segment_bits": bits(*FRAC),
            "table": TableArgument("int32_t", *GATE, entry="qrnn_lanes_entry32"),
        },
        result=LANES,
    ),
    Function(
        gates.evaluate_threshold, 3,
        {
            "x": lane(INT32), "threshold": signed(INT16), "slope": signed((-32767, 32767)), "intercept": signed(INT32),
            "high": signed(GATE), "below": signed(GATE),
        },
        result=LANES, saturated=("x",), facts={"x * slope + intercept": MAGNITUDES},
        note="|x * slope + intercept| < 2^31 is checked for every gate function.",
    ),
    Function(fixedpoint.align16, 2, {"x": lane(INT16), **INPUTS}, "align16_argument", LANES, leave="saturate16"),
    Function(
        cells.preactivation, 4, {"x_part": lane(PARTIAL), "h_part": lane(PARTIAL), "pre_shift": fixed(0)}, result=LANES,
        leave="saturate16_shifted",
    ),
    Function(cells.candidate_after_reset, 4, RESET | {"r": lane(UNIT), "r_frac": bits(15, 15)}, result=LANES,
             only_if=UNIT_GATES, leave="saturate16_shifted"),
    Function(cells.candidate_after_reset, 4, RESET, result=LANES, only_if=NOT_UNIT_GATES, leave="saturate16_shifted"),
    Function(
        cells.reset_operand, 4,
        {"r": lane(GATE), "h": lane(STATE), "r_frac": bits(*FRAC), "shift": bits(*FRAC), "limit": signed((1, 32767))}, result=LANES,
    ),
    Function(cells.coupled_forget, 4, {"i": lane(GATE), "i_frac": bits(*FRAC)}, result=LANES),
    Function(cells.lstm_cell_state, 4, CELL | {"f": lane(UNIT), "f_frac": bits(15, 15)}, result=LANES, only_if=UNIT_GATES),
    Function(cells.lstm_cell_state, 4, CELL, result=LANES, only_if=NOT_UNIT_GATES),
    Function(cells.lstm_output_argument, 4, {"c": lane(INT32), "shift": bits(0, 23)}, result=LANES, leave="saturate16"),
    Function(cells.lstm_hidden_state, 4, {"o": lane(GATE), "activated_c": lane(GATE), "shift": bits(0, 30)}, result=LANES),
    Function(
        cells.gru_hidden_state, 4, GRU | {"z": lane(UNIT), "z_frac": bits(15, 15), "n": lane(STATE)}, result=LANES,
        only_if=UNIT_GATES,
        facts={
            "blend": (-32767 << 15, 32767 << 15),
        },
        note="z lies in [0, 1]: the blend is 2^15 times a mean of n and h.",
    ),
    Function(cells.gru_hidden_state, 4, GRU, result=LANES, only_if=NOT_UNIT_GATES),
    Function(cells.rnn_hidden_state, 4, {"activated": lane(GATE), "shift": bits(*FRAC)}, result=LANES),
)  # fmt: skip
"""The functions of qrnn_contract_lanes.h."""


def callees(functions: Sequence[Function], *names: str) -> dict[Any, list[Callee]]:
    """Return those of ``functions`` with these names in C, as `Translator` takes them."""
    found: dict[Any, list[Callee]] = {}
    for f in functions:
        if f.c_name in names:
            own = [f.arguments[a] for a in inspect.signature(f.function).parameters]
            entry = next((a.entry for a in own if isinstance(a, TableArgument)), "")
            callee = Callee(f.c_name, tuple(a.kind for a in own), tuple((a.low, a.high) for a in own), entry, f.facts)
            found.setdefault(f.function, []).append(callee)
    return found


CALLS: dict[type[Scalar], dict[Any, list[Callee]]] = {
    Scalar: callees(
        SCALARS,
        "qrnn_piecewise_linear",
        "qrnn_saturate16",
        "qrnn_norm_exponent",
        "qrnn_norm_scale",
        "qrnn_integer_root",
        "qrnn_sum_of_squares",
        "qrnn_leading_bit",
        "qrnn_piecewise_linear_log",
        "qrnn_natural_log",
        "qrnn_divide_sum",
        "qrnn_power_mantissa",
    ),
    Lanes: callees(VECTORS, "qrnn_piecewise_linear16", "qrnn_piecewise_linear32"),
}
"""Functions that others call; the rest is written in place of the call."""
