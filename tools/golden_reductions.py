"""The golden vectors of sums and means, tests/golden/reductions-<version>.json; tools/make_golden.py writes and checks them with the others."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from golden_primitives import edge_values, sample

from qrnn.arithmetic import fixedpoint, reductions
from qrnn.arithmetic.reductions import MOST_SUMMED, SUM_MAX

FORMAT = "qrnn golden vectors of sums and means"
FORMAT_VERSION = 1
SINCE = "1.1"
"""The version of the contract since which these vectors hold."""

ABOUT = [
    "Every number is an integer. functions: name -> arguments, and cases as [argument..., result]; docs/arithmetic.md, section 5.",
    "sequences: x [T][F]; high and low [F] and steps, the state before the first step; mean: 1 for means, 0 for sums; up and down; y [T][F],",
    "that of all steps so far after each step; and high, low and steps after the last one, as end.",
]
HEAD = {"format": FORMAT, "format_version": FORMAT_VERSION, "contract_version": SINCE, "about": ABOUT}
FUNCTIONS = {
    f.__name__: f for f in (reductions.add_to_sum, reductions.sum_high, reductions.sum_low, reductions.divide_sum)
}
ARGUMENTS = {
    "add_to_sum": ["high", "low", "x"],
    "sum_high": ["total"],
    "sum_low": ["total"],
    "divide_sum": ["total", "divisor", "shift"],
}


def _totals() -> list[int]:
    """The neighbours of every power of two up to the largest sum, and its ends."""
    return sorted({v for v in edge_values(64) if abs(v) <= SUM_MAX} | {SUM_MAX, -SUM_MAX, SUM_MAX - 1, 1 - SUM_MAX})


def _divisions(rng: np.random.Generator) -> Iterator[list[int]]:
    """Totals about halves, the ends of every argument, and others that are drawn."""
    for divisor in (1, 2, 3, 7, 64, 1000, 65535, MOST_SUMMED, MOST_SUMMED << 15, 1 << 46):
        for shift in (0, 1, 8, 15):
            drawn = [int(rng.integers(-32768, 32768)) * divisor >> shift for _ in range(3)]
            near = [(k * divisor >> (shift + 1)) + d for k in (-3, -1, 1, 5) for d in (-1, 0, 1)]
            for total in (*drawn, *near, *sample(rng, _totals(), 4), SUM_MAX, -SUM_MAX):
                if abs(total) <= SUM_MAX:
                    yield [total, divisor, shift]


def _sequences(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """From the beginning, and from the state after nearly as many steps as a sum takes; at both ends of the range."""
    for mean in (1, 0):
        for up, down, steps in ((0, 0, 0), (3, 0, 0), (0, 5, 0), (15, 0, 2), (0, 15, MOST_SUMMED - 5), (0, 0, 1 << 20)):
            x = rng.integers(-32768, 32768, (5, 4))
            x[:, 0], x[:, 1] = -32768, 32767
            totals = [-32768 * steps, 32767 * steps, -steps, int(rng.integers(-100, 100)) * steps]
            yield {
                "x": x.tolist(),
                "high": [reductions.sum_high(t) for t in totals],
                "low": [reductions.sum_low(t) for t in totals],
                "steps": steps,
                "mean": mean,
                "up": up,
                "down": down if mean else down + 16,
                "y": [],
                "end": [],
            }


def run_sequence(case: Mapping[str, Any], functions: Mapping[str, Any]) -> tuple[list[list[int]], list[Any]]:
    """Y of a case and its state at the end, by these four functions."""
    high, low, steps, y = list(case["high"]), list(case["low"]), case["steps"], []
    for x in case["x"]:
        steps += 1
        row = []
        for j, value in enumerate(x):
            total = int(functions["add_to_sum"](high[j], low[j], value))
            high[j], low[j] = int(functions["sum_high"](total)), int(functions["sum_low"](total))
            if case["mean"]:
                row.append(int(functions["divide_sum"](total, steps << case["down"], case["up"])))
            else:
                row.append(fixedpoint.saturate16(fixedpoint.shift_right_round(total << case["up"], case["down"])))
        y.append(row)
    return y, [high, low, steps]


def make_document() -> dict[str, Any]:
    """The whole file, computed by the functions themselves."""
    rng = np.random.default_rng(10)
    totals = _totals()
    parts = [(reductions.sum_high(t), reductions.sum_low(t)) for t in sample(rng, totals, 60)]
    cases = {
        "add_to_sum": [[*p, x] for p in (*parts, (-32768, 0), (32767, (1 << 31) - 1)) for x in (-32768, -1, 0, 32767)],
        "sum_high": [[t] for t in totals],
        "sum_low": [[t] for t in totals],
        "divide_sum": list(_divisions(rng)),
    }
    functions = {name: {"arguments": ARGUMENTS[name], "cases": [[*c, 0] for c in own]} for name, own in cases.items()}
    return with_results({**HEAD, "functions": functions, "sequences": list(_sequences(rng))})


def with_results(document: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the document with every result computed anew from the document's own inputs."""
    filled = copy.deepcopy(dict(document))
    for name, entry in filled["functions"].items():
        entry["cases"] = [[*case[:-1], FUNCTIONS[name](*case[:-1])] for case in entry["cases"]]
    for case in filled["sequences"]:
        case["y"], case["end"] = run_sequence(case, FUNCTIONS)
    return filled
