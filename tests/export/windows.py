"""Random models with convolutions and pools: every form that exported C has of them, alone and beside recurrent layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from export.building import quantized
from qrnn import layers
from qrnn.layers import Tensor
from qrnn.model.quant_model import QuantModel
from qrnn.model.window import EACH, Window
from qrnn.quantization.scheme import Scheme

SCHEMES = (Scheme(input="8"), Scheme(16, input="16"), Scheme(input="8", weights=4), Scheme(16, input="16", weights=4))
"""Operands of 8 and of 16 bits; beside recurrent weights of four bits, operands of convolutions are laid out for these."""

MOST_CHANNELS = 12


@st.composite
def windows(draw: st.DrawFn, size: int = 1 << 16) -> Window:
    """Any window of few taps with a place on an axis of ``size``."""
    window = Window(draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    edge = st.integers(0, window.span - 1)
    window = replace(window, before=draw(edge), after=draw(edge))
    return window if window.count(size) > 0 else EACH


@st.composite
def steps(draw: st.DrawFn) -> Window:
    """A window over time: causal ones, which C has without counting rows, are as likely as all others."""
    window = draw(windows())
    return replace(window, stride=1, before=window.span - 1, after=0) if draw(st.booleans()) else window


@st.composite
def shapes(draw: st.DrawFn, channels: int) -> tuple[int, int]:
    """The groups and the rows of a group of a convolution of ``channels``: a group for each channel is as likely as all others."""
    groups = draw(st.sampled_from([channels, *(g for g in range(1, channels + 1) if channels % g == 0)]))
    return groups, draw(st.integers(1, 3) if groups > 1 else st.integers(1, 9))


def convolution(
    draw: st.DrawFn, rng: np.random.Generator, x: Tensor, bands: int, lines: int
) -> tuple[Tensor, int, int]:
    """A convolution of ``x``, and its bands and lines; its sums are of any size, so that rows have shifts to the left before and after."""
    channels = x.features // (lines * bands)
    (groups, rows), time, band, line = draw(shapes(channels)), draw(steps()), draw(windows(bands)), draw(windows(lines))
    size = draw(st.sampled_from([1e-3, 1.0, 1.0, 50.0]))
    weight = size * rng.normal(size=(groups * rows, channels // groups, time.taps, line.taps, band.taps))
    y = layers.conv(
        x, weight, size * rng.normal(size=len(weight)), stride=time.stride, dilation=time.dilation,
        padding=(time.before, time.after), band=band, bands=bands, groups=groups, line=line, lines=lines,
    )  # fmt: skip
    return y, band.count(bands), line.count(lines)


def pool(draw: st.DrawFn, x: Tensor, bands: int, lines: int) -> tuple[Tensor, int, int]:
    """A pool of ``x``, and its bands and lines."""
    band, line = draw(windows(bands)), draw(windows(lines))
    y = layers.max_pool(x, draw(steps()), band=band, bands=bands, line=line, lines=lines)
    return y, band.count(bands), line.count(lines)


@st.composite
def models(draw: st.DrawFn) -> QuantModel:
    """A quantized model of one to three convolutions and pools and, for four bits, an LSTM."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    bands, lines = draw(st.integers(1, 6)), draw(st.sampled_from([1, 1, 2, 4]))
    t, scheme = layers.input("x", lines * bands * draw(st.integers(1, MOST_CHANNELS))), draw(st.sampled_from(SCHEMES))
    for kind in draw(st.lists(st.sampled_from(["conv", "conv", "pool"]), min_size=1, max_size=3)):
        of_kind = convolution(draw, rng, t, bands, lines) if kind == "conv" else pool(draw, t, bands, lines)
        t, bands, lines = of_kind
    outputs: dict[str, Any] = {"y": t}
    if scheme.weights == 4 or draw(st.booleans()):
        lstm = layers.lstm(t, 0.1 * rng.normal(size=(4 * 33, t.features)), 0.1 * rng.normal(size=(4 * 33, 33)))
        outputs = {"h": lstm.output, "last": lstm.h_n}
    return quantized(layers.model("windows", outputs), scheme, steps=60)
