"""Indices of look-ups that count from the end where they are negative, as Keras writes them, are the tokens themselves."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from qrnn.errors import UnsupportedError
from qrnn.model.kinds.embedding import Embedding
from qrnn.onnx_import import import_model

from .builders import Graph
from .running import agree

ROWS = 11


def looked_up(spelling: str, kind: int, behind: int = ROWS) -> onnx.ModelProto:
    """Ids [N, T] → an index by this spelling → a row of a table → GRU → out."""
    dtype = np.int32 if kind == TensorProto.INT32 else np.int64
    g = Graph(opset=17)
    ids = g.input("ids", ["n", "t"], kind)
    rows, zero = g.const(np.asarray(behind, dtype)), g.const(np.asarray(0, dtype))
    wrapped = g.node("Add", [ids, rows])
    negative = g.node("Less", [g.node("Cast", [ids], to=TensorProto.FLOAT), g.const(np.float32(0))])
    if spelling == "where":
        index = g.node("Where", [negative, wrapped, ids])
    elif spelling == "masks":
        positive = g.node("Not", [negative])
        parts = [g.node("Mul", [v, g.node("Cast", [m], to=kind)]) for m, v in ((negative, wrapped), (positive, ids))]
        index = g.node("Add", parts)
    elif spelling == "mod":
        index = g.node("Mod", [wrapped, rows])
    else:
        index = g.node("Max", [zero, g.node("Min", [ids, g.const(np.asarray(ROWS - 1, dtype))])])
    x = g.node("Transpose", [g.node("Gather", [g.random(ROWS, 4), index])], perm=[1, 0, 2])
    g.node("Identity", [g.recurrent("GRU", x, 4, 5)[0]], ["out"])
    g.output("out", 4)
    return g.model()


@settings(deadline=None, max_examples=20)
@given(
    st.sampled_from(["where", "masks", "mod", "clipped"]),
    st.sampled_from([TensorProto.INT32, TensorProto.INT64]),
    st.integers(0, 2**16),
)
def test_the_index_is_the_token(spelling: str, kind: int, seed: int) -> None:
    dtype = np.int32 if kind == TensorProto.INT32 else np.int64
    ids = np.random.default_rng(seed).integers(0, ROWS, (3, 6)).astype(dtype)
    model = agree(looked_up(spelling, kind), {"ids": ids})
    assert isinstance(model.layers[0], Embedding)
    assert [(i.kind, i.vocabulary) for i in model.inputs] == [("tokens", ROWS)]


def test_another_index_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="Mod"):
        import_model(looked_up("mod", TensorProto.INT64, ROWS - 1), "test")
