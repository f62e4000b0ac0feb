"""The golden vectors of attention pooling, tests/golden/attention-<version>.json; tools/make_golden.py writes and checks them with others."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from golden_primitives import edge_values, sample

from qrnn.arithmetic import reductions, running_softmax
from qrnn.arithmetic.running_softmax import LOWEST_EXPONENT, MOST_WEIGHTED, PLACE_BITS, WEIGHTED_MAX
from qrnn.model.power_table import power_table

FORMAT = "qrnn golden vectors of attention pooling"
FORMAT_VERSION = 1
SINCE = "1.1"
"""The version of the contract since which these vectors hold."""

ABOUT = [
    "Every number is an integer. functions: name -> arguments, and cases as [argument..., result]; docs/arithmetic.md, section 5.",
    "power_table: the table of power_mantissa, which is its last argument and not among the cases'.",
    "sequences: scores [T] with in_frac fraction bits, values [T]; exponent, weight and sum in two parts, and steps, the state before the",
    "first step; up and down; y [T], the mean of all steps so far after each step; and the state after the last one, as end.",
]
HEAD = {"format": FORMAT, "format_version": FORMAT_VERSION, "contract_version": SINCE, "about": ABOUT}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        running_softmax.power_place,
        running_softmax.score_place,
        running_softmax.power_exponent,
        running_softmax.power_mantissa,
        running_softmax.joined_sum,
        running_softmax.weighted_sum,
        running_softmax.weighted_mean,
    )
}
ARGUMENTS = {
    "power_place": ["score", "in_frac"],
    "score_place": ["product", "multiplier", "shift"],
    "power_exponent": ["place"],
    "power_mantissa": ["place"],
    "joined_sum": ["high", "low"],
    "weighted_sum": ["total", "rise", "term", "below"],
    "weighted_mean": ["total", "weight", "up", "down"],
}


def _totals() -> list[int]:
    """The neighbours of every power of two up to the largest weighted sum, and its ends."""
    return sorted({v for v in edge_values(64) if abs(v) <= WEIGHTED_MAX} | {WEIGHTED_MAX, -WEIGHTED_MAX})


def _parts(total: int) -> list[int]:
    return [reductions.sum_high(total), reductions.sum_low(total)]


def _places(rng: np.random.Generator) -> Iterator[list[int]]:
    """Yield places of scores at both ends of int16 in every format, about 0, and of drawn ones."""
    for frac in range(16):
        for score in (-32768, -32767, -1, 0, 1, 32767, int(rng.integers(-32768, 32768))):
            yield [running_softmax.power_place(score, frac)]
    for knot in range(129):
        for near in (-1, 0, 1):
            yield [(knot << PLACE_BITS - 7) + near]


def _scores(rng: np.random.Generator) -> Iterator[list[int]]:
    """Yield places of sums of products from one to 2^16 of them: at their ends, about halves of a unit, and where places saturate."""
    for bits in (0, 1, 6, 16):
        most = min((1 << 31) - 1, (1 << 32 - bits) - 1)
        for multiplier in (0, 1, -1, most, -most, int(rng.integers(1, most))):
            for shift in (0, 1, 25, 40, 62):
                half = ((1 << shift) >> 1) // max(1, abs(multiplier))
                for product in (0, -1, half, half + 1, -half, (1 << 30 + bits) - 1, -(1 << 30 + bits)):
                    if abs(product) <= 1 << 30 + bits:
                        yield [product, multiplier, shift]


def _sums(rng: np.random.Generator) -> Iterator[list[int]]:
    totals, most = _totals(), 1 << 39
    for rise, below in ((0, 0), (0, 1), (1, 0), (2, 41), (38, 3), (61, 0), (62, 0), (63, 63), (1 << 17, 1 << 17)):
        for total in (*sample(rng, totals, 6), WEIGHTED_MAX, -WEIGHTED_MAX):
            for term in (0, 1, -1, most, -most, int(rng.integers(-most, most))):
                yield [total, rise, term, below]


def _means(rng: np.random.Generator) -> Iterator[list[int]]:
    """Yield means for weights from the least to the most: at both ends, about halves, and beyond."""
    for weight in (
        0,
        1,
        1 << 38,
        (1 << 38) + 1,
        (1 << 39) - 1,
        1 << 46,
        (1 << 47) - 1,
        12345678901234567,
        WEIGHTED_MAX,
    ):
        divisor = max(weight, 1 << 38)
        for up, down in ((0, 0), (1, 0), (15, 0), (0, 1), (0, 15)):
            drawn = [int(rng.integers(-32768, 32768)) * divisor >> 15 for _ in range(3)]
            near = [(k * divisor >> 16) + d for k in (-65536, -3, -1, 1, 5, 65535) for d in (-1, 0, 1)]
            for total in (*drawn, *near, WEIGHTED_MAX, -WEIGHTED_MAX):
                if abs(total) <= WEIGHTED_MAX:
                    yield [total, weight, up, down]


def _sequences(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """From the beginning, and from the state after nearly as many steps as are taken; scores that rise, fall, jump and stay."""
    scores = {
        "rise": np.linspace(-32768, 32767, 12),
        "fall": np.linspace(32767, -32768, 12),
        "jump": rng.choice([-32768, 32767, 0], 12),
        "stay": np.full(12, 1234),
        "drawn": rng.integers(-32768, 32768, 12),
    }
    for given in scores.values():
        for in_frac in (0, 7, 11, 15):
            for up, down, steps in ((0, 0, 0), (2, 0, 0), (0, 5, 0), (0, 0, MOST_WEIGHTED - 12)):
                values = rng.integers(-32768, 32768, 12)
                values[rng.integers(0, 12, 3)] = -32768, 32767, 0
                least = -32768 if in_frac in (0, 11) else -32767  # which a layer can read
                full = steps > 0
                yield {
                    "scores": np.maximum(given.astype(np.int64), least).tolist(),
                    "values": np.maximum(values, least).tolist(),
                    "in_frac": in_frac,
                    "exponent": 3 if full else LOWEST_EXPONENT,
                    "weight": _parts((steps << 38) if full else 0),
                    "sum": _parts(-(steps << 38) if full else 0),
                    "steps": steps,
                    "up": up,
                    "down": down,
                    "y": [],
                    "end": [],
                }


def result(name: str, case: list[Any], table: Any, functions: Mapping[str, Callable[..., Any]] = FUNCTIONS) -> int:
    """Return what a function makes of a case's arguments."""
    return int(functions[name](*case, *([table] if name == "power_mantissa" else [])))


