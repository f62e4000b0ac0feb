"""What streams and whole sequences have in common on the CPU: the tensors between a model's layers, and the calls of inputs and outputs.

The calls of the layers are made by their `LayerRun`, from the places that stand here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from qrnn.backends.base import ModelRows, StreamRows
from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.scales import scaling
from qrnn.backends.cpu.tasks import Tasks
from qrnn.model.parts import Int64Array
from qrnn.model.quant_model import QuantModel

USERS = 1
"""Which argument of the calls of `LayerCalls.input_call` and `LayerCalls.output_calls` is the user's array."""


class LayerCalls(ABC):
    """Calls over the rows of ``tensors`` [rows, F], by name; `place` says which rows."""

    def __init__(self, model: QuantModel, tasks: Tasks, rows: ModelRows, tensors: dict[str, Any]) -> None:
        self.model, self.tasks, self.rows, self.tensors = model, tasks, rows, tensors

    @abstractmethod
    def place(self, has_time: bool) -> Int64Array:
        """The control (`qrnn.backends.cpu.calls`) of calls over tensors with or without time."""

    def place_of(self, tensor: str) -> Int64Array:
        """The control of calls over the rows of a tensor."""
        return self.place(self.model.tensors[tensor].has_time)

    def source(self, tensor: str) -> Any:
        """The rows that a layer reads: of a tensor, or of a graph input of tokens, which no call writes to a tensor."""
        given = self.rows.inputs.get(tensor)
        return given if given is not None and given.dtype == np.int64 else self.tensors[tensor]

    def input_call(self, name: str) -> Call:
        """Checks and quantizes a graph input."""
        values, given = self.rows.inputs[name], next(i for i in self.model.inputs if i.name == name)
        place = self.place(given.has_time)
        if values.dtype == np.int64:
            return self.tasks.call("boundary", "check_tokens", place, values, given.vocabulary)
        fmt = self.model.tensors[name]
        return self.tasks.call(
            "boundary", "quantize", place, values, self.tensors[name], scaling(fmt, values.dtype), fmt.limit
        )

    def output_calls(self, name: str) -> list[Call]:
        """Put a graph output together from its parts."""
        output = next(o for o in self.model.outputs if o.name == name)
        calls, whole = [], self.model.whole_tensor(output)
        place, out = self.place(output.has_time), self.rows.outputs[name]
        for tensor, indices, positions in output.parts:
            numbers, q = self.model.tensors[tensor].scales_and_offsets, self.tensors[tensor]
            if tensor == whole and len(numbers[0]) == 1:
                calls.append(self.tasks.call("boundary", "dequantize_whole", place, out, q, *numbers))
                continue
            which = as_int64(indices), as_int64(positions)
            calls.append(self.tasks.call("boundary", "dequantize", place, out, q, *numbers, *which))
        return calls


class StreamCalls(LayerCalls):
    """Calls for one step of ``streams``, by one thread: rows control[FIRST] … control[LAST] - 1."""

    def __init__(self, model: QuantModel, tasks: Tasks, streams: StreamRows, tensors: dict[str, Any]) -> None:
        super().__init__(model, tasks, streams, tensors)
        self.streams, self.control = streams, np.zeros(3, np.int64)
        self.read_out = {tensor for output in model.outputs for tensor, _, _ in output.parts}
        """The tensors that graph outputs read."""

    def place(self, has_time: bool) -> Int64Array:
        """Return the control of calls over tensors with or without time; see `LayerCalls.place`."""
        return self.control


class SequenceCalls(LayerCalls):
    """Calls for whole sequences of ``steps`` steps; a sequence alone may be shared by a thread team only where ``teams`` allows it."""

    def __init__(
        self, model: QuantModel, tasks: Tasks, rows: ModelRows, tensors: dict[str, Any], steps: int, teams: bool
    ) -> None:
        super().__init__(model, tasks, rows, tensors)
        self.steps, self.teams = steps, teams
        self._places = {True: np.array([0, rows.size * steps, 0]), False: np.array([0, rows.size, 0])}
        self.lengths = np.full(rows.size, steps, np.int64)

    def place(self, has_time: bool) -> Int64Array:
        """Return the control of calls over tensors with or without time; see `LayerCalls.place`."""
        return self._places[has_time]


def as_int64(indices: Any) -> Int64Array:
    """Indices as compiled code reads them."""
    return np.ascontiguousarray(indices, np.int64)
