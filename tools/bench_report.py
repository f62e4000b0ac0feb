"""Write the page, the JSON and the picture of tools/bench_peers.py."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench_limits import peak
from bench_picture import Bar, ratios
from bench_rows import ORT, WAYS, Row, Settings, summary
from bench_runtimes import BF16_DB, F32_DB, INT8_DB, Runtime
from provenance import revision, when

from qrnn.backends.cpu.threads.pool import core_count
from qrnn.running.bench import LEAST_ROUNDS, processor

INSTRUCTIONS = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
"""Those that matter here, by Linux's names."""

DISTURBED = 0.1
"""A row is disturbed when other processes use more cores than so."""

FEW = 3
"""The most rows that are named; more are counted."""


@dataclass(frozen=True)
class Result:
    """The figures of a whole run."""

    rows: tuple[Row, ...]
    settings: Settings
    runtimes: tuple[Runtime, ...]
    absent: tuple[str, ...]
    command: str
    load: float | None


def machine() -> dict[str, Any]:
    """Return a description of the machine."""
    flags: set[str] = set()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        flags = set(next((line for line in lines if line.startswith(("flags", "Features"))), "").split())
    except OSError:
        pass
    caches = []
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            caches.append(f"L{level} {size}")
    return {
        "processor": processor(),
        "cores": core_count(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "caches": caches,
        "system": platform.system(),
        "python": platform.python_version(),
    }


def as_json(result: Result) -> bytes:
    """Return all figures as JSON, for programs."""
    packages = dict.fromkeys(["numpy", "numba", *(runtime.package for runtime in result.runtimes)])
    content = {
        "date": str(datetime.now(UTC).date()),
        "revision": revision(),
        "command": result.command,
        "machine": machine(),
        "load_before": result.load,
        "versions": {name: version(name) for name in packages},
        "absent": list(result.absent),
        "least_sqnr_db": {runtime.name: runtime.least_db for runtime in result.runtimes},
        "peak_macs_per_second": {str(k): [peak(k).rate, peak(k).how] for k in result.settings.threads},
        "summary": summary(result.rows),
        "rows": [row.to_dict() for row in result.rows],
    }
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def times_line(row: Row) -> str:
    """Return a row as a line for the terminal."""
    times = ", ".join(f"{name} {' / '.join(f'{us:.2f}' for us in found.values())}" for name, found in row.us.items())
    ratio = row.ratio()
    text = f"{row.case.name}: {times}; qrnn / limit {row.over_limit:.1f}"
    if row.others is not None and row.others > DISTURBED:
        text += f"; disturbed: others used {row.others:.2f} cores"
    return text if ratio is None else f"{text}; ratio {ratio:.2f}"


def _figure(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _table(rows: Sequence[Row], streaming: bool) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row.us))
    threads = list(rows[0].limits)
    headings = ["", *names, "best peer", "ratio", *(f"{k} thr." for k in threads)]
    headings += [f"to {ORT}, {way}" for way in WAYS if streaming] + ["limit", "qrnn / limit"]
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for row in rows:
        cells = [row.case.label]
        cells += [" / ".join(_figure(us) for us in row.us[n].values()) if n in row.us else "–" for n in names]
        peer = row.peer()
        cells.append("–" if peer is None else f"{peer.name}, {peer.threads} thr.")
        ratios = [row.ratio(), *(row.ratio(k) for k in threads)]
        if streaming:
            ratios += [row.ratio(prefix=ORT, bound=bound) for bound in WAYS.values()]
        texts = ["–" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        cells += [f"**{texts[0]}**", *texts[1:]]
        cells += [" / ".join(f"{limit.us:.3f}" for limit in row.limits.values()), f"{row.over_limit:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _said(what: str, found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    worst = f"worst {found['worst']:.2f} ({found['worst_row']}, against {found['worst_peer']})"
    count = f"{found['behind']} of {found['rows']} rows below 1"
    return [f"- {what}: geometric mean **{found['geometric_mean']:.2f}**, {worst}, {count}"]


def page(result: Result, name: str) -> str:
    """Return the page; ``name`` is the name of the files beside it, without their endings."""
    found, about = summary(result.rows), machine()
    packages = dict.fromkeys([*(runtime.package for runtime in result.runtimes), "numba", "numpy"])
    threads = " / ".join(map(str, result.settings.threads))
    whole = [row for row in result.rows if not row.case.streaming]
    streaming = [row for row in result.rows if row.case.streaming]
    lines = [
        "# Speed on the CPU, beside other runtimes and the machine's limit",
        "",
        f"Made by `{result.command}` on {when()} (`pip install 'qrnn[peers]'`); all figures: [{name}.json]({name}.json).",
        "",
        f"- {about['processor']}, {about['cores']} cores; {', '.join(about['instructions'])}; {', '.join(about['caches'])}",
        f"- {about['system']}, Python {about['python']}; " + ", ".join(f"{name} {version(name)}" for name in packages),
        *([] if result.load is None else [f"- load average before the run: {result.load:.2f}"]),
        *_disturbed(result.rows),
        *(f"- not installed, left out: {name}" for name in result.absent),
        "",
        "A ratio is the best peer's time over qrnn's: above 1, qrnn is quicker. Both take the thread count that suits them.",
        "",
    ]
    for batch, values in found["whole"].items():
        lines += _said(f"whole sequences, batch {batch}", values)
    lines += _said("streaming, against the best peer", found["streaming"])
    for way, values in found["streaming_to_onnx_runtime"].items():
        lines += _said(f"streaming, {way}, against {ORT} {way}", values)
    lines += ["", f"![Ratios of every row]({name}.png)", ""]
    for batch in sorted({row.case.batch for row in whole}):
        chosen = [row for row in whole if row.case.batch == batch]
        lines += [f"## Whole sequences of {chosen[0].case.steps} steps, batch {batch}", ""]
        lines += [f"µs a time step of the batch, with {threads} threads. Inputs are as many as units.", ""]
        lines += [*_table(chosen, False), ""]
    if streaming:
        lines += [
            "## Streaming: one step a call, state carried, batch 1",
            "",
            f"µs a call, with {threads} threads.",
            "",
        ]
        lines += [*_table(streaming, True), ""]
    return "\n".join([*lines, *_left_out(result), *_method(result)])


def _some(names: list[str]) -> str:
    """Return all of a few names, or how many they are."""
    return "; ".join(names) if len(names) <= FEW else f"{len(names)} rows, first {names[0]}"


def _disturbed(rows: Sequence[Row]) -> list[str]:
    """Return lines that say how busy the machine was with other things."""
    known = [(row.others, row.case.name) for row in rows if row.others is not None]
    if not known:
        return []
    mean = sum(others for others, _ in known) / len(known)
    busy = [name for others, name in known if others > DISTURBED]
    text = f"- other processes used {mean:.2f} cores meanwhile, as a mean over rows"
    return [f"{text}, more than {DISTURBED:g} in {len(busy)}: {_some(busy)}" if busy else text]


def _left_out(result: Result) -> list[str]:
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in result.rows:
        for name, reason in row.left_out.items():
            reasons.setdefault((name, reason), []).append(row.case.name)
    if not reasons:
        return []
    lines = ["## Left out", ""]
    lines += [f"- {name}: {reason} ({_some(where)})" for (name, reason), where in reasons.items()]
    return [*lines, ""]


def _method(result: Result) -> list[str]:
    worst: dict[str, float] = {}
    for row in result.rows:
        for name, sqnr in row.sqnr.items():
            worst[name] = min(sqnr, worst.get(name, sqnr))
    verified = ", ".join(f"{name} {sqnr:.0f} dB" for name, sqnr in worst.items())
    rates = "; ".join(f"{k} thr. {peak(k).rate / 1e9:,.0f} GMAC/s by {peak(k).how}" for k in result.settings.threads)
    ms = 1000 * result.settings.sample_seconds
    return [
        "## How",
        "",
        "One layer, the same random weights and inputs for all. qrnn: 8-bit weights, operands and inputs, `Session.run` and",
        "`Stream.step` on float32 arrays, conversions to and from integers included; peers get their own layout and type beforehand.",
        "int8 of ONNX Runtime and PyTorch is their `quantize_dynamic`. “bound”: arrays in place, nothing allocated, by `Stream.advance` and by",
        "ONNX Runtime's I/O bindings; else a call is given arrays and gives arrays, as `Stream.step` and `InferenceSession.run`.",
        "",
        "Every output is verified against the float64 oracle before it is timed, by SQNR over all steps: at least",
        f"{F32_DB:g} dB for f32, {BF16_DB:g} dB for bf16, {INT8_DB:g} dB for 8 bits. Lowest found: {verified}.",
        "",
        f"Interleaved rounds ({result.settings.rounds}, fewer but at least {LEAST_ROUNDS} where a row takes long): each times every",
        f"runtime once, in rotating order; a sample repeats calls for at least {ms:g} ms; medians. Runtimes keep their default waiting:",
        "threads of ONNX Runtime and PyTorch spin between calls, which is best in their own turn and would take a core from the next",
        "one's, so each turn begins when the process has been idle, and with untimed calls.",
        "",
        "Limit: the longer of two times, both measured in this run, for each number of threads. Reading: the bytes of R (W too when",
        "streaming, else once a sequence) at the rate at which the cores read that many bytes again and again, each its share.",
        f"Arithmetic: all multiply-adds at the best int8 rate ({rates}). Gates, states and the cost of a call are not in it;",
        "`qrnn / limit` is at qrnn's best number of threads.",
        "",
    ]


def plot(result: Result) -> bytes:
    """Return a PNG with the ratios of every row."""
    groups: dict[str, list[Bar]] = {}
    for row in result.rows:
        c, peer = row.case, row.peer()
        key = "streaming, one step a call" if c.streaming else f"whole sequences, batch {c.batch}"
        groups.setdefault(key, []).append(Bar(c.label, row.ratio(), peer.name if peer is not None else None))
    return ratios(groups, "qrnn")


def load_average() -> float | None:
    """Return the load average of the last minute, or None where the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
