"""The float64 oracle runs a float model by its layers' equations (`qrnn.model.layer.Layer.equation`).

It knows nothing of the integer contract; it is checked against ONNX Runtime, and everything else is measured against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.model.batch import Batch, make_batch, with_time_axis, without_time_axis
from qrnn.model.float_model import FloatModel
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.time import TimeAxis

Observer = Callable[[str, FloatArray, npt.NDArray[np.bool_] | None], None]
"""Called as observer(name, values, mask): ``layer[d].pre_i`` … [N, T, H] with the mask of real steps [N, T], or [N, F] with None.

Names: ``<tensor>`` for graph inputs and layer outputs; ``<layer>[d].<gate>`` for gate outputs, ``.pre_<gate>`` for their arguments,
``.c`` and ``.h`` for the states after each step (``.hidden`` and ``.pre_s`` before a projection), all in time order
(also for a reverse direction).
"""


class Substitutes:
    """What replaces parts of the float model while it runs; here nothing does. See `qrnn.accuracy.explain`.

    Names are those of `Observer`, or as the methods say.
    """

    def tensor(self, name: str, values: FloatArray) -> FloatArray:
        """Return a tensor between layers as it is kept."""
        return values

    def operand(self, reader: str, values: FloatArray) -> FloatArray:
        """Return what a matrix reads of a tensor or state: ``<layer>.x`` of any layer with weights, ``<layer>[d].h``, ``<layer>[d].hidden``."""
        return values

    def gate(self, name: str, argument: FloatArray, value: FloatArray) -> FloatArray:
        """Return the value of ``<layer>[d].<role>`` at its argument, not yet clipped; the cell's role is ``output``, a projection's ``s``."""
        return value

    def state(self, name: str, values: FloatArray) -> FloatArray:
        """Return ``<layer>[d].h``, ``.hidden`` or ``.c`` after a step, as it is kept."""
        return values


@dataclass(frozen=True)
class OracleResult:
    """``outputs`` by graph output name, batch first, zero on padded steps; and ``tensors`` between layers, [N, T, F] or [N, F]."""

    outputs: dict[str, FloatArray]
    tensors: dict[str, FloatArray]


def run_oracle(
    model: FloatModel, inputs: Mapping[str, Any], lengths: Any = None, observer: Observer | None = None
) -> OracleResult:
    """Run a float model in float64, and return its outputs: the truth that integers are compared with.

    ``inputs`` and ``lengths`` are as for `qrnn.Session.run`, in arrays of the host. ``observer`` is told the values inside the layers. Raises
    DataError for what does not fit.
    """
    inputs, without = with_time_axis(model.inputs, inputs)
    result = run_oracle_batch(model, make_batch(model.inputs, inputs, lengths), observer)
    return replace(result, outputs=without_time_axis(model.outputs, result.outputs)) if without else result


@dataclass
class _Run:
    """A run on a batch, as the layers' equations see it (`qrnn.model.surroundings.Equations`)."""

    model: FloatModel
    batch: Batch
    observer: Observer | None
    instead: Substitutes
    tensors: dict[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.size, self.states = self.batch.size, self.batch.states
        self.operand, self.gate, self.state = self.instead.operand, self.instead.gate, self.instead.state

    def over(self, tensor: str) -> TimeAxis:
        """Return the steps of a tensor over time."""
        return self.batch.along(self.model.length_rules[tensor])

    def read(self, tensor: str) -> FloatArray:
        """Return a tensor that was written before, or a graph input."""
        return self.tensors[tensor]

    def tokens(self, tensor: str) -> IndexArray:
        """Return a token input."""
        return self.batch.tokens[tensor]

    def write(self, tensor: str, values: FloatArray) -> None:
        """Set a tensor, and show it to the observer."""
        values = self.tensors[tensor] = self.instead.tensor(tensor, values)
        if self.observer is not None:
            self.observer(tensor, values, self.over(tensor).mask if self.model.tensors[tensor].has_time else None)

    @property
    def is_observed(self) -> bool:
        """Return whether the run has an observer."""
        return self.observer is not None

    def observe(self, name: str, values: FloatArray, axis: TimeAxis) -> None:
        """Show a quantity inside a layer to the observer."""
        if self.observer is not None:
            self.observer(name, values, axis.mask)


def run_oracle_batch(
    model: FloatModel, batch: Batch, observer: Observer | None = None, substitutes: Substitutes | None = None
) -> OracleResult:
    """Run the float model on a checked batch; ``substitutes`` replace parts of the model, none when left out."""
    run = _Run(model, batch, observer, substitutes or Substitutes())
    for name, value in batch.features.items():
        run.write(name, value)
    for layer in model.layers:
        layer.equation(run)
    tensors = run.tensors
    outputs: dict[str, FloatArray] = {}
    for output in model.outputs:
        axis = run.over(output.parts[0][0]) if output.has_time else None
        lead = (batch.size,) if axis is None else (batch.size, axis.steps)
        value = np.zeros((*lead, output.features))
        for name, indices, positions in output.parts:
            value[..., positions] = tensors[name][..., indices]
        if axis is not None:
            value[~axis.mask] = 0.0
        outputs[output.name] = value.reshape(*lead, *output.shape)
    return OracleResult(outputs, tensors)
