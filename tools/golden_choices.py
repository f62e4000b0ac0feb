"""The golden vectors of choices, tests/golden/choices-<version>.json; tools/make_golden.py writes and checks them with others."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from qrnn.arithmetic import CONTRACT, choices
from qrnn.model.choosing import Sampling, choice_numbers, choose_rows
from qrnn.model.log_table import log_table
from qrnn.model.power_table import power_table

FORMAT = "qrnn golden vectors of choices"
FORMAT_VERSION = 1
SINCE = "1.1"
"""The version of the contract since which these vectors hold."""

ABOUT = [
    "Every number is an integer. functions: name -> arguments, and cases as [argument..., result]; docs/arithmetic.md, section 12.",
    "choices: multiplier (0 takes the largest score), shift, top_k and top_p (0 keeps all), probabilities (1 where scores are such);",
    "scores [M][V]; draws [M][4]: the lower and the upper 32 bits of the seed, and of the number of the draw; tokens [M].",
    "power_table and log_table: the tables of the weights, and of logarithms of probabilities.",
]
HEAD = {"format": FORMAT, "format_version": FORMAT_VERSION, "contract_version": SINCE, "about": ABOUT}
FUNCTIONS = {
    f.__name__: f for f in (choices.product_high, choices.product_low, choices.weight_share, choices.fed_value)
}
ARGUMENTS = {
    "product_high": ["a", "b"],
    "product_low": ["a", "b"],
    "weight_share": ["total", "word"],
    "fed_value": ["q", "multiplier", "bias", "shift", "limit"],
}
WORDS = (0, 1, 65535, 65536, 65537, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
NUMBERS = ("multiplier", "shift", "top_k", "top_p", "probabilities")
ROWS, SCORES = 12, 9
CONTRACT_BY_NAME = SimpleNamespace(**{function.__name__: function for function in CONTRACT})


def _cases(name: str, rng: np.random.Generator) -> Iterator[list[int]]:
    """Yield the arguments of a function: the ends of their ranges, and drawn ones."""
    drawn = rng.integers(0, 1 << 32, (20, 2)).tolist()
    if name.startswith("product"):
        yield from ([a, b] for a in WORDS for b in WORDS)
        yield from drawn
    elif name == "weight_share":
        yield from ([total, word] for total in (0, 1, 1 << 23, 1 << 39, (1 << 40) - 1) for word in WORDS)
        yield from ([a << 7, b] for a, b in drawn)
    else:
        for q in (-32768, -1, 0, 1, 32767, int(rng.integers(-32768, 32768))):
            for multiplier, shift in ((0, 0), (1, 0), ((1 << 46) - 1, 45), ((1 << 46) - 1, 62), (3 << 30, 32)):
                for bias in (0, 1 << 31, (1 << 61) - 1, 1 - (1 << 61)):
                    yield [q, multiplier, bias, shift, 127 if q % 2 else 32767]


def _choices(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Yield rows of scores with ties, and rows of probabilities with zeros, for every kind of choice."""
    ways = [
        None,
        Sampling(1.0),
        Sampling(0.3, top_k=3),
        Sampling(2.0, top_p=0.6),
        Sampling(20.0, 5, 0.9),
        Sampling(0.01),
    ]
    for probabilities in (False, True):
        for sampling in ways:
            n = choice_numbers(sampling, 2.0**-11, probabilities)
            scores = rng.integers(-3, 4, (ROWS, SCORES)) * rng.integers(1, 3000, (ROWS, 1))
            if probabilities:
                scores = np.maximum(scores, 0) % 16385
            draws = rng.integers(0, 1 << 32, (ROWS, 4))
            draws[:2] = [[0, 0, 0, 0], [(1 << 32) - 1] * 4]
            yield {
                **dict(zip(NUMBERS, (n.multiplier, n.shift, n.top_k, n.top_p, int(probabilities)), strict=True)),
                "scores": scores.tolist(),
                "draws": draws.tolist(),
            }


def tokens_of(case: Mapping[str, Any], powers: list[int], logs: list[int]) -> list[int]:
    """Return the tokens of a case, by the contract's functions on Python's integers."""
    scores, draws = (np.array(case[name], object) for name in ("scores", "draws"))
    out = np.zeros((len(scores), 1), object)
    choose_rows(CONTRACT_BY_NAME)(0, len(scores), *(case[name] for name in NUMBERS), powers, logs, scores, draws, out)
    return [int(token) for token in out[:, 0]]


def make_document() -> dict[str, Any]:
    """Return the whole file, from fixed seeds."""
    rng = np.random.default_rng(12)
    functions = {
        name: {"arguments": ARGUMENTS[name], "cases": [[*case, 0] for case in _cases(name, rng)]} for name in FUNCTIONS
    }
    tables = {"power_table": power_table().tolist(), "log_table": log_table().tolist()}
    return with_results({**HEAD, **tables, "functions": functions, "choices": list(_choices(rng))})


def with_results(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with the results that the contract's functions give for its inputs."""
    filled = copy.deepcopy(dict(document))
    for name, entry in filled["functions"].items():
        entry["cases"] = [[*case[:-1], int(FUNCTIONS[name](*case[:-1]))] for case in entry["cases"]]
    for case in filled["choices"]:
        case["tokens"] = tokens_of(case, filled["power_table"], filled["log_table"])
    return filled
