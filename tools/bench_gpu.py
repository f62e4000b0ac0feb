"""LSTM and GRU on an NVIDIA GPU: qrnn beside PyTorch's cuDNN in fp32, tf32, fp16 and bf16, and beside the device's floor.

    pip install -e '.[cuda13]' torch matplotlib
    python tools/bench_gpu.py [--cells lstm gru] [--sizes 128 256] [--batches 1 32] [--output docs/benchmarks/gpu.md]

Writes the page, and beside it gpu.json and gpu.png. Ends with one line where there is no GPU.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from bench_gpu_report import Result, as_json, page, plot, times_line, versions
from bench_gpu_rows import BATCHES, OURS, SIZES, STEPS, Facts, Row, cases, floor_of, plan_of, slope_us
from bench_runtimes import BF16_DB, F32_DB, INT8_DB
from bench_workloads import GATES, Case, Float32Array, inputs, network

import qrnn
from qrnn.accuracy.metrics import sqnr_db
from qrnn.backends.cuda.device import Device, find_device
from qrnn.errors import BackendError
from qrnn.model.parts import FloatArray
from qrnn.system.atomic import write_atomically

VERIFIED = 2
"""Sequences of a batch that are compared: the oracle takes long."""

F16_DB = 45.0
TF32_DB = 40.0
PRECISIONS = {"fp32": F32_DB, "tf32": TF32_DB, "fp16": F16_DB, "bf16": BF16_DB}
"""Least SQNR of cuDNN's outputs."""

WARM_CALLS = 3
BARRIERS = (2000, 12000)
"""In the two kernels whose times give a barrier's."""


@dataclass(frozen=True)
class Runner:
    """``run`` computes all steps; ``output`` the first sequences of the last run, [VERIFIED, T, H]."""

    run: Callable[[], Any]
    output: Callable[[], FloatArray]
    least_db: float


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compare speeds on a GPU and write docs/benchmarks/gpu.md.")
    parser.add_argument("--cells", nargs="+", choices=tuple(GATES), default=list(GATES))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/gpu.md"))
    options = parser.parse_args(arguments)
    if min(*options.sizes, *options.batches, options.rounds) < 1:
        parser.error("sizes, batches and rounds are at least 1")
    return options


def ours(case: Case, x: Float32Array) -> Runner:
    """`Session.run` on an array on the device."""
    from numba import cuda

    session = qrnn.Session(network(case.cell, case.hidden).quantized, "cuda")
    given, last = {"x": cuda.to_device(x)}, dict[str, Any]()

    def run() -> None:
        last.update(session.run(given).outputs)

    def output() -> FloatArray:
        run()
        y: FloatArray = last["y"].copy_to_host()[:VERIFIED]
        want = qrnn.Session(network(case.cell, case.hidden).quantized, "cpu").run({"x": x[:VERIFIED]}).outputs["y"]
        if not np.array_equal(y, want):
            raise SystemExit(f"{case.name}: backend cuda differs from backend cpu; nothing is timed")
        return y

    return Runner(run, output, INT8_DB)


def cudnn(case: Case, x: Float32Array, precision: str) -> Runner:
    """PyTorch's module on the device, time first as cuDNN likes it."""
    import torch

    kind = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    module = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[case.cell](case.hidden, case.hidden).eval()
    for parameter, value in zip(module.parameters(), network(case.cell, case.hidden).arrays, strict=True):
        parameter.data.copy_(torch.from_numpy(value))
    module = module.to("cuda", kind)
    module.flatten_parameters()
    given = torch.from_numpy(np.ascontiguousarray(x.swapaxes(0, 1))).to("cuda", kind)

    def run() -> Any:
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        with torch.inference_mode():
            return module(given)[0]

    def output() -> FloatArray:
        y: FloatArray = run()[:, :VERIFIED].double().cpu().numpy().swapaxes(0, 1)
        return y

    return Runner(run, output, PRECISIONS[precision])


def milliseconds(run: Callable[[], Any]) -> float:
    """Of one call on the default stream, by CUDA's events."""
    from numba import cuda

    begin, end = cuda.event(), cuda.event()
    begin.record()
    run()
    end.record()
    end.synchronize()
    return float(cuda.event_elapsed_time(begin, end))


