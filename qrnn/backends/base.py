"""What every backend shares: the walk through a model's layers. A subclass brings the loops of each kind of layer.

Arrays are batch first. ``lengths`` [N] int64 counts each sequence's real steps; everything past them is written as zero.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from qrnn.arithmetic import CONTRACT
from qrnn.errors import BackendError
from qrnn.model.batch import shortest
from qrnn.model.boundary import dequantize_array, quantize_array
from qrnn.model.cell_codes import refuse_without_kernel
from qrnn.model.kinds import kind_name
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.layer import QuantLayer
from qrnn.model.parts import FloatArray, IndexArray, Int16Array, Int32Array, Int64Array, TensorFormat
from qrnn.model.quant_model import QuantModel

StateArray = TypeVar("StateArray", Int16Array, Int32Array)

LayerState = tuple[Int16Array, Int32Array]
"""h [N, D, P] int16 and c [N, D, H] int32 (zero size for cells without c) of one recurrent layer."""


@dataclass
class Trace:
    """What a recurrent layer went through, by ``layer[d].pre`` [N, T, G·H] int16, ``.h`` int16 and ``.c`` int32 [N, T, H].

    In time order, zero on padding. ``pre`` holds the saturated arguments of the gate functions.
    """

    arrays: dict[str, Int16Array | Int32Array] = field(default_factory=dict)


PLAIN = SimpleNamespace(**{function.__name__: function for function in CONTRACT})
"""The functions of the contract by name, on Python's integers."""


class ModelRows(ABC):
    """Places for a model's inputs, outputs and states, and `run`, which goes from the ones to the others. For one thread at a time.

    ``steps`` None: one time step. A tensor over time has a row for each step of each of ``size`` sequences, [size · steps, F], and else one
    for each sequence, [size, F]: ``inputs`` (real values of type ``real``, tokens [rows] int64) and ``outputs`` (float64). ``layers`` has
    the states, [size, …], before and after.
    """

    def __init__(self, model: QuantModel, size: int, steps: int | None = None, real: Any = np.float64) -> None:
        self.model, self.size, self.steps = model, size, steps
        self.inputs: dict[str, npt.NDArray[Any]] = {}
        for graph_input in model.inputs:
            rows = self.rows_of(graph_input.has_time)
            if graph_input.kind == "tokens":
                self.inputs[graph_input.name] = np.zeros(rows, np.int64)
            elif graph_input.kind == "features":
                self.inputs[graph_input.name] = np.zeros((rows, graph_input.features), real)
        self.outputs: dict[str, FloatArray] = {
            o.name: np.zeros((self.rows_of(o.has_time), o.features)) for o in model.outputs
        }
        self.layers: dict[str, LayerState] = {
            layer.name: (
                np.zeros((size, len(layer.directions), layer.output_size), np.int16),
                np.zeros((size, len(layer.directions), layer.cell_size), np.int32),
            )
            for layer in model.recurrent_layers
        }

    def rows_of(self, has_time: bool) -> int:
        """Rows of a tensor."""
        return self.size if self.steps is None or not has_time else self.size * self.steps

    @abstractmethod
    def run(self, count: int) -> bool:
        """Of the first ``count`` sequences; False where an input is out of its range."""


class StreamRows(ModelRows):
    """Streams: one step of those whose states are in rows ``rows[:count]`` of ``layers``, whose inputs and outputs are in rows [:count].

    No state changes where an input is out of its range.
    """

    def __init__(self, model: QuantModel, capacity: int) -> None:
        super().__init__(model, capacity)
        self.rows: Int64Array = np.arange(capacity)

    def runner(self, count: int) -> Callable[[], Any]:
        """`run` of so many, again and again, at the least cost; false when all is well."""
        return lambda: not self.run(count)


class SequenceRows(ModelRows):
    """Whole sequences of one shape; every layer's state is carried on."""

    @abstractmethod
    def read_from(self, name: str, values: npt.NDArray[Any]) -> None:
        """Let the next run read real values from there: contiguous, not read-only, as many as in ``inputs[name]`` and of the same type."""

    @abstractmethod
    def write_to(self, name: str, values: FloatArray) -> None:
        """Let the next run write an output there: contiguous float64, as many as in ``outputs[name]``; zeros, unless it is in ``whole``."""

    whole: frozenset[str]
    """Outputs of which a run writes every value."""


