"""Streams and pools: the bits of each stream alone, for every cell, backend and instruction set, whoever else steps beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from backends.generators import Case, cases, few, fewest, quantized_or_refused
from backends.isa_choice import isas_and_cells
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Shape, make_model

from qrnn import DataError, Session, State, StreamPool
from qrnn.backends.cpu.tuning import Tuning
from qrnn.conversion import quantize
from qrnn.model.activation import Activation
from qrnn.model.float_model import GraphInput, TensorInfo
from qrnn.model.kinds.embedding import Embedding
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme
from qrnn.running import stream_io

LSTM = Case(Shape("lstm", 3, 19, layers=2, states=True), sequences=3, steps=7, lengths=(7, 7, 7))
BACKENDS = ["reference", "cpu"]


def assert_same(got: dict[str, Any], want: dict[str, Any], row: Any = slice(None)) -> None:
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_array_equal(got[name][row], want[name], err_msg=name)


def assert_same_state(got: State, want: State) -> None:
    for name, (h, c) in want.layers.items():
        np.testing.assert_array_equal(got.layers[name][0], h)
        np.testing.assert_array_equal(got.layers[name][1], c)


class Alone:
    """Every stream of a pool on its own, by the reference."""

    def __init__(self, model: QuantModel) -> None:
        self._session = Session(model, "reference")
        self.states: dict[int, State] = {}

    def step(self, stream: int, x: Any) -> dict[str, Any]:
        result = self._session.step({"x": x[None]}, self.states[stream])
        self.states[stream] = result.state
        return {name: value[0] for name, value in result.outputs.items()}


def check_pool(session: Session, seed: int, ticks: int, most: int, capacity: int = 1) -> None:
    """Streams open, close and step at random, some from a state; every output and state is that of the stream alone."""
    rng = np.random.default_rng(seed)
    model, pool = session.model, StreamPool(session, capacity)
    alone, start = Alone(model), session.initial_state(1)
    width = next(i.features for i in model.inputs if i.name == "x")
    for _ in range(ticks):
        while len(pool) < most and rng.random() < 0.6:
            begin = None if not alone.states or rng.random() < 0.5 else alone.states[next(iter(alone.states))]
            alone.states[pool.open(begin)] = begin or start
        if alone.states and rng.random() < 0.3:
            stream = int(rng.choice(list(alone.states)))
            assert_same_state(pool.state(stream), alone.states.pop(stream))
            pool.close(stream)
        assert len(pool) == len(alone.states)
        chosen = [s for s in rng.permutation(list(alone.states)) if rng.random() < 0.7] if alone.states else []
        x = rng.normal(size=(len(chosen), width)) * 10.0 ** -rng.uniform(-1, 2, (len(chosen), 1))
        got = pool.step(chosen, {"x": x})
        for k, stream in enumerate(chosen):
            assert_same(got, alone.step(int(stream), x[k]), k)
    for stream, state in alone.states.items():
        assert_same_state(pool.state(stream), state)


def check_any_pool(backend: str, case: Case, seed: int) -> None:
    model = quantized_or_refused(case)
    if model is not None:
        check_pool(Session(model, backend), seed, ticks=4, most=5)


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("backend", BACKENDS)
@fewest
@given(case=cases(forward=True, usual=True), seed=st.integers(0, 1 << 16))
def test_pools_of_usual_models(backend: str, case: Case, seed: int) -> None:
    check_any_pool(backend, case, seed)


@pytest.mark.matrix
@pytest.mark.parametrize("backend", BACKENDS)
@settings(few, max_examples=40)
@given(case=cases(forward=True), seed=st.integers(0, 1 << 16))
def test_pools_of_any_model(backend: str, case: Case, seed: int) -> None:
    check_any_pool(backend, case, seed)


@pytest.mark.shard_by("isa", "cell", "after")
@isas_and_cells
@pytest.mark.parametrize("hidden", [pytest.param(n, marks=pytest.mark.matrix) for n in (1, 3, 17, 63, 130)] + [65])
def test_pools_of_any_size(cell: Any, after: bool, hidden: int, isa: str) -> None:
    """Alone, in groups of vectors and of tiles, more than one group, 8-bit and 16-bit operands."""
    shape = Shape(cell, 64 if hidden == 63 else 5, hidden, linear_before_reset=after, weight=0.3)
    activations = 16 if hidden == 65 else 8
    case = Case(
        shape, lengths=(5, 5), scheme=Scheme(activations, gates="pwl:1024" if hidden == 17 else "pwl:32", input="8")
    )
    session = Session(case.quantized(), "cpu", 1, isa)
    check_pool(session, hidden, ticks=5, most=40, capacity=8)
    check_pool(session, hidden, ticks=5, most=2)


@pytest.mark.shard_by("isa", "cell", "after")
@pytest.mark.matrix
@isas_and_cells
@pytest.mark.parametrize("outgrown", [False, True])
def test_four_bit_weights(cell: Any, after: bool, outgrown: bool, isa: str) -> None:
    """Streams alone read packed four bits where the model outgrows the cache, several together read bytes."""
    for hidden, activations in ((17, 8), (70, 16)):
        shape = Shape(cell, 40, hidden, linear_before_reset=after, weight=0.3)
        scheme = Scheme(activations, gates="pwl:32", input="8", weights=4)
        tuning = Tuning(cache_bytes=0 if outgrown else 1 << 30)
        session = Session(Case(shape, lengths=(5, 5), scheme=scheme).quantized(), "cpu", 1, isa, tuning=tuning)
        for capacity in (1, 8):
            check_pool(session, hidden, ticks=5, most=1 if capacity == 1 else 6, capacity=capacity)


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("shape", [
    Shape("lstm", 3, 6, peephole=0.3), Shape("rnn", 3, 6, projection=4), Shape("lstm", 3, 6, forget="coupled"),
    Shape("gru", 3, 6, activations={"candidate": Activation("elu")}, weight=0.1),
])  # fmt: skip
def test_pools_of_cells_that_are_not_fused(shape: Shape) -> None:
    check_pool(Session(Case(shape, lengths=(5, 5)).quantized(), "cpu"), 0, ticks=8, most=6)


@pytest.mark.usefixtures("loops")
def test_pools_share_their_rows_out_over_threads() -> None:
    session = Session(LSTM.quantized(), "cpu", 3, tuning=Tuning(stream_task_macs=1, cores=3))
    check_pool(session, 1, ticks=10, most=30)
    pool = session.pool()
    numbers = [pool.open() for _ in range(20)]
    x = np.ones((20, 3))
    x[19, 2] = np.nan
    before = [pool.state(s) for s in numbers]
    with pytest.raises(DataError, match=r"value nan at \[19, 0, 2\]"):
        pool.step(numbers, {"x": x})
    for stream, state in zip(numbers, before, strict=True):
        assert_same_state(pool.state(stream), state)


@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_of_many_rows_go_without_copies(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays of any layout and type are read, those that users get stay theirs, and a stream's own arrays are read and written again."""
    model = LSTM.quantized()
    copying = Session(model, backend).stream(3)
    x = np.random.default_rng(0).normal(size=(9, 3, 3))
    want = [copying.step({"x": frame}) for frame in x[:7]]
    monkeypatch.setattr(stream_io, "IN_PLACE_VALUES", 1)
    check_pool(Session(model, backend), 0, ticks=6, most=5)
    stream = Session(model, backend).stream(3)
    read_only = x[2].copy()
    read_only.flags.writeable = False
    arrays = [x[0], np.asfortranarray(x[1]), read_only, x[3].astype(">f8"), x[4].tolist(), x[5].copy(), x[6]]
    got = [stream.step({"x": given}) for given in arrays]
    for one, other in zip(got, want, strict=True):
        assert_same(one, other)
    for wrong in ({"x": np.full((3, 3), np.nan)}, {"x": x[7], "z": x[7]}, {"x": x[7][:2]}, {}):
        with pytest.raises(DataError):
            stream.step(wrong)
    assert_same_state(stream.state, copying.state)
    stream.inputs["x"][...] = x[7]
    stream.advance()
    assert_same(dict(stream.outputs), copying.step({"x": x[7]}))
    assert_same(stream.step({"x": x[8].astype(np.float32)}), copying.step({"x": x[8].astype(np.float32)}))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stream_equals_the_whole_run(backend: str) -> None:
    model, data = LSTM.quantized(), LSTM.data()
    reference = Session(model, "reference")
    start = reference.initial_state(3, {"state": data["state"].reshape(3, -1)})
    whole = reference.run({"x": data["x"]}, state=start)
    stream = Session(model, backend).stream(3, start)
    for kind in (np.float64, np.float32):
        for t in range(7):
            got = stream.step({"x": data["x"][:, t].astype(kind)})
            if kind is np.float64:
                np.testing.assert_array_equal(got["y"], whole.outputs["y"][:, t])
        if kind is np.float64:
            assert_same_state(stream.state, whole.state)
        stream.reset(start)
        assert_same_state(stream.state, start)


