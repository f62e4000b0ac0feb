"""The cpu backend's conversions are the boundary's own, value for value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from models import Shape, make_model

from qrnn.backends.cpu import engine
from qrnn.model.boundary import dequantize_array, quantize_array
from qrnn.model.parts import TensorFormat
from qrnn.quantization import quantize
from qrnn.session import Session


@pytest.fixture(scope="module")
def cpu() -> Any:
    rng = np.random.default_rng(0)
    return Session(quantize(make_model(Shape("gru"), rng), {"x": rng.normal(size=(2, 9, 3))}), "cpu", 2).engine


@pytest.mark.parametrize("task", [1, 1 << 17])
@pytest.mark.parametrize("scale", [(0.037,), (2.0**-11,), (1e-30,), (1e30,), (0.1, 0.02, 3.3)])
def test_conversions(cpu: Any, scale: tuple[float, ...], task: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values about the halves between integers, far beyond the limit, tiny, and negative zero."""
    monkeypatch.setattr(engine, "BOUNDARY_TASK", task)
    monkeypatch.setattr(engine, "core_count", lambda: 2)
    fmt = TensorFormat(3, True, 16, scale, 127)
    rng = np.random.default_rng(1)
    halves = (rng.integers(-300, 300, (4, 50, 3)) + 0.5) * fmt.scales
    x = np.concatenate(
        [halves, np.nextafter(halves, 0), np.nextafter(halves, 1e38), rng.normal(size=(4, 50, 3)) * 1e37]
    )
    x[0, 0] = [0.0, -0.0, 1e-300]
    np.testing.assert_array_equal(cpu.quantize(x, fmt), quantize_array(x, fmt))
    np.testing.assert_array_equal(cpu.quantize(x[:, ::2], fmt), quantize_array(x[:, ::2], fmt))
    for kind in (np.int16, np.int32):
        q = rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, (5, 7, 3), endpoint=True).astype(kind)
        np.testing.assert_array_equal(cpu.dequantize(q, fmt), dequantize_array(q, fmt))
