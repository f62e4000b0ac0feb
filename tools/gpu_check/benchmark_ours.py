"""The columns of qrnn in the benchmark. This module imports numba.cuda, so only the process of a part may import it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from bench_runtimes import INT8_DB
from numba import cuda

import qrnn
from gpu_check.benchmark_data import Data
from gpu_check.benchmark_rows import OURS, OURS_LAUNCHED, RAGGED, STEP
from gpu_check.benchmark_timing import Runner, host_clock, numba_clock
from qrnn.backends.cuda.filled import ones
from qrnn.backends.cuda.intrinsics import SIMULATED
from qrnn.backends.cuda.tuning import Tuning
from qrnn.model.parts import FloatArray
from qrnn.running.device_stream import DeviceStream

CLOCK = host_clock if SIMULATED else numba_clock
SIMULATED_MEGAHERTZ = 1000.0
"""The simulator has no clock: its figures mean nothing."""


class WrongBitsError(Exception):
    """Backend cuda does not have the bits of backend cpu."""


def session_of(data: Data) -> Any:
    """Return the session of a layer on the device, which all of its rows share."""
    if "session" not in data.layer.gpu:
        data.layer.gpu["session"] = qrnn.Session(data.layer.quantized, "cuda", tuning=Tuning(unproved=True))
    return data.layer.gpu["session"]


def graph_runner(data: Data) -> Runner:
    """Return a runner of `qrnn.Session.device_stream`, in which a call is one launch of a captured graph."""
    spec, session = data.spec, session_of(data)
    steps = None if spec.kind == STEP else data.steps
    stream = DeviceStream(session, spec.batch, steps=steps, lengths=spec.lengths)

    def give(t: int) -> None:
        frames = data.x[:, t] if steps is None else data.x
        stream.inputs["x"].copy_to_device(np.ascontiguousarray(frames))

    def output() -> FloatArray:
        stream.reset()
        found = []
        for t in range(data.steps if steps is None else 1):
            give(t)
            stream.advance()
            found.append(_verified(stream.outputs["y"], data))
        stream.check()
        return _same_bits(np.stack(found, axis=1) if steps is None else found[0], data)

    note = "" if stream.not_captured is None else f"launched one by one: {stream.not_captured}"
    return Runner(stream.advance, output, INT8_DB, CLOCK, note=note)


def launched_runner(data: Data) -> Runner:
    """Return a runner of `qrnn.Session.run`, or `step`, on arrays on the device.

    Kernels are launched one by one, and a call waits for the device once.
    """
    spec, session = data.spec, session_of(data)
    if spec.kind == STEP:
        frames = [{"x": cuda.to_device(np.ascontiguousarray(data.x[:, t]))} for t in range(data.steps)]
        state: Any = None

        def step() -> None:
            nonlocal state
            state = session.step(frames[0], state).state

        def steps() -> FloatArray:
            state, found = None, []
            for frame in frames:
                result = session.step(frame, state)
                state = result.state
                found.append(_verified(result.outputs["y"], data))
            return _same_bits(np.stack(found, axis=1), data)

        return Runner(step, steps, INT8_DB, CLOCK)
    given, lengths = {"x": cuda.to_device(data.x)}, spec.lengths

    def run() -> Any:
        return session.run(given, lengths)

    return Runner(run, lambda: _same_bits(_verified(run().outputs["y"], data), data), INT8_DB, CLOCK)


def _verified(y: Any, data: Data) -> FloatArray:
    """Return the verified sequences of an output on the device."""
    return np.stack([y[int(n)].copy_to_host() for n in data.verified])


def _same_bits(y: FloatArray, data: Data) -> FloatArray:
    want = data.of_verified(data.layer.bits)
    if not np.array_equal(y, want):
        wrong = int((y != want).sum())
        raise WrongBitsError(
            f"{data.spec.name}: {wrong} of {want.size} values differ from backend cpu, {session_of(data).engine.plans(data.spec.batch)}"
        )
    return y


def clock_megahertz() -> float:
    """Return the highest clock of the multiprocessors in MHz, by the driver."""
    return SIMULATED_MEGAHERTZ if SIMULATED else float(cuda.get_current_device().CLOCK_RATE / 1000)


def release() -> None:
    """Free the memory of a row's columns, ours and PyTorch's, which both keep some for later."""
    gc.collect()
    if not SIMULATED:
        cuda.current_context().memory_manager.deallocations.clear()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def alive() -> bool:
    """Return whether the device still works: after some errors it runs nothing more in this process."""
    try:
        cuda.synchronize()
        return bool((ones(3).copy_to_host() == 1).all())
    except Exception:  # noqa: BLE001  (whatever the driver says: it runs nothing)
        return False


def columns(data: Data) -> dict[str, Callable[[Data], Runner]]:
    """Return the columns of qrnn that a row has."""
    return {OURS: graph_runner} if data.spec.kind == RAGGED else {OURS: graph_runner, OURS_LAUNCHED: launched_runner}
