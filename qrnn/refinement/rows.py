"""Second-order rounding and bias correction of a quantized model, matrix by matrix, each with what calibration shows it.

Layers come in the order of execution. Each sees operands made by its refined predecessors, and its own states as its integers carry them.
For a row of gate g, with x̂ and ĥ the operands (integers) and W, R the real weights per operand unit,

    rounding:  min Σ_t ((W - Ŵ) · x̂_t + (R - R̂) · ĥ_t)²        jointly over both rows of integers (`qrnn.refinement.rounding`)
    bias:      b̂ ← b̂ + mean_t ((W - Ŵ) · x̂_t + (R - R̂) · ĥ_t)

The second is bias correction (Nagel, van Baalen, Blankevoort, Welling: "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019, section 4.2), with the means of real operands in place of those that batch normalization tells. Both compare the
two sets of weights on the *same* operands. Means of the float model's own arguments would take more error in, but what a layer's states
have drifted by is then fitted as if it were constant: on the models of docs/accuracy.md that loses more often than it wins.

The row of a dense layer or of a convolution is one without R: x̂ are the operands of each step, or of each place of the windows, of the row's
group of channels.

In a GRU the candidate's recurrent row reads the operand of r·h; or, with linear_before_reset, ĥ, and its sum is multiplied by r. There
both its rows are rounded by themselves, the recurrent one under Σ_t r_t² ĥ_t ĥ_tᵀ with r_t² its mean over the units, and each keeps its
own bias. So it is, without r, where a cell normalizes the sums of x and of h apart.

Multipliers, shifts and formats stay as they are. A row whose overflow bound would not hold keeps the integers that it had. Layers are
refined one after the other, and each is kept where the outputs on held-out data (`qrnn.refinement.held_out`) come no further from the
float model's: small rows of unlike operands have little to gain, few steps show too little, and states may multiply what is left. Where some
are rejected, all together are tried too, and kept where that is better still. What is kept is then fitted to all of the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from qrnn.arithmetic.reals import round_half_up
from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.batch import Batch, evenly
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.recurrent import QuantRecurrent, Recurrent
from qrnn.model.kinds.recurrent.definition import Direction
from qrnn.model.kinds.recurrent.quantized import QuantDirection
from qrnn.model.layer_facts import row_scale
from qrnn.model.matrix_layer import MatrixLayer, QuantMatrixLayer
from qrnn.model.parts import (
    ACCUMULATOR_LIMIT,
    SCALE_COLUMNS,
    AnyMatrix,
    FloatArray,
    Int64Array,
    QuantMatrix,
    QuantMatrix4,
    pack_nibbles,
)
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.four_bit import ENDS
from qrnn.quantization.matrix import WEIGHT_LIMIT
from qrnn.refinement.evidence import Moments, Seen, gather, matrix_moments
from qrnn.refinement.held_out import noise, split
from qrnn.refinement.rounding import Grid, objective, round_rows
from qrnn.running.session import Session

STEPS = 16384
"""About how many calibration steps are used; sequences are taken evenly from all."""


def refine_rows(
    float_model: FloatModel,
    model: QuantModel,
    batch: Batch,
    methods: tuple[str, ...],
    reference: FloatModel | None = None,
) -> QuantModel:
    """Return ``model`` with the weights (method ``rounding``) and biases (method ``bias``) that improve on `batch`; see the module.

    ``float_model`` has the real weights of ``model``, layer by layer. ``reference`` is the model whose outputs are to be approached,
    ``float_model`` when left out.
    """
    parts = split(evenly(batch, STEPS))
    if parts is None:
        note = "kept as rounded, since calibration data of one step leave nothing by which refined integers could be judged"
        return _with_notes(model, [note])
    want = run_oracle_batch(float_model if reference is None else reference, parts.judged).outputs

    def judge(candidate: QuantModel) -> float:
        session = Session(candidate)
        return noise(lambda piece: session.run_batch(piece)[0].outputs, model.outputs, parts.judged, want, parts.seen)

    def refine(least: float, every: bool) -> _Trial:
        """Refine layer by layer on the fitted part; ``every`` keeps all layers whatever they do to the error, ``least``."""
        refined, notes, rejected = model, list[str](), set[str]()
        for layer in model.layers:
            candidate, own = _refined(float_model, refined, parts.fitted, layer.name, methods)
            found = judge(candidate) if own and not every else least
            if found > least:
                rejected.add(layer.name)
                notes.append(
                    f"{layer.name}: kept as rounded, since refined integers bring the outputs on held-out calibration data "
                    f"{10 * math.log10(found / max(least, 1e-30)):.2f} dB further from the float model's"
                )
            else:
                refined, least = candidate, found
                notes += own
        return _Trial(judge(refined) if every else least, notes, rejected)

    best = refine(judge(model), False)
    if best.rejected:  # layers may help together that do not help alone
        together = refine(best.error, True)
        best = together if together.error < best.error else best
    refined = model
    for layer in model.layers:  # what the held-out part has let pass is fitted to all of the data
        if layer.name not in best.rejected:
            refined, _ = _refined(float_model, refined, evenly(batch, STEPS), layer.name, methods)
    return _with_notes(refined, best.notes)


class _Trial(NamedTuple):
    """The error of one way to refine on the held-out part, notes about it, and the layers that it leaves as they were."""

    error: float
    notes: list[str]
    rejected: set[str]


def _with_notes(model: QuantModel, notes: list[str]) -> QuantModel:
    decisions = (*model.provenance.decisions, *notes)
    return replace(model, provenance=replace(model.provenance, decisions=decisions))


def _refined(
    float_model: FloatModel, model: QuantModel, batch: Batch, name: str, methods: tuple[str, ...]
) -> tuple[QuantModel, list[str]]:
    """Return the model with one layer refined, and what was done to it; layers without matrices stay as they are."""
    position = next(p for p, layer in enumerate(model.layers) if layer.name == name)
    layer = model.layers[position]
    real = next((r for r in float_model.layers if r.name == name), None)
    notes = []
    if isinstance(layer, QuantRecurrent) and isinstance(real, Recurrent):
        seen = gather(model, batch, layer)
        directions = []
        for number, (d, r, s) in enumerate(zip(layer.directions, real.directions, seen, strict=True)):
            refined, share = _direction(layer, d, r, s, model.tensors[layer.input].scales, methods)
            directions.append(refined)
            notes.append(_note(f"{layer.name}[{number}]", share, methods))
        better: QuantRecurrent | QuantMatrixLayer = replace(layer, directions=tuple(directions))
    elif isinstance(layer, QuantMatrixLayer) and isinstance(real, MatrixLayer):
        moments = matrix_moments(model, batch, layer)
        better, share = _matrix_layer(layer, real, moments, model.tensors[layer.input].scales, methods)
        notes.append(_note(layer.name, share, methods))
    else:
        return model, []
    return replace(model, layers=(*model.layers[:position], better, *model.layers[position + 1 :])), notes


def _note(owner: str, share: float, methods: tuple[str, ...]) -> str:
    done = " and ".join(
        {"rounding": "second-order rounding", "bias": "bias correction"}[m]
        for m in methods
        if m in ("rounding", "bias")
    )
    return f"{owner}: {done}: error of the sums on calibration {100 * share:.1f} % of plain rounding's"


def grid(matrix: AnyMatrix, scale: FloatArray) -> Grid:
    """Return the grid of a matrix's weights, in real units per operand unit; scale [R] is the real value of one accumulator unit."""
    R, K = matrix.weight.shape
    if isinstance(matrix, QuantMatrix):
        end = np.full((R, K), float(WEIGHT_LIMIT))
        return Grid(np.repeat(scale[:, None], K, axis=1), -end, end)
    group = np.repeat(matrix.scale.astype(np.float64), SCALE_COLUMNS, axis=1)[:, :K]
    low, high = (np.where(group > 0, ENDS[1][end], ENDS[-1][end]).astype(np.float64) for end in (0, 1))
    return Grid(scale[:, None] * np.abs(group), low, high)


