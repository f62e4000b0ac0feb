"""Reduce…, global pools and AveragePool: against ONNX Runtime, drawn and as exporters write them; what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemes import SHORTS

from qrnn.accuracy.metrics import sqnr_db
from qrnn.conversion import quantize
from qrnn.errors import ModelFileError, QrnnError, UnsupportedError
from qrnn.model.kinds.average_pool import AveragePool
from qrnn.model.kinds.concat import Concat
from qrnn.model.kinds.dense import Dense
from qrnn.model.kinds.last_step import LastStep
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.reduce import Reduce
from qrnn.model.kinds.running import Running
from qrnn.onnx_import import import_model
from qrnn.running.session import Session

from .builders import Graph
from .random_reductions import RandomNode, random_pools, random_reductions
from .running import agree, data, oracle, refused_with, runtime

few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
many = settings(few, max_examples=2000)


def check(node: RandomNode) -> None:
    """The oracle is ONNX Runtime; integers are as near to it as half units allow, and the same on the reference and on the CPU."""
    model = agree(node.model, node.inputs)
    made = quantize(model, {"x": np.random.default_rng(0).uniform(-3, 3, (4, 24, node.inputs["x"].shape[2]))}, SHORTS)
    reals = oracle(model, node.inputs)
    both = [Session(made, backend).run(node.inputs).outputs for backend in ("reference", "cpu")]
    np.testing.assert_array_equal(both[0]["y"], both[1]["y"])
    (output,) = (o for o in made.outputs if o.name == "y")
    unit = {name: made.tensors[name].scales.max() for name in ("x", output.parts[0][0])}
    added = node.inputs["x"].size // len(node.inputs["x"]) if node.description.startswith("ReduceSum") else 1
    bound = (added * unit["x"] + unit[output.parts[0][0]]) / 2
    assert np.abs(reals["y"] - both[0]["y"]).max() <= bound * 1.001, node.description


@few
@given(random_reductions())
def test_random_reductions(node: RandomNode) -> None:
    check(node)


@few
@given(random_pools())
def test_random_pools(node: RandomNode) -> None:
    check(node)


@pytest.mark.long
@many
@given(st.one_of(random_reductions(), random_pools()))
def test_random_nodes_long(node: RandomNode) -> None:
    check(node)


Build = Callable[[Graph, str], str]


def classified(build: Build, features: int = 5, opset: int = 17) -> onnx.ModelProto:
    """X [N, T, 4] → GRU → [T, N, 5] → ``build`` → [N, F] → Gemm → out [N, 3]."""
    g = Graph(opset)
    x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2])
    y = g.axes_op("Squeeze", g.recurrent("GRU", x, 4, 5)[0], [1])
    g.node("Gemm", [build(g, y), g.random(features, 3), g.random(3)], ["out"])
    g.output("out", 2)
    return g.model()


def over_axes(op: str, axes: list[int], **more: Any) -> Build:
    return lambda g, y: str(g.node(op, [y], axes=axes, name="node", **more))


def size_of(g: Graph, y: str, axis: int) -> str:
    size = g.node("Gather", [g.node("Shape", [y]), g.const(np.array(axis))])
    return str(g.node("Cast", [size], to=onnx.TensorProto.FLOAT))


def divided(g: Graph, y: str, axis: int) -> str:
    """The sum of [T, N, 5] over time, divided by the size of an axis."""
    total = g.node("ReduceSum", [y, g.const(np.array([0]))], keepdims=0)
    return str(g.node("Div", [total, size_of(g, y, axis)], name="divide"))


EXPORTED: dict[str, Build] = {
    "y.mean(dim=0)": over_axes("ReduceMean", [0], keepdims=0),
    "batch first": lambda g, y: over_axes("ReduceMean", [1], keepdims=0)(g, g.node("Transpose", [y], perm=[1, 0, 2])),
    "kept and squeezed": lambda g, y: g.axes_op("Squeeze", over_axes("ReduceMean", [-3], keepdims=1)(g, y), [0]),
    "adaptive_avg_pool1d(1)": lambda g, y: g.node(
        "Flatten", [g.node("GlobalAveragePool", [g.node("Transpose", [y], perm=[1, 2, 0])])]
    ),
    "adaptive_max_pool1d(1)": lambda g, y: g.node(
        "Flatten", [g.node("GlobalMaxPool", [g.node("Transpose", [y], perm=[1, 2, 0])])]
    ),
    "y.amax(0)": over_axes("ReduceMax", [0], keepdims=0),
    "y.sum(0) / len(y)": lambda g, y: divided(g, y, 0),
    "y.sum(0)": lambda g, y: g.node("ReduceSum", [y, g.const(np.array([0]))], keepdims=0),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_over_time_as_exporters_write_it(name: str) -> None:
    x = {"x": data(3, 9, 4)}
    model = agree(classified(EXPORTED[name]), x)
    assert [type(layer) for layer in model.layers] == [Recurrent, Running, LastStep, Dense]
    made = quantize(model, x, SHORTS)
    assert sqnr_db(oracle(model, x)["out"], Session(made, "reference").run(x).outputs["out"]) > 30


def test_a_mean_is_of_each_sequence_s_own_steps() -> None:
    """A graph with sequence_lens averages zeros behind a shorter sequence; here that is the mean that ONNX Runtime gives it alone."""
    g = Graph(17)
    x, lengths = g.input("x", ["t", "n", 4]), g.input("lengths", ["n"], onnx.TensorProto.INT32)
    y = g.axes_op("Squeeze", g.recurrent("GRU", x, 4, 5, lengths=lengths)[0], [1])
    g.node("ReduceMean", [y], ["out"], axes=[0], keepdims=0)
    g.output("out", 2)
    proto = g.model()
    model = import_model(proto, "test")
    assert any("each sequence's own steps" in note for note in model.notes)
    values = data(7, 2, 4)
    got = oracle(model, {"x": values, "lengths": np.array([7, 3], np.int32)})["out"]
    for n, length in enumerate((7, 3)):
        alone = {"x": values[:length, n : n + 1], "lengths": np.array([length], np.int32)}
        np.testing.assert_allclose(got[n : n + 1], runtime(proto, alone)["out"], atol=1e-5)


def test_no_copy_is_made_of_features_that_lie_together() -> None:
    """The features of a convolution's channels and bands are reduced as they lie, over either of them; others are brought together."""

    def model(axes: list[int], perm: list[int]) -> onnx.ModelProto:
        g = Graph(17)
        x = g.axes_op("Unsqueeze", g.input("x", ["n", "t", 6]), [1])
        y = g.node("Conv", [x, g.random(4, 1, 1, 1)])  # [N, 4, T, 6]
        y = g.node("ReduceMean", [g.node("Transpose", [y], perm=perm)], axes=axes, keepdims=0)
        g.node("Identity", [g.recurrent("GRU", y, 6 if 3 not in axes else 4, 2)[0]], ["out"])
        g.output("out", 4)
        return g.model()

    over_channels = model([2], [2, 0, 1, 3])
    over_bands = model([3], [2, 0, 1, 3])
    for proto in (over_channels, over_bands):
        kinds = [type(layer) for layer in agree(proto, {"x": data(2, 5, 6)}).layers]
        assert Reduce in kinds
        assert Concat not in kinds


