"""Means over a sequence's own steps, as exporters write them with masks of lengths, by ONNX Runtime's results."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schemes import SHORTS

from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import UnsupportedError
from qrnn.onnx_import import import_model
from qrnn.running.session import Session
from tests.onnx_import.builders import Graph
from tests.onnx_import.running import data, refused_with, runtime

INT = np.int64
FLOAT, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL


def ints(g: Graph, *values: int) -> str:
    return g.const(np.array(values, INT))


def pooled(
    compare: str = "Less",
    limit: str = "size",
    by: str = "mul",
    divide: str = "lengths",
    kind: str = "mean",
    inner: bool = False,
    batch: Any = "n",
    time: Any = "t",
    inverted: bool = False,
) -> onnx.ModelProto:
    """X [N, T, 4], lens [N] → GRU with sequence_lens or without → masked mean, sum or largest [N, 5] → dense."""
    g = Graph()
    x, lens = g.input("x", [batch, time, 4]), g.input("lens", [batch], onnx.TensorProto.INT64)
    short = g.node("Cast", [lens], to=onnx.TensorProto.INT32)
    y = g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), 4, 5, lengths=short if inner else "")[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    if limit == "constant":
        steps = g.const(np.arange(time, dtype=INT))
    else:
        size = g.node("Gather", [g.node("Shape", [x]), g.const(np.array(1))], axis=0)
        size = g.node("ReduceMax", [lens], keepdims=0) if limit == "longest" else size
        steps = g.node("Range", [g.const(np.array(0)), size, g.const(np.array(1))])
    own, column = g.axes_op("Unsqueeze", steps, [0]), g.axes_op("Unsqueeze", lens, [1])
    valid = compare in ("Less", "Greater")
    operands = [own, column] if compare in ("Less", "GreaterOrEqual") else [column, own]
    mask = g.node(compare, operands)
    if inverted:
        mask, valid = g.node("Not", [mask]), not valid
    by = "where" if by == "mul" and kind == "largest" else by
    if by == "mul" and not valid:
        mask, valid = g.node("Not", [mask]), True
    wide = g.axes_op("Unsqueeze", mask, [2])
    if by == "mul":
        wide = g.node("Cast", [wide], to=FLOAT)
        y = g.node("Mul", [wide, y] if inverted else [y, wide])
    else:
        if by == "expanded":
            wide = g.node("Expand", [wide, g.node("Shape", [y])])
        fill = g.const(np.float32(-1e9 if kind == "largest" else 0))
        y = g.node("Where", [wide, y, fill] if valid else [wide, fill, y])
    if kind == "largest":
        y = g.node("ReduceMax", [y], axes=[1], keepdims=0)
    else:
        y = g.node("ReduceSum", [y, ints(g, 1)], keepdims=0)
    if kind == "mean":
        counted = column
        if divide == "mask":
            mask = mask if valid else g.node("Not", [mask])
            counted = g.node("ReduceSum", [g.node("Cast", [mask], to=FLOAT), ints(g, 1)], keepdims=1)
        counted = g.node("Cast", [counted], to=FLOAT)
        if divide == "clip":
            counted = g.node("Clip", [counted, g.const(np.float32(1))])
        elif divide == "max":
            counted = g.node("Max", [counted, g.const(np.float32(1e-6))])
        elif divide == "plus":
            counted = g.node("Add", [counted, g.const(np.float32(1e-9))])
        y = g.node("Div", [y, counted])
    g.node("Gemm", [y, g.random(5, 3), g.random(3)], ["out"])
    g.output("out", 2)
    return g.model()


def agree(proto: onnx.ModelProto, lengths: list[int], integers: bool = False) -> None:
    """Compare with ONNX Runtime; padding holds large numbers."""
    steps = max(lengths)
    x = data(len(lengths), steps, 4)
    for row, length in zip(x, lengths, strict=True):
        row[length:] = 5.0
    lens = np.array(lengths, INT)
    model = import_model(proto, "test")
    assert {i.name: i.kind for i in model.inputs} == {"x": "features", "lens": "lengths"}
    want = runtime(proto, {"x": x, "lens": lens})["out"]
    got = run_oracle(model, {"x": x, "lens": lens}).outputs["out"]
    np.testing.assert_allclose(got, want, atol=1e-5)
    if not integers:
        return
    quantized = quantize(model, {"x": x, "lens": lens}, SHORTS)
    found = Session(quantized, "reference").run({"x": x, "lens": lens}).outputs["out"]
    assert np.abs(found - want).max() < 0.05 * (np.ptp(want) + 1e-3)


@settings(max_examples=30, deadline=None)
@given(
    compare=st.sampled_from(["Less", "GreaterOrEqual", "Greater", "LessOrEqual"]),
    limit=st.sampled_from(["size", "longest", "constant"]),
    by=st.sampled_from(["mul", "where", "expanded"]),
    divide=st.sampled_from(["lengths", "mask", "clip", "max", "plus"]),
    kind=st.sampled_from(["mean", "sum", "largest"]),
    inner=st.booleans(),
    inverted=st.booleans(),
    baked=st.booleans(),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
)
def test_any_spelling(
    compare: str,
    limit: str,
    by: str,
    divide: str,
    kind: str,
    inner: bool,
    inverted: bool,
    baked: bool,
    lengths: list[int],
) -> None:
    lengths[0] = 6
    sizes = (len(lengths), 6) if baked or limit == "constant" else ("n", "t")
    agree(pooled(compare, limit, by, divide, kind, inner, *sizes, inverted), lengths)


@pytest.mark.parametrize("kind", ["mean", "sum", "largest"])
def test_integers(kind: str) -> None:
    agree(pooled(kind=kind, divide="mask"), [6, 3, 1], integers=True)


def refused(change: Any, says: str) -> None:
    g = Graph()
    x, lens = g.input("x", ["n", "t", 4]), g.input("lens", ["n"], onnx.TensorProto.INT64)
    y = g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), 4, 5)[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    size = g.node("Gather", [g.node("Shape", [x]), g.const(np.array(1))], axis=0)
    steps = g.node("Range", [g.const(np.array(0)), size, g.const(np.array(1))])
    mask = g.node("Less", [g.axes_op("Unsqueeze", steps, [0]), g.axes_op("Unsqueeze", lens, [1])])
    g.node("Identity", [change(g, y, mask, steps, lens)], ["out"])
    g.output("out", 2)
    g.node("Identity", [y], ["every"])
    g.output("every")
    refused_with(UnsupportedError, g.model(), says)


def times(g: Graph, y: str, mask: str) -> str:
    return str(g.node("Mul", [y, g.node("Cast", [g.axes_op("Unsqueeze", mask, [2])], to=FLOAT)]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda g, y, mask, steps, lens: g.node("ReduceMean", [times(g, y, mask)], axes=[1]), "takes the mean over all steps"),
        (lambda g, y, mask, steps, lens: g.node("ReduceMax", [times(g, y, mask)], axes=[1]), "takes the max over all steps"),
        (lambda g, y, mask, steps, lens: g.node("ReduceSum", [g.node("Where", [g.axes_op("Unsqueeze", mask, [2]), y,
         g.const(np.float32(1))]), ints(g, 1)]), "behind each sequence to 1"),
        (lambda g, y, mask, steps, lens: times(g, y, g.node("Not", [mask])), "not features by that of a sequence's own steps"),
        (lambda g, y, mask, steps, lens: g.node("Tanh", [g.node("Cast", [mask], to=FLOAT)]), "reads a mask of steps"),
        (lambda g, y, mask, steps, lens: g.node("Tanh", [g.node("Cast", [steps], to=FLOAT)]), "reads the numbers of the steps"),
        (lambda g, y, mask, steps, lens: g.node("Div", [g.node("Gather", [times(g, y, mask), g.const(np.array(-1))], axis=1),
         g.axes_op("Unsqueeze", g.node("Cast", [g.node("ReduceSum", [g.node("Cast", [mask], to=FLOAT), ints(g, 1)], keepdims=0)], to=FLOAT),
         [1])]), "is no sum over time"),
        (lambda g, y, mask, steps, lens: g.node("Where", [g.axes_op("Unsqueeze", mask, [2]), y, g.node("Tanh", [y])]), "a constant for others"),
        (lambda g, y, mask, steps, lens: g.node("Mul", [mask, mask]), "passes an input, a constant"),
    ],
)  # fmt: skip
def test_what_is_refused(change: Any, says: str) -> None:
    refused(change, says)


def test_reverse_without_sequence_lens_is_refused() -> None:
    """The graph reads the padding first; a mask behind it does not change that."""
    g = Graph()
    x, lens = g.input("x", ["n", "t", 4]), g.input("lens", ["n"], onnx.TensorProto.INT64)
    y = g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), 4, 5, directions=2)[0]
    y = g.node("Reshape", [g.node("Transpose", [y], perm=[2, 0, 1, 3]), ints(g, 0, 0, -1)])
    size = g.node("Gather", [g.node("Shape", [x]), g.const(np.array(1))], axis=0)
    steps = g.node("Range", [g.const(np.array(0)), size, g.const(np.array(1))])
    mask = g.node("Less", [g.axes_op("Unsqueeze", steps, [0]), g.axes_op("Unsqueeze", lens, [1])])
    g.node("ReduceSum", [times(g, y, mask), ints(g, 1)], ["out"], keepdims=0)
    g.output("out", 2)
    refused_with(UnsupportedError, g.model(), "runs in reverse without sequence_lens")


def test_constant_ranges() -> None:
    g = Graph()
    picks = g.node("Range", [g.const(np.array(0)), g.const(np.array(4)), g.const(np.array(2))])
    x = g.node("Gather", [g.input("x", ["t", "n", 4]), picks], axis=2)
    g.recurrent("GRU", x, 2, 5, outputs=["y", ""])
    g.output("y", 4)
    from tests.onnx_import.running import agree as plain

    plain(g.model(), {"x": data(6, 3, 4)})
