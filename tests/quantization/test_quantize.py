"""Whole conversions: schemes, formats that hold their calibration data, and agreement with the float64 oracle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from models import Shape, make_model

from qrnn.accuracy.metrics import sqnr_db
from qrnn.backends.base import Trace
from qrnn.conversion import RANDOM, quantize
from qrnn.equations.oracle import run_oracle_batch
from qrnn.errors import DataError, QuantizationError
from qrnn.model.activation import Activation
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.recurrent.definition import InitialState
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.inputs import WIDE_HEADROOM
from qrnn.quantization.scheme import Scheme
from qrnn.quantization.source_checks import CalibrationWarning
from qrnn.running.session import Session

RELU = {"candidate": Activation("relu")}


def random_data(size: int = 3, sequences: int = 8, steps: int = 20, amplitude: float = 1.0) -> dict[str, Any]:
    return {"x": np.random.default_rng(9).normal(size=(sequences, steps, size)) * amplitude}


def run(model: QuantModel, data: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], Trace]:
    """Float outputs, integer tensors and the trace on the CPU backend."""
    trace = Trace()
    result, tensors = Session(model).run_batch(make_batch(model.inputs, data), trace=trace)
    return result.outputs, tensors, trace


def oracle(model: FloatModel, data: dict[str, Any]) -> dict[str, Any]:
    return run_oracle_batch(model, make_batch(model.inputs, data)).outputs


# --- schemes --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"activations": 4}, "activations=4, expected 8, 16 or auto"),
        ({"weights": 5}, "weights=5, expected 16, 8, 4 or auto"),
        ({"weights": 4.0}, "weights=4.0, expected 16, 8, 4 or auto"),
        ({"calibrator": "entropy"}, "calibrator='entropy', expected one of robust, minmax, percentile, mse"),
        ({"input": "32"}, "input='32', expected one of 8, 8-per-feature, 16, 16-per-feature, auto"),
        ({"gates": "pwl:100"}, "gates 'pwl:100': item 'pwl:100': expected pwl:N"),
        ({"gates": ""}, "expected pwl:N"),
    ],
)
def test_wrong_schemes_say_what_was_expected(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(QuantizationError, match=message.replace("(", r"\(")):
        Scheme(**choice)


def test_a_scheme_is_kept_with_the_model() -> None:
    scheme = Scheme(activations=16, gates="pwl:64", calibrator="mse", input="16")
    model = quantize(make_model(Shape("gru"), np.random.default_rng(0)), random_data(), scheme)
    assert model.provenance.scheme == scheme.to_dict()
    assert not model.provenance.random_calibration
    assert model.provenance.calibration_steps == 8 * 20


def test_calibration_is_data_or_the_word_random() -> None:
    float_model = make_model(Shape("gru"), np.random.default_rng(0))
    assert quantize(float_model, RANDOM, Scheme(input="8")).provenance.random_calibration
    with pytest.raises(QuantizationError, match="'zeros', expected arrays by input name, or the word 'random'"):
        quantize(float_model, "zeros")
    with pytest.raises(QuantizationError, match="no recurrent layer"):
        quantize(replace(float_model, layers=(), outputs=()), RANDOM)


def test_conversion_is_repeatable() -> None:
    float_model = make_model(Shape("lstm", directions=(False, True), head=4), np.random.default_rng(1))
    a, b = (quantize(float_model, random_data()) for _ in range(2))
    assert a.provenance == b.provenance
    assert a.proof == b.proof
    for left, right in zip(a.layers, b.layers, strict=True):
        if isinstance(left, QuantDense) and isinstance(right, QuantDense):
            np.testing.assert_array_equal(left.matrix.weight, right.matrix.weight)


def test_every_decision_has_its_reason() -> None:
    model = quantize(make_model(Shape("lstm", head=4), np.random.default_rng(1)), random_data())
    decisions = "\n".join(model.provenance.decisions)
    for text in (
        "x: input scheme",
        "widths: as cheap as they can be within 1.5 dB of the floor",
        "h int16 with 15",
        "c int32 with",
        "h operand within",
        "logits: int16",
    ):
        assert text in decisions


# --- formats that hold ----------------------------------------------------------------------------------------------------------


def test_a_relu_state_gets_a_format_that_holds() -> None:
    """A state that grows far beyond 1 on the calibration data is not clipped, and half its range is headroom."""
    float_model = make_model(Shape("rnn", hidden_size=16, weight=0.3, activations=RELU), np.random.default_rng(2))
    data = random_data(amplitude=40.0)
    want = oracle(float_model, data)
    largest = np.abs(want["y"]).max()
    assert largest > 20.0
    for activations in (8, 16):
        model = quantize(float_model, data, Scheme(activations=activations, input="16"))
        layer = model.recurrent_layers[0]
        assert 2.0 ** (15 - layer.h_frac) >= 2 * largest
        outputs, tensors, trace = run(model, data)
        assert np.abs(tensors[layer.output]).max() < 32767
        assert not saturated(trace.arrays[f"{layer.name}[0].pre"], upper=True).any()
        assert sqnr_db(want["y"], outputs["y"]) > (30.0 if activations == 8 else 40.0)


def saturated(values: Any, upper: bool = False) -> Any:
    return (values == 32767) if upper else (values == 32767) | (values == -32768)


def test_a_cell_of_400_gets_a_format_that_holds() -> None:
    """An LSTM that counts: f and i stay at 1, so |c| reaches 400 over 400 steps."""
    float_model = make_model(Shape("lstm", input_size=1, hidden_size=4, weight=0.0, bias=0.0), np.random.default_rng(3))
    layer = float_model.layers[0]
    assert isinstance(layer, Recurrent)
    bias = np.repeat([20.0, 20.0, 20.0, 20.0], 4)
    bias[8:10] = -20.0
    direction = replace(layer.directions[0], bias_ih=bias)
    float_model = replace(float_model, layers=(replace(layer, directions=(direction,)),))
    data = {"x": np.zeros((1, 400, 1))}
    want = oracle(float_model, data)
    assert np.abs(want["c"]).max() == pytest.approx(400.0, abs=0.01)
    with pytest.warns(CalibrationWarning, match="every calibration value is 0"):
        model = quantize(float_model, data, Scheme(input="8"))
    quantized = model.recurrent_layers[0]
    assert 2.0 ** (31 - quantized.c_frac) >= 4 * 399.9
    outputs, tensors, _ = run(model, data)
    assert np.abs(tensors["layer0.c_n"].astype(np.int64)).max() < (1 << 31) // 3
    np.testing.assert_allclose(outputs["c"], want["c"], rtol=1e-4)
    longer = {"x": np.zeros((1, 1500, 1))}
    outputs, _, _ = run(model, longer)
    np.testing.assert_allclose(outputs["c"], oracle(float_model, longer)["c"], rtol=1e-4)


@pytest.mark.parametrize("scheme", ["8", "8-per-feature", "16"])
def test_an_input_of_670_is_not_clipped(scheme: str) -> None:
    float_model = make_model(Shape("gru", hidden_size=12, weight=0.1, head=3), np.random.default_rng(4))
    data = random_data()
    data["x"][0, 3] = 670.0, -670.0, 5.0
    with pytest.warns(
        CalibrationWarning, match=r"feature 0: 1 value of 160 \(670\).*feature 1: 1 value of 160 \(-670\).*kept"
    ):
        model = quantize(float_model, data, Scheme(input=scheme))
    fmt = model.tensors["x"]
    q = np.floor(data["x"] / np.asarray(fmt.scale) + 0.5)
    assert np.abs(q).max() <= fmt.limit
    room = WIDE_HEADROOM if scheme == "16" else 1.0
    assert np.asarray(fmt.scale).max() * fmt.limit == pytest.approx(670.0 * room)
    model.proof  # noqa: B018  # construction proved every accumulator
    outputs, _, _ = run(model, data)
    if scheme == "16":
        assert sqnr_db(oracle(float_model, data)["y"], outputs["y"]) > 35.0


def test_auto_takes_more_bits_where_they_are_needed() -> None:
    """One loud feature leaves 8 bits of one scale nothing for the others."""
    float_model = make_model(Shape("gru", hidden_size=12, weight=0.3, head=3), np.random.default_rng(4))
    data = random_data()
    data["x"][:, ::7, 0] *= 3000.0
    narrow, chosen = (quantize(float_model, data, Scheme(input=width)) for width in ("8", "auto"))
    assert chosen.tensors["x"].bits == 16 or len(chosen.tensors["x"].scale) > 1
    want = oracle(float_model, data)["y"]
    lost, kept = (sqnr_db(want, run(model, data)[0]["y"]) for model in (narrow, chosen))
    assert kept > lost + 6


def test_a_small_state_keeps_its_bits() -> None:
    """The h operand's shift follows the data: a state of 0.02 is read with more than three bits."""
    float_model = make_model(Shape("gru", hidden_size=16, weight=0.2, bias=0.0), np.random.default_rng(5))
    data = random_data(amplitude=0.05)
    model = quantize(float_model, data, Scheme(input="16"))
    layer = model.recurrent_layers[0]
    _, tensors, _ = run(model, data)
    largest = np.abs(tensors[layer.output].astype(int)).max()
    assert layer.h_operand.shift < 8
    assert 64 <= largest / 2**layer.h_operand.shift <= 140
    outputs, _, _ = run(model, data)
    assert sqnr_db(oracle(float_model, data)["y"], outputs["y"]) > 30.0


