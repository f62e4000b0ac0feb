"""Second-order rounding on its own objective: never above plain rounding, on the grid, and what small cases have as their minimum."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn.refinement.rounding import Grid, dampened, descend, objective, round_rows

quick = settings(max_examples=60, deadline=None)


@st.composite
def drawn(draw: st.DrawFn, most: int = 40) -> Any:
    """(weight [R, K], grid, Hessian) of correlated operands, some always zero, fewer steps than columns too; rows of zeros."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    R, K = draw(st.integers(1, 6)), draw(st.integers(1, most))
    mixed = rng.normal(size=(draw(st.integers(1, 100)), K)) @ (
        np.eye(K) + draw(st.sampled_from([0.0, 1.0])) * rng.normal(size=(K, K))
    )
    operands = np.round(20 * mixed) * (rng.random(K) < draw(st.sampled_from([0.5, 1.0])))
    weight = rng.normal(size=(R, K)) * 10.0 ** rng.uniform(-3, 1)
    weight[rng.random(R) < 0.2] = 0.0
    end = draw(st.sampled_from([1, 7, 127]))
    step = np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-6) / end * np.ones(K)
    if draw(st.booleans()):  # groups with scales of their own, as weights of four bits have
        step = step * rng.integers(1, 16, (R, K)) / 15
    return weight, Grid(step, np.full((R, K), -end - 1.0), np.full((R, K), float(end))), operands.T @ operands


@quick
@given(case=drawn())
def test_never_above_plain_rounding(case: Any) -> None:
    weight, grid, hessian = case
    got, plain = round_rows(weight, grid, hessian), grid.nearest(weight)
    least = objective(weight, plain, hessian)
    assert (objective(weight, got, hessian) <= least * (1 + 1e-12)).all()
    np.testing.assert_array_equal(got, grid.nearest(got))
    n = grid.integers(got)
    assert (n >= grid.low).all()
    assert (n <= grid.high).all()
    np.testing.assert_array_equal(got, round_rows(weight.copy(), grid, hessian.copy()))


@quick
@given(case=drawn())
def test_descent_never_rises(case: Any) -> None:
    weight, grid, hessian = case
    H = dampened(hessian)
    start = grid.nearest(np.zeros_like(weight))
    before, after = objective(weight, start, H), objective(weight, descend(weight, start, grid, H), H)
    assert (after <= before * (1 + 1e-9) + 1e-12).all()


@quick
@given(case=drawn(most=4))
def test_near_the_minimum_of_small_cases(case: Any) -> None:
    """Every point that is one step off the real weights, or less, is tried: no row is above twice their minimum, or plain rounding."""
    weight, grid, hessian = case
    H = dampened(hessian)
    got = objective(weight, round_rows(weight, grid, hessian), H)
    plain = objective(weight, grid.nearest(weight), H)
    floor = np.floor(weight / grid.step)
    moves = itertools.product((0, 1), repeat=weight.shape[1])
    least = np.min([objective(weight, grid.step * np.clip(floor + m, grid.low, grid.high), H) for m in moves], axis=0)
    assert (got <= np.maximum(plain, 2 * least) * (1 + 1e-9) + 1e-12).all()


def test_what_the_grid_holds_is_kept() -> None:
    rng = np.random.default_rng(0)
    n = rng.integers(-7, 8, (5, 30)).astype(float)
    x = rng.normal(size=(100, 30))
    grid = Grid(np.full((5, 30), 0.25), np.full((5, 30), -8.0), np.full((5, 30), 7.0))
    np.testing.assert_array_equal(grid.integers(round_rows(n * 0.25, grid, x.T @ x)), n)


@pytest.mark.parametrize("bits", [3, 4, 6])
def test_correlated_operands_gain(bits: int) -> None:
    """With operands of a few directions the error falls to less than a fifth."""
    rng = np.random.default_rng(bits)
    x = rng.normal(size=(500, 8)) @ rng.normal(size=(8, 64)) + 0.1 * rng.normal(size=(500, 64))
    weight = rng.normal(size=(20, 64))
    end = 2.0 ** (bits - 1) - 1
    step = np.abs(weight).max(axis=1, keepdims=True) / end * np.ones(64)
    grid = Grid(step, np.full_like(step, -end), np.full_like(step, end))
    hessian = x.T @ x
    got, plain = round_rows(weight, grid, hessian), grid.nearest(weight)
    assert objective(weight, got, hessian).sum() < 0.2 * objective(weight, plain, hessian).sum()
