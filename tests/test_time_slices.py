"""Slices of time, single steps, all steps side by side and vectors at every step: against NumPy, and in integers on every backend and in C."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from export.building import check
from hypothesis import given, settings
from hypothesis import strategies as st
from schemes import BYTES

import qrnn
from qrnn import DataError, Session, layers
from qrnn.backends import available_backends
from qrnn.conversion import quantize, random_inputs
from qrnn.equations.oracle import run_oracle
from qrnn.export.source import export_source
from qrnn.model.float_model import FloatModel

pytestmark = pytest.mark.usefixtures("loops")

Part = tuple[int, int | None, int]
PARTS: list[Part] = [
    (1, None, 1), (0, -1, 1), (2, -3, 1), (0, 3, 1), (2, 5, 2), (0, None, 2), (1, -2, 3), (-1, None, 1), (-4, None, 1), (-5, -2, 1),
    (-6, None, 2), (-3, -1, 2),
]  # fmt: skip


def gru(t: layers.Tensor, units: int, rng: np.random.Generator) -> layers.Recurrent:
    return layers.gru(
        t,
        rng.normal(0, 0.4, (3 * units, t.features)),
        rng.normal(0, 0.4, (3 * units, units)),
        rng.normal(size=3 * units),
    )


def network(part: Part, features: int = 3, seed: int = 0) -> FloatModel:
    """A slice of the steps of a GRU, whose input may be the slice of x; another GRU over it, and outputs of all and of the last step."""
    rng = np.random.default_rng(seed)
    taken = layers.time_slice(gru(layers.input("x", features), 4, rng).output, *part)
    h = gru(taken, 3, rng)
    y = layers.dense(h.output, rng.normal(size=(2, 3)))
    return layers.model("slice", {"y": y, "taken": taken, "last": layers.last_step(y), "h": h.h_n})


@pytest.mark.parametrize("part", PARTS)
def test_a_slice_is_numpys(part: Part) -> None:
    x = layers.input("x", 3)
    model = layers.model("slice", {"y": layers.time_slice(x, *part)})
    values, lengths = np.random.default_rng(1).normal(size=(4, 9, 3)), np.array([9, 4, 1, 0])
    found = run_oracle(model, {"x": values}, lengths).outputs["y"]
    for n, length in enumerate(lengths):
        want = values[n, :length][slice(*part)]
        np.testing.assert_array_equal(found[n, : len(want)], want)
        assert not found[n, len(want) :].any()


@st.composite
def parts(draw: st.DrawFn) -> Part:
    """Any slice that is supported, of few steps."""
    step = draw(st.integers(1, 3))
    if draw(st.booleans()):
        start = -draw(st.integers(1, 5))
        return start, draw(st.none() | st.integers(start + 1, -1)) if start < -1 else None, step
    start = draw(st.integers(0, 4))
    return start, draw(st.none() | st.integers(-4, -1) | st.integers(start + 1, start + 5)), step


def check_backend(backend: str, data: st.DataObject) -> None:
    """Whole, ragged, in chunks and step by step, with inputs beyond the calibrated range."""
    part = data.draw(parts())
    model = network(part, data.draw(st.integers(1, 3)), data.draw(st.integers(0, 3)))
    features = model.tensors["x"].features
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    made = quantize(model, {"x": rng.normal(size=(2, 20, features))}, BYTES)
    N, T = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9))
    x, lengths = rng.normal(0, 3, (N, T, features)), rng.integers(0, T + 1, N)
    want = Session(made, "reference").run({"x": x}, lengths)
    session = Session(made, backend)
    got = session.run({"x": x}, lengths)
    for name, values in want.outputs.items():
        np.testing.assert_array_equal(got.outputs[name], values)
        np.testing.assert_array_equal(got.lengths[name], want.lengths[name])
    assert want.lengths["y"].tolist() == [len(range(n)[slice(*part)]) for n in lengths.tolist()]
    cut = data.draw(st.integers(0, T))
    whole, rows, state = session.run({"x": x}), [], None
    for first, last in ((0, cut), (cut, T)):
        if first < last:
            piece = session.run({"x": x[:, first:last]}, state=state, end=last == T)
            state = piece.state
            rows.append(piece.outputs["y"][:, : piece.lengths["y"].max()])
    np.testing.assert_array_equal(np.concatenate(rows, axis=1), whole.outputs["y"][:, : whole.lengths["y"].max()])
    for n in range(N):
        stream, steps = session.stream(), []
        for frame in x[n, : lengths[n]]:
            outputs = stream.step({"x": frame[None]})
            if stream.lengths["y"][0]:
                steps.append(outputs["y"][0])
        rest = stream.finish()
        steps.extend(rest.outputs["y"][0, : rest.lengths["y"][0]])
        np.testing.assert_array_equal(np.reshape(steps, (-1, 2)), want.outputs["y"][n, : want.lengths["y"][n]])


@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=8)
@given(st.data())
def test_backends_agree(backend: str, data: st.DataObject) -> None:
    check_backend(backend, data)


@pytest.mark.matrix
@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_backends_agree_on_more(backend: str, data: st.DataObject) -> None:
    check_backend(backend, data)


@pytest.mark.parametrize("step", [0, 2, -2, -3])
def test_a_step_is_numpys(step: int) -> None:
    model = layers.model("step", {"y": layers.step_at(layers.input("x", 3), step)})
    values, lengths = np.random.default_rng(1).normal(size=(3, 9, 3)), np.array([9, 5, 3])
    found = run_oracle(model, {"x": values}, lengths).outputs["y"]
    for n, length in enumerate(lengths):
        np.testing.assert_array_equal(found[n], values[n, :length][step])


def summary(steps: int, seed: int = 0) -> FloatModel:
    """The first and the last step of a GRU, one between, and all ``steps`` side by side, in a dense layer."""
    rng = np.random.default_rng(seed)
    h = gru(layers.input("x", 2), 3, rng).output
    first, third, last = layers.step_at(h, 0), layers.step_at(h, 2), layers.step_at(h, -1)
    every = layers.side_by_side(h, steps, name="every")
    parts = layers.concat(first, third, last, layers.dense(every, rng.normal(size=(2, 3 * steps))))
    return layers.model("summary", {"y": layers.dense(parts, rng.normal(size=(4, parts.features))), "every": every})


def test_all_steps_side_by_side() -> None:
    x = np.random.default_rng(2).normal(size=(3, 5, 2))
    model = layers.model("every", {"y": layers.side_by_side(layers.input("x", 2), 5)})
    np.testing.assert_array_equal(run_oracle(model, {"x": x}).outputs["y"], x.reshape(3, 10))


@pytest.mark.parametrize("backend", available_backends())
def test_vectors_of_a_fixed_number_of_steps(backend: str) -> None:
    """Whole runs, chunks and streams have the same bits; another number of steps is refused by name."""
    rng = np.random.default_rng(3)
    made = quantize(summary(6), {"x": rng.normal(size=(4, 6, 2))}, BYTES)
    x = rng.normal(0, 2, (3, 6, 2))
    want = Session(made, "reference").run({"x": x}).outputs
    session = Session(made, backend)
    pieces = session.run({"x": x[:, :4]}, end=False)
    runs = [session.run({"x": x}), session.run({"x": x[:, 4:]}, state=pieces.state)]
    stream = session.stream(3)
    found = [stream.step({"x": x[:, t]}) for t in range(6)]
    for name, values in want.items():
        for run in runs:
            np.testing.assert_array_equal(run.outputs[name], values)
        np.testing.assert_array_equal(found[-1][name], values)
    with pytest.raises(
        DataError, match=r"needs sequences of 6 steps, and one would have 7|needs sequences of 6 steps, and one has 7"
    ):
        stream.step({"x": x[:, 0]})
    for steps in (5, 7):
        with pytest.raises(DataError, match=f"layer 'take_steps.*' needs sequences of 6 steps, and one has {steps}"):
            session.run({"x": np.resize(x, (1, steps, 2))})
    with pytest.raises(DataError, match="needs sequences of 6 steps, and one has 5"):
        session.run({"x": x}, [6, 6, 5])
    with pytest.raises(DataError, match="takes sequences of 6 steps alone, and one has 4"):
        run_oracle(summary(6), {"x": x[:, :4]})


@pytest.mark.parametrize("backend", available_backends())
def test_a_sequence_of_no_steps_has_zeros(backend: str) -> None:
    """As any last step; a sequence that has steps, of which a slice leaves none, is refused."""
    rng = np.random.default_rng(3)
    h = layers.input("x", 2)
    parts = {
        "every": layers.side_by_side(h, 4),
        "third": layers.step_at(h, 2),
        "behind": layers.step_at(layers.time_slice(h, 1), 0),
    }
    made = quantize(layers.model("none", parts), {"x": rng.normal(size=(4, 4, 2))}, BYTES)
    x = rng.normal(size=(2, 4, 2))
    found = Session(made, backend).run({"x": x}, [0, 4]).outputs
    for name, values in Session(made, "reference").run({"x": x}, [0, 4]).outputs.items():
        np.testing.assert_array_equal(found[name], values)
        assert not values[0].any()
    only = layers.model("behind", {"y": parts["behind"]})
    with pytest.raises(DataError, match="needs sequences of at least 1 steps, and one has 0"):
        Session(quantize(only, {"x": x}, BYTES), backend).run({"x": x}, [1, 4])


@pytest.mark.parametrize("backend", available_backends())
def test_warm_up_runs_as_many_steps_as_are_needed(backend: str) -> None:
    made = quantize(summary(6), {"x": np.random.default_rng(3).normal(size=(4, 6, 2))}, BYTES)
    Session(made, backend).warm_up()


def test_random_calibration_has_as_many_steps_as_are_needed() -> None:
    """A fixed number, else enough for a step that counts from the beginning."""
    assert random_inputs(summary(6))["x"].shape[1] == 6
    h = layers.gru(layers.input("x", 2), np.ones((9, 2)), np.ones((9, 3))).output
    for step, steps in ((3, 32), (40, 41)):
        assert random_inputs(layers.model("step", {"y": layers.step_at(h, step)}))["x"].shape[1] == steps


def decoder(count: int = 0, seed: int = 0) -> FloatModel:
    """An encoder's last state at every step, beside an input without time, for a decoder; C reads whole sequences."""
    rng = np.random.default_rng(seed)
    e = gru(layers.input("x", 2), 3, rng)
    code = layers.repeat(layers.dense(e.h_n, rng.normal(size=(3, 3))), e.output, count=count, name="code")
    fixed = layers.repeat(layers.dense(layers.input("s", 2, has_time=False), rng.normal(size=(2, 2))), code)
    h = gru(layers.concat(code, fixed), 4, rng)
    return layers.model("decoder", {"y": layers.dense(h.output, rng.normal(size=(2, 4))), "code": code, "h": h.h_n})


