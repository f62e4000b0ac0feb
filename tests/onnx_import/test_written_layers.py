"""Several cells a step, both directions, states in one input, projections: what graphs that are written out by hand hold beside a cell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from qrnn.equations.oracle import run_oracle
from qrnn.errors import UnsupportedError
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.onnx_import import import_model

from .builders import Graph
from .running import agree, data, refused_with, runtime
from .written_cells import Body, Spelling
from .written_graphs import Over, one_step, unrolled

OPS = pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])


def plain(op: str, features: int = 3, hidden: int = 4, seed: int = 0) -> Spelling:
    """The usual spelling of PyTorch's exporter."""
    order = tuple({"LSTM": "ifco", "GRU": "rzh", "RNN": "i"}[op])
    return Spelling(op, order, features, hidden, "split", "gemm", "both", "each", 1, 1, "", False, 17, seed)


def zeros(g: Graph, x: str, hidden: int, op: str) -> list[str]:
    n = g.node("Gather", [g.node("Shape", [x]), g.const(np.array([0]))], axis=0)
    shape = g.node("Concat", [n, g.const(np.array([hidden]))], axis=0)
    zero = onnx.numpy_helper.from_array(np.zeros(1, np.float32))
    return [g.node("ConstantOfShape", [shape], value=zero)] * (2 if op == "LSTM" else 1)


def step(body: Body, x: str, states: list[str]) -> list[str]:
    h, c = body.step(x, *states)
    return [h, c] if body.s.op == "LSTM" else [h]


def layers_of(model: FloatModel) -> list[Recurrent]:
    return [layer for layer in model.layers if isinstance(layer, Recurrent)]


@OPS
def test_two_cells_a_step(op: str) -> None:
    """Two cells with a dense layer and Relu between them, and a head on each step."""
    g = Graph()
    x = g.input("x", ["n", 6, 3])
    first, second = Body(g, plain(op)), Body(g, plain(op, features=5, hidden=2, seed=1))
    weight, head = g.random(4, 5), g.random(2, 3)
    a, b, given = zeros(g, x, 4, op), zeros(g, x, 2, op), []
    for t in range(6):
        a = step(first, g.node("Gather", [x, g.const(np.int64(t))], axis=1), a)
        b = step(second, g.node("Relu", [g.node("MatMul", [a[0], weight])]), b)
        given.append(g.axes_op("Unsqueeze", g.node("MatMul", [b[0], head]), [1]))
    g.node("Concat", given, ["y"], axis=1)
    g.output("y", 3)
    model = agree(g.model(), {"x": data(2, 6, 3)})
    assert [layer.hidden_size for layer in layers_of(model)] == [4, 2]
    assert len(model.layers) == 5


@OPS
def test_both_directions(op: str) -> None:
    g = Graph()
    x = g.input("x", ["n", 5, 3])
    columns = [g.node("Gather", [x, g.const(np.int64(t))], axis=1) for t in range(5)]
    sides = []
    for seed, order in enumerate([range(5), range(4, -1, -1)]):
        body, states = Body(g, plain(op, seed=seed)), zeros(g, x, 4, op)
        found = {}
        for t in order:
            states = step(body, columns[t], states)
            found[t] = states[0]
        sides.append(found)
    both = [g.axes_op("Unsqueeze", g.node("Concat", [sides[0][t], sides[1][t]], axis=1), [1]) for t in range(5)]
    g.node("Concat", both, ["y"], axis=1)
    g.output("y", 3)
    model = agree(g.model(), {"x": data(2, 5, 3)})
    assert sorted(layer.directions[0].reverse for layer in layers_of(model)) == [False, True]


