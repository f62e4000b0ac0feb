"""The cpu backend's conversions are the boundary's own, value for value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from models import Shape, make_model

from qrnn.backends import create_engine
from qrnn.backends.cpu.calls import STATUS, Call, CallList
from qrnn.backends.cpu.scales import scaling
from qrnn.backends.cpu.tuning import Tuning
from qrnn.backends.cpu.wanted import Kernel
from qrnn.conversion import quantize
from qrnn.model.boundary import dequantize_array, quantize_array, to_integers
from qrnn.model.parts import TensorFormat
from qrnn.model.quant_model import QuantModel


def quantize_rows(fmt: TensorFormat, x: Any, out: Any, first: int, last: int) -> int:
    """`rows.boundary.quantize`; its status."""
    control, parts = np.zeros(3, np.int64), scaling(fmt, x.dtype)
    call = Call(Kernel("qrnn.backends.cpu.rows.boundary", "quantize"), control, x, out, parts, fmt.limit)
    assert CallList((call,), control).run(first, last) == control[STATUS]
    return int(control[STATUS])


@pytest.fixture(scope="module")
def gru() -> QuantModel:
    rng = np.random.default_rng(0)
    return quantize(make_model(Shape("gru"), rng), {"x": rng.normal(size=(2, 9, 3))})


@pytest.mark.usefixtures("loops")
@pytest.mark.wide
@pytest.mark.parametrize("task", [1, 1 << 17])
@pytest.mark.parametrize("offset", [(0,), (-77,), (1 << 40,), (3, -(1 << 33), 5000), (1 << 52, 0, -(1 << 52))])
@pytest.mark.parametrize("scale", [(0.037,), (2.0**-11,), (1e-30,), (1e30,), (0.1, 0.02, 3.3)])
def test_conversions(gru: QuantModel, scale: tuple[float, ...], offset: tuple[int, ...], task: int) -> None:
    """Values about the halves between integers, far beyond the limit, tiny, and negative zero."""
    cpu = create_engine("cpu", gru, 2, tuning=Tuning(boundary_task_values=task, cores=2))
    fmt = TensorFormat(3, True, 16, scale, 127, offset)
    rng = np.random.default_rng(1)
    halves = (rng.integers(-300, 300, (4, 50, 3)) + 0.5 + fmt.scales_and_offsets[1]) * fmt.scales
    x = np.concatenate(
        [halves, np.nextafter(halves, 0), np.nextafter(halves, 1e38), rng.normal(size=(4, 50, 3)) * 1e37]
    )
    x[0, 0] = [0.0, -0.0, 1e-300]
    np.testing.assert_array_equal(cpu.quantize(x, fmt), quantize_array(x, fmt))
    np.testing.assert_array_equal(cpu.quantize(x[:, ::2], fmt), quantize_array(x[:, ::2], fmt))
    for kind in (np.int16, np.int32):
        q = rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, (5, 7, 3), endpoint=True).astype(kind)
        np.testing.assert_array_equal(cpu.dequantize(q, fmt), dequantize_array(q, fmt))


@pytest.mark.parametrize("exponent", [-140, -127, -126, -15, 0, 112, 113])
@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_float32_is_float64_rounded(gru: QuantModel, exponent: int, factor: float) -> None:
    """Powers of two are multiplied in float32 where that is exact: below, products have less than float32's precision, and above no end."""
    cpu = create_engine("cpu", gru, 1)
    fmt = TensorFormat(3, True, 16, (factor * 2.0**exponent,), 32767)
    for kind in (np.int16, np.int32):
        ends = np.iinfo(kind)
        q = np.array([[ends.min, ends.max, 1], [-1, 0, 12345]], kind)
        with np.errstate(over="ignore"):
            want = dequantize_array(q, fmt).astype(np.float32)
        np.testing.assert_array_equal(cpu.dequantize(q, fmt, "f"), want)


@pytest.mark.wide(cover=False, keep=20)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("limit", [127, 2047, 32767])
@pytest.mark.parametrize("features", [1, 3, 64, 600])
@pytest.mark.parametrize("far", [0, 100, 1 << 20, 1 << 44, 1 << 47])
def test_close_to_the_halves(kind: Any, limit: int, features: int, far: int) -> None:
    """Products with the reciprocal decide what they can; the neighbours of every half between two integers are divided."""
    rng = np.random.default_rng(limit + features)
    for scale in (
        rng.uniform(0.001, 3, 1),
        rng.uniform(0.001, 3, features),
        np.array([2.0**-140]),
        np.array([2.0**-126]),
        2.0 ** rng.integers(-20, 20, features),
        np.array([2.0**70]),
    ):
        fmt = TensorFormat(features, True, 16, tuple(scale.tolist()), limit, (far - features,) if far else (0,))
        whole = rng.integers(-limit - 3, limit + 3, (40, features)) + fmt.offset[0]
        x = np.stack([(whole + part) * scale for part in (0.5, 0.4999, 0.50001, 0.0, 0.25)]).reshape(-1, features)
        x = np.concatenate(
            [x.astype(kind), np.nextafter(x.astype(kind), kind(0)), rng.normal(size=x.shape).astype(kind)]
        )
        out = np.empty(x.shape, np.int16)
        assert quantize_rows(fmt, x, out, 0, len(x)) == 0
        np.testing.assert_array_equal(out, to_integers(x.astype(np.float64), scale, limit, fmt.offset[0]))
        for first in range(5):
            out[:] = 0
            quantize_rows(fmt, x, out, first, 2 * first)
            want = to_integers(x[first : 2 * first].astype(np.float64), scale, limit, fmt.offset[0])
            np.testing.assert_array_equal(out[first : 2 * first], want)
            assert not out[:first].any()
            assert not out[2 * first :].any()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("limit", [127, 32767])
def test_values_out_of_range_are_counted(kind: Any, bad: float, limit: int) -> None:
    """Wherever they stand."""
    for features in (1, 5, 300):
        for scale in (np.array([0.03]), np.full(features, 0.03), np.array([0.25])):
            for row in range(7):
                x = np.zeros((7, features), kind)
                x[row, -1] = kind(bad) if np.isfinite(bad) and kind is np.float64 else kind(np.copysign(np.inf, bad))
                x[row, -1] = np.nan if np.isnan(bad) else x[row, -1]
                fmt = TensorFormat(features, True, 16, tuple(scale.tolist()), limit)
                assert quantize_rows(fmt, x, np.empty(x.shape, np.int16), 0, 7) == 1
