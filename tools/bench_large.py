"""Time large layers at batch 1 with weights of eight and of four bits, beside ONNX Runtime and beside what reading their bytes takes.

    pip install -e '.[peers]'
    python tools/bench_large.py [--cells lstm gru] [--sizes 512 1024] [--threads 1 2] [--streaming] [--output docs/benchmarks/large.md]

Each model is one layer with as many inputs as units, the same for all (`bench_workloads`). A row is µs a step of one sequence of 100 steps by
`Session.run`, which reads the weights of h at every step; with ``--streaming`` of steps by `Stream.step`, which read all weights. The
dynamic int8 of ONNX Runtime has no GRU: its 32-bit floats stand there. Before anything is timed, four bits must give the bits of the same
weights stored in bytes, and outputs are verified as by tools/bench_peers.py. Rounds are interleaved; figures are medians.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
from bench_limits import peak, read_rate
from bench_report import machine
from bench_rows import positive, verified
from bench_runtimes import INT8_DB, LeftOutError, Runner, make_qrnn, runtimes
from bench_workloads import CALIBRATION_SEQUENCES, CALIBRATION_STEPS, GATES, Case, Work, inputs, work
from provenance import when

import qrnn
from qrnn.backends.cpu.threads.pool import core_count
from qrnn.model.parts import AnyMatrix, QuantMatrix
from qrnn.model.quant_model import QuantModel
from qrnn.running.bench import Others, Timed, interleaved, processor, settle
from qrnn.system.atomic import write_atomically

STEPS = 100
SAMPLE_SECONDS = 0.02
FOUR_BITS = qrnn.Scheme(input="8", weights=4, refine="none")
"""Which weights have four bits does not depend on the refinement, and the time does not depend on their values."""
PEERS = ("ONNX Runtime int8", "ONNX Runtime f32")
"""The first that takes part is a row's peer."""


@dataclass(frozen=True)
class Row:
    """µs a step of a case with so many threads: by bits, of the peer, and the limits of reading by bits and of arithmetic."""

    case: Case
    threads: int
    us: dict[int, float]
    peer: str
    peer_us: float
    read_bytes: dict[int, int]
    reading_us: dict[int, float]
    arithmetic_us: float
    others: float | None

    def limit_us(self, bits: int) -> float:
        """The longer of reading and arithmetic."""
        return max(self.reading_us[bits], self.arithmetic_us)

    def cells(self, bits: int) -> list[str]:
        """A row of the page's table."""
        us, reading = self.us[bits], self.reading_us[bits]
        limits = [f"{reading:.1f}", f"{self.arithmetic_us:.1f}", f"{us / self.limit_us(bits):.2f}"]
        how = "a step a call" if self.case.streaming else "sequence"
        peer = self.peer.removeprefix("ONNX Runtime ")
        own = [self.case.label, how, str(self.threads), str(bits), f"{self.read_bytes[bits] / 2**20:.2f}", f"{us:.1f}"]
        return [*own, *limits, f"{self.peer_us:.1f} ({peer})", f"**{self.peer_us / us:.2f}**"]


HEAD = (
    *("layer", "run", "threads", "bits", "MiB a step", "µs", "reading", "arithmetic", "µs / limit"),
    *("ONNX Runtime", "times as fast"),
)


def expanded(model: QuantModel) -> QuantModel:
    """Return the same integers with every weight stored as int8."""

    def bytes_of(m: AnyMatrix) -> QuantMatrix:
        return QuantMatrix(m.weight, m.bias, m.multiplier, m.left_shift, m.operand_limit)

    layer = model.recurrent_layers[0]
    d = layer.directions[0]
    return replace(
        model, layers=(replace(layer, directions=(replace(d, ih=bytes_of(d.ih), hh=bytes_of(d.matrix_hh)),)),)
    )


def four_bits(given: Work) -> Work:
    """Return the work with weights of four bits; SystemExit where they give other results than as bytes."""
    calibration = inputs(given.case.hidden, CALIBRATION_SEQUENCES, CALIBRATION_STEPS, seed=1)
    model = qrnn.quantize(given.network.model, {"x": calibration}, FOUR_BITS, progress=False)
    found = [qrnn.Session(m, "cpu", 1).run({"x": given.x}).outputs["y"] for m in (model, expanded(model))]
    if not np.array_equal(found[0], found[1]):
        raise SystemExit(f"{given.case.name}: weights of four bits give other results than as bytes; nothing is timed")
    return replace(given, network=replace(given.network, quantized=model))


