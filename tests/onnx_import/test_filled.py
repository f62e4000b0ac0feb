"""More zeros before time than a kernel spans, for several convolutions behind them, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn.equations.oracle import run_oracle
from qrnn.errors import UnsupportedError
from qrnn.onnx_import.filled import BY_ELEMENT

from .builders import Graph
from .running import agree, data, oracle, refused_with
from .test_cropping import graph, ints, sliced
from .test_windows import conv, norm

Build = Callable[[Graph, str], str]

UNARY: dict[str, dict[str, Any]] = {
    "Abs": {}, "Elu": {"alpha": 0.5}, "Erf": {}, "Exp": {}, "HardSigmoid": {}, "HardSwish": {}, "LeakyRelu": {"alpha": 0.3}, "Mish": {},
    "Neg": {}, "Relu": {}, "Sigmoid": {}, "Softplus": {}, "Softsign": {}, "Tanh": {}, "ThresholdedRelu": {"alpha": 0.1}, "Identity": {},
    "Dropout": {},
}  # fmt: skip
"""Operator of one operand → attributes."""


def padded(g: Graph, x: str, before: int, after: int = 0) -> str:
    return str(g.node("Pad", [x, ints(g, 0, 0, before, 0, 0, after)]))


def by_element(g: Graph, op: str, x: str) -> str:
    """Add an operator of `BY_ELEMENT`; x [N, 4, T]."""
    if op in UNARY:
        return str(g.node(op, [x], **UNARY[op]))
    if op == "BatchNormalization":
        return str(norm(g, x, 4))
    if op == "Clip":
        return str(g.node(op, [x, g.const(np.float32(-0.2)), g.const(np.float32(0.3))]))
    if op == "Transpose":
        return str(g.node(op, [g.node("Relu", [g.node(op, [x], perm=[2, 0, 1])])], perm=[1, 2, 0]))
    if op in ("Add", "Sub", "Mul"):
        return str(g.node(op, [x, g.node("Sigmoid", [x])]))
    if op == "Div":
        return str(g.node(op, [x, g.const(np.array([[2], [0.5], [-1], [3]], np.float32))]))
    if op == "PRelu":
        return str(g.node(op, [x, g.random(4, 1)]))
    if op == "Gelu":
        return str(g.node(op, [x]))
    raise AssertionError(op)


@pytest.mark.parametrize("op", sorted(BY_ELEMENT))
def test_operators_between(op: str) -> None:
    g = Graph(opset=20)
    x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[0, 2, 1])
    y = by_element(g, op, conv(g, padded(g, x, 4), [4, 4, 3]))
    y = g.node("Transpose", [conv(g, y, [3, 4, 3])], perm=[2, 0, 1])
    g.node("Identity", [g.recurrent("GRU", y, 3, 5)[0]], ["out"])
    g.output("out", 4)
    agree(g.model(), {"x": data(2, 6, 4)})


@settings(max_examples=60, deadline=None)
@given(
    taps=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2)), min_size=2, max_size=4),
    less=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    sides=st.sampled_from(["before", "after", "both"]),
    own=st.booleans(),
    groups=st.sampled_from([1, 2, 4]),
    between=st.sampled_from(["", "Relu", "Sigmoid", "BatchNormalization"]),
    bias=st.booleans(),
    n=st.integers(1, 3),
    t=st.integers(1, 9),
    stride=st.integers(1, 3),
)
def test_chains(
    taps: list[tuple[int, int]], less: tuple[int, int], sides: str, own: bool, groups: int, between: str, bias: bool, n: int, t: int,
    stride: int,
) -> None:  # fmt: skip
    """All padding in front of the first of several convolutions, by a Pad or by its own pads; the last one has a stride."""
    whole = sum((k - 1) * dilation for k, dilation in taps)
    before = max(0, whole - less[0]) if sides != "after" else 0
    after = max(0, whole - less[1]) if sides != "before" else 0
    t += max(0, whole - before - after)

    def build(g: Graph, x: str) -> str:
        pads = {"pads": [before, after]} if own else {}
        x = x if own else padded(g, x, before, after)
        for k, (size, dilation) in enumerate(taps):
            last = k == len(taps) - 1
            more = {"strides": [stride]} if last and sides == "before" else {}
            x = conv(
                g,
                x,
                [4, 4 // groups, size],
                bias,
                group=groups,
                dilations=[dilation],
                **more,
                **(pads if k == 0 else {}),
            )
            x = by_element(g, between, x) if between and not last else x
        return x

    agree(graph(build, 4), {"x": data(n, t, 4)})


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("before", [4, 5, 6, 8])
def test_a_stride_in_the_first(stride: int, before: int) -> None:
    """As many steps of padding as the second convolution spans before its first."""
    left = -(-(before - 2) // stride)

    def build(g: Graph, x: str) -> str:
        y = g.node("Tanh", [conv(g, padded(g, x, before), [4, 4, 3], strides=[stride])])
        return str(conv(g, y, [4, 4, left + 1]))

    agree(graph(build, 4), {"x": data(2, 9, 4)})


def test_bands_of_each_step() -> None:
    """X [N, T, 4] as [N, 1, T, 4], with windows over both axes."""
    g = Graph(opset=17)
    x = g.node("Unsqueeze", [g.input("x", ["n", "t", 4]), ints(g, 1)])
    x = g.node("Pad", [x, ints(g, 0, 0, 3, 0, 0, 0, 0, 0)])
    y = g.node("Relu", [norm(g, conv(g, x, [3, 1, 2, 2], pads=[0, 1, 0, 0]), 3)])
    y = conv(g, y, [2, 3, 3, 2], strides=[1, 2])
    y = g.node("Reshape", [g.node("Transpose", [y], perm=[2, 0, 1, 3]), ints(g, 0, 0, 4)])
    g.node("Identity", [g.recurrent("GRU", y, 4, 5)[0]], ["out"])
    g.output("out", 4)
    agree(g.model(), {"x": data(2, 7, 4)})


def test_sequences_of_a_batch_do_not_meet() -> None:
    def build(g: Graph, x: str) -> str:
        return str(conv(g, g.node("Tanh", [conv(g, padded(g, x, 2, 2), [4, 4, 3])]), [4, 4, 3]))

    model = agree(graph(build, 4), {"x": data(3, 6, 4)})
    values, lengths = data(3, 6, 4), np.array([6, 2, 4])
    together = run_oracle(model, {"x": values}, lengths).outputs["out"]
    for k, length in enumerate(lengths):
        alone = oracle(model, {"x": values[k : k + 1, :length]})["out"]
        np.testing.assert_allclose(together[k, :length], alone[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda g, y: y, ["steps that a convolution makes of padded zeros"]),
        (lambda g, y: g.node("Relu", [y]), ["steps that a convolution makes of padded zeros"]),
        (lambda g, y: g.node("MaxPool", [y], kernel_shape=[3]), ["MaxPool", "only another Conv may"]),
        (lambda g, y: conv(g, padded(g, y, 1), [4, 4, 4]), ["Pad", "re-export with one Pad"]),
        (lambda g, y: conv(g, y, [4, 4, 4], pads=[1, 0]), ["meet padding of its own"]),
        (lambda g, y: conv(g, y, [4, 4, 3], auto_pad="SAME_UPPER"), ["meet padding of its own"]),
        (lambda g, y: conv(g, y, [4, 4, 2]), ["steps that a convolution makes of padded zeros"]),
        (lambda g, y: sliced(g, y, 0, -1), ["steps that a convolution makes of padded zeros"]),
        (
            lambda g, y: conv(g, g.node("Concat", [y, y], axis=1), [4, 8, 3]),
            ["steps that a convolution makes of padded zeros"],
        ),
    ],
)
def test_refused(build: Build, words: list[str]) -> None:
    refused_with(UnsupportedError, graph(lambda g, x: build(g, conv(g, padded(g, x, 4), [4, 4, 3])), 4), *words)