def test_outputs_and_states_are_the_users_own() -> None:
    session = Session(LSTM.quantized())
    stream = session.stream()
    first, state = stream.step({"x": np.ones((1, 3))}), stream.state
    kept = (
        {name: value.copy() for name, value in first.items()},
        {n: (h.copy(), c.copy()) for n, (h, c) in state.layers.items()},
    )
    second = stream.step({"x": np.ones((1, 3))})
    assert_same(first, kept[0])
    assert_same_state(state, State(kept[1]))
    assert not np.array_equal(first["y"], second["y"])
    first["y"][:] = 9.0
    assert_same(session.step({"x": np.ones((1, 3))}, state).outputs, second)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.ones((1, 4)), r"shape \[1, 1, 4\], expected \[N, T, 3\]"),
        (np.ones((2, 3)), "inputs of 2 streams, expected 1"),
        (np.array([[0, np.inf, 0]]), r"value inf at \[0, 0, 1\], expected a finite number"),
        (np.array([[0, 1e39, 0]]), "expected a finite number of float32's range"),
        (np.ones((1, 3), complex), "type complex128, expected real numbers"),
        (np.array([["a", "b", "c"]]), "expected real numbers"),
        ([[1], [1, 2]], "not an array"),
    ],
)  # fmt: skip
def test_wrong_inputs_change_nothing(backend: str, x: Any, said: str) -> None:
    stream = Session(LSTM.quantized(), backend).stream()
    stream.step({"x": np.ones((1, 3))})
    state = stream.state
    with pytest.raises(DataError, match=said):
        stream.step({"x": x})
    assert_same_state(stream.state, state)
    stream.step({"x": [[1, 2, 3]]})


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [1, 3])
def test_steps_in_place(backend: str, size: int) -> None:
    """`Stream.advance` on its own arrays, and `Stream.step` on the user's: the same streams."""
    model = replace(LSTM, sequences=size, lengths=(7,) * size).quantized()
    session = Session(model, backend)
    given, own = session.stream(size), session.stream(size)
    x, outputs = own.inputs["x"], own.outputs
    for frame in np.random.default_rng(0).normal(size=(5, size, 3)):
        x[...] = frame
        own.advance()
        assert_same(outputs, given.step({"x": frame}))
        assert_same_state(own.state, given.state)
    x[-1, -1] = np.nan
    kept = {name: value.copy() for name, value in outputs.items()}
    with pytest.raises(DataError, match="input 'x': value nan"):
        own.advance()
    assert_same_state(own.state, given.state)
    assert_same(outputs, kept)
    assert own.inputs["x"] is x
    assert own.outputs is outputs


