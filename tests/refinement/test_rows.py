"""Refined models: off is as before, on is better on its own measure, proved, and the same bits on every backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from models import Shape, make_model

from qrnn.accuracy.metrics import sqnr_db
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle_batch
from qrnn.errors import QuantizationError
from qrnn.model.activation import Activation
from qrnn.model.batch import evenly, make_batch
from qrnn.model.parts import QuantMatrix, QuantMatrix4
from qrnn.quantization.methods import METHODS, parse_refine
from qrnn.quantization.scheme import Scheme
from qrnn.refinement.evidence import before
from qrnn.refinement.held_out import noise, split
from qrnn.refinement.rows import grid, provable, with_bias, with_weights
from qrnn.running.session import Session

SHAPES = {
    "lstm": Shape("lstm", 6, 9, head=3),
    "bilstm": Shape("lstm", 6, 5, (False, True), layers=2, head=2),
    "lstm 1997": Shape("lstm", 4, 5, forget="one"),
    "coupled, peepholes": Shape("lstm", 4, 5, forget="coupled", peephole=0.3, head=2),
    "gru": Shape("gru", 6, 9, head=3),
    "gru before": Shape("gru", 6, 9, linear_before_reset=False, head=3),
    "gru turned": Shape("gru", 5, 7, (True,), update_keeps=False),
    "rnn": Shape("rnn", 6, 9, (True,), head=3),
    "relu rnn": Shape("rnn", 4, 5, activations={"candidate": Activation("relu")}, weight=0.2),
    "projection": Shape("lstm", 4, 6, projection=3),
    "states": Shape("gru", 4, 5, states=True, head=2),
}


def data_for(shape: Shape, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(size=(24, 11, shape.input_size)), "lengths": rng.integers(1, 12, 24)}


def integers(model: Any) -> dict[str, Any]:
    return {f"{m.name}.{f}": getattr(m.matrix, f) for m in model.matrices for f in ("weight", "bias", "multiplier")}


@pytest.mark.wide(cover=False, keep=6)
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("bits", [8, 4])
def test_every_cell(name: str, bits: int) -> None:
    """All methods at once: formats stay, the proof holds, the outputs are as near or nearer, reference equals cpu."""
    shape = SHAPES[name]
    model, data = make_model(shape, np.random.default_rng(1)), data_for(shape)
    plain = quantize(model, data, Scheme(input="8", weights=bits))
    refined = quantize(model, data, Scheme(input="8", weights=bits, refine="rounding,bias"))
    assert refined.tensors == plain.tensors
    assert set(refined.proof) == set(plain.proof)
    batch = make_batch(model.inputs, data)
    want = run_oracle_batch(model, batch).outputs["y"]
    db = [sqnr_db(want, Session(q).run_batch(batch)[0].outputs["y"]) for q in (plain, refined)]
    assert db[1] > db[0] - 0.5
    results = [Session(refined, backend).run_batch(batch.take(np.arange(3)))[0] for backend in ("reference", "cpu")]
    for output, value in results[0].outputs.items():
        np.testing.assert_array_equal(value, results[1].outputs[output])


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("name", ["lstm", "gru", "gru before", "rnn"])
def test_four_bits_gain(name: str) -> None:
    """The gain is measured on other data of the same kind, in which operands have the same few directions."""
    shape = replace(SHAPES[name], input_size=20, hidden_size=40, head=5, weight=0.25)
    model, rng = make_model(shape, np.random.default_rng(1)), np.random.default_rng(2)
    mix = rng.normal(size=(4, 20))
    data, other = ({"x": rng.normal(size=(40, 25, 4)) @ mix} for _ in range(2))
    batch = make_batch(model.inputs, other)
    want = run_oracle_batch(model, batch).outputs["y"]
    db = {}
    for refine in ("none", "rounding", "rounding,bias"):
        q = quantize(model, data, Scheme(input="8", weights=4, refine=refine))
        db[refine] = sqnr_db(want, Session(q).run_batch(batch)[0].outputs["y"])
    assert db["rounding"] > db["none"] + 3
    assert db["rounding,bias"] > db["none"] + 3


def held_out_error(model: Any, quantized: Any, data: dict[str, Any]) -> float:
    """Return the error on the held-out part of ``data``, as noise over signal."""
    parts = split(make_batch(model.inputs, data))
    assert parts is not None
    want = run_oracle_batch(model, parts.judged).outputs
    session = Session(quantized)
    return noise(lambda b: session.run_batch(b)[0].outputs, model.outputs, parts.judged, want, parts.seen)


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("sequences", [1, 3, 9])
def test_refinement_never_hurts(sequences: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps show less than the rows have weights. What is kept is no worse on held-out data; what is not is named, and was worse."""
    rejected = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        model = make_model(Shape("gru", 24, 16, layers=2, head=4, weight=0.25), rng)
        data = {"x": rng.standard_t(3, size=(sequences, 5, 24))}
        plain, refined = (quantize(model, data, Scheme(input="16", refine=r)) for r in ("none", "rounding,bias"))
        before, after = (held_out_error(model, q, data) for q in (plain, refined))
        assert after <= before
        lines = [line for line in refined.provenance.decisions if "kept as rounded" in line]
        rejected += len(lines)
        kept, rounded = integers(refined), integers(plain)
        for line in lines:
            assert "on held-out calibration data" in line
            own = [name for name in kept if name.startswith(line.split(":")[0])]
            assert own
            assert all(np.array_equal(kept[name], rounded[name]) for name in own)
    assert rejected > 0


