"""Small graphs with operators that have no handler, and their conversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from onnx_import.builders import Graph

from qrnn.hybrid.convert import convert_with_float_parts
from qrnn.hybrid.model import FloatPart, HybridModel
from qrnn.quantization.scheme import Scheme


def odd(g: Graph, x: str, output: str = "") -> str:
    """An operator that has no handler, of each value by itself."""
    return str(g.node("Sin", [x], [output] if output else 1))


def loop(g: Graph, x: str) -> str:
    """A loop of three trips that the importer does not know: v ← atan(v + x)."""
    nodes = [
        helper.make_node("Add", ["v", x], ["more"]),
        helper.make_node("Atan", ["more"], ["next"]),
        helper.make_node("Identity", ["go"], ["on"]),
    ]
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        nodes,
        "body",
        [info("k", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("v", TensorProto.FLOAT, None)],
        [info("on", TensorProto.BOOL, []), info("next", TensorProto.FLOAT, None)],
    )
    return str(g.node("Loop", [g.const(np.array(3, np.int64)), g.const(np.array(True)), x], body=body))


def gru(g: Graph, x: str, features: int, hidden: int, name: str, batch_first: bool = True) -> str:
    """A GRU over [N, T, F], or over [T, N, F]."""
    read = g.node("Transpose", [x], perm=[1, 0, 2]) if batch_first else x
    y = g.axes_op("Squeeze", g.recurrent("GRU", read, features, hidden, name)[0], [1])
    return str(g.node("Transpose", [y], perm=[1, 0, 2])) if batch_first else y


def built(where: str, batch: Any = "batch", time: Any = "time") -> Graph:
    """A model with operators that have no handler in front, in the middle or behind, or with several of these."""
    g = Graph()
    x = g.input("x", [batch, time, 4])
    if "front" in where:
        x = odd(g, g.node("MatMul", [x, g.random(4, 4)]), "front")
    if "loop" in where:
        x = loop(g, x)
    h = gru(g, g.node("MatMul", [x, g.random(4, 6)]), 6, 5, "first")
    if "middle" in where:
        h = gru(g, g.node("MatMul", [odd(g, h, "middle"), g.random(5, 5)]), 5, 5, "second")
    if "behind" in where:
        h = odd(g, g.node("MatMul", [h, g.random(5, 5)]), "behind")
    g.node("MatMul", [h, g.random(5, 3)], ["y"])
    g.output("y")
    return g


PLAIN = Scheme(activations=16, weights=8, input="16")
"""One that searches for nothing, which is quick."""


def saved(g: Graph, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(g.model().SerializeToString())
    return path


def converted(path: Path, arrays: dict[str, Any], *names: str) -> HybridModel:
    model = convert_with_float_parts(path, arrays, names or ("auto",), PLAIN)
    assert isinstance(model, HybridModel)
    return model


def kinds(model: HybridModel) -> list[str]:
    return ["float" if isinstance(part, FloatPart) else "integers" for part in model.parts]
