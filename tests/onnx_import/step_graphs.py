"""Graphs that take steps of time, and pieces of such graphs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from qrnn.model.float_model import FloatModel

from .builders import Graph

END = 2**63 - 1


def numbers(g: Graph, *values: int) -> str:
    return g.const(np.array(values, dtype=np.int64))


def time_slice(g: Graph, x: str, start: int, end: int | None, step: int = 1, axis: int = 0) -> str:
    parts = [numbers(g, v) for v in (start, END if end is None else end, axis, step)]
    return str(g.node("Slice", [x, *parts]))


def rnn(g: Graph, x: str, features: int, hidden: int, name: str, op: str = "GRU", **more: Any) -> tuple[str, str]:
    """A recurrent layer of x [T, N, features]: its output [T, N, D·hidden] and its last state [D, N, hidden]."""
    y, h, *_ = g.recurrent(op, x, features, hidden, name, **more)
    if more.get("directions", 1) == 1:
        return g.axes_op("Squeeze", y, [1]), h
    return g.node("Reshape", [g.node("Transpose", [y], perm=[0, 2, 1, 3]), numbers(g, 0, 0, -1)]), h


def kinds(model: FloatModel) -> Counter[str]:
    return Counter(type(layer).__name__ for layer in model.layers)
