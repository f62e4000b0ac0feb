"""Every mixture of widths gives the reference's integers by the kernels of backend cuda."""

from __future__ import annotations

import pytest

from backends.generators import assert_equal
from backends.mixed_widths import FIRST, MODELS, mixed_model, run


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=() if n in FIRST[:2] else pytest.mark.matrix) for n in MODELS]
)
def test_a_model(number: int) -> None:
    model = mixed_model(number, features=2, hidden=3)
    lengths = (2, 0, 1)
    assert_equal(run(model, lengths, "reference"), run(model, lengths, "cuda"))