def with_weights(matrix: AnyMatrix, integers: Int64Array) -> AnyMatrix:
    """Return the matrix with points of its `grid` as weights."""
    if isinstance(matrix, QuantMatrix):
        return replace(matrix, weight=integers.astype(np.int8))
    sign = np.repeat(np.sign(matrix.scale), SCALE_COLUMNS, axis=1)[:, : integers.shape[1]]
    return replace(matrix, nibbles=pack_nibbles((integers * sign).astype(np.int8)))


def with_bias(matrix: AnyMatrix, correction: FloatArray, scale: FloatArray) -> AnyMatrix:
    """Return the matrix with a real ``correction`` [R] added to its biases."""
    integers = matrix.bias + round_half_up(correction / scale)
    return replace(matrix, bias=np.clip(integers, -(1 << 30), 1 << 30).astype(np.int32))


def provable(better: AnyMatrix, before: AnyMatrix) -> AnyMatrix:
    """Return ``better``, with the rows of ``before`` where its overflow bound would not hold."""
    fails = better.accumulator_bound() >= ACCUMULATOR_LIMIT
    if not fails.any():
        return better
    bias = np.where(fails, before.bias, better.bias)
    if isinstance(better, QuantMatrix):
        return replace(better, weight=np.where(fails[:, None], before.weight, better.weight), bias=bias)
    assert isinstance(before, QuantMatrix4)
    return replace(better, nibbles=np.where(fails[:, None], before.nibbles, better.nibbles), bias=bias)


