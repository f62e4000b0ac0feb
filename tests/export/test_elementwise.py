"""Elementwise layers in C, translated from their definitions, have the reference's bits under sanitizers."""

from __future__ import annotations

from pathlib import Path

import pytest
from elementwise_layers import KINDS, models
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from export.building import COMPILERS, check


@pytest.mark.wide
@pytest.mark.parametrize(("kind", "cc"), [(kind, COMPILERS[k % 2]) for k, kind in enumerate(KINDS)])
@settings(
    deadline=None,
    max_examples=2,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_kinds(kind: str, cc: str, tmp_path: Path, data: st.DataObject) -> None:
    check(data.draw(models(kind)), tmp_path, cc)