def test_an_initial_state_of_the_model_is_not_clipped() -> None:
    """h_0 is read in the first step, however small the states after it are."""
    float_model = make_model(Shape("lstm", hidden_size=32, weight=0.2, bias=0.0), np.random.default_rng(5))
    layer = float_model.layers[0]
    assert isinstance(layer, Recurrent)
    h_0 = InitialState(np.random.default_rng(6).uniform(-0.9, 0.9, 32))
    direction = replace(layer.directions[0], h_0=h_0)
    float_model = replace(float_model, layers=(replace(layer, directions=(direction,)),))
    data = random_data(amplitude=0.05)
    outputs, _, _ = run(quantize(float_model, data, Scheme(input="16")), data)
    want = oracle(float_model, data)["y"]
    assert sqnr_db(want[:, 0], outputs["y"][:, 0]) > 30.0


def test_huge_weights_are_converted_coarser_and_stay_right() -> None:
    """Rows with a pre_shift: their gates are saturated nearly always, and right."""
    float_model = make_model(Shape("lstm", hidden_size=6, weight=1e4, bias=1.0), np.random.default_rng(6))
    data = random_data(amplitude=50.0)
    model = quantize(float_model, data, Scheme(input="16"))
    direction = model.recurrent_layers[0].directions[0]
    assert direction.pre_shift.max() > 0
    assert any("bits coarser" in decision for decision in model.provenance.decisions)
    assert max(model.proof.values()) < 1 << 31


