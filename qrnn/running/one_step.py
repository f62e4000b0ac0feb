"""Steps taken as sequences of one step: their arrays, and streams of backends that know only sequences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.backends.base import StreamRows
from qrnn.errors import DataError
from qrnn.model.batch import Batch, make_batch
from qrnn.model.given_lengths import time_axes
from qrnn.model.pad_values import without_padding
from qrnn.model.parts import FloatArray
from qrnn.model.quant_model import QuantModel
from qrnn.model.real_types import as_type
from qrnn.model.time import TimeAxis
from qrnn.model.user_values import as_array, check_mapping
from qrnn.running.state import Runner, RunResult, State


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


class SessionStreams(StreamRows):
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
        return SessionStreams(self._session, self.size, real, self)

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
