"""Graphs that repeat vectors over time, or put steps side by side: the oracle of the imported model is ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from export.building import check
from schemes import SHORTS

from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.errors import DataError
from qrnn.export.source import export_source
from qrnn.running.session import Session

from .builders import Graph
from .running import agree, data
from .step_graphs import kinds, numbers, rnn, time_slice


def context(how: str, declared: bool) -> onnx.ModelProto:
    """A static input beside each step: expanded, tiled, or broadcast by an operator."""
    g = Graph()
    x, z = g.input("x", ["n", 6 if declared else "t", 3]), g.input("z", ["n", 3])
    column = g.axes_op("Unsqueeze", z, [1])
    shape = g.node("Shape", [x])
    if how == "expand":
        joined = g.node("Concat", [x, g.node("Expand", [column, shape])], axis=2)
    elif how == "tile":
        size = numbers(g, 6) if declared else g.node("Gather", [shape, numbers(g, 1)], axis=0)
        times = g.node("Concat", [numbers(g, 1), size, numbers(g, 1)], axis=0)
        joined = g.node("Concat", [x, g.node("Tile", [column, times])], axis=2)
    else:
        joined = g.node("Concat", [x, g.node(how, [g.node("Tanh", [x]), column])], axis=2)
    y, _ = rnn(g, g.node("Transpose", [joined], perm=[1, 0, 2]), 6, 4, "r")
    g.node("Transpose", [y], ["y"], perm=[1, 0, 2])
    g.output("y")
    return g.model()


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("how", ["expand", "tile", "Add", "Sub", "Mul"])
def test_a_static_input_at_each_step(how: str, declared: bool) -> None:
    model = agree(context(how, declared), {"x": data(2, 6, 3), "z": data(2, 3, seed=6)})
    assert kinds(model)["Repeat"] == 1


@pytest.mark.parametrize("declared", [None, 6, 4])
def test_an_encoders_last_state_for_a_fixed_number_of_steps(declared: int | None) -> None:
    """As Keras's RepeatVector(6): beside a declared number of steps of the encoder, or another one."""
    g = Graph()
    x = g.input("x", [declared or "t", "n", 3])
    _, state = rnn(g, x, 3, 4, "encoder")
    many = g.node("Tile", [state, numbers(g, 6, 1, 1)])
    y, _ = rnn(g, many, 4, 5, "decoder")
    g.node("MatMul", [y, g.random(5, 2)], ["y"])
    g.output("y")
    model = agree(g.model(), {"x": data(declared or 9, 2, 3)})
    x_first = data(2, declared or 9, 3)
    made = quantize(model, {"x": x_first}, SHORTS)
    got = Session(made).run({"x": x_first}, [1, 3])
    assert got.lengths["y"].tolist() == ([1, 3] if declared == 6 else [6, 6])


@pytest.mark.parametrize("layout", ["[N, T, F]", "[N, F, T]", "flatten", "sizes"])
def test_all_steps_of_a_declared_number_into_a_dense_layer(layout: str) -> None:
    g = Graph()
    x = g.input("x", ["n", 5, 3])
    y, _ = rnn(g, g.node("Transpose", [x], perm=[1, 0, 2]), 3, 4, "r")
    rows = g.node("Transpose", [y], perm=[1, 2, 0] if layout == "[N, F, T]" else [1, 0, 2])
    if layout == "flatten":
        flat = g.node("Flatten", [rows], axis=1)
    elif layout == "sizes":
        sizes = g.node("Shape", [rows])
        batch, steps = (g.node("Gather", [sizes, numbers(g, k)], axis=0) for k in (0, 1))
        features = g.node("Mul", [steps, numbers(g, 4)])
        flat = g.node("Reshape", [rows, g.node("Concat", [batch, features], axis=0)])
    else:
        flat = g.node("Reshape", [rows, numbers(g, -1, 20)])
    g.node("Gemm", [flat, g.random(20, 2), g.random(2)], ["y"])
    g.output("y", 2)
    model = agree(g.model(), {"x": data(2, 5, 3)})
    made = quantize(model, {"x": data(4, 5, 3)}, SHORTS)
    with pytest.raises(DataError, match="needs sequences of 5 steps, and one has 6"):
        Session(made).run({"x": data(2, 6, 3)})
    assert not any("any number runs" in note for note in model.notes)


