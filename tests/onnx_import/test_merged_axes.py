"""Batch and time merged to one axis and split again, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from qrnn.equations.oracle import run_oracle
from qrnn.errors import UnsupportedError
from qrnn.onnx_import import import_model

from .builders import Graph
from .running import agree, data, oracle, refused_with, runtime
from .test_cropping import ints, steps_of
from .test_windows import conv, norm

Rows = Callable[[Graph, str], tuple[str, int]]
"""Adds what is done with a merged value [·, 6], and returns its result and its number of features."""


def sizes(g: Graph, y: str, *parts: Any) -> str:
    """Return a list of sizes: of axis 0 or 1 of ``y`` where a part is "0" or "1", their product, or the number that a part is."""
    named = {"0": lambda: steps_of(g, y, 0), "1": lambda: steps_of(g, y, 1)}
    named["01"] = lambda: g.node("Mul", [named["0"](), named["1"]()])
    return str(g.node("Concat", [named[p]() if isinstance(p, str) else ints(g, p) for p in parts], axis=0))


def head(g: Graph, y: str) -> onnx.ModelProto:
    """Give ``y`` [N, T, C] or [T, N, C] as the output."""
    g.node("Identity", [y], ["out"])
    g.output("out", 3)
    return g.model()


def recurrent(batch_first: bool, n: Any = "n", t: Any = "t", directions: int = 1, stride: int = 0) -> tuple[Graph, str]:
    """X [N, T, 4] → GRU → [T, N, 6] or [N, T, 6]."""
    g = Graph(opset=17)
    x = g.input("x", [n, t, 4])
    if stride:
        z = g.node("Relu", [conv(g, g.node("Transpose", [x], perm=[0, 2, 1]), [4, 4, 3], strides=[stride])])
        x = g.node("Transpose", [z], perm=[2, 0, 1])
    else:
        x = g.node("Transpose", [x], perm=[1, 0, 2])
    more = {"direction": "bidirectional"} if directions == 2 else {}
    y = g.recurrent("GRU", x, 4, 6 // directions, directions=directions, **more)[0]
    y = g.node("Transpose", [y], perm=[2, 0, 1, 3] if batch_first else [0, 2, 1, 3])
    return g, str(g.node("Reshape", [y, ints(g, 0, 0, -1)]))


def linear(g: Graph, x: str, features: int = 6) -> str:
    return str(g.node("Gemm", [x, g.random(5, features), g.random(5)], transB=1))


def between(g: Graph, x: str) -> str:
    """Linear, BatchNorm1d, Relu, LayerNorm, parts joined again, and a sum of two merged values: [·, 5]."""
    y = norm(g, linear(g, x), 5)
    y = g.node("LayerNormalization", [g.node("Relu", [y]), g.random(5)])
    y = g.node("Concat", [g.slice(y, [2], [5], [1]), g.slice(y, [0], [2], [1])], axis=1)
    z = g.node("Add", [g.node("MatMul", [x, g.random(6, 5)]), g.random(5)])
    return str(g.node("Softmax", [g.node("Add", [y, g.node("Mul", [z, y])])], axis=1))


MERGES = {"product": ("01", 6), "rest": (-1, 6), "both": ("01", -1)}
SPLITS = {"sizes": ("0", "1", -1), "first": (-1, "1", 5), "second": ("0", -1, 5), "all": ("0", "1", 5)}


@settings(max_examples=40, deadline=None)
@given(
    batch_first=st.booleans(),
    merge=st.sampled_from(sorted(MERGES)),
    back=st.sampled_from(sorted(SPLITS)),
    directions=st.integers(1, 2),
    stride=st.integers(0, 3),
    n=st.integers(1, 3),
    t=st.integers(3, 12),
)
def test_rows(batch_first: bool, merge: str, back: str, directions: int, stride: int, n: int, t: int) -> None:
    g, y = recurrent(batch_first, directions=directions, stride=stride)
    rows = g.node("Reshape", [y, sizes(g, y, *MERGES[merge])])
    made = g.node("Reshape", [between(g, rows), sizes(g, y, *SPLITS[back])])
    agree(head(g, made), {"x": data(n, t, 4)})


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(("n", "t"), [(1, "t"), ("n", 7), (1, 7)])
def test_sizes_as_exported(batch_first: bool, n: Any, t: Any) -> None:
    """A file whose sizes are numbers holds those of the product too."""
    g, y = recurrent(batch_first, n, t)
    rows = g.node("Reshape", [y, ints(g, 7 if (n, t) == (1, 7) else -1, 6)])
    order = [d if isinstance(d, int) else -1 for d in ((n, t) if batch_first else (t, n))]
    made = g.node("Reshape", [linear(g, rows), ints(g, *order, 5)])
    agree(head(g, made), {"x": data(1, 7, 4)})


def test_number_of_steps_as_a_number() -> None:
    """T · N where the exporter knew T."""
    g, y = recurrent(False, t=7)
    rows = g.node(
        "Reshape", [y, g.node("Concat", [g.node("Mul", [ints(g, 7), steps_of(g, y, 1)]), ints(g, 6)], axis=0)]
    )
    agree(head(g, g.node("Reshape", [linear(g, rows), sizes(g, y, 7, "1", -1)])), {"x": data(3, 7, 4)})


def test_size_of_the_merged_axis() -> None:
    """y.view(y.size(0), 5, 1) of a merged value, and Flatten from both sides."""
    g, y = recurrent(True)
    rows = g.node("Flatten", [y], axis=2)
    z = linear(g, rows)
    z = g.node("Reshape", [z, g.node("Concat", [steps_of(g, z, 0), ints(g, 5, 1)], axis=0)])
    made = g.node("Reshape", [g.node("Flatten", [z], axis=1), sizes(g, y, "0", "1", -1)])
    agree(head(g, made), {"x": data(2, 5, 4)})


def test_a_quotient_of_sizes() -> None:
    """z.view(z.shape[0] // t, t, 5) of a merged value."""
    g, y = recurrent(True, stride=2)
    z = linear(g, g.node("Reshape", [y, ints(g, -1, 6)]))
    n = g.node("Div", [steps_of(g, z, 0), steps_of(g, y, 1)])
    made = g.node("Reshape", [z, g.node("Concat", [n, steps_of(g, y, 1), ints(g, 5)], axis=0)])
    agree(head(g, made), {"x": data(3, 9, 4)})


def test_two_recurrent_layers() -> None:
    """The text recognizer: LSTM, Linear of merged rows, LSTM, Linear of merged rows."""
    g, y = recurrent(False, directions=2, stride=2)
    z = g.node("Reshape", [linear(g, g.node("Reshape", [y, sizes(g, y, "01", 6)])), sizes(g, y, "0", "1", -1)])
    z = g.node("Squeeze", [g.recurrent("LSTM", z, 5, 6, name="rnn2")[0], ints(g, 1)])
    z = g.node("Reshape", [linear(g, g.node("Reshape", [z, sizes(g, y, "01", -1)])), sizes(g, y, "0", "1", -1)])
    agree(head(g, z), {"x": data(3, 11, 4)})


def test_tokens() -> None:
    g = Graph(opset=17)
    x = g.input("x", ["n", "t"], TensorProto.INT64)
    found = g.node("Gather", [g.random(9, 6), g.node("Reshape", [x, ints(g, -1)])], axis=0)
    y = g.node("Transpose", [g.node("Reshape", [linear(g, found), sizes(g, x, "0", "1", -1)])], perm=[1, 0, 2])
    g.node("Identity", [g.recurrent("GRU", y, 5, 3)[0]], ["out"])
    g.output("out", 4)
    agree(g.model(), {"x": np.array([[1, 5, 0, 8], [3, 3, 7, 2]], np.int64)})


def test_shorter_sequences() -> None:
    """A merged layer changes nothing of a ragged batch: each sequence is as if it were alone."""
    g = Graph(opset=17)
    x, lens = g.input("x", ["n", "t", 4]), g.input("lens", ["n"], TensorProto.INT32)
    y = g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), 4, 6, lengths=lens)[0]
    y = g.node("Transpose", [g.node("Squeeze", [y, ints(g, 1)])], perm=[1, 0, 2])
    made = g.node("Reshape", [between(g, g.node("Reshape", [y, ints(g, -1, 6)])), sizes(g, y, "0", "1", -1)])
    values, lengths = data(3, 6, 4), np.array([6, 2, 4], np.int32)
    proto = head(g, made)
    model, feeds = import_model(proto, "test"), {"x": values, "lens": lengths}
    together, graph = oracle(model, feeds)["out"], runtime(proto, feeds)["out"]
    for k, length in enumerate(lengths):
        np.testing.assert_allclose(together[k, :length], graph[k, :length], rtol=1e-4, atol=1e-4)
        alone = oracle(model, {"x": values[k : k + 1, :length], "lens": lengths[k : k + 1]})["out"]
        np.testing.assert_allclose(together[k, :length], alone[0], rtol=0, atol=1e-12)