@pytest.mark.parametrize("kind", ["norm", "gelu", "softmax", "hard"])
def test_other_layers_in_each_step(kind: str) -> None:
    """What stands before the cell in each step is one layer over time."""
    g = Graph()
    x = g.input("x", ["n", 5, 3])
    body, states = Body(g, plain("GRU")), zeros(g, x, 4, "GRU")
    scale, bias, weight = g.random(3), g.random(3), g.random(3, 3)
    root, half, one = (g.const(np.float32(v)) for v in (np.sqrt(2), 0.5, 1))
    for t in range(5):
        row = g.node("MatMul", [g.node("Gather", [x, g.const(np.int64(t))], axis=1), weight])
        if kind == "norm":
            row = g.node("LayerNormalization", [row, scale, bias], axis=1)
        elif kind == "softmax":
            row = g.node("Softmax", [row], axis=1)
        elif kind == "hard":
            row = g.node("HardSwish", [row])
        else:
            inner = g.node("Add", [g.node("Erf", [g.node("Div", [row, root])]), one])
            row = g.node("Mul", [g.node("Mul", [row, inner]), half])
        states = step(body, row, states)
    g.node("Identity", states, ["y"])
    g.output("y", 2)
    model = agree(g.model(), {"x": data(3, 5, 3)})
    assert len(layers_of(model)) == 1


@OPS
@pytest.mark.parametrize("shape", [[1, 3], [1, 1, 3]])
def test_one_step_of_one_sequence(op: str, shape: list[int]) -> None:
    """A batch of 1 that is baked in."""
    g = Graph()
    x = g.input("x", shape)
    states = [g.input(name, [1, 4]) for name in ("hc" if op == "LSTM" else "h")]
    new = step(Body(g, plain(op)), g.axes_op("Squeeze", x, [0]) if len(shape) == 3 else x, states)
    for name, value in zip(("h_out", "c_out"), new, strict=False):
        g.node("Identity", [value], [name])
        g.output(name, 2)
    proto = g.model()
    model = import_model(proto, "one")
    feeds = {"x": data(*shape), **{name: data(1, 4, seed=k) for k, name in enumerate(states)}}
    got = run_oracle(model, {name: v.reshape(1, 1, 3) if name == "x" else v for name, v in feeds.items()}).outputs
    for name, value in runtime(proto, feeds).items():
        np.testing.assert_allclose(got[name].reshape(value.shape), value, atol=1e-5)


def with_peepholes(steps: int, wrong: bool = False) -> onnx.ModelProto:
    """An LSTM whose input and forget gates read c and whose output gate reads the new c, or, where it is ``wrong``, the old one."""
    g = Graph()
    x = g.input("x", ["n", steps, 3])
    w, r, b = g.random(3, 16), g.random(4, 16), g.random(16)
    weights = {k: g.random(4) for k in "ifo"}
    h, c = zeros(g, x, 4, "LSTM")
    for t in range(steps):
        row = g.node("Gather", [x, g.const(np.int64(t))], axis=1)
        both = g.node("Add", [g.node("Add", [g.node("MatMul", [row, w]), g.node("MatMul", [h, r])]), b])
        i, f, o, n = g.node("Split", [both], 4, axis=1)
        old = c
        i, f = (
            g.node("Sigmoid", [g.node("Add", [v, g.node("Mul", [weights[k], old])])]) for k, v in (("i", i), ("f", f))
        )
        c = g.node("Add", [g.node("Mul", [f, old]), g.node("Mul", [i, g.node("Tanh", [n])])])
        o = g.node("Sigmoid", [g.node("Add", [o, g.node("Mul", [weights["o"], old if wrong else c])])])
        h = g.node("Mul", [o, g.node("Tanh", [c])])
    g.node("Identity", [h], ["y"])
    g.output("y", 2)
    return g.model()


def test_peepholes() -> None:
    model = agree(with_peepholes(4), {"x": data(3, 4, 3)})
    assert layers_of(model)[0].directions[0].peephole is not None
    refused_with(UnsupportedError, with_peepholes(4, wrong=True), "no recurrent node")


