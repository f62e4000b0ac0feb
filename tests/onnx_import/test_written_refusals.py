"""What looks like a cell that is written out by hand and is none: refused by name, and in time."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest

from qrnn.errors import UnsupportedError

from .builders import Graph
from .running import refused_with
from .test_written_layers import OPS, plain, step, zeros
from .written_cells import Body


def fed_back() -> onnx.ModelProto:
    """Each step reads the result of the one before beside x."""
    g = Graph()
    x = g.input("x", ["n", 4, 3])
    body, states = Body(g, plain("LSTM", features=5)), zeros(g, x, 4, "LSTM")
    head, y = g.random(4, 2), zeros(g, x, 2, "RNN")[0]
    for t in range(4):
        row = g.node("Concat", [g.node("Gather", [x, g.const(np.int64(t))], axis=1), y], axis=1)
        states = step(body, row, states)
        y = g.node("Relu", [g.node("MatMul", [states[0], head])])
    g.node("Identity", [y], ["out"])
    g.output("out", 2)
    return g.model()


def test_a_result_that_is_fed_back_is_refused() -> None:
    refused_with(UnsupportedError, fed_back(), "looks like a layer written out over time")


@OPS
def test_weights_that_change_are_refused(op: str) -> None:
    """Step 3 has another matrix: no layer over time, and the message names the step."""
    g = Graph()
    x = g.input("x", ["n", 5, 3])
    states = zeros(g, x, 4, op)
    bodies = [Body(g, plain(op)), Body(g, plain(op, seed=1))]
    for t in range(5):
        states = step(bodies[t == 3], g.node("Gather", [x, g.const(np.int64(t))], axis=1), states)
    g.node("Identity", [states[0]], ["y"])
    g.output("y", 2)
    refused_with(UnsupportedError, g.model(), "no recurrent node" if op == "RNN" else "others in step 3")


@OPS
def test_steps_in_another_order_are_refused(op: str) -> None:
    g = Graph()
    x = g.input("x", ["n", 4, 3])
    body, states = Body(g, plain(op)), zeros(g, x, 4, op)
    for t in (0, 2, 1, 3):
        states = step(body, g.node("Gather", [x, g.const(np.int64(t))], axis=1), states)
    g.node("Identity", [states[0]], ["y"])
    g.output("y", 2)
    refused_with(UnsupportedError, g.model(), "it reads the steps 0, 2, 1, 3, expected 0 to 3")


def doubled(times: int) -> onnx.ModelProto:
    """A sum of a sum of a sum, each of two of the one before: 2^times terms."""
    g = Graph()
    x, h = g.input("x", ["n", 3]), g.input("h", ["n", 4])
    value = g.node("Tanh", [g.node("MatMul", [x, g.random(3, 4)])])
    for _ in range(times):
        value = g.node("Add", [value, value])
    g.node("Add", [g.node("Mul", [g.node("Sigmoid", [value]), h]), value], ["h_out"])
    g.output("h_out", 2)
    return g.model()


@pytest.mark.parametrize("proto", [doubled(200), doubled(1000)], ids=["200", "1000"])
def test_sums_of_sums_cost_no_more_than_their_nodes(proto: onnx.ModelProto) -> None:
    start = time.process_time()
    refused_with(UnsupportedError, proto, "no recurrent node")
    assert time.process_time() - start < 5


def test_many_cells_that_lack_something_cost_little() -> None:
    """Five hundred ends of a GRU, each of the one before, over one matrix: no cell, and refused in time."""
    g = Graph()
    x, h = g.input("x", ["n", 3]), g.input("h", ["n", 4])
    n = g.node("Tanh", [g.node("MatMul", [x, g.random(3, 4)])])
    one = g.const(np.float32(1))
    for _ in range(500):
        z = g.node("Sigmoid", [h])
        h = g.node("Add", [g.node("Mul", [z, h]), g.node("Mul", [g.node("Sub", [one, z]), n])])
    g.node("Identity", [h], ["y"])
    g.output("y", 2)
    start = time.process_time()
    refused_with(UnsupportedError, g.model(), "no recurrent node")
    assert time.process_time() - start < 5
