"""Dense layers by the packed dot products, of every instruction set, equal the reference bit for bit; and when they are taken."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.generators import QUIET, eager
from backends.raw_layers import dense_model, ends
from backends.test_isas import FUSED_ISAS, odd_layouts
from qrnn.backends import create_engine
from qrnn.backends.cpu.isa import PLAIN, available_isas
from qrnn.backends.cpu.kinds.dense import PackedDense
from qrnn.backends.cpu.matrix import AHEAD
from qrnn.backends.cpu.tuning import Tuning
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.quant_model import QuantModel

LIMITS = (1, 126, 127, 128, 255, 8191, 32767)

short = settings(max_examples=80, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
long = settings(max_examples=2500, deadline=None, database=None, suppress_health_check=QUIET)


def the_layer(model: QuantModel) -> QuantDense:
    layer = model.layers[0]
    assert isinstance(layer, QuantDense)
    return layer


def run(model: QuantModel, x: Any, backend: str, isa: str | None = None, tuning: Tuning | None = None) -> Any:
    return create_engine(backend, model, 1 if tuning is None else tuning.cores, isa, tuning).rows(the_layer(model), x)


def check(model: QuantModel, x: Any, isas: tuple[str, ...] = available_isas()) -> None:
    """By one thread with the packed products, whatever the size, and by three."""
    want = run(model, x, "reference")
    for isa in isas:
        got = run(model, x, "cpu", isa, Tuning(dense_macs=1, cores=1))
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want, err_msg=isa)
        np.testing.assert_array_equal(run(model, x, "cpu", isa, eager(3)), want, err_msg=isa)


def any_inputs(rng: np.random.Generator, vectors: int, inputs: int) -> Any:
    """int16, a third of them at the ends."""
    return ends(rng, -32768, 32767, vectors, inputs).astype(np.int16)


sizes = st.one_of(st.sampled_from((1, 15, 16, 17, 31, 33, 63, 64, 65)), st.integers(1, 140))
counts = st.one_of(st.sampled_from((1, 2, 3, 4, 5, 15, 16, 17, AHEAD - 1, AHEAD, AHEAD + 1)), st.integers(1, 12))


@short
@given(inputs=sizes, rows=sizes, vectors=counts, limit=st.sampled_from(LIMITS), seed=st.integers(0, 1 << 32))
def test_every_size(inputs: int, rows: int, vectors: int, limit: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    check(dense_model(rng, inputs, rows, limit), any_inputs(rng, vectors, inputs))


@pytest.mark.long
@long
@given(inputs=sizes, rows=sizes, vectors=counts, limit=st.sampled_from(LIMITS), seed=st.integers(0, 1 << 32))
def test_every_size_long(inputs: int, rows: int, vectors: int, limit: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    check(dense_model(rng, inputs, rows, limit), any_inputs(rng, vectors, inputs))


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("limit", [127, 32767])
def test_everything_at_its_ends(limit: int, sign: int) -> None:
    """The largest weights and inputs: sums and results as large as the proof lets them come, then shifted by every pre_shift."""
    model = dense_model(np.random.default_rng(0), 400, 70, limit)
    matrix = the_layer(model).matrix
    matrix.weight[:] = 127 * sign
    matrix.left_shift[:] = 0
    matrix.bias[:] = sign * ((1 << 31) - 1 - 127 * 400 * limit)
    matrix.bias[::3] = 0
    matrix.multiplier[:] = (1 << 31) - 2 >> np.arange(70) % 24 & ~1
    matrix.prove("drawn")
    the_layer(model).pre_shift[:] = np.arange(70) % 16
    x = np.full((3, 400), 32767, np.int16)
    x[1], x[2, ::2] = -32768, -32768
    check(model, x)


def test_no_vectors_and_arrays_of_any_layout() -> None:
    rng = np.random.default_rng(1)
    model = dense_model(rng, 35, 18, 127)
    x = any_inputs(rng, 7, 35)
    for odd in odd_layouts(x):
        check(model, odd)
    check(model, x[:0].reshape(0, 35))


@pytest.mark.parametrize(("vectors", "inputs", "rows"), [(1, 128, 10), (1, 128, 128), (100, 128, 10), (1, 16, 3)])
@pytest.mark.parametrize("isa", available_isas())
def test_which_products_are_taken(isa: str, vectors: int, inputs: int, rows: int) -> None:
    """The packed ones where there is enough to do for them, and the instruction set is not plain loops."""
    rng = np.random.default_rng(2)
    model, x = dense_model(rng, inputs, rows, 127), any_inputs(rng, vectors, inputs)
    engine = create_engine("cpu", model, 1, isa)
    with mock.patch.object(PackedDense, "call", autospec=True, side_effect=PackedDense.call) as packed:
        got = engine.rows(the_layer(model), x)
    assert packed.called == (isa != PLAIN and vectors * inputs * rows >= Tuning().dense_macs)
    np.testing.assert_array_equal(got, run(model, x, "reference"))


def test_all_instruction_sets_are_tested() -> None:
    assert (*FUSED_ISAS, PLAIN) == available_isas()
