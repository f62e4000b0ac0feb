"""The CPU backend: a model's layers, each with its `LayerRun`, for padded batches, streams and whole sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qrnn.backends.base import Choose, Engine, LayerState, Trace, steps_of_tensors
from qrnn.backends.cpu.calls import Call
from qrnn.backends.cpu.defined import chooser
from qrnn.backends.cpu.isa import choose_isa, find_isa
from qrnn.backends.cpu.kinds import run_of
from qrnn.backends.cpu.layer_calls import flows_of, whole_output
from qrnn.backends.cpu.layer_run import LayerRun
from qrnn.backends.cpu.native import DEFAULT, Code
from qrnn.backends.cpu.scales import scaling
from qrnn.backends.cpu.sequences import CpuSequences
from qrnn.backends.cpu.streams import CpuStreams
from qrnn.backends.cpu.tasks import Reused, Tasks
from qrnn.backends.cpu.threads.pool import core_count
from qrnn.backends.cpu.tuning import Tuning
from qrnn.model.layer import QuantLayer
from qrnn.model.layer_facts import RowLoop
from qrnn.model.parts import FloatArray, IndexArray, Int16Array, Int32Array, Int64Array, TensorFormat
from qrnn.model.quant_model import QuantModel
from qrnn.model.real_types import FLOAT64


class CpuEngine(Engine):
    """See the module."""

    name = "cpu"
    takes_isa = takes_cache = True
    tuning_type = Tuning

    def __init__(
        self,
        model: QuantModel,
        threads: int | None = None,
        isa: str | None = None,
        tuning: object | None = None,
        cache: Path | None = None,
        here: bool = True,
    ) -> None:
        """Make the engine.

        ``cache`` is the folder of compiled code. With ``here`` False the engine only compiles, also for an instruction set of other processors.
        """
        super().__init__(model, threads, isa, tuning)
        self.isa = choose_isa(isa) if here else find_isa(isa)
        self.code = DEFAULT if cache is None else Code(cache)
        chosen = tuning if isinstance(tuning, Tuning) else Tuning()
        cores = chosen.cores or core_count()
        self.tasks = Tasks(min(threads or cores, cores), self.isa, self.code, chosen)
        self.layer_runs: Mapping[str, LayerRun] = {
            layer.name: run_of(layer, model, self.tasks) for layer in model.layers
        }
        self._has_calls = all(run.has_calls for run in self.layer_runs.values())

    def plain_directions(self) -> tuple[str, ...]:
        """Return the directions, ``layer[number]``, whose steps are not fused.

        Their products are the plain loops of `qrnn.backends.cpu.kernels`.
        """
        return tuple(name for run in self.layer_runs.values() for name in run.plain_directions)

    def quantize(self, values: FloatArray, fmt: TensorFormat) -> Int16Array:
        """Return real values as int16 of a tensor's format; see `Engine.quantize`."""
        x = np.ascontiguousarray(values.reshape(-1, values.shape[-1]))
        out = np.empty(x.shape, np.int16)

        def make(control: Int64Array, arrays: Sequence[Any]) -> Call:
            return self.tasks.call("boundary", "quantize", control, *arrays, scaling(fmt, x.dtype), fmt.limit)

        how = Reused(("quantize", fmt.scale, fmt.offset, fmt.limit, x.dtype.char), make, 1)
        self.tasks.in_tasks((x, out), how, x.shape[1], self.tasks.tuning.boundary_task_values)
        return out.reshape(values.shape)

    def dequantize(self, q: Int16Array | Int32Array, fmt: TensorFormat, real: str = FLOAT64) -> FloatArray:
        """Return the real values of integers; see `Engine.dequantize`."""
        if len(fmt.scales_and_offsets[0]) > 1:
            return super().dequantize(q, fmt, real)
        flat = np.ascontiguousarray(q.reshape(-1, q.shape[-1]))
        out = np.empty(flat.shape, real)

        def make(control: Int64Array, arrays: Sequence[Any]) -> Call:
            return whole_output(self.tasks, control, fmt, *arrays)

        how = Reused(("dequantize", fmt.scale, fmt.offset, q.dtype.char, real), make, 1)
        self.tasks.in_tasks((out, flat), how, flat.shape[1], self.tasks.tuning.boundary_task_values)
        return out.reshape(q.shape)

    def recurrent(
        self, layer: QuantLayer, x: Int16Array, state: LayerState, lengths: IndexArray, trace: Trace | None
    ) -> tuple[Int16Array, LayerState]:
        """Run the layer over a padded batch; see `Engine.recurrent`."""
        return self.layer_runs[layer.name].recurrent(x, state, lengths, trace)

    def rows(self, layer: QuantLayer, *inputs: Int16Array | IndexArray) -> Int16Array:
        """Return the rows of the layer's output for rows of its inputs; see `Engine.rows`."""
        return self.layer_runs[layer.name].rows(*inputs)

    def chooser(self, loop: RowLoop, count: int) -> Choose:
        """Return the choice of tokens, compiled; see `Engine.chooser`."""
        return chooser(loop, count, self.tasks)

    def steps(
        self,
        layer: QuantLayer,
        inputs: Sequence[Int16Array],
        states: tuple[Any, ...],
        lengths: IndexArray,
        out_rows: int,
        past: int,
    ) -> tuple[Int16Array, Int64Array]:
        """Run a layer with a `step_loop` on its inputs, [N, T, F] each, then ``past`` steps past the end of each sequence.

        ``states`` [N, *shape] change in place. Returns y [N, out_rows, F'], zero past each sequence's rows, and how many rows each has, [N].
        """
        return self.layer_runs[layer.name].steps(inputs, states, lengths, out_rows, past)

    def warm_up(self, batch: int | None, steps: int | None, streams: int | None) -> bool:
        """Compile what runs and streams of these sizes need, and return True; see `Engine.warm_up`."""
        from qrnn.backends.cpu.warm_up import wanted_by

        self.code.addresses(wanted_by(self, batch, steps, streams))
        return True

    def streams(self, capacity: int, real: Any = np.float64) -> CpuStreams | None:
        """Return rows for streams as lists of calls, or None where a layer has none, or joins steps that come apart; see `Engine.streams`."""
        return CpuStreams(self, capacity, real) if self._has_calls and flows_of(self.model) is not None else None

    def sequences(self, size: int, steps: int, real: Any, given: Any = np.float64) -> CpuSequences | None:
        """Return rows for whole sequences as lists of calls, or None where these are too large or a layer has none; see `Engine.sequences`."""
        every = steps_of_tensors(self.model, steps)
        values = max(every.get(name, 1) * fmt.features for name, fmt in self.model.tensors.items())
        if not self._has_calls or 0 in every.values() or size * values > self.tasks.tuning.sequence_values:
            return None
        work, workers = max((run.most_macs for run in self.layer_runs.values()), default=0), self.tasks.workers
        macs = size * steps * work
        shares = min(workers, size, max(1, macs // self.tasks.tuning.share_macs)) if size > 1 else 1
        return CpuSequences(self, size, steps, real, given, shares, macs)