def read_bytes(model: QuantModel, case: Case) -> int:
    """Return the bytes of weights that a step reads."""
    d = model.recurrent_layers[0].directions[0]
    return d.matrix_hh.weight_bytes + (d.ih.weight_bytes if case.streaming else 0)


def peer_runner(given: Work, threads: int) -> tuple[str, Runner]:
    """Return the name of the row's peer, and its runner."""
    for runtime in runtimes():
        if runtime.name in PEERS[:1] or (runtime.name in PEERS and given.case.cell != "lstm"):
            try:
                runner = runtime.make(given, threads)
                verified(runner, given, runtime.least_db)
            except LeftOutError:
                continue
            return runtime.name, runner
    raise SystemExit(f"{given.case.name}: ONNX Runtime does not run it")


def measure(case: Case, threads: Sequence[int], rounds: int) -> list[Row]:
    """Return the rows of a case."""
    given = work(case)
    works = {8: given, 4: four_bits(given)}
    timed, peers = {}, {}
    for count in threads:
        for bits, one in works.items():
            runner = make_qrnn(one, count)
            if bits == 8:
                verified(runner, one, INT8_DB)
            timed[f"{bits} {count}"] = Timed(runner.run, runner.prepare)
        name, runner = peer_runner(given, count)
        peers[count] = name
        timed[f"peer {count}"] = Timed(runner.run, runner.prepare)
        settle()
    others = Others()
    samples = interleaved(timed, rounds, SAMPLE_SECONDS)
    busy = others.cores()
    us = {key: 1e6 * median(found) / case.steps for key, found in samples.items()}
    sizes = {bits: read_bytes(one.network.quantized, case) for bits, one in works.items()}
    return [
        Row(
            case,
            count,
            {bits: us[f"{bits} {count}"] for bits in works},
            peers[count],
            us[f"peer {count}"],
            sizes,
            {bits: 1e6 * size / read_rate(size, count) for bits, size in sizes.items()},
            1e6 * case.step_macs / peak(count).rate,
            busy,
        )
        for count in threads
    ]


def page(rows: Sequence[Row], command: str) -> str:
    """Return the page."""
    about = machine()
    busy = max((row.others for row in rows if row.others is not None), default=0.0)
    lines = [
        "# Large layers at batch 1: eight and four bits, beside ONNX Runtime and the limit",
        "",
        f"Made by `{command}` on {when()}; {processor()}, {core_count()} cores, {', '.join(about['caches'])}.",
        f"Other processes used at most {busy:.2f} cores while a row was measured.",
        "",
        "| " + " | ".join(HEAD) + " |",
        "|" + "---|" * len(HEAD),
        *("| " + " | ".join(row.cells(bits)) + " |" for row in rows for bits in (8, 4)),
        "",
        "µs are those of a step. MiB a step: the weights that are read anew at every step, as they are stored: those of h in a",
        "sequence, all in a step a call. *Reading*: the time to load as many bytes over and over, each thread its share, measured in",
        f"the same run. *Arithmetic*: all multiply-adds at the best rate (1 thread: {peak(1).rate / 1e9:.0f} GMAC/s by",
        f"{peak(1).how}). The limit is the longer of the two; gates, states and conversions are not in it.",
        "*Times as fast*: ONNX Runtime's time over qrnn's with as many threads, with its dynamic int8, or where that has no such cell",
        "(GRU) with 32-bit floats. Models of four bits were compared with the same weights stored in bytes: the same bits.",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Time large layers with weights of eight and of four bits.")
    parser.add_argument("--cells", nargs="+", choices=tuple(GATES), default=list(GATES))
    parser.add_argument("--sizes", nargs="+", type=positive, default=[512, 1024])
    parser.add_argument("--threads", nargs="+", type=positive, default=[1, 2])
    parser.add_argument("--streaming", action="store_true", help="steps, one a call, beside the sequences")
    parser.add_argument("--rounds", type=positive, default=7)
    parser.add_argument("--output", type=Path, help="the page; without it, it is only printed")
    options = parser.parse_args(arguments)
    if max(options.threads) > core_count():
        parser.error(f"--threads {max(options.threads)}: this process may use {core_count()} cores")
    cases = [
        Case(cell, hidden, 1, STEPS, streaming)
        for streaming in ((False, True) if options.streaming else (False,))
        for cell in options.cells
        for hidden in options.sizes
    ]
    rows = [row for case in cases for row in measure(case, options.threads, options.rounds)]
    text = page(rows, shlex.join(["python", "tools/bench_large.py", *arguments]))
    print(text)
    if options.output is not None:
        write_atomically(options.output, text.encode())


if __name__ == "__main__":
    main(sys.argv[1:])
