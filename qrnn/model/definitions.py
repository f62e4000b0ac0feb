"""Layers run by their own definition here, on Python's unbounded integers: every backend must give the same integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.arithmetic import CONTRACT
from qrnn.model.layer_facts import RowLoop, StepLoop
from qrnn.model.parts import IndexArray, Int16Array


def dot(weight: Any, r: int, x: Any, n: int) -> int:
    """Return the sum of weight[r, k] · x[n, k] over k; AssertionError where it does not fit an int32, which the proof excludes."""
    total = sum(a * b for a, b in zip(weight[r], x[n], strict=True))
    assert -(1 << 31) <= total < 1 << 31, f"row {r}: a sum of {total} does not fit 32 bits"
    return int(total)


PLAIN = SimpleNamespace(**{function.__name__: function for function in CONTRACT}, dot=dot)
"""The functions of the contract by name, on Python's integers."""


def plain(values: Any) -> Any:
    """Return an array as one of Python's integers; anything else as it is."""
    return values.astype(object) if isinstance(values, np.ndarray) else values


def run_row_loops(
    loops: Sequence[RowLoop], inputs: Mapping[str, npt.NDArray[Any]], rows: int, features: int
) -> Int16Array:
    """Run the loops of a layer over all rows of its inputs, [M, F] or tokens [M], and return its output, [M, features] int16."""
    given = {name: plain(values) for name, values in inputs.items()}
    out = np.zeros((rows, features), object)
    for loop in loops:
        loop.make(PLAIN)(0, rows, *map(plain, loop.parameters), *(given[name] for name in loop.inputs), out)
    return out.astype(np.int16)


def run_step_loop(
    loop: StepLoop,
    inputs: Sequence[Int16Array],
    states: Sequence[npt.NDArray[Any]],
    lengths: IndexArray,
    out_rows: int,
    features: int,
    past: int,
) -> tuple[Int16Array, IndexArray]:
    """Run a step loop over sequences, each for its own steps and then for ``past`` steps past its end, with zeros as input.

    ``inputs`` are [N, T, F] int16 each, with as many steps.

    ``states``, [N, *shape] each, are replaced by those after the last step. Returns y [N, out_rows, features] int16 and how many rows of
    each sequence were written, [N] int64.
    """
    own, given, N = [plain(state) for state in states], [plain(x) for x in inputs], len(inputs[0])
    y, count = np.zeros((N, out_rows, features), object), np.zeros(N, np.int64)
    scratch = [np.zeros((N, *s.shape), object) for s in loop.scratch]
    arguments = (*own, *map(plain, loop.parameters), *scratch)
    step = loop.make(PLAIN)
    for n in range(N):
        if loop.before is not None:
            first = loop.before(PLAIN)
            for t in range(int(lengths[n])):
                first(n, t, 0, *given, y, *arguments)
        for t in (*range(int(lengths[n])), *(-1 for _ in range(past))):
            count[n] += step(n, t, int(count[n]), *given, y, *arguments)
    for state, values in zip(states, own, strict=True):
        state[...] = values
    return y.astype(np.int16), count
