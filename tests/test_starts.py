"""Initial states that are computed: of another layer's last states, over another time axis or the same, and of features without time."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from export.building import check
from hypothesis import given, settings
from hypothesis import strategies as st

import qrnn
from qrnn import DataError, Session, layers
from qrnn.accuracy.compare import compare
from qrnn.accuracy.explain import explain
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import ModelFileError
from qrnn.model.boundary import quantize_array
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.quant_model import QuantModel

pytestmark = pytest.mark.usefixtures("loops")

Array = npt.NDArray[Any]

EIGHT = qrnn.Scheme(input="8")

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def cell(rng: np.random.Generator, kind: str, x: Any, hidden: int, gain: float = 0.5, **options: Any) -> Any:
    """A recurrent layer with drawn weights."""
    rows = GATES[kind] * hidden
    arrays = (gain * rng.normal(size=(rows, x.features)), gain * rng.normal(size=(rows, hidden)), rng.normal(size=rows))
    return getattr(layers, kind)(x, *arrays, **options)


def bridge(rng: np.random.Generator, t: Any, size: int, function: str | None, gain: float = 1.0) -> Any:
    y = layers.dense(t, gain * rng.normal(size=(size, t.features)), rng.normal(size=size))
    return y if function is None else layers.activation(y, function)


def encoder_decoder(kind: str = "lstm", seed: int = 0, axis: str = "future") -> FloatModel:
    """Layer k of a stacked encoder starts layer k of the decoder."""
    rng = np.random.default_rng(seed)
    a, b = layers.input("past", 3, axis="past"), layers.input("future", 2, axis=axis)
    first = cell(rng, kind, a, 4)
    second = cell(rng, kind, first.output, 4)
    d = b
    for encoder in (first, second):
        c = {"c_0": encoder.c_n} if kind == "lstm" else {}
        d = cell(rng, kind, d, 4, h_0=encoder.h_n, **c).output
    return layers.model("m", {"y": layers.dense(d, rng.normal(size=(2, 4)))})


def drawn(draw: Any) -> FloatModel:
    """A model in which what starts a layer, over which axis, and of which cells, is drawn."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind, other = (draw(st.sampled_from(list(GATES))) for _ in range(2))
    axis = draw(st.sampled_from(["past", "future"]))
    a, b = layers.input("past", 3, axis="past"), layers.input("future", 2, axis=axis)
    static = layers.input("static", 3, has_time=False)
    H, both = draw(st.integers(1, 5)), draw(st.booleans())
    options = {"activation": "relu"} if kind == "rnn" and draw(st.booleans()) else {}
    encoder = cell(rng, kind, a, H, **options)
    if both:
        encoder = layers.bidirectional(encoder, cell(rng, kind, a, H, reverse=True, **options))
    wide = (2 if both else 1) * H
    sources = {"h_n": encoder.h_n, "static": static}
    if encoder.c_n is not None:
        sources["c_n"] = encoder.c_n

    def start() -> Any:
        source = sources[draw(st.sampled_from(list(sources)))]
        if source.features == wide and draw(st.booleans()):
            return source
        return bridge(rng, source, wide, draw(st.sampled_from([None, "tanh"])), draw(st.sampled_from([0.3, 5.0])))

    def decoder(reverse: bool = False) -> Any:
        states = {"h_0": start()} if other != "lstm" or draw(st.booleans()) else {"c_0": start()}
        if other == "lstm" and draw(st.booleans()):
            states["c_0"] = start()
        return cell(rng, other, b, wide, reverse=reverse, **states)

    d = decoder()
    if draw(st.booleans()):
        d = layers.bidirectional(d, decoder(reverse=True))
    outputs = {"y": d.output, "last": d.h_n, "state": encoder.h_n}
    if d.c_n is not None:
        outputs["cells"] = d.c_n
    return layers.model("m", outputs)


def data_of(model: FloatModel | QuantModel, rng: np.random.Generator, size: int = 5, **steps: int) -> dict[str, Array]:
    shapes = {i.name: (size, *([steps.get(i.axis, 6)] if i.has_time else []), i.features) for i in model.inputs}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def lengths_of(model: QuantModel, data: dict[str, Array], draw: Any) -> Any:
    """Drawn lengths of every time axis, zeros among them."""
    axes = {i.axis: data[i.name].shape[1] for i in model.inputs if i.has_time}
    size = len(next(iter(data.values())))
    found = {axis: np.array([draw(st.integers(0, steps)) for _ in range(size)]) for axis, steps in axes.items()}
    return found if len(found) > 1 else next(iter(found.values()))


