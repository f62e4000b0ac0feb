"""Weights of four bits in convolutions: which have them, what they cost, and what refinement wins back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qrnn
from qrnn import QuantizationError, Scheme, Session, layers
from qrnn.accuracy.explain import advice
from qrnn.conversion import quantize
from qrnn.conversion.prices import step_instructions
from qrnn.devices.fit import judge
from qrnn.devices.measure import sizes
from qrnn.equations.oracle import run_oracle
from qrnn.export.source import export_source
from qrnn.lab.moves import space
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.conv import Conv, QuantConv
from qrnn.model.layer_facts import Part
from qrnn.model.parts import QuantMatrix, QuantMatrix4, is_less_in_four_bits
from qrnn.model.quant_model import QuantModel
from qrnn.model.window import EACH, Window
from qrnn.quantization.choices import choices
from qrnn.quantization.matrix import integer_weights
from qrnn.refinement.evidence import matrix_moments
from qrnn.targets import load_target


def network() -> FloatModel:
    """A convolution over time and bands, a depthwise one, one of two groups and one of short rows."""
    rng = np.random.default_rng(0)
    x, edge = layers.input("x", 6 * 8), Window(3, 1, 1, 1, 1)
    c = layers.conv(x, rng.normal(size=(24, 8, 3, 3)) / 8, rng.normal(size=24), bands=6, band=edge, name="all")
    c = layers.conv(
        c, rng.normal(size=(24, 1, 9, 3)) / 3, rng.normal(size=24), bands=6, groups=24, band=edge, name="each"
    )
    c = layers.conv(
        c, rng.normal(size=(16, 12, 3, 2)) / 8, rng.normal(size=16), bands=6, groups=2, band=Window(2, 2), name="groups"
    )
    c = layers.conv(c, rng.normal(size=(4, 16, 1, 1)) / 4, rng.normal(size=4), bands=3, name="short")
    return layers.model("net", {"y": c})


def data(size: int = 20) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {"x": rng.normal(size=(size, 20, 48)).cumsum(axis=1) / 4, "lengths": rng.integers(1, 21, size)}


def convs(model: QuantModel) -> dict[str, QuantConv]:
    return {layer.name: layer for layer in model.layers if isinstance(layer, QuantConv)}


def four_bits_of(model: QuantModel) -> set[str]:
    return {name for name, layer in convs(model).items() if isinstance(layer.matrix, QuantMatrix4)}


def test_which_have_four_bits_and_why_others_have_not() -> None:
    made = quantize(network(), data(), Scheme(input="8", weights=4, refine="none"))
    assert four_bits_of(made) == {"all", "groups"}
    assert "each.W: eight bits, since each channel reads one channel alone, by few weights" in made.provenance.decisions
    assert "short.W: eight bits, since rows of 16 weights take no less room in four" in made.provenance.decisions
    plain = quantize(network(), data(), Scheme(input="8"))
    assert not four_bits_of(plain)
    assert not any(".W:" in decision for decision in plain.provenance.decisions)
    bytes_of = [layer.matrix.weight_bytes for layer in (convs(plain)["all"], convs(made)["all"])]
    assert bytes_of == [24 * 72, 24 * (36 + 3)]


def test_a_row_that_is_no_smaller_keeps_its_bytes() -> None:
    assert [k for k in range(1, 70) if not is_less_in_four_bits(k)] == [*range(1, 18), 33, 34]


def test_widths_choose_single_convolutions() -> None:
    model = network()
    assert [c.key for c in choices(model) if c.part == "W"] == ["all.W", "groups.W"]
    assert [c.key for c in space(model).widths if c.part == "W"] == ["all.W", "groups.W"]
    assert four_bits_of(quantize(model, data(), Scheme(input="8", widths="groups.W=4"))) == {"groups"}
    assert four_bits_of(quantize(model, data(), Scheme(input="8", weights=4, widths="groups.W=8"))) == {"all"}
    with pytest.raises(QuantizationError, match=r"'each\.W' is no choice of model 'net'; expected x, all\.W, "):
        quantize(model, data(), Scheme(widths="each.W=4"))


@settings(max_examples=12, deadline=None)
@given(
    channels=st.integers(1, 12), rows=st.integers(1, 9), groups=st.sampled_from((1, 2, 3)), taps=st.integers(1, 4),
    band_taps=st.integers(1, 3), activations=st.sampled_from((8, 16)), seed=st.integers(0, 1 << 16),
)  # fmt: skip
def test_every_backend_reads_the_same_bits(
    channels: int, rows: int, groups: int, taps: int, band_taps: int, activations: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = layers.input("x", 4 * groups * channels)
    weight = rng.normal(size=(groups * rows, channels, taps, band_taps))
    band = EACH if band_taps == 1 else Window(band_taps, before=1)
    y = layers.conv(x, weight, rng.normal(size=groups * rows), bands=4, band=band, groups=groups, name="conv")
    given_x = {"x": rng.normal(size=(3, 7, x.features)), "lengths": np.array([7, 0, 3])}
    scheme = Scheme(activations, weights=4, input=str(activations), refine="none")
    made = quantize(layers.model("one", {"y": y}), {"x": given_x["x"]}, scheme)
    (conv,) = convs(made).values()
    assert isinstance(conv.matrix, QuantMatrix if conv.eight_bits_for else QuantMatrix4)
    want, got = (Session(made, backend).run(given_x).outputs["y"] for backend in ("reference", "cpu"))
    np.testing.assert_array_equal(want, got)
    stream = Session(made).stream(3)
    steps = np.stack([stream.step({"x": given_x["x"][:, t]})["y"] for t in range(7)], axis=1)
    np.testing.assert_array_equal(steps[0], want[0])


def test_a_file_keeps_them(tmp_path: Any) -> None:
    made = quantize(network(), data(), Scheme(input="8", weights=4, refine="none"))
    qrnn.save(made, tmp_path / "net.qrnn")
    again = qrnn.load(tmp_path / "net.qrnn")
    assert four_bits_of(again) == {"all", "groups"}
    given_x = data(4)
    np.testing.assert_array_equal(Session(again).run(given_x).outputs["y"], Session(made).run(given_x).outputs["y"])


@pytest.mark.wide(cover=False)
def test_refinement_wins_back_what_rounding_cost() -> None:
    """On other data of the same kind; depthwise layers of eight bits are refined beside them."""
    schemes = {
        refine: Scheme(16, input="16", weights=4, refine=refine) for refine in ("none", "rounding,bias", "default")
    }
    made = {refine: quantize(network(), data(40), scheme) for refine, scheme in schemes.items()}
    other = {"x": np.random.default_rng(5).normal(size=(12, 20, 48)).cumsum(axis=1) / 4}
    db = {refine: qrnn.compare(network(), model, other).outputs["y"].sqnr_db for refine, model in made.items()}
    assert db["default"] == db["rounding,bias"]
    assert db["rounding,bias"] > db["none"] + 3
    floor = qrnn.compare(network(), made["none"], other).floor["y"].sqnr_db
    assert abs(floor - db["none"]) < 1.5  # the floor rounds the weights of convolutions to four bits too


def test_moments_are_those_of_what_the_matrix_reads() -> None:
    """What the moments say of rows is what the layer's own sums say: Σ (w · x)² of every place of every sequence."""
    real = network()
    model, batch = quantize(real, data(5), Scheme(input="8")), make_batch(real.inputs, data(5))
    tensors = Session(model).run_batch(batch)[1]
    for name, layer in convs(model).items():
        scale = 2.0**layer.operand.shift
        reads = np.clip(np.floor(tensors[layer.input] / scale + 0.5), -layer.operand.limit, layer.operand.limit)
        x = layers.input("x", layer.features)
        own = next(found for found in real.layers if found.name == name)
        assert isinstance(own, Conv)
        weight = own.of_columns(layer.matrix.weight.astype(np.float64))
        y = layers.conv(
            x,
            weight,
            padding=(layer.time.before, layer.time.after),
            band=layer.band,
            bands=layer.bands,
            groups=layer.groups,
        )
        found = run_oracle(layers.model("sums", {"y": y}), {"x": reads}, batch.lengths)
        sums = np.concatenate([found.outputs["y"][n, :length] for n, length in enumerate(batch.lengths)])
        want = (sums.reshape(-1, len(weight)) ** 2).sum(axis=0)
        moments = matrix_moments(model, batch, layer)
        size = len(weight) // layer.groups
        got = [row @ moments[r // size].hessian @ row for r, row in enumerate(layer.matrix.weight.astype(np.float64))]
        np.testing.assert_allclose(got, want, rtol=1e-9)
        assert {m.count for m in moments} == {int(batch.lengths.sum()) * layer.places}
        mean = sums.reshape(-1, len(weight)).mean(axis=0)
        by_row = [row @ moments[r // size].mean for r, row in enumerate(layer.matrix.weight.astype(np.float64))]
        np.testing.assert_allclose(by_row, mean, rtol=1e-9, atol=1e-9)


def test_price_advice_and_remedies_know_them() -> None:
    eight, four = (quantize(network(), data(), Scheme(input="8", weights=bits, refine="rounding")) for bits in (8, 4))
    products = sum(
        layer.places * layer.matrix.weight.size for name, layer in convs(four).items() if name in four_bits_of(four)
    )
    assert step_instructions(four) - step_instructions(eight) == 0.5 * products
    more = convs(eight)["all"].matrix.weight_bytes - convs(four)["all"].matrix.weight_bytes
    assert advice(four, Part("all", "weights")) == ("--widths all.W=8", f"{more} bytes more for this matrix")
    assert advice(four, Part("each", "weights"))[0] == "nothing: weights have 8 bits at most"
    target = load_target("cortex-m4")
    needs = [sizes(export_source(m, "model", target.core.kernels), target, 20) for m in (eight, four)]
    assert needs[1].constant_bytes < needs[0].constant_bytes
    board = replace(target, memory=replace(target.memory, flash_bytes=needs[1].constant_bytes + 4096))
    assert "--weights 4" in "; ".join(judge(eight, replace(needs[0], target=board), 0.01).remedies)


def test_weights_on_a_grid_stay_on_it() -> None:
    """Rows that four bits hold as they are, as those of a binary convolution, lose nothing."""
    rng = np.random.default_rng(2)
    weight = 0.25 * rng.integers(-7, 8, size=(5, 8, 3, 1))
    y = layers.conv(layers.input("x", 8), weight, name="conv")
    made = quantize(layers.model("grid", {"y": y}), {"x": rng.normal(size=(4, 9, 8))}, Scheme(input="8", weights=4))
    (conv,) = convs(made).values()
    columns = weight.transpose(0, 2, 3, 1).reshape(5, -1)
    assert isinstance(conv.matrix, QuantMatrix4)
    np.testing.assert_array_equal(conv.matrix.weight, integer_weights(columns, np.full(5, 0.25), 4))
    np.testing.assert_array_equal(conv.matrix.weight * 0.25, columns)