class DeviceRows(ABC):
    """Places on a device for the inputs, outputs and states of streams, and `advance`, which goes from the ones to the others.

    ``steps`` None: a call is one time step, and arrays are [size, *shape]; else tensors over time are [size, steps, *shape]. ``inputs`` and
    ``outputs`` are arrays on the device that stay the same. For one thread at a time.
    """

    inputs: dict[str, Any]
    outputs: dict[str, Any]

    not_captured: str | None
    """Why a call is launched kernel by kernel; None where it is one CUDA graph."""

    @abstractmethod
    def advance(self, stream: int) -> None:
        """Queue a call on a CUDA stream, by its number, without waiting for the device."""

    @abstractmethod
    def refused(self) -> str | None:
        """Wait for the device, and say which values since the last time were out of their range and taken as 0; None where all were in it."""

    @abstractmethod
    def layers(self) -> dict[str, LayerState]:
        """Copies of the states, on the device."""

    @abstractmethod
    def set_layers(self, layers: Mapping[str, LayerState]) -> None:
        """Begin anew with these states, on the device or the host. DataError, and no state changed, for values that no step ends at."""


class Engine(ABC):
    """A model laid out for one backend. Engines hold no state between calls: many threads may use one at once."""

    name: ClassVar[str]

    runs_every_cell: ClassVar[bool] = False
    """Whether it runs cells for which it has no kernel, by their step loops (`QuantRecurrent.direction_loop`)."""

    takes_isa: ClassVar[bool] = False

    takes_cache: ClassVar[bool] = False
    """Whether it keeps compiled code in a folder that can be chosen."""

    chunk_elements: ClassVar[int] = 1 << 24
    """Batches are run in pieces of about so many elements of the widest tensor, so that memory stays bounded."""

    takes_device_arrays: ClassVar[bool] = False
    """Whether `run_on_device` reads arrays that lie on a CUDA device."""

    tuning_type: ClassVar[type | None] = None
    """The class of the ``tuning`` that the backend takes; None where it takes none."""

    def __init__(
        self, model: QuantModel, threads: int | None = None, isa: str | None = None, tuning: object | None = None
    ) -> None:
        """``threads``: at most so many at once, all cores when None; a backend without threads ignores it by being exact anyway.

        ``isa``: the instruction set, for a backend that has a choice. ``tuning``: thresholds, of the backend's own class.
        """
        if tuning is not None and (self.tuning_type is None or not isinstance(tuning, self.tuning_type)):
            expected = "leave it out" if self.tuning_type is None else f"expected a {self.tuning_type.__name__}"
            raise BackendError(f"tuning={tuning!r}: backend {self.name!r} takes no such tuning; {expected}")
        if isa is not None and not self.takes_isa:
            raise BackendError(
                f"isa={isa!r}: backend {self.name!r} has no instruction sets to choose from; leave it out"
            )
        if not self.runs_every_cell:
            refuse_without_kernel(model.recurrent_layers, f"backend {self.name!r}")
        self.model = model
        self.threads = threads

    def warm_up(self, batch: int | None, steps: int | None, streams: int | None) -> bool:
        """Compile what runs of so many sequences and steps and so many streams need, of any number where None; False where a run has to."""
        return False

    def streams(self, capacity: int) -> StreamRows | None:
        """Rows for ``capacity`` streams, where the backend steps them in a way of its own; no layer reads backwards, and each remembers."""
        return None

    def sequences(self, size: int, steps: int, real: Any) -> SequenceRows | None:
        """Rows for ``size`` sequences of ``steps`` steps, where the backend has a way to run them that costs less than `run`.

        It carries every state on: a model with a layer without memory is run by it in sequences of one step alone.
        """
        return None

    @abstractmethod
    def recurrent(
        self, layer: QuantRecurrent, x: Int16Array, state: LayerState, lengths: IndexArray, trace: Trace | None
    ) -> tuple[Int16Array, LayerState]:
        """x [N, T, I] int16 → Y [N, T, D·H] int16 and the final state."""

    def rows(self, layer: QuantLayer, *inputs: Int16Array | IndexArray) -> Int16Array:
        """The rows of a layer's output, [M, F'], of the rows of its inputs, [M, F], or [M] tokens; for a layer with `by_rows`.

        A backend has a method with the name of each kind of layer for which it has loops of its own.
        """
        own = getattr(self, kind_name(type(layer)), None)
        return own(layer, *inputs) if own is not None else self.row_loops(layer, *inputs)

    def row_loops(self, layer: QuantLayer, *inputs: Int16Array | IndexArray) -> Int16Array:
        """`rows` by the layer's own definition, on Python's integers."""
        given = dict(zip(layer.inputs, (x.astype(object) for x in inputs), strict=True))
        out = np.zeros((len(inputs[0]), self.model.tensors[layer.output].features), object)
        for found in layer.row_loops():
            values = (p.astype(object) if isinstance(p, np.ndarray) else p for p in found.parameters)
            found.make(PLAIN)(0, len(out), *values, *(given[name] for name in found.inputs), out)
        return out.astype(np.int16)

    def run_on_device(
        self,
        inputs: Mapping[str, Any],
        lengths: Any,
        begin: Callable[[int, Mapping[str, FloatArray]], Mapping[str, LayerState]],
        one_step: bool,
    ) -> tuple[dict[str, Any], dict[str, LayerState]]:
        """User's arrays, some of them on a device → outputs and final states there.

        ``begin`` gives the states before the first step of so many sequences, with the graph state inputs among ``inputs``; ``one_step``:
        arrays have no time axis.
        """
        raise BackendError(f"backend {self.name!r} reads arrays of the host")

    def device_rows(
        self, size: int, steps: int | None, real: str, start: Mapping[str, LayerState], lengths: IndexArray
    ) -> DeviceRows:
        """Rows on the device for ``size`` streams, whose states begin with ``start``; see `DeviceRows`.

        ``real`` is the type of real inputs, ``lengths`` [size] the steps of a call that each stream takes.
        """
        raise BackendError(f"backend {self.name!r} keeps no streams on a device; use Session.stream, or backend 'cuda'")

    def to_host(self, array: Any) -> Any:
        """An array of a state, on the host."""
        return array

    def quantize(self, values: FloatArray, fmt: TensorFormat) -> Int16Array:
        """Real values [..., F] as int16 of a tensor's format; a backend may have a faster way to the same integers."""
        return quantize_array(values, fmt)

    def dequantize(self, q: Int16Array | Int32Array, fmt: TensorFormat) -> FloatArray:
        """q · scale, [..., F] float64, likewise."""
        return dequantize_array(q, fmt)

    def run(
        self,
        inputs: Mapping[str, Int16Array | IndexArray],
        states: Mapping[str, LayerState],
        lengths: IndexArray,
        trace: Trace | None = None,
    ) -> tuple[Mapping[str, Int16Array | Int32Array], dict[str, LayerState]]:
        """Every tensor of the model for quantized ``inputs``, and every recurrent layer's final state.

        That of a layer without memory is the state which it was given, since each of its steps begins with it.
        """
        tensors: dict[str, Any] = dict(inputs)
        final: dict[str, LayerState] = {}
        none_empty = shortest(lengths) > 0

        def stepped(x: StateArray) -> StateArray:
            """[N, F], zero for sequences of no steps: what a graph reads as their last value, while their state stays as it is."""
            return x if none_empty else np.where(lengths[:, None] > 0, x, x.dtype.type(0))

        for layer in self.model.layers:
            if layer.by_rows:
                given = [tensors[name] for name in layer.inputs]
                lead = given[0].shape[:2] if self.model.tensors[layer.output].has_time else given[0].shape[:1]
                rows = (np.ascontiguousarray(x.reshape(-1, *x.shape[len(lead) :])) for x in given)
                features = self.model.tensors[layer.output].features
                tensors[layer.output] = self.rows(layer, *rows).reshape(*lead, features)
            elif isinstance(layer, QuantRecurrent):
                run = self.recurrent if layer.memory else self._forgetful
                y, (h, c) = run(layer, tensors[layer.input], states[layer.name], lengths, trace)
                tensors[layer.output], tensors[layer.h_n] = y, stepped(h.reshape(h.shape[0], -1))
                if layer.c_n is not None:
                    tensors[layer.c_n] = stepped(c.reshape(c.shape[0], -1))
                final[layer.name] = (h, c) if layer.memory else states[layer.name]
            else:
                x = tensors[layer.inputs[0]]
                tensors[layer.output] = stepped(x[np.arange(len(lengths)), np.maximum(lengths, 1) - 1])
        return {name: value for name, value in tensors.items() if value.dtype != np.int64}, final

    def _forgetful(
        self, layer: QuantRecurrent, x: Int16Array, state: LayerState, lengths: IndexArray, trace: Trace | None
    ) -> tuple[Int16Array, LayerState]:
        """`recurrent` of a layer without memory, and the states after each sequence's last step: each step is a sequence of its own."""
        N, T, _ = x.shape
        if T == 1:
            return self.recurrent(layer, x, state, lengths, trace)
        own = Trace()
        y, (h, c) = self.recurrent(
            layer,
            np.ascontiguousarray(x.reshape(N * T, 1, -1)),
            (np.repeat(state[0], T, axis=0), np.repeat(state[1], T, axis=0)),
            (np.arange(T) < lengths[:, None]).reshape(-1).astype(np.int64),
            None if trace is None else own,
        )
        if trace is not None:
            trace.arrays.update({name: a.reshape(N, T, a.shape[-1]) for name, a in own.arrays.items()})
        last = np.arange(N) * T + np.maximum(lengths, 1) - 1
        return y.reshape(N, T, y.shape[-1]), (h[last], c[last])