def per_step(g: Graph, x: str) -> str:
    """Convolutions, pools and normalization along the axis of 10 of each step: [·, 3, 10] → [·, 12]."""
    y = g.node("Relu", [norm(g, conv(g, x, [8, 3, 3], pads=[1, 1]), 8)])
    y = g.node("MaxPool", [y], kernel_shape=[2], strides=[2])
    y = conv(g, y, [8, 1, 3], group=8, pads=[1, 1], strides=[2])
    y = g.node("AveragePool", [g.node("Tanh", [y])], kernel_shape=[2])
    y = g.node("Concat", [y, g.node("GlobalAveragePool", [y])], axis=2)
    return str(g.node("Flatten", [conv(g, y, [4, 8, 1])], axis=1))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("t", ["t", 5])
@pytest.mark.parametrize("n", ["n", 1])
def test_convolutions_of_each_step(batch_first: bool, n: Any, t: Any) -> None:
    g = Graph(opset=17)
    x = g.input("x", [n, t, 3, 10] if batch_first else [t, n, 3, 10])
    y = per_step(g, g.node("Reshape", [x, ints(g, 5 if (n, t) == (1, 5) else -1, 3, 10)]))
    if isinstance(n, int) and isinstance(t, int):
        y = g.node("Reshape", [y, ints(g, *((n, t) if batch_first else (t, n)), -1)])
    else:
        y = g.node("Reshape", [y, sizes(g, x, "0", "1", -1)])
    y = g.node("Transpose", [y], perm=[1, 0, 2]) if batch_first else y
    g.node("Identity", [g.recurrent("GRU", y, 12, 3)[0]], ["out"])
    g.output("out", 4)
    given = data(1 if n == 1 else 3, 5, 3, 10)
    agree(g.model(), {"x": given if batch_first else given.swapaxes(0, 1)})


