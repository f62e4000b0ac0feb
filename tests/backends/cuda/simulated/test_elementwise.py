"""Elementwise layers, compiled for the device from their definitions, have the reference's bits."""

from __future__ import annotations

import numpy as np
import pytest
from elementwise_layers import KINDS, data_of, models
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.generators import QUIET
from qrnn.running.session import Session


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
@given(st.data())
def test_kinds(kind: str, data: st.DataObject) -> None:
    model = data.draw(models(kind))
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    x, lengths = data_of(model, rng, 2, 3), rng.integers(0, 4, 2)
    want, got = (Session(model, name, integers=True).run(x, lengths).outputs["y"] for name in ("reference", "cuda"))
    np.testing.assert_array_equal(got, want)
