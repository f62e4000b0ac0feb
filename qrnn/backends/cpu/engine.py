"""Threads and layout of the CPU backend: which sequences and rows each thread gets.

Sequences are spread over a pool of Python threads (the kernels release the GIL); a single long-rowed sequence is shared by a gang of
threads that meet at a barrier once a step. Numba's own threading layers are not used: one of them aborts the process when two threads
run parallel kernels at once, and which layer a user has depends on the platform.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from qrnn.backends.base import Engine, LayerState, Trace
from qrnn.backends.cpu import kernels
from qrnn.backends.cpu.barrier import FLAG_STRIDE, GANGS_WORK
from qrnn.model.float_model import IndexArray
from qrnn.model.parts import Int16Array, Int32Array, Int64Array, QuantMatrix, pack_gates
from qrnn.model.quant_model import QuantDense, QuantModel, QuantPointwise, QuantRecurrent, QuantSoftmax

GANG_MACS = 1 << 18
"""A step of at least so many multiply-adds is worth a gang; below, the barrier and the start of threads cost more than they save."""

TASK_MACS = 1 << 21
"""A task handed to the pool does at least about so many multiply-adds."""

_gang_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def _forget_pool() -> None:
    """A forked child has none of its parent's threads: it makes its own pool when it needs one."""
    global _pool, _pool_lock, _gang_lock
    _pool, _pool_lock, _gang_lock = None, threading.Lock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def core_count() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_pool() -> ThreadPoolExecutor:
    """The process's pool of one thread a core, made at first use."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(core_count(), thread_name_prefix="qrnn")
        return _pool


def _pack(matrix: QuantMatrix) -> tuple[Any, ...]:
    return (np.ascontiguousarray(matrix.weight), matrix.bias, matrix.multiplier, matrix.left_shift)


def _formats(layer: QuantRecurrent) -> Int64Array:
    """The layer's formats as `qrnn.backends.cpu.kernels.run_sequences` reads them."""
    h, x = layer.h_operand, layer.x_operand
    return np.array([layer.h_frac, layer.c_frac, h.shift, h.limit, x.shift, x.limit], np.int64)


