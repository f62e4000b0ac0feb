"""Layer and RMS normalization as layers: the float equation, integers against float64, files, reports, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qrnn import layers
from qrnn.accuracy.metrics import sqnr_db
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import DataError, ModelFileError, QuantizationError
from qrnn.model.file import load, save
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.layer_norm import LayerNorm, QuantLayerNorm
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

N, T, F = 3, 11, 6
KINDS = ("layer_norm", "rms_norm")
LENGTHS = np.array([11, 0, 4])
WIDE = Scheme(activations=16, input="16")


def parameters(kind: str, features: int = F) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    found = {"gain": rng.uniform(-2, 2, features), "epsilon": 1e-3}
    return found | ({"bias": rng.normal(size=features)} if kind == "layer_norm" else {})


def alone(kind: str, **more: Any) -> FloatModel:
    """X [N, T, F] → the normalization, y; and a recurrent layer behind it, which every model has."""
    y = getattr(layers, kind)(layers.input("x", features=F), **(parameters(kind) | more))
    h = layers.rnn(y, np.ones((1, F)), np.zeros((1, 1))).output
    return layers.model("alone", outputs={"y": y, "h": h})


def between(kind: str) -> FloatModel:
    """A GRU whose states are normalized before a dense layer and a sigmoid, and again before a softmax."""
    rng = np.random.default_rng(3)
    x = layers.input("x", features=4)
    h = layers.gru(x, rng.normal(size=(3 * F, 4)), 0.4 * rng.normal(size=(3 * F, F))).output
    normal = getattr(layers, kind)(h, **parameters(kind))
    y = layers.activation(layers.dense(normal, rng.normal(size=(2, F))), "sigmoid")
    p = layers.softmax(getattr(layers, kind)(layers.dense(h, rng.normal(size=(5, F)))))
    return layers.model("between", outputs={"y": y, "p": p, "normal": normal})


def data(features: int = F, scale: float = 1.0) -> dict[str, Any]:
    return {"x": scale * np.random.default_rng(4).normal(size=(N, T, features))}


@pytest.mark.parametrize("kind", KINDS)
def test_the_equation(kind: str) -> None:
    """Feature by feature, in Python's floats."""
    own, x = parameters(kind), data()["x"]
    got = run_oracle(alone(kind), {"x": x}).outputs["y"]
    for n, t in np.ndindex(N, T):
        row = x[n, t].tolist()
        mean = sum(row) / F if kind == "layer_norm" else 0.0
        root = (sum((v - mean) ** 2 for v in row) / F + own["epsilon"]) ** 0.5
        want = [
            g * (v - mean) / root + b for v, g, b in zip(row, own["gain"], own.get("bias", np.zeros(F)), strict=True)
        ]
        np.testing.assert_allclose(got[n, t], want, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_variance_gives_the_bias(kind: str) -> None:
    """Without an epsilon, in float64 and in integers."""
    model = alone(kind, epsilon=0.0)
    x = data()
    flat = {"x": np.zeros((1, 2, F)) if kind == "rms_norm" else np.full((1, 2, F), 0.75)}
    want = parameters(kind).get("bias", np.zeros(F))
    np.testing.assert_array_equal(run_oracle(model, flat).outputs["y"][0, 0], want)
    got = Session(quantize(model, x, WIDE), "reference").run(flat).outputs["y"]
    np.testing.assert_allclose(got[0, 1], want, atol=2.0**-11)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e-3])
