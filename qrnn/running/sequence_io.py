"""Users' arrays on their way into the buffers of whole sequences of one shape and out of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy import ndarray

from qrnn.backends.base import LayerState, SequenceRows
from qrnn.model.parts import FloatArray
from qrnn.model.stored_states import StoredStates
from qrnn.running.state import Runner, State
from qrnn.running.step_limits import StepLimits
from qrnn.running.views import TOKENS, Views, is_alike


class SequenceIO:
    """Users' arrays on their way into a backend's own buffers for whole sequences of one shape, and out of them."""

    def __init__(self, session: Runner, rows: SequenceRows) -> None:
        self._rows, self._views = rows, Views(rows, rows.size)
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
            tokens = view.dtype.char == TOKENS
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
