"""Explanations: the parts together are the integers, each alone is what its name says, and mistakes are said."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from models import Shape, make_model

from qrnn import layers
from qrnn.accuracy.compare import compare
from qrnn.accuracy.explain import advice, explain
from qrnn.accuracy.explanation import part_text
from qrnn.accuracy.metrics import sqnr_db
from qrnn.accuracy.parts import Integers, Part, model_parts
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle_batch
from qrnn.errors import DataError
from qrnn.model.activation import Activation
from qrnn.model.batch import make_batch
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

SHAPES: dict[str, Any] = {
    "lstm": Shape("lstm", 6, 9, head=3),
    "bilstm": Shape("lstm", 6, 5, (False, True), layers=2, head=2, residual=True),
    "lstm 1997": Shape("lstm", 4, 5, forget="one"),
    "coupled, peepholes": Shape("lstm", 4, 5, forget="coupled", peephole=0.3, clip=2.0),
    "gru": Shape("gru", 6, 9, head=3),
    "gru before": Shape("gru", 6, 9, linear_before_reset=False, head=3),
    "gru turned": Shape("gru", 5, 7, (True,), update_keeps=False),
    "relu rnn": Shape("rnn", 4, 5, activations={"candidate": Activation("relu")}, weight=0.2),
    "projection": Shape("lstm", 4, 6, projection=3),
    "states": Shape("gru", 4, 5, states=True, head=2),
}
DATA = {"lengths": np.random.default_rng(3).integers(1, 12, 24)}


def data_for(shape: Shape) -> dict[str, Any]:
    return DATA | {"x": np.random.default_rng(0).normal(size=(24, 11, shape.input_size))}


@pytest.mark.wide
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    "scheme", [Scheme(input="8"), Scheme(input="8-per-feature", weights=4, gates="pwl:8")], ids=str
)
def test_all_parts_together_are_the_integers(name: str, scheme: Scheme) -> None:
    """The oracle with all parts is 8 times nearer to the integers than to the float model; the rest is the rounding of sums."""
    model, data = make_model(SHAPES[name], np.random.default_rng(1)), data_for(SHAPES[name])
    quantized, batch = quantize(model, data, scheme), make_batch(model.inputs, data)
    integers = Integers(quantized, model_parts(quantized))
    got = run_oracle_batch(integers.weights(model), batch, substitutes=integers).outputs["y"]
    want, real = Session(quantized).run_batch(batch)[0].outputs["y"], run_oracle_batch(model, batch).outputs["y"]
    assert sqnr_db(want, got) > sqnr_db(real, want) + 9


def test_no_part_is_the_float_model() -> None:
    model = make_model(SHAPES["bilstm"], np.random.default_rng(1))
    data = data_for(SHAPES["bilstm"])
    quantized, batch = quantize(model, data, Scheme(input="8")), make_batch(model.inputs, data)
    integers = Integers(quantized, [])
    got, want = (
        run_oracle_batch(m, batch, substitutes=s).outputs["y"]
        for m, s in ((integers.weights(model), integers), (model, None))
    )
    np.testing.assert_array_equal(got, want)


def test_what_was_made_bad_is_named() -> None:
    """One gate's recurrent weights rounded to a few values; the explanation puts them first, and the whole is as bad as they are."""
    shape = SHAPES["lstm"]
    model, data = make_model(shape, np.random.default_rng(1)), data_for(shape)
    quantized = quantize(model, data, Scheme(input="8"))
    layer = quantized.recurrent_layers[0]
    d = layer.directions[0]
    weight = d.hh.weight.copy()
    weight[9:18] = np.sign(weight[9:18]) * (np.abs(weight[9:18]) // 64 * 64)  # f
    worse = replace(layer, directions=(replace(d, hh=replace(d.hh, weight=weight)),))
    edited = replace(quantized, layers=tuple(worse if p is layer else p for p in quantized.layers))
    found = explain(model, edited, data)
    first = found.costs[0]
    assert (first.part.kind, first.part.gate) == ("recurrent weights", "f")
    assert part_text(first.part) == "forget gate, recurrent weights"
    assert first.share == pytest.approx(1.0, abs=0.15)
    assert first.without_db is not None
    assert first.without_db > found.sqnr_db + 10
    assert found.sqnr_db_all_parts == pytest.approx(found.sqnr_db, abs=0.3)
    assert [c.energy for c in found.costs] == sorted((c.energy for c in found.costs), reverse=True)
    assert {c.part for c in found.costs} == set(model_parts(edited))
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["parts"][0]["gate"] == "f"


def test_advice() -> None:
    shape = SHAPES["lstm"]
    model, data = make_model(shape, np.random.default_rng(1)), data_for(shape)
    name = next(iter(model.layers)).name
    eight = quantize(model, data, Scheme(input="8"))
    four = quantize(model, data, Scheme(input="8", weights=4, refine="rounding", gates="hard"))
    weights, table = Part(f"{name}[0]", "recurrent weights", "f"), Part(f"{name}[0]", "gate function", "f")
    assert advice(eight, weights) == ("--refine rounding", "nothing at run time")
    matrix = four.recurrent_layers[0].directions[0].hh
    assert advice(four, weights) == (
        f"--widths {name}.R=8",
        f"{36 * 9 - matrix.weight_bytes} bytes more for this matrix",
    )
    assert advice(eight, table) == ("--gates forget=pwl:512", "768 bytes of table more")
    assert advice(four, table) == ("--refine gates", "nothing at run time")
    assert advice(eight, Part(name, "x operand"))[0] == "--widths x=16 (or 8-per-feature)"
    per_feature = quantize(model, data, Scheme(input="8-per-feature"))
    assert advice(per_feature, Part(name, "x operand"))[0] == "--widths x=16"
    assert advice(eight, Part(f"{name}[0]", "h operand"))[0] == f"--widths {name}.h=16"
    some = quantize(model, data, Scheme(input="8", widths={f"{name}.R": 4}))
    assert advice(some, Part(f"{name}[0]", "h operand"))[0] == f"--widths {name}.R=4,{name}.h=16"
    assert advice(eight, Part(f"{name}[0]", "c state"))[0].startswith("nothing")


@pytest.mark.parametrize("width", ["8", "8-per-feature"])
def test_what_is_to_be_widened_is_a_key_of_the_model(width: str) -> None:
    """Also where a narrow copy of a hidden tensor is read: the widened model has a wide operand there."""
    model = make_model(Shape("gru", 3, 5, layers=2), np.random.default_rng(1))
    data, (first, second) = {"x": np.random.default_rng(2).normal(size=(4, 12, 3))}, model.layers
    made = quantize(model, data, Scheme(input="8", widths={f"{second.name}.x": width}))
    for where, key in ((first.name, "x"), (second.name, f"{second.name}.x"), (f"{second.name}[0]", f"{second.name}.h")):
        option = advice(made, Part(where, "h operand" if key.endswith(".h") else "x operand"))[0]
        given = option.removeprefix("--widths ").removesuffix(" (or 8-per-feature)")
        assert f"{key}=16" in given
        widened = quantize(model, data, Scheme(input="8", widths=given))
        limits = [
            limit for layer in widened.recurrent_layers for limit in (layer.x_operand.limit, layer.h_operand.limit)
        ]
        assert [limit > 127 for limit in limits] == [
            key == k for k in ("x", "", f"{second.name}.x", f"{second.name}.h")
        ]


def test_values_beyond_the_calibrated_range_are_not_cured_by_more_bits() -> None:
    shape = SHAPES["lstm"]
    model, data = make_model(shape, np.random.default_rng(1)), data_for(shape)
    quantized = quantize(model, data, Scheme(input="8"))
    for scale, starts in ((1.0, "--widths x=16"), (20.0, "convert with calibration data like these")):
        found = explain(model, quantized, data | {"x": scale * data["x"]})
        (advice,) = (
            c.advice for c in found.costs if (c.part.where, c.part.kind) == (model.layers[0].name, "x operand")
        )
        assert advice.startswith(starts)


def test_what_cannot_be_explained() -> None:
    shape = SHAPES["gru"]
    model, data = make_model(shape, np.random.default_rng(1)), data_for(shape)
    with pytest.raises(DataError, match="equalize"):
        explain(model, quantize(model, data, Scheme(input="8", refine="equalize")), data)
    other = replace(model, source_sha256="1" * 64)
    with pytest.raises(DataError, match="another file"):
        explain(replace(model, source_sha256="2" * 64), quantize(other, data, Scheme(input="8")), data)
    with pytest.raises(DataError, match="length 0"):
        explain(model, quantize(model, data, Scheme(input="8")), data | {"lengths": np.zeros(24, int)})


def test_advice_of_operands_names_the_key_that_widens_them() -> None:
    """A hidden tensor is named by its reader, a source by itself, though a copy with a scale for each feature stands between."""
    x = layers.input("x", 3)
    random = np.random.default_rng(0)
    gru = layers.gru(x, random.normal(size=(12, 3)), random.normal(size=(12, 4)), name="gru")
    both = layers.concat(gru.output, x, name="both")
    model = layers.model("twice", {"y": layers.dense(both, random.normal(size=(2, 7)), name="head")})
    data = {"x": random.normal(size=(2, 9, 3))}
    for widths, expected in (
        ({"x": "8"}, ("--widths x=16 (or 8-per-feature)", "--widths head.x=16,x=8 (or 8-per-feature)")),
        (
            {"x": "8-per-feature", "head.x": "8-per-feature"},
            ("--widths head.x=8-per-feature,x=16", "--widths head.x=16,x=8-per-feature"),
        ),
    ):
        quantized = quantize(model, data, Scheme(widths=widths))
        assert tuple(advice(quantized, Part(name, "x operand"))[0] for name in ("gru", "head")) == expected


def test_what_is_clipped_is_counted() -> None:
    """As `compare` counts it, on the same data."""
    shape = SHAPES["lstm"]
    model, data = make_model(shape, np.random.default_rng(1)), data_for(shape)
    quantized = quantize(model, {"x": data["x"] * 0.1}, Scheme(input="8"))
    found, report = explain(model, quantized, data), compare(model, quantized, data)
    places = {s.where for s in found.clipped}
    assert found.clipped == tuple(s for s in report.saturation if s.where in places)
    assert {s.where for s in report.saturation if s.saturated and "operand" in s.where} <= places
    assert "input x: beyond its calibrated range" in places
    assert found.to_dict()["clipped"][0]["saturated"] == found.clipped[0].saturated > 0
