"""Run the sweep on a device, or in the simulator. This module imports numba.cuda, so only the process of a part may import it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from statistics import median
from typing import Any

import numpy as np
from numba import cuda

from gpu_check.part_sweep import Timing
from gpu_check.sweep_jobs import Case
from gpu_check.sweep_layers import DISTINCT, SMALL, Layer, random_layer
from qrnn.backends.cuda.device import Device
from qrnn.backends.cuda.engine import CudaEngine
from qrnn.backends.cuda.filled import zeros
from qrnn.backends.cuda.input_product import multiply_inputs
from qrnn.backends.cuda.intrinsics import SIMULATED
from qrnn.backends.cuda.kernel_variants import Kind, ProductKind, StepKind
from qrnn.backends.cuda.kinds.recurrent import FusedSteps
from qrnn.backends.cuda.lengths import Lengths
from qrnn.backends.cuda.plan import StepPlan
from qrnn.backends.cuda.proofs import watched_kernels
from qrnn.backends.cuda.tuning import Tuning
from qrnn.backends.cuda.weights import upload

MOST_BYTES = 1 << 28
"""Bytes of W·x of a timed run."""

FEWEST_STEPS, MOST_STEPS = 8, 320
"""Steps of the longer one of two timed runs; the shorter one has a quarter."""

REPETITIONS = 5
DEFAULT_MEGAHERTZ = 1000.0
"""The clock where the driver names none: then all constants are in units of 1 ns."""

UNPROVED = Tuning(unproved=True)


def clock_megahertz() -> float:
    """Return the multiprocessors' highest clock in MHz, by the driver."""
    kilohertz = None if SIMULATED else getattr(cuda.get_current_device(), "CLOCK_RATE", None)
    return kilohertz / 1000.0 if kilohertz else DEFAULT_MEGAHERTZ


def milliseconds(run: Callable[[], Any]) -> float:
    """Return the time of one call on the default stream, by CUDA's events; in the simulator, by the host's clock."""
    if SIMULATED:
        began = time.perf_counter()
        run()
        return 1000.0 * (time.perf_counter() - began)
    begin, end = cuda.event(), cuda.event()
    begin.record()
    run()
    end.record()
    end.synchronize()
    return float(cuda.event_elapsed_time(begin, end))


def timed_steps(batch: int, rows: int) -> tuple[int, int]:
    """Return the numbers of steps of the two runs that are timed: as many as W·x leaves room for."""
    long = min(MOST_STEPS, max(FEWEST_STEPS, MOST_BYTES // (4 * batch * rows)))
    return long // 4, long


@cache
def layer_on_device(cell: str, hidden: int, operand_bytes: int) -> tuple[Layer, CudaEngine]:
    """Return a layer with its parameters on the device, where all layers of the sweep have room."""
    layer = random_layer(cell, hidden, operand_bytes)
    return layer, CudaEngine(layer.model)


class DeviceRunner:
    """The `gpu_check.part_sweep.Runner` of a device."""

    def __init__(self, device: Device, dry_run: bool) -> None:
        self.device, self.dry_run = device, dry_run

    def prepare(self, kind: StepKind, case: Case, plan: StepPlan) -> None:
        """Compile the kernel by its first run."""
        self._exact(case, plan)
        if not SIMULATED:
            cuda.synchronize()

    def run(self, case: Case, plan: StepPlan) -> Timing:
        """Verify every sequence of a batch, then time the steps alone, without W·x."""
        short, long = (1, 2) if self.dry_run else timed_steps(case.batch, case.layout.gates * case.hidden)
        seen: dict[Kind, None] = {}
        with watched_kernels(lambda kind: seen.setdefault(kind)):
            exact = self._exact(case, plan)
        kinds = tuple(seen)
        if not exact:
            return Timing(False, None, (short, long), None, kinds)
        run = self._steps(case, plan, long)
        times: dict[int, list[float]] = {short: [], long: []}
        run(short)
        for _ in range(1 if self.dry_run else REPETITIONS):
            for count, found in times.items():
                found.append(milliseconds(lambda count=count: run(count)))  # type: ignore[misc]
        slopes = [1000.0 * (b - a) / (long - short) for a, b in zip(times[short], times[long], strict=True)]
        middle = median(slopes)
        spread = (max(slopes) - min(slopes)) / middle if middle > 0 else None
        return Timing(True, middle if middle > 0 else None, (short, long), spread, kinds)

    def alive(self) -> bool:
        """Return whether the device still works; see `gpu_check.part_sweep.Runner`."""
        try:
            return bool((zeros((3,), np.int32).copy_to_host() == 0).all())
        except Exception:  # noqa: BLE001  (whatever the driver says: it runs nothing)
            return False

    def _exact(self, case: Case, plan: StepPlan) -> bool:
        """Return whether every state and output of every sequence is that of the reference; a large batch has each sequence many times."""
        layer, engine = layer_on_device(case.cell, case.hidden, case.operand_bytes)
        own = engine.tuned(replace(UNPROVED, choose=lambda *_: plan))
        at = np.random.default_rng(case.batch).permutation(np.arange(case.batch) % DISTINCT)
        state = tuple(np.zeros((case.batch, 1, part.shape[2]), part.dtype) for part in (layer.h, layer.c))
        found = own.recurrent(layer.layer, layer.x[at], state, layer.lengths[at], None)
        y, (h, c) = found
        return all(np.array_equal(a, b[at]) for a, b in ((y, layer.y), (h, layer.h), (c, layer.c)))

    def _steps(self, case: Case, plan: StepPlan, steps: int) -> Callable[[int], None]:
        """Return a function that runs a number of steps of a batch."""
        layer, engine = layer_on_device(case.cell, case.hidden, case.operand_bytes)
        w = engine.on_device.directions[layer.layer.name, 0]
        N, H = case.batch, case.hidden
        lengths = Lengths.of(np.full(N, steps))
        x = np.resize(layer.x.reshape(-1, SMALL), (N * steps, SMALL)).reshape(N, steps, SMALL)
        kind = ProductKind(w.inputs.planes, False, self.device.capability)
        xs = multiply_inputs(w.inputs, upload(x), lengths.device, False, 0, steps, kind, UNPROVED)
        xs = xs.reshape(steps, N, w.size)
        h, c = zeros((N, H), np.int16), zeros((N, H if case.cell == "lstm" else 0), np.int32)
        y = zeros((N, steps, H), np.int16)
        fused = FusedSteps(w, plan, N, UNPROVED)
        return lambda count: fused(xs, h, c, lengths, y, 0, 0, count)