def test_learned_states_that_are_expanded() -> None:
    """PyTorch's expand(n, -1) of a parameter is exported with Where and Equal over the list of sizes."""
    g = Graph()
    x = g.input("x", ["n", 4, 3])
    n = g.node("Gather", [g.node("Shape", [x]), g.const(np.array([0]))], axis=0)
    sizes = g.node("Concat", [n, g.const(np.array([-1]))], axis=0)
    one = onnx.numpy_helper.from_array(np.ones(1, np.int64))
    ones = g.node("ConstantOfShape", [g.node("Shape", [sizes])], value=one)
    minus = g.node("Mul", [ones, g.const(np.int64(-1))])
    shape = g.node("Where", [g.node("Equal", [sizes, minus]), ones, sizes])
    states = [g.node("Expand", [g.random(1, 4), shape]) for _ in range(2)]
    body = Body(g, plain("LSTM"))
    for t in range(4):
        states = step(body, g.node("Gather", [x, g.const(np.int64(t))], axis=1), states)
    g.node("Identity", [states[0]], ["y"])
    g.output("y", 2)
    model = agree(g.model(), {"x": data(3, 4, 3)})
    assert layers_of(model)[0].directions[0].h_0.value.any()


def test_two_inputs_that_a_gate_mixes_are_no_state() -> None:
    """A sum z · b + (1 - z) · n of two inputs of fixed length before a recurrent node is no step of a GRU."""
    g = Graph()
    a, b = g.input("a", [1, 5, 4]), g.input("b", [1, 5, 4])
    z = g.node(
        "Sigmoid", [g.node("Add", [g.node("MatMul", [a, g.random(4, 4)]), g.node("MatMul", [b, g.random(4, 4)])])]
    )
    n = g.node("Tanh", [g.node("MatMul", [a, g.random(4, 4)])])
    rest = g.node("Mul", [g.node("Sub", [g.const(np.float32(1)), z]), n])
    mixed = g.node("Add", [g.node("Mul", [z, b]), rest])
    y = g.recurrent("GRU", g.node("Transpose", [mixed], perm=[1, 0, 2]), 4, 3)[0]
    g.node("Identity", [y], ["out"])
    g.output("out", 4)
    model = agree(g.model(), {"a": data(1, 5, 4), "b": data(1, 5, 4, seed=2)})
    assert len(layers_of(model)) == 1


def test_time_first_and_states_in_the_middle() -> None:
    """X [T, N, F]; the hidden state of an inner step is an output beside the last ones."""
    g = Graph()
    x = g.input("x", [5, "n", 3])
    body, states, inner = Body(g, plain("LSTM")), [g.input("h", ["n", 4]), g.input("c", ["n", 4])], ""
    for t in range(5):
        states = step(body, g.node("Gather", [x, g.const(np.int64(t))], axis=0), states)
        inner = states[0] if t == 2 else inner
    for name, value in zip(("y", "h5", "c5"), [states[0], *states], strict=True):
        g.node("Identity", [value], [name])
        g.output(name, 2)
    model = agree(g.model(), {"x": data(5, 2, 3), "h": data(2, 4), "c": data(2, 4, seed=1)})
    assert layers_of(model)[0].directions[0].h_0.source == "h"


def packed() -> onnx.ModelProto:
    """One step of two LSTMs whose states are all in one input [N, 2, 4, 2]."""
    g = Graph(opset=11)
    x, state = g.input("x", ["n", 1, 4]), g.input("state", ["n", 2, 4, 2])
    row, new = g.axes_op("Squeeze", x, [1]), []
    for k in range(2):
        old = [g.axes_op("Squeeze", g.slice(state, [k, s], [k + 1, s + 1], [1, 3]), [1, 3]) for s in range(2)]
        both = step(Body(g, replace(plain("LSTM", 4, 4, seed=k), opset=11)), row, old)
        row = both[0]
        new.append(
            g.axes_op("Unsqueeze", g.node("Concat", [g.axes_op("Unsqueeze", v, [2]) for v in both], axis=2), [1])
        )
    g.node("Identity", [row], ["y"])
    g.output("y", 2)
    g.node("Concat", new, ["state_out"], axis=1)
    g.output("state_out", 4)
    return g.model()


def test_states_of_several_cells_in_one_input() -> None:
    proto = packed()
    model = import_model(proto, "packed")
    assert len(layers_of(model)) == 2
    feeds = {"x": data(3, 1, 4), "state": data(3, 2, 4, 2, seed=3)}
    want = runtime(proto, feeds)
    got = run_oracle(model, feeds).outputs
    for name, value in want.items():
        np.testing.assert_allclose(got[name].reshape(value.shape), value, atol=1e-5)