def test_a_part_of_the_features_is_reduced() -> None:
    def build(g: Graph, y: str) -> str:
        return over_axes("ReduceMean", [0], keepdims=0)(g, g.slice(y, [1], [4], [2]))

    assert Running in [type(layer) for layer in agree(classified(build, 3), {"x": data(2, 6, 4)}).layers]


def test_time_and_features_are_reduced_together() -> None:
    """By one layer, with one rounding."""

    def build(g: Graph, y: str) -> str:
        mean = g.node("ReduceMean", [y], axes=[0, 2], keepdims=1)
        return str(g.node("Reshape", [mean, g.const(np.array([-1, 1]))]))

    model = agree(classified(build, 1), {"x": data(3, 6, 4)})
    (layer,) = (layer for layer in model.layers if isinstance(layer, (Running, Reduce)))
    assert isinstance(layer, Running)
    assert (layer.features, layer.count) == (1, 5)


def test_the_step_of_a_graph_of_one_step_is_its_own_mean() -> None:
    g = Graph(17)
    x = g.input("x", [1, 1, 4])
    h = g.input("h", [1, 1, 5])
    y, state = g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), 4, 5, h=h)
    mean = g.node("ReduceMean", [g.axes_op("Squeeze", y, [1])], axes=[0], keepdims=0)
    g.node("Gemm", [mean, g.random(5, 3)], ["out"])
    g.node("Identity", [state], ["h_out"])
    g.output("out", 2)
    g.output("h_out", 3)
    proto, feeds = g.model(), {"x": data(1, 1, 4), "h": data(1, 1, 5)}
    model = import_model(proto, "test")
    np.testing.assert_allclose(oracle(model, feeds)["out"].reshape(1, 3), runtime(proto, feeds)["out"], atol=1e-5)
    assert [type(layer) for layer in model.layers] == [Recurrent, Dense]


@pytest.mark.parametrize("pads", [[1, 1], [2, 0]])
def test_zeros_padded_before_an_average_count(pads: list[int]) -> None:
    """PyTorch's exporter writes AvgPool with count_include_pad so."""
    g = Graph(17)
    x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[0, 2, 1])
    wide = g.node("Pad", [x, g.const(np.array([0, 0, pads[0], 0, 0, pads[1]]))])
    y = g.node("AveragePool", [wide], kernel_shape=[3], strides=[2], pads=[0, 0])
    g.node("Identity", [g.recurrent("GRU", g.node("Transpose", [y], perm=[2, 0, 1]), 4, 5)[0]], ["out"])
    g.output("out", 4)
    (pool, _) = agree(g.model(), {"x": data(2, 8, 4)}).layers
    assert isinstance(pool, AveragePool)
    assert pool.padding_counts


