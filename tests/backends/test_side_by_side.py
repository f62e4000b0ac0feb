"""Recurrent layers of few units over bands: the CPU runs several sequences side by side, in the lanes of every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn import Scheme, Session, layers
from qrnn.backends.cpu.isa import PLAIN, available_isas
from qrnn.backends.cpu.side_by_side import most_copies
from qrnn.conversion import quantize
from qrnn.model.kinds.over_bands import QuantOverBands
from qrnn.model.quant_model import QuantModel

STEPS = 7
FUSED = pytest.mark.parametrize("isa", [isa for isa in available_isas() if isa != PLAIN])
"""Each network is compiled for itself, which takes seconds: the default run has few of them."""


def network(cell: str, bands: int, features: int, units: int, reverse: bool, scheme: Scheme, seed: int) -> QuantModel:
    """A layer over bands, and one for each band behind it."""
    rng = np.random.default_rng(seed)
    gates, build = {"lstm": 4, "gru": 3, "rnn": 1}[cell], getattr(layers, cell)

    def one(band: layers.Tensor, columns: int, backwards: bool) -> layers.Recurrent:
        ih, hh = (rng.normal(0, 0.5, (gates * units, n)) for n in (columns, units))
        return build(band, ih, hh, rng.normal(size=gates * units), h_0=0.5 * rng.normal(size=units), reverse=backwards)  # type: ignore[no-any-return]

    x = layers.input("x", bands * features)
    over = layers.over_bands(x, bands, lambda band: one(band, features, reverse), name="over")
    each = layers.per_band(over, bands, lambda band: one(band, units, False))
    model = layers.model("side_by_side", {"y": each.output, "h": each.h_n, "over": over})
    return quantize(model, {"x": rng.normal(size=(4, 9, bands * features))}, scheme)


@pytest.mark.wide(cover=False)
@FUSED
@settings(deadline=None, max_examples=2)
@given(st.data())
def test_few_networks(isa: str, data: st.DataObject) -> None:
    check(isa, data)


@pytest.mark.matrix
@FUSED
@settings(deadline=None, max_examples=10)
@given(st.data())
def test_many_networks(isa: str, data: st.DataObject) -> None:
    check(isa, data)


def check(isa: str, data: st.DataObject) -> None:
    """Whole sequences, a ragged batch, and steps; numbers of steps that the copies do not divide."""
    cell, units = (
        data.draw(st.sampled_from(["lstm", "gru", "rnn"])),
        data.draw(st.sampled_from([1, 3, 4, 8, 11, 16, 33])),
    )
    bands, features, seed = (
        data.draw(st.integers(1, 8)),
        data.draw(st.integers(1, 4)),
        data.draw(st.integers(0, 1 << 16)),
    )
    scheme = Scheme(data.draw(st.sampled_from([8, 16])), input="8", weights=data.draw(st.sampled_from([8, 4])))
    model = network(cell, bands, features, units, data.draw(st.booleans()), scheme, seed)
    N = data.draw(st.integers(1, 3))
    x, lengths = np.random.default_rng(seed).normal(size=(N, STEPS, bands * features)), np.arange(N) * 3
    session, reference = Session(model, isa=isa), Session(model, "reference")
    want = reference.run({"x": x}).outputs
    for name, value in want.items():
        np.testing.assert_array_equal(session.run({"x": x}).outputs[name], value, err_msg=name)
    for name, value in reference.run({"x": x}, lengths).outputs.items():
        np.testing.assert_array_equal(session.run({"x": x}, lengths).outputs[name], value, err_msg=name)
    state = None
    for t in range(STEPS):
        result = session.step({"x": x[:, t]}, state)
        state = result.state
        np.testing.assert_array_equal(result.outputs["y"], want["y"][:, t])
    np.testing.assert_array_equal(result.outputs["h"], want["h"])


def test_how_many_copies() -> None:
    """As many as the lanes hold, and none without fused steps."""
    model = network("gru", 4, 2, 8, False, Scheme(8, input="8"), 0)
    (layer,) = (layer for layer in model.layers if isinstance(layer, QuantOverBands))
    assert most_copies(layer, None) == 1
    for name in available_isas():
        isa = Session(model, isa=name).engine.tasks.isa  # type: ignore[attr-defined]
        if isa is not None:
            assert most_copies(layer, isa) == max(1, isa.with_int16_lanes().units // 8)
