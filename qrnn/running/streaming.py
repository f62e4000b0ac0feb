"""Streams: models that are fed one time step at a time, alone or thousands together, with the bits of the whole run.

`Stream` and `StreamPool` keep their states inside, in the rows of one `StreamRows`, where `Session.step` takes and returns them as values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy import ndarray

from qrnn.backends.base import LayerState, ModelRows, SequenceRows, StreamRows
from qrnn.errors import DataError
from qrnn.model.batch import Batch, as_array, check_mapping, checked_lengths, make_batch
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.quant_model import QuantModel
from qrnn.running.state import Runner, State

DEVICE_REALS = ("float32", "float64")
"""Types of the real inputs of a `DeviceStream`."""

_TOKENS = np.dtype(np.int64).char
_KINDS = {"d": "efd", "f": "ef", _TOKENS: "bhilqBHI"}
"""NumPy's type characters of arrays that are copied as they are into float64, float32 and int64, which hold all of their values."""


def check_streamable(model: QuantModel) -> None:
    """DataError where a layer needs the end of a sequence to begin."""
    for layer in model.recurrent_layers:
        if any(d.reverse for d in layer.directions):
            raise DataError(
                f"layer {layer.name!r} reads the sequence backwards and cannot be streamed; use run with whole sequences"
            )


def check_remembers(model: QuantModel) -> None:
    """DataError where nothing is kept from step to step, so that there is nothing to stream."""
    if model.rows:
        raise DataError(
            f"model {model.name!r} keeps nothing from step to step and cannot be streamed: use run with rows [N, …], or convert with "
            "--stream for a model that remembers"
        )


class StreamIO:
    """Users' arrays in and out of a `StreamRows`."""

    def __init__(self, session: Runner, capacity: int) -> None:
        check_streamable(session.model)
        check_remembers(session.model)
        self.model = session.model
        own = session.engine.streams(capacity) if all(r.memory for r in self.model.recurrent_layers) else None
        self.streams: StreamRows = own or _SessionStreams(session, capacity)
        self._views, self._run = _Views(self.streams, 0), self.streams.runner(0)

    def step(self, inputs: Mapping[str, Any], count: int) -> dict[str, FloatArray]:
        """One step of the first ``count`` rows: arrays [count, *shape] in and out. DataError, and no state changed, for what does not fit."""
        views = self._views
        if views.count != count:
            views = self._views = _Views(self.streams, count)
            self._run = self.streams.runner(count)
        if type(inputs) is not dict:
            check_mapping(inputs)
        for name, view, shape, kinds in views.inputs:
            value = inputs.get(name)
            if type(value) is not ndarray or value.shape != shape or value.dtype.char not in kinds:
                self._put_checked(inputs, views)
                break
            view[...] = value
        if len(inputs) != len(views.inputs):
            self._put_checked(inputs, views)  # says what is too much
        if self._run():
            self.refuse(inputs)
        outputs = {}
        for name, copy in views.copies:  # a comprehension would take 0.1 µs more
            outputs[name] = copy()
        return outputs

    def refuse(self, inputs: Mapping[str, Any]) -> None:
        """DataError for inputs that `StreamRows.run` did not take."""
        self._checked(inputs)  # says where
        raise AssertionError("an input was refused in compiled code and accepted outside")

    def places(self, count: int) -> tuple[dict[str, npt.NDArray[Any]], dict[str, FloatArray]]:
        """Where `StreamRows.run` reads inputs and writes outputs of the first ``count`` rows."""
        views = _Views(self.streams, count)
        return {name: view for name, view, _, _ in views.inputs}, dict(views.outputs)

    def _put_checked(self, inputs: Mapping[str, Any], views: _Views) -> None:
        batch = self._checked(inputs)
        if batch.size != views.count:
            raise DataError(f"inputs of {batch.size} streams, expected {views.count}")
        for name, rows, shape, _ in views.inputs:
            rows[...] = (batch.tokens if name in batch.tokens else batch.features)[name].reshape(shape)

    def _checked(self, inputs: Mapping[str, Any]) -> Batch:
        given = one_step(self.model, inputs)
        for graph_input in self.model.inputs:
            if graph_input.kind in ("state", "lengths") and graph_input.name in given:
                raise DataError(
                    f"input {graph_input.name!r} of kind {graph_input.kind} has no place in a stream's step; give states when it is opened"
                )
        return make_batch(self.model.inputs, given)

    def state(self, rows: slice | IndexArray) -> State:
        """The states of those rows, copied."""
        return State({name: (h[rows].copy(), c[rows].copy()) for name, (h, c) in self.streams.layers.items()})

    def set_state(self, rows: slice | IndexArray, state: State) -> None:
        """Copy the states of as many streams into rows."""
        for name, (h, c) in self.streams.layers.items():
            h[rows], c[rows] = state.layers[name]


