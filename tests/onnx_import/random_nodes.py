"""Draw one LSTM, GRU or RNN node at random, over all attributes, optional inputs and outputs, with data for it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto

from qrnn.model.activation import ACTIVATION_PARAMETERS
from qrnn.onnx_import.operators.recurrent_attributes import ACTIVATIONS, CELLS

from .builders import GATES, Graph, outputs_of
from .running import Arrays

OPSETS = (7, 14, 22)
"""The versions of the three operators."""


class RandomNode(NamedTuple):
    """A serialized ONNX model, its inputs in ONNX's layout 0 (X [T, N, I], initial_h [D, N, H], …), and what was drawn."""

    model: bytes
    inputs: Arrays
    description: str


def draw_activations(draw: st.DrawFn, op: str, directions: int, rng: np.random.Generator) -> dict[str, Any]:
    """Draw no activations, or other functions in every role and direction, with as many parameters as they take."""
    if draw(st.booleans(), label="default activations"):
        return {}
    count = directions * len(CELLS[op].defaults)
    names = draw(st.lists(st.sampled_from(sorted(ACTIVATIONS)), min_size=count, max_size=count), label="activations")
    attributes: dict[str, Any] = {"activations": names}
    for parameter in ("alpha", "beta"):
        takers = sum(parameter in ACTIVATION_PARAMETERS[ACTIVATIONS[name]] for name in names)
        if takers:
            attributes[f"activation_{parameter}"] = np.round(rng.uniform(-0.3, 1.2, takers), 3).tolist()
    return attributes


@st.composite
def random_nodes(draw: st.DrawFn) -> RandomNode:
    op = draw(st.sampled_from(sorted(CELLS)), label="operator")
    opset = draw(st.sampled_from(OPSETS), label="opset")
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]), label="direction")
    hidden, features = draw(st.integers(1, 6), label="hidden"), draw(st.integers(1, 4), label="features")
    steps, batch = draw(st.integers(1, 6), label="steps"), draw(st.integers(1, 4), label="batch")
    scale = draw(st.sampled_from([0.1, 0.5, 1.0, 2.0]), label="scale")
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
    count = 2 if direction == "bidirectional" else 1
    rows = GATES[op] * hidden
    attributes: dict[str, Any] = {"direction": direction, "hidden_size": hidden}
    attributes |= draw_activations(draw, op, count, rng)
    if draw(st.booleans(), label="clip given"):
        attributes["clip"] = draw(st.sampled_from([0.1, 0.5, 1.5, 6.0]), label="clip")
    if op == "LSTM":
        attributes["input_forget"] = draw(st.integers(0, 1), label="input_forget")
    if op == "GRU":
        attributes["linear_before_reset"] = draw(st.integers(0, 1), label="linear_before_reset")

    g = Graph(opset)
    inputs: Arrays = {}

    def weights(*shape: int) -> str:
        return g.const(rng.uniform(-scale, scale, shape).astype(np.float32))

    def given(name: str, dims: list[Any], array: np.ndarray[Any, Any]) -> str:
        inputs[name] = array
        return g.input(name, dims, TensorProto.INT32 if array.dtype == np.int32 else TensorProto.FLOAT)

    def state(name: str) -> str:
        if not draw(st.booleans(), label=name):
            return ""
        return given(name, [count, "n", hidden], rng.uniform(-1, 1, (count, batch, hidden)).astype(np.float32))

    names = [
        given("X", ["t", "n", features], rng.uniform(-2, 2, (steps, batch, features)).astype(np.float32)),
        weights(count, rows, features),
        weights(count, rows, hidden),
        weights(count, 2 * rows) if draw(st.booleans(), label="bias") else "",
    ]
    names.append("")
    if draw(st.booleans(), label="sequence_lens"):
        lengths = draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch), label="lengths")
        names[-1] = given("sequence_lens", ["n"], np.array(lengths, np.int32))
    names.append(state("initial_h"))
    if op == "LSTM":
        names.append(state("initial_c"))
        names.append(weights(count, 3 * hidden) if draw(st.booleans(), label="peepholes") else "")
    while not names[-1]:
        names.pop()
    every = outputs_of(op)
    kept = draw(st.sets(st.sampled_from(every), min_size=1), label="outputs")
    g.node(op, names, [name if name in kept else "" for name in every], name="node", **attributes)
    for name in every:
        if name in kept:
            g.output(name, 4 if name == "Y" else 3)
    optional = [name for name in ("sequence_lens", "initial_h", "initial_c") if name in inputs]
    description = (
        f"{op}-{opset} {attributes}, I={features}, T={steps}, N={batch}, weights ±{scale}, {optional} → {sorted(kept)}"
    )
    return RandomNode(g.model().SerializeToString(), inputs, description)
