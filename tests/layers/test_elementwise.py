"""Elementwise layers: their equations, integers within the stated bounds of float64, files, ranges, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from elementwise_layers import KINDS, model_of, models
from hypothesis import given, settings
from hypothesis import strategies as st
from schemes import BYTES

from qrnn import layers
from qrnn.accuracy.metrics import sqnr_db
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import DataError, ModelFileError, QuantizationError
from qrnn.model.activation import Activation
from qrnn.model.file import load, save
from qrnn.model.float_model import FloatModel, GraphOutput, TensorInfo
from qrnn.model.kinds.affine import Affine, QuantAffine
from qrnn.model.kinds.combine import Combine
from qrnn.model.kinds.function import Function, QuantFunction, argument_ends, table_values
from qrnn.model.kinds.log_power import LogPower
from qrnn.model.kinds.log_softmax import LogSoftmax
from qrnn.model.kinds.magnitude import Magnitude, QuantMagnitude
from qrnn.model.kinds.pointwise import QuantPointwise
from qrnn.model.kinds.prelu import PRelu
from qrnn.model.layer import Layer
from qrnn.model.quant_model import QuantModel
from qrnn.model.scalar_function import ScalarFunction, X, clip_bounds, constant
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

WIDE = Scheme(activations=16, input="16")
S = ScalarFunction


def graph(layer: Layer, features: int, out: int) -> FloatModel:
    """A float model of one layer of x [N, T, F], beside a recurrent layer of x, which every model has."""
    x = layers.input("x", features)
    base = layers.model("alone", {"h": layers.rnn(x, np.ones((1, features)), np.zeros((1, 1))).output})
    every = np.arange(out)
    return replace(
        base,
        layers=(layer, *base.layers),
        outputs=(GraphOutput("y", (out,), True, (("y", every, every),)), *base.outputs),
        tensors={**base.tensors, "y": TensorInfo(out, True)},
    )


def with_recurrent(model: QuantModel) -> QuantModel:
    """The model of one layer beside a recurrent layer of an input of its own."""
    r = layers.input("r", 2)
    base = quantize(
        layers.model("base", {"h": layers.rnn(r, np.ones((1, 2)), np.zeros((1, 1))).output}),
        {"r": np.ones((1, 4, 2))},
        BYTES,
    )
    return replace(
        base,
        inputs=(*base.inputs, *model.inputs),
        layers=(*model.layers, *base.layers),
        outputs=(*base.outputs, *model.outputs),
        tensors={**base.tensors, **model.tensors},
    )


def data(features: int, scale: float = 1.0, offset: float = 0.0, seed: int = 0) -> dict[str, Any]:
    return {"x": offset + scale * np.random.default_rng(seed).normal(size=(3, 11, features))}


# --- magnitudes ---


def spectra(features: int = 4) -> FloatModel:
    """Magnitude and power of two inputs, and of the halves of the bands of one, before a recurrent layer."""
    a, b = layers.input("a", 2 * features), layers.input("b", 2 * features)
    outputs = {
        "pair": layers.magnitude(a, b, epsilon=1e-4),
        "halves": layers.magnitude(a, bands=2),
        "power": layers.power(a, b),
        "power_halves": layers.power(a, epsilon=0.5),
    }
    ones = np.ones((1, features))
    outputs["h"] = layers.rnn(outputs["halves"], ones, np.zeros((1, 1))).output
    return layers.model("spectra", outputs=outputs)


def test_magnitudes_and_powers() -> None:
    model = spectra()
    rng = np.random.default_rng(0)
    given_ = {"a": rng.normal(size=(2, 9, 8)), "b": 30 * rng.normal(size=(2, 9, 8))}
    a, b = given_["a"], given_["b"]
    bands = a.reshape(2, 9, 2, 2, 2)
    got = run_oracle(model, given_).outputs
    np.testing.assert_allclose(got["pair"], np.sqrt(a**2 + b**2 + 1e-4))
    np.testing.assert_allclose(got["halves"], np.hypot(bands[:, :, :, 0], bands[:, :, :, 1]).reshape(2, 9, 4))
    np.testing.assert_allclose(got["power"], a**2 + b**2)
    np.testing.assert_allclose(got["power_halves"], a[..., :4] ** 2 + a[..., 4:] ** 2 + 0.5)
    quantized = quantize(model, given_, WIDE)
    integers = Session(quantized, "reference").run(given_).outputs
    for name in ("pair", "halves", "power", "power_halves"):
        assert sqnr_db(got[name], integers[name]) > 70, name


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 15), st.integers(0, 15), st.floats(0.0, 2.0), st.booleans(), st.data())
def test_a_magnitude_is_within_half_a_unit(left: int, right: int, epsilon: float, root: bool, drawn: Any) -> None:
    """A magnitude is within half a unit of the exact root of the integers' squares, but for the rounding of epsilon, where int16 holds it."""
    scale = 15 + min(left, right)
    if not root:
        scale = min(scale, 23)
    while epsilon * 4.0**scale >= 2.0**61:
        scale -= 1
    out_frac = drawn.draw(st.integers(0, min(15, scale - 1)))
    index = np.arange(1)
    layer = QuantMagnitude(
        "own", "x", "z", "y", index, index, left, right, out_frac, scale, round(epsilon * 4.0**scale), root
    )
    model = model_of(layer, {"x": left, "z": right, "y": out_frac}, {"x": 1, "z": 1, "y": 1})
    rng = np.random.default_rng(drawn.draw(st.integers(0, 1 << 20)))
    a, b = (rng.integers(-32767, 32768, (1, 20, 1)) >> rng.integers(0, 16, (1, 20, 1)) for _ in range(2))
    x = {"x": a.astype(np.int16), "z": b.astype(np.int16)}
    got = Session(model, "reference", integers=True).run(x).outputs["y"]
    power = np.ldexp(a.astype(np.longdouble), -left) ** 2 + np.ldexp(b.astype(np.longdouble), -right) ** 2 + epsilon
    want = np.minimum((np.sqrt(power) if root else power) * 2.0**out_frac, 32767)
    room = 0.5 * 4.0**-scale * 2.0**out_frac if not root else np.sqrt(0.5 * 4.0**-scale) * 2.0**out_frac
    assert np.abs(got - want).max() <= 0.5 + room + 1e-9


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda a, b: layers.magnitude(a, layers.input("c", 3)), "a has 6 features over time, b has 3 over time"),
        (lambda a, b: layers.magnitude(a, bands=2), "a has 6 features, expected a multiple of 2 · bands = 4"),
        (lambda a, b: layers.power(a, b, epsilon=-1), "epsilon is -1.0, expected at least 0"),
    ],
)
def test_what_the_builder_refuses(call: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        call(layers.input("a", 6), layers.input("b", 6))


def test_an_epsilon_beyond_64_bits_is_refused() -> None:
    model = graph(Magnitude("m", "x", "x", "y", np.arange(2), np.arange(2), True, 1e15), 2, 2)
    with pytest.raises(QuantizationError, match=r"layer 'm': epsilon 1e\+15 is too large"):
        quantize(model, data(2), WIDE)


def test_the_logarithm_of_no_power_is_refused() -> None:
    model = graph(LogPower("m", "x", "x", "y", np.arange(2), np.arange(2)), 2, 2)
    silent = {"x": np.array([[[0.5, 1.0], [0.0, 0.0]]])}
    with pytest.raises(DataError, match=r"'y' is not finite.*keep 0 out of its logarithms and divisors"):
        quantize(model, silent, WIDE)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_logarithms_of_powers_are_near(scale: float) -> None:
    layer = LogPower("m", "x", "x", "y", np.arange(3), np.arange(3) + 3, 1e-6, 10 / np.log(10), 3.0)
    model, x = graph(layer, 6, 3), data(6, scale)
    y = Session(quantize(model, x, WIDE), "reference").run(x).outputs["y"]
    want = run_oracle(model, x).outputs["y"]
    np.testing.assert_allclose(want, 10 * np.log10(x["x"][..., :3] ** 2 + x["x"][..., 3:] ** 2 + 1e-6) + 3.0)
    assert sqnr_db(want, y) > 45


# --- functions of one number ---

FUNCTIONS = {
    "sqrt": (S("sqrt", (X,)), 1.0, 1.0),
    "log": (S("log", (X,)), 1.0, 2.0),
    "log with an epsilon": (S("log", (S("add", (X, constant(1e-3))),)), 1.0, 2.0),
    "exp": (S("exp", (X,)), 2.0, 0.0),
    "reciprocal": (S("reciprocal", (X,)), 0.3, 3.0),
    "pow 0.3": (S("pow", (X, constant(0.3))), 1.0, 1.0),
    "pow 3": (S("pow", (X, constant(3))), 2.0, 0.0),
    "pow -0.5": (S("pow", (X, constant(-0.5))), 1.0, 5.0),
    "erf": (S("erf", (X,)), 1.0, 0.0),
    "log at -3": (S("log", (S("add", (X, constant(3))),)), 0.5, 0.0),
    "jump": (S("activation", (X,), activation=Activation("step")), 1.0, 0.0),
}


@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_within_one_unit_at_every_int16(name: str, scale: float) -> None:
    """Within the argument's stated ends, where f has a value that the format holds; and beyond the ends it stays what it is there."""
    function, spread, offset = FUNCTIONS[name]
    x = data(2, spread * scale, offset * scale)
    with np.errstate(all="ignore"):
        seen = function(x["x"])
    x["x"] = np.where(np.isfinite(seen), x["x"], (offset or 1.0) * scale)
    layer = quantize(graph(Function("f", "x", "y", function), 2, 2), x, WIDE).layers[0]
    assert isinstance(layer, QuantFunction)
    q = np.arange(-32768, 32768)
    got = table_values(layer.bits, layer.table, layer.lowest, layer.highest)
    with np.errstate(all="ignore"):
        real = np.ldexp(function(q / 2.0**layer.in_frac), layer.out_frac)
    inside = (q >= layer.lowest) & (q <= layer.highest) & np.isfinite(real)
    assert inside.any()
    assert np.abs(got - np.clip(real, -32768, 32767))[inside].max() <= 1.0
    assert set(got[q < layer.lowest]) <= {got[layer.lowest + 32768]}
    assert set(got[q > layer.highest]) <= {got[layer.highest + 32768]}
    low, high = x["x"].min(), x["x"].max()
    assert (layer.lowest, layer.highest) == argument_ends(low, high, layer.in_frac)


def test_what_has_no_value_takes_the_nearest() -> None:
    """A root below 0 is that of 0; a logarithm at 0 is the least that calibration saw, and below 0 the same."""
    x = {"x": np.linspace(0.01, 1.0, 40).reshape(1, 20, 2)}
    for op, at_zero in (("sqrt", 0.0), ("log", np.log(0.01))):
        model = quantize(graph(Function("f", "x", "y", S(op, (X,))), 2, 2), x, WIDE)
        y = Session(model, "reference").run({"x": np.array([[[0.0, -0.3], [-0.1, 0.5]]])}).outputs["y"]
        unit = 1.01 * model.tensors["y"].scale[0]
        np.testing.assert_allclose(y[0], [[at_zero, at_zero], [at_zero, S(op, (X,))(np.array(0.5))]], atol=unit)


def test_a_function_without_a_value_in_calibration_is_refused() -> None:
    model = graph(Function("f", "x", "y", S("log", (X,))), 2, 2)
    with pytest.raises(DataError, match=r"'y' is not finite.*keep 0 out of its logarithms and divisors"):
        quantize(model, {"x": np.array([[[0.5, 1.0], [0.0, 2.0]]])}, WIDE)


def test_steps_past_the_end_of_a_sequence_need_no_value() -> None:
    """Padding of zeros has no logarithm, and nothing asks for it."""
    x = {"x": np.array([[[0.5, 1.0], [0.25, 2.0]], [[4.0, 3.0], [0.0, 0.0]]])}
    for layer in (
        Function("f", "x", "y", S("log", (X,))),
        Combine("f", "x", "x", "y", np.arange(2), np.arange(2), "div"),
        LogPower("f", "x", "x", "y", np.arange(2), np.arange(2)),
    ):
        lengths = np.array([2, 1])
        model = graph(layer, 2, 2)
        quantized = quantize(model, {**x, "lengths": lengths}, WIDE)
        y = Session(quantized, "reference").run(x, lengths).outputs["y"]
        want = run_oracle(model, x, lengths).outputs["y"]
        assert np.isfinite(want).all()
        assert np.abs(y - want).max() <= 0.03


@pytest.mark.parametrize(
    ("function", "bounds"),
    [
        (S("min", (S("max", (X, constant(-1.0))), constant(2.0))), (-1.0, 2.0)),
        (S("max", (constant(-1.0), S("min", (X, constant(2.0))))), (-1.0, 2.0)),
        (S("min", (S("max", (X, constant(5.0))), constant(2.0))), (2.0, 2.0)),
        (S("max", (X, constant(0.5))), (0.5, np.inf)),
        (S("min", (S("sqrt", (X,)), constant(1.0))), None),
        (S("min", (X, X)), None),
    ],
)
def test_clips_are_found(function: ScalarFunction, bounds: tuple[float, float] | None) -> None:
    assert clip_bounds(function) == bounds
    if bounds is not None:
        x = np.linspace(-9, 9, 99)
        np.testing.assert_array_equal(function(x), np.clip(x, *bounds))


def test_a_clip_is_exact_on_the_grid() -> None:
    function = S("min", (S("max", (X, constant(-0.5))), constant(1.25)))
    x = data(3, 2.0)
    model = quantize(graph(Function("f", "x", "y", function), 3, 3), x, WIDE)
    assert isinstance(model.layers[0], QuantPointwise)
    grid = np.round(x["x"] * 256) / 256
    np.testing.assert_array_equal(Session(model, "reference").run({"x": grid}).outputs["y"], np.clip(grid, -0.5, 1.25))


# --- PRelu and the logarithm of a softmax ---


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_prelu_by_feature(scale: float) -> None:
    slope = np.array([0.25, -0.5, 0.0, 1.5, 1e-6])
    model, x = graph(PRelu("p", "x", "y", slope), 5, 5), data(5, scale)
    y = Session(quantize(model, x, WIDE), "reference").run(x).outputs["y"]
    want = run_oracle(model, x).outputs["y"]
    np.testing.assert_array_equal(want, np.where(x["x"] >= 0, x["x"], slope * x["x"]))
    assert sqnr_db(want, y) > (55 if scale < 1 else 70)  # an int16 has 15 fraction bits at most


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_affine_by_feature(scale: float) -> None:
    factor, offset = np.array([0.25, -300.0, 0.0, 1.0, 1e-3]), np.array([1.0, 0.0, -2.0, 1e-4, 30.0]) * scale
    model, x = graph(Affine("p", "x", "y", factor, offset), 5, 5), data(5, scale)
    y = Session(quantize(model, x, WIDE), "reference").run(x).outputs["y"]
    want = run_oracle(model, x).outputs["y"]
    np.testing.assert_array_equal(want, factor * x["x"] + offset)
    assert sqnr_db(want, y) > (55 if scale < 1 else 70)


def test_a_large_offset_takes_no_bits_of_the_values() -> None:
    """Where nothing but an output reads it, the result has an offset, as that of a layer of weights has."""
    model, x = graph(Affine("p", "x", "y", np.array([0.5, 0.25]), np.array([1013.25, 1013.5])), 2, 2), data(2, 1.0)
    quantized = quantize(model, x, WIDE)
    y = Session(quantized, "reference").run(x).outputs["y"]
    want = run_oracle(model, x).outputs["y"]
    assert quantized.tensors["y"].offset != (0,)
    assert sqnr_db(want - want.mean(), y - want.mean()) > 70


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"factor": np.zeros(0, np.int16)}, "factor"),
        ({"bias": np.zeros(1, np.int64)}, "bias"),
        ({"bias": np.full(2, (1 << 61) + 1)}, "a bias beyond"),
        ({"shift": np.full(2, 47, np.int8)}, "shift out of 0…46"),
        ({"in_frac": 16}, "in_frac 16"),
    ],
)
def test_affine_layers_that_do_not_fit_are_refused(change: dict[str, Any], says: str) -> None:
    good = QuantAffine("own", "x", "y", np.ones(2, np.int16), np.zeros(2, np.int64), np.zeros(2, np.int8), 8, 8)
    with pytest.raises(ModelFileError, match=says):
        replace(good, **change)


