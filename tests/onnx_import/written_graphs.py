"""Whole graphs of drawn cells: one step a call or over time, written out and with ONNX's node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st

from .builders import Graph
from .written_cells import Array, Body, Spelling


def one_step(s: Spelling, changed: str = "") -> onnx.ModelProto:
    """X [N, I], h [N, H], c [N, H] → y = h', h_out, c_out, by one step."""
    g = Graph(s.opset)
    x, h = g.input("x", ["n", s.features]), g.input("h", ["n", s.hidden])
    c = g.input("c", ["n", s.hidden]) if s.op == "LSTM" else ""
    new_h, new_c = Body(g, s, changed).step(x, h, c)
    _head(g, s, new_h, "y")
    g.node("Identity", [new_h], ["h_out"])
    g.output("h_out", 2)
    if s.op == "LSTM":
        g.node("Identity", [new_c], ["c_out"])
        g.output("c_out", 2)
    return g.model()


def _head(g: Graph, s: Spelling, value: str, name: str, rank: int = 2) -> None:
    weight = np.random.default_rng(s.seed + 1).uniform(-1, 1, (s.hidden, 3)).astype(np.float32)
    g.node("MatMul", [value, g.const(weight, "head")], [name])
    g.output(name, rank)


def one_step_node(s: Spelling) -> onnx.ModelProto:
    """Build the same step with ONNX's node."""
    g = Graph(s.opset)
    x, h = g.input("x", ["n", s.features]), g.input("h", ["n", s.hidden])
    states = [g.axes_op("Unsqueeze", h, [0])]
    if s.op == "LSTM":
        states.append(g.axes_op("Unsqueeze", g.input("c", ["n", s.hidden]), [0]))
    outputs = _node(g, s, g.axes_op("Unsqueeze", x, [0]), states)
    new_h = g.axes_op("Squeeze", outputs[1], [0])
    _head(g, s, new_h, "y")
    g.node("Identity", [new_h], ["h_out"])
    g.output("h_out", 2)
    if s.op == "LSTM":
        g.axes_op("Squeeze", outputs[2], [0], "c_out")
        g.output("c_out", 2)
    return g.model()


def _node(g: Graph, s: Spelling, x: str, states: list[str], direction: str = "forward") -> list[str]:
    w, r, bx, bh = s.weights
    attributes: dict[str, Any] = {"linear_before_reset": s.reset} if s.op == "GRU" else {}
    if s.hard:
        gates, others = (1, 2) if s.op == "LSTM" else (1, 1)
        attributes |= {
            "activations": ["HardSigmoid"] * gates + ["Tanh"] * others,
            "activation_alpha": [0.25],
            "activation_beta": [0.5],
        }
    inputs = [x, g.const(w[None]), g.const(r[None]), g.const(np.concatenate([bx, bh])[None])]
    inputs += ["", *states] if states else []
    names = [f"node_{k}" for k in ("Y", "Yh", "Yc")[: 3 if s.op == "LSTM" else 2]]
    g.node(s.op, inputs, names, name="cell", hidden_size=s.hidden, direction=direction, **attributes)
    return names


@dataclass(frozen=True)
class Over:
    """How a cell is written out over time."""

    steps: int
    reverse: bool
    stacked: bool
    """Whether all hidden states are given, or the last one."""
    front: bool
    """Whether a dense layer with Relu stands before the cell in each step."""
    start: str
    """zeros, of the batch's own size; numbers; or inputs."""
    slicing: str
    """How x[:, t] is taken: gather, slice, split."""


overs = st.builds(
    Over,
    steps=st.integers(2, 5),
    reverse=st.booleans(),
    stacked=st.booleans(),
    front=st.booleans(),
    start=st.sampled_from(["zeros", "numbers", "inputs"]),
    slicing=st.sampled_from(["gather", "slice", "split"]),
)


