"""Recurrent layers over bands and for each band: against plain recurrent layers of one band, and in integers on every backend and in C."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from export.building import check, quantized
from hypothesis import given, settings
from hypothesis import strategies as st
from installed import compiler
from schemes import BYTES

import qrnn
from qrnn import DataError, Session, layers
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import ModelFileError, UnsupportedError
from qrnn.export.source import export_source
from qrnn.model.batch import make_batch
from qrnn.model.definitions import run_step_loop
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.over_bands import QuantOverBands
from qrnn.model.kinds.per_band import QuantPerBand
from qrnn.model.quant_model import QuantModel

pytestmark = pytest.mark.usefixtures("loops")

Array = npt.NDArray[Any]
Cell = Callable[[layers.Tensor], layers.Recurrent]

CELLS = ("gru", "gru_before", "lstm", "lstm_projected", "rnn", "indrnn", "layer_norm_gru")


def one_direction(cell: str, features: int, units: int, rng: np.random.Generator, reverse: bool = False) -> Cell:
    """Return what makes a layer of a cell with ``units`` H over a band of ``features`` I."""

    def weights(rows: int, *columns: int) -> Array:
        return rng.normal(0, 0.6, (rows, *columns))

    own: dict[str, Any] = {"reverse": reverse, "h_0": 0.5 * rng.normal(size=units)}
    gates = {"gru": 3, "gru_before": 3, "lstm": 4, "lstm_projected": 4, "rnn": 1, "indrnn": 1, "layer_norm_gru": 3}[
        cell
    ]
    w, u, b = weights(gates * units, features), weights(gates * units, units), weights(gates * units)
    if cell == "indrnn":
        return lambda band: layers.indrnn(band, w, weights(units), b, activation="tanh", **own)
    if cell == "lstm_projected":
        w, u = weights(4 * (units + 1), features), weights(4 * (units + 1), units)
        projection, b = weights(units, units + 1), weights(4 * (units + 1))
        return lambda band: layers.lstm(band, w, u, b, projection=projection, **own)
    if cell == "layer_norm_gru":
        gain = [rng.uniform(0.5, 1.5, 3 * units) for _ in range(2)]
        return lambda band: layers.layer_norm_gru(band, w, u, b, norm_x=gain[0], norm_h=gain[1], **own)
    if cell == "gru_before":
        own["linear_before_reset"] = False
    built = getattr(layers, cell.split("_")[0])
    return lambda band: built(band, w, u, b, **own)


def directions(cell: str, features: int, units: int, seed: int, ways: str) -> Cell:
    """Return what makes a layer that runs ``forward``, in ``reverse``, or in ``both`` directions."""
    rng = np.random.default_rng(seed)
    if ways != "both":
        return one_direction(cell, features, units, rng, ways == "reverse")
    forward, backward = (one_direction(cell, features, units, rng, reverse) for reverse in (False, True))
    return lambda band: layers.bidirectional(forward(band), backward(band))


def network(
    cell: str = "gru",
    bands: int = 3,
    features: int = 2,
    units: int = 4,
    over: str = "both",
    per: str = "forward",
    seed: int = 0,
) -> FloatModel:
    """A layer over bands, one for each band behind it, and a dense layer over all features."""
    rng = np.random.default_rng(seed + 100)
    x = layers.input("x", bands * features)
    intra = layers.over_bands(x, bands, directions(cell, features, units, seed, over), name="intra")
    wide = intra.features // bands
    inter = layers.per_band(intra, bands, directions(cell, wide, units, seed + 1, per), name="inter")
    y = layers.dense(inter.output, rng.normal(size=(3, inter.output.features)))
    outputs = {"y": y, "intra": intra, "inter": inter.output, "h": inter.h_n}
    return layers.model("bands", outputs | ({"c": inter.c_n} if inter.c_n is not None else {}))


def data(model: FloatModel, size: int = 3, steps: int = 9, scale: float = 1.0, seed: int = 5) -> Array:
    return scale * np.random.default_rng(seed).normal(size=(size, steps, model.tensors["x"].features))


@pytest.mark.parametrize("ways", ["forward", "reverse", "both"])
@pytest.mark.parametrize("cell", CELLS)
def test_each_band_is_a_sequence_of_a_plain_layer(cell: str, ways: str) -> None:
    """The float equations, by models that know no bands: of a band's features over time, and of a step's bands in the place of steps."""
    B, I, lengths = 3, 2, np.array([9, 4, 0])
    make = directions(cell, I, 4, 1, ways)
    band = layers.input("x", I)
    alone = make(band)
    plain = layers.model("plain", {"y": alone.output, "h": alone.h_n})
    x = layers.input("x", B * I)
    make = directions(cell, I, 4, 1, ways)  # the same weights again
    each = layers.per_band(x, B, make)
    per_band = layers.model("per", {"y": each.output, "h": each.h_n})
    values = data(per_band)
    found = run_oracle(per_band, {"x": values}, lengths).outputs
    by_band = found["h"].reshape(3, -1, B, 4)
    for b in range(B):
        want = run_oracle(plain, {"x": values[..., b * I : (b + 1) * I]}, lengths).outputs
        wide = want["y"].shape[-1]
        np.testing.assert_allclose(found["y"][..., b * wide : (b + 1) * wide], want["y"], atol=1e-12)
        np.testing.assert_allclose(by_band[:, :, b].reshape(3, -1), want["h"], atol=1e-12)
    over = layers.over_bands(x, B, directions(cell, I, 4, 1, ways))
    held = layers.rnn(over, np.ones((1, over.features)), np.zeros((1, 1)))
    found = run_oracle(layers.model("over", {"y": over, "h": held.output}), {"x": values}, lengths).outputs
    for n, length in enumerate(lengths):
        want = run_oracle(plain, {"x": values[n].reshape(9, B, I)}).outputs
        np.testing.assert_allclose(found["y"][n, :length], want["y"].reshape(9, -1)[:length], atol=1e-12)
        assert not found["y"][n, length:].any()


def defined(layer: Any, x: Array, lengths: Array) -> Array:
    """What a banded layer makes of x [N, T, B·I], by the definition of its directions' steps on sequences that are cut out band by band."""
    (N, T, _), B, D, P = x.shape, layer.bands, len(layer.directions), layer.output_size
    parts, y = x.reshape(N, T, B, -1), np.zeros((N, T, B, D, P), np.int16)
    over = isinstance(layer, QuantOverBands)
    for number, d in enumerate(layer.directions):
        for n in range(N):
            steps = parts[n, : lengths[n]]
            for k, rows in enumerate(steps if over else steps.transpose(1, 0, 2)):
                part = slice(None) if over else slice(k * P, (k + 1) * P)
                h = d.h_0.value[part][None].astype(np.int16)
                c = np.zeros((1, layer.cell_size), np.int32)
                given = rows[None, ::-1] if d.reverse else rows[None]
                loop, count = layer.direction_loop(number), np.array([len(rows)])
                out = run_step_loop(loop, [given], [h, c], count, len(rows), P, 0)[0][0]
                out = out[::-1] if d.reverse else out
                if over:
                    y[n, k, :, number] = out
                else:
                    y[n, : lengths[n], k, number] = out
    return y.reshape(N, T, -1)


