"""Activations as nodes of their own, with their default attributes and with others, against ONNX Runtime and in integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qrnn.accuracy.metrics import sqnr_db
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import ModelFileError
from qrnn.model.kinds.pointwise import Pointwise
from qrnn.onnx_import import import_model
from qrnn.onnx_import.operators.pointwise import FUNCTIONS
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

from .builders import Graph
from .running import agree, data

CHANGED = {"alpha": 0.37, "beta": 0.21}


def graph(op: str, **attributes: float) -> Any:
    """Build x [N, T, 4] → GRU → Gemm → the operator → out."""
    g = Graph(opset=24 if op == "Swish" else 20 if op in ("HardSwish", "Gelu") else 17)
    x = g.input("x", ["n", "t", 4])
    y = g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), 4, 6)[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    scaled = g.const(np.linspace(-6, 6, 30).reshape(6, 5).astype(np.float32))
    g.node(op, [g.node("MatMul", [y, scaled])], ["out"], **attributes)
    g.output("out")
    return g.model()


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("op", FUNCTIONS)
def test_functions(op: str, changed: bool) -> None:
    attributes = {name: CHANGED[name] for name in FUNCTIONS[op][1]} if changed else {}
    x = {"x": data(3, 20, 4)}
    model = agree(graph(op, **attributes), x)
    layer = model.layers[-1]
    assert isinstance(layer, Pointwise)
    assert layer.activation.kind == FUNCTIONS[op][0]
    if op == "ThresholdedRelu":
        return  # it jumps: a value near the threshold may fall on its other side
    quantized = quantize(model, x, Scheme(activations=16, input="16"))
    got = Session(quantized).run(x).outputs["out"]
    np.testing.assert_array_equal(got, Session(quantized, "reference").run(x).outputs["out"])
    assert sqnr_db(run_oracle(model, x).outputs["out"], got) > 36


@pytest.mark.parametrize("op", [op for op, (_, defaults) in FUNCTIONS.items() if defaults])
def test_parameters_must_be_finite(op: str) -> None:
    with pytest.raises(ModelFileError, match=r"alpha=inf.*must be finite"):
        import_model(graph(op, alpha=float("inf")), "test")
