"""What would make a model fit: the advice does what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from models import Shape, make_model

from qrnn import layers
from qrnn.conversion import quantize
from qrnn.devices.fit import judge
from qrnn.devices.measure import Needs, layer_work, sizes, work
from qrnn.export.source import export_source
from qrnn.model.quant_model import QuantModel
from qrnn.model.window import Window
from qrnn.quantization.scheme import Scheme
from qrnn.targets import load_target

TARGET = load_target("cortex-m4")


def converted(weights: int) -> QuantModel:
    model = make_model(Shape("lstm", 64, 64), np.random.default_rng(0))
    return quantize(model, {"x": np.random.default_rng(1).normal(size=(2, 6, 64))}, Scheme(input="8", weights=weights))


def needs_of(model: QuantModel) -> Needs:
    """Return needs with the constants for flash, as where nothing can be built."""
    found = sizes(export_source(model, "net", TARGET.core.kernels), TARGET, 1)
    return replace(found, flash_bytes=found.constant_bytes, instructions=1000.0)


def test_four_bits_are_advised_where_they_are_enough() -> None:
    eight, four = (needs_of(converted(bits)) for bits in (8, 4))
    assert four.constant_bytes < 0.6 * eight.constant_bytes

    def remedies(flash: int) -> str:
        board = replace(TARGET, memory=replace(TARGET.memory, flash_bytes=flash))
        return "; ".join(judge(converted(8), replace(eight, target=board), 0.01).remedies)

    assert "--weights 4" in remedies(four.constant_bytes)
    assert "--weights 4" not in remedies(four.constant_bytes - 1000)
    assert remedies(eight.constant_bytes) == ""


def test_a_slow_clock_is_told_how_fast_it_must_be() -> None:
    needs = needs_of(converted(8))
    assert needs.seconds is not None
    found = judge(converted(8), needs, needs.seconds / 2)
    assert not found.fits
    assert found.load == 2.0
    assert "336 MHz" in found.remedies[0]


def test_what_fits_lacks_nothing() -> None:
    found = judge(converted(8), needs_of(converted(8)), 0.01)
    assert found.fits
    assert found.remedies == ()


def test_multiply_adds_are_those_of_a_step() -> None:
    """A convolution's at all its places; behind strides, those of the steps that come out, however windows are padded."""
    rng = np.random.default_rng(0)
    x = layers.input("x", 2 * 6)
    band = Window(3, 2, before=1, after=1)
    c = layers.conv(x, rng.normal(size=(4, 2, 3, 3)), bands=6, band=band, padding=(1, 1), name="first")
    c = layers.max_pool(c, Window(2, 2))
    c = layers.conv(c, rng.normal(size=(5, 12, 4)), stride=3, name="second")
    gru = layers.gru(c, rng.normal(size=(9, 5)), rng.normal(size=(9, 3)), name="gru")
    head = layers.dense(gru.h_n, rng.normal(size=(2, 3)), name="head")
    model = quantize(layers.model("net", {"y": head}), {"x": rng.normal(size=(2, 40, 12))}, Scheme(input="8"))
    assert layer_work(model) == {
        "first": 3 * (4 * 2 * 3 * 3),
        "second": 5 * 12 * 4 / 6,
        "gru": pytest.approx((9 * 5 + 9 * 3) / 6),
        "head": 2 * 3,
    }
    assert work(model) == (216 + 40 + 12 + 6, 3 * 3)
    assert judge(model, needs_of(model), 0.01).multiply_adds == layer_work(model)
