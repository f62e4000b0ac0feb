"""The counts of clipped operands are those of the clamps that the reference makes; a few are counted by hand."""

from __future__ import annotations

import collections
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from models import Shape, make_model
from tool_modules import load_tool

from qrnn import layers
from qrnn.accuracy.compare import compare
from qrnn.accuracy.comparison import Comparison
from qrnn.arithmetic import cells, fixedpoint
from qrnn.backends import reference
from qrnn.conversion import quantize
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.quantization.scheme import Scheme

CATALOGUE = load_tool("cell_catalogue")
QUIET = np.random.default_rng(2).normal(size=(3, 6, 3)) * 0.1
LOUD = np.random.default_rng(3).normal(size=(3, 6, 3)) * 3


def check_counts(model: FloatModel, data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Comparison, int]:
    """Compare what is counted with what the reference clamps in its steps; return the comparison, and how much that is."""
    quantized = quantize(model, {"x": QUIET}, Scheme(input="8"))
    seen: collections.Counter[str] = collections.Counter()

    def to_operand(x: int, shift: int, limit: int) -> int:
        seen["clipped"] += abs(fixedpoint.shift_right_round(x, shift)) > limit
        return fixedpoint.to_operand(x, shift, limit)

    def reset_operand(r: int, h: int, r_frac: int, shift: int, limit: int) -> int:
        seen["r·h"] += abs(fixedpoint.shift_right_round(r * h, r_frac + shift)) > limit
        return cells.reset_operand(r, h, r_frac, shift, limit)

    changed = {"to_operand": to_operand, "reset_operand": reset_operand}
    monkeypatch.setattr(reference, "CHECKED", SimpleNamespace(**(vars(reference.CHECKED) | changed)))
    result = compare(model, quantized, {"lengths": np.array([6, 4, 1]), **data}, backend="reference")
    found = {s.where: s.saturated for s in result.saturation if s.where.endswith(" operand")}
    for layer in quantized.layers:
        x = found.pop(f"{layer.name}: x operand", 0)
        if isinstance(layer, QuantRecurrent):
            found[f"{layer.name}: x"] = x * len(layer.directions)  # each direction reads it
    products = sum(n for where, n in found.items() if "r·h" in where)
    assert sum(found.values()) - products == seen["clipped"]
    before = [
        layer for layer in quantized.recurrent_layers if layer.declaration.reset_gate and not layer.linear_before_reset
    ]
    assert products == (seen["r·h"] if before else 0)
    return result, seen["clipped"]


@pytest.mark.parametrize(
    "shape",
    [
        Shape("lstm", layers=2, directions=(False, True), projection=4, bias=0.0),
        Shape("rnn", layers=2, projection=4, states=True, bias=0.0),
        Shape("gru", layers=2, linear_before_reset=False, directions=(True,), bias=0.0, weight=1.5),
        Shape("gru", layers=2, linear_before_reset=True, bias=0.0, weight=2.0),
    ],
    ids=lambda shape: f"{shape.cell}{int(shape.linear_before_reset)}",
)
def test_as_many_are_counted_as_the_reference_clamps(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    data: dict[str, Any] = {"x": LOUD}
    if shape.states:
        data["state"] = np.random.default_rng(4).normal(size=(3, *shape.state_shape)) * 0.5
    result, clipped = check_counts(make_model(shape, np.random.default_rng(1)), data, monkeypatch)
    assert clipped > 0
    read = [s for s in result.saturation if s.where.endswith(": h operand")]
    assert {s.total for s in read} == {11 * shape.output_size}  # of the real steps alone


@pytest.mark.parametrize("name", CATALOGUE.CELLS)
def test_every_cell_of_the_catalogue_is_counted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_counts(CATALOGUE.cell(name, 5, 3), {"x": LOUD}, monkeypatch)


def read_twice() -> FloatModel:
    """Return a model whose input is read by a Concat too, so that it is int16 and matrices narrow it."""
    random = np.random.default_rng(1)
    x = layers.input("x", 3)
    gru = layers.gru(x, random.normal(size=(12, 3)), random.normal(size=(12, 4)), name="gru")
    both = layers.concat(gru.output, x, name="both")
    return layers.model("twice", {"y": layers.dense(both, random.normal(size=(2, 7)), name="head")})


@pytest.mark.parametrize(("width", "where"), [("8", "gru: x operand"), ("8-per-feature", "x_per_feature: copy")])
def test_operands_of_a_tensor_that_others_read_too(width: str, where: str) -> None:
    """Calibrated to ±1, 8 bits hold up to ±127/128 in steps of a power of two, or ±1 in steps of 1/127; 1.5 is beyond both."""
    quantized = quantize(read_twice(), {"x": np.full((1, 2, 3), 1.0)}, Scheme(widths={"x": width}))
    x = np.full((1, 4, 3), 0.5)
    x[0, 1, 0], x[0, 2, 1], x[0, 3] = 1.5, -1.5, 7.0
    result = compare(read_twice(), quantized, {"x": x, "lengths": np.array([3])})
    (found,) = [s for s in result.saturation if s.where == where]
    assert (found.saturated, found.total) == (2, 9)
    assert found.largest == pytest.approx(1.5, rel=0.02)