@dataclass
class _Rows:
    """Rows at work: real weights, their grid, its points by plain rounding and as they are now, and real units per operand unit."""

    weight: FloatArray
    grid: Grid
    plain: FloatArray
    value: FloatArray

    def take(self, part: slice) -> _Rows:
        """Return a part of the rows."""
        g = self.grid
        return _Rows(
            self.weight[part], Grid(g.step[part], g.low[part], g.high[part]), self.plain[part], self.value[part]
        )

    def energy(self, hessian: FloatArray) -> tuple[float, float]:
        """Return the error energy of all rows, as they are now and with plain rounding."""
        now, plain = objective(self.weight, self.value, hessian), objective(self.weight, self.plain, hessian)
        return float(now.sum()), float(plain.sum())


def _rows(matrix: AnyMatrix, scale: FloatArray, weight: FloatArray) -> _Rows:
    plain = matrix.weight * scale[:, None]
    return _Rows(weight, grid(matrix, scale), plain, plain.copy())


def _side_by_side(rows: list[_Rows]) -> _Rows:
    def join(arrays: list[FloatArray]) -> FloatArray:
        return np.concatenate(arrays, axis=1)

    grids = [r.grid for r in rows]
    joined = Grid(join([g.step for g in grids]), join([g.low for g in grids]), join([g.high for g in grids]))
    return _Rows(join([r.weight for r in rows]), joined, join([r.plain for r in rows]), join([r.value for r in rows]))


def _integers(before: AnyMatrix, scale: FloatArray, rows: _Rows, correction: FloatArray | None) -> AnyMatrix:
    """Return the matrix with ``rows`` as weights and ``correction`` [R] added to its biases, where the proof holds."""
    matrix = before
    if not np.array_equal(rows.value, rows.plain):
        matrix = with_weights(matrix, rows.grid.integers(rows.value))
    if correction is not None:
        matrix = with_bias(matrix, correction, scale)
    return provable(matrix, before)


def _matrix_of_x(
    matrix: AnyMatrix, scale: FloatArray, rows: _Rows, seen: Sequence[Moments], methods: tuple[str, ...]
) -> tuple[AnyMatrix, float]:
    """Return a refined matrix of as many groups of rows as there are moments of operands, and what is left of its sums' error energy."""
    correction = np.zeros(len(rows.weight)) if "bias" in methods else None
    now = plain = 0.0
    size = len(rows.weight) // len(seen)
    for number, of_group in enumerate(seen):
        part = slice(number * size, (number + 1) * size)
        own = rows.take(part)
        if "rounding" in methods:
            own.value = rows.value[part] = round_rows(own.weight, own.grid, of_group.hessian)
        after, before = own.energy(of_group.hessian)
        now, plain = now + after, plain + before
        if correction is not None:
            correction[part] = (own.weight - own.value) @ of_group.mean
            now -= of_group.count * float((correction[part] ** 2).sum())
    return _integers(matrix, scale, rows, correction), _share(now, plain)


