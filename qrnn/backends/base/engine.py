"""Every backend shares the walk through a model's layers; a subclass of `Engine` brings the loops of each kind of layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from qrnn.backends.base.buffers import DeviceRows, SequenceRows, StreamRows
from qrnn.backends.base.runs import DeviceResult, LayerState, Ran, Trace, given_lengths, stepped
from qrnn.errors import BackendError
from qrnn.model.boundary import dequantize_array, quantize_array
from qrnn.model.definitions import PLAIN, plain, run_row_loops, run_step_loop
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.layer import QuantLayer
from qrnn.model.layer_facts import RowLoop
from qrnn.model.parts import FloatArray, IndexArray, Int16Array, Int32Array, Int64Array, TensorFormat
from qrnn.model.quant_model import QuantModel
from qrnn.model.real_types import FLOAT64, as_type
from qrnn.model.time import TimeAxis

Choose = Callable[[Int64Array, npt.NDArray[np.uint32]], Int64Array]
"""A function (scores [M, V], words of draws [M, 4]) → tokens [M]; see `qrnn.model.choosing.choose_rows`."""


class Engine(ABC):
    """A model laid out for one backend. Engines hold no state between calls: many threads may use one at once."""

    name: ClassVar[str]

    takes_isa: ClassVar[bool] = False

    takes_cache: ClassVar[bool] = False
    """Whether the backend keeps compiled code in a folder that can be chosen."""

    chunk_elements: ClassVar[int] = 1 << 24
    """Batches are run in pieces of about this many elements of the widest tensor, so that memory stays bounded."""

    takes_device_arrays: ClassVar[bool] = False
    """Whether `run_on_device` reads arrays that lie on a CUDA device."""

    tuning_type: ClassVar[type | None] = None
    """The class of the ``tuning`` that the backend takes; None where it takes none."""

    def __init__(
        self, model: QuantModel, threads: int | None = None, isa: str | None = None, tuning: object | None = None
    ) -> None:
        """Lay ``model`` out for the backend.

        ``threads`` is the most threads that a call uses, all cores when None; a backend without threads ignores it. ``isa`` is the
        instruction set, for a backend that has a choice. ``tuning`` holds thresholds, of the backend's own class. Raises BackendError for
        an ``isa`` or a ``tuning`` that the backend does not take.
        """
        if tuning is not None and (self.tuning_type is None or not isinstance(tuning, self.tuning_type)):
            own = self.tuning_type
            expected = "leave it out" if own is None else f"expected a {own.__module__}.{own.__qualname__}"
            raise BackendError(f"tuning={tuning!r}: backend {self.name!r} takes no such tuning; {expected}")
        if isa is not None and not self.takes_isa:
            raise BackendError(
                f"isa={isa!r}: backend {self.name!r} has no instruction sets to choose from; leave it out"
            )
        self.model = model
        self.threads = threads

    def warm_up(self, batch: int | None, steps: int | None, streams: int | None) -> bool:
        """Compile what runs of ``batch`` sequences and ``steps`` steps, and ``streams`` streams, need; of any number where None.

        Returns False where only a run compiles what it needs.
        """
        return False

    def streams(self, capacity: int, real: npt.DTypeLike = np.float64) -> StreamRows | None:
        """Return buffers for ``capacity`` streams with reals of type ``real``, or None where the backend has no own way to step them.

        It is called for models of which no layer reads backwards, and every layer has memory.
        """
        return None

    def sequences(
        self, size: int, steps: int, real: npt.DTypeLike, given: npt.DTypeLike = np.float64
    ) -> SequenceRows | None:
        """Return buffers for ``size`` sequences of ``steps`` steps, or None where the backend has no way to run them at less cost than `run`.

        Inputs are of type ``real``, outputs of type ``given``.
        Such runs carry every state on: a model with a layer without memory is run so in sequences of one step alone.
        """
        return None

    @abstractmethod
    def recurrent(
        self, layer: QuantRecurrent, x: Int16Array, state: LayerState, lengths: IndexArray, trace: Trace | None
    ) -> tuple[Int16Array, LayerState]:
        """Run a recurrent layer: x [N, T, I] int16 gives Y [N, T, D·P] int16 and the final state.

        ``state`` is that before the first step. A run with a ``trace`` records the layer's integers there.
        """

    def rows(self, layer: QuantLayer, *inputs: Int16Array | IndexArray) -> Int16Array:
        """Return the rows of the output of a layer with `by_rows`, [M, F'] int16, from the rows of its inputs: [M, F] int16, or [M] tokens.

        Here the layer's own definition computes them, on Python's integers. A backend overrides this for the kinds of layers that it
        computes in a faster way to the same integers.
        """
        given = dict(zip(layer.inputs, inputs, strict=True))
        return run_row_loops(layer.row_loops(), given, len(inputs[0]), self.features_of(layer.output))

    def chooser(self, loop: RowLoop, count: int) -> Choose:
        """Return a function that chooses among ``count`` tokens by the definition `qrnn.model.choosing.choice_loop`, for one thread at a time.

        Here it runs on Python's integers. A backend that compiles definitions overrides this.
        """
        rows, parameters = loop.make(PLAIN), [plain(value) for value in loop.parameters]

        def choose(scores: Int64Array, words: npt.NDArray[np.uint32]) -> Int64Array:
            out = np.zeros((len(scores), 1), object)
            rows(0, len(scores), *parameters, plain(scores), plain(words), out)
            return out[:, 0].astype(np.int64)

        return choose

    def run_on_device(
        self,
        inputs: Mapping[str, Any],
        lengths: Any,
        begin: Callable[[int, Mapping[str, FloatArray]], Mapping[str, LayerState]],
        one_step: bool,
        end: bool,
        real: str | None = None,
    ) -> DeviceResult:
        """Run a user's arrays, some of which lie on a device, and leave the results there.

        Parameters
        ----------
        inputs, lengths: arrays by graph input name, and lengths, as for `qrnn.Session.run`.
        begin: gives the states before the first step, for a number of sequences and the graph state inputs among ``inputs``.
        one_step: whether arrays have no time axis.
        end: as for `run`.
        real: the character of the type of the outputs; None for that of the inputs (`qrnn.model.real_types`).
        """
        raise BackendError(
            f"backend {self.name!r} reads arrays of the host alone; copy these to the host, or use backend 'cuda'"
        )

    def device_rows(
        self, size: int, steps: int | None, real: str, start: Mapping[str, LayerState], lengths: IndexArray
    ) -> DeviceRows:
        """Return buffers on the device for ``size`` streams whose states begin with ``start``; see `DeviceRows`.

        ``real`` is the type of real inputs and of outputs; ``lengths`` [size] counts the steps of a call that each stream takes. Raises
        BackendError where the backend keeps no streams on a device.
        """
        raise BackendError(f"backend {self.name!r} keeps no streams on a device; use Session.stream, or backend 'cuda'")

    def to_host(self, array: Any) -> Any:
        """Return an array of a state on the host."""
        return array

    def quantize(self, values: FloatArray, fmt: TensorFormat) -> Int16Array:
        """Return real values [..., F] as int16 of a tensor's format; a backend may have a faster way to the same integers."""
        return quantize_array(values, fmt)

    def dequantize(self, q: Int16Array | Int32Array, fmt: TensorFormat, real: str = FLOAT64) -> FloatArray:
        """Return (q + offset) · scale, [..., F], the product in float64 and then in the type of character ``real``.

        A backend may have a faster way to the same numbers.
        """
        return as_type(dequantize_array(q, fmt), real)

    def steps(
        self,
        layer: QuantLayer,
        inputs: Sequence[Int16Array],
        states: LayerState,
        lengths: IndexArray,
        out_rows: int,
        past: int,
    ) -> tuple[Int16Array, IndexArray]:
        """Run the `step_loop` of a layer over sequences; a backend may have a faster way to the same integers.

        Parameters
        ----------
        layer: a layer with `by_steps`.
        inputs: those of the layer, [N, T, F] int16 each, with as many steps.
        states: the arrays of its state, [N, *shape] each, which are replaced by those after the last step.
        lengths: [N], the steps of each sequence.
        out_rows: the most rows that a sequence may give.
        past: steps past the end of each sequence, in which its input is zero.

        Returns
        -------
        y [N, out_rows, F'] int16, zero behind the rows of a sequence, and the number of rows of each sequence, [N] int64.
        """
        features = self.features_of(layer.output)
        return run_step_loop(layer.step_loop(), inputs, states, lengths, out_rows, features, past)

    def features_of(self, tensor: str) -> int:
        """Return the number of features of a tensor of the model."""
        return self.model.tensors[tensor].features

    def run(
        self,
        inputs: Mapping[str, Int16Array | IndexArray],
        states: Mapping[str, LayerState],
        lengths: IndexArray | Mapping[str, IndexArray],
        trace: Trace | None = None,
        end: bool = True,
    ) -> Ran:
        """Run all layers on quantized ``inputs``, and return every tensor and the state of every layer that has one.

        ``lengths`` [N] counts the steps of each sequence; for several time axes it maps their names to such arrays. ``end`` says that the
        sequences end with these steps, so that layers with a delay give what they still hold back. The final state of a layer without
        memory is the state that it was given, since each of its steps begins with it.
        """
        model, tensors, final = self.model, dict[str, Any](inputs), dict[str, LayerState]()
        ran = given_lengths(model, lengths)
        for layer in model.layers:
            read = layer.inputs[0]
            if layer.repeated is not None:
                steps = layer.repeats or tensors[read].shape[1]
                tensors[layer.output] = np.repeat(tensors[layer.repeated][:, None], steps, axis=1)
                ran[layer.output] = np.full_like(ran[read], steps) if layer.repeats else ran[read]
            elif isinstance(layer, QuantRecurrent):
                y, after = self._recurrent(layer, tensors, states, ran[read], trace)
                tensors[layer.output], ran[layer.output] = y, ran[read]
                for name, state in zip(layer.outputs[1:], after, strict=False):
                    tensors[name] = stepped(state.reshape(len(state), -1), ran[read])
                    ran[name] = np.minimum(ran[read], 1)
                if layer.states():
                    before = states[layer.name]
                    final[layer.name] = layer.after(after, before, ran[read]) if layer.memory else before
            elif layer.by_rows:
                tensors[layer.output] = self._by_rows(layer, tensors)
                ran[layer.output] = ran[read]
            elif layer.read_whole:
                tensors[layer.output] = self._over_whole(layer, tensors, ran)
                ran[layer.output] = ran[read]
            elif layer.by_steps:
                own = tuple(array.copy() for array in states[layer.name])
                past = layer.steps_past_end if end else 0
                given = self._cut(layer, tensors)
                y, count = self.steps(layer, given, own, ran[read], layer.rows_in(given[0].shape[1]), past)
                tensors[layer.output], ran[layer.output] = y[:, : max(1, int(count.max()))], count
                final[layer.name] = own
            else:
                x = tensors[read]
                last = x[np.arange(len(x)), np.maximum(ran[read], 1) - 1]
                zero = model.tensors[layer.output].nearest_zero
                tensors[layer.output], ran[layer.output] = stepped(last, ran[read], zero), np.minimum(ran[read], 1)
        return Ran({name: value for name, value in tensors.items() if value.dtype != np.int64}, final, ran)

    def _over_whole(self, layer: QuantLayer, tensors: Mapping[str, Any], ran: Mapping[str, IndexArray]) -> Int16Array:
        """Return the output of a layer each of whose steps reads whole sequences."""
        read, whole = tensors[layer.inputs[0]], [np.ascontiguousarray(tensors[name]) for name in layer.read_whole]
        counts = ran[layer.read_whole[0]].astype(np.int32)[:, None]
        given, steps = [read] * len(layer.inputs), read.shape[1]
        return self.steps(layer, given, (*whole, counts, counts), ran[layer.inputs[0]], steps, 0)[0]

    def _cut(self, layer: QuantLayer, tensors: Mapping[str, Any]) -> list[Any]:
        """Return the inputs of a layer; those over time, which have equal lengths, are cut to the fewest steps that one has."""
        given = [tensors[name] for name in layer.inputs]
        if not self.model.tensors[layer.output].has_time:
            return given
        steps = min(x.shape[1] for x in given)
        return [x[:, :steps] for x in given]

    def _by_rows(self, layer: QuantLayer, tensors: Mapping[str, Any]) -> Int16Array:
        """Return the output of a layer with `by_rows`."""
        given = self._cut(layer, tensors)
        lead = given[0].shape[: 2 if self.model.tensors[layer.output].has_time else 1]
        rows = (np.ascontiguousarray(x.reshape(-1, *x.shape[len(lead) :])) for x in given)
        return self.rows(layer, *rows).reshape(*lead, self.features_of(layer.output))

    def _recurrent(
        self,
        layer: QuantRecurrent,
        tensors: Mapping[str, Any],
        states: Mapping[str, LayerState],
        lengths: IndexArray,
        trace: Trace | None,
    ) -> tuple[Int16Array, LayerState]:
        """Return the output of a recurrent layer, [N, T, F], and h and c after the last step; a ``trace`` has the cell's own sequences."""
        x = tensors[layer.input]
        group, given, size = layer.grouping, TimeAxis(lengths, x.shape[1]), len(x)
        run = self.recurrent if layer.memory else self._forgetful
        y, after = run(layer, group.apart(x), layer.starts(states, tensors, given), group.axis(given).lengths, trace)
        return group.together(y, size), tuple(group.states_together(state, size) for state in after)

    def _forgetful(
        self, layer: QuantRecurrent, x: Int16Array, state: LayerState, lengths: IndexArray, trace: Trace | None
    ) -> tuple[Int16Array, LayerState]:
        """Run `recurrent` of a layer without memory, where each step is a sequence of its own; the states are those after the last step."""
        N, T, _ = x.shape
        if T == 1:
            return self.recurrent(layer, x, state, lengths, trace)
        own = Trace()
        y, after = self.recurrent(
            layer,
            np.ascontiguousarray(x.reshape(N * T, 1, -1)),
            tuple(np.repeat(array, T, axis=0) for array in state),
            (np.arange(T) < lengths[:, None]).reshape(-1).astype(np.int64),
            None if trace is None else own,
        )
        if trace is not None:
            trace.arrays.update({name: a.reshape(N, T, a.shape[-1]) for name, a in own.arrays.items()})
        last = np.arange(N) * T + np.maximum(lengths, 1) - 1
        return y.reshape(N, T, y.shape[-1]), tuple(array[last] for array in after)
