"""The engine: arrays of the host or of the device in, a walk on the device, arrays of the same side out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    """See the module. ``threads`` is of no meaning here; ``tuning`` is a `qrnn.backends.cuda.tuning.Tuning`."""

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
        """The same engine with another tuning: the model's parameters on the device are shared."""
        other = copy(self)
        other.on_device = copy(self.on_device)
        other.on_device.tuning = tuning
        return other

    def plans(self, batch: int) -> dict[tuple[str, int], Choice]:
        """What runs each direction of each recurrent layer with so many sequences, and why; a plan of None is the general kernel."""
        return self.on_device.choices(batch)

    def run_on_device(
        self,
        inputs: Mapping[str, Any],
        lengths: Any,
        begin: Callable[[int, Mapping[str, FloatArray]], Mapping[str, LayerState]],
        one_step: bool,
        end: bool,
    ) -> DeviceResult:
        return run_arrays(self.on_device, inputs, lengths, begin, one_step, end)

    def device_rows(
        self, size: int, steps: int | None, real: str, start: Mapping[str, LayerState], lengths: IndexArray
    ) -> DeviceRows:
        return CapturedRows(self.on_device, size, steps, real, start, lengths)

    def to_host(self, array: Any) -> Any:
        return on_host("state", array)

    def run(
        self,
        inputs: Mapping[str, Int16Array | IndexArray],
        states: Mapping[str, LayerState],
        lengths: IndexArray | Mapping[str, IndexArray],
        trace: Trace | None = None,
        end: bool = True,
    ) -> Ran:
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
        own: Any = self.on_device.layers[layer.name]
        start = tuple(upload(part) for part in state)
        y, (h, c) = own.recurrent(self.on_device.setting, upload(x), start, Lengths.of(lengths), trace)
        return y.copy_to_host(), (h.copy_to_host(), c.copy_to_host())

    def steps(
        self,
        layer: QuantLayer,
        x: Int16Array,
        states: tuple[npt.NDArray[Any], ...],
        lengths: IndexArray,
        out_rows: int,
        past: int,
    ) -> tuple[Int16Array, IndexArray]:
        """Take the steps of a layer with a `QuantLayer.step_loop`: x [N, T, F] → y [N, out_rows, F'] and how many rows are real, [N].

        ``states``, [N, *shape] each, are changed in place. ``past`` steps past the end of each sequence are taken after its own.
        """
        after = tuple(upload(state) for state in states)
        y, written = self.on_device.steps(layer, upload(x), after, Lengths.of(lengths), out_rows, past)
        for state, found in zip(states, after, strict=True):
            state[...] = found.copy_to_host()
        return y.copy_to_host(), written.device.copy_to_host()

    def rows(self, layer: QuantLayer, *inputs: Int16Array | IndexArray) -> Int16Array:
        own: Any = self.on_device.layers[layer.name]
        found: Int16Array = own.rows(self.on_device.setting, *(upload(x) for x in inputs)).copy_to_host()
        return found
