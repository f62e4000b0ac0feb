"""Integer gate functions made from real ones: the piecewise-linear fit and the ramps.

The fit is the minimax one among continuous piecewise-linear functions with the given uniform knots that keep p(0) = f(0). The odd
parts of sigmoid and tanh are concave on x > 0: on a segment of chord error d (the largest distance between f and its chord), knots
raised by d/2 leave an error of d/2, and no fit does better there. On the first segment knot 0 stays, and knot 1 raised by e leaves
d(s) - e·s at the fraction s, which is at most e from e = max d(s)/(1 + s) on. So each knot is raised by the larger of what its two
segments ask for: no error is larger than the largest of these, which no continuous fit can beat. exp(-x) is convex: the same, lowered.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from qrnn.arithmetic import gates as g
from qrnn.arithmetic.fixedpoint import Q15_ONE
from qrnn.errors import QuantizationError
from qrnn.model.float_model import Activation, FloatArray
from qrnn.model.parts import GateFunction, Int32Array

SIGMOID_FRAC, TANH_FRAC = 11, 12
"""Fraction bits of the pre-activations: sigmoid over ±16 (1 - sigmoid(16) is 2^-23), tanh over ±8."""

DEFAULT_GATES = "pwl:128"


def parse_gates(text: str) -> int:
    """Segments on the half range from ``pwl:N``; N a power of two from 8 to 1024."""
    match = re.fullmatch(r"pwl:(\d+)", text)
    segments = int(match.group(1)) if match else 0
    if segments not in (8, 16, 32, 64, 128, 256, 512, 1024):
        raise QuantizationError(f"gates {text!r}: expected pwl:N with N one of 8, 16, 32, 64, 128, 256, 512, 1024")
    return segments


def fit_knots(function: Callable[[FloatArray], FloatArray], width: float, segments: int) -> FloatArray:
    """Knot values, [segments + 1], of the minimax continuous fit on [0, width · segments]; knot 0 stays at f(0)."""
    knots = width * np.arange(segments + 1, dtype=np.float64)
    values = function(knots)
    inside = np.linspace(0.0, 1.0, 65)
    x = knots[:-1, None] + width * inside
    chord = values[:-1, None] * (1 - inside) + values[1:, None] * inside
    deviation = function(x) - chord  # ≥ 0 where concave, ≤ 0 where convex
    share = np.full_like(deviation, 2.0)
    share[0] = 1.0 + inside
    shared = deviation / share
    least = np.where(shared.max(axis=1) >= -shared.min(axis=1), shared.max(axis=1), shared.min(axis=1))
    padded = np.concatenate([[0.0], least, [0.0]])
    left, right = padded[:-1], padded[1:]
    lift = np.where(np.abs(left) >= np.abs(right), left, right)
    lift[0] = 0.0
    fitted: FloatArray = values + lift
    return fitted


def odd_table(kind: str, segments: int) -> tuple[Int32Array, int, int]:
    """(table, offset, in_frac) of the odd part of ``sigmoid`` or ``tanh`` in Q0.15; sigmoid = offset + odd part."""
    if kind == "sigmoid":
        in_frac, offset, top = SIGMOID_FRAC, Q15_ONE // 2, Q15_ONE // 2
        knots = fit_knots(lambda x: 0.5 * np.tanh(0.5 * x), 2.0**15 / segments / 2**in_frac, segments)
    else:
        in_frac, offset, top = TANH_FRAC, 0, Q15_ONE - 1
        knots = fit_knots(np.tanh, 2.0**15 / segments / 2**in_frac, segments)
    table = np.clip(np.floor(knots * Q15_ONE + 0.5), 0, top).astype(np.int32)
    return np.maximum.accumulate(table).astype(np.int32), offset, in_frac


def exp_table() -> Int32Array:
    """exp(-d) in Q0.15 over d in [0, 16), 128 segments, for the integer softmax."""
    knots = fit_knots(lambda d: np.exp(-d), 16 / 128, 128)
    return np.clip(np.floor(knots * Q15_ONE + 0.5), 0, Q15_ONE).astype(np.int32)


def gate_function(activation: Activation, gates: str = DEFAULT_GATES, relu_frac: int = 15) -> GateFunction:
    """The contract's gate function for a real activation.

    sigmoid and tanh become tables of ``gates`` segments; hard_sigmoid is exact (no ``gates`` needed); relu keeps ``relu_frac``.
    """
    params = np.zeros(g.PARAMS, np.int64)
    empty = np.zeros(0, np.int32)
    if activation.kind in ("sigmoid", "tanh"):
        segments = parse_gates(gates)
        table, offset, in_frac = odd_table(activation.kind, segments)
        params[[g.KIND, g.IN_FRAC, g.OUT_FRAC]] = g.ODD, in_frac, 15
        params[[g.OFFSET, g.SEGMENT_BITS]] = offset, 16 - segments.bit_length()
        return GateFunction(f"{activation.kind} {gates}", params, table)
    if activation.kind == "relu":
        params[[g.KIND, g.IN_FRAC, g.OUT_FRAC, g.SLOPE, g.HIGH]] = g.RAMP, relu_frac, relu_frac, 1, 32767
        return GateFunction("relu", params, empty)
    return _hard_sigmoid(activation)


def _hard_sigmoid(activation: Activation) -> GateFunction:
    """clamp(alpha·x + beta, 0, 1) in Q0.15, with the input format and the slope's precision as fine as 32 bits allow."""
    alpha, beta = activation.alpha, activation.beta
    if not (np.isfinite(alpha) and np.isfinite(beta)):
        raise QuantizationError(f"{activation}: alpha and beta must be finite")
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
    params = np.zeros(g.PARAMS, np.int64)
    params[[g.KIND, g.IN_FRAC, g.OUT_FRAC]] = g.RAMP, in_frac, 15
    params[[g.SLOPE, g.INTERCEPT, g.SHIFT]] = round(gain * 2**shift), round(beta * 2.0 ** (15 + shift)), shift
    params[[g.LOW, g.HIGH]] = 0, Q15_ONE
    return GateFunction(str(activation), params, np.zeros(0, np.int32))