@pytest.mark.parametrize("kind", KINDS)
def test_integers_are_near_float64(kind: str, scale: float) -> None:
    """Measured: 76 dB and more; 41 at a scale of 1e-3, where the input has 5 bits of its format, and epsilon outweighs the variance."""
    model, x = alone(kind, bias=None) if kind == "layer_norm" else alone(kind), data(scale=scale)
    quantized = quantize(model, x, WIDE)
    layer = quantized.layers[0]
    assert isinstance(layer, QuantLayerNorm)
    assert layer.centred == (kind == "layer_norm")
    got = Session(quantized, "reference").run(x, LENGTHS).outputs["y"]
    want = run_oracle(model, x, LENGTHS).outputs["y"]
    assert sqnr_db(want, got) > (38 if scale < 1 else 72)
    assert not got[1].any()
    assert not got[2, 4:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_between_other_layers(kind: str, tmp_path: Path) -> None:
    """Near float64, the same in pieces, from a file and in reports."""
    model, x = between(kind), data(4)
    quantized = quantize(model, x, WIDE)
    want, session = run_oracle(model, x).outputs, Session(quantized, "reference")
    got = session.run(x)
    for name, bound in (("y", 42), ("p", 42), ("normal", 42)):
        assert sqnr_db(want[name], got.outputs[name]) > bound, name
    first = session.run({"x": x["x"][:, :5]})
    second = session.run({"x": x["x"][:, 5:]}, state=first.state)
    for name, whole in got.outputs.items():
        np.testing.assert_array_equal(np.concatenate([first.outputs[name], second.outputs[name]], 1), whole)
    save(quantized, tmp_path / "m.qrnn")
    again = load(tmp_path / "m.qrnn")
    own, other = ([layer for layer in m.layers if isinstance(layer, QuantLayerNorm)] for m in (quantized, again))
    assert len(own) == len(other) == 2
    for a, b in zip(own, other, strict=True):
        assert (a.centred, a.in_frac, a.out_frac, a.parameters.epsilon) == (
            b.centred,
            b.in_frac,
            b.out_frac,
            b.parameters.epsilon,
        )
        np.testing.assert_array_equal(a.parameters.gain, b.parameters.gain)
    for name, value in Session(again, "reference").run(x).outputs.items():
        np.testing.assert_array_equal(value, got.outputs[name])
    assert any("each feature, once" in r.rounded for layer in own for r in layer.roundings())
    assert own[0].own_bytes().rows == 7 * F


def test_a_large_mean_costs_only_the_input_its_bits() -> None:
    """Rows that differ by an offset have the same bits, where the offset is whole in the input's format."""
    model, x = alone("layer_norm"), data()
    quantized = quantize(model, {"x": np.concatenate([x["x"], x["x"] + 4.0])}, WIDE)
    session = Session(quantized, "reference")
    np.testing.assert_array_equal(session.run({"x": x["x"] + 4.0}).outputs["y"], session.run(x).outputs["y"])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"gain": np.ones(5)}, r"layer_norm 'n': gain has shape \[5\], expected \[F\] = \[6\]"),
        ({"bias": np.ones((6, 1))}, r"layer_norm 'n': bias has shape \[6, 1\], expected \[F\] = \[6\]"),
        ({"epsilon": -1.0}, r"layer_norm 'n': epsilon is -1\.0, expected at least 0"),
        ({"epsilon": np.inf}, "layer_norm 'n': epsilon is inf"),
        ({"epsilon": "small"}, "layer_norm 'n': epsilon has type"),
    ],
)
def test_what_the_builder_refuses(more: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        alone("layer_norm", name="n", **more)


def test_what_integers_cannot_hold_is_refused() -> None:
    model = alone("layer_norm", name="n", epsilon=1e25)
    with pytest.raises(QuantizationError, match=r"layer 'n': epsilon 1e\+25 is too large for 6 features"):
        quantize(model, data(), WIDE)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"in_frac": 16}, "in_frac 16"), ({"out_frac": -17}, "out_frac -17"), ({"features": 5}, "5 features")],
)
def test_a_layer_that_does_not_fit_its_tensors_is_refused(change: dict[str, int], says: str) -> None:
    quantized = quantize(alone("layer_norm"), data(), WIDE)
    layer = quantized.layers[0]
    assert isinstance(layer, QuantLayerNorm)
    if "features" in change:
        p, k = layer.parameters, change["features"]
        parts = replace(p, gain=p.gain[:k], gain_shift=p.gain_shift[:k], bias=p.bias[:k])
        wrong = replace(layer, parameters=parts)
    else:
        wrong = replace(layer, **change)  # type: ignore[arg-type]
    with pytest.raises(ModelFileError, match=says):
        replace(quantized, layers=(wrong, *quantized.layers[1:]))


def test_the_float_layer_is_what_the_builder_says() -> None:
    layer = alone("rms_norm").layers[0]
    assert isinstance(layer, LayerNorm)
    assert not layer.centred
    assert layer.epsilon == 1e-3
    np.testing.assert_array_equal(layer.bias, np.zeros(F))