def test_what_is_held_out() -> None:
    """About a fourth of the sequences, whatever their order; of one sequence its last steps; of one step nothing can be."""
    inputs = make_model(Shape("rnn", 2, 1), np.random.default_rng(0)).inputs

    def parts(n: int, t: int) -> Any:
        return split(make_batch(inputs, {"x": np.arange(1.0, n + 1)[:, None, None] * np.ones((1, t, 2))}))

    for n in (2, 3, 10, 300):
        held = parts(n, 4)
        assert held.fitted.size + held.judged.size == n
        assert held.seen == 0
    of_classes = parts(300, 1).judged.features["x"][:, 0, 0].astype(int) % 10
    assert np.bincount(of_classes, minlength=10).min() >= 5
    one = parts(1, 9)
    assert (one.fitted.steps, one.judged.steps, one.seen) == (6, 9, 6)
    assert parts(1, 1) is None


def test_off_is_as_before() -> None:
    shape = SHAPES["bilstm"]
    model, data = make_model(shape, np.random.default_rng(1)), data_for(shape)
    plain, off = (quantize(model, data, Scheme(input="8", **more)) for more in ({}, {"refine": "none"}))
    assert "refine" not in plain.provenance.scheme
    assert plain.provenance == off.provenance
    for name, value in integers(plain).items():
        np.testing.assert_array_equal(value, integers(off)[name])
    for refine in ("gates", "equalize", "gates,equalize"):  # nothing to do in this model
        same = quantize(model, data, Scheme(input="8", refine=refine))
        for name, value in integers(plain).items():
            np.testing.assert_array_equal(value, integers(same)[name])


def test_only_what_is_named_changes() -> None:
    shape = SHAPES["gru"]
    model, data = make_model(shape, np.random.default_rng(1)), data_for(shape)
    # few directions, and means other than 0, of which there is much to learn
    data["x"] = 1.0 + data["x"][:, :, :2] @ np.random.default_rng(2).normal(size=(2, 6))
    plain, rounding, bias = (
        integers(quantize(model, data, Scheme(input="8", refine=r))) for r in ("none", "rounding", "bias")
    )
    for name, value in plain.items():
        if not name.endswith(".bias"):
            np.testing.assert_array_equal(value, bias[name])
        if not name.endswith(".weight"):
            np.testing.assert_array_equal(value, rounding[name])
    assert any((plain[name] != rounding[name]).any() for name in plain)
    assert any((plain[name] != bias[name]).any() for name in plain)


def test_the_same_twice() -> None:
    shape = SHAPES["lstm"]
    model, data = make_model(shape, np.random.default_rng(1)), data_for(shape)
    a, b = (quantize(model, data, Scheme(input="8", weights=4, refine="all")) for _ in range(2))
    for name, value in integers(a).items():
        np.testing.assert_array_equal(value, integers(b)[name])
    assert a.provenance == b.provenance
    assert any("of plain rounding's" in line for line in a.provenance.decisions)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_grid_and_back(bits: int) -> None:
    shape = SHAPES["lstm"]
    model = quantize(make_model(shape, np.random.default_rng(1)), data_for(shape), Scheme(input="8", weights=bits))
    matrix = model.recurrent_layers[0].directions[0].hh
    assert type(matrix) is (QuantMatrix if bits == 8 else QuantMatrix4)
    scale = np.random.default_rng(0).uniform(1e-4, 1, len(matrix.bias))
    g = grid(matrix, scale)
    again = with_weights(matrix, g.integers(g.nearest(matrix.weight * scale[:, None])))
    np.testing.assert_array_equal(again.weight, matrix.weight)
    moved = with_bias(matrix, 3.0 * scale, scale)
    np.testing.assert_array_equal(moved.bias, matrix.bias + 3)
    beyond = replace(matrix, bias=matrix.bias.copy())
    beyond.bias[2] = (1 << 31) - 1  # no proof holds for that row
    kept = provable(replace(beyond, multiplier=matrix.multiplier), matrix)
    np.testing.assert_array_equal(kept.bias, matrix.bias)
    np.testing.assert_array_equal(kept.weight, matrix.weight)


def test_states_before_a_step() -> None:
    """The states are right in both directions, with sequences of different lengths."""
    batch = make_batch(
        make_model(Shape("rnn", 2, 1), np.random.default_rng(0)).inputs,
        {"x": np.zeros((2, 4, 2)), "lengths": np.array([4, 2])},
    )
    state = np.arange(8.0).reshape(2, 4, 1)
    start = np.array([[-1.0], [-2.0]])
    assert before(state, start, False, batch)[batch.mask].ravel().tolist() == [-1, 0, 1, 2, -2, 4]
    assert before(state, start, True, batch)[batch.mask].ravel().tolist() == [1, 2, 3, -1, 5, -2]


def test_sequences_are_taken_evenly() -> None:
    inputs = make_model(Shape("rnn", 2, 1), np.random.default_rng(0)).inputs
    batch = make_batch(
        inputs,
        {"x": np.arange(40.0)[:, None, None] * np.ones((1, 5, 2)), "lengths": np.r_[np.zeros(4, int), np.full(36, 5)]},
    )
    assert evenly(batch, 1000).size == 36
    assert evenly(batch, 45).features["x"][:, 0, 0].tolist() == [4, 8, 12, 16, 20, 24, 28, 32, 36]
    assert evenly(batch, 1).size == 1


def test_the_option() -> None:
    assert parse_refine("none") == ()
    assert parse_refine("all") == tuple(METHODS)
    assert parse_refine(" bias , rounding ") == ("rounding", "bias")
    for text in ("", "training", "bias,bias", "none,bias", "all,bias", "bias,"):
        with pytest.raises(QuantizationError, match="refine="):
            Scheme(refine=text)
    with pytest.raises(QuantizationError, match="refine="):
        Scheme(refine=1)  # type: ignore[arg-type]