def pooled(**attributes: Any) -> Build:
    return lambda g, x: str(g.node("AveragePool", [x], name="node", **attributes))


def over_time(build: Build, channels: int = 4) -> onnx.ModelProto:
    """X [N, T, 4] as [N, 4, T] → ``build`` → [N, C, T'] → GRU → out."""
    g = Graph(opset=17)
    x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[0, 2, 1])
    y = g.node("Transpose", [build(g, x)], perm=[2, 0, 1])
    g.node("Identity", [g.recurrent("GRU", y, channels, 5)[0]], ["out"])
    g.output("out", 4)
    return g.model()


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3], "strides": [2], "ceil_mode": 1},
        {"kernel_shape": [3], "strides": [2], "ceil_mode": 1, "count_include_pad": 1, "pads": [0, 0]},
        {"kernel_shape": [2], "strides": [2], "ceil_mode": 1, "pads": [1, 0]},
    ],
)
@pytest.mark.parametrize("steps", [7, 8, 9, 10])
def test_ceil_mode_over_time(attributes: dict[str, Any], steps: int) -> None:
    agree(over_time(pooled(**attributes)), {"x": data(2, steps, 4)})


def test_what_a_mean_over_time_scales_at_each_step() -> None:
    """Squeeze and excite over time: the mean of the sequence is a vector at every step."""
    model = agree(over_time(squeezed), {"x": data(2, 7, 4)})
    assert [type(layer).__name__ for layer in model.layers].count("Repeat") == 1


def squeezed(g: Graph, x: str) -> str:
    return str(g.node("Mul", [x, g.node("Sigmoid", [g.node("GlobalAveragePool", [x], name="gap")])], name="scale"))


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (pooled(kernel_shape=[3], strides=[2], pads=[1, 0], ceil_mode=1, count_include_pad=1), UnsupportedError,
         "ceil_mode=1 gives axis 2 a window past its padding"),
        (pooled(kernel_shape=[2, 2]), ModelFileError, "its kernel [2, 2] has 2 axes"),
        (pooled(kernel_shape=[3], pads=[3, 0]), UnsupportedError, "pads axis 2 by 3 and 0"),
        (pooled(kernel_shape=[3], strides=[2], auto_pad="SAME_UPPER"), UnsupportedError, "depends on the number of steps"),
        (lambda g, x: pooled(kernel_shape=[3], pads=[1, 1])(g, g.node("Pad", [x, g.const(np.array([0, 0, 1, 0, 0, 1]))])),
         UnsupportedError, "read zeros padded over time"),
        (over_axes("ReduceMean", [0], keepdims=1), UnsupportedError, "reduces the batch axis of [N, 4, T]"),
        (lambda g, x: g.node("ReduceMean", [x], name="node"), UnsupportedError, "reduces the batch axis of [N, 4, T]"),
        (over_axes("ReduceMean", [3]), ModelFileError, "axis 3 is outside the 3 axes"),
        (over_axes("ReduceMax", [1, -2]), ModelFileError, "axes=[1, -2] name an axis twice"),
        (lambda g, x: g.node("ReduceL1", [x], axes=[1], name="node"), UnsupportedError, "ReduceL1"),
    ],
)  # fmt: skip
def test_what_is_refused(build: Build, error: type[QrnnError], says: str) -> None:
    """The input goes through a GRU too, which says what its axes are whatever the node makes of them."""
    g = Graph(17)
    x = g.input("x", ["n", "t", 4])
    g.node("Identity", [g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), 4, 5)[0]], ["out"])
    g.output("out", 4)
    g.node("Identity", [build(g, g.node("Transpose", [x], perm=[0, 2, 1]))], ["y"])
    g.output("y", 3)
    refused_with(error, g.model(), says)


def test_a_sum_over_time_is_divided_by_nothing_but_its_steps() -> None:
    refused_with(
        UnsupportedError, classified(lambda g, y: divided(g, y, 1)), "computes with features and sizes of the graph"
    )
    refused_with(
        UnsupportedError,
        classified(
            lambda g, y: g.node("Div", [over_axes("ReduceMax", [0], keepdims=0)(g, y), size_of(g, y, 0)], name="divide")
        ),
        "computes with features and sizes of the graph",
    )


def test_a_damaged_global_pool() -> None:
    refused_with(
        ModelFileError,
        classified(
            lambda g, y: g.node("GlobalAveragePool", [g.node("ReduceMax", [y], axes=[0], keepdims=0)], name="node")
        ),
        "expected [N, C, …] with an axis behind the channels",
    )