def projected(steps: int, changed: bool = False) -> onnx.ModelProto:
    """An LSTM whose projected state is fed back, over steps, or one step a call with ``steps`` 0."""
    g = Graph()
    s = plain("LSTM", features=3, hidden=4)
    x = g.input("x", ["n", steps, 3] if steps else ["n", 3])
    body = Body(g, s)
    body.r = g.rng.uniform(-0.5, 0.5, (16, 2)).astype(np.float32)
    project = g.random(4, 2)
    if steps:
        h, c = zeros(g, x, 2, "GRU")[0], zeros(g, x, 4, "GRU")[0]
    else:
        h, c = g.input("h", ["n", 2]), g.input("c", ["n", 4])
    for t in range(max(steps, 1)):
        row = g.node("Gather", [x, g.const(np.int64(t))], axis=1) if steps else x
        h, c = body.step(row, h, c)
        h = g.node("MatMul", [h, project])
        if changed:
            h = g.node("Tanh", [h])
    for name, value in ({"y": h} | ({} if steps else {"h_out": h, "c_out": c})).items():
        g.node("Identity", [value], [name])
        g.output(name, 2)
    return g.model()


def test_a_projection_that_is_fed_back() -> None:
    """Its matrix and R are multiplied to one R of the whole state."""
    model = agree(projected(5), {"x": data(3, 5, 3)})
    assert layers_of(model)[0].directions[0].weight_hh.shape == (16, 4)


def test_another_function_of_a_state_that_is_fed_back_is_refused() -> None:
    refused_with(UnsupportedError, projected(5, changed=True), "more of the state than a matrix times it")


def test_a_projected_state_given_as_an_input_is_refused_by_name() -> None:
    refused_with(UnsupportedError, projected(0), "its hidden state is projected")


def test_ordinary_gates_stay_as_they_are() -> None:
    """A sum g · tanh(a) + (1 - g) · y of a layer's output is no GRU, though it ends like one."""
    g = Graph()
    x = g.input("x", ["t", "n", 4])
    y = g.axes_op("Squeeze", g.recurrent("GRU", x, 4, 4)[0], [1])
    gate = g.node("Sigmoid", [g.node("MatMul", [y, g.random(4, 4)])])
    new = g.node("Tanh", [g.node("MatMul", [y, g.random(4, 4)])])
    rest = g.node("Mul", [g.node("Sub", [g.const(np.float32(1)), gate]), y])
    g.node("Add", [g.node("Mul", [gate, new]), rest], ["out"])
    g.output("out", 3)
    model = agree(g.model(), {"x": data(6, 2, 4)})
    assert len(layers_of(model)) == 1


def test_a_state_that_looks_like_the_input() -> None:
    """With x, h and c of one size, the hidden state is the input that stands to c as the outputs stand to each other."""
    model = import_model(one_step(plain("LSTM", features=4, hidden=4)), "alike")
    direction = layers_of(model)[0].directions[0]
    assert direction.h_0.source == "h"
    assert direction.c_0 is not None
    assert direction.c_0.source == "c"


def test_an_rnn_whose_input_is_as_wide_as_its_state() -> None:
    """The names of input and output tell which is the state, and a note says which was taken."""
    g = Graph()
    h, x = g.input("h", ["n", 4]), g.input("x", ["n", 4])
    new = step(Body(g, plain("RNN", features=4)), x, [h])
    g.node("Identity", new, ["h_out"])
    g.output("h_out", 2)
    model = import_model(g.model(), "rnn")
    assert layers_of(model)[0].directions[0].h_0.source == "h"
    assert any("taken to be input 'h'; x would" in note for note in model.notes)


def test_a_long_sequence_is_one_layer() -> None:
    proto = unrolled(plain("LSTM"), Over(150, False, True, True, "zeros", "split"))
    assert len(layers_of(import_model(proto, "long"))) == 1