@pytest.mark.parametrize("n", ["n", 1])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_one_step_per_call(n: Any, named: bool, batch_first: bool) -> None:
    """The one step of a call is an axis of size 1: what is merged is the batch."""
    g = Graph(opset=17)
    x, h = g.input("x", [n, 1, 4] if batch_first else [1, n, 4]), g.input("h", [1, n, 6])
    step = g.node("Transpose", [x], perm=[1, 0, 2]) if batch_first else x
    y, _ = g.recurrent("GRU", step, 4, 6, h=h, outputs=["y", "h_n"])
    y = g.node("Transpose", [y], perm=[2, 0, 1, 3] if batch_first else [0, 2, 1, 3])
    y = g.node("Reshape", [y, ints(g, 0, 0, -1)])
    z = linear(g, g.node("Reshape", [y, sizes(g, y, "01" if named else -1, 6)]))
    order = ("0", "1") if named else (-1, 1) if batch_first else (1, -1)
    g.node("Reshape", [z, sizes(g, y, *order, 5)], ["out"])
    g.output("out", 3)
    g.output("h_n", 3)
    proto = g.model()
    count = 1 if n == 1 else 3
    values, state = data(count, 1, 4), data(1, count, 6)
    want = runtime(proto, {"x": values if batch_first else values.swapaxes(0, 1), "h": state})["out"]
    got = run_oracle(import_model(proto, "test"), {"x": values, "h": state.swapaxes(0, 1)}).outputs["out"]
    np.testing.assert_allclose(got.reshape(count, 5), want.reshape(count, 5), rtol=1e-4, atol=1e-4)


