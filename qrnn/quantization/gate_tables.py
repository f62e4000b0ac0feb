"""Make integer gate functions from real ones: tables, ramps and thresholds, with their formats (docs/arithmetic.md, section 3)."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from qrnn.arithmetic import gates as g
from qrnn.arithmetic.fixedpoint import Q15_ONE
from qrnn.arithmetic.reals import round_half_up
from qrnn.errors import ModelFileError, QuantizationError
from qrnn.model.activation import ACTIVATION_PARAMETERS, Activation, activate
from qrnn.model.parts import GateFunction, Int32Array, Int64Array
from qrnn.quantization.gate_choice import GateChoice
from qrnn.quantization.gate_fit import RealFunction, fit_knots, fit_with_kink

SIGMOID_FRAC, TANH_FRAC = 11, 12
"""Fraction bits of the pre-activations: sigmoid over ±16 (1 - sigmoid(16) is 2^-23), tanh over ±8.

Those of the hard tanh are tanh's too. More would be used only below ±1, where they are finer than what 8-bit operands leave, and the rows of
most matrices would need a left_shift, which costs a small core a quarter more instructions.
"""

MOST_SEGMENTS = 1024
"""The most segments on the half range, for a table of 1025 or 2049 entries."""

_RANGED = (
    "relu",
    "affine",
    "leaky_relu",
    "thresholded_relu",
    "elu",
    "softplus",
    "softsign",
    "swish",
    "hard_swish",
    "gelu",
    "gelu_tanh",
    "mish",
)


def needs_input_range(activation: Activation) -> bool:
    """Return whether the useful inputs have no bound of their own, so that `gate_function` needs an ``in_frac`` from calibration."""
    return activation.kind in _RANGED


@functools.lru_cache(maxsize=256)
def gate_function(
    activation: Activation,
    choice: GateChoice = GateChoice(),  # noqa: B008  # frozen
    *,
    in_frac: int | None = None,
    clip: float | None = None,
) -> GateFunction:
    """Return the contract's gate function for f(clamp(x, ±clip)), where f is ``activation`` or what ``choice`` puts in its place.

    ``in_frac`` is the number of fraction bits of the input, for those that `needs_input_range`; the others have a format of their own.
    ``clip`` is rounded to the nearest input LSB, and the result is then exactly that of the function without it at the clamped input.

    Tables of ``pwl:N`` have N segments on the half range of a sigmoid (±16) or tanh (±8). Those of other functions keep about the width
    that tanh's have, 8/N, in units of what sets their curvature: where the range is wider they have N · 2^(12 - in_frac) segments, at most
    1024 (scaled_tanh: N · |beta| · range / 8). leaky_relu has two segments, whatever N.
    """
    activation = choice.apply(activation)
    kind = activation.kind
    for name in ACTIVATION_PARAMETERS[kind]:
        if not math.isfinite(getattr(activation, name)):
            raise QuantizationError(f"{activation}: {' and '.join(ACTIVATION_PARAMETERS[kind])} must be finite")
    if kind in ("sigmoid", "tanh", "scaled_tanh"):
        return _clipped(_bounded_odd(activation, choice), clip)
    if kind == "hard_sigmoid":
        return _clipped(_hard_sigmoid(activation), clip)
    if kind == "hard_tanh":
        return _clipped(_function("hard_tanh", g.RAMP, TANH_FRAC, 15, 8, 0, 0, -32767, 32767), clip)
    if kind == "step":
        return _clipped(_function("step", g.THRESHOLD, SIGMOID_FRAC, 15, -1, 0, Q15_ONE, Q15_ONE, 0), clip)
    if in_frac is None:
        raise QuantizationError(f"{activation}: its input has no range of its own; give in_frac")
    if not 0 <= in_frac <= 15:
        raise QuantizationError(f"{activation}: in_frac={in_frac}, expected 0…15")
    if kind == "relu":
        return _clipped(_function("relu", g.RAMP, in_frac, in_frac, 1, 0, 0, 0, 32767), clip)
    if kind == "thresholded_relu":
        return _thresholded_relu(activation, in_frac, clip)
    if kind == "affine":
        return _clipped(_affine(activation, in_frac), clip)
    if kind == "softsign":
        segments = _segments(choice.segments, 2.0 ** (15 - in_frac))
        return _clipped(_odd(f"softsign {choice}", lambda x: x / (1.0 + x), in_frac, 15, segments), clip)
    return _clipped(_full_range(activation, choice, in_frac), clip)


def _function(name: str, kind: int, in_frac: int, out_frac: int, *values: int, table: object = ()) -> GateFunction:
    params = np.zeros(g.PARAMS, np.int64)
    params[: 3 + len(values)] = kind, in_frac, out_frac, *values
    return GateFunction(name, params, np.asarray(table, np.int32))


# --- tables ---------------------------------------------------------------------------------------------------------------------


def _segments(segments: int, reach: float) -> int:
    """Return the number of segments on a half range of ``reach``, where tanh would have ``segments`` on 8.

    It is the nearest power of two, not below ``segments`` and at most 1024.
    """
    wider = round(math.log2(reach / 8)) if reach > 8 else 0
    return min(MOST_SEGMENTS, segments << wider)


def _out_frac(activation: Activation, largest: float) -> int:
    """Return the most fraction bits, up to 15, with which ``largest`` is at most 32768 units, to half a unit."""
    out_frac = 15
    while out_frac >= 0 and largest * 2.0**out_frac > 32768.5:
        out_frac -= 1
    if out_frac < 0:
        raise QuantizationError(f"{activation}: outputs up to {largest:g} do not fit int16; expected at most 32768")
    return out_frac


def _odd(
    name: str, half: RealFunction, in_frac: int, out_frac: int, segments: int, offset: int = 0, sign: int = 1
) -> GateFunction:
    """Return the ODD function offset + sign · half(|x|) for x ≥ 0, mirrored below; ``half`` is concave and rises from half(0) = 0."""
    knots = fit_knots(half, 2.0**15 / segments / 2**in_frac, segments)
    table = np.clip(round_half_up(knots * 2.0**out_frac), 0, offset or 32767).astype(np.int32)
    table = np.maximum.accumulate(table)
    return _function(name, g.ODD, in_frac, out_frac, offset, 16 - segments.bit_length(), table=sign * table)


def _bounded_odd(activation: Activation, choice: GateChoice) -> GateFunction:
    """Return the ODD function of sigmoid, tanh or alpha·tanh(beta·x), over the inputs in which they are still moving."""
    segments, name = choice.segments, f"{activation} {choice}"
    if activation.kind == "sigmoid":
        return _odd(name, lambda x: 0.5 * np.tanh(0.5 * x), SIGMOID_FRAC, 15, segments, offset=Q15_ONE // 2)
    if activation.kind == "tanh":
        return _odd(name, np.tanh, TANH_FRAC, 15, segments)
    size, steepness = abs(activation.alpha), abs(activation.beta)
    if 0 < steepness < 2.0**-TANH_FRAC:
        raise QuantizationError(f"{activation}: expected beta 0, or |beta| of 2^-12 or more")
    in_frac = min(15, TANH_FRAC + math.frexp(steepness)[1] - 1) if steepness else TANH_FRAC
    segments = _segments(segments, steepness * 2.0 ** (15 - in_frac))
    sign = -1 if activation.alpha * activation.beta < 0 else 1
    return _odd(
        name, lambda x: size * np.tanh(steepness * x), in_frac, _out_frac(activation, size), segments, sign=sign
    )


def _full_range(activation: Activation, choice: GateChoice, in_frac: int) -> GateFunction:
    """Return the TABLE of a function that is read over all inputs, with the most fraction bits that hold all outputs.

    -32768 counts as -32767. The identity on x ≥ 0 of leaky_relu and elu is exact where out_frac is in_frac: for |alpha| ≤ 1, or for elu
    outputs that need no more room below 0 than above. swish, hard_swish, both gelu and mish are exact at 0.
    """
    alpha, reach = activation.alpha, 2.0 ** (15 - in_frac)
    rises = activation.kind == "softplus" or (activation.kind in ("leaky_relu", "elu") and alpha >= 0)
    if activation.kind == "leaky_relu":
        segments, name = 1, str(activation)
        knots = np.array([-alpha * reach, 0.0, reach])
        largest = reach * max(1.0, abs(alpha))
    elif activation.kind == "elu":
        segments, name = _segments(choice.segments, reach), f"{activation} {choice}"
        knots = fit_with_kink(
            lambda x: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0.0)), x), reach / segments, segments
        )
        largest = max(reach, abs(alpha * math.expm1(-reach)))
    elif activation.kind in ("swish", "hard_swish", "gelu", "gelu_tanh", "mish"):
        segments, name = _segments(choice.segments, reach), f"{activation} {choice}"
        knots = fit_with_kink(lambda x: activate(activation, x), reach / segments, segments)
        largest = float(np.abs(activate(activation, np.array([-reach, reach]))).max())
    else:
        segments, name = _segments(choice.segments, reach), f"{activation} {choice}"
        knots = fit_knots(lambda x: np.logaddexp(0.0, x), reach / segments, 2 * segments, -reach, fixed_start=False)
        knots = np.maximum(knots, 0.0)  # few fraction bits make wide segments, whose fit would pass below 0
        largest = float(np.logaddexp(0.0, reach))
    out_frac = _out_frac(activation, largest)
    table = np.clip(round_half_up(knots * 2.0**out_frac), -32768, 32768).astype(np.int32)
    if rises:
        table = np.maximum.accumulate(table)
    return _function(name, g.TABLE, in_frac, out_frac, -32767, 16 - segments.bit_length(), 32767, table=table)


@functools.lru_cache(maxsize=1)
def exp_table() -> Int32Array:
    """Return the table of exp(-d) in Q0.15 over d in [0, 16), 128 segments, for the integer softmax."""
    knots = fit_knots(lambda d: np.exp(-d), 16 / 128, 128)
    table: Int32Array = np.clip(round_half_up(knots * Q15_ONE), 0, Q15_ONE).astype(np.int32)
    return table


# --- ramps and thresholds -------------------------------------------------------------------------------------------------------


def _hard_sigmoid(activation: Activation) -> GateFunction:
    """Return the RAMP clamp(alpha·x + beta, 0, 1) in Q0.15, with input format and slope as precise as 32 bits allow."""
    alpha, beta = activation.alpha, activation.beta
    # The ramp runs from -beta/alpha to (1-beta)/alpha: both ends must lie inside the int16 input's range, or saturation
    # of the pre-activation would be seen. A constant (alpha = 0) needs no range.
    reach = max(abs(beta), abs(1 - beta)) / abs(alpha) if alpha else 0.0
    in_frac = SIGMOID_FRAC
    while in_frac > 0 and reach >= 2.0 ** (15 - in_frac):
        in_frac -= 1
    gain = alpha * 2.0 ** (15 - in_frac)  # output LSB per input LSB
    shift = 15
    while shift >= 0 and (abs(gain) * 2**shift > 32767 or (abs(beta) + 1) * 2.0 ** (15 + shift) > 2.0**29):
        shift -= 1
    if shift < 0 or reach >= 2.0**15:
        raise QuantizationError(
            f"{activation}: the ramp does not fit 32-bit integers; expected |alpha| in [2^-14, 2^10], |beta| < 2^13"
        )
    slope, intercept = round(gain * 2**shift), round(beta * 2.0 ** (15 + shift))
    return _function(str(activation), g.RAMP, in_frac, 15, slope, intercept, shift, 0, Q15_ONE)


def _affine(activation: Activation, in_frac: int) -> GateFunction:
    """Return the RAMP alpha·x + beta, with the most fraction bits that hold it over the whole input range.

    Its gain in LSB is then at most 1.
    """
    alpha, beta = activation.alpha, activation.beta
    out_frac = _out_frac(activation, abs(alpha) * 2.0 ** (15 - in_frac) + abs(beta))
    gain = alpha * 2.0 ** (out_frac - in_frac)
    shift = 15 if abs(gain) * 2**15 <= 32767 else 14
    slope, intercept = round(gain * 2**shift), round(beta * 2.0 ** (out_frac + shift))
    return _function(str(activation), g.RAMP, in_frac, out_frac, slope, intercept, shift, -32767, 32767)


def _thresholded_relu(activation: Activation, in_frac: int, clip: float | None) -> GateFunction:
    """Return the function x for x > alpha, else 0, in the format of x; -32768 counts as -32767, and never occurs."""
    end = _clip_units(clip, in_frac)
    edge = math.floor(
        max(-(2.0**16), min(2.0**16, activation.alpha * 2.0**in_frac))
    )  # x > alpha where its integer is > edge
    name = str(activation) if end == 32767 else f"{activation} clip {clip:g}"
    if edge < -end:
        return _function(name, g.RAMP, in_frac, in_frac, 1, 0, 0, -end, end)
    return _function(name, g.THRESHOLD, in_frac, in_frac, min(edge, 32767), 1, 0, end if end > edge else 0, 0)


# --- functions of functions -----------------------------------------------------------------------------------------------------


def _clip_units(clip: float | None, in_frac: int) -> int:
    """Return ``clip`` rounded to the nearest input LSB, at most 32767."""
    if clip is None:
        return 32767
    if not clip >= 0:
        raise QuantizationError(f"clip={clip!r}, expected a number ≥ 0")
    return int(min(32767.0, round_half_up(min(clip, 2.0**16) * 2.0**in_frac)))


def _clipped(function: GateFunction, clip: float | None) -> GateFunction:
    """Return f(clamp(x, ±clip)), exactly: every kind is monotone between its clips, or reads its clamped argument."""
    end = _clip_units(clip, function.in_frac)
    if end == 32767:
        return function
    params = function.params.copy()
    kind = int(params[g.KIND])
    if kind == g.ODD:
        params[g.CUT] = 32767 - end
    elif kind == g.TABLE:
        params[[g.LOWEST, g.HIGHEST]] = max(-end, int(params[g.LOWEST])), min(end, int(params[g.HIGHEST]))
    elif kind == g.RAMP:
        ends = [g.evaluate_ramp(x, *(int(v) for v in params[g.SLOPE :])) for x in (-end, end)]
        params[[g.LOW, g.HIGH]] = min(ends), max(ends)
    elif end == 0:  # of the thresholds only step comes here: 1 for x ≥ 0, so only a clip at 0 itself is seen
        params[g.THRESHOLD_BELOW] = params[g.THRESHOLD_HIGH]
    return GateFunction(f"{function.name} clip {clip:g}", params, function.table)


def complement(function: GateFunction) -> GateFunction:
    """Return 1 - f for an f within [0, 1]: in integers exactly 2^out_frac - f(x) at every x.

    ODD: the offset turned round. RAMP: rounding halves up turns into rounding them down, which one unit of the intercept less repairs: one
    - ((v + r) >> s) = ((one << s) - v - 1 + r) >> s, r = 2^(s-1). TABLE: entries one - T, or, where some product is halfway between
    integers, all 65536 values. THRESHOLD: where it is constant above its threshold, or its HIGH is never reached.
    """
    one, (low, high) = 1 << function.out_frac, function.bounds
    if low < 0 or high > one:
        raise QuantizationError(
            f"gate {function.name}: 1 - f needs values in [0, 1], found {low / one:g} to {high / one:g}"
        )
    params, table = function.params.copy(), function.table
    kind = int(params[g.KIND])
    if kind == g.ODD:
        if 2 * abs(int(params[g.OFFSET])) != one:
            raise QuantizationError(f"gate {function.name}: 1 - f needs a function that is odd about 1/2")
        params[g.OFFSET] *= -1
    elif kind == g.RAMP:
        shift = int(params[g.SHIFT])
        params[g.SLOPE] *= -1
        params[g.INTERCEPT] = (one << shift) - int(params[g.INTERCEPT]) - (1 if shift else 0)
        params[[g.LOW, g.HIGH]] = one - params[[g.HIGH, g.LOW]]
    elif kind == g.TABLE:
        params, table = _table_complement(params, table, one)
    else:
        at, slope, intercept, top, below = (int(v) for v in params[g.THRESHOLD_AT :])
        if slope == 0:
            intercept = top = min(intercept, top)
        elif max((at + 1) * slope, 32767 * slope) + intercept > top:
            raise QuantizationError(f"gate {function.name}: 1 - f of a line that ends at HIGH is not a threshold")
        params[g.THRESHOLD_AT :] = at, -slope, one - intercept, one if slope else one - top, one - below
    try:
        return GateFunction(f"1 - {function.name}", params, table)
    except ModelFileError as error:
        raise QuantizationError(f"gate {function.name}: 1 - f does not fit 32 bits ({error})") from None


def _table_complement(params: Int64Array, table: Int32Array, one: int) -> tuple[Int64Array, Int32Array]:
    """Return parameters and entries of one - p, exact at every input."""
    lowest, bits, highest = (int(v) for v in params[g.LOWEST : g.HIGHEST + 1])
    inputs = np.clip(np.arange(65536), lowest + 32768, highest + 32768)
    over_arrays: Any = g.piecewise_linear
    wanted = one - over_arrays(inputs, table.astype(np.int64), bits)
    entries = np.clip(one - table.astype(np.int64), -32768, 32768)  # those beyond the clip are never read
    if not np.array_equal(over_arrays(inputs, entries, bits), wanted):
        params[g.SEGMENT_BITS], entries = 0, np.r_[wanted, wanted[-1]]
    return params, entries.astype(np.int32)
