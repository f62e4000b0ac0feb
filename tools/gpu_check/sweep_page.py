"""Write the section of the sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MOST_LINES = 10
"""Kernels that are named one by one; more are counted."""


def section(result: dict[str, Any]) -> str:
    """Return Markdown of what `part_sweep.measure` wrote."""
    runs = result["runs"]
    timed = [run for run in runs if run["exact"] and run["us_per_step"]]
    wrong = [run for run in runs if not run["exact"]]
    compiled = [one["seconds"] for one in result["compiled"]]
    text = [
        f"{len(runs)} runs of {len(compiled)} step kernels, each compared with the reference bit for bit: "
        f"{len(runs) - len(wrong)} exact, {len(wrong)} not, {len(result['failed'])} failed. Times are of the steps alone, without W·x: "
        "medians of the slope between two numbers of steps, by events on the device. "
        f"Estimates are by constants of this source: {result['costs']['source']}."
    ]
    if compiled:
        text.append(f"\nA kernel took {sum(compiled) / len(compiled):.2f} s to compile, at most {max(compiled):.2f} s.")
    text += _lines("Gave other bits than the reference", [f"{_name(run)}: {run['plan']}" for run in wrong])
    text += _lines("Failed", [f"{_name(run)}: {run['plan']}: {run['why']}" for run in result["failed"]])
    if timed:
        text += ["", *_table(timed)]
    left = result["left"]
    count = sum(one["runs"] for one in left)
    text += _lines(
        f"Not run: {count} runs of {len({one['kernel'] for one in left})} kernels",
        [f"{one['kernel']}: {one['runs']} runs{'' if one['compiled'] else ', not compiled'}" for one in left],
    )
    return "\n".join(text)


def _table(timed: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line for each case: the plan chosen by the estimate among those that ran, and the best one."""
    text = [
        "| | plans | best by estimate | estimate, µs a step | measured | best measured | µs a step | chosen / best |",
        "|---|---|---|---|---|---|---|---|",
    ]
    cases: dict[str, list[dict[str, Any]]] = {}
    for run in timed:
        cases.setdefault(_name(run), []).append(run)
    for name, several in cases.items():
        chosen = min(several, key=lambda run: run["estimate_us"])
        best = min(several, key=lambda run: run["us_per_step"])
        text.append(
            f"| {name} | {len(several)} | {chosen['plan']} | {chosen['estimate_us']:.2f} | {chosen['us_per_step']:.2f} | "
            f"{best['plan']} | {best['us_per_step']:.2f} | {chosen['us_per_step'] / best['us_per_step']:.2f} |"
        )
    return text


def _name(run: dict[str, Any]) -> str:
    return f"{run['cell'].upper()} {run['hidden']}, batch {run['batch']}, {8 * run['operand_bytes']}-bit operands"


def _lines(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    more = [f"- and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return ["", f"{title}:", "", *(f"- {line}" for line in lines[:MOST_LINES]), *more]
