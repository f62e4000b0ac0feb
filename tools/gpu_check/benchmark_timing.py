"""Time calls: on the device by events on the stream of the work, on the host by its clock; samples of several runners in turn."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from gpu_check.benchmark_rows import Times
from qrnn.accuracy.metrics import sqnr_db
from qrnn.model.parts import FloatArray

ROUNDS = 15
SAMPLE_MS = 0.3
"""A sample is of as many calls as take this long."""

WARM_CALLS = 3
FEWEST = 3
RUNNER_SECONDS = 2.0
"""After so long a runner of a row takes no further samples, once it has ``FEWEST``."""


class WrongOutputError(Exception):
    """A runner does not compute what it should."""


Clock = Callable[[Callable[[], Any], int], tuple[float, float]]
"""Returns the milliseconds of a number of calls: on the device from the first to the last, and of the host until all are queued."""


@dataclass(frozen=True)
class Runner:
    """A column of a row: ``run`` does a call, ``output`` starts anew and returns the verified sequences, [V, T, H].

    ``prepare`` is called before ``run`` when other runners ran in between.
    """

    run: Callable[[], Any]
    output: Callable[[], FloatArray]
    least_db: float
    clock: Clock
    prepare: Callable[[], Any] = lambda: None
    note: str = ""


def verified_sqnr(want: FloatArray, runner: Runner) -> float:
    """Return the SQNR of a runner's output in dB; WrongOutputError where it is less than the runner's least."""
    found = sqnr_db(want, runner.output())
    if not found >= runner.least_db:
        raise WrongOutputError(f"its output is wrong: SQNR {found:.1f} dB, expected at least {runner.least_db:g} dB")
    return found


def host_clock(run: Callable[[], Any], calls: int) -> tuple[float, float]:
    """Time on a device whose work is done when a call returns: the CPU, and Numba's simulator."""
    began = time.perf_counter()
    for _ in range(calls):
        run()
    took = 1000.0 * (time.perf_counter() - began)
    return took, took


def numba_clock(run: Callable[[], Any], calls: int) -> tuple[float, float]:
    """Time by Numba's events on the legacy default stream, on which backend cuda works."""
    from numba import cuda

    begin, end = cuda.event(), cuda.event()
    return _by_events(run, calls, begin, end, lambda: float(cuda.event_elapsed_time(begin, end)))


def torch_clock(run: Callable[[], Any], calls: int) -> tuple[float, float]:
    """Time by PyTorch's events on its current stream."""
    import torch

    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    return _by_events(run, calls, begin, end, lambda: float(begin.elapsed_time(end)))


def _by_events(
    run: Callable[[], Any], calls: int, begin: Any, end: Any, elapsed: Callable[[], float]
) -> tuple[float, float]:
    begin.record()
    began = time.perf_counter()
    for _ in range(calls):
        run()
    host = 1000.0 * (time.perf_counter() - began)
    end.record()
    end.synchronize()
    return elapsed(), host


@dataclass
class _Taken:
    calls: int
    device: list[float]
    host: list[float]
    seconds: float = 0.0


def take_samples(runners: Mapping[str, Runner], steps_a_call: float, rounds: int = ROUNDS) -> dict[str, Times]:
    """Return medians of rounds in which each runner has a turn, and the order of turns rotates.

    The buffers are the same in every call, so weights and inputs are in the second-level cache as far as they fit, as in continuous use.
    """
    taken = {name: _Taken(_calls(runner), [], []) for name, runner in runners.items()}
    names = list(runners)
    for turn in range(rounds):
        for k in range(len(names)):
            name = names[(turn + k) % len(names)]
            one, runner = taken[name], runners[name]
            if len(one.device) >= FEWEST and one.seconds > RUNNER_SECONDS:
                continue
            began = time.monotonic()
            runner.prepare()
            device, host = runner.clock(runner.run, one.calls)
            one.device.append(1000.0 * device / one.calls)
            one.host.append(1000.0 * host / one.calls)
            one.seconds += time.monotonic() - began
    return {name: _times(one, steps_a_call) for name, one in taken.items()}


def _calls(runner: Runner) -> int:
    """Return the calls of a sample; the runner is warm afterwards."""
    runner.prepare()
    runner.clock(runner.run, WARM_CALLS)
    once = runner.clock(runner.run, 1)[0]
    return max(1, math.ceil(SAMPLE_MS / max(once, 1e-3)))


def _times(taken: _Taken, steps: float) -> Times:
    low, _, high = quantiles(taken.device, n=4) if len(taken.device) > 1 else taken.device * 3
    return Times(median(taken.device) / steps, low / steps, high / steps, median(taken.host), len(taken.device))
