"""The rounding of real numbers, against exact rationals; and that it is written in one place."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qrnn.arithmetic.fixedpoint import shift_right_round, to_operand
from qrnn.arithmetic.reals import operands, round_half_up
from qrnn.backends.cpu.jit import jit

ROOT = Path(__file__).parents[2]
RESTATED = re.compile(r"floor\([^#]*\+ ?0\.5|0\.5 ?\+[^#]*floor|\+ \(\(1 << [\w.]+\) >> 1\)\) >>")
OWN = {
    "qrnn/arithmetic/fixedpoint.py",  # of integers
    "qrnn/arithmetic/reals.py",  # of real numbers
    "qrnn/backends/cuda/contract.py",  # NumPy's floor does not exist on the device
}


@given(st.integers(-(1 << 40), 1 << 40), st.integers(0, 15))
def test_it_is_the_rounding_of_integers(n: int, frac: int) -> None:
    """A real number and the fixed-point integer that stands for it are rounded alike: halves go towards plus infinity for both."""
    assert round_half_up(n / 2**frac) == shift_right_round(n, frac) == math.floor(Fraction(n, 2**frac) + Fraction(1, 2))


def test_halves_and_what_is_not_finite() -> None:
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, np.inf, -np.inf, np.nan])
    np.testing.assert_array_equal(round_half_up(x), [-2.0, -1.0, 0.0, 1.0, 2.0, np.inf, -np.inf, np.nan])


def test_it_compiles() -> None:
    compiled = jit(lambda x: round_half_up(x))
    for x in (-1.5, -0.5, 0.49, 0.5, 1e9 + 0.5):
        assert compiled(x) == round_half_up(x)


@pytest.mark.parametrize("shift", range(16))
def test_operands_of_an_array_are_those_of_each_value(shift: int) -> None:
    q = np.arange(-32768, 32768, 7).astype(np.int16)
    for limit in (1, 127, 32767):
        assert operands(q, shift, limit).tolist() == [to_operand(int(v), shift, limit) for v in q]


def test_no_other_place_rounds_by_a_formula_of_its_own() -> None:
    files = [p for folder in ("qrnn", "tools") for p in (ROOT / folder).rglob("*.py")]
    lines = [
        (p.relative_to(ROOT).as_posix(), line) for p in files for line in p.read_text(encoding="utf-8").splitlines()
    ]
    found = {name for name, line in lines if RESTATED.search(line) and not line.lstrip().startswith(('"""', "#"))}
    assert found == OWN
