"""Second-order rounding and bias correction of a quantized model, matrix by matrix, each with what calibration shows it.

Layers come in the order of execution. Each sees operands made by its refined predecessors, and its own states as its integers carry them. For a
row of gate g, with x̂ and ĥ the operands (integers) and W, R the real weights per operand unit,

    rounding:  min Σ_t ((W - Ŵ) · x̂_t + (R - R̂) · ĥ_t)²        jointly over both rows of integers (`qrnn.refinement.rounding`)
    bias:      b̂ ← b̂ + mean_t ((W - Ŵ) · x̂_t + (R - R̂) · ĥ_t)

The second is bias correction (Nagel, van Baalen, Blankevoort, Welling: "Data-Free Quantization Through Weight Equalization and Bias Correction",
ICCV 2019, section 4.2), with the means of real operands in place of those that batch normalization tells. Both compare the two sets of
weights on the *same* operands. Means of the float model's own arguments would take more error in, but what a layer's states have drifted by
is then fitted as if it were constant: on the models of docs/accuracy.md that loses more often than it wins.

In a GRU the candidate's recurrent row reads the operand of r·h; or, with linear_before_reset, ĥ, and its sum is multiplied by r. There both its
rows are rounded by themselves, the recurrent one under Σ_t r_t² ĥ_t ĥ_tᵀ with r_t² its mean over the units, and each keeps its own bias.

Multipliers, shifts and formats stay as they are. A row whose overflow bound would not hold keeps the integers that it had.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qrnn.model.batch import Batch
from qrnn.model.describe import row_scale
from qrnn.model.float_model import Dense, Direction, FloatArray, FloatModel, Recurrent
from qrnn.model.parts import ACCUMULATOR_LIMIT, SCALE_COLUMNS, AnyMatrix, Int64Array, QuantMatrix, QuantMatrix4, pack_nibbles
from qrnn.model.quant_model import QuantDense, QuantModel
from qrnn.model.quant_recurrent import QuantDirection, QuantRecurrent
from qrnn.quantization.four_bit import ENDS
from qrnn.quantization.matrix import WEIGHT_LIMIT
from qrnn.refinement.evidence import Seen, evenly, gather
from qrnn.refinement.rounding import Grid, objective, round_rows

STEPS = 16384
"""Calibration steps that are looked at, about; sequences are taken evenly from all."""


def refine_rows(float_model: FloatModel, model: QuantModel, batch: Batch, means: tuple[str, ...]) -> QuantModel:
    """``model`` with the weights (means has ``rounding``) and biases (``bias``) that `batch` makes better; see the module.

    ``float_model`` has the real weights of ``model``'s, layer by layer.
    """
    batch = evenly(batch, STEPS)
    floats = {layer.name: layer for layer in float_model.layers}
    notes: list[str] = []
    for position, layer in enumerate(model.layers):
        real = floats.get(layer.name)
        if isinstance(layer, QuantRecurrent) and isinstance(real, Recurrent):
            seen = gather(float_model, model, batch, layer)
            directions = []
            for number, (d, r, s) in enumerate(zip(layer.directions, real.directions, seen, strict=True)):
                refined, share = _direction(layer, d, r, s, model.tensors[layer.input].scales, means)
                directions.append(refined)
                notes.append(_note(f"{layer.name}[{number}]", share, means))
            better: QuantRecurrent | QuantDense = replace(layer, directions=tuple(directions))
        elif isinstance(layer, QuantDense) and isinstance(real, Dense):
            seen = gather(float_model, model, batch, layer)
            better, share = _dense(layer, real, seen[0], model.tensors[layer.input].scales, means)
            notes.append(_note(layer.name, share, means))
        else:
            continue
        layers = (*model.layers[:position], better, *model.layers[position + 1 :])
        model = replace(model, layers=layers)
    decisions = (*model.provenance.decisions, *notes)
    return replace(model, provenance=replace(model.provenance, decisions=decisions))


def _note(owner: str, share: float, means: tuple[str, ...]) -> str:
    done = " and ".join(
        {"rounding": "second-order rounding", "bias": "bias correction"}[m] for m in means if m in ("rounding", "bias")
    )
    return f"{owner}: {done}: error of the sums on calibration {100 * share:.1f} % of plain rounding's"


def grid(matrix: AnyMatrix, scale: FloatArray) -> Grid:
    """What the weights of a matrix may be, in real units per operand unit; scale [R] of one accumulator unit."""
    R, K = matrix.weight.shape
    if isinstance(matrix, QuantMatrix):
        end = np.full((R, K), float(WEIGHT_LIMIT))
        return Grid(np.repeat(scale[:, None], K, axis=1), -end, end)
    group = np.repeat(matrix.scale.astype(np.float64), SCALE_COLUMNS, axis=1)[:, :K]
    low, high = (np.where(group > 0, ENDS[1][end], ENDS[-1][end]).astype(np.float64) for end in (0, 1))
    return Grid(scale[:, None] * np.abs(group), low, high)


def with_weights(matrix: AnyMatrix, integers: Int64Array) -> AnyMatrix:
    """The matrix with points of its `grid` as weights."""
    if isinstance(matrix, QuantMatrix):
        return replace(matrix, weight=integers.astype(np.int8))
    sign = np.repeat(np.sign(matrix.scale), SCALE_COLUMNS, axis=1)[:, : integers.shape[1]]
    return replace(matrix, nibbles=pack_nibbles((integers * sign).astype(np.int8)))


def with_bias(matrix: AnyMatrix, correction: FloatArray, scale: FloatArray) -> AnyMatrix:
    """The matrix with real ``correction`` [R] added to its biases."""
    integers = matrix.bias + np.floor(correction / scale + 0.5)
    return replace(matrix, bias=np.clip(integers, -(1 << 30), 1 << 30).astype(np.int32))


def provable(better: AnyMatrix, before: AnyMatrix) -> AnyMatrix:
    """``better``, but ``before`` in rows whose overflow bound would not hold."""
    fails = better.accumulator_bound() >= ACCUMULATOR_LIMIT
    if not fails.any():
        return better
    bias = np.where(fails, before.bias, better.bias)
    if isinstance(better, QuantMatrix):
        return replace(better, weight=np.where(fails[:, None], before.weight, better.weight), bias=bias)
    assert isinstance(before, QuantMatrix4)
    return replace(better, nibbles=np.where(fails[:, None], before.nibbles, better.nibbles), bias=bias)


class _Rows:
    """One matrix at work: its real weights, grid and integers, in real units per operand unit."""

    def __init__(self, matrix: AnyMatrix, scale: FloatArray, weight: FloatArray) -> None:
        self.before, self.scale, self.weight, self.grid = matrix, scale, weight, grid(matrix, scale)
        self.plain = matrix.weight * scale[:, None]
        self.value = self.plain.copy()

    def part(self, rows: slice) -> tuple[FloatArray, Grid]:
        return self.weight[rows], Grid(self.grid.step[rows], self.grid.low[rows], self.grid.high[rows])

    def result(self, correction: FloatArray | None) -> AnyMatrix:
        """The integers; ``correction`` [R] of the biases."""
        matrix = self.before
        if not np.array_equal(self.value, self.plain):
            matrix = with_weights(matrix, self.grid.integers(self.value))
        if correction is not None:
            matrix = with_bias(matrix, correction, self.scale)
        return provable(matrix, self.before)


def _energy(rows: _Rows, part: slice, hessian: FloatArray) -> tuple[float, float]:
    """Error energy of some rows, now and with plain rounding."""
    weight = rows.weight[part]
    return (
        float(objective(weight, rows.value[part], hessian).sum()),
        float(objective(weight, rows.plain[part], hessian).sum()),
    )


def _hessian(operands: FloatArray) -> FloatArray:
    result: FloatArray = operands.T @ operands
    return result


def _dense(
    layer: QuantDense, real: Dense, seen: Seen, unit: FloatArray, means: tuple[str, ...]
) -> tuple[QuantDense, float]:
    fracs = np.full(len(layer.pre_shift), layer.out_frac, np.int64)
    scale = row_scale(layer.matrix, layer.pre_shift, fracs)
    rows = _Rows(layer.matrix, scale, real.weight * (unit * 2.0**layer.operand.shift))
    hessian = _hessian(seen.x)
    if "rounding" in means:
        rows.value = round_rows(rows.weight, rows.grid, hessian)
    now, plain = _energy(rows, slice(None), hessian)
    correction = None
    if "bias" in means:
        correction = (rows.weight - rows.value) @ seen.x.mean(axis=0)
        now -= len(seen.x) * float((correction**2).sum())
    matrix = rows.result(correction)
    assert isinstance(matrix, QuantMatrix)
    return replace(layer, matrix=matrix), now / plain if plain else 1.0


def _direction(
    layer: QuantRecurrent, d: QuantDirection, real: Direction, seen: Seen, unit: FloatArray, means: tuple[str, ...]
) -> tuple[QuantDirection, float]:
    """The refined direction, and what is left of the sums' error energy."""
    H, M = layer.hidden_size, len(seen.x)
    fracs = np.repeat([f.in_frac for f in d.gates[: len(layer.gates)]], H).astype(np.int64)
    ih = _Rows(d.ih, row_scale(d.ih, d.pre_shift, fracs), real.weight_ih * (unit * 2.0**layer.x_operand.shift))
    hh = _Rows(
        d.hh, row_scale(d.hh, d.pre_shift, fracs), real.weight_hh * 2.0 ** (layer.h_operand.shift - layer.h_frac)
    )
    correction_ih, correction_hh = np.zeros(len(fracs)), np.zeros(len(fracs))
    now = plain = 0.0
    for number, gate in enumerate(layer.gates):
        part = slice(number * H, (number + 1) * H)
        h = seen.candidate if gate == "n" and seen.candidate is not None else seen.h
        apart = gate == "n" and seen.reset is not None
        groups: list[tuple[tuple[_Rows, ...], FloatArray]]
        if apart and seen.reset is not None:
            weighted = h * np.sqrt((seen.reset**2).mean(axis=1))[:, None]
            groups = [((ih,), seen.x), ((hh,), weighted)]
        else:
            groups = [((ih, hh), np.concatenate([seen.x, h], axis=1))]
        for members, operands in groups:
            joined = _joint(members, part)
            hessian = _hessian(operands)
            if "rounding" in means:
                _give(members, part, round_rows(joined.weight, joined.grid, hessian))
                joined = _joint(members, part)
            after, before = _energy(joined, slice(None), hessian)
            now, plain = now + after, plain + before
        from_x = (ih.weight - ih.value)[part] @ seen.x.mean(axis=0)
        from_h = (hh.weight - hh.value)[part] @ h.mean(axis=0)
        correction_ih[part], correction_hh[part] = (from_x, from_h) if apart else (from_x + from_h, 0.0)
        if "bias" in means:
            reset = 1.0 if seen.reset is None else float((seen.reset**2).mean())
            now -= M * float(((from_x if apart else from_x + from_h) ** 2).sum())
            now -= M * float((from_h**2).sum()) * reset if apart else 0.0
    if "bias" not in means:
        return replace(d, ih=ih.result(None), hh=hh.result(None)), _share(now, plain)
    # The finer of the two accumulators takes the correction, as it took the bias; a candidate that is kept apart has two.
    finer = (ih.scale <= hh.scale) | (correction_hh != 0.0)
    corrected = ih.result(np.where(finer, correction_ih, 0.0)), hh.result(
        np.where(finer, correction_hh, correction_ih)
    )
    return replace(d, ih=corrected[0], hh=corrected[1]), _share(now, plain)


def _share(now: float, plain: float) -> float:
    return max(now, 0.0) / plain if plain else 1.0


class _Joint(_Rows):
    """Rows of several matrices side by side."""

    def __init__(self, members: tuple[_Rows, ...], part: slice) -> None:
        grids = [m.part(part)[1] for m in members]
        self.weight = np.concatenate([m.weight[part] for m in members], axis=1)
        self.value = np.concatenate([m.value[part] for m in members], axis=1)
        self.plain = np.concatenate([m.plain[part] for m in members], axis=1)
        self.grid = Grid(*(np.concatenate([getattr(g, f) for g in grids], axis=1) for f in ("step", "low", "high")))


def _joint(members: tuple[_Rows, ...], part: slice) -> _Joint:
    return _Joint(members, part)


def _give(members: tuple[_Rows, ...], part: slice, value: FloatArray) -> None:
    """Hand each of the members its columns of ``value``."""
    start = 0
    for m in members:
        stop = start + m.weight.shape[1]
        m.value[part], start = value[:, start:stop], stop
