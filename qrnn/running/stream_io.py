"""Users' arrays on their way into the rows of a step of many streams and out of it, with as few copies as their types allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy import ndarray

from qrnn.backends.base import StreamRows
from qrnn.errors import DataError
from qrnn.model.batch import Batch, make_batch
from qrnn.model.given_lengths import time_axes
from qrnn.model.pad_values import without_padding
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.real_types import FLOAT32, FLOAT64, RealType, as_type, asked_type, real_names, type_of_inputs
from qrnn.model.user_values import check_mapping
from qrnn.running.one_step import SessionStreams, one_step
from qrnn.running.state import Runner, State
from qrnn.running.step_limits import WatchedStreams
from qrnn.running.streamable import check_remembers, check_streamable
from qrnn.running.views import KINDS, TOKENS, Views, is_alike

IN_PLACE_VALUES = 8192
"""A step whose output has so many values is spared copies, which then take longer than to say where the arrays are."""


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
        self.streams: StreamRows = own or SessionStreams(session, capacity, kind)
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
        taken = KINDS[way.rows] if way.rows == self._asked or way.rows == FLOAT32 else FLOAT64
        self._bound = _Bound(way, streams, Views(streams, count), taken, self._watched.runner(streams, count))
        return self._bound

    def _put_slowly(self, inputs: Mapping[str, Any], count: int) -> _Bound:
        """Put inputs in place that are not what the step before made likely."""
        given = type_of_inputs(self._reals, inputs)
        way = _Way(FLOAT32 if given == FLOAT32 and self._asked != FLOAT64 else FLOAT64, self._asked or given)
        bound = self._bound if self._bound.way == way else self._bind(way, count)
        for name, view, shape, _ in bound.inputs:
            value = inputs.get(name)
            if type(value) is not ndarray or value.shape != shape or value.dtype.char not in KINDS[view.dtype.char]:
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
        views = Views(self.streams, count)
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


class _Way(NamedTuple):
    """The characters of the types of the rows that a step goes through, and of the outputs that it gives."""

    rows: str
    gives: str


class _Bound:
    """What steps of so many rows, of one type, go through: ``run`` takes the step, and ``copies`` make the arrays for the user to keep.

    Inputs whose type is in ``taken`` can be copied as they are. Steps of many rows write arrays like those of ``lent`` in place.
    """

    def __init__(self, way: _Way, streams: StreamRows, views: Views, taken: str, run: Callable[[], Any]) -> None:
        self.way, self.streams, self.count, self.run = way, streams, views.count, run
        self.inputs = [
            (name, view, shape, kinds if view.dtype.char == TOKENS else taken)
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
