"""Instance, group, mean-variance and L2 normalization as operators: ONNX Runtime's values, layers, streams, refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cli.running import make_cli
from onnx import helper
from schemes import SHORTS

import qrnn
from qrnn.conversion import quantize
from qrnn.errors import DataError, ModelFileError, UnsupportedError
from qrnn.model.kinds.group_norm import GroupNorm
from qrnn.model.kinds.layer_norm import LayerNorm
from qrnn.model.kinds.running_norm import RunningNorm
from qrnn.model.kinds.sequence_norm import SequenceNorm
from qrnn.onnx_import import import_model
from qrnn.running.session import Session

from .builders import Graph
from .running import agree, data, refused_with

H = 12
X = {"x": data(3, 9, 4)}
Build = Callable[[Graph, str], str]
CHANNELS_FIRST = (0, 2, 1)
BANDS = (0, 2, 1, 3)


def graph(build: Build, layout: str = "ntc", opset: int = 18, back: Any = None) -> onnx.ModelProto:
    """X [N, T, 4] → GRU → y in a layout → ``build`` → back → out [N, T, …]."""
    g = Graph(opset=opset)
    y = g.recurrent("GRU", g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2]), 4, H)[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    if layout == "nct":
        y = g.node("Transpose", [y], perm=[0, 2, 1])
    if layout == "nctf":
        y = g.node(
            "Transpose",
            [
                g.node("Reshape", [y, g.const(np.array([0, 0, 6, 2]))]),
            ],
            perm=list(BANDS),
        )
    if layout == "frames":
        y = g.node("Reshape", [y, g.const(np.array([-1, 6, 2]))])
    y = build(g, y)
    if layout == "frames":
        shape = g.node("Concat", [g.slice(g.node("Shape", ["x"]), [0], [2], [0]), g.const(np.array([H]))], axis=0)
        y = g.node("Reshape", [y, shape])
    g.node("Identity", [y], ["out"])
    g.output("out", 4 if layout == "nctf" else 3)
    return g.model()


def instance(channels: int) -> Build:
    return lambda g, y: str(
        g.node("InstanceNormalization", [y, g.random(channels), g.random(channels)], epsilon=1e-3, name="norm")
    )


def group(groups: int, per: int) -> Build:
    return lambda g, y: str(
        g.node("GroupNormalization", [y, g.random(per), g.random(per)], num_groups=groups, epsilon=1e-3, name="norm")
    )


def in_groups(groups: int, more: Build | None = None) -> Build:
    """As PyTorch's exporters write GroupNorm: [N, G, …], normalized, and the shape before; weights of each channel behind."""

    def build(g: Graph, y: str) -> str:
        folded = g.node("Reshape", [y, g.const(np.array([0, groups, -1]))])
        ones, zeros = g.const(np.ones(groups, np.float32)), g.const(np.zeros(groups, np.float32))
        normal = g.node("InstanceNormalization", [folded, ones, zeros], epsilon=1e-3, name="norm")
        if more is not None:
            normal = more(g, normal)
        back = g.node("Reshape", [normal, g.node("Shape", [y])])
        rank = 1 if groups == 4 else 2
        return str(
            g.node("Add", [g.node("Mul", [back, g.random(H // rank, *(1,) * rank)]), g.random(H // rank, *(1,) * rank)])
        )

    return build


@pytest.mark.parametrize(
    ("build", "layout", "kind", "opset"),
    [
        (instance(H), "nct", SequenceNorm, 18),
        (instance(6), "nctf", SequenceNorm, 18),
        (instance(6), "frames", GroupNorm, 18),
        (group(3, H), "nct", SequenceNorm, 21),
        (group(1, 6), "nctf", SequenceNorm, 21),
        (group(3, 6), "frames", GroupNorm, 21),
        (in_groups(4), "nct", SequenceNorm, 18),
        (in_groups(3), "nctf", SequenceNorm, 18),
        (lambda g, y: g.node("MeanVarianceNormalization", [y], axes=[2]), "ntc", GroupNorm, 18),
        (lambda g, y: g.node("MeanVarianceNormalization", [y], axes=[1, 3]), "nctf", GroupNorm, 18),
        (lambda g, y: g.node("LpNormalization", [y], axis=2), "ntc", LayerNorm, 18),
        (lambda g, y: g.node("LpNormalization", [y], axis=3), "nctf", GroupNorm, 18),
    ],
)  # fmt: skip
def test_operators(build: Build, layout: str, kind: type[Any], opset: int) -> None:
    model = agree(graph(build, layout, opset), X)
    (layer,) = (layer for layer in model.layers if isinstance(layer, (GroupNorm, LayerNorm, SequenceNorm)))
    assert isinstance(layer, kind)
    quantize(model, X, SHORTS)


@pytest.mark.parametrize("steps", ["t", 9])
def test_groups_before_the_recurrent_layer(steps: Any) -> None:
    """The time axis is found through both reshapes, also where the number of steps is declared."""
    g = Graph()
    x = g.node("Transpose", [g.input("x", ["n", steps, H])], perm=[0, 2, 1])
    y = g.node("Transpose", [in_groups(4)(g, x)], perm=[2, 0, 1])
    g.axes_op("Squeeze", g.recurrent("GRU", y, H, 5)[0], [1], "out")
    g.output("out")
    model = agree(g.model(), {"x": data(3, 9, H)})
    assert isinstance(model.layers[0], SequenceNorm)


@pytest.mark.parametrize("opset", [9, 11, 17])
def test_other_opsets(opset: int) -> None:
    agree(graph(instance(H), "nct", opset), X)


def test_padding_takes_no_part() -> None:
    """Each sequence of a ragged batch gives what it gives alone."""
    model = import_model(graph(instance(H), "nct"), "test")
    session, lengths = Session(quantize(model, X, SHORTS), "cpu"), [9, 4, 2]
    whole = session.run(X, lengths).outputs["out"]
    for n, length in enumerate(lengths):
        alone = session.run({"x": X["x"][n : n + 1, :length]}).outputs["out"]
        np.testing.assert_array_equal(whole[n, :length], alone[0])


def test_a_window_on_the_command_line(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    run_cli = make_cli(monkeypatch, capsys)
    onnx.save(graph(instance(H), "nct"), tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", **X)
    given = ["convert", tmp_path / "m.onnx", "--calibration", tmp_path / "x.npz", "-o", tmp_path / "m.qrnn"]
    assert run_cli(*given).status == 0
    assert "only the end of a sequence tells" in run_cli("inspect", tmp_path / "m.qrnn").out
    done = run_cli(*given, "--window", "5")
    assert "normalizes over the last 5 steps at each step" in done.out, done.err
    assert qrnn.load(tmp_path / "m.qrnn").layers[-1].steps == 5  # type: ignore[attr-defined]
    assert run_cli("compare", tmp_path / "m.onnx", tmp_path / "m.qrnn", "--data", tmp_path / "x.npz").status in (0, 1)
    assert "all steps so far" in run_cli(*given, "--window", "all").out
    for wrong in ("0", "-2", "many"):
        assert (
            f"--window '{wrong}', expected a number of steps from 1 on, or all"
            in run_cli(*given, "--window", wrong).err
        )
    model = qrnn.load_onnx(tmp_path / "m.onnx", window=3)
    assert isinstance(model.layers[-1], RunningNorm)
    onnx.save(graph(lambda g, y: str(g.node("Tanh", [y]))), tmp_path / "other.onnx")
    with pytest.raises(DataError, match="window=3: model 'other' normalizes nothing over time; leave the window out"):
        qrnn.load_onnx(tmp_path / "other.onnx", window=3)
    with pytest.raises(DataError, match="window=-1"):
        qrnn.load_onnx(tmp_path / "m.onnx", window=-1)


def cumulative(g: Graph, y: str) -> str:
    """As Conv-TasNet's cLN: sums of all steps so far, by CumSum."""
    total = g.node("CumSum", [g.node("ReduceSum", [y, g.const(np.array([1]))]), g.const(np.array(2))])
    return str(g.node("Sub", [y, total]))


@pytest.mark.parametrize(
    ("proto", "error", "says"),
    [
        (graph(cumulative, "nct"), UnsupportedError, "CumSum"),
        (graph(lambda g, y: g.node("InstanceNormalization", [y, g.random(5), g.random(H)]), "nct"), ModelFileError, "scale has shape [5]"),
        (graph(group(5, H), "nct", 21), ModelFileError, "num_groups=5 does not divide the 12 channels"),
        (graph(in_groups(4, lambda g, y: str(g.node("Tanh", [y]))), "nct"), UnsupportedError, "groups of channels put together with time"),
        (graph(lambda g, y: g.node("MeanVarianceNormalization", [y]), "nctf"), UnsupportedError, "over the batch axis 0"),
    ],
)  # fmt: skip
def test_what_is_refused(proto: onnx.ModelProto, error: type[UnsupportedError], says: str) -> None:
    refused_with(error, proto, says)


def test_epsilon_and_outputs_of_layer_normalization() -> None:
    proto = graph(instance(H), "nct")
    node = next(n for n in proto.graph.node if n.op_type == "InstanceNormalization")
    node.attribute[0].CopyFrom(helper.make_attribute("epsilon", float("nan")))
    refused_with(ModelFileError, proto, "epsilon=nan, expected a finite number of at least 0")
