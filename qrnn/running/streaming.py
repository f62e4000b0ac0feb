"""A stream is fed one time step at a time, alone or with thousands of others, and has the bits of the whole run.

`Stream` and `StreamPool` keep their states inside, in the rows of one `StreamRows`; `Session.step` takes and returns them as values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy import ndarray

from qrnn.backends.base import LayerState, ModelRows, SequenceRows, StreamRows
from qrnn.errors import DataError
from qrnn.model.batch import Batch, as_array, check_mapping, make_batch, time_axes
from qrnn.model.in_words import counted
from qrnn.model.lateness import needs_whole
from qrnn.model.pad_values import without_padding
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.quant_model import QuantModel
from qrnn.model.real_types import FLOAT32, FLOAT64, NARROW, RealType, as_type, asked_type, real_names, type_of_inputs
from qrnn.model.stored_states import StoredStates
from qrnn.model.time import TimeAxis
from qrnn.running.integers import Integers
from qrnn.running.state import Runner, RunResult, State
from qrnn.running.step_limits import StepLimits, WatchedStreams
from qrnn.system.brief import Described, array_text

_TOKENS = np.dtype(np.int64).char
_KINDS = {FLOAT64: NARROW + FLOAT64, FLOAT32: NARROW, _TOKENS: "bhilqBHI"}
"""NumPy's type characters of arrays that are copied as they are into float64, float32 and int64, which hold all of their values."""


IN_PLACE_VALUES = 8192
"""A step whose output has so many values is spared copies, which then take longer than to say where the arrays are."""


def is_alike(value: npt.NDArray[Any], view: npt.NDArray[Any]) -> bool:
    """Return whether compiled code can read a user's array in the place of ``view``: of its type and contiguous.

    A type's character says nothing of its byte order, and `carray` neither.
    """
    return value.dtype.char == view.dtype.char and value.dtype.isnative and value.flags.carray


def check_streamable(model: QuantModel) -> None:
    """Raise DataError where a layer needs the end of a sequence to begin, or joins steps that do not come at the same time."""
    if (why := needs_whole(model)) is not None:
        instead = ", or pad the windows before each sequence alone" if model.uneven is not None else ""
        if model.waits is not None and any(layer.is_started for layer in model.recurrent_layers):
            instead = ", or give the sequences that come before whole, by inputs= of Session.stream"
        raise DataError(f"{why} and cannot be streamed; use run with whole sequences{instead}")


def check_one_row(model: QuantModel) -> None:
    """Raise DataError where several steps of an output may come out of one step, for which arrays on a device have no axis."""
    for name, rows in model.step_rows.items():
        if rows > 1:
            raise DataError(
                f"up to {rows} steps of output {name!r} come out of one step, which arrays on a device do not hold; step arrays of the host"
            )


def check_remembers(model: QuantModel) -> None:
    """Raise DataError where nothing is kept from step to step, so that there is nothing to stream."""
    if model.rows:
        raise DataError(
            f"model {model.name!r} keeps nothing from step to step and cannot be streamed: use run with rows [N, …], or convert with "
            "--stream for a model that remembers"
        )