def check_backend(backend: str, draw: Callable[[Any], Any]) -> None:
    """Whole, ragged, in chunks and step by step, with inputs beyond the calibrated range, against the definition of a step."""
    cell, ways = draw(st.sampled_from(CELLS)), st.sampled_from(["forward", "reverse", "both"])
    over, per = draw(ways), draw(ways)
    bands, features, units = (draw(st.integers(1, most)) for most in (5, 3, 4))
    model = network(cell, bands, features, units, over, per, draw(st.integers(0, 3)))
    made = quantize(model, {"x": data(model, 2, 12)}, BYTES)
    N, T = draw(st.integers(1, 3)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x, lengths = rng.normal(0, 3, (N, T, bands * features)), rng.integers(0, T + 1, N)
    reference = Session(made, "reference")
    want = reference.run({"x": x}, lengths)
    session = Session(made, backend)
    for got in (session.run({"x": x}, lengths), session.run({"x": x})):
        other = want if got.lengths["y"].tolist() == lengths.tolist() else reference.run({"x": x})
        for name, values in other.outputs.items():
            np.testing.assert_array_equal(got.outputs[name], values, err_msg=name)
    if per != "forward":
        with pytest.raises(DataError, match=r"backwards|whole sequences"):
            session.stream(N)
        return
    whole = reference.run({"x": x})
    stream = session.stream(N)
    steps = [stream.step({"x": x[:, t]}) for t in range(T)]
    for name in ("y", "intra", "inter"):
        np.testing.assert_array_equal(np.stack([s[name] for s in steps], axis=1), whole.outputs[name], err_msg=name)
    np.testing.assert_array_equal(steps[-1]["h"], whole.outputs["h"])
    cut, state, chunks = draw(st.integers(0, T)), None, []
    for first, last in ((0, cut), (cut, T)):
        if first < last:
            part = session.run({"x": x[:, first:last]}, state=state, end=last == T)
            state, chunks = part.state, [*chunks, part.outputs["y"]]
    np.testing.assert_array_equal(np.concatenate(chunks, axis=1), whole.outputs["y"])


@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=5)
@given(st.data())
def test_backends_agree(backend: str, data: st.DataObject) -> None:
    check_backend(backend, data.draw)


@pytest.mark.matrix
@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_backends_agree_on_more(backend: str, data: st.DataObject) -> None:
    check_backend(backend, data.draw)