def barrier_us(blocks: int) -> float:
    """µs that ``blocks`` blocks take to meet, 0 for the threads of one block alone."""
    from numba import cuda

    from qrnn.backends.cuda.launch import configured

    @cuda.jit  # type: ignore[untyped-decorator]
    def alone(count: int) -> None:
        for _ in range(count):
            cuda.syncthreads()

    @cuda.jit  # type: ignore[untyped-decorator]
    def together(count: int) -> None:
        grid = cuda.cg.this_grid()
        for _ in range(count):
            grid.sync()

    kernel = together if blocks else alone

    def time(count: int) -> float:
        launch = configured(kernel, max(1, blocks), 256)
        launch(count)
        return median(milliseconds(lambda: launch(count)) for _ in range(9))

    short, long = BARRIERS
    return slope_us(time(short), time(long), short, long)


def facts_of(device: Device) -> Facts:
    """What the floor needs to know."""
    from numba import cuda

    megahertz = cuda.get_current_device().CLOCK_RATE / 1000
    return Facts(device, megahertz, barrier_us(0), barrier_us(device.processors))


def measure(case: Case, facts: Facts, rounds: int, makers: dict[str, Callable[[Case, Float32Array], Runner]]) -> Row:
    """Verify and time a row: rounds in rotating order, medians."""
    x = inputs(case.hidden, case.batch, case.steps, seed=2)
    want = qrnn.run_oracle(network(case.cell, case.hidden).model, {"x": x[:VERIFIED]}).outputs["y"]
    runners: dict[str, Runner] = {}
    sqnr: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for name, make in makers.items():
        try:
            runner = make(case, x)
            found = sqnr_db(want, runner.output())
        except (RuntimeError, BackendError, MemoryError) as error:
            left_out[name] = str(error).splitlines()[0]
            continue
        if not found >= runner.least_db:
            left_out[name] = f"its output is wrong: SQNR {found:.1f} dB, expected at least {runner.least_db:g} dB"
            continue
        sqnr[name], runners[name] = found, runner
        for _ in range(WARM_CALLS):
            runner.run()
    samples: dict[str, list[float]] = {name: [] for name in runners}
    names = list(runners)
    for turn in range(rounds):
        for k in range(len(names)):
            name = names[(turn + k) % len(names)]
            samples[name].append(milliseconds(runners[name].run))
    us = {name: 1000 * median(found) / case.steps for name, found in samples.items()}
    plan = plan_of(case, facts.device)
    return Row(case, us, sqnr, floor_of(case, facts), "general" if plan is None else plan.name, left_out)


def makers_for(absent: Sequence[str]) -> dict[str, Callable[[Case, Float32Array], Runner]]:
    """The columns."""
    makers: dict[str, Callable[[Case, Float32Array], Runner]] = {OURS: ours}
    if "torch" not in absent:
        for precision in PRECISIONS:
            makers[f"cuDNN {precision}"] = lambda case, x, precision=precision: cudnn(case, x, precision)  # type: ignore[misc]
    return makers


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    options = parse(arguments)
    try:
        device = find_device()
    except BackendError as error:
        raise SystemExit(f"no GPU to measure: {error}") from None
    found, absent = versions(("qrnn", "numba-cuda", "numpy", "torch"))
    facts = facts_of(device)
    rows = []
    for case in cases(options.cells, options.sizes, options.batches, STEPS):
        rows.append(measure(case, facts, options.rounds, makers_for(absent)))
        print(times_line(rows[-1]), flush=True)
    command = shlex.join(["python", "tools/bench_gpu.py", *arguments])
    result = Result(tuple(rows), facts, found, absent, command, options.rounds)
    text = page(result)
    print(text)
    write_atomically(options.output, text.encode())
    write_atomically(options.output.with_suffix(".json"), as_json(result))
    write_atomically(options.output.with_suffix(".png"), plot(result))


if __name__ == "__main__":
    main(sys.argv[1:])
