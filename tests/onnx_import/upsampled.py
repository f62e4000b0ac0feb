"""Graphs whose features come of a recurrent layer, [N, T, C, B] in a drawn order of axes, for operators that give more steps or bands."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from .builders import Graph
from .running import runtime

ORDERS = {"t": [0, 2, 1], "tf": [0, 2, 1, 3], "ft": [0, 2, 3, 1], "f": [0, 1, 2, 3]}
"""Time alone, [N, C, T]; time and bands, [N, C, T, B] and [N, C, B, T]; bands of merged steps, [N·T, C, B]."""


def features(g: Graph, order: str, channels: int, bands: int) -> str:
    """Add a GRU over the input x [n, t, 3], and return its output in an order of axes; before "f" merges steps, [n, t, C, B]."""
    width = channels * bands
    y = g.recurrent("GRU", g.node("Transpose", [g.input("x", ["n", "t", 3])], perm=[1, 0, 2]), 3, width)[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    if order != "t":
        y = g.node("Reshape", [y, g.const(np.array([0, 0, channels, bands]))])
    return str(g.node("Transpose", [y], perm=ORDERS[order]))


def whole(
    g: Graph,
    order: str,
    value: str,
    op: str,
    inputs: list[str],
    channels: int,
    bands: int,
    feeds: Any,
    **attributes: Any,
) -> onnx.ModelProto:
    """Add the operator behind ``value``, with its output as the graph's; merged steps are apart again there."""
    if order != "f":
        g.node(op, [value, *inputs], ["out"], **attributes)
        g.output("out", 3 if order == "t" else 4)
        return g.model()
    merged = g.node("Reshape", [value, g.const(np.array([-1, channels, bands]))])
    g.node(op, [merged, *inputs], ["merged"], **attributes)
    g.output("merged", 3)
    size = runtime(g.model(), feeds)["merged"].shape
    g.outputs.clear()
    lead = g.node("Slice", [g.node("Shape", [value]), g.const(np.array([0])), g.const(np.array([2]))])
    g.node("Reshape", ["merged", g.node("Concat", [lead, g.const(np.array(size[1:]))], axis=0)], ["out"])
    g.output("out", 4)
    return g.model()