def test_unknown_and_missing_inputs() -> None:
    stream = Session(LSTM.quantized()).stream()
    with pytest.raises(DataError, match="'x' is missing"):
        stream.step({})
    with pytest.raises(DataError, match="'z' is not an input"):
        stream.step({"x": np.ones((1, 3)), "z": np.ones((1, 3))})
    with pytest.raises(DataError, match="'state' of kind state has no place in a stream's step"):
        stream.step({"x": np.ones((1, 3)), "state": np.ones((1, *LSTM.shape.state_shape))})


def test_wrong_streams_of_a_pool() -> None:
    session = Session(LSTM.quantized())
    pool = session.pool(2)
    first, second, third = (pool.open() for _ in range(3))
    assert len({first, second, third}) == 3
    assert pool.capacity == 4
    pool.close(second)
    x = np.ones((2, 3))
    for wrong in (second, 99, -1, 1 << 40):
        with pytest.raises(DataError, match=f"stream {wrong} is not open"):
            pool.step([first, wrong], {"x": x})
        with pytest.raises(DataError, match="is not open"):
            pool.close(wrong)
    again = pool.open()
    assert again not in (first, second, third)
    with pytest.raises(DataError, match=f"stream {second} is not open"):
        pool.state(second)
    with pytest.raises(DataError, match=f"stream {first} is given twice"):
        pool.step([first, first], {"x": x})
    with pytest.raises(DataError, match="expected the numbers of open streams"):
        pool.step([[first]], {"x": x})
    with pytest.raises(DataError, match="expected the numbers of open streams"):
        pool.step([0.5], {"x": x})
    assert pool.step([], {})["y"].shape == (0, 19)
    with pytest.raises(DataError, match="capacity=0"):
        session.pool(0)
    with pytest.raises(DataError, match="size=0"):
        session.stream(0)