@pytest.mark.wide
@pytest.mark.parametrize("ways", ["forward", "reverse", "both"])
@pytest.mark.parametrize("cell", CELLS)
def test_integers_are_those_of_the_definition(cell: str, ways: str) -> None:
    model = network(cell, 3, 2, 3, ways, ways)
    made = quantize(model, {"x": data(model)}, BYTES)
    lengths = np.array([9, 5, 0])
    batch = make_batch(made.inputs, {"x": data(model, scale=3.0)}, lengths)
    _, tensors = Session(made, "reference").run_batch(batch)
    for layer in made.layers:
        if isinstance(layer, QuantOverBands | QuantPerBand):
            want = defined(layer, tensors[layer.input], lengths)
            np.testing.assert_array_equal(tensors[layer.output], want)


@pytest.mark.wide
@pytest.mark.parametrize("per", ["forward", "both"])
@pytest.mark.parametrize("cell", ["gru", "lstm", "layer_norm_gru"])
def test_exported_c(cell: str, per: str, tmp_path: Path) -> None:
    made = quantized(network(cell, 4, 2, 3, "both", per))
    check(made, tmp_path, compiler("gcc"), "plain" if per == "both" else "mve")


def test_streams_in_c_hold_the_state_of_every_band() -> None:
    exported = export_source(quantized(network(bands=5, units=4)), "net", "plain")
    assert "int16_t h_inter[20];" in exported.header
    assert "void net_step(" in exported.header


def test_accuracy_and_files(tmp_path: Path) -> None:
    model = network("gru", 4, 3, 8)
    made = quantize(model, {"x": data(model, 8, 20)}, BYTES)
    found = qrnn.compare(model, made, {"x": data(model, 8, 20)})
    assert found.outputs["y"].sqnr_db > 35
    qrnn.save(made, tmp_path / "bands.qrnn")
    again = qrnn.load(tmp_path / "bands.qrnn")
    x = {"x": data(model)}
    np.testing.assert_array_equal(Session(again).run(x).outputs["y"], Session(made).run(x).outputs["y"])


def test_states_may_be_graph_inputs() -> None:
    """A state for all bands, given and carried on by hand, is the state that a session keeps."""
    rng = np.random.default_rng(3)
    x, h_0 = layers.input("x", 6), layers.state("h_0", 12)
    inter = layers.per_band(x, 3, directions("gru", 2, 4, 0, "forward"), h_0=h_0)
    model = layers.model("state", {"y": inter.output, "h": inter.h_n})
    values, first = rng.normal(size=(2, 8, 6)), rng.uniform(-1, 1, (2, 12))
    made = quantize(model, {"x": values, "h_0": first}, BYTES)
    for backend in available_backends():
        session = Session(made, backend)
        whole = session.run({"x": values, "h_0": first})
        part = session.run({"x": values[:, :3], "h_0": first}, end=False)
        rest = session.run({"x": values[:, 3:]}, state=part.state)
        joined = np.concatenate([part.outputs["y"], rest.outputs["y"]], axis=1)
        np.testing.assert_array_equal(joined, whole.outputs["y"])
    want = run_oracle(model, {"x": values, "h_0": first}).outputs["y"]
    assert np.abs(whole.outputs["y"] - want).max() < 0.05


def test_refusals() -> None:
    x = layers.input("x", 6)
    gru = directions("gru", 2, 4, 0, "forward")
    for error, says, call in (
        (DataError, "6 features, which are not 4 equal bands", lambda: layers.over_bands(x, 4, gru)),
        (DataError, "does not read the band", lambda: layers.per_band(x, 3, lambda _: directions("gru", 6, 4, 0, "forward")(x))),
        (DataError, "make returns Tensor", lambda: layers.per_band(x, 3, lambda band: gru(band).output)),
        (DataError, "has no c", lambda: layers.per_band(x, 3, gru, c_0=np.zeros(12))),
        (DataError, r"h_0 has shape \[4\]", lambda: layers.per_band(x, 3, gru, h_0=np.zeros(4))),
        (DataError, "size 4, expected 12", lambda: layers.per_band(x, 3, gru, h_0=layers.state("s", 4))),
        (UnsupportedError, "one direction", lambda: layers.per_band(x, 3, directions("gru", 2, 4, 0, "both"), h_0=np.zeros(12))),
    ):  # fmt: skip
        with pytest.raises(error, match=says):
            call()


def layer_of(made: QuantModel, kind: type) -> tuple[int, Any]:
    return next((k, layer) for k, layer in enumerate(made.layers) if isinstance(layer, kind))


@pytest.mark.parametrize("kind", [QuantOverBands, QuantPerBand])
def test_files_with_other_bands_are_refused(kind: type) -> None:
    model = network()
    made = quantize(model, {"x": data(model)}, BYTES)
    place, layer = layer_of(made, kind)
    for bands in (0, 1, 2, 1 << 20):
        with pytest.raises(ModelFileError, match=r"bands|initial state size|does not have"):
            replace(made, layers=(*made.layers[:place], replace(layer, bands=bands), *made.layers[place + 1 :]))
