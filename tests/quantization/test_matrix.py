"""Integer matrices: the overflow proof, the accuracy of the factors, and rows that are computed coarser."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn.arithmetic.fixedpoint import requantize
from qrnn.errors import ModelFileError, QuantizationError
from qrnn.model.kinds.recurrent.definition import GATES
from qrnn.model.parts import QuantMatrix
from qrnn.quantization.matrix import (
    BIAS_LIMIT,
    bounded_rows,
    left_shifts,
    quantize_matrix,
    row_scales,
    rows_of_bias,
    short_multipliers,
)

quick = settings(max_examples=150, deadline=None, derandomize=True, database=None)


def matrix(weight: Any, bias: Any, left_shift: Any, limit: int = 127, multiplier: int = 1 << 30) -> QuantMatrix:
    rows = len(weight)
    return QuantMatrix(
        np.asarray(weight, np.int8),
        np.asarray(bias, np.int32),
        np.full(rows, multiplier, np.int32),
        np.broadcast_to(np.asarray(left_shift, np.int8), rows).copy(),
        limit,
    )


# --- biases that set the step --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [127, 32767])
@pytest.mark.parametrize("ratio", [1e-2, 1.0, 1e3, 1e6, 1e12])
def test_a_bias_that_sets_the_step_costs_its_own_rounding(limit: int, ratio: float) -> None:
    """Rows whose bias is ``ratio`` times what it may be for their weights: they err by at most 2^-30 of the bias for each operand unit.

    The overflow proof covers them in every format that holds their sums.
    """
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(20, 6))
    bias = ratio * BIAS_LIMIT * row_scales(weight, np.zeros(20)) * rng.choice([-1, 1], 20) * 0.999
    fracs = np.floor(15 - np.log2(np.abs(bias) + limit * np.abs(weight).sum(axis=1))).astype(np.int64)
    made = quantize_matrix(weight, bias, fracs, bounded_rows("m", weight, bias, fracs, limit), limit)
    made.prove("m")
    raised = len(rows_of_bias(weight, bias))
    assert raised == (20 if ratio > 1 else 0)
    scale = row_scales(weight, bias)
    operand = rng.integers(-limit, limit + 1, (500, 6))
    got = (operand @ made.weight.T.astype(np.int64) + made.bias) * scale
    rounding = (np.abs(operand).sum(axis=1)[:, None] + 1) * np.maximum(np.abs(bias) / BIAS_LIMIT, scale) / 2
    assert (np.abs(got - operand @ weight.T - bias) <= rounding * (1 + 1e-9)).all()


# --- the proof ------------------------------------------------------------------------------------------------------------------


def test_a_bad_row_is_named() -> None:
    weight = np.ones((8, 3), np.int8)
    weight[6] = 127
    bad = matrix(weight, np.zeros(8), 16)
    assert bad.accumulator_bound()[6] == 3 * 127 * 127 << 16
    with pytest.raises(QuantizationError, match=r"layer rnn, row o\[0\].*3171090432.*2\^31") as caught:
        bad.prove("layer rnn", ("i", "f", "g", "o"))
    assert "8-bit activations" in str(caught.value), "the message ends with the remedy"
    with pytest.raises(QuantizationError, match="row 6"):
        bad.prove("layer head")


def test_the_proof_is_tight() -> None:
    """2^31 - 1 passes, 2^31 does not."""
    passing = matrix([[127]], [(1 << 31) - 1 - 127 * 127], 0)
    assert passing.prove("m") == (1 << 31) - 1
    with pytest.raises(QuantizationError):
        matrix([[127]], [(1 << 31) - 127 * 127], 0).prove("m")
    with pytest.raises(QuantizationError):
        matrix([[1]], [0], 30, limit=2).prove("m")
    assert matrix([[1]], [0], 30, limit=1).prove("m") == 1 << 30


def test_the_most_negative_bias_does_not_pass_as_positive() -> None:
    with pytest.raises(QuantizationError):
        matrix([[0]], [-(1 << 31)], 0).prove("m")


def test_damaged_matrices_are_refused() -> None:
    for change in ({"weight": [[-128]]}, {"left_shift": 31}, {"left_shift": -1}, {"multiplier": 3}, {"multiplier": -2}):
        with pytest.raises(ModelFileError):
            matrix(**({"weight": [[1]], "bias": [0], "left_shift": 0} | change))  # type: ignore[arg-type]


@quick
@given(
    seed=st.integers(0, 1 << 30),
    rows=st.integers(1, 12),
    columns=st.integers(1, 300),
    limit=st.sampled_from([127, 8191, 32767]),
    size=st.floats(-8, 8),
    bias=st.floats(-3, 4),
)
def test_no_operand_overflows_a_converted_matrix(
    seed: int, rows: int, columns: int, limit: int, size: float, bias: float
) -> None:
    """The worst operand of each row, signs as its weights', reaches the bound and never 2^31; so do all partial sums."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(rows, columns)) * 10.0**size / limit * 10.0 ** -rng.uniform(0, 4, (rows, 1))
    b = rng.normal(size=rows) * 10.0**bias
    fracs = rng.integers(0, 16, rows)
    try:
        pre_shift = bounded_rows("test", weight, b, fracs, limit)
    except QuantizationError as error:
        assert "test, row " in str(error)  # noqa: PT017
        return
    q = quantize_matrix(weight, b, fracs, pre_shift, limit)
    bound = q.prove("test")
    w = q.weight.astype(object)
    worst = 0
    for r in range(rows):
        for sign in (-1, 1):
            operand = [sign * limit * (1 if v >= 0 else -1) for v in w[r]]
            partial = np.concatenate([[0], np.cumsum(w[r] * operand)])
            for start in (0, int(q.bias[r])):
                assert all(abs(p + start) << int(q.left_shift[r]) < 1 << 31 for p in (partial.min(), partial.max()))
            total = int(partial[-1]) + int(q.bias[r])
            worst = max(worst, abs(total) << int(q.left_shift[r]))
            assert abs(requantize(total, int(q.multiplier[r]), int(q.left_shift[r]))) < 1 << 30
    assert worst == bound


