"""The golden vectors, every corner and random layers of integers, by the general kernel where traces or projections ask for it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import cuda

from backends.generators import Case
from backends.test_exactness import CORNERS, check_exact
from backends.test_golden import GOLDEN, TOOL
from backends.test_raw_layers import check_raw
from qrnn.backends import available_backends
from qrnn.backends.cuda.contract import device

DOCUMENT: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
SMALLEST, SMALL = 126, 300
"""Gate values of a golden recurrent case of the default run, and of the matrix; a simulated step takes long."""


def test_the_simulator_is_a_device() -> None:
    assert "cuda" in available_backends()


@pytest.mark.parametrize(
    ("most", "share"),
    [
        (SMALLEST, 0.15),
        pytest.param(SMALL, 0.5, marks=pytest.mark.matrix),
        pytest.param(1 << 30, 0.99, marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("kind", TOOL.CASE_KINDS)
def test_golden_vectors(kind: str, most: int, share: float) -> None:
    seen = 0
    for number, case in enumerate(DOCUMENT[kind]):
        if kind == "recurrent" and np.size(case["y"]) * len(case["directions"][0]["gates"]) > most:
            continue
        for key, got in TOOL.run_case(kind, case, DOCUMENT, "cuda").items():
            assert got == case[key], f"{kind} {number} ({case.get('name', '')}): {key}"
        seen += 1
    assert seen > share * len(DOCUMENT[kind])


@pytest.mark.parametrize(
    ("path", "name", "own"),
    [
        (path, name, own)
        for path, functions in (
            (TOOL.NORMS, TOOL.golden_norms.FUNCTIONS),
            (TOOL.REDUCTIONS, TOOL.golden_reductions.FUNCTIONS),
            (TOOL.ATTENTION, {k: f for k, f in TOOL.golden_attention.FUNCTIONS.items() if k != "power_mantissa"}),
        )
        for name, own in functions.items()
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_golden_vectors_of_functions(path: Path, name: str, own: Any) -> None:
    """Each function of normalizations, sums, means and weighted means on the device, a thread for each case; layers read tables there."""
    entry = json.loads(path.read_text(encoding="utf-8"))["functions"][name]
    table = np.array(entry["cases"], np.int64)
    function, places = device(own), range(table.shape[1] - 1)
    space: dict[str, Any] = {"function": function, "cuda": cuda}
    arguments = ", ".join(f"cases[i, {k}]" for k in places)
    exec(
        f"def kernel(cases, out):\n    i = cuda.grid(1)\n    if i < out.shape[0]:\n        out[i] = function({arguments})\n",
        space,
    )
    out = cuda.to_device(np.zeros(len(table), np.int64))
    cuda.jit(space["kernel"])[-(-len(table) // 32), 32](cuda.to_device(table), out)
    np.testing.assert_array_equal(out.copy_to_host(), table[:, -1])


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("case", CORNERS, ids=lambda c: f"{c.shape.cell}-{c.head}")
def test_corners(case: Case) -> None:
    """With traces. Small: a simulated step takes long."""
    check_exact(replace(case, shape=replace(case.shape, hidden_size=min(case.shape.hidden_size, 7))), "cuda")


@pytest.mark.parametrize(
    "seeds", [(0, 1, 11), pytest.param(tuple(range(12)), marks=pytest.mark.matrix)], ids=["few", "all"]
)
def test_random_integers(seeds: tuple[int, ...]) -> None:
    seen: Counter[str] = Counter()
    for seed in seeds:
        seen[check_raw(seed, "cuda").recurrent_layers[0].cell] += 1
    assert min(seen[cell] for cell in ("lstm", "gru", "rnn")) > 0