def _matrix_layer(
    layer: QuantMatrixLayer, real: MatrixLayer, seen: Sequence[Moments], unit: FloatArray, methods: tuple[str, ...]
) -> tuple[QuantMatrixLayer, float]:
    """Return the refined dense layer or convolution, and what is left of its sums' error energy."""
    fracs = np.full(len(layer.pre_shift), layer.out_frac, np.int64)
    scale = row_scale(layer.matrix, layer.pre_shift, fracs)
    columns = real.columns
    rows = _rows(layer.matrix, scale, columns * np.resize(unit * 2.0**layer.operand.shift, columns.shape[1]))
    matrix, share = _matrix_of_x(layer.matrix, scale, rows, seen, methods)
    return replace(layer, matrix=matrix), share


def _direction(
    layer: QuantRecurrent, d: QuantDirection, real: Direction, seen: Seen, unit: FloatArray, methods: tuple[str, ...]
) -> tuple[QuantDirection, float]:
    """Return the refined direction, and what is left of the sums' error energy."""
    H, M = layer.hidden_size, len(seen.x)
    fracs = layer.row_fracs(d)
    scale_ih = row_scale(d.ih, d.pre_shift, fracs)
    ih = _rows(d.ih, scale_ih, real.weight_ih * (unit * 2.0**layer.x_operand.shift))
    if d.hh is None or real.weight_hh is None:
        matrix, share = _matrix_of_x(d.ih, scale_ih, ih, [Moments.of(seen.x)], methods)
        return replace(d, ih=matrix), share
    scale_hh = row_scale(d.hh, d.pre_shift, layer.recurrent_fracs(d))
    normalized_apart = d.norms is not None and d.norms.recurrent != ()
    hh = _rows(d.hh, scale_hh, real.weight_hh * 2.0 ** (layer.h_operand.shift - layer.h_frac))
    correction_ih, correction_hh, two = np.zeros(len(fracs)), np.zeros(len(fracs)), np.zeros(len(fracs), bool)
    now = plain = 0.0
    for number, gate in enumerate(layer.gates):
        part = slice(number * H, (number + 1) * H)
        h = seen.candidate if gate == "n" and seen.candidate is not None else seen.h
        reset = seen.reset if gate == "n" else None
        apart = normalized_apart or reset is not None
        groups = [([ih, hh], np.concatenate([seen.x, h], axis=1))]
        if apart:
            of_h = h if reset is None else h * np.sqrt((reset**2).mean(axis=1))[:, None]
            groups = [([ih], seen.x), ([hh], of_h)]
        for members, operands in groups:
            joined, hessian = _side_by_side([m.take(part) for m in members]), operands.T @ operands
            if "rounding" in methods:
                joined.value = round_rows(joined.weight, joined.grid, hessian)
                ends = np.cumsum([m.weight.shape[1] for m in members])[:-1]
                for m, value in zip(members, np.split(joined.value, ends, axis=1), strict=True):
                    m.value[part] = value
            after, before = joined.energy(hessian)
            now, plain = now + after, plain + before
        from_x = (ih.weight - ih.value)[part] @ seen.x.mean(axis=0)
        from_h = (hh.weight - hh.value)[part] @ h.mean(axis=0)
        correction_ih[part], correction_hh[part] = (from_x, from_h) if apart else (from_x + from_h, 0.0)
        two[part] = apart
        if "bias" in methods:
            square = 1.0 if reset is None else float((reset**2).mean())
            now -= M * float(((from_x if apart else from_x + from_h) ** 2).sum())
            now -= M * float((from_h**2).sum()) * square if apart else 0.0
    if "bias" not in methods:
        return replace(d, ih=_integers(d.ih, scale_ih, ih, None), hh=_integers(d.hh, scale_hh, hh, None)), _share(
            now, plain
        )
    # The finer of the two accumulators takes the correction, as it took the bias; a candidate that is kept apart has two.
    to_ih = (scale_ih <= scale_hh) | two
    corrected_ih = _integers(d.ih, scale_ih, ih, np.where(to_ih, correction_ih, 0.0))
    corrected_hh = _integers(d.hh, scale_hh, hh, np.where(to_ih, correction_hh, correction_ih))
    return replace(d, ih=corrected_ih, hh=corrected_hh), _share(now, plain)


def _share(now: float, plain: float) -> float:
    return max(now, 0.0) / plain if plain else 1.0