class StreamIO:
    """Users' arrays on their way into a `StreamRows` and out of it.

    ``real`` names the type of outputs; without it each step gives the type that it is given (`qrnn.model.real_types`).
    """

    def __init__(self, session: Runner, capacity: int, real: str | None = None) -> None:
        check_streamable(session.model)
        check_remembers(session.model)
        self.model = session.model
        self._asked, self._reals = asked_type(real), real_names(self.model.inputs)
        plain = len(time_axes(self.model.inputs)) == 1 and all(r.memory for r in self.model.recurrent_layers)
        kind = self._asked or FLOAT64
        own = session.engine.streams(capacity, kind) if plain else None
        self.streams: StreamRows = own or _SessionStreams(session, capacity, kind)
        self._of_type = {kind: self.streams}
        self._watched = WatchedStreams(self.model, self.streams)
        self._bound = self._bind(_Way(kind, kind), 0)
        self._exact: _Bound | None = None

    @property
    def real(self) -> RealType:
        """Return the type of the latest step's outputs."""
        return "float32" if self._bound.way.gives == FLOAT32 else "float64"

    def step(self, inputs: Mapping[str, Any], count: int) -> dict[str, FloatArray]:
        """Take one step of the first ``count`` rows, whose arrays are [count, *shape]; DataError, with no state changed for a misfit."""
        if type(inputs) is not dict:
            check_mapping(inputs)
        bound = self._bound
        if bound.count != count:
            bound = self._bind(bound.way, count)
        if bound.lent:
            return self._step_in_place(inputs, bound)
        for name, view, shape, kinds in bound.inputs:
            value = inputs.get(name)
            if type(value) is not ndarray or value.shape != shape or value.dtype.char not in kinds:
                bound = self._put_slowly(inputs, count)
                break
            view[...] = value
        if len(inputs) != len(bound.inputs):
            self._put_checked(inputs, bound)  # says what is too much
        if bound.run():
            self.refuse(inputs)
        outputs = {}
        for name, copy in bound.copies:  # a comprehension would take 0.1 µs more
            outputs[name] = copy()
        return outputs

    def _step_in_place(self, inputs: Mapping[str, Any], bound: _Bound) -> dict[str, FloatArray]:
        """Take a step of many rows, which is spared copies: it reads the user's arrays where they are, and writes those that the user gets."""
        read: dict[str, npt.NDArray[Any]] = {}
        for name, view, shape, kinds in bound.inputs:
            value = inputs.get(name)
            if type(value) is not ndarray or value.shape != shape or value.dtype.char not in kinds:
                read, bound = {}, self._put_slowly(inputs, bound.count)
                break
            if name in bound.streams.read_in_place and is_alike(value, view):
                read[name] = value
            else:
                view[...] = value
        if len(inputs) != len(bound.inputs):
            self._put_checked(inputs, bound)
        written = {name: np.empty_like(view) for name, view in bound.lent.items()}
        bound.streams.lend(read, written)
        try:
            refused = bound.run()
        finally:
            bound.streams.take_back()
        if refused:
            self.refuse(inputs)
        return {name: written[name] if name in written else copy() for name, copy in bound.copies}

    def exact_step(self, inputs: Mapping[str, Any], count: int) -> dict[str, FloatArray]:
        """Take one step as `step` does, with outputs in float64, whatever was asked for."""
        if self._asked == FLOAT64 or (self._asked is None and not self._reals):
            return self.step(inputs, count)
        kept, self._asked = (self._asked, self._bound), FLOAT64
        try:
            self._bound = self._exact or self._bind(_Way(FLOAT64, FLOAT64), count)
            outputs = self.step(inputs, count)
            self._exact = self._bound
        finally:
            self._asked, self._bound = kept
        return outputs

    def _bind(self, way: _Way, count: int) -> _Bound:
        """Let the next steps be of the first ``count`` rows, and go ``way``."""
        streams = self._of_type.get(way.rows)
        if streams is None:
            streams = self._of_type[way.rows] = self.streams.alike(way.rows)
        taken = _KINDS[way.rows] if way.rows == self._asked or way.rows == FLOAT32 else FLOAT64
        self._bound = _Bound(way, streams, _Views(streams, count), taken, self._watched.runner(streams, count))
        return self._bound

    def _put_slowly(self, inputs: Mapping[str, Any], count: int) -> _Bound:
        """Put inputs in place that are not what the step before made likely."""
        given = type_of_inputs(self._reals, inputs)
        way = _Way(FLOAT32 if given == FLOAT32 and self._asked != FLOAT64 else FLOAT64, self._asked or given)
        bound = self._bound if self._bound.way == way else self._bind(way, count)
        for name, view, shape, _ in bound.inputs:
            value = inputs.get(name)
            if type(value) is not ndarray or value.shape != shape or value.dtype.char not in _KINDS[view.dtype.char]:
                self._put_checked(inputs, bound)
                break
            view[...] = value
        return bound

    def runner(self, count: int) -> Callable[[], Any]:
        """Return what takes a step of the first ``count`` rows of `places`; see `StreamRows.runner` and `WatchedStreams.runner`."""
        return self._watched.runner(self.streams, count)

    def refuse(self, inputs: Mapping[str, Any]) -> None:
        """Raise DataError for inputs that `StreamRows.run` did not take."""
        self._checked(inputs)  # says where
        raise AssertionError("an input was refused in compiled code and accepted outside")

    def places(self, count: int) -> tuple[dict[str, npt.NDArray[Any]], dict[str, FloatArray]]:
        """Return where `StreamRows.run` reads inputs and writes outputs of the first ``count`` rows."""
        views = _Views(self.streams, count)
        return {name: view for name, view, _, _ in views.inputs}, dict(views.outputs)

    def _put_checked(self, inputs: Mapping[str, Any], bound: _Bound) -> None:
        batch = self._checked(inputs)
        if batch.size != bound.count:
            raise DataError(f"inputs of {batch.size} streams, expected {bound.count}")
        for name, rows, shape, _ in bound.inputs:
            rows[...] = (batch.tokens if name in batch.tokens else batch.features)[name].reshape(shape)

    def _checked(self, inputs: Mapping[str, Any]) -> Batch:
        given = one_step(self.model, inputs)
        for graph_input in self.model.inputs:
            if graph_input.kind in ("state", "lengths") and graph_input.name in given:
                raise DataError(
                    f"input {graph_input.name!r} of kind {graph_input.kind} has no place in a stream's step; give states when it is opened"
                )
        return make_batch(without_padding(self.model.inputs), given)

    def state(self, rows: slice | IndexArray) -> State:
        """Return the states of those rows, copied."""
        return State(self.streams.layers).rows(rows)

    def set_state(self, rows: slice | IndexArray, state: State) -> None:
        """Copy the states of as many streams into rows."""
        self._watched.look_again()
        for name, arrays in self.streams.layers.items():
            for array, given in zip(arrays, state.layers[name], strict=True):
                array[rows] = given

    def lengths(self, count: int) -> dict[str, IndexArray]:
        """Return how many steps of each output came out in the latest step of the first ``count`` rows, [count], by name."""
        return {name: values[:count].copy() for name, values in self.streams.lengths.items()}