def same(want: Any, got: Any) -> None:
    for name, values in want.outputs.items():
        np.testing.assert_array_equal(got.outputs[name], values, err_msg=name)
        np.testing.assert_array_equal(got.lengths[name], want.lengths[name], err_msg=name)
    for name, arrays in want.state.layers.items():
        for a, b in zip(arrays, got.state.layers[name], strict=True):
            np.testing.assert_array_equal(a, np.asarray(b), err_msg=name)


@pytest.mark.parametrize("backend", [name for name in available_backends() if name != "reference"])
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_every_backend_has_the_bits_of_the_reference(backend: str, data: st.DataObject) -> None:
    model, rng = drawn(data.draw), np.random.default_rng(1)
    made = quantize(model, data_of(model, rng, past=6, future=4), EIGHT)
    x = data_of(made, rng, past=5, future=3)
    want, got = (Session(made, name) for name in ("reference", backend))
    same(want.run(x), got.run(x))
    lengths = lengths_of(made, x, data.draw)
    same(want.run(x, lengths), got.run(x, lengths))


@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_extremes(data: st.DataObject) -> None:
    """Starts that saturate: calibrated with small numbers, run with the ends of the range."""
    model, rng = drawn(data.draw), np.random.default_rng(1)
    small = {name: 1e-3 * values for name, values in data_of(model, rng, past=4, future=4).items()}
    made = quantize(model, small, qrnn.Scheme(input="16"))
    x = {name: np.where(values > 0, 1e6, -1e6) for name, values in data_of(made, rng, past=3, future=3).items()}
    same(Session(made, "reference").run(x), Session(made, "cpu").run(x))


@pytest.mark.parametrize("kind", list(GATES))
def test_accuracy(kind: str) -> None:
    model, rng = encoder_decoder(kind), np.random.default_rng(2)
    data = data_of(model, rng, size=16, past=9, future=5)
    made = quantize(model, data, qrnn.Scheme(activations=16))
    lengths = {"past": rng.integers(1, 10, 16), "future": rng.integers(0, 6, 16)}
    report = compare(model, made, {**data, "lengths": lengths})
    assert report.outputs["y"].sqnr_db > 35
    assert explain(model, made, {**data, "lengths": lengths}).costs


def test_equation_of_the_float_model() -> None:
    """A decoder begins with what the encoder ended with: one layer over both sequences, one behind the other, gives the same."""
    rng = np.random.default_rng(3)
    w, u, b = rng.normal(size=(16, 2)), rng.normal(size=(16, 4)), rng.normal(size=16)
    past, future = (layers.input(name, 2, axis=name) for name in ("past", "future"))
    e = layers.lstm(past, w, u, b)
    apart = layers.model("m", {"y": layers.lstm(future, w, u, b, h_0=e.h_n, c_0=e.c_n).output})
    one = layers.model("m", {"y": layers.lstm(layers.input("x", 2), w, u, b).output})
    data = data_of(apart, rng, past=4, future=3)
    lengths = {"past": np.array([4, 3, 0, 1, 4]), "future": np.array([3, 0, 2, 3, 1])}
    got = run_oracle(apart, data, lengths).outputs["y"]
    for n in range(5):
        p, f = (int(lengths[axis][n]) for axis in ("past", "future"))
        if p + f:
            x = np.concatenate([data["past"][n, :p], data["future"][n, :f]])[None]
            np.testing.assert_allclose(got[n, :f], run_oracle(one, {"x": x}).outputs["y"][0, p:], atol=1e-12)


def test_the_same_integers_go_on() -> None:
    """A decoder of its encoder's weights and formats has the bits of one layer over both sequences."""
    rng = np.random.default_rng(4)
    w, u, b = rng.normal(size=(16, 2)), rng.normal(size=(16, 4)), rng.normal(size=16)
    past, future = (layers.input(name, 2, axis=name) for name in ("past", "future"))
    e = layers.lstm(past, w, u, b)
    model = layers.model("m", {"y": layers.lstm(future, w, u, b, h_0=e.h_n, c_0=e.c_n).output})
    x = rng.normal(size=(6, 7, 2))
    made = quantize(model, {"past": x, "future": x}, EIGHT)
    one = quantize(layers.model("m", {"y": layers.lstm(layers.input("x", 2), w, u, b).output}), {"x": x}, EIGHT)
    first, second = made.recurrent_layers
    assert (
        (first.h_frac, first.c_frac) == (second.h_frac, second.c_frac) == (one.layers[0].h_frac, one.layers[0].c_frac)
    )
    got = Session(made).run({"past": x[:, :4], "future": x[:, 4:]}).outputs["y"]
    np.testing.assert_array_equal(got, Session(one).run({"x": x}).outputs["y"][:, 4:])


