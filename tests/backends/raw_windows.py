"""Layers with windows of random integers, up to the ends of what a model file may hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from backends.raw_layers import any_matrix, ends, int16
from qrnn.model.float_model import GraphInput, GraphOutput
from qrnn.model.kinds.conv import QuantConv
from qrnn.model.kinds.max_pool import QuantMaxPool
from qrnn.model.layer import QuantLayer
from qrnn.model.parts import Operand
from qrnn.model.quant_graph import Provenance
from qrnn.model.quant_model import QuantModel
from qrnn.model.window import EACH, Window

Rng = np.random.Generator

LIMITS = (1, 126, 127, 128, 8191, 32767)


@dataclass(frozen=True)
class ConvShape:
    """The sizes of a convolution: ``own`` channels of each of ``groups`` groups, and as many ``rows`` of each."""

    time: Window = EACH
    band: Window = EACH
    bands: int = 1
    groups: int = 1
    own: int = 1
    rows: int = 1
    limit: int = 127
    shift: int = 0
    line: Window = EACH
    lines: int = 1


def raw_conv(rng: Rng, shape: ConvShape, matrix: Any = any_matrix) -> QuantConv:
    """A convolution from x to y, whose weights have eight or four bits unless ``matrix`` makes them."""
    rows, columns = shape.groups * shape.rows, shape.time.taps * shape.line.taps * shape.band.taps * shape.own
    pre_shift = np.where(rng.random(rows) < 0.7, 0, ends(rng, 0, 15, rows)).astype(np.int8)
    return QuantConv(
        "conv", "x", "y", matrix(rng, rows, columns, shape.limit), pre_shift, Operand(shape.shift, shape.limit), 12,
        time=shape.time, band=shape.band, bands=shape.bands, groups=shape.groups, line=shape.line, lines=shape.lines,
    )  # fmt: skip


def raw_pool(
    time: Window, band: Window, bands: int, channels: int, line: Window = EACH, lines: int = 1
) -> QuantMaxPool:
    """A pool from x to y."""
    return QuantMaxPool("pool", "x", "y", 3, channels, time, band, bands, line, lines)


def model_of(layer: Any) -> QuantModel:
    """The layer alone, from the graph input x to the graph output y."""
    features = layer.places * (layer.matrix.weight.shape[0] if isinstance(layer, QuantConv) else layer.channels)
    every = np.arange(features)
    layers: tuple[QuantLayer, ...] = (layer,)
    return QuantModel(
        "raw", (GraphInput("x", "features", (layer.features,), True),), layers,
        (GraphOutput("y", (features,), True, (("y", every, every),)),),
        {"x": int16(3, layer.features), "y": int16(12 if isinstance(layer, QuantConv) else 3, features)}, False,
        Provenance("", 0, "", 0, 0, "minmax", False, "generic", {}),
    )  # fmt: skip


@st.composite
def windows(draw: st.DrawFn, taps: int = 3) -> Window:
    """Any window of few taps."""
    window = Window(draw(st.integers(1, taps)), draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    edge = st.integers(0, window.span - 1)
    return replace(window, before=draw(edge), after=draw(edge))


@st.composite
def bands_of(draw: st.DrawFn, more: int = 8) -> tuple[Window, int]:
    """A window over bands, and how many bands there are, up to so many ``more`` than it needs."""
    band = draw(st.just(EACH) | windows())
    least = max(1, band.span - band.before - band.after)
    return band, draw(st.integers(least, least + more))


def lines_of() -> st.SearchStrategy[tuple[Window, int]]:
    """A window over lines, and how many lines there are: one line is as likely as all else."""
    return st.just((EACH, 1)) | bands_of(3)


@st.composite
def conv_shapes(draw: st.DrawFn) -> ConvShape:
    """Any convolution: of one group, of few, and of one for each channel."""
    band, bands = draw(bands_of())
    groups, own, rows = draw(
        st.tuples(st.just(1), st.integers(1, 20), st.integers(1, 40))
        | st.tuples(st.integers(2, 4), st.integers(1, 5), st.integers(1, 9))
        | st.tuples(st.integers(2, 40), st.just(1), st.integers(1, 2))
    )
    time, (line, lines) = draw(windows(5)), draw(lines_of())
    largest = 128 * time.taps * band.taps * line.taps * own  # times the limit, the most that a row can come to
    limit = draw(st.sampled_from([limit for limit in LIMITS if limit * largest < 1 << 31]))
    return ConvShape(time, band, bands, groups, own, rows, limit, draw(st.sampled_from((0, 0, 1, 7, 15))), line, lines)


def states_of(rng: Rng, layer: QuantLayer, size: int) -> list[Any]:
    """States of ``size`` sequences as any step may leave them, of which a third of the values are at the ends."""
    return [ends(rng, *array.range, size, *array.shape).astype(array.dtype) for array in layer.states()]
