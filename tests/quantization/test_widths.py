"""Widths by layer: their text, what a model has to choose, and the errors for what it does not have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import qrnn
from qrnn import layers
from qrnn.errors import QuantizationError
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel
from qrnn.model.parts import QuantMatrix, QuantMatrix4
from qrnn.quantization.build import Builder
from qrnn.quantization.calibrate import calibrate
from qrnn.quantization.choices import choices, resolved
from qrnn.quantization.floor import floor_of
from qrnn.quantization.widths import parse_widths, widths_text


def stacked() -> FloatModel:
    """Return a GRU of a graph input x and an LSTM of what the GRU gives."""
    random = np.random.default_rng(1)

    def draw(*shape: int) -> Any:
        return random.standard_normal(shape) * 0.4

    x = layers.input("x", 4)
    first = layers.gru(x, draw(18, 4), draw(18, 6), name="gru")
    second = layers.lstm(first.output, draw(20, 6), draw(20, 5), name="lstm")
    return layers.model("stacked", {"out": second.output})


X = np.random.default_rng(0).standard_normal((3, 12, 4))


def test_text_mappings_and_pairs_are_the_same() -> None:
    expected = (("gru.R", "4"), ("gru.h", "16"))
    for given in ("gru.h=16, gru.R=4", {"gru.h": 16, "gru.R": "4"}, [("gru.h", "16"), ("gru.R", 4)]):
        assert parse_widths(given) == expected
    assert parse_widths(widths_text(expected)) == expected
    odd = (("a,b.h", "16"),)
    assert parse_widths(widths_text(odd)) == odd
    assert parse_widths("none") == parse_widths("") == ()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("gru.h", "'gru.h', expected KEY=WIDTH"),
        ("gru.h=12", "gru.h=12, expected one of 4, 8"),
        ({"gru.h": 16.0}, "gru.h=16.0, expected one of"),
        ("gru.h=16,gru.h=8", "'gru.h' is given twice"),
        ("=16", "key ''"),
        (3, "widths=3, expected keys with widths"),
    ],
)
def test_wrong_texts_say_what_was_expected(given: Any, says: str) -> None:
    with pytest.raises(QuantizationError) as caught:
        qrnn.Scheme(widths=given)
    assert says in str(caught.value)


def test_a_model_lists_its_choices() -> None:
    found = {choice.key: choice.values for choice in choices(stacked())}
    assert found == {
        "x": ("8", "8-per-feature", "16", "16-per-feature"),
        "gru.h": ("8", "16"),
        "gru.W": ("4", "8"),
        "gru.R": ("4", "8"),
        "lstm.x": ("8", "8-per-feature", "16"),
        "lstm.h": ("8", "16"),
        "lstm.W": ("4", "8"),
        "lstm.R": ("4", "8"),
    }


@pytest.mark.parametrize(
    ("widths", "says"),
    [
        ("lstm2.h=16", "'lstm2.h' is no choice of model 'stacked'; expected x, gru.h"),
        ("gru.x=16", "'gru.x' is no choice"),
        ("gru.W=16", "gru.W=16, expected 4 or 8"),
        ("x=4", "x=4, expected 8 or 8-per-feature or 16"),
    ],
)
def test_what_a_model_does_not_have_is_refused(widths: str, says: str) -> None:
    with pytest.raises(QuantizationError) as caught:
        qrnn.quantize(stacked(), {"x": X}, qrnn.Scheme(widths=widths))
    assert says in str(caught.value)


def test_each_part_has_its_own_width() -> None:
    widths = {"x": "16", "gru.h": 16, "gru.R": 4, "lstm.x": 16, "lstm.W": 4}
    quantized = qrnn.quantize(stacked(), {"x": X}, qrnn.Scheme(widths=widths))
    gru, lstm = quantized.recurrent_layers
    limits = (
        [layer.x_operand.limit > 127 for layer in (gru, lstm)],
        [layer.h_operand.limit > 127 for layer in (gru, lstm)],
    )
    assert limits == ([True, True], [True, False])
    kinds = [type(m) for layer in (gru, lstm) for m in (layer.directions[0].ih, layer.directions[0].hh)]
    assert kinds == [QuantMatrix, QuantMatrix4, QuantMatrix4, QuantMatrix]
    assert quantized.provenance.scheme["widths"] == {key: str(value) for key, value in widths.items()}


def test_a_scheme_without_widths_is_written_as_before() -> None:
    quantized = qrnn.quantize(stacked(), {"x": X}, qrnn.Scheme(input="8"))
    assert "widths" not in quantized.provenance.scheme


@pytest.mark.parametrize(
    ("scheme", "says"),
    [
        ({"widths": {"lstm.h": 16}}, "target tiny: lstm.h=16, but the target has widest_operand = 8; choose lstm.h=8, or another target"),
        ({"widths": {"lstm.x": 16}}, "lstm.x=16, but"),
        ({"widths": {"x": 16}}, "target tiny: x=16, but"),
        ({"activations": 16}, "target tiny: gru.h=16, but"),
        ({"input": "16"}, "target tiny: x=16, but"),
    ],
)  # fmt: skip
def test_what_a_target_forbids_is_named(scheme: dict[str, Any], says: str) -> None:
    with pytest.raises(QuantizationError) as caught:
        qrnn.quantize(stacked(), {"x": X}, qrnn.Scheme(**scheme, widest_operand=8), "tiny")
    assert says in str(caught.value)


@pytest.mark.parametrize("scheme", [{}, {"activations": 16, "widths": dict.fromkeys(("gru.h", "lstm.x", "lstm.h"), 8)}])
def test_no_operand_is_wider_than_a_target_allows(scheme: dict[str, Any]) -> None:
    """Whatever is left to the conversion is chosen among what is allowed; features of 1 : 1000 would take 16 bits."""
    x = X * [1, 0.1, 0.01, 0.001]
    quantized = qrnn.quantize(stacked(), {"x": x}, qrnn.Scheme(**scheme, widest_operand=8))
    assert max(m.operand.limit for m in quantized.matrices) <= 127
    assert quantized.provenance.scheme["widest_operand"] == 8


def test_a_width_that_no_check_has_seen_is_refused_when_the_model_is_built() -> None:
    """A search may propose any width; what a target forbids is then no model."""
    model, scheme = stacked(), qrnn.Scheme(input="8", widest_operand=8)
    ranges = calibrate(model, make_batch(model.inputs, {"x": X}))
    provenance = qrnn.quantize(model, {"x": X}, scheme, "tiny").provenance
    with pytest.raises(QuantizationError, match="target tiny: x=16, but"):
        Builder(model, ranges, scheme, {"x": "16"}, []).build(provenance)


def narrow() -> FloatModel:
    """Return an LSTM of two features and 24 units, whose W is 8 % of its weights, and a GRU of those and 8, whose W is 75 %."""
    random = np.random.default_rng(1)

    def draw(*shape: int) -> Any:
        return random.standard_normal(shape) * 0.3

    x = layers.input("x", 2)
    first = layers.lstm(x, draw(96, 2), draw(96, 24), name="lstm")
    second = layers.gru(first.output, draw(24, 24), draw(24, 8), name="gru")
    return layers.model("narrow", {"out": second.output})


def test_four_bits_alone() -> None:
    """They are refined, and a W that is small keeps eight bits; what is named is as it is named."""
    model, data = narrow(), {"x": np.random.default_rng(0).standard_normal((12, 15, 2))}
    alone = qrnn.quantize(model, data, qrnn.Scheme(weights=4))
    assert alone.provenance.scheme["refine"] == "rounding,bias"
    assert {k: v for k, v in alone.provenance.scheme["widths"].items() if k.startswith("lstm.")} == {"lstm.W": "8"}
    assert "lstm.W: eight bits, since W is 8 % of the layer's recurrent weights" in alone.provenance.decisions
    kinds = [type(m) for layer in alone.recurrent_layers for m in (layer.directions[0].ih, layer.directions[0].hh)]
    assert kinds == [QuantMatrix, QuantMatrix4, QuantMatrix4, QuantMatrix4]
    spelled = qrnn.quantize(model, data, qrnn.Scheme(weights=4, refine="rounding,bias", widths="lstm.W=8"))
    for one, other in zip(alone.matrices, spelled.matrices, strict=True):
        np.testing.assert_array_equal(one.matrix.weight, other.matrix.weight)
    plain = qrnn.Scheme(weights=4, refine="none")
    named = qrnn.Scheme(weights=4, widths={"lstm.W": 4, "gru.W": 8})
    for scheme, widths in ((plain, ()), (qrnn.Scheme(), ()), (named, named.widths)):
        assert resolved(model, scheme)[0].widths == widths
    assert resolved(model, named)[0].refine == "rounding,bias"
    assert resolved(model, qrnn.Scheme())[0] == qrnn.Scheme()
    assert plain.to_dict()["refine"] == "none"
    assert qrnn.Scheme(**plain.to_dict()) == plain


def test_the_floor_follows_the_widths_of_matrices() -> None:
    model = narrow()
    batch = make_batch(model.inputs, {"x": np.random.default_rng(0).standard_normal((12, 15, 2))})
    mixed, four, eight = (
        [w.values for layer in floor_of(model, scheme, batch).layers for w in layer.weights()]
        for scheme in ({"weights": 4, "widths": {"lstm.W": "8"}}, {"weights": 4}, {})
    )
    for k, other in enumerate((eight, four, four, four)):
        np.testing.assert_array_equal(mixed[k], other[k])
    assert (mixed[0] != four[0]).any()
