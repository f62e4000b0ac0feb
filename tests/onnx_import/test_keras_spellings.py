"""How TensorFlow's and Keras's exporters write padding before a convolution, and a Dense layer over the steps of a sequence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn.errors import UnsupportedError
from tests.onnx_import.builders import Graph
from tests.onnx_import.running import agree, data, refused_with

INT = np.int64


@settings(deadline=None, max_examples=40)
@given(
    before=st.integers(0, 2),
    after=st.integers(0, 2),
    steps=st.integers(4, 7),
    axis=st.sampled_from([1, 2, 3]),
    channels=st.integers(1, 3),
)
def test_padding_moves_with_its_axes(before: int, after: int, steps: int, axis: int, channels: int) -> None:
    """Causal Conv1D of Keras: [N, T, C] is padded, has an axis added, and then has its channels moved to the front."""
    g = Graph()
    x = g.input("x", ["n", "t", channels])
    padded = g.node("Pad", [x, g.const(np.array([0, before, 0, 0, after, 0], INT))])
    wide = g.axes_op("Unsqueeze", padded, [axis])
    time, last = (2, 3) if axis == 1 else (1, 3) if axis == 2 else (1, 2)
    kernel = [1, 3] if axis == 1 else [3, 1]
    perm = [0, last, axis, time] if axis == 1 else [0, last, time, axis]
    moved = g.node("Transpose", [wide], perm=perm)
    y = g.node("Conv", [moved, g.random(4, channels, *kernel)], kernel_shape=kernel)
    y = g.axes_op("Squeeze", y, [2 if axis == 1 else 3])
    y = g.recurrent("GRU", g.node("Transpose", [y], perm=[2, 0, 1]), 4, 5)[0]
    g.axes_op("Squeeze", y, [1], "out")
    g.output("out", 3)
    agree(g.model(), {"x": data(2, steps, channels)})


def test_padding_that_was_taken_apart_is_refused() -> None:
    g = Graph()
    padded = g.node("Pad", [g.input("x", ["n", "t", 4]), g.const(np.array([0, 2, 0, 0, 0, 0], INT))])
    part = g.node("Transpose", [g.node("Gather", [padded, g.const(np.array([2, 0], INT))], axis=2)], perm=[0, 2, 1])
    y = g.node("Conv", [part, g.random(4, 2, 3)], kernel_shape=[3])
    g.recurrent("GRU", g.node("Transpose", [y], perm=[2, 0, 1]), 4, 5, outputs=["y", ""])
    g.output("y", 4)
    refused_with(UnsupportedError, g.model(), "padded to the batch or time axis")


@pytest.mark.parametrize("axes", [True, False])
def test_a_dense_layer_by_tensordot(axes: bool) -> None:
    """tf.tensordot merges batch and time by the product of their sizes, and splits them by these."""
    g = Graph()
    y = g.axes_op("Squeeze", g.recurrent("GRU", g.input("x", ["t", "n", 4]), 4, 5)[0], [1])
    y = g.node("Transpose", [y], perm=[1, 0, 2])
    sizes = g.node("Gather", [g.node("Shape", [y]), g.const(np.array([0, 1], INT))], axis=0)
    product = g.node("ReduceProd", [sizes], **({"axes": [0]} if axes else {}), keepdims=1)
    merged = g.node("Reshape", [y, g.node("Concat", [product, g.const(np.array([5], INT))], axis=0)])
    split = g.node("Concat", [sizes, g.const(np.array([3], INT))], axis=0)
    g.node("Reshape", [g.node("MatMul", [merged, g.random(5, 3)]), split], ["out"])
    g.output("out", 3)
    agree(g.model(), {"x": data(6, 3, 4)})


def test_a_product_of_features_is_refused() -> None:
    g = Graph()
    y = g.recurrent("GRU", g.input("x", ["t", "n", 4]), 4, 5)[0]
    g.node("ReduceProd", [y], ["out"], axes=[3], keepdims=1)
    g.output("out", 4)
    refused_with(UnsupportedError, g.model(), "only sizes can be multiplied")
