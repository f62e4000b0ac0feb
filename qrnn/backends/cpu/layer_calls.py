"""A model's layers as calls: what streams and whole sequences have in common on the CPU."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np

from qrnn.backends.base import ModelRows
from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.native import Code
from qrnn.backends.cpu.scales import scaling
from qrnn.model.kinds.add import QuantAdd
from qrnn.model.kinds.concat import QuantConcat
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.kinds.embedding import QuantEmbedding
from qrnn.model.kinds.last_step import QuantLastStep
from qrnn.model.kinds.pointwise import QuantPointwise
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.softmax import QuantSoftmax
from qrnn.model.parts import IndexArray, Int16Array, Int32Array, Int64Array
from qrnn.model.quant_model import QuantModel

USERS = 1
"""Which argument of the calls of `LayerCalls.input_call` and `LayerCalls.output_calls` is the user's array."""


SequenceData = tuple[Int16Array, IndexArray, Int16Array, Int32Array, Int16Array]
"""x, lengths, h, c, y."""


class CallMaker(Protocol):
    """What makes the calls of layers with weights: the engine, as far as streams and whole sequences know it."""

    model: QuantModel
    workers: int
    code: Code

    def rows_call(self, name: str, place: Int64Array, *values: Any) -> Call:
        """The function ``name`` of `qrnn.backends.cpu.stream_rows` for rows place[FIRST] … place[LAST] - 1."""

    def dense_call(self, layer: QuantDense, place: Int64Array, x: Int16Array, out: Int16Array) -> Call:
        """A dense layer over rows."""

    def pointwise_call(self, layer: QuantPointwise, place: Int64Array, x: Int16Array, out: Int16Array) -> Call:
        """A pointwise layer over rows."""

    def softmax_call(self, layer: QuantSoftmax, place: Int64Array, x: Int16Array, out: Int16Array) -> Call:
        """A softmax over rows."""

    def step_call(
        self, layer: QuantRecurrent, place: Int64Array, rows: Int64Array, x: Int16Array, h: Int16Array, c: Int32Array, y: Int16Array
    ) -> Call:  # fmt: skip
        """One step of a layer's one direction for streams ``rows``."""

    def sequence_call(
        self, layer: QuantRecurrent, number: int, place: Int64Array, data: SequenceData, gangs: bool
    ) -> Call:
        """One direction over sequences place[FIRST] … place[LAST] - 1."""


class LayerCalls(ABC):
    """Calls over the rows of ``tensors`` [rows, F], by name; `place` says which rows."""

    def __init__(self, engine: CallMaker, rows: ModelRows, tensors: dict[str, Any]) -> None:
        self.engine, self.rows, self.tensors = engine, rows, tensors

    @abstractmethod
    def place(self, has_time: bool) -> Int64Array:
        """The control (`qrnn.backends.cpu.calls`) of calls over tensors with or without time."""

    @abstractmethod
    def recurrent(self, layer: QuantRecurrent) -> list[Call]:
        """The calls of a recurrent layer."""

    @abstractmethod
    def last_step(self, layer: QuantLastStep) -> list[Call]:
        """The calls that copy each sequence's last step."""

    def _place_of(self, tensor: str) -> Int64Array:
        return self.place(self.engine.model.tensors[tensor].has_time)

    def input_call(self, name: str) -> Call:
        """Checks and quantizes a graph input."""
        values, given = self.rows.inputs[name], next(i for i in self.engine.model.inputs if i.name == name)
        place = self.place(given.has_time)
        if values.dtype == np.int64:
            return self.engine.rows_call("check_tokens", place, values, given.vocabulary)
        fmt = self.engine.model.tensors[name]
        factors = scaling(fmt.scales, fmt.limit, values.dtype)
        return self.engine.rows_call("quantize", place, values, self.tensors[name], factors, fmt.limit)

    def output_calls(self, name: str) -> list[Call]:
        """Put a graph output together from its parts."""
        output = next(o for o in self.engine.model.outputs if o.name == name)
        calls, whole = [], self.engine.model.whole_tensor(output)
        place, out = self.place(output.has_time), self.rows.outputs[name]
        for tensor, indices, positions in output.parts:
            scale, q = self.engine.model.tensors[tensor].scales, self.tensors[tensor]
            if tensor == whole and len(scale) == 1:
                calls.append(self.engine.rows_call("dequantize_whole", place, out, q, scale))
                continue
            which = _ints(indices), _ints(positions)
            calls.append(self.engine.rows_call("dequantize", place, out, q, scale, *which))
        return calls

    def layer_calls(self, layer: Any) -> list[Call]:
        """The calls of a layer."""
        engine, tensors = self.engine, self.tensors
        place, out = self._place_of(layer.output), tensors[layer.output]
        match layer:
            case QuantRecurrent():
                return self.recurrent(layer)
            case QuantDense():
                return [engine.dense_call(layer, place, tensors[layer.input], out)]
            case QuantPointwise():
                return [engine.pointwise_call(layer, place, tensors[layer.input], out)]
            case QuantSoftmax():
                return [engine.softmax_call(layer, place, tensors[layer.input], out)]
            case QuantAdd():
                return [engine.rows_call("add", place, *layer.shifts, tensors[layer.left], tensors[layer.right], out)]
            case QuantEmbedding():
                tokens = self.rows.inputs[layer.input]
                return [engine.rows_call("embedding", place, layer.table, tokens, out)]
            case QuantConcat():
                calls, first = [], 0
                for part in layer.parts:
                    formats = (_ints(part.indices), part.in_frac, layer.out_frac)
                    calls.append(engine.rows_call("concat_part", place, first, *formats, tensors[part.tensor], out))
                    first += len(part.indices)
                return calls
            case QuantLastStep():
                return self.last_step(layer)
        raise AssertionError(f"a layer of kind {type(layer).__name__} has no step")


def _ints(indices: Any) -> Int64Array:
    return np.ascontiguousarray(indices, np.int64)