def captioner(seed: int = 0) -> FloatModel:
    """Features without time start the layer; a layer with a ring reads what it gives."""
    rng = np.random.default_rng(seed)
    x, features = layers.input("x", 3), layers.input("features", 4, has_time=False)
    h = cell(rng, "lstm", x, 5, h_0=bridge(rng, features, 5, "tanh"), c_0=bridge(rng, features, 5, None))
    return layers.model("m", {"y": h.output, "cells": layers.dense(h.c_n, rng.normal(size=(2, 5)))})


@pytest.mark.parametrize("backend", available_backends())
def test_chunks_streams_and_pools_begin_once(backend: str) -> None:
    model, rng = captioner(), np.random.default_rng(5)
    data = data_of(model, rng)
    session = Session(quantize(model, data, EIGHT), backend)
    whole, zeros = session.run(data), np.zeros_like(data["features"])
    first = session.run({"x": data["x"][:, :2], "features": data["features"]}, end=False)
    state = session.load_state(session.save_state(first.state))
    rest = session.run({"x": data["x"][:, 2:], "features": zeros}, state=state)
    np.testing.assert_array_equal(np.concatenate([first.outputs["y"], rest.outputs["y"]], 1), whole.outputs["y"])
    stream, state = session.stream(5), None
    for t in range(6):
        given = {"x": data["x"][:, t], "features": data["features"] if t == 0 else zeros}
        np.testing.assert_array_equal(stream.step(given)["y"], whole.outputs["y"][:, t])
        step = session.step(given, state)
        np.testing.assert_array_equal(step.outputs["y"], whole.outputs["y"][:, t])
        state = step.state
    pool = session.pool(2)
    one, two = pool.open(), pool.open()
    pool.step([one], {"x": data["x"][:1, 0], "features": data["features"][:1]})
    both = pool.step([two, one], {"x": data["x"][[1, 0], [0, 1]], "features": data["features"][[1, 2]]})
    np.testing.assert_array_equal(both["y"], whole.outputs["y"][[1, 0], [0, 1]])


def test_a_sequence_of_no_steps_has_not_begun() -> None:
    model, rng = captioner(), np.random.default_rng(6)
    data = data_of(model, rng)
    session = Session(quantize(model, data, EIGHT))
    nothing = session.run(data, lengths=np.array([0, 6, 0, 1, 0]), end=False)
    again = session.run(data, state=nothing.state)
    np.testing.assert_array_equal(again.outputs["y"][0], session.run(data).outputs["y"][0])


def test_streams_of_a_decoder_are_refused_by_name() -> None:
    model = encoder_decoder()
    data = data_of(model, np.random.default_rng(0))
    session = Session(quantize(model, data, EIGHT))
    says = "layer 'lstm_2', whose initial state is computed from a sequence, gives at every step what only the end"
    for call in (session.stream, lambda: session.run(data, end=False)):
        with pytest.raises(DataError, match=says):
            call()


@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=4)
@given(data=st.data())
def test_streams_of_a_decoder_whose_encoder_is_given_whole(backend: str, data: st.DataObject) -> None:
    """Each step has the bits of the whole run, for every length of the given sequences."""
    kind = data.draw(st.sampled_from(list(GATES)))
    made = made_of(kind)
    x = data_of(made, np.random.default_rng(data.draw(st.integers(0, 2**32))), size=3, past=4, future=3)
    lengths = np.array([data.draw(st.integers(0, 4)) for _ in range(3)])
    session = Session(made, backend)
    whole = session.run(x, {"past": lengths}).outputs["y"]
    stream = session.stream(inputs={"past": x["past"]}, lengths=lengths)
    for _ in range(2):
        for t in range(3):
            np.testing.assert_array_equal(stream.step({"future": x["future"][:, t]})["y"], whole[:, t])
        stream.reset()
    stream.inputs["future"][...] = x["future"][:, 0]
    stream.advance()
    np.testing.assert_array_equal(stream.outputs["y"], whole[:, 0])


@cache
def made_of(kind: str) -> QuantModel:
    model = encoder_decoder(kind)
    return quantize(model, data_of(model, np.random.default_rng(0)), EIGHT)


def test_streams_read_a_vector_of_the_given_sequence() -> None:
    """An encoder's last state that the decoder reads at each of its steps is held; integers go in and out as they are."""
    rng = np.random.default_rng(7)
    a, b = layers.input("past", 3, axis="past"), layers.input("future", 2, axis="future")
    e = cell(rng, "gru", a, 4)
    x = layers.concat(b, layers.repeat(bridge(rng, e.h_n, 3, "tanh"), b))
    model = layers.model("m", {"y": cell(rng, "lstm", x, 4, h_0=e.h_n).output, "other": e.output})
    data = data_of(model, rng, past=4, future=3)
    session = Session(quantize(model, data, EIGHT), integers=True)
    q = {name: values.astype(np.int16) for name, values in integers_of(session.model, data).items()}
    whole, stream = session.run(q).outputs["y"], session.stream(inputs={"past": q["past"]})
    for t in range(3):
        np.testing.assert_array_equal(stream.step({"future": q["future"][:, t]})["y"], whole[:, t])
    assert set(stream.outputs) == {"y"}


