"""Checked batches are run here: real numbers become integers, the engine runs these, and its integers become outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from qrnn.backends.base import Engine, Trace
from qrnn.model.batch import Batch, shortest
from qrnn.model.float_model import GraphOutput
from qrnn.model.parts import FloatArray, IndexArray, Int16Array, Int32Array
from qrnn.model.quant_model import QuantModel
from qrnn.model.real_types import FLOAT64
from qrnn.running.model_states import ModelStates
from qrnn.running.state import RunResult, State
from qrnn.running.step_limits import StepLimits


class BatchRuns:
    """Runs of checked batches by an engine; states begin with the model's own where none are given."""

    def __init__(self, engine: Engine, states: ModelStates, limits: StepLimits) -> None:
        self.model, self._engine, self._states, self._limits = engine.model, engine, states, limits
        self._whole = {o.name: self.model.whole_tensor(o) for o in self.model.outputs}
        """Graph output → the tensor that it is as it stands; None where it is put together from parts of tensors."""

    def run(
        self, batch: Batch, state: State | None, trace: Trace | None, steps: int | None, end: bool, kind: str = FLOAT64
    ) -> tuple[RunResult, Mapping[str, Int16Array | Int32Array]]:
        """Run a batch, and return the result and every integer tensor of the model; see `qrnn.Session.run_batch`."""
        model, engine = self.model, self._engine
        inputs: dict[str, Int16Array | IndexArray] = dict(batch.tokens)
        for name, value in batch.features.items():
            inputs[name] = engine.quantize(value, model.tensors[name])
        begin = state if state is not None else self._states.initial(batch.size, batch.states)
        ran = engine.run(inputs, begin.layers, batch.given_lengths, trace, end)
        if self._limits:
            self._limits.check(begin.layers, ran.lengths, end=end)
        came = output_lengths(model, ran.lengths)
        outputs: dict[str, FloatArray] = {}
        for output in model.outputs:
            count = came[output.name]
            lead: tuple[int, ...] = (batch.size,)
            if output.has_time:
                rows = self._rows_of(output, batch, steps or batch.steps, count, carried=state is not None)
                lead = (batch.size, rows)
            value = self._real_values(output, ran.tensors, lead, kind)
            if output.has_time and shortest(count) < lead[-1]:
                value[np.arange(lead[-1]) >= count[:, None]] = 0.0
            elif not output.has_time and shortest(count) < 1:
                self._without_steps(output, value, ran.lengths)
            outputs[output.name] = value.reshape(*lead, *output.shape)
        return RunResult(outputs, State(ran.states), came), ran.tensors

    def _rows_of(self, output: GraphOutput, batch: Batch, steps: int, count: IndexArray, carried: bool) -> int:
        """Return the steps of an output's array: those that its arrays would have, or, of a ``carried`` state, those that came out."""
        read = output.parts[0][0]
        if carried and read in self.model.counted:
            return int(count.max())
        rule = self.model.length_rules[read]
        return replace(batch, steps=steps).along(rule).steps

    def _real_values(
        self, output: GraphOutput, tensors: Mapping[str, Int16Array | Int32Array], lead: tuple[int, ...], kind: str
    ) -> FloatArray:
        """Return the real numbers of an output, [*lead, F]; it is zero past the steps that its tensors have."""
        whole = self._whole[output.name]
        if whole is not None and tensors[whole].shape[: len(lead)] == lead:
            return self._engine.dequantize(tensors[whole], self.model.tensors[whole], kind)
        value = np.zeros((*lead, output.features), kind)
        for name, indices, positions in output.parts:
            part = self._engine.dequantize(tensors[name], self.model.tensors[name], kind)[..., indices]
            if output.has_time:
                part = part[:, : lead[1]]
                value[:, : part.shape[1], positions] = part
            else:
                value[:, positions] = part
        return value

    def _without_steps(self, output: GraphOutput, value: FloatArray, lengths: Mapping[str, IndexArray]) -> None:
        """Set the last steps of sequences of no steps to 0, where an offset keeps their integers from it; ``value`` [N, F]."""
        for name, _, positions in output.parts:
            if self.model.tensors[name].has_offset and self.model.last_step_behind(name) is not None:
                value[np.ix_(lengths[name] < 1, positions)] = 0.0


def zero_inputs(model: QuantModel, size: int, steps: int) -> dict[str, Any]:
    """Return inputs of ``size`` sequences of ``steps`` steps: zeros, or where steps of one value pad an input, another value."""
    inputs: dict[str, Any] = {}
    for graph_input in model.inputs:
        lead = (size, steps) if graph_input.has_time else (size,)
        if graph_input.kind == "lengths":
            inputs[graph_input.name] = np.full(size, steps, np.int64)
        else:
            value = 0.0 if graph_input.padding is None else graph_input.padding + 1
            kind = np.int64 if graph_input.kind == "tokens" else np.float64
            inputs[graph_input.name] = np.full((*lead, *graph_input.shape), value, kind)
    return inputs


def output_lengths(model: QuantModel, lengths: Mapping[str, IndexArray]) -> dict[str, IndexArray]:
    """Return `RunResult.lengths` from how many steps of each tensor came out."""
    found = {}
    for output in model.outputs:
        parts = [lengths[name] for name, _, _ in output.parts]
        found[output.name] = parts[0] if len(parts) == 1 else np.minimum.reduce(parts)
    return found
