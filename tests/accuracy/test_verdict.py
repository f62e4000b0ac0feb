"""The line that ends a conversion: floor, model, and what costs the difference."""

from __future__ import annotations

import numpy as np
import pytest
from models import Shape, make_model

import qrnn
from qrnn.accuracy.verdict import GROUPS, judge
from qrnn.conversion import quantize

SHAPES = {
    "lstm": Shape("lstm", 3, 8, head=4),
    "gru": Shape("gru", 3, 8, (False, True)),
    "peepholes": Shape("lstm", 3, 8, peephole=0.5),
}


@pytest.mark.parametrize("name", SHAPES)
def test_figures_are_those_of_compare(name: str) -> None:
    model = make_model(SHAPES[name], np.random.default_rng(0))
    data = {"x": np.random.default_rng(1).normal(size=(6, 20, 3)), "lengths": np.array([20, 20, 3, 1, 9, 20])}
    made = quantize(model, data)
    found, compared = judge(model, made, data), qrnn.compare(model, made, data)
    assert found.model_db == pytest.approx(compared.outputs[found.output].about_mean_db)
    assert found.floor_db == pytest.approx(compared.floor[found.output].about_mean_db)
    assert sum(share for _, share in found.shares) == pytest.approx(1.0)
    assert {name for name, _ in found.shares} <= set(GROUPS)
    assert str(found).startswith(f"{found.output}: SQNR ")


def test_every_part_but_weights_is_of_a_group() -> None:
    weights = {"weights", "input weights", "recurrent weights", "projection"}
    for shape in (*SHAPES.values(), Shape("rnn", 3, 8, projection=4, projected="softmax")):
        made = quantize(make_model(shape, np.random.default_rng(0)), {"x": np.ones((2, 5, 3))})
        kinds = {part.kind for layer in made.layers for part in layer.integer_parts()} - weights
        assert kinds <= {kind for group in GROUPS.values() for kind in group}


def test_what_costs_most_comes_first() -> None:
    """Step gates in the place of sigmoids cost more than all else; 16-bit operands cost next to nothing."""
    model = make_model(SHAPES["gru"], np.random.default_rng(0))
    data = {"x": np.random.default_rng(1).normal(size=(6, 20, 3))}
    (first, share), *_ = judge(model, quantize(model, data, qrnn.Scheme(gates="step")), data).shares
    assert (first, share > 0.9) == ("gate functions", True)
    wide = dict(judge(model, quantize(model, data, qrnn.Scheme(activations=16)), data).shares)
    narrow = dict(judge(model, quantize(model, data, qrnn.Scheme()), data).shares)
    assert wide["operands"] < narrow["operands"]


def test_refined_models_have_no_shares() -> None:
    model = make_model(SHAPES["lstm"], np.random.default_rng(0))
    data = {"x": np.random.default_rng(1).normal(size=(6, 20, 3))}
    found = judge(model, quantize(model, data, qrnn.Scheme(gates="hard", refine="gates")), data)
    assert found.shares == ()
    assert "beside the weights" not in str(found)
