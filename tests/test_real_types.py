"""Outputs have the type of the real inputs, float32 or float64, or that which is asked for; a float32 is the float64, rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import Shape, make_model

import qrnn
from qrnn.errors import DataError

RNG = np.random.default_rng(2)
N, T, F = 5, 4, 3
X = RNG.normal(size=(N, T, F)).astype(np.float16)
"""All types hold these values."""

LENGTHS = np.array([4, 0, 2, 4, 1])
MODELS = {
    "outputs of states": Shape(states=True),
    "a softmax": Shape("gru", head=4, projected="softmax"),
    "one tensor": Shape("rnn"),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> qrnn.QuantModel:
    shape = MODELS[request.param]
    data = {"x": X.astype(np.float64)}
    if shape.states:
        data["state"] = RNG.uniform(-0.5, 0.5, (N, *shape.state_shape))
    return qrnn.quantize(make_model(shape, np.random.default_rng(1)), data)


def outputs_of(session: qrnn.Session, way: str, x: Any, real: str | None) -> dict[str, Any]:
    """The outputs of x by one of the ways to run it."""
    if way == "whole":
        return session.run({"x": x}, real=real).outputs
    if way == "padded":
        return session.run({"x": x}, LENGTHS, real=real).outputs
    if way == "in pieces":
        return session.run({"x": x}, progress=lambda *_: None, real=real).outputs
    if way == "last steps":
        return session.run({"x": x}, steps="last", real=real).outputs
    if way == "chunks":
        found = list(session.run_chunks([{"x": x[:2]}, {"x": x[2:], "lengths": LENGTHS[2:]}], real=real))
        return {name: np.concatenate([chunk[name] for chunk in found]) for name in found[0]}
    if way == "step":
        return session.step({"x": x[:, 0]}, real=real).outputs
    if way == "stream":
        return session.stream(N, real=real).step({"x": x[:, 0]})
    pool = session.pool(1, real=real)
    return pool.step([pool.open() for _ in range(N)], {"x": x[:, 0]})


@pytest.mark.parametrize("way", ["whole", "padded", "in pieces", "last steps", "chunks", "step", "stream", "pool"])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_outputs_have_the_type_of_the_inputs(backend: str, way: str, model: qrnn.QuantModel) -> None:
    session = qrnn.Session(model, backend)
    want = outputs_of(session, way, X.astype(np.float64), "float64")
    assert all(values.dtype == np.float64 for values in want.values())
    kinds: list[Any] = [np.float64, np.float32, np.float16, np.float64]
    for kind in kinds:
        for real, dtype in (
            (None, np.float64 if kind is np.float64 else np.float32),
            *((r, np.dtype(r)) for r in ("float32", "float64")),
        ):
            got = outputs_of(session, way, X.astype(kind), real)
            assert got.keys() == want.keys()
            for name, values in got.items():
                assert values.dtype == dtype, (kind, real)
                np.testing.assert_array_equal(values, want[name].astype(dtype))


@given(
    st.lists(st.sampled_from(["e", "f", "d", "list"]), min_size=1, max_size=6),
    st.sampled_from([None, "float32", "float64"]),
)
def test_a_stream_goes_on_from_any_type(stepped: Any, kinds: list[str], real: str | None) -> None:
    """States are the same whatever type a step has."""
    session = stepped
    stream, pool, state = session.stream(N, real=real), session.pool(N, real=real), session.initial_state(N)
    streams = [pool.open() for _ in range(N)]
    for t, kind in enumerate(kinds):
        x = X[:, t % T]
        frame: Any = x.tolist() if kind == "list" else x.astype(kind)
        result = session.step({"x": x.astype(np.float64)}, state, real="float64")
        state, want = result.state, result.outputs["y"]
        dtype = real or ("float32" if kind in "ef" else "float64")
        for got in (stream.step({"x": frame}), pool.step(streams, {"x": frame})):
            assert got["y"].dtype == dtype
            np.testing.assert_array_equal(got["y"], want.astype(dtype))
    for name, arrays in state.layers.items():
        for one, other in zip(arrays, stream.state.layers[name], strict=True):
            np.testing.assert_array_equal(one, other)
    assert stream.finish().outputs["y"].dtype == dtype


@pytest.fixture(scope="module")
def stepped() -> qrnn.Session:
    found = make_model(Shape("lstm"), np.random.default_rng(3))
    return qrnn.Session(qrnn.quantize(found, {"x": X.astype(np.float64)}))


def test_advance_goes_from_the_type_that_was_asked_for(stepped: qrnn.Session) -> None:
    want = stepped.step({"x": X[:, 0]}, real="float64").outputs["y"]
    for real, dtype in ((None, "float64"), ("float64", "float64"), ("float32", "float32")):
        stream = stepped.stream(N, real=real)
        assert stream.inputs["x"].dtype == stream.outputs["y"].dtype == dtype
        stream.inputs["x"][...] = X[:, 0]
        stream.advance()
        np.testing.assert_array_equal(stream.outputs["y"], want.astype(dtype))


def test_one_input_of_float64_among_others_makes_outputs_float64() -> None:
    x, h = qrnn.layers.input("x", features=F), qrnn.layers.input("h", features=F)
    y = qrnn.layers.rnn(qrnn.layers.add(x, h), RNG.normal(size=(2, F)), RNG.normal(size=(2, 2))).output
    found = qrnn.layers.model("two", outputs={"y": y})
    session = qrnn.Session(qrnn.quantize(found, {"x": X, "h": X}))
    for kinds in ("ff", "ef", "fd", "df", "dd"):
        got = session.run({"x": X.astype(kinds[0]), "h": X.astype(kinds[1])}).outputs["y"]
        assert got.dtype == (np.float64 if "d" in kinds else np.float32)


def test_integers_are_exact_from_float32_on(stepped: qrnn.Session) -> None:
    q = RNG.integers(-100, 100, X.shape).astype(np.int16)
    got = stepped.run({"x": q}, integers=True).outputs["y"]
    assert got.dtype == np.int16
    for ask in (stepped.run, lambda inputs, **more: stepped.step({"x": inputs["x"][:, 0]}, **more)):
        with pytest.raises(DataError, match="real='float32': outputs are integers"):
            ask({"x": q}, integers=True, real="float32")
    for make in (stepped.stream, stepped.pool):
        with pytest.raises(DataError, match="real='float64': outputs are integers"):
            make(integers=True, real="float64")


def test_other_types_are_refused(stepped: qrnn.Session) -> None:
    for real in ("float16", "f", np.float32, 32):
        with pytest.raises(DataError, match=r"expected 'float32' or 'float64', or None for the type of the inputs"):
            stepped.run({"x": X}, real=real)  # type: ignore[arg-type]
