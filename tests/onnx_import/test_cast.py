"""Cast of constants, tokens and computed features: what ONNX Runtime computes, or refused; never other numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from qrnn.errors import UnsupportedError
from qrnn.onnx_import import import_model

from .builders import Graph
from .running import agree, data, refused_with, runtime

KINDS = {name: kind for name, kind in TensorProto.DataType.items() if name not in ("UNDEFINED", "STRING")}
KNOWN_TO_THE_RUNTIME = (
    "FLOAT",
    "DOUBLE",
    "FLOAT16",
    "BFLOAT16",
    "BOOL",
    "INT32",
    "INT64",
    "UINT8",
    "INT8",
    "INT16",
    "UINT16",
)
VALUES: dict[str, Any] = {
    "small whole numbers": np.array([1, 0, 3, 2], np.int64),
    "true and false": np.array([True, False, True, True]),
    "beyond float32's whole numbers": np.array([(1 << 24) + 1, 1, 2, 3], np.int64),
    "fractions": np.array([0.1, -0.2, 1 / 3, 2.7], np.float32),
    "beyond a byte": np.array([300, -1, 2, 200], np.int64),
    "beyond float16": np.array([1e6, 1.0, 2.0, 3.0], np.float32),
    "beyond int64": np.array([1e30, 1.0, 2.0, 3.0], np.float32),
}


def with_constant(values: Any, *kinds: int) -> onnx.ModelProto:
    """Build x + the constant, cast to ``kinds`` one after the other → GRU."""
    g = Graph(21)
    x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[1, 0, 2])
    added = g.const(values)
    for k, kind in enumerate(kinds):
        added = g.node("Cast", [added], to=kind, name="cast" if k == 0 else "back")
    y = g.recurrent("GRU", g.node("Add", [x, added]), 4, 5)[0]
    g.node("Squeeze", [y, g.const(np.array([1]))], ["y"])
    g.output("y")
    return g.model()


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("name", KINDS)
def test_constants(name: str, values: str) -> None:
    proto = with_constant(VALUES[values], KINDS[name], TensorProto.FLOAT)
    try:
        import_model(proto, "test")
    except UnsupportedError as error:
        assert "node 'cast'" in str(error)  # noqa: PT017
        without_these = name.startswith("COMPLEX") or name in ("INT2", "UINT2", "FLOAT8E8M0")
        assert values not in ("small whole numbers", "true and false") or without_these, error  # noqa: PT017
        return
    if name in KNOWN_TO_THE_RUNTIME:
        agree(proto, {"x": data(2, 3, 4)})


@pytest.mark.parametrize(
    ("name", "value"), [("UINT8", 300), ("INT8", 128), ("INT4", 8), ("INT32", 2**31), ("FLOAT16", 1e6)]
)
def test_constants_that_do_not_fit(name: str, value: float) -> None:
    refused_with(
        UnsupportedError, with_constant(np.array([value], np.float64), KINDS[name]), "node 'cast'", str(value), name
    )


def token_model(kind: int) -> onnx.ModelProto:
    g = Graph(21)
    ids = g.node("Cast", [g.input("ids", ["n", "t"], TensorProto.INT64)], to=kind, name="cast")
    rows = g.node("Gather", [g.random(300, 4), g.node("Cast", [ids], to=TensorProto.INT64)])
    y = g.recurrent("GRU", g.node("Transpose", [rows], perm=[1, 0, 2]), 4, 5)[0]
    g.node("Squeeze", [y, g.const(np.array([1]))], ["y"])
    g.output("y")
    return g.model()


@pytest.mark.parametrize("name", ["FLOAT", "DOUBLE", "INT32", "INT64", "UINT32", "UINT64", "INT16", "FLOAT16"])
def test_tokens(name: str) -> None:
    proto = token_model(KINDS[name])
    ids = np.array([[5, 299, 130], [7, 200, 3]])
    agree(proto, {"ids": ids}, runtime(proto, {"ids": ids}))


@pytest.mark.parametrize("name", ["BOOL", "INT8", "UINT8", "INT4", "FLOAT8E4M3FN"])
def test_tokens_in_types_that_may_not_hold_them(name: str) -> None:
    refused_with(UnsupportedError, token_model(KINDS[name]), "node 'cast'", f"casts tokens or lengths to {name}")


@pytest.mark.parametrize("name", ["BOOL", "INT32", "INT4", "FLOAT8E4M3FN", "FLOAT4E2M1"])
def test_computed_features_that_would_be_rounded(name: str) -> None:
    g = Graph(23)
    x = g.node("Cast", [g.input("x", ["t", "n", 4])], to=KINDS[name], name="cast")
    g.node("Squeeze", [g.recurrent("GRU", g.node("Cast", [x], to=1), 4, 5)[0], g.const(np.array([1]))], ["y"])
    g.output("y")
    refused_with(UnsupportedError, g.model(), "node 'cast'", f"casts computed features to {name}")