# --- factors --------------------------------------------------------------------------------------------------------------------


def test_multipliers_stand_for_the_real_factor() -> None:
    """The error is half a unit of the multiplier: 2^-30 relative from factors of 1/2 on, 2^-32 absolute below."""
    for factor in [*(2.0**k * m for k in range(-25, 13) for m in (0.5, 0.7071, 0.99999999999, 1.0, 1.3))]:
        real = np.array([factor])
        weight = real[:, None] * 127.0
        q = quantize_matrix(weight, np.zeros(1), np.zeros(1, np.int64), np.zeros(1, np.int8), 127)
        shift = int(q.left_shift[0])
        got = float(q.multiplier[0]) * 2.0 ** (shift - 32)
        assert q.weight[0, 0] == 127
        assert abs(got - factor) <= 2.0 ** (shift - 32) * (1 + 1e-9)
        assert abs(got / factor - 1) <= 2.0**-30 or factor < 0.5
        assert shift == 0 or q.multiplier[0] > (1 << 29), "the least shift that fits"
        assert shift == left_shifts(real)[0]


def test_a_multiplier_that_rounds_up_to_2_31_takes_one_more_shift() -> None:
    real = np.array([1.0 - 2.0**-40])
    q = quantize_matrix(real[:, None] * 127, np.zeros(1), np.zeros(1, np.int64), np.zeros(1, np.int8), 127)
    assert (int(q.multiplier[0]), int(q.left_shift[0])) == (1 << 30, 2)


def test_a_matrix_computes_its_real_product() -> None:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(40, 30)) / 64, rng.normal(size=40)
    fracs = np.full(40, 11)
    pre_shift = bounded_rows("test", weight, bias, fracs, 127)
    q = quantize_matrix(weight, bias, fracs, pre_shift, 127)
    x = rng.integers(-127, 128, 30)
    acc = q.weight.astype(np.int64) @ x + q.bias
    got = np.array(
        [requantize(int(a), int(m), int(s)) for a, m, s in zip(acc, q.multiplier, q.left_shift, strict=True)]
    )
    scale = row_scales(weight, bias)
    integers = np.floor(weight / scale[:, None] + 0.5) * scale[:, None]
    want = (integers @ x + np.floor(bias / scale + 0.5) * scale) * 2.0**11
    assert np.abs(got - want).max() <= 0.5 + 1e-3


def test_zero_rows_and_rows_of_bias_alone() -> None:
    weight, bias, fracs = np.zeros((3, 4)), np.array([0.0, 1000.0, -1e-9]), np.full(3, 11)
    pre_shift = bounded_rows("test", weight, bias, fracs, 127)
    q = quantize_matrix(weight, bias, fracs, pre_shift, 127)
    q.prove("test")
    got = [requantize(int(b), int(m), int(s)) for b, m, s in zip(q.bias, q.multiplier, q.left_shift, strict=True)]
    assert [v << int(s) for v, s in zip(got, pre_shift, strict=True)] == [0, 1000 << 11, 0]


# --- coarser rows ---------------------------------------------------------------------------------------------------------------


def test_pre_shift_is_the_least_that_fits() -> None:
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(50, 20)) * 10.0 ** rng.uniform(-3, 5, (50, 1))
    fracs = np.full(50, 11)
    pre_shift = bounded_rows("test", weight, np.zeros(50), fracs, 127)
    assert pre_shift.max() > 0
    assert pre_shift.min() == 0
    quantize_matrix(weight, np.zeros(50), fracs, pre_shift, 127).prove("test")
    for r in np.nonzero(pre_shift)[0]:
        less = pre_shift.copy()
        less[r] -= 1
        with pytest.raises(QuantizationError, match=f"row {r}:"):
            quantize_matrix(weight, np.zeros(50), fracs, less, 127).prove("test")


@pytest.mark.parametrize("size", [1e9, 1e12, 1e15, 1e18, 1e25, 1e100])
def test_rows_beyond_every_format_are_refused_by_name(size: float) -> None:
    weight = np.full((4, 3), 0.01)
    weight[2] = size
    with pytest.raises(QuantizationError, match="layer x, row 2"):
        bounded_rows("layer x", weight, np.zeros(4), np.full(4, 11), 127)


def test_row_names_cover_every_gate() -> None:
    for cell, names in GATES.items():
        rows = len(names) * 3
        for bad in range(rows):
            shift = np.zeros(rows)
            shift[bad] = 30
            with pytest.raises(QuantizationError, match=rf"row {names[bad // 3]}\[{bad % 3}\]"):
                matrix(np.full((rows, 2), 127), np.zeros(rows), shift).prove(cell, names)


@given(st.lists(st.integers(0, (1 << 30) - 1), min_size=1, max_size=6))
def test_short_multipliers_have_16_significant_bits(halves: list[int]) -> None:
    multiplier = np.array(halves, np.int32) * np.int32(2)
    found = short_multipliers(multiplier).astype(np.int64)
    shift = max(int(multiplier.max()).bit_length() - 16, 1)
    assert (found % (1 << shift) == 0).all()
    assert (found >> shift < 1 << 16).all()
    assert (np.abs(found - multiplier) <= 1 << shift).all()