@pytest.mark.parametrize("backend", available_backends())
@pytest.mark.parametrize("count", [0, 4])
def test_a_last_state_at_every_step(backend: str, count: int) -> None:
    """A sequence in a ragged batch has the bits that it has alone; streams and chunks are refused by name."""
    rng = np.random.default_rng(4)
    model = decoder(count)
    made = quantize(model, {"x": rng.normal(size=(4, 8, 2)), "s": rng.normal(size=(4, 2))}, BYTES)
    x, s, lengths = rng.normal(0, 2, (3, 7, 2)), rng.normal(size=(3, 2)), np.array([7, 3, 1])
    want = Session(made, "reference").run({"x": x, "s": s}, lengths)
    session = Session(made, backend)
    got = session.run({"x": x, "s": s}, lengths)
    for name, values in want.outputs.items():
        np.testing.assert_array_equal(got.outputs[name], values)
        np.testing.assert_array_equal(got.lengths[name], want.lengths[name])
    real = run_oracle(model, {"x": x, "s": s}, lengths).outputs["code"]
    for n, length in enumerate(lengths):
        rows = count or length
        alone = session.run({"x": x[n : n + 1, :length], "s": s[n : n + 1]})
        np.testing.assert_array_equal(alone.outputs["y"][0, :rows], want.outputs["y"][n, :rows])
        assert want.lengths["y"][n] == rows
        np.testing.assert_array_equal(real[n, :rows], np.broadcast_to(real[n, 0], (rows, 3)))
    for call in (
        session.stream,
        lambda: session.run({"x": x, "s": s}, end=False),
        lambda: session.step({"x": x[:, 0], "s": s}),
    ):
        with pytest.raises(DataError, match="layer 'code' gives at every step what only the end of a sequence tells"):
            call()


