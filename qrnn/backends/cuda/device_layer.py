"""The CUDA backend has, for each layer, its parameters on the device and the launches that compute it.

A kind of layer is a module of `qrnn.backends.cuda.kinds` with the name that the kind has in `qrnn.model.kinds`. A kind without a module
runs by its own definition (`qrnn.backends.cuda.loops`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from qrnn.backends.base import Trace
from qrnn.backends.cuda.choice import Choice
from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.filled import first_steps
from qrnn.backends.cuda.lengths import Lengths
from qrnn.backends.cuda.tuning import Tuning
from qrnn.model.layer import QuantLayer
from qrnn.model.parts import TensorFormat

State = tuple[Any, ...]
"""A layer's state on the device: h [N, D, P] and c [N, D, H or 0] of a recurrent layer, else the arrays of `QuantLayer.states`, [N, *shape]."""


@dataclass(frozen=True)
class Setting:
    """The device, and the tuning that was asked for."""

    device: Device
    tuning: Tuning


@dataclass(frozen=True)
class StateLimit:
    """The name of a state array whose type holds values that no step ends with, and the least and the largest value that a step ends with."""

    name: str
    least: int
    largest: int


@dataclass
class Run:
    """A call on its way through a model's layers: what they have computed so far, on the device.

    ``tensors`` are int16 [N, T, F] or [N, F], int32 final cell states, and int64 tokens [N, T] or [N]. ``lengths`` has an entry for every
    tensor over time. ``states`` are those before the first step; with ``in_place`` they are replaced, else they are left alone. ``final``
    has those after the last step. ``end`` says that the sequences end with these steps, so that a layer with a delay takes its steps past
    the end.
    """

    setting: Setting
    states: Mapping[str, State]
    tensors: dict[str, Any]
    lengths: dict[str, Lengths]
    trace: Trace | None = None
    in_place: bool = False
    end: bool = True
    final: dict[str, State] = field(default_factory=dict)


class DeviceLayer(ABC):
    """A layer on the device. It holds no state between calls."""

    kind: ClassVar[type[QuantLayer]]
    """The kind of layer that a module of `qrnn.backends.cuda.kinds` is for."""

    def __init__(self, layer: Any, tensors: Mapping[str, TensorFormat]) -> None:
        """Copy the parameters of ``layer``, which is of ``kind``, to the device; ``tensors`` are the model's."""
        self.layer = layer
        self.directions: tuple[Any, ...] = ()
        """The weights of each direction of a recurrent layer that has a kernel made for its cell."""
        self.state_limits: dict[int, StateLimit] = {}
        """The values that no step ends with, by the place of the state array in `QuantLayer.states`."""
        self.varies = False
        """Whether the number of rows that a call gives depends on a sequence's state."""

    @abstractmethod
    def run(self, run: Run) -> None:
        """Launch what computes the layer's outputs from ``run.tensors``, and put the outputs, with their lengths and states, into ``run``."""

    def choices(self, setting: Setting, batch: int) -> dict[int, Choice]:
        """Return what runs each direction of a recurrent layer with ``batch`` sequences, by the direction's number, and why."""
        return {}


class DeviceRowLayer(DeviceLayer):
    """A layer with `QuantLayer.by_rows` on the device: every row of its output is computed from the same row of its inputs."""

    def __init__(self, layer: Any, tensors: Mapping[str, TensorFormat]) -> None:
        super().__init__(layer, tensors)
        self.features = tensors[layer.output].features
        self._axes = 2 if tensors[layer.output].has_time else 1

    def run(self, run: Run) -> None:
        """Compute all rows of the inputs as one batch of rows."""
        layer = self.layer
        given = [run.tensors[name] for name in layer.inputs]
        if self._axes == 2:  # inputs of equal lengths, which may have more or fewer steps of padding behind them
            steps = min(x.shape[1] for x in given)
            given = [first_steps(x, steps) for x in given]
        lead = tuple(given[0].shape[: self._axes])
        M = math.prod(lead)
        rows = (x.reshape(M, *x.shape[self._axes :]) for x in given)
        run.tensors[layer.output] = self.rows(run.setting, *rows).reshape(*lead, self.features)
        if layer.inputs[0] in run.lengths:
            run.lengths[layer.output] = run.lengths[layer.inputs[0]]

    @abstractmethod
    def rows(self, setting: Setting, *inputs: Any) -> Any:
        """Return the rows of the output, [M, F'] int16, from those of the inputs, [M, F] int16 or [M] int64 tokens."""