def test_the_state_input_is_clamped() -> None:
    float_model = make_model(Shape("gru", states=True), np.random.default_rng(7))
    data = random_data(sequences=2) | {"state": np.full((2, 2, 1, 1, 5), 99.0)}
    model = quantize(float_model, random_data(), Scheme(input="8"))
    h, _ = Session(model).initial_state(2, {"state": data["state"].reshape(2, -1)}).layers["layer0"]
    assert (h == 32767).all()
    outputs, _, _ = run(model, data)
    assert np.isfinite(outputs["y"]).all()


# --- accuracy -------------------------------------------------------------------------------------------------------------------


def functions(*described: tuple[Any, ...]) -> dict[str, Activation]:
    """Gate, candidate and output from kinds with their parameters."""
    return {role: Activation(*f) for role, f in zip(("gate", "candidate", "output"), described, strict=False)}


SHAPES = (
    Shape("lstm", 4, 24, weight=0.25),
    Shape("lstm", 4, 24, (False, True), layers=2, weight=0.25, head=5),
    Shape("gru", 4, 24, weight=0.25, linear_before_reset=True),
    Shape("gru", 4, 24, weight=0.25, linear_before_reset=False),
    Shape("gru", 4, 24, (True,), layers=2, weight=0.25, head=5),
    Shape("rnn", 4, 24, weight=0.15),
    Shape("rnn", 4, 24, weight=0.15, activations=RELU),
    Shape("lstm", 4, 24, weight=0.25, activations={"gate": Activation("hard_sigmoid", 1 / 6, 0.5)}),
    Shape("lstm", 4, 24, weight=0.25, forget="one"),
    Shape("lstm", 4, 24, weight=0.25, forget="coupled", peephole=0.3, clip=0.5),
    Shape("lstm", 4, 24, weight=0.25, peephole=1.0),
    Shape("lstm", 4, 24, weight=0.25, projection=8),
    Shape("lstm", 4, 24, (False, True), 2, weight=0.25, projection=8, projected=Activation("tanh"), residual=True),
    Shape("rnn", 4, 24, weight=0.15, projection=8),
    Shape("rnn", 4, 24, weight=0.25, projection=8, projected="softmax"),
    Shape("gru", 4, 24, weight=0.25, update_keeps=False),
    Shape("gru", 4, 24, layers=2, weight=0.25, residual=True, clip=0.5),
    Shape(
        "lstm", 4, 24, weight=0.1, activations=functions(("affine", 0.2, 0.5), ("elu", 1.0), ("scaled_tanh", 1.7, 0.6))
    ),
    Shape(
        "lstm", 4, 24, weight=0.1, activations=functions(("hard_sigmoid",), ("leaky_relu", 0.1), ("affine", 0.5, 0.0))
    ),
    Shape("lstm", 4, 24, weight=0.05, activations=functions(("softsign",), ("softsign",), ("softplus",))),
    Shape("gru", 4, 24, weight=0.1, activations=functions(("affine", 0.2, 0.5), ("softplus",))),
    Shape("gru", 4, 24, weight=0.1, activations=functions(("hard_sigmoid",), ("thresholded_relu", 0.2))),
    *(
        Shape("rnn", 4, 24, weight=0.1, activations={"candidate": Activation(*f)})  # type: ignore[arg-type]
        for f in (
            ("affine", 0.7, 0.1),
            ("leaky_relu", 0.1),
            ("scaled_tanh", 1.7, 0.66),
            ("elu", 1.0),
            ("softplus",),
            ("hard_tanh",),
        )
    ),
)


