"""Write the benchmark's section of the page, from its JSON alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpu_check.benchmark_rows import OURS, RAGGED, SEQUENCE, STEP, best_peer, over_floor, padding_cost, ratio

HEADINGS = {
    SEQUENCE: "µs a time step of the batch; sequences of {steps} steps.",
    STEP: "One step a call, the state carried on: µs on the device, and in brackets µs of the host until the call is queued.",
    RAGGED: "µs a real time step of the batch; sequences of 1 to {steps} steps, evenly distributed.",
}


def page(result: dict[str, Any]) -> str:
    """Return Markdown without a heading of its own."""
    rows, lines = result["rows"], _head(result)
    if result["dry_run"]:
        lines += ["**The simulator's figures mean nothing.**", ""]
    lines += _aims(result) if rows else ["No row has been measured.", ""]
    for kind in (SEQUENCE, STEP, RAGGED):
        for batch in sorted({row["batch"] for row in rows if row["kind"] == kind}):
            chosen = [row for row in rows if (row["kind"], row["batch"]) == (kind, batch)]
            names = {SEQUENCE: "Whole sequences", STEP: "A step a call", RAGGED: "Ragged"}
            lines += [f"### {names[kind]}, batch {batch}", "", HEADINGS[kind].format(steps=chosen[0]["steps"]), ""]
            lines += [*_table(sorted(chosen, key=lambda row: (row["cell"], row["hidden"])), rows), ""]
    lines += _left_out(result)
    return "\n".join([*lines, *_method(result)])


def _figure(value: float | None, digits: int = 2) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if value < 100 else f"{value:.0f}"


def _head(result: dict[str, Any]) -> list[str]:
    device, barrier = result["device"], result["barrier_us"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return [
        f"- {device['name']}, {device['processors']} multiprocessors, {device['megahertz']:.0f} MHz; {versions or 'no PyTorch'}",
        f"- {_barriers(barrier)}",
        *(f"- left out: {name}: {why}" for name, why in result["absent"].items()),
        f"- {len(result['rows'])} rows measured, {len(result['left_out_rows'])} left out"
        + (f": {result['stopped']}" if "stopped" in result else ""),
        "",
    ]


def _barriers(barrier: dict[str, Any]) -> str:
    """Return the measured barriers, from JSON, whose keys are text."""
    if barrier["block"] is None and not barrier["grid"]:
        return "barriers were not measured (part latency): the floors are without them"
    grid = ", ".join(f"{blocks} blocks of a grid in {us:.3f} µs" for blocks, us in barrier["grid"].items())
    block = "not measured" if barrier["block"] is None else f"{barrier['block']:.3f} µs"
    return f"256 threads of a block meet in {block}, {grid or 'a grid: not measured'}"


def _aims(result: dict[str, Any]) -> list[str]:
    lines = ["| aim | rows that meet it | worst |", "|---|---|---|"]
    for aim in result["aims"]:
        worst = "not measured" if aim["worst"] is None else f"{_figure(aim['worst'])} ({aim['worst_row']})"
        lines.append(f"| {aim['aim']} | {aim['met']} of {aim['rows']} | {worst} |")
    lines += ["", "A ratio is the best peer's time over that of qrnn's graph: above 1, qrnn is quicker.", ""]
    for found in result["summary"]:
        lines.append(
            f"- {found['kind']}, batch {found['batch']}: geometric mean **{found['geometric_mean']:.2f}**, worst {found['worst']:.2f} "
            f"({found['worst_row']}, against {found['worst_peer']}), {found['behind']} of {found['rows']} rows below 1"
        )
    return [*lines, ""]


def _table(chosen: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> list[str]:
    kind = chosen[0]["kind"]
    names = list(dict.fromkeys(name for row in chosen for name in row["us_per_step"]))
    last = ["padding cost"] if kind == RAGGED else []
    headings = ["", *names, "best peer", "ratio", "floor", "qrnn / floor", *last, "qrnn's kernel"]
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for row in chosen:
        cells = [row["label"], *(_time(row, name) for name in names), best_peer(row) or "–"]
        cells += [f"**{_figure(ratio(row))}**", f"{row['floor_us']['all']:.3f}", _figure(over_floor(row), 1)]
        cells += [_figure(padding_cost(row, rows))] if last else []
        lines.append("| " + " | ".join([*cells, row["plan"]]) + " |")
    return lines


def _time(row: dict[str, Any], name: str) -> str:
    us = _figure(row["us_per_step"].get(name))
    if row["kind"] != STEP or name not in row["host_us_per_call"]:
        return us
    return f"{us} ({_figure(row['host_us_per_call'][name], 1)})"


def _left_out(result: dict[str, Any]) -> list[str]:
    reasons = [f"- {row['name']}: {name}: {why}" for row in result["rows"] for name, why in row["left_out"].items()]
    reasons += [f"- {name}: {why}" for name, why in result.get("failed_rows", {}).items()]
    if ended := result.get("compile", {}).get("ended"):
        reasons.append(f"- torch.compile: {ended}")
    if result["left_out_rows"]:
        reasons.append(f"- rows without figures: {'; '.join(result['left_out_rows'])}")
    notes = sorted({f"- {name}: {note}" for row in result["rows"] for name, note in row["notes"].items()})
    lines = ["### Left out", "", *reasons, ""] if reasons else []
    return [*lines, "Notes:", "", *notes, ""] if notes else lines


def _method(result: dict[str, Any]) -> list[str]:
    worst: dict[str, float] = {}
    ready: dict[str, float] = {}
    for row in result["rows"]:
        for name, sqnr in row["sqnr_db"].items():
            worst[name] = min(sqnr, worst.get(name, sqnr))
        for name, seconds in row["ready_seconds"].items():
            ready[name] = max(seconds, ready.get(name, seconds))
    sqnr = ", ".join(f"{name} {value:.0f} dB" for name, value in worst.items()) or "none"
    slowest = ", ".join(f"{name} {value:.1f} s" for name, value in ready.items()) or "none"
    return [
        "### How",
        "",
        "One layer, inputs as many as units, the same random weights and inputs for all; a batch of more than 13 sequences repeats them.",
        f"Everything is on the device before the clock starts. `{OURS}` is `Session.device_stream`, float32 in, float64 out, both",
        "conversions included: a call is one launch of a CUDA graph. `launched` is `Session.run` or `Session.step` on arrays on the device:",
        "Python launches the kernels, and a call waits for the device once. cuDNN is PyTorch's `nn.LSTM` and `nn.GRU`, called and as a CUDA",
        "graph; tf32 is its own switch; ragged batches are packed beforehand. torch.compile compiles the step of a cell; all steps and W·x of",
        "all of them are one CUDA graph.",
        "",
        "Each output is verified before it is timed, against the float64 oracle on the first, a middle and the last sequence; qrnn's also",
        f"against backend cpu, bit for bit. Lowest SQNR: {sqnr}. Longest time until a column was ready, with compilation of its kernels and",
        f"verification: {slowest}.",
        "",
        "Device time is by CUDA events on the stream of the work, over as many calls as take 0.3 ms; medians of up to "
        f"{result['rounds']} rounds in",
        "rotating order. Calls that are launched one by one include the waits of the device for the host. All calls use the same buffers, so",
        "weights and inputs stay in the second-level cache as far as they fit, as in continuous use.",
        "",
        "Floor: the barrier of qrnn's kernel (measured by the part latency), and the longer of two times by formula: the bytes of R of the",
        "fullest block at 128 bytes a cycle of shared memory (40 where they come from the cache; of a lone step also those of W), and all",
        "multiply-adds at the tensor cores' int8 rate by the data sheet.",
    ]
