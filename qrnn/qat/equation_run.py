"""A run of one layer's float64 equation on traced arrays, at the numbers of a forward pass (`qrnn.qat.values`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qrnn.model.layer import Layer
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.time import TimeAxis
from qrnn.qat.tape import Tape, Traced, replaced, value_of
from qrnn.qat.values import Values


class EquationRun:
    """What an equation sees (`qrnn.model.surroundings.Equations`): inputs are variables of ``tape``, and ``outputs`` keeps what it writes."""

    is_observed = False

    def __init__(self, tape: Tape, values: Values, layer: Layer) -> None:
        self._tape, self._values, self._layer = tape, values, layer
        self.size, self.inputs, self.outputs = values.batch.size, dict[str, Traced](), dict[str, Any]()

    @property
    def states(self) -> Mapping[str, FloatArray]:
        """Return the graph state inputs of the batch."""
        return self._values.batch.states

    def over(self, tensor: str) -> TimeAxis:
        """Return the steps of a tensor over time."""
        return self._values.batch.along(self._values.model.length_rules[tensor])

    def read(self, tensor: str) -> Any:
        """Return an input of the layer."""
        if tensor not in self.inputs:
            place = self._layer.inputs.index(tensor)
            self.inputs[tensor] = self._tape.variable(self._values.tensor(self._layer, place))
        return self.inputs[tensor]

    def tokens(self, tensor: str) -> IndexArray:
        """Return a token input."""
        return self._values.batch.tokens[tensor]

    def operand(self, reader: str, values: Any) -> Any:
        """Return a traced array as a matrix reads it."""
        passed = self._values.operand(reader, value_of(values))
        return replaced(values, *passed) if isinstance(values, Traced) else passed.values

    def gate(self, name: str, argument: Any, value: Any) -> Any:
        """Return a traced function's value, which depends on its argument alone."""
        passed = self._values.gate(name, value_of(argument), value_of(value))
        return replaced(argument, *passed) if isinstance(argument, Traced) else passed.values

    def state(self, name: str, values: Any) -> Any:
        """Return a traced state as it is kept."""
        passed = self._values.state(name, value_of(values))
        return replaced(values, *passed) if isinstance(values, Traced) else passed.values

    def write(self, tensor: str, values: Any) -> None:
        """Keep what the layer writes."""
        self.outputs[tensor] = values

    def observe(self, name: str, values: Any, axis: TimeAxis) -> None:
        """Do nothing: nobody observes the run."""


def summed(first: Any, second: FloatArray) -> FloatArray:
    """Return the sum of two gradients of which the first may be None, or have fewer steps."""
    if first is None:
        return second
    if first.shape != second.shape:
        steps = max(first.shape[1], second.shape[1])
        first, second = (np.pad(g, ((0, 0), (0, steps - g.shape[1]), (0, 0))) for g in (first, second))
    return np.asarray(first + second)


def scattered(gradient: FloatArray, indices: Any, features: int) -> FloatArray:
    """Return the gradient of an array [..., ``features``] for that of its features ``indices``, of which some may be equal."""
    found = np.zeros((*gradient.shape[:-1], features))
    if len(np.unique(indices)) == len(indices):
        found[..., indices] = gradient
    else:
        at: Any = (..., indices)
        np.add.at(found, at, gradient)
    return found
