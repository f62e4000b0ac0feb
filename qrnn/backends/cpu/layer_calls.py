"""What streams and whole sequences have in common on the CPU: the tensors between a model's layers, and the calls of inputs and outputs.

The calls of the layers are made by their `LayerRun`, from the places that stand here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from qrnn.backends.base import ModelRows, StreamRows
from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.scales import exact_float32, scaling
from qrnn.backends.cpu.tasks import Tasks
from qrnn.model.float_model import GraphOutput
from qrnn.model.parts import FloatArray, Int64Array, TensorFormat
from qrnn.model.quant_model import QuantModel

USERS = 1
"""Which argument of the calls of `LayerCalls.input_call` and `LayerCalls.output_calls` is the user's array."""


class Flow(NamedTuple):
    """The streams that have a new step of some tensors, whose rows are those of the tensors' arrays: rows control[FIRST] … control[LAST] - 1.

    ``rows`` says which row of the states each of them has, and ``origins`` which row of the graph inputs. A layer that gives no step for some
    steps of its input writes a flow of its own, where those streams are left out.
    """

    control: Int64Array
    rows: Int64Array
    origins: Int64Array


def flows_of(model: QuantModel) -> Mapping[str, int] | None:
    """Return which tensors have a flow in common, as numbers by name, 0 for that of the graph inputs.

    None where a layer or an output joins tensors with several, whose steps do not come in the same calls.
    """
    found: dict[str, int] = {}
    for layer in model.layers:
        flows = {found.get(name, 0) for name in layer.inputs}
        if len(flows) > 1:
            return None
        number = flows.pop() if layer.step_for_step else 1 + max(found.values(), default=0)
        found.update(dict.fromkeys(layer.outputs, number))
    for output in model.outputs:
        if len({found.get(name, 0) for name, _, _ in output.parts}) > 1:
            return None
    return found


class LayerCalls(ABC):
    """Calls over the rows of ``tensors`` [rows, F], by name; `place` says which rows."""

    def __init__(self, model: QuantModel, tasks: Tasks, rows: ModelRows, tensors: dict[str, Any]) -> None:
        self.model, self.tasks, self.rows, self.tensors = model, tasks, rows, tensors

    @abstractmethod
    def place(self, has_time: bool) -> Int64Array:
        """Return the control (`qrnn.backends.cpu.calls`) of calls over tensors with or without time."""

    def place_of(self, tensor: str) -> Int64Array:
        """Return the control of calls over the rows of a tensor."""
        return self.place(self.model.tensors[tensor].has_time)

    def source(self, tensor: str) -> Any:
        """Return the rows that a layer reads: of a tensor, or of a graph input of tokens, which no call writes to a tensor."""
        given = self.rows.inputs.get(tensor)
        return given if given is not None and given.dtype == np.int64 else self.tensors[tensor]

    def input_call(self, name: str) -> Call:
        """Return the call that checks and quantizes a graph input."""
        values, given = self.rows.inputs[name], next(i for i in self.model.inputs if i.name == name)
        place = self.place(given.has_time)
        if values.dtype == np.int64:
            return self.tasks.call("boundary", "check_tokens", place, values, given.vocabulary)
        fmt = self.model.tensors[name]
        return self.tasks.call(
            "boundary", "quantize", place, values, self.tensors[name], scaling(fmt, values.dtype), fmt.limit
        )

    def output_calls(self, name: str) -> list[Call]:
        """Return the calls that put a graph output together from its parts."""
        output = next(o for o in self.model.outputs if o.name == name)
        return self._put_together(output, self.place_of(output.parts[0][0]), self.rows.outputs[name])

    def _put_together(self, output: GraphOutput, place: Int64Array, out: FloatArray) -> list[Call]:
        calls, whole = [], self.model.whole_tensor(output)
        for tensor, indices, positions in output.parts:
            numbers, q = self.model.tensors[tensor].scales_and_offsets, self.tensors[tensor]
            if tensor == whole and len(numbers[0]) == 1:
                calls.append(whole_output(self.tasks, place, self.model.tensors[tensor], out, q))
                continue
            which = as_int64(indices), as_int64(positions)
            calls.append(self.tasks.call("boundary", "dequantize", place, out, q, *numbers, *which))
        return calls


