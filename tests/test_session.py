"""Sessions: whole runs, steps and chunks give the same bits; states, lengths and wrong data."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import Shape, make_model

import qrnn
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.errors import BackendError, DataError
from qrnn.examples import digits_calibration, digits_model, digits_test
from qrnn.model.boundary import dequantize_array, quantize_array
from qrnn.model.parts import TensorFormat
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session
from qrnn.running.state import RunResult, State

pytestmark = pytest.mark.usefixtures("loops")

DTLN = Path(__file__).parents[2] / "shared" / "models" / "thirdparty" / "dtln_model_1.onnx"
DTLN_DATA = Path(__file__).parents[2] / "shared" / "data" / "dtln_model_1_io.npz"
RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 9, 3))


@pytest.fixture(scope="module")
def digits() -> QuantModel:
    with np.load(digits_calibration()) as data:
        return quantize(qrnn.load_onnx(digits_model()), {"x": data["x"]}, Scheme(input="8"))


def small(cell: str = "lstm", **more: Any) -> QuantModel:
    shape = Shape(cell, **more)  # type: ignore[arg-type]
    model = make_model(shape, np.random.default_rng(1))
    data: dict[str, Any] = {"x": X}
    if shape.states:
        data["state"] = RNG.uniform(-0.5, 0.5, (4, 2, shape.layers, len(shape.directions), shape.hidden_size))
    return quantize(model, data, Scheme(input="8"))


def assert_same_state(a: State, b: State) -> None:
    assert a.layers.keys() == b.layers.keys()
    for name, pair in a.layers.items():
        for u, v in zip(pair, b.layers[name], strict=True):
            assert u.dtype == v.dtype
            np.testing.assert_array_equal(u, v)


def in_chunks(session: Session, inputs: dict[str, Any], sizes: list[int]) -> RunResult:
    """Runs over consecutive pieces of time, the state carried; outputs over time joined."""
    state, pieces, start = None, [], 0
    for size in sizes:
        result = session.run({k: v[:, start : start + size] for k, v in inputs.items()}, state=state)
        state, start = result.state, start + size
        pieces.append(result.outputs)
    assert state is not None
    timed = {o.name for o in session.model.outputs if o.has_time}
    outputs = {
        name: np.concatenate([p[name] for p in pieces], axis=1) if name in timed else pieces[-1][name]
        for name in pieces[0]
    }
    return RunResult(outputs, state)


# --- chunks and steps ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", available_backends())
@pytest.mark.parametrize(("cell", "layers"), [("lstm", 2), ("gru", 2), ("rnn", 1)])
def test_chunks_and_steps_equal_the_whole(cell: str, layers: int, backend: str) -> None:
    session = Session(small(cell, layers=layers, head=4), backend)
    whole = session.run({"x": X})
    for sizes in ([4, 5], [1, 7, 1], [1] * 9):
        pieces = in_chunks(session, {"x": X}, sizes)
        for name, value in whole.outputs.items():
            np.testing.assert_array_equal(pieces.outputs[name], value)
        assert_same_state(pieces.state, whole.state)
    state = None
    for t in range(X.shape[1]):
        result = session.step({"x": X[:, t]}, state)
        state = result.state
        np.testing.assert_array_equal(result.outputs["y"], whole.outputs["y"][:, t])
    assert state is not None
    assert_same_state(state, whole.state)
    np.testing.assert_array_equal(result.outputs["h"], whole.outputs["h"])


def test_the_bundled_model_in_chunks(digits: QuantModel) -> None:
    with np.load(digits_test()) as data:
        x, labels = data["x"], data["labels"]
    session = Session(digits)
    whole = session.run({"x": x})
    assert (whole.outputs["logits"][:, -1].argmax(axis=1) == labels).mean() >= 0.98
    for sizes in ([3, 5], [1] * 8):
        pieces = in_chunks(session, {"x": x}, sizes)
        np.testing.assert_array_equal(pieces.outputs["logits"], whole.outputs["logits"])
        assert_same_state(pieces.state, whole.state)


@pytest.mark.skipif(not DTLN.is_file(), reason="the shared models are not here")
def test_dtln_in_chunks_and_with_its_own_states() -> None:
    """A graph made for one step a call: whole, stepped by session state, and stepped by its own state input and output."""
    with np.load(DTLN_DATA) as data:
        magnitude = data["magnitude"][None, :60].astype(np.float64)
    float_model = qrnn.load_onnx(DTLN)
    session = Session(quantize(float_model, {"input_2": magnitude}, Scheme(input="16")))
    whole = session.run({"input_2": magnitude})
    pieces = in_chunks(session, {"input_2": magnitude}, [7, 1, 40, 12])
    mask, carried = (o.name for o in session.model.outputs)
    np.testing.assert_array_equal(pieces.outputs[mask], whole.outputs[mask])
    np.testing.assert_array_equal(pieces.outputs[carried], whole.outputs[carried])
    assert_same_state(pieces.state, whole.state)
    state_input = next(i.name for i in session.model.inputs if i.kind == "state")
    graph_state = np.zeros((1, 2, 128, 2))
    for t in range(60):
        result = session.run({"input_2": magnitude[:, t : t + 1], state_input: graph_state})
        graph_state = result.outputs[carried]
        np.testing.assert_array_equal(result.outputs[mask][:, 0], whole.outputs[mask][:, t])
    assert_same_state(result.state, whole.state)


# --- states ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_graph_state_inputs(cell: str) -> None:
    model = small(cell, states=True, layers=2)
    session = Session(model)
    whole = session.run({"x": X})
    zero = session.run({"x": X, "state": np.zeros((4, 2, 2, 1, 5))})
    np.testing.assert_array_equal(zero.outputs["y"], whole.outputs["y"])
    given = RNG.uniform(-0.5, 0.5, (4, 2, 2, 1, 5))
    start = session.initial_state(4, {"state": given.reshape(4, -1)})
    for number, layer in enumerate(model.recurrent_layers):
        h, c = start.layers[layer.name]
        np.testing.assert_array_equal(h[:, 0], np.clip(np.floor(given[:, 0, number, 0] * 2**15 + 0.5), -32767, 32767))
        if cell == "lstm":
            np.testing.assert_array_equal(c[:, 0], np.floor(given[:, 1, number, 0] * 2.0**layer.c_frac + 0.5))
        else:
            assert c.shape == (4, 1, 0)
    by_values = session.run({"x": X, "state": given})
    by_state = session.run({"x": X}, state=start)
    assert not np.array_equal(by_values.outputs["y"], whole.outputs["y"])
    np.testing.assert_array_equal(by_values.outputs["y"], by_state.outputs["y"])
    with pytest.raises(DataError, match="both state= and the graph state input 'state'"):
        session.run({"x": X, "state": given}, state=start)
    # A state far beyond the format saturates instead of wrapping
    huge = session.initial_state(4, {"state": np.full((4, 20), 1e9)}).layers
    for h, c in huge.values():
        assert (h == 32767).all()
        assert (c == 2**31 - 1).all()


def test_states_are_values() -> None:
    session = Session(small("lstm"))
    first = session.run({"x": X})
    kept = {name: (h.copy(), c.copy()) for name, (h, c) in first.state.layers.items()}
    session.run({"x": X}, state=first.state)
    assert_same_state(first.state, State(kept))
    assert first.state.size == 4


def test_wrong_states() -> None:
    session = Session(small("lstm"))
    good = session.run({"x": X}).state
    (name, (h, c)) = next(iter(good.layers.items()))
    wrong: dict[str, Any] = {
        "is missing": State({}),
        "is missing, expected": State({"other": (h, c)}),
        "no layer of the model with a state": State({name: (h, c), "other": (h, c)}),
        r"h is int16\[3, 1, 5\], expected int16\[4, 1, 5\]": State({name: (h[:3], c[:3])}),
        r"h is int16\[4, 1, 10\], expected int16\[4, 1, 5\]": State({name: (np.repeat(h, 2, axis=2), c)}),
        r"c is int32\[4, 1, 0\], expected int32\[4, 1, 5\]": State({name: (h, c[:, :, :0])}),
        "h is float64": State({name: (h.astype(np.float64), c)}),
        r"h is >i2": State({name: (h.astype(">i2"), c)}),
        "h is list": State({name: (h.tolist(), c)}),  # type: ignore[dict-item]
        "h is MaskedArray": State({name: (np.ma.masked_array(h), c)}),
        r"c is int16\[4, 1, 5\], expected int32": State({name: (h, c.astype(np.int16))}),  # type: ignore[dict-item]
        "is ndarray of 4, expected the two arrays": State({name: h}),  # type: ignore[dict-item]
        "is NoneType, expected the two arrays": State({name: None}),  # type: ignore[dict-item]
        "state: dict, expected a State": {name: (h, c)},
        "state: RunResult, expected a State": session.run({"x": X}),
    }
    for says, state in wrong.items():
        with pytest.raises(DataError, match=says):
            session.run({"x": X}, state=state)
        with pytest.raises(DataError, match=says):
            session.step({"x": X[:, 0]}, state)
        with pytest.raises(DataError, match=says):
            session.stream(4, state)
        with pytest.raises(DataError, match=says):
            session.stream(4).reset(state)


def test_reverse_models_cannot_step() -> None:
    for directions in ((True,), (False, True)):
        session = Session(small("gru", directions=directions))
        assert session.run({"x": X}).outputs["y"].shape == (4, 9, 5 * len(directions))
        with pytest.raises(DataError, match="reads the sequence backwards and cannot be streamed; use run"):
            session.step({"x": X[:, 0]})


# --- lengths and chunks of the batch ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", available_backends())
@pytest.mark.parametrize("directions", [(False,), (True,), (False, True)])
def test_padding_is_masked_exactly(directions: tuple[bool, ...], backend: str) -> None:
    session = Session(small("lstm", directions=directions, head=3), backend)
    lengths = np.array([9, 1, 4, 7])
    padded = X.copy()
    for n, length in enumerate(lengths):
        padded[n, length:] = 1e6
    result = session.run({"x": padded}, lengths)
    again = session.run({"x": padded, "lengths": lengths, "labels": "ignored"})
    np.testing.assert_array_equal(again.outputs["y"], result.outputs["y"])
    for n, length in enumerate(lengths):
        alone = session.run({"x": X[n : n + 1, :length]})
        np.testing.assert_array_equal(result.outputs["y"][n, :length], alone.outputs["y"][0])
        assert (result.outputs["y"][n, length:] == 0).all()
        np.testing.assert_array_equal(result.outputs["h"][n], alone.outputs["h"][0])
        np.testing.assert_array_equal(result.outputs["c"][n], alone.outputs["c"][0])


@pytest.mark.parametrize("backend", available_backends())
def test_a_sequence_may_have_no_steps(backend: str) -> None:
    """Its outputs are zero, its state stays, and the others run as without it."""
    session = Session(small("lstm", directions=(False, True), states=True), backend)
    start = session.initial_state(4, {"state": RNG.uniform(0.1, 1, (4, 20))})
    result = session.run({"x": X}, [0, 9, 0, 3], start)
    without = session.run(
        {"x": X[[1, 3]]}, [9, 3], State({k: (h[[1, 3]], c[[1, 3]]) for k, (h, c) in start.layers.items()})
    )
    for name, value in result.outputs.items():
        assert not value[[0, 2]].any()
        np.testing.assert_array_equal(value[[1, 3]], without.outputs[name])
    for name, pair in result.state.layers.items():
        for now, before, alone in zip(pair, start.layers[name], without.state.layers[name], strict=True):
            np.testing.assert_array_equal(now[[0, 2]], before[[0, 2]])
            np.testing.assert_array_equal(now[[1, 3]], alone)
    none = session.run({"x": X}, [0] * 4, start)
    assert_same_state(none.state, start)
    assert all(value.shape == result.outputs[name].shape and not value.any() for name, value in none.outputs.items())


def test_large_batches_are_run_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(small("lstm", states=True))
    lengths = np.array([2, 3, 9, 1])
    given = {"x": X, "state": RNG.uniform(-1, 1, (4, 2, 1, 1, 5))}
    start = session.initial_state(4, {"state": given["state"].reshape(4, -1)})
    whole = session.run(given, lengths)
    calls = []
    original = session.run_batch
    monkeypatch.setattr(session, "run_batch", lambda *a, **k: calls.append(a[0].steps) or original(*a, **k))
    monkeypatch.setattr(type(session.engine), "chunk_elements", 1)
    for result in (session.run(given, lengths), session.run({"x": X}, lengths, start)):
        for name, value in whole.outputs.items():
            np.testing.assert_array_equal(result.outputs[name], value)
        assert_same_state(result.state, whole.state)
    assert calls == [2, 3, 9, 1] * 2


def test_many_threads_on_one_session(digits: QuantModel) -> None:
    with np.load(digits_test()) as data:
        x = data["x"]
    session = Session(digits)
    expected = session.run({"x": x}).outputs["logits"]
    wrong: list[str] = []

    def work(number: int) -> None:
        for k in range(20):
            start = (number * 31 + k * 7) % 300
            got = session.run({"x": x[start : start + 40]}).outputs["logits"]
            if not np.array_equal(got, expected[start : start + 40]):
                wrong.append(f"{number}, {k}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("threads", [1, 2, 3, 64])
def test_number_of_threads_changes_nothing(digits: QuantModel, threads: int) -> None:
    with np.load(digits_test()) as data:
        x = data["x"][:50]
    expected = Session(digits, "cpu").run({"x": x}).outputs["logits"]
    np.testing.assert_array_equal(Session(digits, "cpu", threads).run({"x": x}).outputs["logits"], expected)


# --- wrong data ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "lengths", "says"),
    [
        ({}, None, "'x' is missing"),
        ({"x": X, "z": X}, None, "'z' is not an input"),
        ({"x": X[:0]}, None, "at least 1"),
        ({"x": X[:, :0]}, None, "at least 1"),
        ({"x": X[..., :0]}, None, r"\[4, 9, 0\], expected \[N, T, 3\]"),
        ({"x": X[0]}, None, r"\[9, 3\], expected \[N, T, 3\]"),
        ({"x": 3.0}, None, r"\[\], expected \[N, T, 3\]"),
        ({"x": None}, None, r"expected \[N, T, 3\]"),
        ({"x": [[[1.0, 2.0, 3.0]], [[1.0]]]}, None, "rows of one length"),
        ({"x": X.astype(complex)}, None, "complex128"),
        ({"x": np.where(X > 1.5, np.nan, X)}, None, "nan at .*, expected a finite number"),
        ({"x": np.where(X > 1.5, 3.5e38, X)}, None, r"3.5e\+38 at .*, expected a finite number of float32's range"),
        ({"x": X}, [9, 9, 9], "lengths"),
        ({"x": X}, [9, 9, 9, 10], "value 10 at"),
        ({"x": X}, [9, 9, 9, -1], "value -1 at"),
        ({"x": X}, [9.0] * 4, "expected integers"),
        ({"x": X}, [[9], [9, 9]], "rows of one length"),
        ({"x": X}, 9, r"int64\[\], expected integers \[4\]"),
    ],
)
def test_wrong_data(inputs: dict[str, Any], lengths: Any, says: str) -> None:
    session = Session(small("rnn"))
    with pytest.raises(DataError, match=says) as caught:
        session.run(inputs, lengths)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [3.0, None, X, X[0, 0], [[1.0], [1.0, 2.0, 3.0]], X[:0, 0]])
def test_wrong_data_for_a_step(value: Any) -> None:
    with pytest.raises(DataError, match="input 'x'"):
        Session(small("rnn")).step({"x": value})


def test_different_numbers_of_sequences() -> None:
    with pytest.raises(DataError, match="'state' has 3 sequences, input 'x' has 4; expected the same N"):
        Session(small("lstm", states=True)).run({"x": X, "state": np.zeros((3, 2, 1, 1, 5))})


def test_wrong_sessions() -> None:
    model = small("rnn")
    for threads in (0, -1, 1.5, True, "2"):
        with pytest.raises(DataError, match=f"threads={threads!r}, expected a whole number of at least 1"):
            Session(model, threads=threads)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="backend 'tpu' is unknown; expected one of cpu, cuda, reference"):
        Session(model, "tpu")


def test_flat_and_integer_inputs_are_taken(digits: QuantModel) -> None:
    session = Session(digits)
    x = RNG.integers(0, 2, (2, 8, 8))
    for same in (x.astype(np.uint8), x.astype(np.float16), x.tolist(), np.asfortranarray(x.astype(np.float32))):
        np.testing.assert_array_equal(
            session.run({"x": same}).outputs["logits"], session.run({"x": x}).outputs["logits"]
        )


# --- the boundary between floats and integers ------------------------------------------------------------------------------------------


def test_quantize_array() -> None:
    fmt = TensorFormat(1, True, 8, (0.5,), 127)
    values = np.array([0.0, 0.24, 0.25, -0.25, -0.26, 0.74, 0.75, 63.5, 63.8, 1e300, -1e300])
    np.testing.assert_array_equal(quantize_array(values, fmt), [0, 0, 1, 0, -1, 1, 2, 127, 127, 127, -127])
    per_feature = TensorFormat(2, True, 8, (0.5, 2.0), 127)
    np.testing.assert_array_equal(quantize_array(np.array([[3.0, 3.0]]), per_feature), [[6, 2]])
    np.testing.assert_array_equal(dequantize_array(np.array([[6, 2]], np.int16), per_feature), [[3.0, 4.0]])


def test_values_at_the_end_of_float32() -> None:
    """They saturate like any value beyond the calibrated range, without a warning."""
    model = small("gru")
    tiny = replace(model.tensors["x"], scale=(1e-60,))
    session = Session(replace(model, tensors={**model.tensors, "x": tiny}))
    top = session.run({"x": np.full((1, 2, 3), 3.4e38)}).outputs["y"]
    np.testing.assert_array_equal(top, session.run({"x": np.full((1, 2, 3), 10.0)}).outputs["y"])


def test_outputs_have_the_shapes_of_the_graph() -> None:
    model = small("lstm", states=True, layers=2)
    result = Session(model).run({"x": X})
    assert {k: v.shape for k, v in result.outputs.items()} == {"y": (4, 9, 5), "h": (4, 5), "c": (4, 5)}
    assert all(v.dtype == np.float64 for v in result.outputs.values())
    h, c = result.state.layers["layer1"]
    np.testing.assert_array_equal(result.outputs["h"], h[:, 0] * 2.0**-15)
    np.testing.assert_array_equal(result.outputs["c"], c[:, 0] * 2.0 ** -model.recurrent_layers[1].c_frac)
    np.testing.assert_array_equal(result.outputs["y"][:, -1], result.outputs["h"])