class CpuEngine(Engine):
    """See the module."""

    name = "cpu"

    def __init__(self, model: QuantModel, threads: int | None = None) -> None:
        super().__init__(model, threads)
        self.workers = min(threads or core_count(), core_count())
        self._packed = {
            (layer.name, number): (_pack(d.ih), _pack(d.hh), (d.pre_shift, *pack_gates(d.gates)))
            for layer in model.recurrent_layers
            for number, d in enumerate(layer.directions)
        }
        self._formats = {layer.name: _formats(layer) for layer in model.recurrent_layers}
        self._matrices = {layer.name: _pack(layer.matrix) for layer in model.layers if isinstance(layer, QuantDense)}
        self._functions = {
            layer.name: pack_gates((layer.function,)) for layer in model.layers if isinstance(layer, QuantPointwise)
        }

    def recurrent(
        self, layer: QuantRecurrent, x: Int16Array, state: LayerState, lengths: IndexArray, trace: Trace | None
    ) -> tuple[Int16Array, LayerState]:
        H, D = layer.hidden_size, len(layer.directions)
        y = np.empty((*x.shape[:2], D * H), np.int16)
        h_n, c_n = np.empty_like(state[0]), np.empty_like(state[1])
        x = np.ascontiguousarray(x)
        for number in range(D):
            h, c = state[0][:, number].copy(), state[1][:, number].copy()
            y[:, :, number * H : (number + 1) * H] = self._direction(layer, number, x, h, c, lengths, trace)
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
        """One direction's Y [N, T, H]; h [N, H] and c [N, H or 0] are replaced by the final state."""
        N, T, I = x.shape
        H, reverse = layer.hidden_size, layer.directions[number].reverse
        ih, hh, gates = self._packed[layer.name, number]
        R = hh[0].shape[0]
        formats = self._formats[layer.name]
        y = np.zeros((N, T, H), np.int16)
        traced = T if trace is not None else 0
        traces = (np.zeros((N, traced, R), np.int16), np.zeros((N, traced, c.shape[1]), np.int32))
        cell = _CELLS[layer.cell, layer.linear_before_reset]

        def run(n0: int, n1: int, me: int = 0, threads: int = 1, gang: Any = None) -> None:
            scratch = gang if gang is not None else _scratch(layer, threads)
            place = (n0, n1, me, threads)
            kernels.run_sequences(cell, reverse, ih, hh, gates, formats, x, lengths, h, c, y, traces, scratch, place)

        self._spread(run, N, T, R * (H + I), _scratch(layer, self.workers) if N == 1 else None)
        if trace is not None:
            key = f"{layer.name}[{number}]"
            trace.arrays.update({f"{key}.pre": traces[0], f"{key}.h": y, f"{key}.c": traces[1]})
        return y

    def _spread(self, run: Callable[..., None], count: int, steps: int, step_macs: int, gang: Any) -> None:
        """Run sequences 0 … count - 1: by a gang when one is long-rowed, else split over the pool."""
        workers = self.workers
        if workers == 1 or count * steps * step_macs < 2 * TASK_MACS:
            run(0, count)
        elif gang is not None:
            # One gang at a time: two gangs on the same cores would wait for each other's time slices.
            if GANGS_WORK and step_macs >= GANG_MACS and _gang_lock.acquire(blocking=False):
                try:
                    others = [threading.Thread(target=run, args=(0, 1, me, workers, gang)) for me in range(1, workers)]
                    for thread in others:
                        thread.start()
                    run(0, 1, 0, workers, gang)
                    for thread in others:
                        thread.join()
                finally:
                    _gang_lock.release()
            else:
                run(0, count)
        else:
            tasks = min(count, max(workers, min(4 * workers, count * steps * step_macs // TASK_MACS)))
            bounds = [count * k // tasks for k in range(tasks + 1)]
            list(shared_pool().map(run, bounds[:-1], bounds[1:]))

    def dense(self, layer: QuantDense, x: Int16Array) -> Int16Array:
        R = layer.matrix.weight.shape[0]
        M, K = x.shape
        out = np.empty((M, R), np.int16)
        matrix, operand = self._matrices[layer.name], layer.operand

        def run(m0: int, m1: int) -> None:
            kernels.run_dense(matrix, layer.pre_shift, operand.shift, operand.limit, x, out, m0, m1)

        self._spread(run, M, 1, R * K, None)
        return out

    def pointwise(self, layer: QuantPointwise, x: Int16Array) -> Int16Array:
        params, tables = self._functions[layer.name]
        out = np.empty_like(x)
        kernels.run_pointwise(
            params, tables, layer.in_frac, layer.function.out_frac - layer.out_frac, x.reshape(-1), out.reshape(-1)
        )
        return out

    def softmax(self, layer: QuantSoftmax, x: Int16Array) -> Int16Array:
        out = np.empty_like(x)
        kernels.run_softmax(layer.table, layer.in_frac, x, out)
        return out

    def align(self, x: Int16Array, from_frac: int, to_frac: int) -> Int16Array:
        out = np.empty_like(x)
        kernels.run_align(from_frac, to_frac, x.reshape(-1), out.reshape(-1))
        return out


_CELLS = {
    ("lstm", False): kernels.LSTM,
    ("lstm", True): kernels.LSTM,
    ("gru", False): kernels.GRU_RESET_BEFORE,
    ("gru", True): kernels.GRU_RESET_AFTER,
    ("rnn", False): kernels.RNN,
    ("rnn", True): kernels.RNN,
}
"""(cell, linear_before_reset) → the kernels' code."""


def _scratch(layer: QuantRecurrent, threads: int) -> tuple[Any, ...]:
    """Scratch of one gang: h operands (two in turn, and r·h), each thread's x operands, and the barrier's flags.

    Operands are kept as int16 even where they are int8: widened once a step instead of once a row.
    """
    return (
        np.empty((3, layer.hidden_size), np.int16),
        np.empty((threads, layer.input_size), np.int16),
        np.zeros(threads * FLAG_STRIDE, np.int64),
    )
