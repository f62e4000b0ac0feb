"""Every backend equals the reference bit for bit, on random models of every kind; and a run equals itself in pieces."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Shape, make_model

from backends.generators import DRAWN, Case, assert_equal, cases, few, fewest, integers, many, quantized_or_refused
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.model.activation import Activation
from qrnn.model.batch import make_batch
from qrnn.model.float_model import GraphInput, TensorInfo
from qrnn.model.kinds.embedding import Embedding
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.recurrent.definition import InitialState, Projection
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session
from qrnn.running.state import State

OTHERS = tuple(name for name in available_backends() if name != "reference")


def check_exact(case: Case, backend: str) -> None:
    """Tensors, final states and traces of ``backend`` equal the reference's."""
    model = quantized_or_refused(case)
    if model is None:
        return
    batch = case.batch(model)
    runs = [integers(Session(model, name), batch, traced=True)[0] for name in ("reference", backend)]
    assert_equal(*runs)


@pytest.mark.parametrize("backend", OTHERS)
@settings(few, max_examples=50)
@given(case=cases(most_hidden=12))
def test_backend_equals_reference(backend: str, case: Case) -> None:
    check_exact(case, backend)


@pytest.mark.matrix
@pytest.mark.parametrize("backend", OTHERS)
@few
@given(case=cases())
def test_backend_equals_reference_for_larger_models(backend: str, case: Case) -> None:
    check_exact(case, backend)


@pytest.mark.long
@pytest.mark.parametrize("backend", OTHERS)
@many
@given(case=cases())
def test_backend_equals_reference_long(backend: str, case: Case) -> None:
    check_exact(case, backend)


@pytest.mark.matrix
def test_few_draws_are_refused() -> None:
    """The draws above are of models that run: few have a range without a format."""
    DRAWN.clear()

    @settings(few, max_examples=150)
    @given(case=cases())
    def draw(case: Case) -> None:
        quantized_or_refused(case)

    draw()
    assert DRAWN["quantized"] > 0.93 * DRAWN.total(), DRAWN


HARD = {"gate": Activation("hard_sigmoid")}
STEP = {"gate": Activation("step"), "candidate": Activation("hard_tanh")}
LINEAR = {"gate": Activation("affine", 0.5, 0.5), "candidate": Activation("elu", 1.0), "output": Activation("softplus")}
CORNERS = (
    Case(Shape("lstm", 3, 17, (False, True), layers=2, states=True), "softmax", lengths=(7, 3), steps=7),
    Case(Shape("gru", 3, 9, (False, True), linear_before_reset=True), "sigmoid", lengths=(4, 5), last_step=True),
    Case(Shape("gru", 3, 9, (True,), linear_before_reset=False, weight=50.0), "tanh", lengths=(5, 5), amplitude=1e4),
    Case(Shape("rnn", 1, 1, activations={"candidate": Activation("relu")}), "relu", lengths=(5, 2), concat=True),
    Case(Shape("lstm", 2, 33, bias=1000.0, activations=HARD), "hard_sigmoid", lengths=(5, 4)),
    Case(Shape("gru", 9, 40, weight=50.0, bias=1000.0), "dense", lengths=(5, 5), scheme=Scheme(16, input="16")),
    Case(Shape("lstm", 4, 5), "dense", lengths=(5, 1), scheme=Scheme(input="auto")),
    Case(Shape("lstm", 3, 7, (False, True), forget="one", peephole=1e3, states=True), "step", lengths=(5, 0)),
    Case(Shape("lstm", 3, 7, forget="coupled", peephole=0.5, projection=3), "dense", lengths=(5, 4), last_step=True),
    Case(Shape("lstm", 3, 4, layers=2, projection=9, projected="softmax", clip=0.5), "elu", lengths=(0, 5)),
    Case(Shape("rnn", 4, 6, (True,), projection=4, projected=Activation("tanh"), residual=True), lengths=(5, 3)),
    Case(Shape("lstm", 5, 5, layers=2, activations=LINEAR, weight=0.2, residual=True), "softplus", lengths=(5, 5)),
    Case(Shape("gru", 6, 6, layers=2, activations=LINEAR, weight=0.2, residual=True), "affine", lengths=(2, 5)),
    Case(Shape("gru", 3, 7, activations=STEP, update_keeps=False, weight=4.0), "leaky_relu", lengths=(5, 2)),
    Case(
        Shape("gru", 3, 7, linear_before_reset=False, update_keeps=False, clip=3.0),
        "tanh",
        lengths=(1, 0),
        last_step=True,
    ),
)


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("case", CORNERS, ids=lambda c: f"{c.shape.cell}-{c.head}")
def test_corners(backend: str, case: Case) -> None:
    check_exact(case, backend)


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_directions_may_differ(backend: str, cell: str) -> None:
    """One direction with a projection and peepholes, the other with neither, and other functions."""
    rng = np.random.default_rng(5)
    model = make_model(Shape(cell, 3, 6, (False, True)), rng)  # type: ignore[arg-type]
    layer = model.layers[0]
    assert isinstance(layer, Recurrent)
    projection = Projection(rng.normal(size=(6, 6)), rng.normal(size=6), Activation("relu"))
    peephole = rng.normal(size=24) if cell == "lstm" else None
    functions = {
        role: Activation("softsign" if role == "candidate" else f.kind)
        for role, f in layer.directions[0].activations.items()
    }
    special = replace(layer.directions[0], projection=projection, peephole=peephole, activations=functions)
    data = {"x": rng.normal(size=(3, 9, 3))}
    for directions in ((special, layer.directions[1]), (layer.directions[0], replace(special, reverse=True))):
        quantized = quantize(replace(model, layers=(replace(layer, directions=directions),)), data, Scheme(input="8"))
        for rows in (slice(None), slice(1)):
            batch = make_batch(quantized.inputs, {"x": data["x"][rows]})
            want, got = (integers(Session(quantized, name), batch, traced=True)[0] for name in ("reference", backend))
            assert_equal(want, got)


