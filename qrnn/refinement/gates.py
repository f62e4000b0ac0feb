"""Smooth gates that run as ramps, fitted again without training: each row's argument is stretched and moved, in closed form.

``--gates hard`` puts ramp(a) = max(0, min(1, alpha·a + beta)) in the place of sigmoid(a), and max(-1, min(1, a)) in that of tanh(a). What
the best slope is depends on where a row's arguments lie: small ones want the tangent, spread ones the chord. A row's argument is affine
in its weights,

    a = W x + R h + b,      k·a + s = (k W) x + (k R) h + (k b + s)

so a ramp of any slope and offset is the same ramp under other weights, exactly, for every row by itself; nothing is added to the
arithmetic. For each row the two numbers are those of least weighted squares against the smooth gate's values y_t on calibration data,

    min over k, s of  Σ_t ω_t (ramp(k a_t + s) - y_t)²

by Gauss-Newton steps over the steps at which the ramp rises (beyond its ends its slope is 0), halved until the sum falls. ω_t is the
square of what the cell's result moves by with the gate: g for an LSTM's i, c_{t-1} for f, i for g, tanh(c) for o; h - n for a GRU's z, 1
- z for its n; plus a twentieth of their mean, so that no step is without a say. The arguments are those of the float model, with its
states as it carries them. Arguments from states that the ramps themselves have made were tried: they lose 5 dB on `fsdd_rnn64`, for each
round then fits the last one's drift.

An LSTM's o is fitted to h / ramp(c) in place of its own values where tanh(c) is a ramp too, so that it makes up for that.

Last, dense layers behind are fitted to the float model's outputs y_t from the states z_t that the ramps make, by ridge regression (Hoerl,
Kennard: "Ridge Regression: Biased Estimation for Nonorthogonal Problems", Technometrics 12, 1970) that pulls towards the weights that are
there:

    min over V, b of  Σ_t |V z_t + b - y_t|² + λ |V - V_before|²,        λ = `RIDGE` · M · the mean of z², M steps
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.activation import Activation, activate
from qrnn.model.batch import Batch, evenly
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.dense import Dense
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.recurrent.definition import GATE_ROLE, Direction
from qrnn.model.kinds.recurrent.direction import Norm, Norms
from qrnn.model.kinds.recurrent.equation import start_values
from qrnn.model.layer import Layer
from qrnn.model.parts import FloatArray
from qrnn.model.time import TimeAxis
from qrnn.quantization.gate_choice import GateChoices, parse_gates
from qrnn.quantization.scheme import Scheme
from qrnn.refinement.evidence import before, grouped
from qrnn.refinement.held_out import Judge, split

RIDGE = 0.01
SHARE = 0.05
"""The least weight of a step, as a fraction of the mean weight."""

STEPS = 6000
"""About how many calibration steps are used."""

_NEWTON, _HALVINGS = 20, 6

_RAMPS = ("hard_sigmoid", "hard_tanh")


def with_choices(model: FloatModel, choices: GateChoices) -> FloatModel:
    """Return ``model`` with its sigmoids and tanhs replaced as ``choices`` says, for the oracle.

    Gates that share a function in the float model and not in the choices have the one of the first; see `refit_gates`.
    """
    layers = tuple(
        replace(
            layer,
            directions=tuple(
                replace(d, activations={role: _chosen(layer, role, a, choices) for role, a in d.activations.items()})
                for d in layer.directions
            ),
        )
        if isinstance(layer, Recurrent)
        else layer
        for layer in model.layers
    )
    return replace(model, layers=layers)


def _chosen(layer: Recurrent, role: str, activation: Activation, choices: GateChoices) -> Activation:
    first = next((gate for gate in layer.roles if GATE_ROLE[gate] == role), None)
    return activation if first is None else choices.resolve(first, activation)[0]


def refit_gates(model: FloatModel, batch: Batch, scheme: Scheme, rejected: list[str] | None = None) -> FloatModel:
    """Return ``model`` with weights for the ramps that ``scheme.gates`` names; its functions keep their smooth names.

    A layer is kept where the quantized outputs on held-out data come no further from those of ``model``, and all layers where that is
    better; the names of those that are left as they were are appended to ``rejected``. A model without such gates comes back as it is.
    """
    choices = parse_gates(scheme.gates)
    parts = split(evenly(batch, STEPS)) if any(_has_ramps(layer, choices) for layer in model.layers) else None
    if parts is None:
        return model
    batch = parts.fitted
    judge = Judge(model, parts, scheme)

    def judged(candidate: FloatModel) -> float:
        return judge(candidate, with_choices(candidate, choices))

    smooth = _observe(model, batch)

    def refit(least: float, every: bool) -> tuple[FloatModel, float, list[str]]:
        """Fit layer by layer, and return the model, its error, and the names of layers that are left; ``every`` keeps all."""
        fitted, left = model, []
        for position, layer in enumerate(model.layers):
            new = _refit(fitted, layer, batch, smooth, choices)
            if new is None:
                continue
            candidate = replace(fitted, layers=(*fitted.layers[:position], new, *fitted.layers[position + 1 :]))
            if every or (found := judged(candidate)) <= least:
                fitted, least = candidate, least if every else found
            else:
                left.append(layer.name)
        return fitted, judged(fitted) if every else least, left

    best, least, left = refit(judged(model), False)
    if left:  # layers may help together that do not help alone: dense layers make up for what ramps do to states
        together = refit(least, True)
        if together[1] < least:
            best, _, left = together
    if rejected is not None:
        rejected += left
    return best


def _refit(
    model: FloatModel, layer: Layer, batch: Batch, smooth: dict[str, FloatArray], choices: GateChoices
) -> Layer | None:
    """Return a layer of ``model`` fitted to the values ``smooth``, or None for one that has no ramps, nor any before it."""
    run = with_choices(model, choices)
    own = batch.paced(model.length_rules[layer.input]) if layer.input in model.length_rules else batch
    if isinstance(layer, Recurrent) and _has_ramps(layer, choices):
        x = _observe(run, batch)[layer.input]
        return replace(
            layer,
            directions=tuple(
                _direction(layer, number, d, x, smooth, own, choices) for number, d in enumerate(layer.directions)
            ),
        )
    ahead = model.layers[: next(p for p, other in enumerate(model.layers) if other.name == layer.name)]
    if isinstance(layer, Dense) and any(_has_ramps(other, choices) for other in ahead):
        z = _observe(run, batch)[layer.input]
        return _dense(layer, *(_steps(v, own) for v in (z, smooth[layer.output])))
    return None


def _has_ramps(layer: Layer, choices: GateChoices) -> bool:
    return isinstance(layer, Recurrent) and any(
        _ramp(layer, d, role, choices) is not None for d in layer.directions for role in layer.roles
    )


def _ramp(layer: Recurrent, d: Direction, role: str, choices: GateChoices) -> Activation | None:
    """Return the ramp that stands in for a smooth function of ``role``, or None where the function stays."""
    real = d.activations[GATE_ROLE[role]]
    run = choices.resolve(role, real)[0]
    return run if run != real and run.kind in _RAMPS else None


def _observe(model: FloatModel, batch: Batch) -> dict[str, FloatArray]:
    observed: dict[str, FloatArray] = {}

    def keep(name: str, values: FloatArray, _mask: object) -> None:
        observed[name] = values

    run_oracle_batch(model, batch, keep)
    return observed


def _steps(values: FloatArray, batch: Batch) -> FloatArray:
    """Return the real steps as rows."""
    return values[batch.mask] if values.ndim == 3 else values


def _direction(
    layer: Recurrent,
    number: int,
    d: Direction,
    x: FloatArray,
    smooth: dict[str, FloatArray],
    batch: Batch,
    choices: GateChoices,
) -> Direction:
    group, given, states = layer.grouping, TimeAxis(batch.lengths, batch.steps), batch.states
    begins = start_values(layer, batch.size, states, smooth.__getitem__)[number]
    h_0, c_0 = (None if s is None else group.starts(s, given) for s in begins)
    batch = grouped(group, batch)
    mask, H, key = batch.mask, layer.hidden_size, f"{layer.name}[{number}]"

    def seen(name: str) -> FloatArray:
        return smooth[f"{key}.{name}"][mask]

    assert h_0 is not None
    h = before(smooth[f"{key}.h"], h_0, d.reverse, batch, layer.memory)[mask]
    values = {gate: seen(layer.declaration.value_of(gate, d.projection is not None)) for gate in layer.gates}
    c = None if c_0 is None else before(smooth[f"{key}.c"], c_0, d.reverse, batch, layer.memory)[mask]
    weights = _weights(layer, d, seen, h, c)
    if not layer.update_keeps:  # the oracle shows 1 - z
        values["z"] = 1.0 - values["z"]
    if layer.has_cell_state and (end := _ramp(layer, d, "output", choices)) is not None:
        cell = activate(end, seen("c" if d.norms is None else "pre_output"))
        hidden = _hidden(d, seen)
        values["o"] = np.clip(
            np.where(np.abs(cell) > 1e-3, hidden / np.where(np.abs(cell) > 1e-3, cell, 1.0), values["o"]), 0, 1
        )
    real = {name: getattr(d, name) for name in ("weight_ih", "weight_hh", "diagonal", "bias_ih", "bias_hh")}
    own, xs = {name: array.copy() for name, array in real.items() if array is not None}, group.apart(x)[mask]
    peephole = None if d.peephole is None else d.peephole.copy()
    norms = d.norms
    for block, gate in enumerate(layer.gates):
        ramp = _ramp(layer, d, gate, choices)
        if ramp is None:
            continue
        rows = slice(block * H, (block + 1) * H)
        # The argument as the model before this has it, but for x, which the layers before it may have changed.
        argument = seen(f"pre_{gate}")
        if d.norms is None:
            argument = argument + (xs - group.apart(smooth[layer.input])[mask]) @ d.weight_ih[rows].T
        if layer.clip is not None:
            argument = np.clip(argument, -layer.clip, layer.clip)
        stretch, move = fit_row(argument, values[gate], weights[gate], ramp)
        if norms is not None:  # what is normalized is stretched and moved behind its normalization
            norms = _fitted(norms, rows, stretch, move)
            continue
        for name in own:
            own[name][rows] *= stretch[:, None] if own[name].ndim == 2 else stretch
        own["bias_ih"][rows] += move
        if peephole is not None:
            peephole[rows] *= stretch
    return replace(d, **own, peephole=peephole, norms=norms)


def _fitted(norms: Norms, rows: slice, stretch: FloatArray, move: FloatArray) -> Norms:
    """Return ``norms`` whose sums at ``rows`` are stretched and moved."""

    def scaled(norm: Norm, offset: FloatArray | float) -> Norm:
        gain, bias = norm.gain.copy(), norm.bias.copy()
        gain[rows] *= stretch
        bias[rows] = bias[rows] * stretch + offset
        return replace(norm, gain=gain, bias=bias)

    recurrent = None if norms.recurrent is None else scaled(norms.recurrent, 0.0)
    return replace(norms, sums=scaled(norms.sums, move), recurrent=recurrent)


def _hidden(d: Direction, seen: Callable[[str], FloatArray]) -> FloatArray:
    """Return h before a projection."""
    return seen("h" if d.projection is None else "hidden")


def _weights(
    layer: Recurrent,
    d: Direction,
    seen: Callable[[str], FloatArray],
    h: FloatArray,
    c: FloatArray | None,
) -> dict[str, FloatArray]:
    """Return the weights ω [M, H] of each gate; ``h`` and ``c`` are the states before each of M steps."""
    moves = layer.declaration.sensitivities(layer, d, seen, h, c)
    squares = {gate: move**2 for gate, move in moves.items()}
    return {gate: w / np.maximum(w.mean(axis=0), 1e-12) + SHARE for gate, w in squares.items()}


class RampEnds(NamedTuple):
    """A ramp as slope · argument + offset, and the arguments ``low`` and ``high`` between which it moves."""

    slope: float
    offset: float
    low: float
    high: float


def ramp_ends(ramp: Activation) -> RampEnds:
    """Return the line of a hard sigmoid or hard tanh, and where it ends."""
    if ramp.kind == "hard_tanh":
        return RampEnds(1.0, 0.0, -1.0, 1.0)
    ends = (-ramp.beta / ramp.alpha, (1.0 - ramp.beta) / ramp.alpha)
    return RampEnds(ramp.alpha, ramp.beta, min(ends), max(ends))


def fit_row(
    argument: FloatArray, value: FloatArray, weight: FloatArray, ramp: Activation
) -> tuple[FloatArray, FloatArray]:
    """Return k and s, [R], of the module's first sum, for rows in the columns of [M, R].

    The sum is never above that of k = 1, s = 0. Both sides are divided by the ramp's slope, so that arguments are compared, clipped to the
    ramp's ends.
    """
    line = ramp_ends(ramp)
    wanted = np.clip((value - line.offset) / line.slope, line.low, line.high)
    k, s = np.ones(argument.shape[1]), np.zeros(argument.shape[1])

    def error(k: FloatArray, s: FloatArray) -> FloatArray:
        result: FloatArray = (weight * (np.clip(k * argument + s, line.low, line.high) - wanted) ** 2).sum(axis=0)
        return result

    least = error(k, s)
    for _ in range(_NEWTON):
        p = k * argument + s
        inside = weight * ((p > line.low) & (p < line.high))
        left = inside * (wanted - p)
        n, first, second = inside.sum(axis=0), (inside * argument).sum(axis=0), (inside * argument**2).sum(axis=0)
        right, right_a = left.sum(axis=0), (left * argument).sum(axis=0)
        little = 1e-6 * (1.0 + second)  # rows whose arguments hardly move
        determinant = (n + little) * (second + little) - first**2
        dk = ((n + little) * right_a - first * right) / determinant
        ds = ((second + little) * right - first * right_a) / determinant
        share = np.ones_like(k)
        for _ in range(_HALVINGS):
            worse = error(k + share * dk, s + share * ds) > least
            if not worse.any():
                break
            share[worse] /= 2
        now = error(k + share * dk, s + share * ds)
        # Where the state is fed back, a row that turns or runs away would make another network.
        better = (now < least * (1 - 1e-6)) & (np.abs(k + share * dk - 1.0) < 1.0)
        if not better.any():
            break
        k, s = np.where(better, k + share * dk, k), np.where(better, s + share * ds, s)
        least = np.where(better, now, least)
    return k, s


def _dense(layer: Dense, z: FloatArray, y: FloatArray) -> Dense:
    """Return the layer after the module's last regression; the bias is not held to its old value."""
    operands = np.concatenate([z, np.ones((len(z), 1))], axis=1)
    ridge = np.full(operands.shape[1], RIDGE * float((z**2).sum()) / z.shape[1])
    ridge[-1] *= 1e-3
    real = np.concatenate([layer.weight, layer.bias[:, None]], axis=1)
    left = operands.T @ (y - operands @ real.T)
    real = real + np.linalg.solve(operands.T @ operands + np.diag(np.maximum(ridge, 1e-12)), left).T
    return replace(layer, weight=real[:, :-1], bias=real[:, -1])
