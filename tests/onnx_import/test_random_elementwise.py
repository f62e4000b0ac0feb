"""Random graphs of elementwise operators compute what ONNX Runtime computes, whatever is found in them; and in integers the same everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from schemes import SHORTS

from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.errors import QuantizationError
from qrnn.onnx_import import import_model
from qrnn.running.session import Session

from .builders import Graph
from .running import data, oracle, runtime

LARGEST = 1e3
"""The largest magnitude of a value: beyond it float32's rounding is more than the tolerance."""

settle = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def f32(value: Any) -> Any:
    return np.asarray(value, np.float32)


class Growing:
    """A graph and its values so far: of shape [N, T, 2, 3], or one number for each of both bands, [N, T, 2, 1]."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw, self.g = draw, Graph(opset=17)
        x = self.g.input("x", ["n", "t", 4])
        y = self.g.recurrent("GRU", self.g.node("Transpose", [x], perm=[1, 0, 2]), 4, 6)[0]
        y = self.g.node("Transpose", [self.g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
        y = self.g.node("MatMul", [y, self.g.const(f32(4 * np.random.default_rng(1).uniform(-1, 1, (6, 6))))])
        y = self.g.node("Reshape", [y, self.g.const(np.array([0, 0, 2, 3]))])
        self.values = [y, self.g.slice(y, [1], [2], [3])]

    def number(self) -> str:
        """A constant: one number in some shape, or one for each channel."""
        shape = self.draw(st.sampled_from([(), (1,), (1, 1, 1), (3,), (2, 1)]))
        return self.g.const(
            f32(np.round(np.random.default_rng(self.draw(st.integers(0, 99))).uniform(-2, 2, shape), 2))
        )

    def one(self) -> str:
        return self.draw(st.sampled_from(self.values))

    def passed(self, value: str) -> str:
        """A value behind what computes nothing."""
        how = self.draw(st.sampled_from(["", "", "Identity", "Dropout", "Cast"]))
        return str(self.g.node(how, [value], **({"to": 1} if how == "Cast" else {}))) if how else value

    def grow(self) -> None:
        """Add one value."""
        g, a, b = self.g, self.passed(self.one()), self.passed(self.one())
        positive = g.node("Add", [g.node("Abs", [b]), g.const(f32(0.5))])
        kind = self.draw(st.sampled_from(sorted(MADE)))
        made = MADE[kind](self, a, b, positive)
        self.values.append(str(made))

    def model(self) -> onnx.ModelProto:
        y = self.g.node("Add", [self.values[-1], self.values[0]]) if self.draw(st.booleans()) else self.values[-1]
        whole = self.g.node(
            "Mul", [y, self.g.const(np.ones((2, 3), np.float32))]
        )  # a value by band becomes one by channel
        whole = self.g.node("Concat", [y, self.values[0]], axis=3) if self.draw(st.booleans()) else whole
        self.g.node("Identity", [whole], ["out"])
        self.g.output("out", 4)
        return self.g.model()


MADE: dict[str, Any] = {
    **{op: lambda w, a, b, p, op=op: w.g.node(op, [a]) for op in ("Tanh", "Sigmoid", "Relu", "Softplus", "Abs", "Neg", "Erf")},
    "Exp": lambda w, a, b, p: w.g.node("Exp", [w.g.node("Tanh", [a])]),
    "Log": lambda w, a, b, p: w.g.node("Log", [p]),
    "Sqrt": lambda w, a, b, p: w.g.node("Sqrt", [p]),
    "Reciprocal": lambda w, a, b, p: w.g.node("Reciprocal", [p]),
    "Pow": lambda w, a, b, p: w.g.node("Pow", [a, w.g.const(f32(2.0))]),
    "root": lambda w, a, b, p: w.g.node("Pow", [p, w.g.const(f32(0.5))]),
    "Clip": lambda w, a, b, p: w.g.node("Clip", [a, w.g.const(f32(-0.5)), w.g.const(f32(1.5))]),
    "Min": lambda w, a, b, p: w.g.node("Min", [w.g.const(f32(0.75)), a]),
    "squares": lambda w, a, b, p: w.g.node("Add", [w.g.node("Mul", [a, a]), w.g.node("Pow", [b, w.g.const(np.array(2))])]),
    "magnitude": lambda w, a, b, p: w.g.node(
        "Sqrt", [w.g.node("Add", [w.g.node("Add", [w.g.node("Mul", [a, a]), w.g.node("Mul", [b, b])]), w.g.const(f32(0.01))])]
    ),
    **{op: lambda w, a, b, p, op=op: w.g.node(op, [a, b]) for op in ("Add", "Sub", "Mul")},
    "Div": lambda w, a, b, p: w.g.node("Div", [a, p]),
    **{f"{op} by a constant": lambda w, a, b, p, op=op: w.g.node(op, [w.number(), a]) for op in ("Add", "Sub", "Mul")},
    "swish": lambda w, a, b, p: w.g.node("Mul", [a, w.g.node("Sigmoid", [a])]),
}  # fmt: skip


@st.composite
def graphs(draw: st.DrawFn, most: int) -> onnx.ModelProto:
    growing = Growing(draw)
    for _ in range(draw(st.integers(1, most))):
        growing.grow()
    return growing.model()


def check(proto: onnx.ModelProto) -> tuple[Any, dict[str, Any]]:
    """The float model and the data, after a comparison with ONNX Runtime."""
    x = {"x": data(2, 6, 4)}
    want = runtime(proto, x)["out"]
    assume(np.isfinite(want).all() and np.abs(want).max() < LARGEST)
    model = import_model(proto, "test")
    got = oracle(model, x)["out"]
    np.testing.assert_allclose(got, want, atol=2e-5 * max(1.0, np.abs(want).max()) + 1e-4)
    return model, x


@settle
@given(graphs(6))
def test_float(proto: onnx.ModelProto) -> None:
    check(proto)


@pytest.mark.long
@settings(settle, max_examples=3000)
@given(graphs(12))
def test_more_in_float(proto: onnx.ModelProto) -> None:
    check(proto)


@settings(settle, max_examples=8)
@given(graphs(4))
def test_integers(proto: onnx.ModelProto) -> None:
    """The same bits on every backend; what int16 cannot hold is refused in words."""
    model, x = check(proto)
    try:
        quantized = quantize(model, x, SHORTS)
    except QuantizationError:
        assume(False)
    want = Session(quantized, "reference").run(x).outputs["out"]
    for backend in available_backends():
        np.testing.assert_array_equal(Session(quantized, backend).run(x).outputs["out"], want)
