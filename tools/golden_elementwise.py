"""The golden vectors of elementwise layers: tests/golden/elementwise-<version>.json, which tools/make_golden.py writes and checks too."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from golden_primitives import edge_values, sample

from qrnn.arithmetic import logarithms, octaves, quotients, roots
from qrnn.arithmetic.octaves import OCTAVE_ENTRY_MAX
from qrnn.arithmetic.roots import SQUARES_MAX
from qrnn.model.log_table import log_table

FORMAT = "qrnn golden vectors of elementwise layers"
FORMAT_VERSION = 1
SINCE = "1.1"
"""The version of the contract since which these vectors hold."""

ABOUT = [
    "Every number is an integer. functions: name -> arguments, and cases as [argument..., result]; docs/arithmetic.md, section 5.",
    "log_table: the table of natural_log, log_power16 and log_softmax16, which is their last argument and not among the cases'.",
    "octaves: tables of octave_value with their bits, and samples [x, y].",
]
FUNCTIONS: dict[str, Callable[..., int]] = {
    f.__name__: f
    for f in (
        roots.integer_root, roots.magnitude16, roots.power16, quotients.divide16, logarithms.natural_log, logarithms.log_power16,
        logarithms.log_softmax16,
    )
}  # fmt: skip
SQUARES = ["a", "b", "a_shift", "b_shift", "epsilon"]
ARGUMENTS = {
    "integer_root": ["v"],
    "magnitude16": [*SQUARES, "shift"],
    "power16": [*SQUARES, "shift"],
    "divide16": ["a", "b", "a_shift", "b_shift"],
    "natural_log": ["v"],
    "log_power16": [*SQUARES, "least", "multiplier", "bias", "shift"],
    "log_softmax16": ["d", "total", "in_frac", "out_frac"],
}
WITH_TABLE = ("natural_log", "log_power16", "log_softmax16")


def _numbers(rng: np.random.Generator) -> list[int]:
    """The neighbours of every power of two below 2^62, of squares, and others of every size."""
    squares = [int(r) ** 2 + d for r in rng.integers(1, 1 << rng.integers(1, 32, 30)) for d in (-1, 0, 1)]
    drawn = [int(rng.integers(1 << b, 2 << b)) for b in range(61)]
    return [v for v in [*edge_values(64), *squares, *drawn, ((1 << 31) - 1) ** 2] if 0 <= v < 1 << 62]


def _squares(rng: np.random.Generator) -> Iterator[list[int]]:
    """Two int16 with their shifts and an epsilon: the ends of all, and numbers of every size."""
    drawn = zip(sample(rng, edge_values(16), 20), sample(rng, edge_values(16), 20), strict=True)
    for a, b in ((-32768, -32768), (32767, 1), (0, 0), (3, -4), *drawn):
        for shifts in ((30, 30), (0, 0), (30, 6)):
            for epsilon in (0, int(rng.integers(1 << int(rng.integers(1, 61)))), SQUARES_MAX - 1):
                yield [a, b, *shifts, epsilon]


def _cases(rng: np.random.Generator) -> dict[str, list[list[int]]]:
    squares = list(_squares(rng))
    edges = edge_values(16)
    pairs = [*zip(sample(rng, edges, 60), sample(rng, edges, 60), strict=True), (5, 0), (-5, 0), (0, 0), (-32768, -1)]
    return {
        "integer_root": [[v] for v in _numbers(rng)],
        "magnitude16": [[*own, int(rng.choice([1, 30, int(rng.integers(1, 31))]))] for own in squares],
        "power16": [[*own, int(rng.choice([0, 46, int(rng.integers(0, 47))]))] for own in squares],
        "divide16": [[a, b, s, t] for a, b in pairs for s, t in ((0, 0), (31, 0), (0, 31), (int(rng.integers(31)), int(rng.integers(31))))],
        "natural_log": [[v] for v in _numbers(rng) if v],
        "log_power16": [
            [*own, least, multiplier, int(rng.integers(-(1 << 50), 1 << 50)), int(rng.integers(20, 47))]
            for own, least, multiplier in zip(
                squares,
                [int(rng.integers(1, 1 << int(rng.integers(1, 61)))) for _ in squares],
                rng.choice([-(1 << 24), 1 << 24, 12345], len(squares)).tolist(),
                strict=True,
            )
        ],
        "log_softmax16": [
            [int(d), int(rng.integers(1 << 15, 1 << int(rng.integers(16, 32)))), int(rng.integers(16)), int(rng.integers(-16, 16))]
            for d in (*range(3), 65535, *rng.integers(0, 65536, 60))
        ],
    }  # fmt: skip


def _octaves(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Tables with entries at both ends and of every size, read around every power of two."""
    found = []
    for bits in (0, 2, 4):
        size = 2 * (((16 - bits) << bits) + 1)
        table = rng.integers(-OCTAVE_ENTRY_MAX, OCTAVE_ENTRY_MAX + 1, size) >> rng.integers(0, 16, size)
        table[[0, 1, -2, -1]] = OCTAVE_ENTRY_MAX, -OCTAVE_ENTRY_MAX, -OCTAVE_ENTRY_MAX, OCTAVE_ENTRY_MAX
        x = sorted({*edge_values(16), *sample(rng, range(-32768, 32768), 60)})
        found.append({"bits": bits, "table": table.tolist(), "samples": [[v, 0] for v in x]})
    return found


def make_document() -> dict[str, Any]:
    """The whole file, computed by the functions themselves."""
    rng = np.random.default_rng(11)
    return with_results(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "contract_version": SINCE,
            "about": ABOUT,
            "log_table": log_table().tolist(),
            "functions": {
                name: {"arguments": ARGUMENTS[name], "cases": [[*c, 0] for c in own]} for name, own in _cases(rng).items()
            },
            "octaves": _octaves(rng),
        }
    )  # fmt: skip


def result(name: str, case: list[int], table: list[int], functions: Mapping[str, Callable[..., Any]] = FUNCTIONS) -> int:  # fmt: skip
    """What a function makes of the arguments of a case."""
    return int(functions[name](*case, *([table] if name in WITH_TABLE else [])))


def with_results(document: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the document with every result computed anew from the document's own inputs."""
    filled = copy.deepcopy(dict(document))
    for name, entry in filled["functions"].items():
        entry["cases"] = [[*case[:-1], result(name, case[:-1], filled["log_table"])] for case in entry["cases"]]
    for own in filled["octaves"]:
        own["samples"] = [[x, octaves.octave_value(x, own["bits"], own["table"])] for x, _ in own["samples"]]
    return filled
