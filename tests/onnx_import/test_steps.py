"""Graphs that take steps of time, reverse it, and repeat vectors over it: the oracle of the imported model is ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from schemes import SHORTS

from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import UnsupportedError
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.onnx_import import import_model
from qrnn.running.session import Session

from .builders import Graph
from .running import agree, data, refused_with, runtime
from .step_graphs import kinds, numbers, rnn, time_slice

BEGIN = -(2**63) + 1


def flip(g: Graph, x: str, axis: int = 0) -> str:
    return str(g.node("Slice", [x, *(numbers(g, v) for v in (-1, BEGIN, axis, -1))]))


class Walk:
    """A random chain of what graphs do with time, of a value [T, N, F]: ``steps`` is its length where the inputs have ``given`` steps."""

    def __init__(self, draw: st.DrawFn, declared: bool, given: int) -> None:
        self.draw, self.declared = draw, declared
        self.g = Graph(seed=draw(st.integers(0, 5)))
        self.value = self.g.input("x", [given if declared else "t", "n", 3])
        self.steps, self.features, self.layers, self.turned = given, 3, 0, False

    def add(self) -> None:
        kinds = ["slice", "slice", "flip", "delta", "recurrent", "recurrent", "dense", "twice"]
        getattr(self, self.draw(st.sampled_from(kinds)))()

    def slice(self) -> None:
        draw = self.draw
        step = draw(st.integers(1, 2)) if not self.turned else 1
        start = draw(st.integers(0, 3) | st.integers(-4, -1))
        if start < 0:
            ends = st.none() | st.integers(-2, -1)
        else:
            ends = st.none() | st.integers(-2, -1) | st.integers(start + 1, start + 6)
        end = draw(ends)
        taken = len(range(self.steps)[start:end:step])
        # one step alone is a vector, and a slice of none is no value
        one = (end is not None and (end >= 0) == (start >= 0) and end - start <= step) or (
            end is None and -step <= start < 0
        )
        if taken < 2 or one:
            return
        self.value, self.steps = time_slice(self.g, self.value, start, end, step), taken

    def flip(self) -> None:
        self.value, self.turned = flip(self.g, self.value), not self.turned

    def delta(self) -> None:
        if self.steps > 2:
            later, earlier = time_slice(self.g, self.value, 1, None), time_slice(self.g, self.value, 0, -1)
            self.value, self.steps = self.g.node("Sub", [later, earlier]), self.steps - 1

    def recurrent(self) -> None:
        self.layers += 1
        directions, hidden = self.draw(st.integers(1, 2)), self.draw(st.integers(1, 3))
        op = self.draw(st.sampled_from(["GRU", "LSTM", "RNN"]))
        self.value, _ = rnn(self.g, self.value, self.features, hidden, f"r{self.layers}", op, directions=directions)
        self.features = directions * hidden

    def dense(self) -> None:
        self.value = self.g.node("Relu", [self.g.node("MatMul", [self.value, self.g.random(self.features, 4)])])
        self.features = 4

    def twice(self) -> None:
        """The value beside itself in another order."""
        other = self.g.node("Tanh", [self.value])
        self.value = self.g.node("Concat", [self.value, other], axis=2)
        self.features *= 2

    def end(self) -> None:
        """Outputs: all steps, in the order of time, and one of them."""
        if not self.layers or self.features > 16:
            self.recurrent()
        end = self.draw(st.sampled_from(["steps", "pick", "picks", "repeat", "flat"]))
        if end == "flat" and self.declared:
            rows = self.g.node(
                "Reshape", [self.g.node("Transpose", [self.value], perm=[1, 0, 2]), numbers(self.g, 0, -1)]
            )
            self.g.node("MatMul", [rows, self.g.random(self.steps * self.features, 2)], ["out"])
            self.g.output("out", 2)
        elif end == "pick":
            step = self.draw(st.integers(-self.steps, self.steps - 1))
            self.g.node("Gather", [self.value, self.g.const(np.array(step, dtype=np.int64))], ["out"], axis=0)
            self.g.output("out", 2)
        elif end == "picks":
            picks = self.draw(st.lists(st.integers(-self.steps, self.steps - 1), min_size=1, max_size=3))
            self.g.node("Gather", [self.value, numbers(self.g, *picks)], ["out"], axis=0)
            self.g.output("out", 3)
        elif end == "repeat":
            last = self.g.node("Gather", [self.value, numbers(self.g, -1)], axis=0)
            size = self.g.node("Gather", [self.g.node("Shape", [self.value]), numbers(self.g, 0)], axis=0)
            times = self.g.node("Concat", [size, numbers(self.g, 1, 1)], axis=0)
            tiled = self.g.node("Tile", [last, times])
            y, _ = rnn(self.g, tiled, self.features, 3, "decoder")
            self.g.node("Identity", [y], ["out"])
            self.g.output("out")
        else:
            if self.turned:
                self.flip()
            self.g.node("Identity", [self.value], ["out"])
            self.g.output("out")


@st.composite
def graphs(draw: st.DrawFn) -> tuple[onnx.ModelProto, int]:
    """A graph, and the number of steps that it is run with."""
    given = draw(st.integers(4, 9))
    walk = Walk(draw, draw(st.booleans()), given)
    for _ in range(draw(st.integers(1, 5))):
        walk.add()
    walk.end()
    return walk.g.model(), given


@settings(deadline=None, max_examples=60)
@given(graphs())
def test_random_graphs_are_onnx_runtimes(drawn: tuple[onnx.ModelProto, int]) -> None:
    proto, steps = drawn
    agree(proto, {"x": data(steps, 2, 3)})


@pytest.mark.matrix
@settings(deadline=None, max_examples=600)
@given(graphs())
def test_more_random_graphs_are_onnx_runtimes(drawn: tuple[onnx.ModelProto, int]) -> None:
    proto, steps = drawn
    agree(proto, {"x": data(steps, 2, 3)})


@settings(deadline=None, max_examples=15)
@given(graphs(), st.integers(0, 2**32))
def test_a_sequence_among_others_has_the_bits_that_it_has_alone(drawn: tuple[onnx.ModelProto, int], seed: int) -> None:
    proto, steps = drawn
    model = import_model(proto, "test")
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3, steps, 3))
    made = quantize(model, {"x": x}, SHORTS)
    lengths = np.array([steps, steps - 1, steps])
    rules = model.length_rules
    assume(all(rule.of({"time": int(lengths.min())}) > 0 for rule in rules.values()))
    session = Session(made, "reference")
    if any(layer.least_steps for layer in made.layers):  # one takes a fixed number of steps, or reads one of the first
        lengths = np.full(3, steps)
    whole = session.run({"x": x}, lengths)
    for backend in available_backends():
        got = Session(made, backend).run({"x": x}, lengths)
        for name, values in whole.outputs.items():
            np.testing.assert_array_equal(got.outputs[name], values)
            np.testing.assert_array_equal(got.lengths[name], whole.lengths[name])
    for n, length in enumerate(lengths):
        alone = session.run({"x": x[n : n + 1, :length]})
        for name, values in alone.outputs.items():
            if model.outputs[0].has_time:
                values, rows = values[0, : alone.lengths[name][0]], whole.outputs[name][n, : whole.lengths[name][n]]
            else:
                values, rows = values[0], whole.outputs[name][n]
            np.testing.assert_array_equal(values, rows)


def test_a_layer_between_two_flips_runs_in_reverse() -> None:
    """Other layers between them, which compute each step by itself, are computed once, and no step is moved."""
    g = Graph()
    x = g.input("x", ["t", "n", 3])
    turned = g.node("Tanh", [flip(g, x)])
    back, state = rnn(g, turned, 3, 4, "back")
    deep, _ = rnn(g, g.node("MatMul", [back, g.random(4, 4)]), 4, 4, "deep", directions=2)
    forward, _ = rnn(g, x, 3, 4, "forward")
    g.node("Concat", [forward, flip(g, deep)], ["y"], axis=2)
    g.node("Gather", [back, g.const(np.array(-1, dtype=np.int64))], ["last"], axis=0)
    g.node("Identity", [g.axes_op("Squeeze", state, [0])], ["state"])
    g.output("y")
    g.output("last", 2)
    g.output("state", 2)
    model = agree(g.model(), {"x": data(6, 2, 3)})
    directions = {
        layer.name: [d.reverse for d in layer.directions] for layer in model.layers if isinstance(layer, Recurrent)
    }
    assert directions == {"back": [True], "deep": [False, True], "forward": [False]}
    assert not {"TakeSteps", "LastSteps", "NthStep", "LastStep"} & set(kinds(model))


def reversed_by_lengths(lengths: bool) -> onnx.ModelProto:
    g = Graph()
    x = g.input("x", ["t", "n", 3])
    lens = g.input("lens", ["n"], TensorProto.INT64)
    more = {"lengths": g.node("Cast", [lens], to=TensorProto.INT32)} if lengths else {}
    turned = g.node("ReverseSequence", [x, lens], batch_axis=1, time_axis=0)
    back, _ = rnn(g, turned, 3, 4, "back", **more)
    y = g.node("ReverseSequence", [back, lens], batch_axis=1, time_axis=0)
    forward, _ = rnn(g, x, 3, 4, "forward")
    g.node("Concat", [forward, y], ["y"], axis=2)
    g.output("y")
    return g.model()


@pytest.mark.parametrize("lengths", [False, True])
def test_reverse_sequence_reverses_each_sequences_own_steps(lengths: bool) -> None:
    proto, lens = reversed_by_lengths(lengths), np.array([6, 2, 4])
    x = data(6, 3, 3)
    want = runtime(proto, {"x": x, "lens": lens})["y"]
    model = import_model(proto, "test")
    got = run_oracle(model, {"x": np.moveaxis(x, 1, 0), "lens": lens}).outputs["y"]
    for n, length in enumerate(lens):
        np.testing.assert_allclose(got[n, :length], want[:length, n], atol=1e-5)


@pytest.mark.parametrize(
    ("says", "build"),
    {
        "output 'y' gives steps in reverse": lambda g, x, y: flip(g, y),
        "whose steps are in reverse; reverse it back": lambda g, x, y: g.node("Add", [y, flip(g, y)]),
        "reads several steps of a tensor whose steps are in reverse": lambda g, x, y: g.node(
            "Conv", [g.node("Transpose", [flip(g, y)], perm=[1, 2, 0]), g.random(4, 4, 2)]
        ),
        "slices the time axis 0 [-1:": lambda g, x, y: time_slice(g, y, -1, BEGIN, -2),
        "joins tensors of different lengths": lambda g, x, y: g.node("Add", [time_slice(g, y, 1, None), y]),
        "from a step that counts from the end": lambda g, x, y: time_slice(g, y, -3, 9),
        "which is no step": lambda g, x, y: time_slice(g, y, 3, 2),
        "repeats as often as": lambda g, x, y: g.node(
            "Tile", [y, g.node("Concat", [g.node("Slice", [g.node("Shape", [y]), numbers(g, 0), numbers(g, 1)]), numbers(g, 1, 1)], axis=0)]
        ),
    }.items(),
)  # fmt: skip
def test_what_no_layer_computes_is_refused_by_name(says: str, build: Any) -> None:
    g = Graph()
    x = g.input("x", ["t", "n", 3])
    y, _ = rnn(g, x, 3, 4, "forward")
    g.node("Identity", [build(g, x, y)], ["y"])
    g.output("y")
    refused_with(UnsupportedError, g.model(), says)


@pytest.mark.parametrize("op", ["GatherElements", "GatherND"])
def test_the_last_step_by_lengths_is_each_sequences_own(op: str) -> None:
    g = Graph()
    x, lens = g.input("x", ["n", "t", 3]), g.input("lens", ["n"], TensorProto.INT64)
    y, _ = rnn(g, g.node("Transpose", [x], perm=[1, 0, 2]), 3, 4, "r")
    rows = g.node("Transpose", [y], perm=[1, 0, 2])
    index = g.node("Sub", [lens, g.const(np.array(1))])
    if op == "GatherElements":
        column = g.node("Expand", [g.node("Reshape", [index, numbers(g, -1, 1, 1)]), numbers(g, 1, 1, 4)])
        taken = g.axes_op("Squeeze", g.node(op, [rows, column], axis=1), [1])
    else:
        taken = g.node(op, [rows, g.axes_op("Unsqueeze", index, [1])], batch_dims=1)
    g.node("MatMul", [taken, g.random(4, 2)], ["y"])
    g.output("y", 2)
    feeds = {"x": data(3, 6, 3), "lens": np.array([6, 1, 4])}
    model = import_model(g.model(), "test")
    np.testing.assert_allclose(run_oracle(model, feeds).outputs["y"], runtime(g.model(), feeds)["y"], atol=1e-5)
    assert not any("padded one" in note for note in model.notes)


def test_another_step_by_lengths_is_refused() -> None:
    g = Graph()
    x, lens = g.input("x", ["n", "t", 3]), g.input("lens", ["n"], TensorProto.INT64)
    y, _ = rnn(g, g.node("Transpose", [x], perm=[1, 0, 2]), 3, 4, "r")
    index = g.axes_op("Unsqueeze", g.node("Sub", [lens, g.const(np.array(2))]), [1])
    g.node("GatherND", [g.node("Transpose", [y], perm=[1, 0, 2]), index], ["y"], batch_dims=1)
    g.output("y", 2)
    refused_with(UnsupportedError, g.model(), "by 'lens' -2; only the lengths of the sequences less 1")


@pytest.mark.parametrize("op", ["Tile", "Expand"])
def test_reverse_sequence_of_all_steps(op: str) -> None:
    """As tf2onnx writes a reversal: the number of steps, once for each sequence, as the lengths."""
    g = Graph()
    x = g.input("x", ["n", "t", 3])
    sizes = g.node("Shape", [x])
    batch, steps = (g.node("Gather", [sizes, numbers(g, k)], axis=0) for k in (0, 1))
    lens = g.node(op, [steps, batch])
    turned = g.node("ReverseSequence", [x, lens], batch_axis=0, time_axis=1)
    y, _ = rnn(g, g.node("Transpose", [turned], perm=[1, 0, 2]), 3, 4, "r")
    g.node("ReverseSequence", [g.node("Transpose", [y], perm=[1, 0, 2]), lens], ["y"], batch_axis=0, time_axis=1)
    g.output("y")
    model = agree(g.model(), {"x": data(2, 6, 3)})
    assert kinds(model) == {"Recurrent": 1}


@pytest.mark.parametrize("part", [(-1, None), (0, 1), (1, None), (0, -2), (-3, None), (-4, -1), (2, 5)])
def test_a_slice_of_reversed_steps(part: tuple[int, int | None]) -> None:
    """Mirrored: the last step in reverse is the first one."""
    g = Graph()
    x = g.input("x", ["t", "n", 3])
    y, _ = rnn(g, x, 3, 4, "r")
    taken = time_slice(g, flip(g, y), *part)
    g.node("ReduceMean", [g.node("Tanh", [taken])], ["y"], axes=[0], keepdims=0)
    g.output("y", 2)
    agree(g.model(), {"x": data(7, 2, 3)})
