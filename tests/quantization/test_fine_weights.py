"""Layers whose weights are the sum of two matrices of 8 bits: the same function, and less of what rounding the weights costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qrnn import Scheme, Session, layers
from qrnn.accuracy.explain import explain
from qrnn.accuracy.metrics import sqnr_db
from qrnn.accuracy.verdict import judge
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.conversion.beside import lines
from qrnn.equations.oracle import run_oracle
from qrnn.errors import QuantizationError
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.add import Add
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.dense import Dense
from qrnn.model.matrix_layer import QuantMatrixLayer
from qrnn.quantization.fine_weights import with_fine_weights


def network(on_a_grid: bool = False) -> FloatModel:
    """A convolution and a dense layer whose weights differ a thousandfold within a row, before a small GRU."""
    rng = np.random.default_rng(0)
    weight: Any = rng.normal(size=(6, 4, 3)) * 10 ** rng.uniform(-2, 0.5, (6, 4, 3))
    if on_a_grid:
        weight = np.rint(weight / np.abs(weight).max() * 100) / 64
    x = layers.input("x", 4)
    c = layers.conv(x, weight, rng.normal(size=6), name="conv")
    d = layers.dense(c, rng.normal(size=(5, 6)) * 10 ** rng.uniform(-2, 0.5, (5, 6)), rng.normal(size=5), name="dense")
    h = layers.gru(d, rng.normal(0, 0.2, (9, 5)), rng.normal(0, 0.2, (9, 3)), rng.normal(size=9))
    return layers.model("fine", {"d": d, "h": h.output})


def hard_network() -> FloatModel:
    """A dense layer each of whose rows has one great weight, of a feature that is nearly constant, before a small GRU."""
    rng = np.random.default_rng(6)
    x = layers.input("x", 4)
    weight = rng.normal(size=(5, 4))
    weight[:, 0] = 4000.0
    small = layers.dense(x, np.diag([1e-5, 1.0, 1.0, 1.0]), np.zeros(4))
    d = layers.dense(layers.activation(small, "tanh"), weight, np.zeros(5))
    h = layers.gru(d, rng.normal(0, 0.2, (9, 5)), rng.normal(0, 0.2, (9, 3)), rng.normal(size=9))
    return layers.model("hard", {"h": h.output})


def test_the_function_stays_the_same() -> None:
    model = network()
    fine = with_fine_weights(model, ["conv", "dense"])
    assert [type(layer) for layer in fine.layers[:6]] == [Conv, Conv, Add, Dense, Dense, Add]
    x = {"x": np.random.default_rng(1).normal(size=(2, 9, 4))}
    want, got = (run_oracle(m, x).outputs for m in (model, fine))
    for name, values in want.items():
        np.testing.assert_allclose(got[name], values, atol=1e-12, err_msg=name)


def test_less_of_the_weights_is_lost() -> None:
    model = network()
    x = {"x": np.random.default_rng(2).normal(size=(8, 40, 4))}
    want = run_oracle(model, x).outputs["d"]
    plain, fine = (
        sqnr_db(want, Session(quantize(m, x, Scheme(activations=16, input="16")), "reference").run(x).outputs["d"])
        for m in (model, with_fine_weights(model, ["conv", "dense"]))
    )
    assert fine > plain + 15


@pytest.mark.parametrize("activations", [8, 16, "auto"])
def test_a_scheme_asks_for_them(activations: int | str) -> None:
    """The written model's names are those that widths, explain and the verdict speak of."""
    model, x = network(), {"x": np.random.default_rng(4).normal(size=(8, 40, 4))}
    scheme = Scheme(activations=activations, weights=16, refine="none")
    made = quantize(model, x, scheme)
    assert [layer.name for layer in made.layers if isinstance(layer, QuantMatrixLayer)] == [
        "conv", "conv.fine", "dense", "dense.fine",
    ]  # fmt: skip
    assert {part.part.where for part in explain(model, made, x).costs} >= {"conv", "conv.fine"}
    if activations == 16:
        verdict = judge(model, made, x)
        assert verdict.model_db > judge(model, quantize(model, x, Scheme(activations=16)), x).model_db + 10
        assert verdict.floor_db > verdict.model_db
    widths = quantize(model, x, replace(scheme, activations=8, widths={"dense.x": 16})).provenance.scheme["widths"]
    assert widths["dense.x"] == "16"
    with pytest.raises(QuantizationError, match="weights=12, expected 16, 8, 4 or auto"):
        Scheme(weights=12)


def test_the_default_takes_them_where_eight_bits_are_far_too_few() -> None:
    x = {"x": np.random.default_rng(5).normal(size=(8, 40, 4))}
    steep = network()  # its d has 8-bit weights of about 40 dB
    few = quantize(hard_network(), x)
    assert few.provenance.scheme["weights"] == 16
    assert few.provenance.decisions[0].startswith("weights: 16 bits chosen, since the floor is ")
    assert quantize(steep, x).provenance.scheme["weights"] == 8
    assert quantize(hard_network(), "random").provenance.scheme["weights"] == 8
    coarse = Scheme(activations="auto")
    made = quantize(hard_network(), x, coarse)
    found = lines(hard_network(), made, x, coarse, judge(hard_network(), made, x))
    assert found[0].startswith("note: the floor is ")
    assert found[0].endswith(": --weights 16")


def test_weights_on_a_grid_stay_as_they_are() -> None:
    model = network(on_a_grid=True)
    assert with_fine_weights(model, ["conv"]).layers[0] is model.layers[0]
    assert len(with_fine_weights(model, ["conv"]).layers) == len(model.layers)


@pytest.mark.parametrize("backend", available_backends())
def test_backends_agree(backend: str) -> None:
    x = {"x": np.random.default_rng(3).normal(size=(3, 8, 4))}
    made = quantize(with_fine_weights(network(), ["dense", "conv"]), x)
    want, got = (Session(made, name).run(x).outputs for name in ("reference", backend))
    for name, values in want.items():
        np.testing.assert_array_equal(got[name], values)


def test_a_name_that_is_no_such_layer() -> None:
    with pytest.raises(
        QuantizationError, match=r"fine weights of 'gru': no dense layer or convolution .* expected conv, dense"
    ):
        with_fine_weights(network(), ["gru"])