@pytest.mark.parametrize("backend", available_backends())
def test_an_input_without_time_at_every_step_streams(backend: str) -> None:
    rng = np.random.default_rng(5)
    x, s = layers.input("x", 2), layers.input("s", 3, has_time=False)
    h = gru(layers.concat(x, layers.repeat(s, x)), 4, rng)
    made = quantize(
        layers.model("context", {"y": h.output}), {"x": rng.normal(size=(4, 8, 2)), "s": rng.normal(size=(4, 3))}, BYTES
    )
    data = {"x": rng.normal(size=(2, 6, 2)), "s": rng.normal(size=(2, 3))}
    want = Session(made, "reference").run(data).outputs["y"]
    session = Session(made, backend)
    np.testing.assert_array_equal(session.run(data).outputs["y"], want)
    stream = session.stream(2)
    steps = [stream.step({"x": data["x"][:, t], "s": data["s"]})["y"] for t in range(6)]
    np.testing.assert_array_equal(np.stack(steps, axis=1), want)


@pytest.mark.parametrize("model", [network((1, -2, 2)), network((2, 5, 1)), decoder(), decoder(5)])
def test_file(model: FloatModel, tmp_path: Any) -> None:
    rng = np.random.default_rng(6)
    data = {i.name: rng.normal(size=(3, 9, *i.shape) if i.has_time else (3, *i.shape)) for i in model.inputs}
    made = quantize(model, data, BYTES)
    qrnn.save(made, tmp_path / "slice.qrnn")
    again = qrnn.load(tmp_path / "slice.qrnn")
    np.testing.assert_array_equal(
        Session(again).run(data).outputs["y"], Session(made, "reference").run(data).outputs["y"]
    )