def _columns(g: Graph, x: str, over: Over) -> list[str]:
    """Return x[:, t] for each t."""
    if over.slicing == "gather":
        return [g.node("Gather", [x, g.const(np.int64(t))], axis=1) for t in range(over.steps)]
    if over.slicing == "slice":
        cuts = [g.slice(x, [t], [t + 1], [1]) for t in range(over.steps)]
    else:
        sizes = [1] * over.steps
        more = {"split": sizes} if g.opset < 13 else {}
        inputs = [x] if g.opset < 13 else [x, g.const(np.array(sizes))]
        cuts = g.node("Split", inputs, over.steps, axis=1, **more)
    return [g.axes_op("Squeeze", cut, [1]) for cut in cuts]


def _front(s: Spelling) -> tuple[Array, Array]:
    rng = np.random.default_rng(s.seed + 2)
    return (rng.uniform(-1, 1, (3, s.features)).astype(np.float32), rng.uniform(-1, 1, s.features).astype(np.float32))


def _start(g: Graph, s: Spelling, over: Over, x: str) -> list[str]:
    """Return the initial states [N, H]."""
    count = 2 if s.op == "LSTM" else 1
    if over.start == "inputs":
        return [g.input(f"s{k}", ["n", s.hidden]) for k in range(count)]
    n = g.node("Gather", [g.node("Shape", [x]), g.const(np.array([0]))], axis=0)
    shape = g.node("Concat", [n, g.const(np.array([s.hidden]))], axis=0)
    if over.start == "zeros":
        value = {"value": onnx.numpy_helper.from_array(np.zeros(1, np.float32))}
        given = {} if s.seed % 2 else value  # which is the value without the attribute, too
        return [g.node("ConstantOfShape", [shape], **given) for _ in range(count)]
    rng = np.random.default_rng(s.seed + 3)
    numbers = [(rng.integers(-64, 65, (1, s.hidden)) / 128).astype(np.float32) for _ in range(count)]
    return [g.node("Expand", [g.const(v), shape]) for v in numbers]


def unrolled(s: Spelling, over: Over) -> onnx.ModelProto:
    """X [N, T, F] → (Linear, Relu) → cell over T steps → all h' [N, T, H], or head of the last."""
    g = Graph(s.opset)
    x = g.input("x", ["n", over.steps, 3 if over.front else s.features])
    states = _start(g, s, over, x)
    body = Body(g, s)
    weight, bias = (g.const(v) for v in _front(s))
    columns = _columns(g, x, over)
    given: list[str] = [""] * over.steps
    for t in range(over.steps)[:: -1 if over.reverse else 1]:
        row = columns[t]
        if over.front:
            row = g.node("Relu", [g.node("Add", [g.node("MatMul", [row, weight]), bias])])
        h, c = body.step(row, *states)
        states = [h, c][: len(states)]
        given[t] = h
    if over.stacked:
        g.node("Concat", [g.axes_op("Unsqueeze", h, [1]) for h in given], ["y"], axis=1)
        g.output("y", 3)
    else:
        _head(g, s, states[0], "y")
    return g.model()


def unrolled_node(s: Spelling, over: Over) -> onnx.ModelProto:
    """Build the same with ONNX's node."""
    g = Graph(s.opset)
    x = g.input("x", ["n", over.steps, 3 if over.front else s.features])
    states = _start(g, s, over, x)
    weight, bias = (g.const(v) for v in _front(s))
    if over.front:
        x = g.node("Relu", [g.node("Add", [g.node("MatMul", [x, weight]), bias])])
    states = [g.axes_op("Unsqueeze", v, [0]) for v in states]
    outputs = _node(g, s, g.node("Transpose", [x], perm=[1, 0, 2]), states, "reverse" if over.reverse else "forward")
    if over.stacked:
        g.node("Transpose", [g.axes_op("Squeeze", outputs[0], [1])], ["y"], perm=[1, 0, 2])
        g.output("y", 3)
    else:
        _head(g, s, g.axes_op("Squeeze", outputs[1], [0]), "y")
    return g.model()
