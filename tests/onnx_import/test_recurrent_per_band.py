"""A recurrent layer over time for each band, between products of heads and windows that merge the batch in the same way."""

from __future__ import annotations

import numpy as np

from qrnn.model.kinds.per_band import PerBand

from .builders import Graph
from .running import agree, data


def test_bands_are_merged_with_the_batch_as_heads_are() -> None:
    """[N, T, 4, 3] as [N·4, T, 3] → GRU → [N, T, 4 · 5]."""
    g = Graph(opset=17)
    x = g.input("x", ["n", "t", 4, 3])
    shape = g.node("Shape", [x])
    n, t = (g.node("Slice", [shape, g.const(np.array([k])), g.const(np.array([k + 1]))]) for k in (0, 1))
    rows = g.node("Mul", [n, g.const(np.array([4]))])
    y = g.node("Transpose", [x], perm=[0, 2, 1, 3])
    y = g.node("Reshape", [y, g.node("Concat", [rows, t, g.const(np.array([3]))], axis=0)])
    y = g.recurrent("GRU", g.node("Transpose", [y], perm=[1, 0, 2]), 3, 5)[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    y = g.node("Reshape", [y, g.node("Concat", [n, g.const(np.array([4])), t, g.const(np.array([5]))], axis=0)])
    y = g.node("Transpose", [y], perm=[0, 2, 1, 3])
    g.node("Reshape", [y, g.const(np.array([0, 0, 20]))], ["out"])
    g.output("out", 3)
    model = agree(g.model(), {"x": data(2, 6, 4, 3)})
    assert [type(layer) for layer in model.layers] == [PerBand]
