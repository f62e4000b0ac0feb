"""The golden vectors of normalizations: tests/golden/norms-<version>.json, which tools/make_golden.py writes and checks with the others."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from golden_primitives import edge_values, sample

from qrnn.arithmetic import norms
from qrnn.arithmetic.norms import NORM_FEATURES, NORM_TERM_MAX
from qrnn.model.norm_parameters import norm_parameters

FORMAT = "qrnn golden vectors of normalizations"
FORMAT_VERSION = 1
SINCE = "1.0"
"""The version of the contract since which these vectors hold."""

ABOUT = [
    "Every number is an integer. functions: name -> arguments, and cases as [argument..., result]; docs/arithmetic.md, section 5.",
    "rows: x and y [M][F]; gain, gain_shift, bias [F]; variance_shift and epsilon; centred: 1 for layer normalization, 0 for RMS.",
]
FUNCTIONS = {f.__name__: f for f in (norms.norm_variance, norms.norm_exponent, norms.norm_scale, norms.normalize)}
ARGUMENTS = {
    "norm_variance": ["count", "total", "squares", "shift", "epsilon"],
    "norm_exponent": ["variance"],
    "norm_scale": ["variance", "exponent"],
    "normalize": ["x", "count", "total", "scale", "exponent", "gain", "gain_shift", "bias"],
}


def _variances(rng: np.random.Generator) -> list[int]:
    """The neighbours of every power of two up to 2^62, and others of every size."""
    drawn = [int(rng.integers(1 << b, 2 << b)) for b in range(61)]
    return [v for v in edge_values(64) if 0 < v < 1 << 62] + drawn


def _statistics(rng: np.random.Generator) -> Iterator[list[int]]:
    """The widest rows, rows of equal features, rows that are drawn; with the least and the largest shift and epsilon."""
    for count in (1, 2, 3, 64, 4096, 23170, NORM_FEATURES):
        shift = max(s for s in range(0, 31, 2) if count * count << s <= 1 << 31)
        half = count // 2
        for total, squares in (
            (-count << 15, count << 30),
            ((count - 2 * half) * 32767 - half, (count - half) * 32767**2 + (half << 30)),
            (0, count << 30),
            (7 * count, 49 * count),
            (0, 0),
            (1, 1),
            (-3 * count, 9 * count + int(rng.integers(1 << 20)) * count),
        ):
            for epsilon in (0, int(rng.integers(1 << 40)), NORM_TERM_MAX - 1):
                yield [count, total, squares, shift if epsilon else 0, epsilon]


def _elements(rng: np.random.Generator) -> Iterator[list[int]]:
    """Elements at every bound, by shifts that are clipped at both ends, and elements that are drawn."""
    edges = edge_values(16)
    for count, total in (
        (NORM_FEATURES, NORM_FEATURES << 15),
        (NORM_FEATURES, -NORM_FEATURES << 15),
        (5, 17),
        (1024, 0),
    ):
        for scale in (1 << 15, 1 << 16, 48611):
            for exponent, gain_shift in ((30, 32), (30, -5), (0, -128), (30, 127), (12, 6)):
                for x, gain in zip(sample(rng, edges, 4), sample(rng, edges, 4), strict=True):
                    bias = int(rng.choice([0, -(1 << 31), (1 << 31) - 1, int(rng.integers(-(1 << 22), 1 << 22))]))
                    yield [x, count, total, scale, exponent, gain, gain_shift, bias]


def _rows(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Both normalizations over a few sizes: rows of every spread, of no spread, of a large mean, at the ends, with and without epsilon."""
    found = []
    for features, epsilon, in_frac, out_frac in (
        (1, 1e-5, 12, 10),
        (2, 0.0, 0, 13),
        (7, 1e-3, 9, 11),
        (33, 1e-5, 15, 14),
    ):
        gain, bias = rng.normal(size=features) * 2.0, rng.normal(size=features)
        gain[0] = 0.0 if features == 7 else gain[0]
        p = norm_parameters("row", gain, bias, epsilon, in_frac, out_frac)
        spread = rng.integers(-32768, 32768, (6, features)) >> np.array([0, 2, 5, 9, 12, 15])[:, None]
        ends = rng.choice([-32768, 32767], (2, features))
        x = np.concatenate(
            [spread, np.clip(spread[2:4] + 20000, -32768, 32767), ends, np.full((2, features), [[0], [-321]])]
        )
        own = {
            "gain": p.gain.tolist(),
            "gain_shift": p.gain_shift.tolist(),
            "bias": p.bias.tolist(),
            "x": x.tolist(),
            "y": [],
        }
        sizes = {"variance_shift": p.variance_shift, "epsilon": p.epsilon}
        found += [{"centred": centred, **sizes, **own} for centred in (1, 0)]
    return found


def run_rows(case: Mapping[str, Any], functions: Mapping[str, Any]) -> list[list[int]]:
    """Y of a case, by these four functions."""
    found = []
    for x in case["x"]:
        count, total = len(x), sum(x) if case["centred"] else 0
        squares = sum(v * v for v in x)
        variance = int(functions["norm_variance"](count, total, squares, case["variance_shift"], case["epsilon"]))
        exponent = int(functions["norm_exponent"](variance))
        row = (count, total, int(functions["norm_scale"](variance, exponent)), exponent)
        own = zip(x, case["gain"], case["gain_shift"], case["bias"], strict=True)
        found.append([int(functions["normalize"](v, *row, *parameters)) for v, *parameters in own])
    return found


def make_document() -> dict[str, Any]:
    """The whole file, computed by the functions themselves."""
    rng = np.random.default_rng(9)
    variances = _variances(rng)
    cases: dict[str, list[list[int]]] = {
        "norm_variance": list(_statistics(rng)),
        "norm_exponent": [[v] for v in variances],
        "norm_scale": [[v, norms.norm_exponent(v)] for v in variances],
        "normalize": list(_elements(rng)),
    }
    return with_results(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "contract_version": SINCE,
            "about": ABOUT,
            "functions": {name: {"arguments": ARGUMENTS[name], "cases": [[*c, 0] for c in own]} for name, own in cases.items()},
            "rows": _rows(rng),
        }
    )  # fmt: skip


def with_results(document: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the document with every result computed anew from the document's own inputs."""
    filled = copy.deepcopy(dict(document))
    for name, entry in filled["functions"].items():
        entry["cases"] = [[*case[:-1], FUNCTIONS[name](*case[:-1])] for case in entry["cases"]]
    for case in filled["rows"]:
        case["y"] = run_rows(case, FUNCTIONS)
    return filled
