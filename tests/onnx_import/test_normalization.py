"""LayerNormalization and RMSNormalization, against ONNX Runtime and in integers; what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from qrnn.accuracy.metrics import sqnr_db
from qrnn.conversion import quantize
from qrnn.errors import ModelFileError, UnsupportedError
from qrnn.model.kinds.concat import Concat
from qrnn.model.kinds.group_norm import GroupNorm
from qrnn.model.kinds.layer_norm import LayerNorm
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.sequence_norm import SequenceNorm
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

from .builders import Graph
from .running import agree, data, oracle, refused_with

OPSETS = {"LayerNormalization": 17, "RMSNormalization": 23}


def graph(build: Callable[[Graph, str], str], op: str = "LayerNormalization") -> onnx.ModelProto:
    """X [N, T, 4] → GRU → ``build`` of its y [N, T, 5] → out."""
    g = Graph(opset=OPSETS[op])
    x = g.input("x", ["n", "t", 4])
    y = g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), 4, 5)[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    g.node("Identity", [build(g, y)], ["out"])
    g.output("out")
    return g.model()


def normal(g: Graph, y: str, *constants: str, op: str = "LayerNormalization", **attributes: Any) -> Any:
    return g.node(op, [y, *(constants or [g.random(5)])], name="norm", **attributes)


@pytest.mark.parametrize("axis", [None, -1, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_layer_normalization(bias: bool, axis: int | None) -> None:
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis, "epsilon": 0.02}

    def build(g: Graph, y: str) -> str:
        return str(normal(g, y, g.random(5), *([g.random(5)] if bias else []), **attributes))

    x = {"x": data(3, 9, 4)}
    model = agree(graph(build), x)
    assert [type(layer) for layer in model.layers] == [Recurrent, LayerNorm]
    layer = model.layers[-1]
    assert isinstance(layer, LayerNorm)
    assert layer.centred
    assert layer.epsilon == pytest.approx(0.02 if attributes else 1e-5)
    quantized = quantize(model, x, Scheme(activations=16, input="16"))
    assert sqnr_db(oracle(model, x)["out"], Session(quantized, "reference").run(x).outputs["out"]) > 45


def test_rms_normalization() -> None:
    op = "RMSNormalization"
    model = agree(graph(lambda g, y: str(normal(g, y, op=op, epsilon=0.1)), op), {"x": data(3, 9, 4)})
    assert isinstance(layer := model.layers[-1], LayerNorm)
    assert not layer.centred


def test_features_in_another_order() -> None:
    """The gain goes with the feature; no layer is needed for the order."""

    def build(g: Graph, y: str) -> str:
        return str(
            normal(g, g.node("Gather", [y, g.const(np.array([3, 0, 4, 1, 2]))], axis=2), g.random(5), g.random(5))
        )

    model = agree(graph(build), {"x": data(3, 9, 4)})
    assert [type(layer) for layer in model.layers] == [Recurrent, LayerNorm]


def test_some_features_and_of_two_tensors() -> None:
    def build(g: Graph, y: str) -> str:
        part = normal(g, g.slice(y, [1], [4], [2]), g.random(3))
        return str(g.node("LayerNormalization", [g.node("Concat", [part, y], axis=2), g.random(8), g.random(8)]))

    model = agree(graph(build), {"x": data(3, 9, 4)})
    assert [type(layer) for layer in model.layers] == [Recurrent, Concat, LayerNorm, Concat, LayerNorm]


def test_one_number_for_all_features() -> None:
    agree(graph(lambda g, y: str(normal(g, y, g.random(1), g.random(1)))), {"x": data(3, 9, 4)})


def in_groups(g: Graph, y: str) -> str:
    """Over the last of two feature axes."""
    pairs = g.node("Reshape", [g.node("Concat", [y, y], axis=2), g.const(np.array([0, 0, 2, 5]))])
    return str(g.node("Reshape", [normal(g, pairs), g.const(np.array([0, 0, 10]))]))


def test_over_the_last_of_two_feature_axes_and_over_time() -> None:
    x = {"x": data(3, 9, 4)}
    assert [type(layer) for layer in agree(graph(in_groups), x).layers] == [Recurrent, Concat, GroupNorm]
    model = agree(graph(lambda g, y: normal(g, y, g.random(5), g.random(1), axis=1)), x)
    assert [type(layer) for layer in model.layers] == [Recurrent, SequenceNorm]


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (lambda g, y: normal(g, y, g.random(3, 5), axis=1), UnsupportedError, "Scale has shape [3, 5] beside [N, T, 5]"),
        (lambda g, y: normal(g, y, axis=-3), UnsupportedError, "normalizes [N, T, 5] over the batch axis 0"),
        (lambda g, y: normal(g, y, axis=3), ModelFileError, "axis 3 is outside the 3 axes"),
        (lambda g, y: normal(g, y, stash_type=0), UnsupportedError, "stash_type=0 is not supported"),
        (lambda g, y: normal(g, y, epsilon=-1.0), ModelFileError, "epsilon=-1.0, expected a finite number of at least 0"),
        (lambda g, y: normal(g, y, odd=1), UnsupportedError, "odd"),
        (lambda g, y: normal(g, y, y), UnsupportedError, "Scale"),
        (lambda g, y: normal(g, y, g.random(2, 5)), UnsupportedError, "Scale has shape [2, 5] beside [N, T, 5]"),
        (lambda g, y: g.node("LayerNormalization", [y, g.random(5)], ["v", "mean"], name="norm")[0], UnsupportedError,
         "output 'mean' is not supported"),
    ],
)  # fmt: skip
def test_what_is_refused(build: Callable[[Graph, str], str], error: type[UnsupportedError], says: str) -> None:
    refused_with(error, graph(build), "LayerNormalization", says)
