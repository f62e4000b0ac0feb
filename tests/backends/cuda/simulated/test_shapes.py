"""Layers that put past steps side by side, and that gather features with zeros between them, have the bits of the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.cuda.simulated.test_loops import PROVENANCE, extremes, int16, some
from qrnn.model.float_model import GraphInput, GraphOutput
from qrnn.model.kinds.concat import ConcatPart, QuantConcat
from qrnn.model.kinds.delay import QuantDelay
from qrnn.model.quant_model import QuantModel
from qrnn.running.session import Session


def drawn_model(rng: np.random.Generator, features: int, width: int) -> QuantModel:
    """Past steps of x, and features of these and of x, aligned to fewer fraction bits, with zeros between them."""
    late = QuantDelay("late", "x", "d", 12, rng.integers(0, features, width), rng.integers(0, 4, width))
    parts = (
        ConcatPart("d", rng.integers(-1, width, width + 1), 12),
        ConcatPart("x", rng.integers(-1, features, 3), 12),
    )
    gather = QuantConcat("gather", "g", parts, 10)
    tensors = {"x": int16(features), "d": int16(width), "g": int16(width + 4)}
    tensors["g"] = type(tensors["g"])(width + 4, True, 16, (2.0**-10,), tensors["g"].limit)
    outputs = tuple(
        GraphOutput(name, (n,), True, ((name, np.arange(n), np.arange(n)),), time_axis=1)
        for name, n in (("d", width), ("g", width + 4))
    )
    inputs = (GraphInput("x", "features", (features,), True),)
    return QuantModel("drawn", inputs, (late, gather), outputs, tensors, False, PROVENANCE)


@some
@given(st.integers(0, 1 << 30), st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 6))
def test_delays_and_gathers(seed: int, size: int, features: int, width: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    model = drawn_model(rng, features, width)
    x, lengths = extremes(rng, size, steps, features) * 2.0**-12, rng.integers(0, steps + 1, size)
    got, want = (Session(model, backend).run({"x": x}, lengths) for backend in ("cuda", "reference"))
    for name, values in want.outputs.items():
        np.testing.assert_array_equal(got.outputs[name], values)
    session = Session(model, "cuda")
    first = session.run({"x": x[:, :2]}) if steps > 2 else None
    if first is not None:
        rest = session.run({"x": x[:, 2:]}, state=first.state)
        whole = Session(model, "reference").run({"x": x})
        for name, values in whole.outputs.items():
            np.testing.assert_array_equal(np.concatenate([first.outputs[name], rest.outputs[name]], axis=1), values)


@pytest.mark.parametrize("size", [1, 3])
def test_on_a_device_stream(size: int) -> None:
    rng = np.random.default_rng(4)
    model = drawn_model(rng, 3, 5)
    session, reference = Session(model, "cuda"), Session(model, "reference")
    x = extremes(rng, size, 4, 3) * 2.0**-12
    want = reference.run({"x": x}).outputs
    pool = session.stream(size) if size > 1 else session.stream()
    for t in range(4):
        found = pool.step({"x": x[:, t]})
        for name, values in want.items():
            np.testing.assert_array_equal(found[name], values[:, t])