class _Views:
    """The rows of the first ``count`` streams or sequences, in the shapes that users know."""

    def __init__(self, rows: ModelRows, count: int) -> None:
        self.count = count
        model, steps = rows.model, rows.steps
        self.inputs: list[tuple[str, npt.NDArray[Any], tuple[int, ...], str]] = []
        for graph_input in model.inputs:
            if graph_input.name in rows.inputs:
                lead = (count,) if steps is None or not graph_input.has_time else (count, steps)
                view = rows.inputs[graph_input.name][: math.prod(lead)].reshape(*lead, *graph_input.shape)
                kinds = _KINDS[view.dtype.char]
                self.inputs.append((graph_input.name, view, view.shape, kinds))
        self.outputs: list[tuple[str, FloatArray]] = []
        for output in model.outputs:
            shape = model.step_shape(output) if steps is None else output.shape
            if steps is not None and output.has_time:
                shape = (rows.output_steps[output.name], *shape)
            own = rows.outputs[output.name][: count * rows.output_steps[output.name]]
            self.outputs.append((output.name, own.reshape(count, *shape)))


class _Way(NamedTuple):
    """The characters of the types of the rows that a step goes through, and of the outputs that it gives."""

    rows: str
    gives: str


class _Bound:
    """What steps of so many rows, of one type, go through: ``run`` takes the step, and ``copies`` make the arrays for the user to keep.

    Inputs whose type is in ``taken`` can be copied as they are. Steps of many rows write arrays like those of ``lent`` in place.
    """

    def __init__(self, way: _Way, streams: StreamRows, views: _Views, taken: str, run: Callable[[], Any]) -> None:
        self.way, self.streams, self.count, self.run = way, streams, views.count, run
        self.inputs = [
            (name, view, shape, kinds if view.dtype.char == _TOKENS else taken)
            for name, view, shape, kinds in views.inputs
        ]
        self.copies: list[tuple[str, Callable[[], Any]]] = [
            (name, view.copy if view.dtype.char == way.gives else partial(as_type, view, way.gives))
            for name, view in views.outputs
        ]
        self.lent = {
            name: view
            for name, view in views.outputs
            if name in streams.written_in_place and view.size >= IN_PLACE_VALUES and view.dtype.char == way.gives
        }


