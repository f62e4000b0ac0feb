"""Threads and layout of the CPU backend: which sequences and rows each thread gets.

Sequences are spread over a pool of Python threads (the kernels release the GIL); a single long-rowed sequence is shared by a gang of
threads that meet at a barrier once a step. Numba's own threading layers are not used: one of them aborts the process when two threads
run parallel kernels at once, and which layer a user has depends on the platform.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isqrt
from typing import Any

import numpy as np

from qrnn.arithmetic.gates import PARAMS
from qrnn.backends.base import Engine, LayerState, Trace
from qrnn.backends.cpu import kernels, stream_rows
from qrnn.backends.cpu.barrier import FLAG_STRIDE, GANGS_WORK
from qrnn.backends.cpu.calls import Call, CallList
from qrnn.backends.cpu.crew import MOST, PATIENCE, SharedCall
from qrnn.backends.cpu.dense import DenseRun
from qrnn.backends.cpu.fused import AHEAD
from qrnn.backends.cpu.isa import choose_isa
from qrnn.backends.cpu.matrix import VECTORS
from qrnn.backends.cpu.packed import FusedForms, can_fuse
from qrnn.backends.cpu.pools import core_count, shared_pool
from qrnn.backends.cpu.real_rows import scaling
from qrnn.backends.cpu.sequences import SEQUENCE_ELEMENTS, CpuSequences
from qrnn.backends.cpu.streams import CpuStreams
from qrnn.model.batch import shortest
from qrnn.model.cell_codes import FUNCTION, IDENTITY, NONE, SOFTMAX, codes_of
from qrnn.model.cell_formats import pack_formats
from qrnn.model.float_model import FloatArray, IndexArray
from qrnn.model.parts import Int8Array, Int16Array, Int32Array, Int64Array, Matrix, TensorFormat, pack_gates
from qrnn.model.quant_model import QuantAdd, QuantDense, QuantModel, QuantPointwise, QuantSoftmax, named_matrices
from qrnn.model.quant_recurrent import QuantDirection, QuantPeephole, QuantProjection, QuantRecurrent

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


def _pack(matrix: Matrix) -> tuple[Any, ...]:
    return (np.ascontiguousarray(matrix.weight), matrix.bias, matrix.multiplier, matrix.left_shift)


def _pack_peephole(peephole: QuantPeephole | None) -> tuple[Int16Array, Int8Array]:
    if peephole is None:
        return np.zeros(0, np.int16), np.zeros(0, np.int8)
    return peephole.weight, peephole.shift


def _pack_projection(p: QuantProjection | None, h_frac: int) -> tuple[Any, ...]:
    """(matrix, pre_shift, params, tables, (kind, shift, limit, in_frac, out_shift)), all of them empty where there is none."""
    matrix: tuple[Any, ...] = (
        np.zeros((0, 0), np.int8),
        np.zeros(0, np.int32),
        np.zeros(0, np.int32),
        np.zeros(0, np.int8),
    )
    params, tables, pre_shift = np.zeros((0, PARAMS), np.int64), np.zeros((0, 0), np.int32), np.zeros(0, np.int8)
    if p is None:
        return matrix, pre_shift, params, tables, (NONE, 0, 0, 0, 0)
    kind = IDENTITY
    if p.function is not None:
        kind, (params, tables) = FUNCTION, pack_gates((p.function,))
    elif p.table is not None:
        kind, tables = SOFTMAX, p.table[None]
    formats = (kind, p.operand.shift, p.operand.limit, p.in_frac, p.out_frac - h_frac)
    return _pack(p.matrix), p.pre_shift, params, tables, formats


SequenceData = tuple[Int16Array, IndexArray, Int16Array, Int32Array, Int16Array]
"""x, lengths, h, c, y."""


class CpuEngine(Engine):
    """See the module."""

    name = "cpu"
    takes_isa = True

    def __init__(self, model: QuantModel, threads: int | None = None, isa: str | None = None) -> None:
        super().__init__(model, threads, isa)
        self.workers = min(threads or core_count(), core_count())
        self.isa = choose_isa(isa)
        self._fused: dict[tuple[str, int], FusedForms] = {}
        if self.isa is not None:
            size = sum(m.weight.size for _, m, _ in named_matrices(model.layers))
            for layer in model.recurrent_layers:
                for number, d in enumerate(layer.directions):
                    if can_fuse(d):
                        self._fused[layer.name, number] = FusedForms(self.isa, layer, d, size)
        self._packed = {
            (layer.name, number): (
                _pack(d.ih),
                _pack(d.hh),
                (d.pre_shift, *pack_gates(d.gates), _pack_peephole(d.peephole)),
                _pack_projection(d.projection, layer.h_frac),
                pack_formats(layer, d),
            )
            for layer in model.recurrent_layers
            for number, d in enumerate(layer.directions)
        }
        self._matrices = {layer.name: _pack(layer.matrix) for layer in model.layers if isinstance(layer, QuantDense)}
        self._dense: dict[str, DenseRun] = {}
        if self.isa is not None:
            dense = (layer for layer in model.layers if isinstance(layer, QuantDense))
            self._dense = {layer.name: DenseRun(self.isa, layer) for layer in dense}
        self._functions = {
            layer.name: pack_gates((layer.function,)) for layer in model.layers if isinstance(layer, QuantPointwise)
        }

    def plain_directions(self) -> tuple[str, ...]:
        """The directions, ``layer[number]``, whose steps are not fused: their products are the plain loops of `qrnn.backends.cpu.kernels`."""
        every = ((layer.name, k) for layer in self.model.recurrent_layers for k in range(len(layer.directions)))
        return tuple(f"{name}[{number}]" for name, number in every if (name, number) not in self._fused)

    def quantize(self, values: FloatArray, fmt: TensorFormat) -> Int16Array:
        x = np.ascontiguousarray(values.reshape(-1, values.shape[-1]))
        out = np.empty(x.shape, np.int16)
        factors, limit = scaling(fmt.scales), fmt.limit

        def run(m0: int, m1: int) -> None:
            kernels.run_quantize(factors, limit, x, out, m0, m1)

        self._spread(run, len(x), x.shape[1], BOUNDARY_TASK)
        return out.reshape(values.shape)

    def dequantize(self, q: Int16Array | Int32Array, fmt: TensorFormat) -> FloatArray:
        if len(fmt.scale) > 1:
            return super().dequantize(q, fmt)
        flat = np.ascontiguousarray(q.reshape(-1, q.shape[-1]))
        out = np.empty(flat.shape)
        scale = fmt.scales

        def run(m0: int, m1: int) -> None:
            kernels.run_dequantize(scale, flat, out, m0, m1)

        self._spread(run, len(flat), flat.shape[1], BOUNDARY_TASK)
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
        forms = self._fused.get((layer.name, number)) if trace is None else None
        traces = _traces(d, c, N, 0 if trace is None else T)
        # of fused steps, only padding is not written
        y = (np.zeros if forms is None or shortest(lengths) < T else np.empty)((N, T, layer.output_size), np.int16)
        data = (x, np.ascontiguousarray(lengths), h, c, y)
        members = self._members(d, N, T, forms is not None)
        if members > 1 and forms is not None:
            forms.choose(N, T, members).run_shared(data, members, _patience(T * _macs(d)))
        elif members > 1 and T * _macs(d) >= ONCE_MACS:
            calls = CallList((self._sequence_call(layer, number, None, data, traces, members),), np.zeros(3, np.int64))
            calls.wake()
            calls.run(0, 0)
        elif forms is not None:
            self._spread(partial(forms.choose(N, T, 1).run, *data), N, T * _macs(d), FUSED_TASK_MACS, VECTORS)
        else:
            fixed = (*codes_of(layer), d.reverse, *self._packed[layer.name, number], *data, traces)

            def run(n0: int, n1: int) -> None:
                kernels.run_sequences(*fixed, _scratch(layer, d, 1), (n0, n1, 0, 1))

            self._spread(run, N, T * _macs(d), TASK_MACS)
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

    def streams(self, capacity: int) -> CpuStreams:
        return CpuStreams(self, capacity)

    def step_call(
        self, layer: QuantRecurrent, place: Int64Array, rows: Int64Array, x: Int16Array, h: Int16Array, c: Int32Array, y: Int16Array
    ) -> Call:  # fmt: skip
        """One step of a layer's one direction for streams ``rows``; see `fused.tick` and `stream_rows.sequences`."""
        d, M = layer.directions[0], len(rows)
        forms = self._fused.get((layer.name, 0))
        if forms is not None:
            return forms.choose(M, 1, 1).call(place, rows, x, h, c, y)
        codes, traces = codes_of(layer), _traces(d, c, M, 0)
        own = (np.zeros_like(h), np.zeros_like(c))
        return Call(
            stream_rows.sequences, place, rows, *codes, *self._packed[layer.name, 0], x[:, None], h, c, y[:, None],
            np.ones(M, np.int64), own, traces, _scratch(layer, d, 1),
        )  # fmt: skip

    def sequences(self, size: int, steps: int, real: Any) -> CpuSequences | None:
        widest = max(fmt.features for fmt in self.model.tensors.values())
        if size * steps * widest > SEQUENCE_ELEMENTS:
            return None
        work = max((_macs(d) for layer in self.model.recurrent_layers for d in layer.directions), default=0)
        shares = min(self.workers, size, max(1, size * steps * work // FUSED_TASK_MACS)) if size > 1 else 1
        return CpuSequences(self, size, steps, real, shares)

    def sequence_call(self, layer: QuantRecurrent, number: int, data: SequenceData, gangs: bool) -> Call:
        """One direction over whole sequences, as `_direction`; by a gang only where ``gangs`` allows it."""
        forms = self._fused.get((layer.name, number))
        c, (N, T, _) = data[3], data[0].shape
        members = self._members(layer.directions[number], N, T, forms is not None) if gangs else 1
        return self._sequence_call(layer, number, forms, data, _traces(layer.directions[number], c, N, 0), members)

    def _sequence_call(
        self,
        layer: QuantRecurrent,
        number: int,
        forms: FusedForms | None,
        data: SequenceData,
        traces: Any,
        members: int,
    ) -> Call:
        d, (N, T, _) = layer.directions[number], data[0].shape
        if forms is not None:
            fused = forms.choose(N, T, members)
            return (
                fused.whole_call(*data) if members == 1 else fused.shared_call(data, members, _patience(T * _macs(d)))
            )
        own = _scratch(layer, d, members)
        fixed = (*codes_of(layer), d.reverse, *self._packed[layer.name, number], *data, traces, own)
        alone = Call(kernels.run_sequences, *fixed, (0, N, 0, 1))
        if members == 1:
            return alone
        calls = [Call(kernels.run_sequences, *fixed, (0, N, me, members)) for me in range(members)]
        return SharedCall(calls, alone, own[-1], PATIENCE)

    def dense_call(self, layer: QuantDense, place: Int64Array, x: Int16Array, out: Int16Array) -> Call:
        """A dense layer over rows."""
        packed, (M, K) = self._dense.get(layer.name), x.shape
        if packed is not None and M * K * out.shape[1] >= DENSE_MACS:
            return packed.call(place, x, out)
        return Call(stream_rows.dense, place, *self.dense_parts(layer), x, out)

    def dense_parts(self, layer: QuantDense) -> tuple[Any, ...]:
        """What `kernels.run_dense` takes before its arrays."""
        return self._matrices[layer.name], layer.pre_shift, layer.operand.shift, layer.operand.limit

    def pointwise_parts(self, layer: QuantPointwise) -> tuple[Any, ...]:
        """What `kernels.run_pointwise` takes before its arrays."""
        return *self._functions[layer.name], layer.in_frac, layer.function.out_frac - layer.out_frac

    def dense(self, layer: QuantDense, x: Int16Array) -> Int16Array:
        R = layer.matrix.weight.shape[0]
        M, K = x.shape
        out = np.empty((M, R), np.int16)
        packed = self._dense.get(layer.name)
        if packed is not None and M * R * K >= DENSE_MACS:
            self._spread(partial(packed.run, np.ascontiguousarray(x), out), M, R * K, FUSED_TASK_MACS, AHEAD)
            return out
        parts = self.dense_parts(layer)

        def run(m0: int, m1: int) -> None:
            kernels.run_dense(*parts, x, out, m0, m1)

        self._spread(run, M, R * K, TASK_MACS)
        return out

    def pointwise(self, layer: QuantPointwise, x: Int16Array) -> Int16Array:
        out = np.empty_like(x)
        kernels.run_pointwise(*self.pointwise_parts(layer), x.reshape(-1), out.reshape(-1))
        return out

    def softmax(self, layer: QuantSoftmax, x: Int16Array) -> Int16Array:
        out = np.empty_like(x)
        kernels.run_softmax(layer.table, layer.in_frac, x, out)
        return out

    def add(self, layer: QuantAdd, a: Int16Array, b: Int16Array) -> Int16Array:
        out = np.empty_like(a)
        kernels.run_add(*layer.shifts, a.reshape(-1), b.reshape(-1), out.reshape(-1))
        return out

    def align(self, x: Int16Array, from_frac: int, to_frac: int) -> Int16Array:
        out = np.empty_like(x)
        kernels.run_align(from_frac, to_frac, x.reshape(-1), out.reshape(-1))
        return out


def _traces(d: QuantDirection, c: Int32Array, sequences: int, steps: int) -> tuple[Int16Array, Int32Array]:
    """What `kernels.run_sequences` traces into: nothing where there are no steps."""
    pre = np.zeros((sequences, steps, d.hh.weight.shape[0]), np.int16)
    return pre, np.zeros((sequences, steps, c.shape[1]), np.int32)


def _macs(d: QuantDirection) -> int:
    """Multiply-adds of a step of a direction."""
    return d.ih.weight.size + d.hh.weight.size


def largest_gang(macs: int) -> int:
    """Members beyond which one more costs a fused step of so many multiply-adds more at the barrier than it takes off the rest.

    With m members a step takes macs / m and, since each looks at the flags of all, m times what a look takes: least at the square root of
    their quotient. A look at another core's flag takes some 0.1 µs, as long as 2^13 multiply-adds or more; not measured beyond two cores.
    """
    return max(2, isqrt(macs >> 13))


def _patience(macs: int) -> int:
    """Pauses that a run of so many multiply-adds by fused steps is worth waiting: less than it takes alone; a short one is not."""
    return 1 << max(0, macs.bit_length() - 13) if macs >= FUSED_TASK_MACS else 0


def _scratch(layer: QuantRecurrent, d: QuantDirection, threads: int) -> tuple[Any, ...]:
    """Scratch of one gang on direction ``d``: h operands (two in turn, and r·h), h before its projection, x operands, flags.

    Each thread has its own x operands. Operands are kept as int16 even where they are int8: widened once a step instead of once a row.
    """
    return (
        np.empty((3, layer.output_size), np.int16),
        np.empty((2, layer.hidden_size if d.projection is not None else 0), np.int16),
        np.empty((threads, layer.input_size), np.int16),
        np.zeros(threads * FLAG_STRIDE, np.int64),
    )
