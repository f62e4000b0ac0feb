"""Explanations: the parts together are the integers, each alone is what its name says, and mistakes are said."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from models import Shape, make_model

from qrnn.accuracy.explain import advice, explain, part_text
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
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["parts"][0]["gate"] == "f"


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
        f"{36 * 9 - matrix.weight_bytes} bytes more",
    )
    assert advice(eight, table) == ("--gates forget=pwl:512", "768 bytes of table more")
    assert advice(four, table) == ("--refine gates", "nothing at run time")
    assert advice(eight, Part(name, "x operand"))[0] == "--widths x=16"
    per_feature = quantize(model, data, Scheme(input="8-per-feature"))
    assert advice(per_feature, Part(name, "x operand"))[0] == "--widths x=16"
    assert advice(eight, Part(f"{name}[0]", "h operand"))[0] == f"--widths {name}.h=16"
    assert advice(eight, Part(f"{name}[0]", "c state"))[0].startswith("nothing")


@pytest.mark.parametrize("width", ["8", "8-per-feature"])
def test_what_is_to_be_widened_is_a_key_of_the_model(width: str) -> None:
    """Also where a narrow copy of a hidden tensor is read: the widened model has a wide operand there."""
    model = make_model(Shape("gru", 3, 5, layers=2), np.random.default_rng(1))
    data, (first, second) = {"x": np.random.default_rng(2).normal(size=(4, 12, 3))}, model.layers
    made = quantize(model, data, Scheme(input="8", widths={f"{second.name}.x": width}))
    for where, key in ((first.name, "x"), (second.name, f"{second.name}.x"), (f"{second.name}[0]", f"{second.name}.h")):
        option = advice(made, Part(where, "h operand" if key.endswith(".h") else "x operand"))[0]
        assert option == f"--widths {key}=16"
        widened = quantize(model, data, Scheme(input="8", widths=option.removeprefix("--widths ")))
        limits = [
            limit for layer in widened.recurrent_layers for limit in (layer.x_operand.limit, layer.h_operand.limit)
        ]
        assert [limit > 127 for limit in limits] == [
            key == k for k in ("x", "", f"{second.name}.x", f"{second.name}.h")
        ]


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
