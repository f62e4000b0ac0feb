"""The functions of normalizations compile for Turing, Ampere and Hopper to integer instructions alone, and without local memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from numba import cuda

from backends.cuda.ptx import (
    CAPABILITIES,
    LONGS,
    PTXAS,
    SHORTS2,
    Capability,
    assemble,
    assert_registers_suffice,
    instructions,
    ptx_of,
)
from qrnn.arithmetic import norms
from qrnn.backends.cuda.contract import device

norm_variance, norm_exponent = device(norms.norm_variance), device(norms.norm_exponent)
norm_scale, normalize = device(norms.norm_scale), device(norms.normalize)


@cuda.jit(launch_bounds=128)
def normalize_rows(x: Any, parameters: Any, out: Any) -> None:
    """Normalize the rows of x, a thread for each, with one gain, gain_shift and bias for all features."""
    m = cuda.grid(1)
    if m < x.shape[0]:
        count, total, squares = x.shape[1], 0, 0
        for k in range(count):
            total += x[m, k]
            squares += x[m, k] * x[m, k]
        variance = norm_variance(count, total, squares, parameters[0], parameters[1])
        exponent = norm_exponent(variance)
        scale = norm_scale(variance, exponent)
        for k in range(count):
            out[m, k] = normalize(x[m, k], count, total, scale, exponent, parameters[2], parameters[3], parameters[4])


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda c: f"sm_{c[0]}{c[1]}")
def test_rows_are_normalized_in_registers(capability: Capability, tmp_path: Path) -> None:
    """There is no division and no float, and 64-bit products are there."""
    ptx = ptx_of(normalize_rows, (SHORTS2, LONGS, SHORTS2), capability)
    for name in ("div", "sqrt", "rsqrt", "fma", "cvt.rn"):
        assert not instructions(ptx, name), name
    assert instructions(ptx, "mul.lo.s64")
    if PTXAS is not None:
        assert_registers_suffice(assemble(ptx, capability, tmp_path))