def test_batch_behind_time_from_the_input_alone() -> None:
    """The first pass carries both axes through the merge: nothing else says which is which."""
    g = Graph(opset=17)
    x = g.input("x", ["a", "b", 6])
    y = g.node("Reshape", [linear(g, g.node("Reshape", [x, ints(g, -1, 6)])), sizes(g, x, "0", "1", -1)])
    g.node("Identity", [g.recurrent("GRU", y, 5, 3)[0]], ["out"])
    g.output("out", 4)
    model = agree(g.model(), {"x": data(4, 2, 6)})
    assert (model.inputs[0].batch_axis, model.inputs[0].time_axis) == (1, 0)


@settings(max_examples=40, deadline=None)
@given(
    merge=st.booleans(),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    along=st.integers(0, 2),
    groups=st.sampled_from([1, 2]),
    pool=st.sampled_from(["", "MaxPool", "AveragePool"]),
    stride=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_windows_along_one_of_two_axes_of_a_step(
    merge: bool, kernel: tuple[int, int], along: int, groups: int, pool: str, stride: int, seed: int
) -> None:
    """Frames [7, 8] of each step, with windows of 1 along at least one axis; merged as [N·T, 2, 7, 8], else with a window over time."""
    g = Graph(opset=17, seed=seed)
    x = g.input("x", ["n", "t", 2, 7, 8])
    window = [taps if axis == along else 1 for axis, taps in enumerate(kernel)]
    strides = [stride if axis == along else 1 for axis in (0, 1)]
    if merge:
        y = g.node("Reshape", [x, ints(g, -1, 2, 7, 8)])
        y = norm(g, conv(g, y, [4, 2 // groups, *window], group=groups, strides=strides), 4)
        if pool:
            y = g.node(pool, [y], kernel_shape=window, strides=strides)
        y = g.node("Reshape", [g.node("GlobalMaxPool", [conv(g, y, [5, 4, 1, 1])]), sizes(g, x, "0", "1", -1)])
    else:
        y = g.node("Transpose", [x], perm=[0, 2, 3, 1, 4])  # time between both axes
        order = [window[0], 3, window[1]]
        y = conv(g, y, [5, 2, *order], strides=[strides[0], 1, strides[1]], pads=[0, 2, 0, 0, 0, 0])
        y = g.node("Transpose", [g.node("ReduceMean", [y], axes=[2, 4], keepdims=0)], perm=[0, 2, 1])
    y = g.node("Transpose", [y], perm=[1, 0, 2])
    g.node("Identity", [g.recurrent("GRU", y, 5, 3)[0]], ["out"])
    g.output("out", 4)
    agree(g.model(), {"x": data(2, 4, 2, 7, 8)})


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("parts", [("1", "0", -1), (-1, "0", 5), ("1", -1, 5)])
def test_the_other_order_mixes_sequences(batch_first: bool, parts: tuple[Any, ...]) -> None:
    g, y = recurrent(batch_first)
    rows = linear(g, g.node("Reshape", [y, sizes(g, y, "01", 6)]))
    refused_with(
        UnsupportedError, head(g, g.node("Reshape", [rows, sizes(g, y, *parts)])), "takes steps of one sequence"
    )


def test_the_other_order_before_a_recurrent_layer() -> None:
    g = Graph(opset=17)
    x = g.input("x", ["n", "t", 6])
    rows = linear(g, g.node("Reshape", [x, sizes(g, x, "01", 6)]))
    y = g.node("Reshape", [rows, sizes(g, x, "1", "0", -1)])
    g.node("Identity", [g.recurrent("GRU", y, 5, 3)[0]], ["out"])
    g.output("out", 4)
    refused_with(UnsupportedError, g.model(), "takes steps of one sequence", "Reshape")


def merged(build: Callable[[Graph, str, str], str]) -> onnx.ModelProto:
    g, y = recurrent(False)
    return head(g, build(g, g.node("Reshape", [y, ints(g, -1, 6)]), y))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda g, x, y: g.node("ReduceMean", [x], axes=[0]), ["reduces axis 0 of [T·N, 6]"]),
        (lambda g, x, y: g.slice(x, [1], [9], [0]), ["slices the merged T·N axis 0"]),
        (lambda g, x, y: g.slice(x, [-1], [1 << 40], [0]), ["slices the merged T·N axis 0"]),
        (lambda g, x, y: g.node("Gather", [x, ints(g, -1)], axis=0), ["takes [-1] of the merged T·N axis 0"]),
        (lambda g, x, y: g.node("Squeeze", [x, ints(g, 0)]), ["removes axis 0 of [T·N, 6]"]),
        (lambda g, x, y: g.node("Concat", [x, x], axis=0), ["concatenates along the merged T·N axis"]),
        (lambda g, x, y: g.node("Softmax", [x], axis=0), ["runs over batch or time"]),
        (lambda g, x, y: g.node("Tile", [x, ints(g, 2, 1)]), ["repeats the merged T·N axis"]),
        (lambda g, x, y: g.node("Add", [x, y]), ["batch and time axes must be the same"]),
        (lambda g, x, y: g.node("Reshape", [x, ints(g, -1, 3)]), ["output 'out' [T·N·2, 3] merges"]),
        (lambda g, x, y: g.node("Reshape", [x, sizes(g, y, "0", -1)]), ["output 'out' [T, N·6] merges"]),
        (lambda g, x, y: g.node("Reshape", [y, sizes(g, y, "01", 2, -1, 2)]), ["merges or splits"]),
        (lambda g, x, y: g.node("Transpose", [g.node("Gemm", [x, x], transB=1)]), ["not a constant"]),
        (
            lambda g, x, y: g.node("Reshape", [x, g.node("Mul", [sizes(g, y, "01"), sizes(g, y, "1")])]),
            ["multiplies the sizes"],
        ),
        (
            lambda g, x, y: g.node("Reshape", [x, g.node("Div", [sizes(g, y, "01", -1), ints(g, 2, 1)])]),
            ["divides the size T·N by 2"],
        ),
    ],
)
def test_refused(build: Callable[[Graph, str, str], str], words: list[str]) -> None:
    refused_with(UnsupportedError, merged(build), *words)


def test_features_between_batch_and_time_are_not_merged_over() -> None:
    """[T, D, N, H] as [T · D · N, H] would mix the directions."""
    g = Graph(opset=17)
    x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2])
    y = g.recurrent("GRU", x, 4, 3, directions=2, direction="bidirectional")[0]
    refused_with(UnsupportedError, head(g, g.node("Reshape", [y, ints(g, -1, 3)])), "output 'out' [T·2·N, 3] merges")


def test_a_product_that_grows() -> None:
    """Products of products are counted: the list of their factors does not double with each node."""
    g, y = recurrent(False)
    n = steps_of(g, y, 1)
    for _ in range(60):
        n = g.node("Mul", [n, ints(g, 2)])
    made = g.node("Reshape", [y, g.node("Concat", [n, ints(g, -1)], axis=0)])
    with pytest.raises(UnsupportedError, match="multiplies the sizes"):
        import_model(head(g, made), "test")