class SequenceIO:
    """Users' arrays on their way into a backend's own buffers for whole sequences of one shape, and out of them."""

    def __init__(self, session: Runner, rows: SequenceRows) -> None:
        self._rows, self._views = rows, _Views(rows, rows.size)
        self._limits = StepLimits(session.model)
        self._start = session.initial_state(rows.size)
        if self._limits:  # every run has as many steps, so those from the beginning are checked here once
            self._limits.check(self._start.layers, rows.steps_of, end=True)
        self._put_states(self._start.layers)
        self._begin = rows.stored.copy()
        self.lengths = {o.name: np.full(rows.size, rows.output_steps[o.name], np.int64) for o in rows.model.outputs}
        self._made = [
            (name, view.shape, view.dtype, np.empty if name in rows.whole else np.zeros)
            for name, view in self._views.outputs
        ]

    def begin(self, state: State | None) -> Mapping[str, LayerState]:
        """Return the states before the first step."""
        return (self._start if state is None else state).layers

    def run(
        self, inputs: Mapping[str, Any], state: State | None
    ) -> tuple[dict[str, FloatArray], Mapping[str, LayerState]] | None:
        """Return outputs and final states; None for inputs that have to be checked one by one."""
        rows, views = self._rows, self._views
        if len(inputs) != len(views.inputs):
            return None
        for name, view, shape, kinds in views.inputs:
            value = inputs.get(name)
            if type(value) is not ndarray or value.shape != shape or value.dtype.char not in kinds:
                return None
            tokens = view.dtype.char == _TOKENS
            if tokens or not is_alike(value, view):
                view[...] = value
                value = view
            if not tokens:
                rows.read_from(name, value)
        if self._limits and state is not None:
            self._limits.check(state.layers, rows.steps_of, end=True)
        if state is None:
            rows.stored[...] = self._begin
        else:
            self._put_states(state.layers)
        outputs = {}
        for name, shape, dtype, make in self._made:
            outputs[name] = values = make(shape, dtype)
            rows.write_to(name, values)
        if not rows.run(rows.size):
            return None
        return outputs, StoredStates(rows.state_layout, rows.stored.copy())

    def _put_states(self, states: Mapping[str, LayerState]) -> None:
        """Let the next run begin with these states."""
        for name, arrays in self._rows.layers.items():
            for array, given in zip(arrays, states[name], strict=True):
                array[...] = given


