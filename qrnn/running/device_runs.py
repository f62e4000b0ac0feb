"""Arrays that lie on the backend's device are run there in one piece, and the results stay on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qrnn.backends.base import Engine, LayerState
from qrnn.model.parts import FloatArray
from qrnn.running.batch_runs import output_lengths
from qrnn.running.model_states import ModelStates, check_one_state
from qrnn.running.state import RunResult, State
from qrnn.running.step_limits import StepLimits
from qrnn.running.streamable import check_one_row


class DeviceRuns:
    """Runs of arrays on the device of an engine that takes them; states begin with the model's own where none are given."""

    def __init__(self, engine: Engine, states: ModelStates, limits: StepLimits) -> None:
        self._engine, self._states, self._limits = engine, states, limits

    def run(
        self,
        inputs: Mapping[str, Any],
        lengths: Any,
        state: State | None,
        one_step: bool,
        end: bool,
        kind: str | None,
    ) -> RunResult:
        """Run arrays as `qrnn.Session.run` does, or with ``one_step`` as `qrnn.Session.step`.

        ``kind`` is the character of the type of the outputs, None for that of the inputs. Raises DataError for what does not fit, and for
        one step of a model that may give several steps of an output for it.
        """
        engine, model = self._engine, self._engine.model
        if one_step:
            check_one_row(model)
        started: dict[str, LayerState] = {}

        def begin(size: int, given: Mapping[str, FloatArray]) -> Mapping[str, LayerState]:
            if state is None:
                started.update(self._states.initial(size, given).layers)
                return started
            check_one_state(given)
            self._states.check(state, size, on_device=True)
            started.update(state.layers)
            return started

        found = engine.run_on_device(inputs, lengths, begin, one_step, end, kind)
        if self._limits:
            self._limits.check(started, found.lengths, engine.to_host, end)
        return RunResult(found.outputs, State(found.states), output_lengths(model, found.lengths))