def integers_of(model: QuantModel, data: dict[str, Array]) -> dict[str, Array]:
    return {name: quantize_array(values, model.tensors[name]) for name, values in data.items()}


def test_what_cannot_be_streamed_behind_given_sequences() -> None:
    rng = np.random.default_rng(8)
    a, b = layers.input("past", 3, axis="past"), layers.input("future", 2, axis="future")
    e = cell(rng, "gru", a, 4)
    d = cell(rng, "gru", b, 4, h_0=e.h_n)
    model = layers.model("m", {"y": layers.attention(d.output, e.output, e.output, name="reads")})
    data = data_of(model, rng)
    session = Session(quantize(model, data, EIGHT))
    with pytest.raises(
        DataError, match=r"layer 'reads' reads 'gru\w*' of the sequences that are given at each of its steps"
    ):
        session.stream(inputs={"past": data["past"]})
    with pytest.raises(DataError, match="start no layer that computes an output from the others"):
        session.stream(inputs={"future": data["future"]})
    with pytest.raises(DataError, match="size and state follow from the sequences"):
        session.stream(3, inputs={"past": data["past"]})
    with pytest.raises(DataError, match="array 'other' is not an input of the model"):
        session.stream(inputs={"other": data["past"]})


def test_lengths_beside_the_arrays() -> None:
    """A file holds the lengths of each axis under a name of its own."""
    model = encoder_decoder()
    data = data_of(model, np.random.default_rng(0), past=4, future=3)
    session = Session(quantize(model, data, EIGHT))
    lengths = {"past": np.array([4, 2, 1, 0, 3]), "future": np.array([3, 0, 1, 2, 3])}
    beside = {f"lengths.{axis}": values for axis, values in lengths.items()}
    same(session.run(data, lengths), session.run({**data, **beside}))
    with pytest.raises(DataError, match=r"lengths: one array for a model with the time axes \['future', 'past'\]"):
        session.run(data, lengths=np.array([1, 1, 1, 1, 1]))
    with pytest.raises(DataError, match=r"array 'lengths\.other' is not an input of the model"):
        session.run({**data, "lengths.other": lengths["past"]})


def test_files_keep_starts(tmp_path: Path) -> None:
    model = encoder_decoder("gru")
    data = data_of(model, np.random.default_rng(0))
    made = quantize(model, data, EIGHT)
    qrnn.save(made, tmp_path / "m.qrnn")
    same(Session(made).run(data), Session(qrnn.load(tmp_path / "m.qrnn")).run(data))


@pytest.mark.parametrize(
    ("field", "values", "says"),
    [
        ("positions", [0, 1, 2, 4], "positions of 'gru.h_n' not in 0…3"),
        ("positions", [0, 1, 2, 2], "an element of h_0 is computed twice"),
        ("indices", [0, 1, 2, -1], "indices of 'gru.h_n' not in 0…3"),
        ("right_shift", 31, "shifts"),
        ("right_shift", 3, "fraction bits"),
        ("tensor", "gru", "begins with 'gru', which is over time"),
        ("tensor", "past", "begins with 'past', which is over time"),
    ],
)
def test_damaged_starts_are_refused(field: str, values: Any, says: str) -> None:
    made = made_of("gru")
    value = np.array(values) if isinstance(values, list) else values

    def edited() -> QuantModel:
        found = []
        for layer in made.layers:
            if isinstance(layer, QuantRecurrent) and layer.begins_with == ("gru.h_n",):
                (part,) = layer.h_start
                layer = replace(layer, h_start=(replace(part, **{field: value}),))
            found.append(layer)
        return replace(made, layers=tuple(found))

    with pytest.raises(ModelFileError, match=says):
        edited()


@pytest.mark.parametrize("make", [encoder_decoder, captioner, lambda: encoder_decoder("rnn", axis="past")])
def test_exported_c(make: Any, tmp_path: Path) -> None:
    model = make()
    made = quantize(model, data_of(model, np.random.default_rng(0)), EIGHT)
    check(made, tmp_path, "gcc", lengths=(2, 1, 5))


@pytest.mark.matrix
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_exported_c_of_drawn_models(data: st.DataObject, tmp_path_factory: Any) -> None:
    model = drawn(data.draw)
    made = quantize(model, data_of(model, np.random.default_rng(0)), EIGHT)
    check(made, tmp_path_factory.mktemp("c"), "gcc", lengths=(2, 1, 5))