@pytest.mark.parametrize("target", [[0, 3, 6], [0, -1, 6]])
def test_every_two_steps_side_by_side(target: list[int]) -> None:
    """As pyramids of layers do: [N, T, F] to [N, T / 2, 2 · F]."""
    g = Graph()
    frames = g.node("Reshape", [g.input("x", ["n", 6, 3]), numbers(g, *target)])
    y, _ = rnn(g, g.node("Transpose", [frames], perm=[1, 0, 2]), 6, 4, "r")
    g.node("Transpose", [y], ["y"], perm=[1, 0, 2])
    g.output("y")
    model = agree(g.model(), {"x": data(2, 6, 3)})
    made = quantize(model, {"x": data(2, 6, 3)}, SHORTS)
    assert Session(made).run({"x": data(2, 6, 3)}, [5, 2]).lengths["y"].tolist() == [2, 1]


def test_pieces_of_a_declared_number_of_steps() -> None:
    g = Graph()
    y, _ = rnn(g, g.input("x", [6, "n", 3]), 3, 4, "r")
    first, middle, last = g.node("Split", [y, numbers(g, 2, 3, 1)], 3, axis=0)
    for name, value in (("a", first), ("b", middle), ("c", last)):
        g.node("Identity", [value], [name])
        g.output(name)
    agree(g.model(), {"x": data(6, 2, 3)})


def test_a_learned_vector_at_each_step() -> None:
    g = Graph()
    x = g.input("x", ["n", "t", 3])
    lead = g.node("Slice", [g.node("Shape", [x]), numbers(g, 0), numbers(g, 2)])
    size = g.node("Concat", [lead, numbers(g, 2)], axis=0)
    joined = g.node("Concat", [x, g.node("Expand", [g.random(1, 1, 2), size])], axis=2)
    y, _ = rnn(g, g.node("Transpose", [joined], perm=[1, 0, 2]), 5, 4, "r")
    g.node("Transpose", [y], ["y"], perm=[1, 0, 2])
    g.output("y")
    agree(g.model(), {"x": data(2, 6, 3)})


def neighbours(pairs: list[tuple[int, int | None]]) -> onnx.ModelProto:
    """Slices of x side by side and their difference, for a GRU."""
    g = Graph()
    x = g.input("x", ["t", "n", 3])
    parts = [time_slice(g, x, first, last) for first, last in pairs]
    delta = g.node("Sub", parts[:2])
    y, _ = rnn(g, g.node("Concat", [*parts, delta], axis=2), 3 * len(pairs) + 3, 4, "r")
    g.node("MatMul", [y, g.random(4, 2)], ["y"])
    g.output("y")
    return g.model()


@pytest.mark.parametrize("pairs", [[(1, None), (0, -1)], [(2, None), (1, -1), (0, -2)]])
def test_neighbouring_steps_stream_in_c_too(pairs: list[tuple[int, int | None]], tmp_path: Any) -> None:
    model = agree(neighbours(pairs), {"x": data(7, 2, 3)})
    assert kinds(model)["TakeSteps"] == 1
    made = quantize(model, {"x": data(4, 12, 3)}, SHORTS)
    assert "net_step(" in export_source(made, "net", "plain").header
    check(made, tmp_path, "gcc", lengths=(1, 2, 9))
    x = data(2, 7, 3)
    for backend in available_backends():
        session = Session(made, backend)
        want, stream, rows = session.run({"x": x}).outputs["y"], session.stream(2), []
        for t in range(7):
            outputs = stream.step({"x": x[:, t]})
            if stream.lengths["y"][0]:
                rows.append(outputs["y"])
        np.testing.assert_array_equal(np.stack(rows, axis=1), want)


def test_the_first_step_at_each_step_streams(tmp_path: Any) -> None:
    """No step of x - x[:1] waits for the end of the sequence."""
    g = Graph()
    x = g.input("x", ["t", "n", 3])
    y, _ = rnn(g, g.node("Sub", [x, time_slice(g, x, 0, 1)]), 3, 4, "r")
    g.node("MatMul", [y, g.random(4, 2)], ["y"])
    g.output("y")
    model = agree(g.model(), {"x": data(7, 2, 3)})
    assert kinds(model) == {"NthStep": 1, "Combine": 1, "Recurrent": 1, "Dense": 1}
    made = quantize(model, {"x": data(4, 12, 3)}, SHORTS)
    check(made, tmp_path, "gcc")
    x_first = data(2, 7, 3)
    for backend in available_backends():
        session = Session(made, backend)
        stream = session.stream(2)
        rows = [stream.step({"x": x_first[:, t]})["y"] for t in range(7)]
        np.testing.assert_array_equal(np.stack(rows, axis=1), session.run({"x": x_first}).outputs["y"])
