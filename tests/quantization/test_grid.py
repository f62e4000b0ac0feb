"""Rows of weights that lie on a grid already keep its step: their integers come back, and nothing is rounded anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.batch import make_batch
from qrnn.quantization.floor import floor_model
from qrnn.quantization.grid import grid_steps
from qrnn.quantization.matrix import integer_weights, kept_steps, quantize_matrix, quantize_matrix4, row_scales
from tests.models import Shape, make_model

quick = settings(max_examples=150, deadline=None, derandomize=True, database=None)


def integer_rows(rng: np.random.Generator, rows: int, columns: int, largest: int) -> Any:
    """Return integers within ±largest without a common factor, and with two magnitudes at least, so that only one step makes them."""
    q = rng.integers(-largest, largest + 1, (rows, columns))
    q[:, 0], q[:, -1] = 1, largest
    return q


def products(rng: np.random.Generator, q: Any, factor: float = 1.0) -> Any:
    """Return q times a float32 step for each row, each product rounded to float32, times a factor in float64."""
    steps = (10.0 ** rng.uniform(-6, 2, len(q))).astype(np.float32)
    return (q.astype(np.float32) * steps[:, None]).astype(np.float64) * factor


@quick
@given(
    seed=st.integers(0, 1 << 30),
    columns=st.integers(2, 300),
    largest=st.integers(2, 127),
    factor=st.floats(1e-6, 1e6),
)
def test_integers_come_back(seed: int, columns: int, largest: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    q = integer_rows(rng, 8, columns, largest)
    weight = products(rng, q, factor)
    scale = row_scales(weight, np.zeros(8))
    np.testing.assert_array_equal(integer_weights(weight, scale), q)
    assert (np.abs(q * scale[:, None] - weight) <= np.abs(weight) * 2.0**-23).all()
    fracs = np.zeros(8, np.int64)
    made = quantize_matrix(weight, np.zeros(8), fracs, np.zeros(8, np.int8), 127)
    np.testing.assert_array_equal(made.weight, q)


@quick
@given(seed=st.integers(0, 1 << 30), columns=st.integers(2, 100), largest=st.integers(2, 7))
def test_integers_of_four_bits_come_back(seed: int, columns: int, largest: int) -> None:
    rng = np.random.default_rng(seed)
    q = integer_rows(rng, 8, columns, largest)
    weight = products(rng, q)
    scale = row_scales(weight, np.zeros(8), 4)
    np.testing.assert_array_equal(integer_weights(weight, scale, 4), q)
    made = quantize_matrix4(weight, np.zeros(8), np.zeros(8, np.int64), np.zeros(8, np.int8), 127)
    np.testing.assert_array_equal(made.weight, q)


@quick
@given(seed=st.integers(0, 1 << 30), columns=st.integers(5, 200), kind=st.sampled_from(["f", "d"]))
def test_other_rows_have_no_grid(seed: int, columns: int, kind: str) -> None:
    """Rows of random numbers, and rows of which one weight is off the grid, keep max|w| / 127."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(16, columns)).astype(kind).astype(np.float64)
    off = products(rng, integer_rows(rng, 16, columns, 127))
    off[:, 1] *= 1 + 2.0**-21
    off[:, 1] += np.abs(off[:, -1]) * 1e-3
    for rows in (weight, off):
        assert not grid_steps(rows).any()
        np.testing.assert_array_equal(row_scales(rows, np.zeros(16)), np.abs(rows).max(axis=1) / 127)


def test_integers_beyond_127_are_no_grid() -> None:
    q = integer_rows(np.random.default_rng(3), 4, 40, 128)
    assert not grid_steps(q * 0.01).any()


def test_rows_of_one_magnitude() -> None:
    """Their integers are ±127, as of other rows; with four bits, which do not hold +112 and -112 in one group, they are ±1."""
    weight = np.array([[0.3, -0.3, 0.0, 0.3], [0.3, 0.3, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(kept_steps(weight), [0.3 / 127, 0.3 / 127, 0])
    np.testing.assert_array_equal(kept_steps(weight, 4), [0.3, 0.3 / 112, 0])
    np.testing.assert_array_equal(integer_weights(weight, row_scales(weight, np.zeros(3), 4), 4)[0], [1, -1, 0, 1])


def test_what_four_bits_do_not_hold_is_rounded() -> None:
    """A group with 8 and -8, or with 1 and 127, is rounded as any other; groups that are q times a scale each are kept."""
    q = np.zeros((3, 64))
    q[0, :3], q[1, :3] = (8, -8, 1), (1, 127, 3)
    q[2, :3], q[2, 40:43] = (1, 2, -7), (15, -30, 105)
    steps = kept_steps(q * 0.02, 4)
    np.testing.assert_array_equal(steps > 0, [False, False, True])
    np.testing.assert_array_equal(integer_weights(q[2:] * 0.02, steps[2:], 4), q[2:])


def test_a_bias_that_the_step_cannot_hold_raises_the_scale() -> None:
    weight = np.array([[1.0, 3.0, 127.0]]) * 1e-6
    assert row_scales(weight, np.array([1e-4]))[0] == pytest.approx(1e-6, rel=1e-12)
    assert row_scales(weight, np.array([1e6]))[0] == 1e6 / 2**29


def test_the_floor_keeps_what_is_on_a_grid() -> None:
    """A model whose weights are integers times steps is its own floor, whatever the sizes of its features are."""
    rng = np.random.default_rng(5)
    model = make_model(Shape("lstm", 6, 8, head=3), rng)
    layers = [
        layer.with_weights([products(rng, integer_rows(rng, *w.values.shape, 127)) * 1e-3 for w in layer.weights()])
        for layer in model.layers
    ]
    model = type(model)(**{**model.__dict__, "layers": tuple(layers)})
    batch = make_batch(model.inputs, {"x": rng.normal(size=(3, 5, 6)) * [1e-3, 1, 5, 70, 1e3, 0.2]})
    want, got = (run_oracle_batch(m, batch).outputs["y"] for m in (model, floor_model(model, batch)))
    np.testing.assert_allclose(got, want, rtol=1e-5)