class StreamCalls(LayerCalls):
    """Calls for one step of ``streams``: rows control[FIRST] … control[LAST] - 1.

    They are made by one thread; with ``teams``, helper threads may take part in steps of few streams.
    """

    def __init__(
        self, model: QuantModel, tasks: Tasks, streams: StreamRows, tensors: dict[str, Any], teams: bool = False
    ) -> None:
        super().__init__(model, tasks, streams, tensors)
        self.streams, self.teams, self.control = streams, teams, np.zeros(4, np.int64)
        self.read_out = {tensor for output in model.outputs for tensor, _, _ in output.parts}
        self.read_out |= {tensor for layer in model.layers for tensor in layer.inputs}
        """The tensors that graph outputs or layers read."""
        self._flow = Flow(self.control, streams.rows, np.arange(streams.size))
        self._numbers = flows_of(model) or {}
        self._flows = {0: self._flow}

    def flow_of(self, tensor: str) -> Flow:
        """Return the flow of a tensor."""
        number, size = self._numbers.get(tensor, 0), self.streams.size
        if number not in self._flows:
            self._flows[number] = Flow(np.zeros(3, np.int64), np.zeros(size, np.int64), np.zeros(size, np.int64))
        return self._flows[number]

    def place(self, has_time: bool) -> Int64Array:
        """Return the control of calls over the graph inputs; see `LayerCalls.place`."""
        return self.control

    def place_of(self, tensor: str) -> Int64Array:
        """Return the control of calls over the rows of a tensor: that of its flow."""
        return self.flow_of(tensor).control

    def written_at_once(self, name: str) -> bool:
        """Return whether `output_calls` is one call, that writes all values of the output."""
        output = next(o for o in self.model.outputs if o.name == name)
        steps, own_flow = self.streams.output_steps[name], self.flow_of(output.parts[0][0]) is self._flow
        return own_flow and steps == 1 and self.model.whole_tensor(output) is not None

    def output_calls(self, name: str) -> list[Call]:
        """Return the calls that put a graph output together from its parts.

        The output is zero, and its length as well, for streams without a new step of it.
        """
        output = next(o for o in self.model.outputs if o.name == name)
        flow, out = self.flow_of(output.parts[0][0]), self.streams.outputs[name]
        if flow is self._flow:
            return super().output_calls(name)
        own = np.zeros_like(out)
        ends = own, out, self.streams.lengths[name]
        scatter = self.tasks.call("copying", "scatter", self.control, flow.control, flow.origins, *ends)
        return [*self._put_together(output, flow.control, own), scatter]


class SequenceCalls(LayerCalls):
    """Calls for whole sequences; ``steps`` says how many steps each tensor over time has.

    A sequence alone may be shared by a thread team only where ``teams`` allows it.
    """

    def __init__(
        self,
        model: QuantModel,
        tasks: Tasks,
        rows: ModelRows,
        tensors: dict[str, Any],
        steps: Mapping[str, int],
        teams: bool,
    ) -> None:
        super().__init__(model, tasks, rows, tensors)
        self.steps, self.teams = steps, teams
        self._places: dict[int, Int64Array] = {}

    def place(self, has_time: bool) -> Int64Array:
        """Return the control of calls over the graph inputs with or without time; see `LayerCalls.place`."""
        return self.rows_at(max(self.steps.get(i.name, 1) for i in self.model.inputs) if has_time else 1)

    def place_of(self, tensor: str) -> Int64Array:
        """Return the control of calls over the rows of a tensor."""
        return self.rows_at(self.steps[tensor] if self.model.tensors[tensor].has_time else 1)

    def rows_at(self, steps: int) -> Int64Array:
        """Return the control of calls over the rows of so many steps of each sequence."""
        return self._places.setdefault(steps, np.array([0, self.rows.size * steps, 0]))

    def lengths(self, tensor: str) -> Int64Array:
        """Return how many steps of each sequence a tensor over time has, [N]."""
        return np.full(self.rows.size, self.steps[tensor], np.int64)


def whole_output(tasks: Tasks, place: Int64Array, fmt: TensorFormat, out: FloatArray, q: Any) -> Call:
    """Return the call that writes the real numbers of all of a tensor's rows, which have one scale."""
    scales, offsets = fmt.scales_and_offsets
    if exact_float32(fmt, q, out):
        return tasks.call("boundary", "dequantize_float32", place, out, q, scales.astype(np.float32))
    return tasks.call("boundary", "dequantize_whole", place, out, q, scales, offsets)


def as_int64(indices: Any) -> Int64Array:
    """Return indices as compiled code reads them."""
    return np.ascontiguousarray(indices, np.int64)
