"""Elementwise layers have the reference's bits on every backend, whole, ragged and step by step, with any parameters and extreme values."""

from __future__ import annotations

import numpy as np
import pytest
from elementwise_layers import KINDS, data_of, models
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn.backends import available_backends
from qrnn.running.session import Session

OTHERS = [name for name in available_backends() if name != "reference"]


def check(kind: str, backend: str, data: st.DataObject) -> None:
    model = data.draw(models(kind, data.draw(st.booleans())))
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    N, T = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    x, has_time = data_of(model, rng, N, T), model.inputs[0].has_time
    lengths = rng.integers(0, T + 1, N) if has_time else None
    want = Session(model, "reference", integers=True).run(x, lengths)
    session = Session(model, backend, integers=True)
    got = session.run(x, lengths)
    np.testing.assert_array_equal(got.outputs["y"], want.outputs["y"])
    if not has_time:
        return
    whole = Session(model, "reference", integers=True).run(x).outputs["y"]
    stream = session.stream(N)
    steps = [stream.step({name: value[:, t] for name, value in x.items()})["y"] for t in range(T)]
    np.testing.assert_array_equal(np.stack(steps, axis=1), whole)


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=25)
@given(st.data())
def test_backends_agree(kind: str, backend: str, data: st.DataObject) -> None:
    check(kind, backend, data)


@pytest.mark.matrix
@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=300)
@given(st.data())
def test_backends_agree_on_more(kind: str, backend: str, data: st.DataObject) -> None:
    check(kind, backend, data)
