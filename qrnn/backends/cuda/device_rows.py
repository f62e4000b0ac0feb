"""A call that is repeated has a fixed sequence of kernels over arrays that are allocated once, and is launched as one CUDA graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import cuda

from qrnn.backends.base import DeviceRows, LayerState
from qrnn.backends.cuda import elements, work
from qrnn.backends.cuda.arrays import (
    count_states,
    limited_states,
    on_device,
    outputs_of,
    quantized,
    refusal,
    refuse_states,
)
from qrnn.backends.cuda.filled import copied, copy_into, zeros
from qrnn.backends.cuda.graph import CapturedGraph
from qrnn.backends.cuda.intrinsics import SIMULATED
from qrnn.backends.cuda.launch import for_each
from qrnn.backends.cuda.lengths import Lengths
from qrnn.backends.cuda.walk import DeviceModel
from qrnn.errors import BackendError
from qrnn.model.parts import IndexArray

SIMULATOR = "Numba's CUDA simulator has no graphs"


class CapturedRows(DeviceRows):
    """Buffers of streams on the device, whose calls are captured as a CUDA graph; see `qrnn.backends.base.DeviceRows`."""

    def __init__(
        self,
        model: DeviceModel,
        size: int,
        steps: int | None,
        real: str,
        start: Mapping[str, LayerState],
        lengths: IndexArray,
    ) -> None:
        varying = next((name for name, layer in model.layers.items() if layer.varies), None)
        if varying is not None:
            raise BackendError(
                f"layer {varying!r}: how many rows it gives in a call depends on its state, but the outputs of a stream on the device have "
                "one size; call Session.run with the state of the call before"
            )
        self._model, self._steps, self._one_step, self._real = model, steps or 1, steps is None, real
        self.inputs: dict[str, Any] = {}
        self._given: dict[str, Any] = {}
        for i in model.model.inputs:
            if i.kind in ("features", "tokens"):
                shape = (size, self._steps, *i.shape) if i.has_time else (size, *i.shape)
                given = zeros(shape, np.int64 if i.kind == "tokens" else real)
                self._given[i.name] = given
                self.inputs[i.name] = given.reshape(size, *i.shape) if self._one_step else given
        self._lengths = Lengths.of(lengths)
        self._refused = zeros((len(self._given),), np.int32)
        self._layers: dict[str, LayerState] = {
            name: tuple(on_device(name, array) for array in arrays) for name, arrays in start.items()
        }
        self._buffers = work.Buffers()
        self.outputs: dict[str, Any] = self._launch(0)  # compiles the kernels and allocates the arrays
        cuda.synchronize()
        self._graph: CapturedGraph | None = None
        self.not_captured: str | None = None
        if SIMULATED:
            self.not_captured = SIMULATOR
        else:
            try:
                self._graph = CapturedGraph(self._launch)
            except Exception as error:  # noqa: BLE001  (whatever the driver or Numba cannot do: the same launches do without a graph)
                self.not_captured = f"{type(error).__name__}: {error}"
        self.set_layers(start)

    def _launch(self, stream: Any) -> dict[str, Any]:
        """Launch everything on one of Numba's streams, and return the outputs."""
        with work.on(stream, self._buffers):
            integers = quantized(self._model, self._given, self._refused)
            run = self._model.run(integers, self._layers, self._lengths, in_place=True, end=False)
            return outputs_of(self._model, run, self._one_step, np.dtype(self._real).char)

    def advance(self, stream: int) -> None:
        """Launch the graph, or the kernels one by one where there is none, on a CUDA stream."""
        if self._graph is not None:
            self._graph.launch(stream)
        else:
            self._launch(cuda.external_stream(stream) if stream else 0)

    def refused(self) -> str | None:
        """Copy the counts of refused values to the host, forget them, and return what they say."""
        found = self._refused.copy_to_host().tolist()
        self._forget_refused()
        return refusal(self._model, self._given, found)

    def _forget_refused(self) -> None:
        for_each(elements.fill_zero, self._refused.size, self._refused)

    def layers(self) -> dict[str, LayerState]:
        """Return copies of the states, on the device."""
        return {name: tuple(copied(array) for array in arrays) for name, arrays in self._layers.items()}

    def set_layers(self, layers: Mapping[str, LayerState]) -> None:
        """Check the states on the device, and copy them into the buffers."""
        given: dict[str, Any] = {
            name: tuple(on_device(f"state of layer {name!r}", array) for array in arrays)
            for name, arrays in layers.items()
        }
        limited = limited_states(self._model, given)
        counts = zeros((len(limited),), np.int32)
        count_states(limited, counts)
        refuse_states(limited, counts.copy_to_host().tolist())
        for name, arrays in given.items():
            targets: Any = self._layers[name]
            for source, target in zip(arrays, targets, strict=True):
                copy_into(source, target)
        self._forget_refused()
