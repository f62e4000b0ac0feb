"""Collect what a layer's matrices read in calibration: the operands that they meet in the quantized model.

The quantized model runs whole sequences, so states are carried: the operand of h at step t is what the integers made of step t - 1 (or, for
a layer without memory, of its initial state).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.arithmetic.reals import operands, round_half_up
from qrnn.backends.base import Trace
from qrnn.model.batch import Batch
from qrnn.model.gate_values import gate_values
from qrnn.model.kinds.conv import QuantConv
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.recurrent.grouping import Grouping
from qrnn.model.kinds.recurrent.quantized import QuantDirection
from qrnn.model.matrix_layer import QuantMatrixLayer
from qrnn.model.parts import FloatArray, Operand
from qrnn.model.quant_model import QuantModel
from qrnn.model.time import TimeAxis
from qrnn.running.session import Session

CHUNK = 64
"""The number of sequences that run at a time."""

MOST_OPERANDS = 1 << 22
"""About the most operands of windows that are in memory at once."""


@dataclass(frozen=True)
class Seen:
    """What one direction reads at M real steps: operands x [M, I] and h [M, P]; see `gather`.

    ``candidate`` [M, P] is what a GRU's candidate rows read in place of h: the operand of r·h, or h itself with linear_before_reset.
    ``reset`` [M, H] is r of a GRU with linear_before_reset, which multiplies those rows' sums.
    """

    x: FloatArray
    h: FloatArray
    candidate: FloatArray | None
    reset: FloatArray | None


def operand_values(q: npt.NDArray[Any], operand: Operand) -> FloatArray:
    """Return the integers that a matrix reads for int16 values, as float64."""
    return operands(q, operand.shift, operand.limit).astype(np.float64)


def before(state: Any, start: npt.NDArray[Any], reverse: bool, batch: Batch, memory: bool = True) -> Any:
    """Return the state that each step reads, [N, T, H].

    ``state`` [N, T, H] holds the states that steps end with, and ``start`` [N, H] or [H] the initial one. ``memory`` is the layer's:
    without it every step reads ``start``.
    """
    shifted = np.empty_like(state)
    if not memory:
        shifted[...] = start[..., None, :]
    elif reverse:
        shifted[:, :-1] = state[:, 1:]
        shifted[np.arange(batch.size), np.maximum(batch.lengths, 1) - 1] = start
    else:
        shifted[:, 1:], shifted[:, 0] = state[:, :-1], start
    return shifted


def grouped(group: Grouping, batch: Batch) -> Batch:
    """Return the batch with the steps of the sequences that a layer's cell takes, which a trace has, in the place of its own."""
    axis = group.axis(TimeAxis(batch.lengths, batch.steps))
    return replace(batch, lengths=axis.lengths, steps=axis.steps)


@dataclass(frozen=True)
class Moments:
    """What is known of M vectors of operands x: Σ x xᵀ [K, K] as ``hessian``, their ``mean`` [K] and their number ``count``."""

    hessian: FloatArray
    mean: FloatArray
    count: int

    @classmethod
    def of(cls, x: FloatArray) -> Moments:
        """Return the moments of x [M, K], M > 0."""
        return cls(x.T @ x, x.mean(axis=0), len(x))


def matrix_moments(model: QuantModel, batch: Batch, layer: QuantMatrixLayer) -> list[Moments]:
    """Return the moments of what the matrix of a dense layer or of a convolution reads, of each of the convolution's groups."""
    session = Session(model)
    groups, columns = layer.groups if isinstance(layer, QuantConv) else 1, layer.matrix.weight.shape[1]
    squares, sums, count = np.zeros((groups, columns, columns)), np.zeros((groups, columns)), 0
    for _, _, piece in batch.chunks(CHUNK):
        _, tensors = session.run_batch(piece)
        timed = layer.input in model.length_rules
        x, own = tensors[layer.input], piece.paced(model.length_rules[layer.input]) if timed else piece
        operands = operand_values(x, layer.operand)
        if isinstance(layer, QuantConv):
            blocks = layer.windows(operands, own.lengths, MOST_OPERANDS)
        else:
            blocks = iter([(operands[own.mask] if timed else operands)[:, None]])
        for block in blocks:
            by_group = block.transpose(1, 0, 2)
            squares += by_group.transpose(0, 2, 1) @ by_group
            sums += by_group.sum(axis=1)
            count += len(block)
    return [Moments(square, total / max(1, count), count) for square, total in zip(squares, sums, strict=True)]


def gather(model: QuantModel, batch: Batch, layer: QuantRecurrent) -> list[Seen]:
    """Return one `Seen` for each direction of ``layer``."""
    session = Session(model)
    found: list[list[Seen]] = []
    for _, _, piece in batch.chunks(CHUNK):
        trace = Trace()
        _, tensors = session.run_batch(piece, trace=trace)
        timed = layer.input in model.length_rules
        x, own = tensors[layer.input], piece.paced(model.length_rules[layer.input]) if timed else piece
        states = session.initial_state(piece.size, piece.states).layers
        start = layer.starts(states, tensors, TimeAxis(own.lengths, own.steps))[0]
        x, own = layer.grouping.apart(x), grouped(layer.grouping, own)
        found.append(
            [
                _direction(layer, d, f"{layer.name}[{number}]", x, start[:, number], trace, own)
                for number, d in enumerate(layer.directions)
            ]
        )
    return [_joined(list(parts)) for parts in zip(*found, strict=True)]


def _direction(
    layer: QuantRecurrent,
    d: QuantDirection,
    key: str,
    x: npt.NDArray[Any],
    start: npt.NDArray[Any],
    trace: Trace,
    batch: Batch,
) -> Seen:
    mask = batch.mask
    h = before(trace.arrays[f"{key}.h"], start, d.reverse, batch, layer.memory)[mask]
    candidate = reset = None
    if layer.declaration.reset_gate is not None:
        r = gate_values(d.gates[0], trace.arrays[f"{key}.pre"][:, :, : layer.hidden_size])[mask]
        if layer.linear_before_reset:
            candidate, reset = operand_values(h, layer.h_operand), r
        else:
            product = round_half_up(r * h * 2.0**-layer.h_operand.shift)
            candidate = np.clip(product, -layer.h_operand.limit, layer.h_operand.limit)
    return Seen(operand_values(x[mask], layer.x_operand), operand_values(h, layer.h_operand), candidate, reset)


def _joined(parts: list[Seen]) -> Seen:
    def stack(name: str) -> Any:
        arrays = [getattr(p, name) for p in parts]
        return None if arrays[0] is None else np.concatenate(arrays)

    return Seen(*(stack(name) for name in ("x", "h", "candidate", "reset")))
