"""LSTM and GRU with layer normalization: random integers on every backend and in C, files, kernels, parts, schemes and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends.generators import assert_equal
from backends.raw_layers import ends
from backends.raw_norms import normalized_model
from export.building import check
from installed import compiler

import qrnn
from qrnn import layers
from qrnn.accuracy.metrics import sqnr_db
from qrnn.backends import available_backends, create_engine
from qrnn.backends.base import Trace
from qrnn.equations.oracle import run_oracle_batch
from qrnn.errors import DataError, ModelFileError, QuantizationError, UnsupportedError
from qrnn.export.kinds.recurrent.cell import RUNTIME
from qrnn.model.batch import make_batch
from qrnn.model.cell_codes import CODES
from qrnn.model.quant_model import QuantModel
from qrnn.refinement.held_out import split
from qrnn.running.session import Session

from .test_quantized import HIDDEN, INPUTS, TOOL, data, models

CELLS = ("layer_norm_lstm", "layer_norm_gru")
NAMES = tuple(name for name in TOOL.CELLS if name.startswith("layer_norm"))
OTHERS = tuple(name for name in available_backends() if name != "reference")


def results(model: QuantModel, backend: str, x: Any, lengths: Any) -> dict[str, Any]:
    """Tensors, trace and final states of a run."""
    trace, start = Trace(), Session(model, "reference").initial_state(len(x)).layers
    tensors, final, _ = create_engine(backend, model, 1).run({"x": x}, start, lengths, trace)
    return {**tensors, **{f"trace {k}": v for k, v in trace.arrays.items()}, "h": final["rnn"][0], "c": final["rnn"][1]}


@pytest.mark.parametrize("count", [40, pytest.param(150, marks=pytest.mark.matrix)])
@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("cell", CELLS)
def test_random_integers(cell: str, backend: str, count: int) -> None:
    moved = 0
    for seed in range(40 if backend == "cuda" else count):
        rng = np.random.default_rng(seed)
        model = normalized_model(rng, cell)
        x = ends(rng, -32768, 32767, 2, 4, model.tensors["x"].features).astype(np.int16)
        lengths = rng.integers(0, 5, 2)
        want = results(model, "reference", x, lengths)
        assert_equal(want, results(model, backend, x, lengths))
        moved += len(np.unique(want["trace rnn[0].pre"])) > 3
    assert moved > 20


@pytest.mark.wide("cell")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cell", CELLS)
def test_random_integers_in_c(cell: str, seed: int, tmp_path: Path) -> None:
    check(normalized_model(np.random.default_rng(seed), cell), tmp_path, compiler(("gcc", "clang")[seed % 2]))


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("name", NAMES)
def test_no_kernel_takes_such_a_layer(name: str) -> None:
    """Kernels that know no normalization would overlook it."""
    (layer,) = models(name)[1].recurrent_layers
    form = layer.declaration.form(layer)
    assert form not in CODES
    assert form not in RUNTIME
    usual = models("lstm" if "lstm" in name else "gru")[1].recurrent_layers[0]
    (d, *_), (e, *_) = layer.directions, usual.directions
    with pytest.raises(ModelFileError, match=f"norms and the cell {usual.cell} disagree"):
        replace(usual, directions=(replace(e, norms=d.norms),))
    with pytest.raises(ModelFileError, match=f"norms and the cell {layer.cell} disagree"):
        replace(layer, directions=(replace(d, norms=None), *layer.directions[1:]))


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("name", NAMES)
def test_every_part_can_stand_alone(name: str) -> None:
    """With operands of 8 bits, whose noise is far above the rounding of partial sums, which parts do not have."""
    model, _ = models(name)
    quantized = qrnn.quantize(model, {"x": data()}, qrnn.Scheme())
    parts = [part for part in quantized.recurrent_layers[0].integer_parts() if part.kind == "norm"]
    assert len(parts) == len(quantized.recurrent_layers[0].directions)
    found = qrnn.explain(model, quantized, {"x": data()})
    assert found.sqnr_db_all_parts == pytest.approx(found.sqnr_db, abs=0.5)


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("name", NAMES)
def test_schemes(name: str) -> None:
    """Weights of four bits are about as near as an LSTM's (16 to 25 dB, that has 21 to 24).

    Refined weights are no further than plain ones on the data by which refinement is judged.
    """
    model, _ = models(name)
    four = qrnn.quantize(model, {"x": data()}, qrnn.Scheme(weights=4))
    assert (
        sqnr_db(qrnn.run_oracle(model, {"x": data()}).outputs["y"], Session(four).run({"x": data()}).outputs["y"]) > 14
    )
    batch = {"x": 0.5 + data() @ (np.full((INPUTS, INPUTS), 0.5) + 0.1 * np.eye(INPUTS))}
    parts = split(make_batch(model.inputs, batch))
    assert parts is not None
    want = run_oracle_batch(model, parts.judged).outputs["y"]

    def near(**options: Any) -> float:
        made = qrnn.quantize(model, batch, qrnn.Scheme(input="8", **options))
        return sqnr_db(want, Session(made).run_batch(parts.judged)[0].outputs["y"])

    plain = near()
    assert near(refine="rounding,bias") >= plain
    assert near(gates="hard", refine="gates") > near(gates="hard")


def test_what_is_said_of_a_layer() -> None:
    layer = models("layer_norm_lstm_c")[1].recurrent_layers[0]
    said = {r.where: r.rounded for r in layer.roundings()}
    assert said["layer_norm_lstm: norms"] == "W·x and R·h normalized, once each"
    assert "then normalized, once each" in said["layer_norm_lstm: norm of c"]
    of_sums = models("layer_norm_lstm_sum")[1]
    said = {r.where: r.rounded for r in of_sums.recurrent_layers[0].roundings()}
    assert said["layer_norm_lstm: norms"] == "W·x + R·h normalized, once each"
    assert "layer_norm_lstm: norm of c" not in said
    assert any("layer_norm_lstm[0].sum_3: normalized from int16" in text for text in of_sums.provenance.decisions)
    d = layer.directions[0]
    assert d.norms is not None
    assert [n.parameters.features for n in d.norms.of_rows] == [4 * HIDDEN, 4 * HIDDEN]
    assert layer.own_bytes().rows == 7 * (8 * HIDDEN + HIDDEN)


X = layers.input("x", 3)
W12, U12, W9, U9 = np.ones((12, 3)), np.ones((12, 3)), np.ones((9, 3)), np.ones((9, 3))
G12, G9 = np.ones(12), np.ones(9)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: layers.layer_norm_lstm(X, W12, U12), DataError, "layer_norm_lstm: it has no norm, expected norm_x and norm_h, or norm_sum"),
        (lambda: layers.layer_norm_lstm(X, W12, U12, norm_x=G12, name="a"), DataError, "layer_norm_lstm 'a': it has norm_x, expected"),
        (lambda: layers.layer_norm_gru(X, W9, U9, norm_x=G9, norm_h=G9, norm_sum=G9), DataError, "it has norm_x, norm_h, norm_sum, expected"),
        (lambda: layers.layer_norm_lstm(X, W12, U12, norm_sum=G9), DataError, r"norm_sum's gain has shape \[9\], expected \[4·H\] = \[12\]"),
        (lambda: layers.layer_norm_lstm(X, W12, U12, norm_sum=G12, norm_c=G9), DataError, r"norm_c's gain has shape \[9\], expected \[H\]"),
        (
            lambda: layers.layer_norm_lstm(X, W12, U12, norm_sum=layers.normalization(G12, G9)), DataError,
            r"norm_sum's bias has shape \[9\]",
        ),
        (lambda: layers.layer_norm_lstm(X, W12, U12, G9, norm_x=G12, norm_h=G12), DataError, r"bias_ih has shape \[9\], expected \[4·H\]"),
        (
            lambda: layers.layer_norm_lstm(X, W12, U12, norm_sum=layers.normalization(G12, together=(2, 1))), DataError,
            r"norm_sum has together=\(2, 1\), expected numbers of gates whose sum is 4",
        ),
        (lambda: layers.normalization(G9, together=(0, 3)), DataError, r"together=\(0, 3\), expected numbers of gates"),  # type: ignore[arg-type]
        (lambda: layers.normalization(G9, epsilon=-1e-5), DataError, "epsilon=-1e-05, expected a finite number of at least 0"),
        (lambda: layers.normalization(G9, epsilon="a"), DataError, "epsilon='a', expected a number"),  # type: ignore[arg-type]
        (
            lambda: layers.layer_norm_gru(X, W9, U9, norm_sum=layers.normalization(G9, together=(3,)), name="g"), UnsupportedError,
            r"layer_norm_gru 'g': normalizations of \[9\] rows, of which one is of n and of a gate before it",
        ),
        (
            lambda: layers.layer_norm_gru(
                X, W9, U9, norm_x=G9, norm_h=layers.normalization(G9, together=(1, 2)), linear_before_reset=False
            ),
            UnsupportedError, r"normalizations of \[3, 6\] rows",
        ),
        (
            lambda: layers.layer_norm_gru(X, W9, U9, norm_sum=G9, update_keeps=False, gate="tanh"), UnsupportedError,
            "layer_norm_gru: update_keeps=False with gate=tanh: 1 - z needs a function with values",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_said(make: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


def test_a_gain_that_integers_cannot_hold_is_refused() -> None:
    x = layers.input("x", 3)
    h = layers.layer_norm_lstm(x, W12 * data()[0, :12, :3], U12, norm_sum=G12 * 1e9, name="enc")
    with pytest.raises(
        QuantizationError, match=r"enc\[0\]\.sum_0 \(normalized\): gain 1e\+09 of feature 0 is too large"
    ):
        qrnn.quantize(layers.model("m", {"y": h.output}), {"x": data()[..., :3]}, qrnn.Scheme(input="8"))


def test_what_a_layer_may_hold() -> None:
    """Groups and formats that do not fit the cell are refused, from whatever file they come."""
    (layer,), (gru,) = (models(name)[1].recurrent_layers for name in ("layer_norm_lstm_c", "layer_norm_gru_before"))
    (d,), (e,) = layer.directions, gru.directions
    n, m = d.norms, e.norms
    assert n is not None
    assert n.cell is not None
    assert m is not None
    whole = n.sums[0]
    for owner, direction, change, says in (
        (layer, d, lambda: replace(n, sums=()), "normalizations of 0 rows, expected 48"),
        (layer, d, lambda: replace(n, recurrent=(whole, whole)), "normalizations of 96 rows, expected 48"),
        (layer, d, lambda: replace(n, recurrent=(), sum_shift=1), "a sum_shift without two parts"),
        (layer, d, lambda: replace(n, sum_shift=16), "sum_shift 16 out of 0…15"),
        (layer, d, lambda: replace(n, cell=whole), "a normalization of 48 c, expected 12"),
        (layer, d, lambda: replace(n, cell=replace(n.cell, in_frac=16)), "in_frac 16 out of 0…15"),
        (layer, d, lambda: replace(n, sums=(replace(whole, in_frac=-1),)), "in_frac -1 out of 0…15"),
        (gru, e, lambda: replace(m, cell=n.cell), "a normalization of c, which a layer_norm_gru has not"),
        (gru, e, lambda: replace(m, sums=m.sums[::-1]), r"\[12, 24\] rows, of which one is of n"),
    ):
        with pytest.raises(ModelFileError, match=says):
            replace(owner, directions=(replace(direction, norms=change()),))
    with pytest.raises(ModelFileError, match="formats of argument do not fit"):
        replace(layer, c_frac=n.cell.in_frac - 1)
