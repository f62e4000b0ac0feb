"""Buffers for many runs of one shape, which a backend lays out once: of streams, of whole sequences, and on a device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.backends.base.runs import LayerState
from qrnn.model.given_lengths import time_axes
from qrnn.model.parts import FloatArray, Int64Array
from qrnn.model.quant_model import QuantModel
from qrnn.model.stored_states import StateLayout, StoredStates


def steps_of_tensors(model: QuantModel, steps: int) -> dict[str, int]:
    """Return how many steps each tensor over time has, by name, where every time axis has ``steps`` of them."""
    axes = dict.fromkeys(time_axes(model.inputs), steps)
    return {name: rule.of(axes) for name, rule in model.length_rules.items()}


class ModelRows(ABC):
    """Buffers for a model's inputs, outputs and states, and `run`, which computes outputs and states from inputs and states.

    With ``steps`` None a run is one time step. A tensor over time has a row for each step of each of ``size`` sequences, [size · steps, F],
    with a number of steps of its own: ``steps_of`` has those of all tensors over time, and ``output_steps`` those of all outputs, 1 for one
    without time; in one time step, that is how many may come out. Any other tensor has a row for each sequence, [size, F].

    ``inputs`` are real values of type ``real``, or tokens [rows] int64; ``outputs`` are real values of type ``given``. ``layers`` has the
    states, [size, …], before and after a run, which lie in the buffer ``stored``; ``lengths`` says for each output how many steps of each
    sequence came out. The buffers are for one thread at a time.
    """

    def __init__(
        self,
        model: QuantModel,
        size: int,
        steps: int | None = None,
        real: npt.DTypeLike = np.float64,
        given: npt.DTypeLike = np.float64,
    ) -> None:
        self.model, self.size, self.steps = model, size, steps
        self.steps_of: Mapping[str, int] = {} if steps is None else steps_of_tensors(model, steps)
        self.inputs: dict[str, npt.NDArray[Any]] = {}
        for graph_input in model.inputs:
            rows = self.rows_of(graph_input.has_time)
            if graph_input.kind == "tokens":
                self.inputs[graph_input.name] = np.zeros(rows, np.int64)
            elif graph_input.kind == "features":
                self.inputs[graph_input.name] = np.zeros((rows, graph_input.features), real)
        self.output_steps = {
            o.name: model.step_rows[o.name] if steps is None else self.steps_of.get(o.parts[0][0], 1)
            for o in model.outputs
        }
        self.outputs: dict[str, FloatArray] = {
            o.name: np.zeros((size * self.output_steps[o.name], o.features), given) for o in model.outputs
        }
        self.state_layout = StateLayout(model, size)
        self.stored = np.zeros(self.state_layout.bytes, np.uint8)
        self.layers: dict[str, LayerState] = dict(StoredStates(self.state_layout, self.stored))
        self.lengths: dict[str, Int64Array] = {o.name: np.ones(size, np.int64) for o in model.outputs}

    def rows_of(self, has_time: bool) -> int:
        """Return the number of rows of a tensor that is, or is not, over time."""
        return self.size if self.steps is None or not has_time else self.size * self.steps

    @abstractmethod
    def run(self, count: int) -> bool:
        """Run the first ``count`` sequences; return False where an input is out of its range."""


class StreamRows(ModelRows):
    """Buffers of streams: a run is one step of the streams whose states are in rows ``rows[:count]`` of ``layers``.

    Their inputs and outputs are in rows [:count]. No state changes where an input is out of its range.
    """

    def __init__(
        self, model: QuantModel, capacity: int, real: npt.DTypeLike = np.float64, like: StreamRows | None = None
    ) -> None:
        """``real`` is the type of inputs and outputs; states, rows and lengths are those of ``like``, where that is given."""
        super().__init__(model, capacity, None, real, real)
        self.rows: Int64Array = np.arange(capacity)
        if like is not None:
            self.stored, self.layers, self.lengths, self.rows = like.stored, like.layers, like.lengths, like.rows

    read_in_place: frozenset[str] = frozenset()
    """The inputs that `lend` takes."""

    written_in_place: frozenset[str] = frozenset()
    """The outputs that `lend` takes; a run writes every value of them."""

    def lend(self, inputs: Mapping[str, npt.NDArray[Any]], outputs: Mapping[str, npt.NDArray[Any]]) -> None:
        """Let runs read and write these arrays in the place of rows of ``inputs`` and ``outputs``, until `take_back`.

        They are contiguous, and of the types of the rows that they take the place of. Only those in `read_in_place` and `written_in_place`
        may be lent.
        """
        raise NotImplementedError

    def take_back(self) -> None:
        """Let runs read and write ``inputs`` and ``outputs`` again."""

    @abstractmethod
    def alike(self, real: npt.DTypeLike) -> StreamRows:
        """Return buffers of the same streams, in the same states, whose inputs and outputs are of another type."""

    def runner(self, count: int) -> Callable[[], Any]:
        """Return a function that runs ``count`` streams at the least cost each time it is called; its value is false when all is well."""
        return lambda: not self.run(count)


class SequenceRows(ModelRows):
    """Buffers of whole sequences of one shape; every layer's state is carried on from run to run."""

    @abstractmethod
    def read_from(self, name: str, values: npt.NDArray[Any]) -> None:
        """Let the next run read an input's real values from ``values``: contiguous, writable, and of the size and type of ``inputs[name]``."""

    @abstractmethod
    def write_to(self, name: str, values: npt.NDArray[Any]) -> None:
        """Let the next run write an output to ``values``: contiguous, and of the size and type of ``outputs[name]``.

        ``values`` must be zeros, unless the output is in ``whole``.
        """

    whole: frozenset[str]
    """The outputs of which a run writes every value."""


class DeviceRows(ABC):
    """Buffers on a device for the inputs, outputs and states of streams, and `advance`, which computes outputs and states from them.

    With ``steps`` None a call is one time step, and arrays are [size, *shape]; else tensors over time are [size, steps, *shape]. ``inputs``
    and ``outputs`` are arrays on the device that stay the same. The buffers are for one thread at a time.
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
        """Wait for the device, and return which values since the last call were out of range and taken as 0; None where there were none."""

    @abstractmethod
    def layers(self) -> dict[str, LayerState]:
        """Return copies of the states, on the device."""

    @abstractmethod
    def set_layers(self, layers: Mapping[str, LayerState]) -> None:
        """Begin anew with these states, on the device or the host. DataError, and no state changed, for values that no step ends with."""
