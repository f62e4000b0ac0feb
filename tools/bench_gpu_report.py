"""The page, the JSON and the picture of tools/bench_gpu.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bench_gpu_rows import OURS, Facts, Row, summary
from bench_picture import Bar, ratios
from provenance import revision, when


@dataclass(frozen=True)
class Result:
    """A whole run; ``versions`` by package, ``absent``: packages that were not there."""

    rows: tuple[Row, ...]
    facts: Facts
    versions: dict[str, str]
    absent: tuple[str, ...]
    command: str
    rounds: int


def as_json(result: Result) -> bytes:
    """Everything, for programs."""
    device = result.facts.device
    content = {
        "date": str(datetime.now(UTC).date()),
        "revision": revision(),
        "command": result.command,
        "device": {
            "name": device.name,
            "compute_capability": list(device.capability),
            "multiprocessors": device.processors,
            "shared_bytes_per_block": device.shared_per_block,
            "megahertz": result.facts.megahertz,
            "block_barrier_us": result.facts.block_barrier_us,
            "grid_barrier_us": result.facts.grid_barrier_us,
        },
        "versions": result.versions,
        "absent": list(result.absent),
        "rounds": result.rounds,
        "summary": summary(result.rows),
        "rows": [row.as_dict() for row in result.rows],
    }
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def _figure(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}" if value < 100 else f"{value:.0f}"


def times_line(row: Row) -> str:
    """A row for the terminal."""
    times = ", ".join(f"{name} {_figure(us)}" for name, us in row.us.items())
    return f"{row.case.name}: {times}; floor {row.floor.us:.2f}; ratio {_figure(row.ratio)}; {row.plan}"


def _table(rows: Sequence[Row]) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row.us))
    headings = ["", *names, "best peer", "ratio", "floor", "qrnn / floor", "qrnn's kernel"]
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for row in rows:
        cells = [row.case.label, *(_figure(row.us.get(name)) for name in names), row.peer or "–"]
        cells += [f"**{_figure(row.ratio)}**", f"{row.floor.us:.3f}", _figure(row.over_floor, 1), row.plan]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def page(result: Result) -> str:
    """docs/benchmarks/gpu.md."""
    facts, device = result.facts, result.facts.device
    capability = ".".join(map(str, device.capability))
    lines = [
        "# Speed on an NVIDIA GPU, beside cuDNN and the device's floor",
        "",
        f"Made by `{result.command}` on {when()}; all figures: [gpu.json](gpu.json).",
        "",
        f"- {device.name}, compute capability {capability}, {device.processors} multiprocessors, {facts.megahertz:.0f} MHz",
        f"- {', '.join(f'{name} {version}' for name, version in result.versions.items())}",
        f"- measured here: a block meets in {facts.block_barrier_us:.3f} µs, the whole grid in {facts.grid_barrier_us:.3f} µs",
        *(f"- not installed, left out: {name}" for name in result.absent),
        "",
        "A ratio is the best peer's time over qrnn's: above 1, qrnn is quicker.",
        "",
    ]
    for label, found in summary(result.rows).items():
        lines.append(
            f"- batch {label}: geometric mean **{found['geometric_mean']:.2f}**, worst {found['worst']:.2f} ({found['worst_row']}, "
            f"against {found['worst_peer']}), {found['behind']} of {found['rows']} rows below 1"
        )
    lines += ["", "![Ratios of every row](gpu.png)", ""]
    for batch in sorted({row.case.batch for row in result.rows}):
        chosen = [row for row in result.rows if row.case.batch == batch]
        lines += [
            f"## Batch {batch}",
            "",
            f"µs a time step of the batch; sequences of {chosen[0].case.steps} steps.",
            "",
        ]
        lines += [*_table(chosen), ""]
    reasons = [f"- {row.case.name}: {name}: {why}" for row in result.rows for name, why in row.left_out.items()]
    if reasons:
        lines += ["## Left out", "", *reasons, ""]
    return "\n".join([*lines, *_method(result)])


def _method(result: Result) -> list[str]:
    worst: dict[str, float] = {}
    for row in result.rows:
        for name, sqnr in row.sqnr.items():
            worst[name] = min(sqnr, worst.get(name, sqnr))
    return [
        "## How",
        "",
        "One layer, inputs as many as units, the same random weights and inputs for all, everything on the device before the clock starts.",
        "cuDNN is PyTorch's `nn.LSTM` and `nn.GRU`; tf32 is its own switch. qrnn is `Session.run` on an array on the device, float64",
        "outputs and both conversions included. Each output is verified before it is timed, against the float64 oracle on the first",
        "sequences of the batch; qrnn's also against backend cpu, bit for bit. Lowest SQNR: "
        + (", ".join(f"{name} {sqnr:.0f} dB" for name, sqnr in worst.items()) or "none")
        + ".",
        "",
        f"CUDA events around a call, after warm calls; medians of {result.rounds} rounds in rotating order; the host's launches are in it.",
        "",
        "Floor: the barrier of qrnn's kernel, measured here, and the longer of two times by formula: the bytes of R of the fullest block",
        "at 128 bytes a cycle (40 where R is read from the cache), and all multiply-adds at the tensor cores' int8 rate by the data sheet.",
        "",
    ]


def plot(result: Result) -> bytes:
    """Ratios of every row, a PNG."""
    batches = sorted({row.case.batch for row in result.rows})
    groups = {
        f"batch {batch}": [Bar(row.case.label, row.ratio, row.peer) for row in result.rows if row.case.batch == batch]
        for batch in batches
    }
    return ratios(groups, OURS)


def versions(packages: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Of those that are installed; and the others."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, Any] = {}
    absent = []
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            absent.append(name)
    return found, tuple(absent)
