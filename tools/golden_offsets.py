"""The golden vectors of offsets: tests/golden/offsets-<version>.json, which tools/make_golden.py writes and checks with the others."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from qrnn.model.boundary import dequantize_array, quantize_array
from qrnn.model.kinds.concat import carried_offset
from qrnn.model.parts import TensorFormat

FORMAT = "qrnn golden vectors of offsets"
FORMAT_VERSION = 1
SINCE = "1.1"
"""The version of the contract since which these vectors hold."""

ABOUT = [
    "Every number is an integer, but for x, scale and real, which are float64 written so that they read back exactly.",
    "boundary: scale [1] or [F], offset [1] or [F], limit; x [M][F] becomes q [M][F], and q stands for real [M][F].",
    "without_steps: offset [1] or [F], limit; what the last step of a sequence of no steps is, [F].",
    "concat: a part of a concat takes the features indices of a tensor with in_frac fraction bits and an offset; carried is the offset of its",
    "features of the output, in units of out_frac fraction bits, or null where that is no whole number: no model has such a concat.",
    "docs/arithmetic.md has the equations, in sections 5 and 7.",
]
HEAD = {"format": FORMAT, "format_version": FORMAT_VERSION, "contract_version": SINCE, "about": ABOUT}

FORMATS: tuple[tuple[tuple[float, ...], tuple[int, ...], int], ...] = (
    ((0.0078125,), (129696,), 127),
    ((0.1,), (-77,), 127),
    ((0.25,), (3, -(1 << 31), (1 << 31) - 1), 32767),
    ((0.037, 1e-4, 2500.0), (0, 1 << 40, -12), 127),
    ((1 / 3, 3.0517578125e-05), (1 << 52, -(1 << 52)), 16383),
    ((2.0**-11, 1e-30, 1e30), (1,), 2047),
)
"""Scales, offsets and limits: of outputs, and of inputs up to the largest offset."""

PARTS: tuple[tuple[int, int, tuple[int, ...], list[int]], ...] = (
    (9, 9, (518784,), [0]),
    (9, 12, (-518784,), [1, 0]),
    (12, 9, (518784, 8, -16), [2, 0, 1, 1]),
    (12, 9, (518784, 7, -16), [0, 1]),
    (15, 0, (-32768, 0), [1, 0]),
)
"""Fraction bits of a tensor and of the concat, the tensor's offset, and the features that are taken."""


def _boundary_cases(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Values at the halves between integers, at both limits and beyond, zero, and others in range."""
    found = []
    for scale, offset, limit in FORMATS:
        width = max(len(scale), len(offset))
        whole = np.array([-0.5, 0.5, 1.5, -1.5, limit + 0.5, -limit - 0.5, 3.0 * limit, -3.0 * limit])[:, None]
        drawn = rng.uniform(-limit, limit, (8, width))
        about = np.concatenate([np.repeat(whole, width, 1), drawn])
        x = np.concatenate([(about + np.array(offset, np.float64)) * np.array(scale), np.zeros((1, width))])
        found.append({"scale": list(scale), "offset": list(offset), "limit": limit, "x": x.tolist()})
    return found


def _format(case: Mapping[str, Any], width: int) -> TensorFormat:
    scale = tuple(case.get("scale", (1.0,)))
    return TensorFormat(width, False, 16, scale, case["limit"], tuple(case["offset"]))


def make_document() -> dict[str, Any]:
    """Return the whole file, with its results."""
    without = [{"offset": list(offset), "limit": limit} for _, offset, limit in FORMATS]
    parts = [{"in_frac": a, "out_frac": b, "offset": list(offset), "indices": which} for a, b, offset, which in PARTS]
    return with_results(
        {**HEAD, "boundary": _boundary_cases(np.random.default_rng(10)), "without_steps": without, "concat": parts}
    )


def with_results(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the document with every result computed anew from the document's own inputs."""
    filled = copy.deepcopy(dict(document))
    for case in filled["boundary"]:
        x = np.asarray(case["x"])
        fmt = _format(case, x.shape[1])
        q = quantize_array(x, fmt)
        case |= {"q": q.tolist(), "real": dequantize_array(q, fmt).tolist()}
    for case in filled["without_steps"]:
        case["q"] = _format(case, len(case["offset"])).nearest_zero.tolist()
    for case in filled["concat"]:
        indices = np.asarray(case["indices"], np.int64)
        carried = carried_offset(tuple(case["offset"]), indices, case["in_frac"], case["out_frac"])
        case["carried"] = None if carried is None else list(carried)
    return filled
