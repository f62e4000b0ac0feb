"""What a graph computes from each step by itself is joined: so Keras writes TimeDistributed layers, and PyTorch stacks of steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from qrnn.errors import UnsupportedError
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.max_pool import MaxPool

from .builders import Graph
from .running import agree, data, refused_with

STEPS, CHANNELS, HIGH, WIDE = 5, 2, 6, 5
TAKES = "Gather", "Slice", "all axes", "Split"


def ints(g: Graph, *values: int) -> str:
    return str(g.const(np.array(values, np.int64)))


def steps_of(g: Graph, x: str, axis: int, take: str, order: tuple[int, ...] = tuple(range(STEPS))) -> list[str]:
    """The steps of x along an axis, in an order, each without that axis."""
    if take == "Gather":
        return [g.node("Gather", [x, g.const(np.array(k))], axis=axis) for k in order]
    if take == "Split":
        parts = g.node("Split", [x], outputs=STEPS, axis=axis)
        return [g.axes_op("Squeeze", parts[k], [axis]) for k in order]
    if take == "Slice":
        return [
            g.axes_op("Squeeze", g.node("Slice", [x, ints(g, k), ints(g, k + 1), ints(g, axis)]), [axis]) for k in order
        ]
    found = []
    for k in order:
        starts, ends = [0] * 5, [(1 << 31) - 1] * 5
        starts[axis], ends[axis] = k, k + 1
        found.append(g.axes_op("Squeeze", g.node("Slice", [x, ints(g, *starts), ints(g, *ends)]), [axis]))
    return found


def stacked(g: Graph, steps: list[str], axis: int) -> str:
    return str(g.node("Concat", [g.axes_op("Unsqueeze", step, [axis]) for step in steps], axis=axis))


def written(
    take: str = "Gather",
    axis: int = 0,
    across: bool = False,
    order: tuple[int, ...] = tuple(range(STEPS)),
    same: bool = True,
) -> onnx.ModelProto:
    """X [N, T, C, H, W]: for each step a Conv with Relu, and in a second stack of steps a MaxPool, a Conv and all features as one axis."""
    g = Graph(opset=17)
    x = g.input("x", ["n", STEPS, CHANNELS, HIGH, WIDE])
    x = g.node("Transpose", [x], perm=[1, 0, 2, 3, 4]) if axis == 0 else x
    weight, bias = g.random(3, CHANNELS, 3, 3), g.random(3)
    rows = []
    for k, step in enumerate(steps_of(g, x, axis, take, order)):
        own = g.node("Identity", [weight]) if same or k != 2 else g.random(3, CHANNELS, 3, 3)
        rows.append(g.node("Relu", [g.node("Conv", [step, own, bias], pads=[1, 1, 1, 1])]))
    y = stacked(g, rows, axis)
    second, last = g.random(4, 3, 2, 2), 1 - axis if across else axis
    rows = []
    for step in steps_of(g, y, axis, take):
        z = g.node("MaxPool", [step], kernel_shape=[2, 2], strides=[2, 2])
        z = g.node("Add", [g.node("Conv", [z, second]), g.const(np.full((1, 4, 1, 1), 0.25, np.float32))])
        batch = g.node("Slice", [g.node("Shape", [z]), ints(g, 0), ints(g, 1)])
        rows.append(g.node("Reshape", [z, g.node("Concat", [batch, ints(g, 8)], axis=0)]))
    y = stacked(g, rows, last)
    y = y if last == 0 else g.node("Transpose", [y], perm=[1, 0, 2])
    g.node("Identity", [g.recurrent("GRU", y, 8, 3)[0]], ["out"])
    g.output("out", 4)
    return g.model()


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("take", TAKES)
def test_steps_are_joined(take: str, axis: int, across: bool) -> None:
    """Steps along the first or the second axis, stacked along the same one or the other."""
    x = {"x": data(3, STEPS, CHANNELS, HIGH, WIDE)}
    model = agree(written(take, axis, across), x)
    kinds = [type(layer) for layer in model.layers]
    assert (kinds.count(Conv), kinds.count(MaxPool)) == (2, 1)
    other = {"x": data(2, STEPS, CHANNELS, HIGH, WIDE, seed=4)}
    agree(written(take, axis, across), other)


@pytest.mark.parametrize("more", [{"same": False}, {"order": (0, 1, 3, 2, 4)}, {"order": (1, 2, 3, 4, 4)}])
def test_steps_that_are_not_alike_are_refused(more: dict[str, Any]) -> None:
    """A weight of its own in one step, and steps in another order: what is left is no layer over time."""
    refused_with(UnsupportedError, written(**more))


def test_an_input_that_all_steps_read_is_not_joined() -> None:
    """An image beside the sequence is no step of it."""
    g = Graph(opset=17)
    x, image = g.input("x", ["n", STEPS, 1, 4, 4]), g.input("image", ["n", 1, 4, 4])
    weight = g.random(2, 1, 4, 4)
    rows = [g.node("Conv", [g.node("Add", [step, image]), weight]) for step in steps_of(g, x, 1, "Gather")]
    y = g.node("Transpose", [g.node("Reshape", [stacked(g, rows, 1), ints(g, 0, 0, 2)])], perm=[1, 0, 2])
    g.node("Identity", [g.recurrent("GRU", y, 2, 3)[0]], ["out"])
    g.output("out", 4)
    refused_with(UnsupportedError, g.model())
