"""Threads and layout of the CPU backend: which sequences and rows each thread gets.

Sequences are spread over a pool of Python threads (the kernels release the GIL); a single long-rowed sequence is shared by a gang of
threads that meet at a barrier once a step. Numba's own threading layers are not used: one of them aborts the process when two threads
run parallel kernels at once, and which layer a user has depends on the platform.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from qrnn.backends.base import Engine, LayerState, Trace
from qrnn.backends.cpu import plain
from qrnn.backends.cpu.barrier import GANGS_WORK
from qrnn.backends.cpu.block_sizes import POINTWISE_BLOCK
from qrnn.backends.cpu.calls import Call, CallList, ReusedCalls
from qrnn.backends.cpu.crew import MOST, PATIENCE, SharedCall
from qrnn.backends.cpu.dense import DenseRun
from qrnn.backends.cpu.isa import choose_isa, find_isa
from qrnn.backends.cpu.layer_calls import SequenceData
from qrnn.backends.cpu.matrix import AHEAD, VECTORS
from qrnn.backends.cpu.native import DEFAULT, Code
from qrnn.backends.cpu.packed import FusedForms, can_fuse
from qrnn.backends.cpu.pools import core_count, shared_pool
from qrnn.backends.cpu.scales import scaling
from qrnn.backends.cpu.sequences import SEQUENCE_ELEMENTS, CpuSequences
from qrnn.backends.cpu.streams import CpuStreams
from qrnn.backends.cpu.wanted import Kernel
from qrnn.model.batch import shortest
from qrnn.model.cell_codes import codes_of
from qrnn.model.kinds.add import QuantAdd
from qrnn.model.kinds.concat import QuantConcat
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.kinds.embedding import QuantEmbedding
from qrnn.model.kinds.pointwise import QuantPointwise
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.recurrent.quantized import QuantDirection
from qrnn.model.kinds.softmax import QuantSoftmax
from qrnn.model.parts import FloatArray, IndexArray, Int16Array, Int32Array, Int64Array, TensorFormat, pack_gates
from qrnn.model.quant_model import QuantModel

GANG_MACS = 1 << 17
"""Multiply-adds of a step for each member of a gang, at least; below, the barrier costs more than a further member saves."""

FUSED_GANG_MACS, FUSED_RUN_MACS, FUSED_TASK_MACS = 3 << 14, 1 << 22, 1 << 24
"""Of fused steps, which take a tenth of the time: `GANG_MACS`; multiply-adds of a run that is worth a gang; `TASK_MACS`, and those of a run
that is worth waiting until helpers are awake."""

ONCE_MACS = 1 << 27
"""A run by plain kernels that is worth laying out calls for a gang that makes them once, a millisecond and more of Python."""

DENSE_MACS = 1 << 14
"""A dense layer of so many multiply-adds a call goes by `qrnn.backends.cpu.dense`: below, plain loops start sooner."""

TASK_MACS = 1 << 21
"""A task handed to the pool does at least about so many multiply-adds."""

BOUNDARY_TASK = 1 << 17
"""Values that one thread converts at a time, at least."""


@dataclass(frozen=True)
class Reused:
    """A kind of call for `ReusedCalls`: its name among all of an engine, how it is laid out, and the argument where its arrays begin."""

    kind: Hashable
    make: Callable[[Int64Array, Sequence[Any]], Call]
    number: int


class CpuEngine(Engine):
    """See the module."""

    name = "cpu"
    takes_isa = takes_cache = True
    gangs_work = GANGS_WORK

    def __init__(
        self,
        model: QuantModel,
        threads: int | None = None,
        isa: str | None = None,
        tuning: object | None = None,
        cache: Path | None = None,
        here: bool = True,
    ) -> None:
        """``cache``: the folder of compiled code; ``here`` False: for compiling alone, also for an instruction set of other processors."""
        super().__init__(model, threads, isa, tuning)
        self.workers = min(threads or core_count(), core_count())
        self.isa = choose_isa(isa) if here else find_isa(isa)
        self.code = code = DEFAULT if cache is None else Code(cache)
        self._reused = ReusedCalls(code)
        self.fused: dict[tuple[str, int], FusedForms] = {}
        if self.isa is not None:
            size = sum(m.matrix.weight.size for m in model.matrices)
            for layer in model.recurrent_layers:
                for number, d in enumerate(layer.directions):
                    if can_fuse(d):
                        self.fused[layer.name, number] = FusedForms(self.isa, layer, d, size, code)
        self._packed = {
            (layer.name, number): plain.pack_direction(layer, d)
            for layer in model.recurrent_layers
            for number, d in enumerate(layer.directions)
        }
        dense = [layer for layer in model.layers if isinstance(layer, QuantDense)]
        self._matrices = {layer.name: plain.pack_matrix(layer.matrix) for layer in dense}
        self.packed_dense = {} if self.isa is None else {layer.name: DenseRun(self.isa, layer) for layer in dense}
        self._functions = {
            layer.name: pack_gates((layer.function,)) for layer in model.layers if isinstance(layer, QuantPointwise)
        }

    def rows_call(self, name: str, place: Int64Array, *values: Any) -> Call:
        """The function ``name`` of `qrnn.backends.cpu.stream_rows` for rows place[FIRST] … place[LAST] - 1."""
        return Call(Kernel("qrnn.backends.cpu.stream_rows", name), place, *values, isa=self.isa)

    def _in_tasks(self, arrays: Sequence[Any], how: Reused, macs: int, task_macs: int, grain: int = 1) -> None:
        """Make a call for all rows of ``arrays`` now, spread as `_spread` does."""
        self._spread(
            lambda first, last: self._reused.run(how.kind, how.make, arrays, how.number, first, last),
            len(arrays[0]), macs, task_macs, grain,
        )  # fmt: skip

    def plain_directions(self) -> tuple[str, ...]:
        """The directions, ``layer[number]``, whose steps are not fused: their products are the plain loops of `qrnn.backends.cpu.kernels`."""
        every = ((layer.name, k) for layer in self.model.recurrent_layers for k in range(len(layer.directions)))
        return tuple(f"{name}[{number}]" for name, number in every if (name, number) not in self.fused)

    def quantize(self, values: FloatArray, fmt: TensorFormat) -> Int16Array:
        x = np.ascontiguousarray(values.reshape(-1, values.shape[-1]))
        out = np.empty(x.shape, np.int16)

        def make(control: Int64Array, arrays: Sequence[Any]) -> Call:
            return self.rows_call("quantize", control, *arrays, scaling(fmt.scales, fmt.limit, x.dtype), fmt.limit)

        how = Reused(("quantize", fmt.scale, fmt.limit, x.dtype.char), make, 1)
        self._in_tasks((x, out), how, x.shape[1], BOUNDARY_TASK)
        return out.reshape(values.shape)

    def dequantize(self, q: Int16Array | Int32Array, fmt: TensorFormat) -> FloatArray:
        if len(fmt.scale) > 1:
            return super().dequantize(q, fmt)
        flat = np.ascontiguousarray(q.reshape(-1, q.shape[-1]))
        out = np.empty(flat.shape)

        def make(control: Int64Array, arrays: Sequence[Any]) -> Call:
            return self.rows_call("dequantize_whole", control, *arrays, fmt.scales)

        how = Reused(("dequantize", fmt.scale, q.dtype.char), make, 1)
        self._in_tasks((out, flat), how, flat.shape[1], BOUNDARY_TASK)
        return out.reshape(q.shape)

    def recurrent(
        self, layer: QuantRecurrent, x: Int16Array, state: LayerState, lengths: IndexArray, trace: Trace | None
    ) -> tuple[Int16Array, LayerState]:
        P, D = layer.output_size, len(layer.directions)
        x = np.ascontiguousarray(x)
        if D == 1:  # nothing to be put together
            h, c = state[0][:, 0].copy(), state[1][:, 0].copy()
            return self._direction(layer, 0, x, h, c, lengths, trace), (h[:, None], c[:, None])
        y = np.empty((*x.shape[:2], D * P), np.int16)
        h_n, c_n = np.empty_like(state[0]), np.empty_like(state[1])
        for number in range(D):
            h, c = state[0][:, number].copy(), state[1][:, number].copy()
            y[:, :, number * P : (number + 1) * P] = self._direction(layer, number, x, h, c, lengths, trace)
            h_n[:, number], c_n[:, number] = h, c
        return y, (h_n, c_n)

    def _direction(
        self,
        layer: QuantRecurrent,
        number: int,
        x: Int16Array,
        h: Int16Array,
        c: Int32Array,
        lengths: IndexArray,
        trace: Trace | None,
    ) -> Int16Array:
        """One direction's Y [N, T, P]; h [N, P] and c [N, H or 0] are replaced by the final state.

        By fused steps where the instruction set and the cell allow it, and nobody asks what happened inside.
        """
        (N, T, _), d = x.shape, layer.directions[number]
        forms = self.fused.get((layer.name, number)) if trace is None else None
        traces = plain.traces_of(d, c, N, 0 if trace is None else T)
        # of fused steps, only padding is not written
        y = (np.zeros if forms is None or shortest(lengths) < T else np.empty)((N, T, layer.output_size), np.int16)
        data = (x, np.ascontiguousarray(lengths), h, c, y)
        members = self._members(d, N, T, forms is not None)
        if members > 1 and forms is not None:
            forms.choose(N, T, members).run_shared(data, members, _patience(T * _macs(d)))
        elif members > 1 and T * _macs(d) >= ONCE_MACS:
            control = np.zeros(3, np.int64)
            calls = CallList((self.plain_call(layer, number, control, data, members, traces),), control, self.code)
            calls.wake()
            calls.run(0, 1)
        elif forms is not None:
            self._spread(partial(forms.choose(N, T, 1).run, *data), N, T * _macs(d), FUSED_TASK_MACS, VECTORS)
        else:

            def once(first: int, last: int) -> None:
                control = np.zeros(3, np.int64)
                call = self.plain_call(layer, number, control, data, 1, traces)
                CallList((call,), control, self.code).run(first, last)

            self._spread(once, N, T * _macs(d), TASK_MACS)
        if trace is not None:
            key = f"{layer.name}[{number}]"
            trace.arrays.update({f"{key}.pre": traces[0], f"{key}.h": y, f"{key}.c": traces[1]})
        return y

    def _members(self, d: QuantDirection, sequences: int, steps: int, fused: bool) -> int:
        """Threads that share a sequence alone, of so many steps. A projection reads all of h: gangs do not split it."""
        macs = _macs(d)
        least, in_all = (FUSED_GANG_MACS, FUSED_RUN_MACS) if fused else (GANG_MACS, 2 * TASK_MACS)
        if not GANGS_WORK or sequences > 1 or d.projection is not None or steps * macs < in_all:
            return 1
        return min(self.workers, MOST, max(1, macs // least), largest_gang(macs) if fused else MOST)

    def _spread(self, run: Callable[..., None], count: int, macs: int, task_macs: int, grain: int = 1) -> None:
        """Run items 0 … count - 1 of ``macs`` multiply-adds each, split over the pool into tasks of ``task_macs`` or more.

        A task has ``grain`` items where there are enough for all workers.
        """
        workers = self.workers
        if workers == 1 or count == 1 or count * macs < 2 * task_macs:
            run(0, count)
            return
        tasks = min(count, max(workers, min(4 * workers, count * macs // task_macs, count // grain)))
        bounds = [count * k // tasks for k in range(tasks + 1)]
        list(shared_pool().map(run, bounds[:-1], bounds[1:]))

    def warm_up(self, batch: int | None, steps: int | None, streams: int | None) -> bool:
        from qrnn.backends.cpu.warm_up import wanted_by

        self.code.addresses(wanted_by(self, batch, steps, streams))
        return True

    def streams(self, capacity: int) -> CpuStreams:
        return CpuStreams(self, capacity)

    def step_call(
        self, layer: QuantRecurrent, place: Int64Array, rows: Int64Array, x: Int16Array, h: Int16Array, c: Int32Array, y: Int16Array
    ) -> Call:  # fmt: skip
        """One step of a layer's one direction for streams ``rows``; see `fused.tick` and `stream_rows.sequences`."""
        d, M = layer.directions[0], len(rows)
        forms = self.fused.get((layer.name, 0))
        if forms is not None:
            return forms.choose(M, 1, 1).call(place, rows, x, h, c, y)
        traces = plain.traces_of(d, c, M, 0)
        own = (np.zeros_like(h), np.zeros_like(c))
        return self.rows_call(
            "sequences", place, rows, *codes_of(layer), *self._packed[layer.name, 0], x[:, None], h, c, y[:, None],
            np.ones(M, np.int64), own, traces, plain.scratch(layer, d, 1),
        )  # fmt: skip

    def sequences(self, size: int, steps: int, real: Any) -> CpuSequences | None:
        widest = max(fmt.features for fmt in self.model.tensors.values())
        if size * steps * widest > SEQUENCE_ELEMENTS:
            return None
        work = max((_macs(d) for layer in self.model.recurrent_layers for d in layer.directions), default=0)
        shares = min(self.workers, size, max(1, size * steps * work // FUSED_TASK_MACS)) if size > 1 else 1
        return CpuSequences(self, size, steps, real, shares)

    def sequence_call(
        self, layer: QuantRecurrent, number: int, place: Int64Array, data: SequenceData, gangs: bool
    ) -> Call:
        """One direction over sequences place[FIRST] … place[LAST] - 1, as `_direction`; by a gang only where ``gangs`` allows it."""
        d, (N, T, _), forms = layer.directions[number], data[0].shape, self.fused.get((layer.name, number))
        members = self._members(d, N, T, forms is not None) if gangs else 1
        if forms is None:
            return self.plain_call(layer, number, place, data, members)
        fused = forms.choose(N, T, members)
        if members == 1:
            return fused.whole_call(place, *data)
        return fused.shared_call(place, data, members, _patience(T * _macs(d)))

    def plain_call(
        self,
        layer: QuantRecurrent,
        number: int,
        place: Int64Array,
        data: SequenceData,
        members: int,
        traces: Any = None,
    ) -> Call:
        """One direction by the plain loops; ``traces``: `plain.traces_of`, of no steps without it."""
        if traces is None:
            traces = plain.traces_of(layer.directions[number], data[3], len(data[0]), 0)
        own = plain.scratch(layer, layer.directions[number], members)
        d, parts = layer.directions[number], self._packed[layer.name, number]
        fixed = (*codes_of(layer), d.reverse, *parts, *data, traces, own)
        if members == 1:
            return self.rows_call("whole_sequences", place, (0, 1), *fixed)
        one = np.array([0, 1, 0])
        alone = self.rows_call("whole_sequences", one, (0, 1), *fixed)
        calls = [self.rows_call("whole_sequences", one, (me, members), *fixed) for me in range(members)]
        return SharedCall(calls, alone, own[-1], PATIENCE)

    def dense_call(self, layer: QuantDense, place: Int64Array, x: Int16Array, out: Int16Array) -> Call:
        """A dense layer over rows."""
        packed = layer.name in self.packed_dense and x.size * out.shape[1] >= DENSE_MACS
        return self._dense_call(layer, packed, place, x, out)

    def _dense_call(self, layer: QuantDense, packed: bool, place: Int64Array, x: Int16Array, out: Int16Array) -> Call:
        if packed:
            return self.packed_dense[layer.name].call(place, x, out)
        own = np.empty(x.shape[1], np.int16), np.empty(out.shape[1], np.int32)
        operand = layer.operand.shift, layer.operand.limit
        return self.rows_call("dense", place, self._matrices[layer.name], layer.pre_shift, *operand, x, out, own)

    def pointwise_call(self, layer: QuantPointwise, place: Int64Array, x: Int16Array, out: Int16Array) -> Call:
        """A pointwise layer over rows."""
        formats = layer.in_frac, layer.function.out_frac - layer.out_frac
        own = np.empty(POINTWISE_BLOCK, np.int32)
        return self.rows_call("pointwise", place, *self._functions[layer.name], *formats, x, out, own)

    def softmax_call(self, layer: QuantSoftmax, place: Int64Array, x: Int16Array, out: Int16Array) -> Call:
        """A softmax over rows."""
        return self.rows_call("softmax", place, layer.table, layer.in_frac, x, out, np.empty(x.shape[1], np.int64))

    def dense(self, layer: QuantDense, x: Int16Array) -> Int16Array:
        (M, K), R = x.shape, layer.matrix.weight.shape[0]
        x, out = np.ascontiguousarray(x), np.empty((M, R), np.int16)
        packed = layer.name in self.packed_dense and M * R * K >= DENSE_MACS

        def make(control: Int64Array, arrays: Sequence[Any]) -> Call:
            return self._dense_call(layer, packed, control, *(np.zeros((1, n), np.int16) for n in (K, R)))

        how = Reused(("dense", layer.name, packed), make, 3 if packed else 5)
        self._in_tasks((x, out), how, R * K, FUSED_TASK_MACS if packed else TASK_MACS, AHEAD if packed else 1)
        return out

    def pointwise(self, layer: QuantPointwise, x: Int16Array) -> Int16Array:
        out = np.empty_like(x)
        self._alone((x, out), Reused(layer.name, lambda c, a: self.pointwise_call(layer, c, *a), 5))
        return out

    def softmax(self, layer: QuantSoftmax, x: Int16Array) -> Int16Array:
        out, wide = np.empty_like(x), np.zeros((1, x.shape[1]), np.int16)
        self._alone((x, out), Reused(layer.name, lambda c, _: self.softmax_call(layer, c, wide, wide), 3))
        return out

    def add(self, layer: QuantAdd, a: Int16Array, b: Int16Array) -> Int16Array:
        out = np.empty_like(a)
        self._alone(
            (a, b, out), Reused(layer.name, lambda c, given: self.rows_call("add", c, *layer.shifts, *given), 4)
        )
        return out

    def concat(self, layer: QuantConcat, *parts: Int16Array) -> Int16Array:
        found = []
        for part, x in zip(layer.parts, parts, strict=True):
            picked = np.ascontiguousarray(x[:, part.indices])
            out, fracs = np.empty_like(picked), (part.in_frac, layer.out_frac)
            how = Reused(("align", *fracs), lambda c, a, fracs=fracs: self.rows_call("align", c, *fracs, *a), 3)  # type: ignore[misc]
            self._alone((picked, out), how)
            found.append(out)
        return np.concatenate(found, axis=1)

    def embedding(self, layer: QuantEmbedding, tokens: IndexArray) -> Int16Array:
        rows: Int16Array = layer.table[tokens]
        return rows

    def _alone(self, arrays: Sequence[Any], how: Reused) -> None:
        """Make a call for all rows of ``arrays``, by one thread."""
        self._reused.run(how.kind, how.make, arrays, how.number, 0, len(arrays[0]))


def _macs(d: QuantDirection) -> int:
    """Multiply-adds of a step of a direction."""
    return d.ih.weight.size + d.matrix_hh.weight.size


def largest_gang(macs: int) -> int:
    """Members beyond which one more costs a fused step of so many multiply-adds more at the barrier than it takes off the rest.

    With m members a step takes macs / m and, since each looks at the flags of all, m times what a look takes: least at the square root of
    their quotient. A look at another core's flag takes some 0.1 µs, as long as 2^13 multiply-adds or more; not measured beyond two cores.
    """
    return max(2, isqrt(macs >> 13))


def _patience(macs: int) -> int:
    """Pauses that a run of so many multiply-adds by fused steps is worth waiting: less than it takes alone; a short one is not."""
    return 1 << max(0, macs.bit_length() - 13) if macs >= FUSED_TASK_MACS else 0