@pytest.mark.parametrize("part", [(1, None, 1), (0, -2, 1), (1, 6, 2), (-3, -1, 1)])
def test_c_of_a_slice(part: Part, tmp_path: Any) -> None:
    made = quantize(network(part), {"x": np.random.default_rng(7).normal(size=(3, 12, 3))}, BYTES)
    check(made, tmp_path, "gcc")


def test_c_of_a_fixed_number_of_steps(tmp_path: Any) -> None:
    made = quantize(summary(6), {"x": np.random.default_rng(8).normal(size=(3, 6, 2))}, BYTES)
    check(made, tmp_path, "gcc", lengths=(6, 6, 6))


@pytest.mark.parametrize("count", [0, 4])
def test_c_of_a_last_state_at_every_step(count: int, tmp_path: Any) -> None:
    rng = np.random.default_rng(9)
    made = quantize(decoder(count), {"x": rng.normal(size=(4, 8, 2)), "s": rng.normal(size=(4, 2))}, BYTES)
    check(made, tmp_path, "gcc")


def test_refusals() -> None:
    x, v = layers.input("x", 3), layers.input("v", 3, has_time=False)
    for says, call in {
        "expected a sequence": lambda: layers.time_slice(v, 1),
        "step is 0": lambda: layers.time_slice(x, 1, None, 0),
        "start -2 and stop 5": lambda: layers.time_slice(x, -2, 5),
        "start 3 and stop 3": lambda: layers.time_slice(x, 3, 3),
        "is a sequence": lambda: layers.repeat(x, x),
        "steps is 0": lambda: layers.side_by_side(x, 0),
        "joins tensors of different lengths": lambda: layers.model(
            "m", {"y": layers.add(layers.time_slice(x, 1), layers.dense(x, np.eye(3)))}
        ),
    }.items():
        with pytest.raises(DataError, match=says):
            call()


@pytest.mark.parametrize("slices", [1, 2])
def test_c_of_an_input_without_time_beside_slices(slices: int, tmp_path: Any) -> None:
    """At the steps of the inputs it has a function of a step; at those that a slice counts, whole sequences alone."""
    rng = np.random.default_rng(10)
    x, s = layers.input("x", 2), layers.dense(layers.input("s", 3, has_time=False), rng.normal(size=(2, 3)))
    like = x if slices == 1 else layers.time_slice(x, 1)
    first = layers.add(layers.repeat(s, like), like)
    taken = layers.time_slice(first, 1, None, 2)
    outputs = {"y": gru(taken, 3, rng).output, "s": s, "last": layers.last_step(taken)}
    made = quantize(layers.model("m", outputs), {"x": rng.normal(size=(4, 8, 2)), "s": rng.normal(size=(4, 3))}, BYTES)
    check(made, tmp_path, "gcc")
    assert ("net_step(" in export_source(made, "net", "plain").header) == (slices == 1)
