"""A model's layers run over tensors that stay on the device from the first to the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from qrnn.backends.base import Trace
from qrnn.backends.cuda.choice import Choice
from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.device_layer import DeviceLayer, Run, Setting, State
from qrnn.backends.cuda.kinds import device_kinds
from qrnn.backends.cuda.lengths import Lengths
from qrnn.backends.cuda.loops import RowLoops, Steps
from qrnn.backends.cuda.tuning import Tuning
from qrnn.backends.cuda.weights import upload
from qrnn.model.float_model import GraphOutput
from qrnn.model.layer import QuantLayer
from qrnn.model.parts import TensorFormat
from qrnn.model.quant_model import QuantModel


class HostCopies(Mapping[str, Any]):
    """Tensors on the device as arrays on the host, each copied when it is first read."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._tensors, self._copies = tensors, dict[str, Any]()

    def __getitem__(self, name: str) -> Any:
        if name not in self._copies:
            self._copies[name] = self._tensors[name].copy_to_host()
        return self._copies[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


class DeviceModel:
    """A model's layers on the device, with their parameters. It holds no state between calls."""

    def __init__(self, model: QuantModel, device: Device, tuning: Tuning) -> None:
        self.model, self.device, self.tuning = model, device, tuning
        self.layers = {layer.name: device_layer(layer, model.tensors) for layer in model.layers}
        self.directions = {
            (name, number): w for name, layer in self.layers.items() for number, w in enumerate(layer.directions)
        }
        """The weights of a direction that has a kernel made for its cell, by (layer, number)."""
        self._parameters: dict[Any, Any] = {}

    @property
    def no_lengths(self) -> Any:
        """Return what kernels get for the lengths of a tensor without time, [0] int64."""
        return self._uploaded("no lengths", lambda: np.zeros(0, np.int64))

    @property
    def setting(self) -> Setting:
        """Return the device and the tuning that layers run by."""
        return Setting(self.device, self.tuning)

    def scales_and_offsets(self, name: str) -> tuple[Any, Any]:
        """Return a tensor's scales and offsets, float64, both [1] or both [F]."""
        scales, offsets = self.model.tensors[name].scales_and_offsets
        return self._uploaded(("scales", name), lambda: scales), self._uploaded(("offsets", name), lambda: offsets)

    def empty_without(self, name: str) -> str | None:
        """Return the tensor over time without whose steps a tensor with an offset is the real 0; None where there is none."""
        return self.model.last_step_behind(name) if self.model.tensors[name].has_offset else None

    def over_time_behind(self, name: str) -> str | None:
        """Return the tensor over time from which a tensor is computed, which is itself if it is over time; None where there is none."""
        written = {tensor: layer for layer in self.model.layers for tensor in layer.outputs}
        while not self.model.tensors[name].has_time:
            if name not in written:
                return None
            name = written[name].inputs[0]
        return name

    def places(self, output: GraphOutput, number: int) -> tuple[Any, Any]:
        """Return the indices and positions of a part of a graph output."""
        _, indices, positions = output.parts[number]
        key = (output.name, number)
        return self._uploaded(("indices", *key), lambda: indices), self._uploaded(
            ("positions", *key), lambda: positions
        )

    def _uploaded(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._parameters:
            self._parameters[key] = upload(make())
        return self._parameters[key]

    def choices(self, batch: int) -> dict[tuple[str, int], Choice]:
        """Return what runs each direction of each recurrent layer, and why."""
        return {
            (name, number): choice
            for name, layer in self.layers.items()
            for number, choice in layer.choices(self.setting, batch).items()
        }

    def run(
        self,
        inputs: Mapping[str, Any],
        states: Mapping[str, State],
        lengths: Lengths | Mapping[str, Lengths],
        trace: Trace | None = None,
        in_place: bool = False,
        end: bool = True,
    ) -> Run:
        """Run all layers on ``inputs``, int16, or int64 tokens; see `Run`, which has every tensor except the tokens in the end.

        ``lengths`` are those of all inputs, or of each input by its name.
        """
        known = dict(lengths) if isinstance(lengths, Mapping) else dict.fromkeys(inputs, lengths)
        run = Run(self.setting, states, dict(inputs), known, trace, in_place, end)
        for layer in self.layers.values():
            layer.run(run)
        run.tensors = {name: value for name, value in run.tensors.items() if value.dtype != np.int64}
        return run

    def steps(
        self, layer: QuantLayer, inputs: tuple[Any, ...], states: State, lengths: Lengths, out_rows: int, past: int
    ) -> tuple[Any, Lengths]:
        """Take the steps of a layer with a `QuantLayer.step_loop`; see `Steps.steps`."""
        own = self.layers[layer.name]
        assert isinstance(own, Steps)
        return own.steps(inputs, states, lengths, out_rows, past)


def device_layer(layer: QuantLayer, tensors: Mapping[str, TensorFormat]) -> DeviceLayer:
    """Return a layer on the device: by the kernels of its kind, or by its own definition."""
    own = device_kinds().get(type(layer))
    if own is None:
        own = RowLoops if layer.by_rows else Steps
    return own(layer, tensors)