@pytest.mark.parametrize("backend", available_backends())
def test_a_sequence_of_no_steps(backend: str) -> None:
    """Its tensors are zero, those that a layer computes from zero included, and its state is carried unchanged."""
    case = CORNERS[0]
    model = case.quantized()
    session, data = Session(model, backend), case.data()
    batch = make_batch(model.inputs, data, np.array([0, 7]))
    start = session.initial_state(2, batch.states)
    tensors, final = integers(session, batch)
    for layer in model.recurrent_layers:
        for kept, now in zip(start.layers[layer.name], final.layers[layer.name], strict=True):
            assert np.any(kept[0])
            np.testing.assert_array_equal(now[0], kept[0])
            assert not np.array_equal(now[1], kept[1])
        for name in (layer.output, layer.h_n, layer.c_n):
            assert not np.any(tensors[str(name)][0])
            assert np.any(tensors[str(name)][1])
    outputs = session.run(data, lengths=[0, 7]).outputs
    assert all(not np.any(outputs[name][0]) for name in ("y", "h", "c"))
    empty, final = integers(session, make_batch(model.inputs, data, np.array([0, 0])))
    assert_same_state(final, start)
    assert not np.any(empty["layer1.y"])


def check_ragged(backend: str, case: Case) -> None:
    """A ragged batch gives what each of its sequences gives alone."""
    model = quantized_or_refused(case)
    if model is None:
        return
    session, batch = Session(model, backend), case.batch(model)
    together, _ = integers(session, batch)
    for n, length in enumerate(case.lengths):
        alone, _ = integers(session, batch.take(slice(n, n + 1)))
        for name, value in alone.items():
            timed = name in model.tensors and model.tensors[name].has_time
            whole = together[name][n : n + 1, : max(length, 1)] if timed else together[name][n : n + 1]
            np.testing.assert_array_equal(whole, value, err_msg=f"{name} of sequence {n}")


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("backend", OTHERS)
@fewest
@given(case=cases(most_hidden=12, usual=True))
def test_a_ragged_batch_equals_each_sequence_alone(backend: str, case: Case) -> None:
    check_ragged(backend, case)


@pytest.mark.matrix
@pytest.mark.parametrize("backend", OTHERS)
@few
@given(case=cases(most_hidden=12))
def test_a_ragged_batch_of_any_model_equals_each_sequence_alone(backend: str, case: Case) -> None:
    check_ragged(backend, case)