def test_states_of_another_model_or_number_are_refused() -> None:
    session = Session(LSTM.quantized())
    with pytest.raises(DataError, match=r"int16\[2, 1, 19\], expected int16\[1, 1, 19\]"):
        session.pool().open(session.initial_state(2))
    with pytest.raises(DataError, match="expected int16"):
        session.stream(3, session.initial_state(2))


@pytest.mark.parametrize("backend", BACKENDS)
def test_tokens(backend: str) -> None:
    base = make_model(Shape("gru", 4, 6), np.random.default_rng(3))
    layer = base.layers[0]
    assert isinstance(layer, Recurrent)
    embedding = Embedding("embedding", "x", "e", np.random.default_rng(4).normal(size=(11, 4)))
    tensors = {**base.tensors, "x": TensorInfo(1, True), "e": TensorInfo(4, True)}
    inputs = (GraphInput("x", "tokens", (), True, vocabulary=11),)
    float_model = replace(base, inputs=inputs, layers=(embedding, replace(layer, input="e")), tensors=tensors)
    ids = np.random.default_rng(5).integers(0, 11, (3, 9))
    model = quantize(float_model, {"x": ids}, Scheme(input="8"))
    whole, stream = Session(model, "reference").run({"x": ids}), Session(model, backend).stream(3)
    for t in range(9):
        np.testing.assert_array_equal(stream.step({"x": ids[:, t]})["y"], whole.outputs["y"][:, t])
    state = stream.state
    for wrong in (-1, 11):
        with pytest.raises(DataError, match=f"value {wrong} at .*, expected a token in 0…10"):
            stream.step({"x": np.array([3, wrong, 5])})
    with pytest.raises(
        DataError, match=r"input 'x': shape \[3, 1, 1\], expected \[N, T\]"
    ):  # no features, as a flat input has
        stream.step({"x": ids[:, :1]})
    with pytest.raises(DataError, match=r"input 'x': shape \[3, 9, 1\], expected \[N, T\]"):
        Session(model, backend).run({"x": ids[:, :, None]})
    assert_same_state(stream.state, state)


def test_reverse_models_have_no_streams() -> None:
    session = Session(Case(Shape("gru", 3, 5, (False, True)), lengths=(5, 5)).quantized())
    for make in (session.stream, session.pool):
        with pytest.raises(DataError, match="reads the sequence backwards"):
            make()