class _Views:
    """The rows of the first ``count`` streams or sequences, in the shapes that users know."""

    def __init__(self, rows: ModelRows, count: int) -> None:
        self.count = count
        model, timed = rows.model, (count,) if rows.steps is None else (count, rows.steps)
        self.inputs: list[tuple[str, npt.NDArray[Any], tuple[int, ...], str]] = []
        for graph_input in model.inputs:
            if graph_input.name in rows.inputs:
                lead = timed if graph_input.has_time else (count,)
                view = rows.inputs[graph_input.name][: math.prod(lead)].reshape(*lead, *graph_input.shape)
                kinds = _KINDS[view.dtype.char]
                self.inputs.append((graph_input.name, view, view.shape, kinds))
        self.outputs: list[tuple[str, FloatArray]] = []
        for output in model.outputs:
            lead = timed if output.has_time else (count,)
            self.outputs.append(
                (output.name, rows.outputs[output.name][: math.prod(lead)].reshape(*lead, *output.shape))
            )
        self.copies = [(name, view.copy) for name, view in self.outputs]
        """Of each output, what makes a copy for the user to keep."""


class SequenceIO:
    """Users' arrays in and out of a backend's way of its own to run whole sequences of one shape."""

    def __init__(self, session: Runner, rows: SequenceRows) -> None:
        self._rows, self._views = rows, _Views(rows, rows.size)
        self._start = session.initial_state(rows.size)
        self._states = [(name, h, c, c.size > 0) for name, (h, c) in rows.layers.items()]
        self._made = [
            (name, view.shape, np.empty if name in rows.whole else np.zeros) for name, view in self._views.outputs
        ]

    def begin(self, state: State | None) -> Mapping[str, LayerState]:
        """The states before the first step."""
        return (self._start if state is None else state).layers

    def run(
        self, inputs: Mapping[str, Any], state: State | None
    ) -> tuple[dict[str, FloatArray], dict[str, LayerState]] | None:
        """Outputs and final states; None for what has to be looked at more closely."""
        rows, views = self._rows, self._views
        if len(inputs) != len(views.inputs):
            return None
        for name, view, shape, kinds in views.inputs:
            value = inputs.get(name)
            if type(value) is not ndarray or value.shape != shape or value.dtype.char not in kinds:
                return None
            tokens = view.dtype.char == _TOKENS
            # a type's character says nothing of its byte order, and `carray` neither
            as_it_is = value.dtype.char == view.dtype.char and value.dtype.isnative and value.flags.carray
            if tokens or not as_it_is:
                view[...] = value
                value = view
            if not tokens:
                rows.read_from(name, value)
        begin = self.begin(state)
        for name, h, c, has_c in self._states:
            given_h, given_c = begin[name]
            h[...] = given_h
            if has_c:
                c[...] = given_c
        outputs = {}
        for name, shape, make in self._made:
            outputs[name] = values = make(shape)
            rows.write_to(name, values)
        if not rows.run(rows.size):
            return None
        return outputs, {name: (h.copy(), c.copy() if has_c else c) for name, h, c, has_c in self._states}