def run_sequence(case: Mapping[str, Any], table: Any, functions: Mapping[str, Any]) -> tuple[list[int], list[Any]]:
    """Y of a case and its state at the end, by these functions."""
    exponent, weight, total, y = case["exponent"], list(case["weight"]), list(case["sum"]), []
    for score, value in zip(case["scores"], case["values"], strict=True):
        place = int(functions["power_place"](score, case["in_frac"]))
        own, mantissa = int(functions["power_exponent"](place)), int(functions["power_mantissa"](place, table))
        largest = max(exponent, own)
        rise, below, exponent = largest - exponent, largest - own, largest
        joined = [int(functions["joined_sum"](*parts)) for parts in (weight, total)]
        joined[0] = int(functions["weighted_sum"](joined[0], rise, mantissa << 15, below))
        joined[1] = int(functions["weighted_sum"](joined[1], rise, mantissa * value, below))
        weight, total = map(_parts, joined)
        y.append(int(functions["weighted_mean"](joined[1], joined[0], case["up"], case["down"])))
    return y, [exponent, weight, total, case["steps"] + len(y)]


def make_document() -> dict[str, Any]:
    """The whole file, computed by the functions themselves."""
    rng = np.random.default_rng(11)
    places = list(_places(rng))
    cases = {
        "power_place": [[s, f] for f in range(16) for s in (-32768, -32767, -1, 0, 1, 2, 32766, 32767)],
        "score_place": list(_scores(np.random.default_rng(12))),
        "power_exponent": places,
        "power_mantissa": places,
        "joined_sum": [_parts(t) for t in _totals()],
        "weighted_sum": list(_sums(rng)),
        "weighted_mean": list(_means(rng)),
    }
    functions = {name: {"arguments": ARGUMENTS[name], "cases": [[*c, 0] for c in own]} for name, own in cases.items()}
    table = {"power_table": power_table().tolist()}
    return with_results({**HEAD, **table, "functions": functions, "sequences": list(_sequences(rng))})


def with_results(document: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the document with every result computed anew from the document's own inputs."""
    filled = copy.deepcopy(dict(document))
    table = filled["power_table"]
    for name, entry in filled["functions"].items():
        entry["cases"] = [[*case[:-1], result(name, case[:-1], table)] for case in entry["cases"]]
    for case in filled["sequences"]:
        case["y"], case["end"] = run_sequence(case, table, FUNCTIONS)
    return filled
