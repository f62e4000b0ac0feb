"""Weights of four bits: their ranges, the best there is for each group, and what a whole conversion makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Shape, make_model

from qrnn.accuracy.metrics import sqnr_db
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.batch import make_batch
from qrnn.model.describe import describe
from qrnn.model.parts import QuantMatrix, QuantMatrix4, pack_nibbles
from qrnn.quantization.four_bit import four_bit_rows
from qrnn.quantization.matrix import bounded_rows, largest_row_sum, quantize_matrix4, row_scales
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

quick = settings(max_examples=150, deadline=None, derandomize=True, database=None)


@st.composite
def drawn_rows(draw: st.DrawFn) -> Any:
    """Rows in accumulator units, up to ±112: of any size, with rows and groups of zeros, and single large weights."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    shape = draw(st.integers(1, 70)), draw(st.integers(1, 100))
    rows = (
        rng.uniform(-1, 1, shape) ** draw(st.sampled_from([1, 3, 9])) * 112 * 10.0 ** -rng.uniform(0, 3, (shape[0], 1))
    )
    rows[rng.random(shape[0]) < 0.2] = 0
    rows[:, : draw(st.integers(0, shape[1]))] *= draw(st.sampled_from([0.0, 0.01, 1.0]))
    return np.floor(rows) if draw(st.booleans()) else rows


def groups(rows: Any) -> Any:
    """[R, groups, 32], padded with zeros."""
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 32)))
    return padded.reshape(len(rows), -1, 32)


@quick
@given(rows=drawn_rows())
def test_every_group_has_the_least_error(rows: Any) -> None:
    """Against every pair of q and scale, one after the other; and never above what ⌈max / 7⌉ gives, half of it for each weight."""
    q, scale = four_bit_rows(rows)
    assert q.dtype == scale.dtype == np.int8
    assert q.shape == rows.shape
    assert scale.shape == (len(rows), -(-rows.shape[1] // 32))
    assert q.min() >= -8
    assert q.max() <= 7
    assert np.abs(scale.astype(int)).min() >= 1
    assert np.abs(scale.astype(int)).max() <= 15
    wanted = groups(rows)
    got = groups(q.astype(float)) * scale[:, :, None]
    error = ((got - wanted) ** 2).sum(axis=2)
    largest = np.abs(wanted).max(axis=2)
    plain = np.ceil(np.maximum(largest, 1) / 7)
    assert (error <= 32 * (plain / 2) ** 2)[plain <= 15].all()
    every = np.arange(-8, 8)
    for r, g in zip(*(v.ravel() for v in np.indices(error.shape)), strict=True):
        values = every[:, None] * np.concatenate([np.arange(-15, 0), np.arange(1, 16)])
        nearest = np.abs(wanted[r, g][:, None, None] - values).min(axis=1)
        assert error[r, g] <= (nearest**2).sum(axis=0).min() + 1e-9


@quick
@given(rows=drawn_rows())
def test_the_same_twice_and_rows_by_themselves(rows: Any) -> None:
    q, scale = four_bit_rows(rows)
    again, other = four_bit_rows(rows.copy())
    np.testing.assert_array_equal(q, again)
    np.testing.assert_array_equal(scale, other)
    half = len(rows) // 2
    np.testing.assert_array_equal(four_bit_rows(rows[half:])[0], q[half:])


def test_what_four_bits_hold_is_kept() -> None:
    rng = np.random.default_rng(0)
    q = rng.integers(-8, 8, (40, 70)).astype(float)
    q[:, ::32] = -8
    scale = rng.integers(1, 15, (40, 3)) * rng.choice([-1, 1], (40, 3))
    rows = q * np.repeat(scale, 32, axis=1)[:, :70]
    found, scales = four_bit_rows(rows)
    np.testing.assert_array_equal(found * np.repeat(scales.astype(float), 32, axis=1)[:, :70], rows)


@quick
@given(rows=drawn_rows())
def test_nibbles_come_back(rows: Any) -> None:
    q, scale = four_bit_rows(rows)
    R = len(q)
    parameters = np.zeros(R, np.int32), np.zeros(R, np.int32), np.zeros(R, np.int8)
    matrix = QuantMatrix4(pack_nibbles(q), scale, q.shape[1], *parameters, operand_limit=127)
    np.testing.assert_array_equal(matrix.q, q)
    assert matrix.weight.dtype == np.int8
    np.testing.assert_array_equal(
        matrix.weight, q * np.repeat(scale.astype(int), 32, axis=1)[:, : q.shape[1]], "no product left int8"
    )
    assert matrix.weight_bytes == R * (-(-q.shape[1] // 2) + -(-q.shape[1] // 32))


@quick
@given(
    seed=st.integers(0, 1 << 30),
    columns=st.integers(1, 300),
    limit=st.sampled_from([127, 8191]),
    size=st.floats(-8, 4),
    bias=st.floats(-3, 4),
)
def test_converted_matrices_are_proved(seed: int, columns: int, limit: int, size: float, bias: float) -> None:
    """The matrix has the integers of `four_bit_rows` in units of `row_scales`, and the pre_shift of its own bound."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(6, columns)) * 10.0**size / limit
    b = rng.normal(size=6) * 10.0**bias
    fracs = rng.integers(0, 16, 6)
    matrix = quantize_matrix4(weight, b, fracs, bounded_rows("test", weight, b, fracs, limit, 4), limit)
    matrix.prove("test")
    scale = row_scales(weight, b, 4)
    assert (scale >= np.abs(weight).max(axis=1) / 112).all()
    q, group_scale = four_bit_rows(weight / scale[:, None])
    np.testing.assert_array_equal(matrix.q, q)
    np.testing.assert_array_equal(matrix.scale, group_scale)
    np.testing.assert_array_equal(matrix.bias, np.floor(b / scale + 0.5))
    alone = quantize_matrix4(weight, 0 * b, fracs, np.zeros(6, np.int8), limit)
    assert largest_row_sum(weight, 4) == np.abs(alone.weight.astype(int)).sum(axis=1).max()


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_conversion(cell: Any) -> None:
    """Recurrent weights have four bits, heads eight; the result stays near the float model, and costs half the bytes."""
    model = make_model(Shape(cell, 40, 64, (False, True), head=5, weight=0.05), np.random.default_rng(1))
    data = {"x": np.random.default_rng(2).normal(size=(6, 20, 40))}
    batch = make_batch(model.inputs, data)
    want = run_oracle_batch(model, batch).outputs["y"]
    quality, weights = {}, {}
    for bits in (8, 4):
        quantized = quantize(model, data, Scheme(input="8", weights=bits))
        assert quantized.provenance.scheme["weights"] == bits
        quality[bits] = sqnr_db(want, Session(quantized).run_batch(batch)[0].outputs["y"])
        weights[bits] = describe(quantized)["bytes"]["weights"]
        for layer in quantized.recurrent_layers:
            for d in layer.directions:
                assert {type(d.ih), type(d.hh)} == {QuantMatrix4 if bits == 4 else QuantMatrix}
        shown = {m["name"]: m["bits"] for m in describe(quantized)["matrices"]}
        assert shown == {name: bits if ".weight_" in name else 8 for name in shown}
    assert 12 < quality[4] < quality[8]
    assert weights[4] < 0.57 * weights[8]