def one_step(model: QuantModel, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays of one step [N, …] with the time axis that sequences have. What has no batch axis is left as it is, to be refused."""
    check_mapping(inputs)
    timed = {i.name for i in model.inputs if i.has_time}
    arrays = {name: as_array(f"input {name!r}", value) for name, value in inputs.items()}
    return {name: v[:, None] if name in timed and v.ndim else v for name, v in arrays.items()}


class _SessionStreams(StreamRows):
    """Streams of any backend, each step a batch of one."""

    def __init__(self, session: Runner, capacity: int) -> None:
        super().__init__(session.model, capacity)
        self._session = session

    def run(self, count: int) -> bool:
        try:
            batch = make_batch(self.model.inputs, one_step(self.model, {k: v[:count] for k, v in self.inputs.items()}))
        except DataError:
            return False
        rows = self.rows[:count]
        state = State({name: (h[rows], c[rows]) for name, (h, c) in self.layers.items()})
        result, _ = self._session.run_batch(batch, state)
        for name, (h, c) in self.layers.items():
            h[rows], c[rows] = result.state.layers[name]
        for name, values in self.outputs.items():
            values[:count] = result.outputs[name].reshape(count, -1)
        return True


class Stream:
    """``size`` streams that step together, their state kept between calls: `Session.step` at the least cost.

    Not for several threads at once; a `Session` makes as many as are wanted.
    """

    def __init__(self, session: Runner, size: int = 1, state: State | None = None) -> None:
        """``state``: of ``size`` streams, from `Session.initial_state`, `Session.run` or another stream; the model's own start without it."""
        if size < 1:
            raise DataError(f"size={size}, expected at least 1")
        self._session, self.size = session, size
        self._io = StreamIO(session, size)
        self._run = self._io.streams.runner(size)
        inputs, outputs = self._io.places(size)
        self.inputs: Mapping[str, npt.NDArray[Any]] = MappingProxyType(inputs)
        """Where `advance` reads: arrays [size, *shape] by graph input name, float64 (tokens int64), that stay the same for as long as the
        stream. Write into them, as in ``stream.inputs["x"][...] = frame``; another array cannot take their place."""
        self.outputs: Mapping[str, FloatArray] = MappingProxyType(outputs)
        """Where `advance` writes, by graph output name; copy what is to outlive the next step."""
        self.reset(state)

    def step(self, inputs: Mapping[str, Any]) -> dict[str, FloatArray]:
        """One time step: float arrays [size, *shape] by graph input name → the same by graph output name.

        DataError for what does not fit; the state then stays as it was.
        """
        return self._io.step(inputs, self.size)

    def advance(self) -> None:
        """One time step from ``inputs`` to ``outputs``, in place: as `step`, with nothing looked up, allocated or copied.

        DataError for values that are out of range; the state then stays as it was.
        """
        if self._run():
            self._io.refuse(self.inputs)

    @property
    def state(self) -> State:
        """The state now, as a value."""
        return self._io.state(slice(None))

    def reset(self, state: State | None = None) -> None:
        """Begin anew, from ``state`` or from the model's own start."""
        if state is None:
            state = self._session.initial_state(self.size)
        else:
            self._session.check_state(state, self.size)
        self._io.set_state(slice(None), state)


class DeviceStream:
    """``size`` streams that go on together on the CUDA device, where inputs, outputs and state stay; `Session.device_stream` makes one.

    A call of `advance` reads ``inputs``, writes ``outputs`` and replaces the state. These arrays stay the same for as long as the stream.
    They are Numba's, with the CUDA array interface, so that other libraries share their memory::

        stream = session.device_stream(size=8)
        x, y = (torch.as_tensor(a, device="cuda") for a in (stream.inputs["x"], stream.outputs["y"]))
        x.copy_(frame)
        stream.advance()          # y has the step's output

    A call does not wait for the device. Values that `Session.step` would refuse therefore become 0 and are counted; `check` and ``state`` wait
    and raise. Not for several threads at once. The bits are those of `Session.step` and `Session.run`.
    """

    def __init__(
        self,
        session: Runner,
        size: int = 1,
        state: State | None = None,
        steps: int | None = None,
        real: str = "float32",
        lengths: IndexArray | None = None,
    ) -> None:
        """See `Session.device_stream`; ``lengths`` [size]: how many of the steps each stream takes in a call, all without it."""
        check_streamable(session.model)
        check_remembers(session.model)
        for name, value in (("size", size), *([] if steps is None else [("steps", steps)])):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise DataError(f"{name}={value!r}, expected a whole number of at least 1")
        if real not in DEVICE_REALS:
            raise DataError(f"real={real!r}, expected one of {', '.join(map(repr, DEVICE_REALS))}")
        self._session, self.size, self.steps = session, int(size), None if steps is None else int(steps)
        known = checked_lengths(lengths, self.size, self.steps or 1)
        start = session.initial_state(self.size).layers
        self._rows = session.engine.device_rows(self.size, self.steps, real, start, known)
        self.inputs: Mapping[str, Any] = MappingProxyType(self._rows.inputs)
        """Where `advance` reads, by graph input name: [size, *shape], or [size, steps, *shape] of an input over time where ``steps`` are given.
        Of the type ``real``, or int64 tokens. Zero at first."""
        self.outputs: Mapping[str, Any] = MappingProxyType(self._rows.outputs)
        """Where `advance` writes, by graph output name: [size, *shape] or [size, steps, *shape], float64. The next call writes over them."""
        if state is not None:
            self.reset(state)

    @property
    def not_captured(self) -> str | None:
        """Why `advance` launches its kernels one by one; None where it launches a graph."""
        return self._rows.not_captured

    def advance(self, stream: int = 0) -> None:
        """One time step from ``inputs`` to ``outputs``, or ``steps`` of them, queued on a CUDA stream.

        ``stream`` is its number, such as ``torch.cuda.current_stream().cuda_stream``; 0 is the legacy default stream, on which the rest of
        backend cuda works.
        """
        self._rows.advance(stream)

    def check(self) -> None:
        """Wait for the device. DataError where a call since the last check, or the last reset, read a value that is refused.

        The states and outputs since then are those of zeros in its place: go on with `reset`.
        """
        if (refused := self._rows.refused()) is not None:
            raise DataError(f"{refused}; the calls since the last check took them as 0, begin anew with reset")

    @property
    def state(self) -> State:
        """The state now, as a value whose arrays are on the device; waits and raises as `check` does."""
        self.check()
        return State(self._rows.layers())

    def reset(self, state: State | None = None) -> None:
        """Begin anew, from ``state`` of as many streams (from `Session.initial_state`, `run`, `step` or a stream) or from the model's start."""
        if state is None:
            state = self._session.initial_state(self.size)
        else:
            self._session.check_state(state, self.size, on_device=True)
        self._rows.set_layers(state.layers)


_ROW_BITS = 32


class StreamPool:
    """Any number of independent streams of one model, any of which get a step per call, together through the backend's matrix kernels.

    Streams open and close at any time; each has the bits that it would have alone. Not for several threads at once: a call spreads its work
    over the session's ``threads`` by itself. A stream is known by a number that no later stream gets.
    """

    def __init__(self, session: Runner, capacity: int = 64) -> None:
        """``capacity``: streams to make room for; it grows as they open."""
        if capacity < 1:
            raise DataError(f"capacity={capacity}, expected at least 1")
        self._session = session
        self._io = StreamIO(session, capacity)
        self._generation = np.zeros(capacity, np.int64)  # odd while the row's stream is open
        self._last_seen = np.zeros(capacity, np.int64)
        self._free = list(range(capacity - 1, -1, -1))
        self._start = session.initial_state(1)

    def __len__(self) -> int:
        """Streams that are open."""
        return self.capacity - len(self._free)

    @property
    def capacity(self) -> int:
        """Streams that there is room for."""
        return len(self._generation)

    def open(self, state: State | None = None) -> int:
        """A new stream's number; ``state`` of one stream, the model's own start without it."""
        if state is not None:
            self._session.check_state(state, 1)
        if not self._free:
            self._grow()
        row = self._free.pop()
        self._generation[row] += 1
        self._io.set_state(slice(row, row + 1), state or self._start)
        return int(self._generation[row]) << _ROW_BITS | row

    def close(self, stream: int) -> None:
        """Forget a stream. DataError for one that is not open."""
        row = int(self._rows([stream])[0])
        self._generation[row] += 1
        self._free.append(row)

    def state(self, stream: int) -> State:
        """A stream's state, as a value."""
        return self._io.state(self._rows([stream]))

    def step(self, streams: Sequence[int] | IndexArray, inputs: Mapping[str, Any]) -> dict[str, FloatArray]:
        """One time step of ``streams``, each at most once: row k of every array, in and out, is that of streams[k].

        DataError for what does not fit; no state is changed then.
        """
        rows = self._rows(streams)
        count = len(rows)
        if not count:
            return {o.name: np.zeros((0, *o.shape)) for o in self._session.model.outputs}
        self._io.streams.rows[:count] = rows
        return self._io.step(inputs, count)

    def _rows(self, streams: Any) -> IndexArray:
        numbers = as_array("streams", streams)
        if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
            raise DataError(f"streams: {numbers.dtype}{list(numbers.shape)}, expected the numbers of open streams, [n]")
        numbers = numbers.astype(np.int64, copy=False)
        rows: npt.NDArray[np.int64] = numbers & ((1 << _ROW_BITS) - 1)
        generation = numbers >> _ROW_BITS
        if numbers.size and (
            rows.max() >= self.capacity or not ((self._generation[rows] == generation) & (generation & 1)).all()
        ):
            known = (rows < self.capacity) & (generation & 1 == 1)
            known[known] = self._generation[rows[known]] == generation[known]
            raise DataError(f"stream {int(numbers[~known][0])} is not open")
        order = np.arange(len(rows))
        self._last_seen[rows] = order
        if (twice := self._last_seen[rows] != order).any():
            raise DataError(f"stream {int(numbers[twice][0])} is given twice; a stream takes one step a call")
        return rows

    def _grow(self) -> None:
        old, size = self._io, self.capacity
        self._io = StreamIO(self._session, 2 * size)
        for name, (h, c) in old.streams.layers.items():
            new_h, new_c = self._io.streams.layers[name]
            new_h[:size], new_c[:size] = h, c
        self._generation = np.concatenate([self._generation, np.zeros(size, np.int64)])
        self._last_seen = np.zeros(2 * size, np.int64)
        self._free = list(range(2 * size - 1, size - 1, -1))