@pytest.mark.wide(cover=False, keep=10)
@pytest.mark.parametrize(
    "shape", SHAPES, ids=lambda s: f"{s.cell}-{len(s.directions)}x{s.layers}-{s.linear_before_reset}"
)
def test_agreement_with_the_oracle(shape: Shape) -> None:
    """W8A8 stays above 30 dB and 8-bit weights with 16-bit activations above it; 16 bits are limited by the weights alone."""
    float_model = make_model(shape, np.random.default_rng(8))
    data = random_data(4, sequences=8, steps=50)
    want = oracle(float_model, data)
    found = {}
    for bits, scheme in ((8, Scheme(input="8")), (16, Scheme(activations=16, input="16"))):
        outputs, _, _ = run(quantize(float_model, data, scheme), data)
        found[bits] = min(sqnr_db(want[name], outputs[name]) for name in want)
    assert found[8] > 27.0, found
    assert found[16] > 33.0, found
    assert found[16] > found[8], found


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_error_does_not_grow_with_time(cell: str) -> None:
    float_model = make_model(Shape(cell, 4, 16, weight=0.3), np.random.default_rng(9))  # type: ignore[arg-type]
    data = random_data(4, sequences=4, steps=800)
    outputs, _, _ = run(quantize(float_model, data, Scheme(activations=16, input="16")), data)
    want = oracle(float_model, data)["y"]
    early, late = (sqnr_db(want[:, s], outputs["y"][:, s]) for s in (slice(20, 120), slice(-100, None)))
    assert late > early - 3.0


@pytest.mark.parametrize("activations", [8, 16])
@pytest.mark.parametrize("forced", ["8", "8-per-feature", "16"])
def test_a_forced_input_scheme_is_kept(activations: int, forced: str) -> None:
    rng = np.random.default_rng(3)
    data = {"x": rng.normal(size=(4, 6, 3))}
    quantized = quantize(make_model(Shape("gru"), rng), data, Scheme(activations=activations, input=forced))
    fmt = quantized.tensors["x"]
    assert (fmt.bits, len(fmt.scale)) == {"8": (8, 1), "8-per-feature": (8, 3), "16": (16, 1)}[forced]


def test_progress_reaches_its_end() -> None:
    rng = np.random.default_rng(3)
    seen: list[tuple[int, int]] = []
    quantize(make_model(Shape("gru"), rng), {"x": rng.normal(size=(5, 6, 3))}, progress=lambda *p: seen.append(p))
    assert seen[0] == (5, 10)
    assert seen[-1] == (10, 10)
    assert seen == sorted(seen)


@pytest.mark.parametrize("amplitude", [1.0, 1e6])
def test_a_state_beyond_its_integers_is_refused(amplitude: float) -> None:
    """A ReLU state grows with its inputs; int16 without fraction bits ends at 32768."""
    model = make_model(Shape("rnn", activations={"candidate": Activation("relu")}), np.random.default_rng(0))
    data = {"x": np.random.default_rng(1).normal(size=(4, 20, 3)) * amplitude}
    if amplitude == 1.0:
        assert quantize(model, data).recurrent_layers[0].h_frac > 0
        return
    with pytest.raises(
        QuantizationError, match=r"\|h\| reaches .* in calibration, beyond 3.277e\+04.*scale the inputs"
    ):
        quantize(model, data)


def test_empty_sequences_do_not_disturb_the_trial_of_input_schemes() -> None:
    model = make_model(Shape("gru"), np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(3, 5, 3))
    quantized = quantize(model, {"x": x, "lengths": np.array([0, 5, 0])})
    assert quantized.provenance.calibration_steps == 5
    with pytest.raises(DataError, match="every sequence has length 0"):
        quantize(model, {"x": x, "lengths": np.zeros(3, np.int64)})


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_float_model_that_diverges_is_refused() -> None:
    model = make_model(Shape("lstm", activations={"gate": Activation("relu")}, weight=1e30), np.random.default_rng(0))
    with pytest.raises(DataError, match=r"the float model diverges, .* is not finite"):
        quantize(model, {"x": np.ones((1, 50, 3))})
