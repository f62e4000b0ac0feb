"""The golden vectors of codes: tests/golden/codes-<version>.json, which tools/make_golden.py writes and checks with the others."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from qrnn.arithmetic.codes import CODE_BIAS_MAX, CODE_MULTIPLIER_MAX, CODE_SHIFT_MAX, from_code

FORMAT = "qrnn golden vectors of codes"
FORMAT_VERSION = 1
SINCE = "1.1"
"""The version of the contract since which these vectors hold."""

ABOUT = [
    "Every number is an integer. Cases are [code, multiplier, bias, shift, limit, q]: q is from_code of the others.",
    "docs/arithmetic.md has the equation, in section 7.",
]
HEAD = {"format": FORMAT, "format_version": FORMAT_VERSION, "contract_version": SINCE, "about": ABOUT}


def make_document() -> dict[str, Any]:
    """Return the whole file, with its results: ends of every range, halves between integers, and rules of usual converters."""
    rng, int32 = np.random.default_rng(11), (-(1 << 31), (1 << 31) - 1)
    cases = [
        [code, multiplier, bias, shift, limit]
        for code in (*int32, 0)
        for multiplier in (-CODE_MULTIPLIER_MAX, CODE_MULTIPLIER_MAX)
        for bias in (-CODE_BIAS_MAX, CODE_BIAS_MAX)
        for shift, limit in ((0, 127), (CODE_SHIFT_MAX, 32767), (CODE_SHIFT_MAX, 1))
    ]
    for shift in (1, 15, 40, CODE_SHIFT_MAX):
        half = 1 << (shift - 1)
        cases += [
            [0, 1, bias, shift, 32767]
            for bias in (half, half - 1, -half, -half - 1, 3 * half, -3 * half)
            if abs(bias) <= CODE_BIAS_MAX
        ]
    for limit, bits in ((127, 12), (127, 16), (32767, 16), (32767, 24)):
        multiplier, shift = int(rng.integers(1 << 29, 1 << 30)), 30 + bits - limit.bit_length()
        codes = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), 12)
        cases += [[int(code), multiplier, int(rng.integers(-(1 << shift), 1 << shift)), shift, limit] for code in codes]
    return with_results({**HEAD, "from_code": cases})


def with_results(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the document with every result computed anew from the document's own inputs."""
    filled = copy.deepcopy(dict(document))
    filled["from_code"] = [[*case[:5], from_code(*case[:5])] for case in filled["from_code"]]
    return filled
