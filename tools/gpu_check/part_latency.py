"""Measure barriers, exchanges between blocks, reads, launches and calls: the latencies on which the choice of kernels rests.

The result has, in microseconds: ``block_barrier_us`` by threads; ``grid_barrier_us`` and ``grid_exchange_us`` by blocks of 256 threads;
``read_us`` by the bytes that reads are spread over; ``launch_host_us``, ``launch_us`` and ``round_trip_us`` by the kind of kernel;
``call_us`` by what is called; and ``clock_mhz``, the highest clock by the driver. What was not measured is absent.
"""

from __future__ import annotations

import subprocess
import traceback
from collections.abc import Callable
from typing import Any

from gpu_check.frame import CheckError, Options, Result, Write

ORDER = 40
SECONDS = 25.0
TITLE = "Latencies"

THREADS = 256
BLOCKS = (2, 8, 16, 33, 66, 132)
"""The sizes of grids that are measured, besides that of as many blocks as the device has multiprocessors."""

READS = (16 << 10, 1 << 20, 16 << 20, 512 << 20)
"""Bytes that reads are spread over: within the first-level cache, within the second-level cache, near its size, and beyond it."""


def measure(options: Options, write: Write) -> None:
    """Measure the part; see `gpu_check.frame`."""
    result: Result = {"failed": {}}

    def keep(group: str, key: object, find: Callable[[], Any]) -> None:
        if options.left() < 2.0:
            result["failed"][f"{group} {key}"] = "left out: the time is up"
            return
        try:
            result.setdefault(group, {})[str(key)] = find()
        except Exception as error:  # noqa: BLE001  (the other latencies are measured whatever this is)
            traceback.print_exc()
            result["failed"][f"{group} {key}"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        write(result)

    if options.dry_run:
        _calls(keep, 1)
        _fail(result)
        return
    import numpy as np
    from numba import cuda

    from gpu_check import timed_kernels as timed
    from qrnn.backends.cuda.device import find_device
    from qrnn.backends.cuda.launch import configured

    device = find_device()
    result["clock_mhz"] = cuda.get_current_device().CLOCK_RATE / 1000
    for threads in (32, 64, 128, 256):
        keep("block_barrier_us", threads, lambda threads=threads: timed.block_barrier_us(threads))  # type: ignore[misc]
    many = sorted({blocks for blocks in (*BLOCKS, device.processors) if blocks <= device.processors})
    for blocks in many if device.cooperative else ():
        keep("grid_barrier_us", blocks, lambda blocks=blocks: timed.grid_barrier_us(blocks, THREADS))  # type: ignore[misc]
        keep("grid_exchange_us", blocks, lambda blocks=blocks: timed.grid_exchange_us(blocks, THREADS))  # type: ignore[misc]
    for size in READS:
        keep("read_us", size, lambda size=size: timed.read_us(size))  # type: ignore[misc]
    result["clock_after_mhz"] = _clock()
    arrays = [cuda.to_device(np.zeros(1, np.int32)) for _ in range(10)]
    launches = {
        "one argument": lambda: configured(timed.no_work, 1, 32)(1),
        "ten arrays": lambda: configured(timed.no_work_on_arrays, 1, 32)(*arrays, 1),
        "cooperative": lambda: configured(timed.grid_barriers, device.processors, THREADS)(0),
    }
    for name, run in launches.items():
        keep("launch_host_us", name, lambda run=run: timed.launches_us(run, 500)[0])  # type: ignore[misc]
        keep("launch_us", name, lambda run=run: timed.launches_us(run, 500)[1])  # type: ignore[misc]
        keep("round_trip_us", name, lambda run=run: timed.round_trip_us(run, 300))  # type: ignore[misc]
    _calls(keep, 200)
    _fail(result)


def _calls(keep: Callable[[str, object, Callable[[], Any]], None], count: int) -> None:
    """Time whole calls of a small model, which shows what a frame costs besides arithmetic."""
    from bench_workloads import inputs, network
    from numba import cuda

    from gpu_check import timed_kernels as timed
    from qrnn import Session

    hidden = 64 if count > 1 else 8
    session, x = Session(network("lstm", hidden).quantized, "cuda"), inputs(hidden, 1, 1, seed=2)
    there = cuda.to_device(x[:, 0].copy())

    def on_device() -> None:
        session.step({"x": there})
        cuda.synchronize()

    stream = session.stream(1)
    keep("call_us", f"LSTM {hidden}, a step of an array on the device", lambda: timed.call_us(on_device, count))
    keep(
        "call_us",
        f"LSTM {hidden}, a frame of a stream of the host",
        lambda: timed.call_us(lambda: stream.step({"x": x[:, 0]}), count),
    )


def _fail(result: Result) -> None:
    if result["failed"]:
        raise CheckError(f"{len(result['failed'])} latencies could not be measured")


def _clock() -> float | None:
    """Return the multiprocessors' clock at this moment in MHz, as nvidia-smi says it."""
    command = ["nvidia-smi", "--query-gpu=clocks.sm", "--format=csv,noheader,nounits", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
        return float(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


ROWS = {
    "block_barrier_us": "barrier of a block, threads",
    "grid_barrier_us": "barrier of a grid, blocks of 256 threads",
    "grid_exchange_us": "write, barrier of a grid, read of another block's word; blocks",
    "read_us": "read that waits for the one before, bytes that the reads are spread over",
    "launch_host_us": "launch, on the host",
    "launch_us": "launch after launch, until the device has done them; each",
    "round_trip_us": "launch that the host waits for",
    "call_us": "call",
}


def page(result: Result) -> str:
    """Return Markdown of the section."""
    clock = result.get("clock_mhz")
    text = []
    if clock:
        after = result.get("clock_after_mhz")
        said = f", and {after:.0f} MHz right after the barriers" if after else ""
        text += [f"Cycles are of {clock:.0f} MHz, which the driver gives as the greatest clock{said}.", ""]
    text += ["| | | µs | cycles |", "|---|---|---|---|"]
    for group, title in ROWS.items():
        for key, value in result.get(group, {}).items():
            text.append(f"| {title} | {key} | {value:.3f} | {f'{value * clock:.0f}' if clock else '–'} |")
    if result["failed"]:
        text += [
            "",
            "Not measured:",
            "",
            *(f"- {name.replace('_', ' ')}: {why}" for name, why in result["failed"].items()),
        ]
    return "\n".join(text)
