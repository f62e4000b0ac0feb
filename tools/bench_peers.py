"""LSTM and GRU on the CPU: qrnn beside ONNX Runtime, PyTorch and OpenVINO, and beside the machine's limit.

    pip install -e '.[peers]'
    python tools/bench_peers.py [--cells lstm gru] [--sizes 64 128] [--batches 1 32] [--threads 1 2] [--output docs/benchmarks/cpu.md]

Writes the page, and beside it the figures and a picture, under the page's name. Peers that are not installed are left out by name. No
environment variable is needed: each runtime is told its threads by its own setting.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from bench_report import Result, as_json, load_average, page, plot, times_line
from bench_rows import Settings, measure, positive
from bench_runtimes import Runtime, runtimes
from bench_workloads import GATES, Case

from qrnn.backends.cpu.threads.pool import core_count
from qrnn.system.atomic import write_atomically

SIZES = (64, 128, 256, 512, 1024)
STREAMING_SIZES = (64, 128, 256)
STEPS = 100
PEERS = ("onnxruntime", "torch", "openvino")
SAMPLE_SECONDS, ROW_SECONDS = 0.02, 12.0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Compare speeds on the CPU and write docs/benchmarks/cpu.md.")
    parser.add_argument("--cells", nargs="+", choices=tuple(GATES), default=list(GATES))
    parser.add_argument("--sizes", nargs="+", type=positive, help="hidden sizes, whole sequences")
    parser.add_argument("--batches", nargs="+", type=positive, default=[1, 32])
    parser.add_argument(
        "--streaming", nargs="*", type=positive, help="hidden sizes, one step a call; none for no such rows"
    )
    parser.add_argument("--threads", nargs="+", type=positive)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--rounds", type=positive, default=7)
    parser.add_argument(
        "--quick", action="store_true", help="a trial: short samples, three rounds; H 64 and one thread unless said"
    )
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/cpu.md"))
    options = parser.parse_args(arguments)
    options.sizes = options.sizes or ([64] if options.quick else list(SIZES))
    options.threads = options.threads or ([1] if options.quick else [1, 2])
    if options.streaming is None:
        options.streaming = [H for H in STREAMING_SIZES if H in options.sizes]
    if max(options.threads) > core_count():
        parser.error(f"--threads {max(options.threads)}: this process may use {core_count()} cores")
    return options


def cases(options: argparse.Namespace) -> list[Case]:
    """Return the rows that are asked for."""
    whole = [Case(c, H, N, STEPS) for N in options.batches for c in options.cells for H in options.sizes]
    return whole + [Case(c, H, 1, STEPS, streaming=True) for c in options.cells for H in options.streaming]


def run(options: argparse.Namespace, every: Sequence[Runtime], command: str) -> Result:
    """Measure every row, and print it when it is done."""
    load = load_average()
    wanted = [one for one in every if one.package == "qrnn" or one.package in options.peers]
    taking_part = tuple(one for one in wanted if one.installed)
    absent = tuple(dict.fromkeys(one.package for one in wanted if not one.installed))
    for name in absent:
        print(f"{name} is not installed and left out", flush=True)
    threads = tuple(dict.fromkeys(options.threads))
    settings = Settings(threads, options.rounds, SAMPLE_SECONDS, ROW_SECONDS)
    if options.quick:
        settings = Settings(threads, min(options.rounds, 3), SAMPLE_SECONDS / 10, ROW_SECONDS / 10)
    rows = []
    for case in cases(options):
        rows.append(measure(case, taking_part, settings))
        print(times_line(rows[-1]), flush=True)
        for name, reason in rows[-1].left_out.items():
            print(f"  {name} is left out: {reason}", flush=True)
    return Result(tuple(rows), settings, taking_part, absent, command, load)


def main(arguments: Sequence[str]) -> None:
    """Run the tool; see the module."""
    options = parse(arguments)
    result = run(options, runtimes(), shlex.join(["python", "tools/bench_peers.py", *arguments]))
    text = page(result, options.output.stem)
    print(text)
    write_atomically(options.output, text.encode())
    write_atomically(options.output.with_suffix(".json"), as_json(result))
    write_atomically(options.output.with_suffix(".png"), plot(result))


if __name__ == "__main__":
    main(sys.argv[1:])