def check_chunks(backend: str, case: Case, data: st.DataObject) -> None:
    """Chunks of a ragged batch, in which a sequence may have no steps; and all sequences step by step."""
    case = replace(case, last_step=False)
    model = quantized_or_refused(case)
    if model is None:
        return
    session, inputs, lengths = Session(model, backend), case.data(), np.asarray(case.lengths)
    whole = session.run(inputs, lengths)
    x, given_states = inputs["x"], {k: v for k, v in inputs.items() if k != "x"}
    bounds = sorted({0, data.draw(st.integers(0, case.steps)), data.draw(st.integers(0, case.steps)), case.steps})
    chunked, state = [], None
    for start, stop in itertools.pairwise(bounds):
        here = np.clip(lengths - start, 0, stop - start)
        piece = session.run({"x": x[:, start:stop]} | (given_states if state is None else {}), here, state)
        chunked.append(piece.outputs["y"])
        state = piece.state
    np.testing.assert_array_equal(np.concatenate(chunked, axis=1), whole.outputs["y"])
    assert_same_state(state, whole.state)
    whole, stepped, state = session.run(inputs), [], None
    for t in range(case.steps):
        piece = session.step({"x": x[:, t]} | (given_states if state is None else {}), state)
        stepped.append(piece.outputs["y"])
        state = piece.state
    np.testing.assert_array_equal(np.stack(stepped, axis=1), whole.outputs["y"])
    assert_same_state(state, whole.state)


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("backend", OTHERS)
@fewest
@given(case=cases(forward=True, most_hidden=12, usual=True), data=st.data())
def test_chunks_and_steps_equal_the_whole_run(backend: str, case: Case, data: st.DataObject) -> None:
    check_chunks(backend, case, data)


@pytest.mark.matrix
@pytest.mark.parametrize("backend", OTHERS)
@few
@given(case=cases(forward=True, most_hidden=12), data=st.data())
def test_chunks_and_steps_of_any_model_equal_the_whole_run(backend: str, case: Case, data: st.DataObject) -> None:
    check_chunks(backend, case, data)


def assert_same_state(got: State | None, want: State) -> None:
    assert got is not None
    for name, (h, c) in want.layers.items():
        np.testing.assert_array_equal(got.layers[name][0], h)
        np.testing.assert_array_equal(got.layers[name][1], c)


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("scheme", ["8", "8-per-feature", "16"])
def test_tokens_and_constant_states(backend: str, scheme: str) -> None:
    """An embedding in front, h_0 and c_0 that are constants of the model."""
    rng = np.random.default_rng(3)
    model = make_model(Shape("lstm", 4, 6), rng)
    layer = model.layers[0]
    assert isinstance(layer, Recurrent)
    start = [InitialState(rng.normal(size=6) * size) for size in (0.9, 30.0)]
    layer = replace(layer, input="e", directions=(replace(layer.directions[0], h_0=start[0], c_0=start[1]),))
    embedding = Embedding("embedding", "x", "e", rng.normal(size=(11, 4)))
    tensors = {**model.tensors, "x": TensorInfo(1, True), "e": TensorInfo(4, True)}
    inputs = (GraphInput("x", "tokens", (), True, vocabulary=11),)
    model = replace(model, inputs=inputs, layers=(embedding, layer), tensors=tensors)
    tokens = {"x": rng.integers(0, 11, (3, 9))}
    quantized = quantize(model, tokens, Scheme(input=scheme))
    batch = make_batch(quantized.inputs, tokens, np.array([9, 1, 5]))
    want, got = (integers(Session(quantized, name), batch, traced=True)[0] for name in ("reference", backend))
    assert_equal(want, got)


@pytest.mark.parametrize("backend", OTHERS)
def test_a_run_leaves_its_arguments_alone(backend: str) -> None:
    case = CORNERS[0]
    model = case.quantized()
    session, batch = Session(model, backend), case.batch(model)
    state = session.initial_state(batch.size, batch.states)
    kept = {name: (h.copy(), c.copy()) for name, (h, c) in state.layers.items()}
    first, _ = integers(session, batch, state)
    assert_same_state(state, State(kept))
    assert_equal(first, integers(session, batch, state)[0])