def test_an_affine_layer_that_no_integers_hold_is_refused() -> None:
    for factor, offset, says in ((1e13, 0.0, "scale 1e+13 of feature 1"), (1.0, 1e18, "offset 1e+18 of feature 1")):
        model = graph(Affine("p", "x", "y", np.array([1.0, factor]), np.array([0.0, offset])), 2, 2)
        with pytest.raises(QuantizationError, match=re.escape(says)):
            quantize(model, data(2, 100.0), WIDE)


def test_log_softmax() -> None:
    """Within half a unit, and 2^-9 that the table of e^-d and its sum are wrong by."""
    model, x = graph(LogSoftmax("p", "x", "y"), 7, 7), data(7, 3.0)
    quantized = quantize(model, x, WIDE)
    y = Session(quantized, "reference").run(x).outputs["y"]
    want = run_oracle(model, x).outputs["y"]
    np.testing.assert_allclose(np.exp(want).sum(axis=-1), 1.0)
    read = 2 * quantized.tensors["x"].scale[0]  # both x and the largest are rounded
    assert np.abs(want - y).max() <= quantized.tensors["y"].scale[0] / 2 + read + 2.0**-9


# --- the builder ---


def test_the_other_functions_of_the_builder() -> None:
    rng = np.random.default_rng(5)
    a, b, g = layers.input("a", 6), layers.input("b", 6), layers.input("g", 2)
    slope = rng.uniform(-1, 1, 6)
    db = 10 / np.log(10)
    outputs = {
        "difference": layers.subtract(a, b),
        "by_band": layers.subtract(a, g, bands=2),
        "quotient": layers.divide(a, layers.activation(g, "softplus"), bands=2),
        "gated": layers.scale_bands(a, layers.activation(g, "sigmoid"), bands=2),
        "decibels": layers.log_power(a, b, epsilon=1e-3, least=0.5, factor=db, offset=1.0),
        "halves": layers.log_power(a, bands=3, epsilon=1e-3),
        "prelu": layers.prelu(a, slope),
        "affine": layers.affine(a, slope, slope + 1),
        "scaled": layers.affine(a, slope),
        "log_softmax": layers.log_softmax(a),
        "argmax": layers.argmax(a),
        "h": layers.rnn(a, np.ones((1, 6)), np.zeros((1, 1))).output,
    }
    model = layers.model("others", outputs=outputs)
    x = {name: 2 * rng.normal(size=(2, 9, size)) for name, size in (("a", 6), ("b", 6), ("g", 2))}
    A, B, G = x["a"], x["b"], np.repeat(x["g"], 3, axis=-1)
    pairs = A.reshape(2, 9, 3, 2)
    want = {
        "difference": A - B,
        "by_band": A - G,
        "quotient": A / np.logaddexp(0, G),
        "gated": A / (1 + np.exp(-G)),
        "decibels": db * np.log(np.maximum(A**2 + B**2 + 1e-3, 0.5)) + 1.0,
        "halves": np.log((pairs**2).sum(axis=-1) + 1e-3),
        "prelu": np.where(A >= 0, A, slope * A),
        "affine": slope * A + slope + 1,
        "scaled": slope * A,
        "log_softmax": A - np.log(np.exp(A).sum(axis=-1, keepdims=True)),
        "argmax": A.argmax(axis=-1)[..., None],
    }
    found = run_oracle(model, x).outputs
    quantized = Session(quantize(model, x, WIDE), "reference").run(x).outputs
    for name, values in want.items():
        np.testing.assert_allclose(found[name], values, atol=1e-9, err_msg=name)
        if name == "argmax":
            assert np.mean(quantized[name] == values) > 0.9
        else:
            assert sqnr_db(values, quantized[name]) > 40, name


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda a: layers.subtract(a, layers.input("g", 4)), "b has 4 over time; expected as many, or one for each of 1 bands"),
        (lambda a: layers.divide(a, layers.input("g", 4), bands=4), "or one for each of 4 bands"),
        (lambda a: layers.log_power(a, least=-1.0), "least is -1.0, expected at least 0"),
        (lambda a: layers.prelu(a, np.ones(5)), r"slope has shape \[5\]"),
        (lambda a: layers.affine(a, np.ones(6), np.ones(5)), r"offset has shape \[5\]"),
    ],
)  # fmt: skip
def test_what_the_others_refuse(call: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        call(layers.input("a", 6))


# --- files ---


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=5)
@given(st.data())
def test_files(kind: str, tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    model = with_recurrent(data.draw(models(kind)))
    path = tmp_path_factory.mktemp("files") / "m.qrnn"
    save(model, path)
    again = load(path)
    x = {i.name: np.random.default_rng(0).integers(-127, 128, (2, 3, *i.shape)).astype(np.int16) for i in model.inputs}
    want, got = (Session(m, "reference", integers=True).run(x).outputs["y"] for m in (model, again))
    np.testing.assert_array_equal(got, want)
    assert again.layers[0].roundings() == model.layers[0].roundings()
    assert again.layers[0].own_bytes() == model.layers[0].own_bytes()


def test_indices_outside_of_a_tensor_are_refused() -> None:
    """A file's indices are read by kernels."""
    index = np.arange(2)
    good = QuantMagnitude("own", "x", "x", "y", index, index, 8, 8, 6, 23, 0, True)
    model_of(good, {"x": 8, "y": 6}, {"x": 2, "y": 2})
    with pytest.raises(ModelFileError, match="reads feature 2 of 'x', which has 2"):
        model_of(replace(good, right_index=index + 1), {"x": 8, "y": 6}, {"x": 2, "y": 2})
    for change in ({"left_index": index - 1}, {"left_index": np.arange(3)}, {"left_index": np.zeros((2, 1), np.int64)}):
        with pytest.raises(ModelFileError, match="layer own: indices"):
            replace(good, **change)  # type: ignore[arg-type]
    for change in ({"scale": 24}, {"scale": 7}, {"epsilon": 1 << 61}, {"epsilon": -1}, {"out_frac": -8}):
        with pytest.raises(ModelFileError, match="layer own: "):
            replace(good, **change)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bits": 15}, "bits 15"),
        ({"table": np.zeros(9, np.int32)}, "table"),
        ({"table": np.full(210, 1 << 27, np.int32)}, "beyond"),
        ({"lowest": 5, "highest": 4}, "an argument from 5 to 4"),
        ({"in_frac": 16}, "in_frac 16"),
    ],
)
def test_tables_that_do_not_fit_are_refused(change: dict[str, Any], says: str) -> None:
    good = QuantFunction("own", "x", "y", "f", 3, np.zeros(210, np.int32), -32767, 32767, 8, 8)
    with pytest.raises(ModelFileError, match=says):
        replace(good, **change)
