"""Count the values that a matrix's operand, or a tensor, has no room for: how many, of how many, and how far the largest lies beyond.

The values are the integers of the run itself, before the clamp: tensors between layers as the engine gives them; h as the next step reads
it; and r·h and the h before a projection, which no engine keeps, by the contract's own functions from what it does keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.arithmetic.arrays import unclamped
from qrnn.arithmetic.cells import reset_operand
from qrnn.arithmetic.fixedpoint import to_operand
from qrnn.backends.base import LayerState, Trace
from qrnn.model.batch import Batch
from qrnn.model.gate_values import gate_integers
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.recurrent.quantized import QuantDirection
from qrnn.model.layer_facts import Narrowed
from qrnn.model.quant_model import QuantModel
from qrnn.model.time import TimeAxis
from qrnn.refinement.evidence import before, grouped


@dataclass
class Saturation:
    """How many of ``total`` values are ``saturated``, at the limits of one of the contract's saturations.

    ``largest`` is the largest magnitude before the clamp, as a multiple of the limit; None where only the clamped values are known.
    """

    where: str
    saturated: int = 0
    total: int = 0
    largest: float | None = None

    def __str__(self) -> str:
        beyond = "" if self.largest is None else f", up to {self.largest:.2f} times the limit"
        return f"{self.where}: {self.saturated} of {self.total} values{beyond}"

    def add(self, values: npt.NDArray[Any], limit: int) -> None:
        """Count ``values`` before their clamp to ±limit."""
        magnitude = np.abs(values)
        self.saturated += int((magnitude > limit).sum())
        self.total += magnitude.size
        self.largest = max(self.largest or 0.0, float(magnitude.max(initial=0)) / limit)


def narrowed_values(
    model: QuantModel,
    batch: Batch,
    tensors: Mapping[str, npt.NDArray[Any]],
    trace: Trace,
    start: Mapping[str, LayerState],
) -> Iterator[Narrowed]:
    """Yield what the layers of ``model`` narrow in one run of ``batch``, at the real steps alone.

    ``tensors`` and ``trace`` are the run's, and ``start`` the states that it began with (`Session.initial_state`).
    """
    for layer in model.layers:
        axes = {name: batch.along(model.length_rules[name]) for name in layer.inputs if name in model.length_rules}
        for found in layer.narrowed(tensors, model.tensors):
            real = axes[found.tensor].real(found.values) if found.tensor in axes else found.values
            yield replace(found, values=real)
        if isinstance(layer, QuantRecurrent):
            own = batch.paced(model.length_rules[layer.input])
            begin = layer.starts(start, tensors, TimeAxis(own.lengths, own.steps))[0]
            own = grouped(layer.grouping, own)
            for number, d in enumerate(layer.directions):
                yield from _states(layer, number, d, own, trace, begin[:, number])


def _states(
    layer: QuantRecurrent, number: int, d: QuantDirection, batch: Batch, trace: Trace, start: npt.NDArray[Any]
) -> Iterator[Narrowed]:
    """Yield what the matrices of a direction read of its own: h, or r·h, and the h before a projection."""
    key, H = f"{layer.name}[{number}]", layer.hidden_size
    pre, mask = trace.arrays[f"{key}.pre"], batch.mask
    read = unclamped(to_operand)
    if d.hh is not None:
        shift, limit = layer.h_operand.shift, layer.h_operand.limit
        h = before(trace.arrays[f"{key}.h"].astype(np.int64), start, d.reverse, batch, layer.memory)[mask]
        yield Narrowed(f"{key}: h operand", layer.output, read(h, shift, limit), limit)
        if layer.declaration.reset_gate is not None and not layer.linear_before_reset:
            r = gate_integers(d.gates[0], pre[:, :, :H])[mask]
            product = unclamped(reset_operand)(r, h, d.gates[0].out_frac, shift, limit)
            yield Narrowed(f"{key}: r·h operand", layer.output, product, limit)
    if d.projection is not None:
        c = trace.arrays.get(f"{key}.c")
        hidden = layer.declaration.hidden(layer, d, pre[mask], None if c is None else c[mask])
        shift, limit = d.projection.operand.shift, d.projection.operand.limit
        yield Narrowed(f"{key}: hidden operand", layer.output, read(hidden, shift, limit), limit)
