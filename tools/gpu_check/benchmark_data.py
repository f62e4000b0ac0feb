"""Networks, inputs and answers of the benchmark, made in processes before anything is timed, since quantizing a large layer takes seconds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import get_context
from typing import Any

import numpy as np
from bench_workloads import Float32Array, inputs, network

import qrnn
from gpu_check.benchmark_rows import Spec
from qrnn.model.parts import FloatArray, IndexArray

DISTINCT = 13
"""Sequences that differ; a larger batch repeats them. Not a multiple of what a tile holds."""

STEP_CALLS = 20
"""Steps that are verified where a call is one step."""

PROCESSES = 12
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass
class Layer:
    """A layer: weights in PyTorch's order, the quantized model, ``x`` [DISTINCT, T, H], and the float64 oracle's answer of the same shape."""

    arrays: tuple[Float32Array, ...]
    quantized: Any
    x: Float32Array
    want: FloatArray
    gpu: dict[str, Any] = field(default_factory=dict)
    """What else is kept of it while it is measured: the session on the device."""

    @cached_property
    def bits(self) -> FloatArray:
        """The answer of backend cpu, [DISTINCT, T, H]."""
        return qrnn.Session(self.quantized, "cpu").run({"x": self.x}).outputs["y"]

    def answer(self) -> None:
        """Compute ``bits`` now: a first run compiles backend cpu."""
        _ = self.bits


@dataclass(frozen=True)
class Data:
    """What a row computes: its layer, and which of a batch's sequences are verified."""

    spec: Spec
    layer: Layer
    steps: int

    @cached_property
    def x(self) -> Float32Array:
        """The inputs [N, T, H]; for a row of lone steps, those of the steps that are verified."""
        return np.ascontiguousarray(self.layer.x[np.arange(self.spec.batch) % DISTINCT, : self.steps])

    @property
    def verified(self) -> IndexArray:
        """The indices of the first, a middle and the last sequence."""
        N = self.spec.batch
        return np.unique([0, N // 2, N - 1])

    def of_verified(self, answer: FloatArray) -> FloatArray:
        """Take the verified sequences from an answer for the distinct ones: [V, T, H], zero past their lengths."""
        found = answer[self.verified % DISTINCT, : self.steps].copy()
        if (lengths := self.spec.lengths) is not None:
            found[np.arange(self.steps) >= lengths[self.verified, None]] = 0.0
        return found


def data_of(spec: Spec, layer: Layer) -> Data:
    """Return a row's data."""
    return Data(spec, layer, min(spec.steps, STEP_CALLS) if spec.kind == "step" else spec.steps)


def make_layer(cell: Any, hidden: int, steps: int) -> Layer:
    """Make a layer of random weights, and its answers."""
    made = network(cell, hidden)
    x = inputs(hidden, DISTINCT, steps, seed=2)
    return Layer(made.arrays, made.quantized, x, qrnn.run_oracle(made.model, {"x": x}).outputs["y"])


class Layers:
    """The layers of some rows, by cell and hidden size, each made in a process of its own."""

    def __init__(self, specs: Iterable[Spec], processes: int = PROCESSES) -> None:
        wanted = dict.fromkeys((spec.cell, spec.hidden, spec.steps) for spec in specs)
        self._made: dict[tuple[str, int], Layer | Future[Layer] | Exception] = {}
        self._pool: ProcessPoolExecutor | None = None
        if processes == 0:
            self._made = {(cell, hidden): make_layer(cell, hidden, steps) for cell, hidden, steps in wanted}
            return
        before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, "2"))
        try:
            self._pool = ProcessPoolExecutor(min(processes, len(wanted)), get_context("spawn"))
            by_size = sorted(wanted, key=lambda one: -one[1])  # the longest first
            self._made = {(c, H): self._pool.submit(make_layer, c, H, steps) for c, H, steps in by_size}
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def wait(self) -> None:
        """Wait until all are made, and until backend cpu, whose first run compiles it, has answered each."""
        for key, made in self._made.items():
            try:
                layer = made.result() if isinstance(made, Future) else made
                if isinstance(layer, Layer):
                    layer.answer()
                self._made[key] = layer
            except Exception as error:  # noqa: BLE001  (the rows of this layer fail by it, the others are measured)
                self._made[key] = error
        if self._pool is not None:
            self._pool.shutdown()

    def of(self, spec: Spec) -> Layer:
        """Return a row's layer; RuntimeError where it could not be made."""
        made = self._made[spec.cell, spec.hidden]
        if isinstance(made, Layer):
            return made
        assert isinstance(made, Exception), "wait for them first"
        raise RuntimeError(f"its layer could not be made: {type(made).__name__}: {made}") from made
