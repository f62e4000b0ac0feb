"""The engine takes arrays of the host or of the device, walks through the layers on the device, and returns arrays of the same side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

import numpy.typing as npt

from qrnn.backends.base import DeviceResult, DeviceRows, Engine, LayerState, Ran, Trace, every_length, given_lengths
from qrnn.backends.cuda.arrays import on_host, run_arrays
from qrnn.backends.cuda.choice import Choice
from qrnn.backends.cuda.device import find_device
from qrnn.backends.cuda.device_rows import CapturedRows
from qrnn.backends.cuda.lengths import Lengths
from qrnn.backends.cuda.tuning import Tuning
from qrnn.backends.cuda.walk import DeviceModel, HostCopies
from qrnn.backends.cuda.weights import upload
from qrnn.model.layer import QuantLayer
from qrnn.model.parts import FloatArray, IndexArray, Int16Array
from qrnn.model.quant_model import QuantModel


class CudaEngine(Engine):
    """A model laid out on a CUDA device. ``threads`` has no meaning here; ``tuning`` is a `qrnn.backends.cuda.tuning.Tuning`."""

    name = "cuda"
    chunk_elements = 1 << 28
    takes_device_arrays = True
    tuning_type = Tuning

    def __init__(
        self, model: QuantModel, threads: int | None = None, isa: str | None = None, tuning: object | None = None
    ) -> None:
        super().__init__(model, threads, isa, tuning)
        self.device = find_device()
        self.on_device = DeviceModel(
            model, self.device, tuning if isinstance(tuning, Tuning) else Tuning.of_environment()
        )

    def tuned(self, tuning: Tuning) -> CudaEngine:
        """Return the same engine with another tuning: the model's parameters on the device are shared."""
        other = copy(self)
        other.on_device = copy(self.on_device)
        other.on_device.tuning = tuning
        return other

    def plans(self, batch: int) -> dict[tuple[str, int], Choice]:
        """Return what runs each direction of each recurrent layer with ``batch`` sequences, and why; a plan of None is the general kernel."""
        return self.on_device.choices(batch)

    def run_on_device(
        self,
        inputs: Mapping[str, Any],
        lengths: Any,
        begin: Callable[[int, Mapping[str, FloatArray]], Mapping[str, LayerState]],
        one_step: bool,
        end: bool,
        real: str | None = None,
    ) -> DeviceResult:
        """Run users' arrays, some of which lie on the device; see `Engine.run_on_device`."""
        return run_arrays(self.on_device, inputs, lengths, begin, one_step, end, real)

    def device_rows(
        self, size: int, steps: int | None, real: str, start: Mapping[str, LayerState], lengths: IndexArray
    ) -> DeviceRows:
        """Return buffers on the device for ``size`` streams; see `Engine.device_rows`."""
        return CapturedRows(self.on_device, size, steps, real, start, lengths)

    def to_host(self, array: Any) -> Any:
        """Return a copy of a state array on the host."""
        return on_host("state", array)

    def run(
        self,
        inputs: Mapping[str, Int16Array | IndexArray],
        states: Mapping[str, LayerState],
        lengths: IndexArray | Mapping[str, IndexArray],
        trace: Trace | None = None,
        end: bool = True,
    ) -> Ran:
        """Copy inputs and states to the device, and run all layers there; tensors are copied to the host when they are first read."""
        given = given_lengths(self.model, lengths)
        on_device = {id(own): Lengths.of(own) for own in given.values()}
        start = {name: tuple(upload(part) for part in state) for name, state in states.items()}
        uploaded = {name: upload(value) for name, value in inputs.items()}
        own_lengths = {name: on_device[id(own)] for name, own in given.items()}
        run = self.on_device.run(uploaded, start, own_lengths, trace, end=end)
        final: Any = {name: tuple(part.copy_to_host() for part in state) for name, state in run.final.items()}
        came = {name: found.known().host for name, found in run.lengths.items()}
        return Ran(HostCopies(run.tensors), final, every_length(self.model, given | came))  # type: ignore[arg-type]

    def recurrent(
        self, layer: QuantLayer, x: Int16Array, state: LayerState, lengths: IndexArray, trace: Trace | None
    ) -> tuple[Int16Array, LayerState]:
        """Run one recurrent layer on the device; see `Engine.recurrent`."""
        own: Any = self.on_device.layers[layer.name]
        start = tuple(upload(part) for part in state)
        y, (h, c) = own.recurrent(self.on_device.setting, upload(x), start, Lengths.of(lengths), trace)
        return y.copy_to_host(), (h.copy_to_host(), c.copy_to_host())

    def steps(
        self,
        layer: QuantLayer,
        inputs: Sequence[Int16Array],
        states: tuple[npt.NDArray[Any], ...],
        lengths: IndexArray,
        out_rows: int,
        past: int,
    ) -> tuple[Int16Array, IndexArray]:
        """Run the `QuantLayer.step_loop` of a layer on the device; see `Engine.steps`."""
        after = tuple(upload(state) for state in states)
        y, written = self.on_device.steps(
            layer, tuple(upload(x) for x in inputs), after, Lengths.of(lengths), out_rows, past
        )
        for state, found in zip(states, after, strict=True):
            state[...] = found.copy_to_host()
        return y.copy_to_host(), written.device.copy_to_host()

    def rows(self, layer: QuantLayer, *inputs: Int16Array | IndexArray) -> Int16Array:
        """Run one layer with `by_rows` on the device; see `Engine.rows`."""
        own: Any = self.on_device.layers[layer.name]
        found: Int16Array = own.rows(self.on_device.setting, *(upload(x) for x in inputs)).copy_to_host()
        return found