def one_step(model: QuantModel, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return arrays of one step [N, …] with the time axis that sequences have; what has no batch axis is left as it is, to be refused."""
    check_mapping(inputs)
    timed = {i.name for i in model.inputs if i.has_time}
    arrays = {name: as_array(f"input {name!r}", value) for name, value in inputs.items()}
    return {name: v[:, None] if name in timed and v.ndim else v for name, v in arrays.items()}


def of_one_step(model: QuantModel, result: RunResult) -> dict[str, FloatArray]:
    """Return the outputs of one step without their time axis: the only step of those over time, and zeros where nothing came out.

    An output of which several steps may come out has an axis of as many, with zeros behind those that did.
    """
    found = dict(result.outputs)
    for output in model.outputs:
        value, new = found[output.name], result.lengths[output.name] > 0
        if output.has_time:
            came = value[:, : model.step_rows[output.name]]
            value = np.zeros((len(value), *model.step_shape(output)), value.dtype)
            by_step = value.reshape(len(value), -1, *output.shape)
            by_step[:, : came.shape[1]] = came
        elif not new.all():  # a layer behind a last step that is none makes its bias of that
            value = np.where(new.reshape(-1, *[1] * len(output.shape)), value, value.dtype.type(0))
        found[output.name] = value
    return found


def no_steps(model: QuantModel, size: int) -> Batch:
    """Return ``size`` sequences of no steps, in arrays of one step."""
    features, tokens = {}, {}
    for i in model.inputs:
        lead = (size, 1) if i.has_time else (size,)
        if i.kind == "tokens":
            tokens[i.name] = np.zeros(lead, np.int64)
        elif i.kind == "features":
            features[i.name] = np.zeros((*lead, i.features))
    first, *others = time_axes(model.inputs)
    none = np.zeros(size, np.int64)
    return Batch(features, tokens, {}, none, 1, first, {name: TimeAxis(none, 1) for name in others})


class _SessionStreams(StreamRows):
    """Streams of any backend, which takes each step as a batch of one step."""

    def __init__(
        self,
        session: Runner,
        capacity: int,
        real: npt.DTypeLike = np.float64,
        like: StreamRows | None = None,
    ) -> None:
        super().__init__(session.model, capacity, real, like)
        self._session = session

    def alike(self, real: npt.DTypeLike) -> StreamRows:
        """Return buffers of the same streams for reals of another type; see `StreamRows.alike`."""
        return _SessionStreams(self._session, self.size, real, self)

    def run(self, count: int) -> bool:
        """Take one step of the first ``count`` rows; return False, with no state changed, where an input is out of its range."""
        try:
            given = one_step(self.model, {k: v[:count] for k, v in self.inputs.items()})
            batch = make_batch(without_padding(self.model.inputs), given)
        except DataError:
            return False
        rows = self.rows[:count]
        state = State(self.layers).rows(rows)
        result, _ = self._session.run_batch(batch, state, end=False)
        for name, arrays in self.layers.items():
            for array, after in zip(arrays, result.state.layers[name], strict=True):
                array[rows] = after
        for name, values in of_one_step(self.model, result).items():
            each = self.output_steps[name]
            own = self.outputs[name]
            own[: count * each] = as_type(values, own.dtype.char).reshape(count * each, -1)
            self.lengths[name][:count] = result.lengths[name]
        return True


class Stream(Described):
    """``size`` streams that step together and keep their state between calls: `Session.step` at the least cost.

    A stream is not for several threads at once; a `Session` makes as many streams as are wanted.
    """

    def __init__(
        self,
        session: Runner,
        size: int = 1,
        state: State | None = None,
        integers: Integers | None = None,
        real: str | None = None,
    ) -> None:
        """Make the buffers of ``size`` streams.

        ``state``, of as many streams, is from `Session.initial_state`, `Session.run` or another stream; without it they begin with the
        model's own start. With ``integers``, the formats of the session's model, steps take and give integers. ``real`` is the type of
        ``inputs`` and of all outputs; without it `step` gives the type that it is given, and `advance` goes from float64 to float64.
        """
        if size < 1:
            raise DataError(f"size={size}, expected at least 1")
        asked_type(real, integers is not None)
        self._session, self.size = session, size
        self._io = StreamIO(session, size, real if integers is None else "float64")
        self._run = self._io.runner(size)
        inputs, outputs = self._real = self._io.places(size)
        self._integers = integers
        if integers is not None:
            inputs, outputs = integers.zeros(size)
        self.inputs: Mapping[str, npt.NDArray[Any]] = MappingProxyType(inputs)
        """Where `advance` reads: arrays [size, *shape] by graph input name, float64 or the type that was asked for (tokens int64, integers
        int16 or int32), that stay the same for as long as the stream. Write into them, as in ``stream.inputs["x"][...] = frame``; another
        array cannot take their place."""
        self.outputs: Mapping[str, npt.NDArray[Any]] = MappingProxyType(outputs)
        """Where `advance` writes, by graph output name; copy what is to outlive the next step."""
        self.lengths: Mapping[str, IndexArray] = MappingProxyType(self._io.streams.lengths)
        """How many steps of each output came out of each stream in the latest step, [size], by graph output name: 1 for an output that is new,
        and 0 for one that is not, which then holds zeros. Always 1 where no layer takes several steps for one or has a delay. An output of
        which several steps may come out at once has an axis for them, [size, steps, *shape], with zeros behind those that did."""
        self.reset(state)

    def describe_lines(self) -> Iterator[str]:
        """Return how many streams of which model these are, and the arrays that steps read and write."""
        yield f"Stream of {self._session.model.name!r}: {counted(self.size, 'sequence')} at a time"
        for what, arrays in (("input", self.inputs), ("output", self.outputs)):
            yield from (f"  {what:<6} {name} {array_text(array)}" for name, array in arrays.items())

    def step(self, inputs: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """Take one time step: float arrays (or integers) [size, *shape] by graph input name in, and by graph output name out.

        Outputs are float32 where the real inputs are, unless the stream was made with ``real``.
        DataError for what does not fit; the state then stays as it was.
        """
        if self._integers is not None:
            return self._integers.of_outputs(self._io.step(self._integers.reals(inputs), self.size))
        return self._io.step(inputs, self.size)

    def advance(self) -> None:
        """Take one time step from ``inputs`` to ``outputs``, in place: as `step`, with nothing looked up, allocated or copied.

        DataError for values that are out of range; the state then stays as it was.
        """
        if self._integers is not None:
            self._advance_integers(self._integers)
        elif self._run():
            self._io.refuse(self.inputs)

    def _advance_integers(self, integers: Integers) -> None:
        inputs, outputs = self._real
        for name, values in integers.reals(self.inputs).items():
            inputs[name][...] = values
        if self._run():
            self._io.refuse(inputs)
        for name, q in integers.of_outputs(outputs).items():
            self.outputs[name][...] = q

    def finish(self) -> RunResult:
        """Return what the layers still hold back where the streams end here, as `Session.finish` does; then begin anew."""
        integers = self._integers is not None
        result = self._session.finish(self.state, integers, None if integers else self._io.real)
        self.reset()
        return result

    @property
    def state(self) -> State:
        """Return the state now, as a value."""
        return self._io.state(slice(None))

    def reset(self, state: State | None = None) -> None:
        """Begin anew, from ``state`` or from the model's own start."""
        if state is None:
            state = self._session.initial_state(self.size)
        else:
            self._session.check_state(state, self.size)
        self._io.set_state(slice(None), state)
