"""Convolutions as products: which output places and groups of channels are multiplied together, and their weights as one matrix.

A row of a product is an output channel at a place of the bands, in lanes as a dense layer's rows are. With few channels, several places of a
line together fill the lanes, and their columns are the elements that any of them reads: weights of 0 stand where a place does not read one. The
same holds for several groups of channels together. A weight of 0 adds nothing to a sum, so the sums are those of the definition. Weights of
four bits are read as bytes, since all places of many windows share each read of them.

Where every channel has a filter of its own, lanes are channels, and nothing is multiplied by weights of 0 (`ByChannels`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from qrnn.backends.cpu.conv_products import Placed, by_channels
from qrnn.backends.cpu.isa import Isa
from qrnn.backends.cpu.matrix import AMX_GROUPS
from qrnn.backends.cpu.packed import byte_parts_of
from qrnn.backends.cpu.tuning import Tuning
from qrnn.backends.cpu.weight_layouts import ByteLayout
from qrnn.model.parts import AnyMatrix, Int8Array, Operand, QuantMatrix
from qrnn.model.window import Window

MOST_PARTS = 4
"""The most blocks of rows that are multiplied together: as many as AMX has tiles for sums."""

TILE_COLUMNS = AMX_GROUPS * 4
"""Columns of a tile of AMX."""

WORD = 4
"""The bytes of a word, in which operands are copied."""

RESULT_DOTS, POSITION_DOTS = 14, 12
"""What requantizing a vector of results takes, and what a position does, in dot products, where no vector is put together."""


class Convolution(Protocol):
    """What is asked of a layer of convolutions: the fields and properties of the integer layer of that kind."""

    @property
    def matrix(self) -> AnyMatrix:
        """Return the matrix, whose rows are output channels, group after group."""

    @property
    def pre_shift(self) -> Int8Array:
        """Return the shifts of the rows."""

    @property
    def operand(self) -> Operand:
        """Return how the input is narrowed."""

    @property
    def time(self) -> Window:
        """Return the window over steps."""

    @property
    def band(self) -> Window:
        """Return the window over the bands of a step."""

    @property
    def line(self) -> Window:
        """Return the window over the lines of a step."""

    @property
    def groups(self) -> int:
        """Return the number of groups of channels."""

    @property
    def channels(self) -> int:
        """Return the number of channels of a band of the input."""

    @property
    def lines(self) -> int:
        """Return the number of lines of a step of the input."""

    @property
    def bands(self) -> int:
        """Return the number of bands of a line of the input."""

    @property
    def band_places(self) -> int:
        """Return the number of bands of a line of the output."""

    @property
    def line_places(self) -> int:
        """Return the number of lines of the output."""

    @property
    def features(self) -> int:
        """Return the number of features of a step of the input."""


@dataclass(frozen=True)
class Blocking:
    """``places`` output places of a line and ``groups`` groups of channels of a layer are one product; several places need all groups."""

    layer: Convolution
    isa: Isa
    places: int
    groups: int

    @property
    def operand_bytes(self) -> int:
        """Return the bytes of an operand, in one part."""
        return self.isa.operand_bits // 8

    @property
    def byte_parts(self) -> int:
        """Return how many parts operands are stored in; see `byte_parts_of`."""
        return byte_parts_of(self.isa, self.layer.operand)

    @property
    def pieces(self) -> int:
        """Return the number of products, over the places, that give a line of the output."""
        return -(-self.layer.band_places // self.places)

    @property
    def chunks(self) -> int:
        """Return the number of products, over the groups, that give a place of the output; each has weights of its own."""
        return self.layer.groups // self.groups

    @property
    def rows(self) -> int:
        """Return the rows of a product."""
        return self.places * self.groups * int(self.layer.matrix.weight.shape[0] // self.layer.groups)

    @property
    def parts(self) -> int:
        """Return the blocks of lanes that are multiplied together."""
        return min(MOST_PARTS, -(-self.rows // self.isa.lanes))

    @property
    def blocks(self) -> int:
        """Return the number of times that ``parts`` blocks of lanes hold the rows of a product."""
        return -(-self.rows // (self.parts * self.isa.lanes))

    @property
    def band_segments(self) -> int:
        """Return how many pieces of a line a product reads: one, or one for each tap of the window over bands."""
        apart = self.places == 1 and (self.groups < self.layer.groups or self.layer.band.dilation > 1)
        return self.layer.band.taps if apart else 1

    @property
    def segments(self) -> int:
        """Return how many pieces of a step a product reads: those of a line for each tap of the window over lines."""
        return self.layer.line.taps * self.band_segments

    @property
    def segment(self) -> int:
        """Return the operands of a segment."""
        layer = self.layer
        if self.band_segments > 1 or self.groups < layer.groups:
            return self.groups * (layer.channels // layer.groups)
        return ((self.places - 1) * layer.band.stride + layer.band.span) * layer.channels

    @property
    def padded_segment(self) -> int:
        """Return the operands of a segment, filled up to whole words."""
        word = WORD // self.operand_bytes
        return -(-self.segment // word) * word

    @property
    def columns(self) -> int:
        """Return the columns of a product that its segments fill."""
        return self.layer.time.taps * self.segments * self.padded_segment

    @property
    def all_columns(self) -> int:
        """Return the columns of a product, with those of zeros that make whole tiles of AMX of operands in two parts."""
        tile = TILE_COLUMNS if self.isa.amx and self.byte_parts > 1 else 1
        return -(-self.columns // tile) * tile

    @property
    def placed(self) -> Placed | None:
        """Return how operands are multiplied where they lie in the history; None where vectors are put together first.

        AMX's tiles and the products of pairs of vectors read vectors that lie in order.
        """
        if self.isa.amx or self.isa.pair_dot is not None:
            return None
        shifts = bool(self.layer.pre_shift.any() or self.layer.matrix.left_shift.any())
        return Placed(self.parts, self.byte_parts, False, shifts)

    def weight_bytes(self) -> int:
        """Return the bytes of the weights of all products."""
        columns = ByteLayout(self.isa).groups(self.all_columns) * self.isa.group
        return self.chunks * self.blocks * self.parts * self.isa.lanes * columns

    def cost(self, tuning: Tuning) -> int:
        """Return what a step of the output takes, in dot products of one group of columns."""
        products = self.layer.line_places * self.pieces * self.chunks
        if self.placed is not None:
            words = -(-self.columns * self.operand_bytes // WORD) * self.byte_parts
            return products * (self.blocks * self.parts * (words + RESULT_DOTS) + POSITION_DOTS)
        groups = ByteLayout(self.isa).groups(self.all_columns) * self.byte_parts
        if self.isa.amx:
            groups = int(groups * tuning.conv_tile_share)
        copied = self.padded_segment * self.operand_bytes // 64 + tuning.conv_copy_dots
        vector = self.blocks * self.parts * (groups + tuning.conv_sums_dots)
        copies = self.layer.time.taps * self.segments * self.byte_parts * copied
        return products * (vector + copies + tuning.conv_vector_dots)

    def places_of(self, part: int, apart: int, step: int, line: int) -> tuple[int, ...]:
        """Return the bytes from a position to each of its segments.

        ``part`` is the bytes of a part of a step; two taps of a window over time lie ``apart`` steps from each other, those of a window over
        bands ``step`` bytes, and those of one over lines ``line`` bytes.
        """
        row = part * self.byte_parts
        return tuple(
            tap * apart * row + k // self.band_segments * line + k % self.band_segments * step
            for tap in range(self.layer.time.taps)
            for k in range(self.segments)
        )

    def matrix(self) -> tuple[QuantMatrix, Any]:
        """Return the matrix of all products, chunk after chunk, each filled up to whole blocks with rows of zeros; and its pre_shift."""
        m = self.layer.matrix
        rows = [self._rows(v) for v in (m.bias, m.multiplier, m.left_shift, self.layer.pre_shift)]
        bias, multiplier, left_shift, pre_shift = rows
        padded = np.pad(self._columns(), ((0, 0), (0, 0), (0, self.all_columns - self.columns)))
        return QuantMatrix(self._padded(padded), bias, multiplier, left_shift, m.operand_limit), pre_shift

    def _columns(self) -> Any:
        """Return the weights [chunks, rows, columns]."""
        layer, given = self.layer, self.layer.matrix.weight
        own = layer.channels // layer.groups
        per_group = given.shape[0] // layer.groups
        taps, band = layer.time.taps * layer.line.taps, layer.band
        given = given.reshape(self.chunks, self.groups, per_group, taps, band.taps, own)
        shape = (self.chunks, self.places, self.groups, per_group, taps, self.band_segments, self.padded_segment)
        weight = np.zeros(shape, np.int8)
        for place in range(self.places):
            for group in range(self.groups):
                for b in range(band.taps):
                    segment, first = b if self.band_segments > 1 else 0, self._first(place, b, group * own)
                    weight[:, place, group, :, :, segment, first : first + own] = given[:, group, :, :, b]
        return weight.reshape(self.chunks, self.rows, self.columns)

    def _first(self, place: int, b: int, channel: int) -> int:
        """Return where a channel of a place's tap b lies in its segment."""
        if self.band_segments > 1 or self.groups < self.layer.groups:
            return channel
        band = self.layer.band
        return (place * band.stride + b * band.dilation) * self.layer.channels + channel

    def _rows(self, values: Any) -> Any:
        """Return numbers of the layer's rows as those of the products' rows."""
        return self._padded(np.tile(values.reshape(self.chunks, -1), self.places))

    def _padded(self, values: Any) -> Any:
        """Return rows [chunks, rows, …], each chunk's filled up with zeros to whole blocks, in the order of (part, block, lane).

        The results of all parts of a block are then rows in order.
        """
        parts, lanes = self.parts, self.isa.lanes
        blocks = self.chunks * self.blocks
        padded = np.zeros((self.chunks, self.blocks * parts * lanes, *values.shape[2:]), values.dtype)
        padded[:, : self.rows] = values
        split = padded.reshape(blocks, parts, lanes, *values.shape[2:])
        return np.ascontiguousarray(split.swapaxes(0, 1)).reshape(-1, *values.shape[2:])


@dataclass(frozen=True)
class ByChannels(Blocking):
    """A filter for each channel: a row of a product is a channel at a place, whose lane reads the operand of each tap by itself.

    Where windows over bands are one band apart, the operands of all places of a line lie one after the other, and are one product.
    """

    @property
    def band_segments(self) -> int:
        """Return that the taps of a window over bands are read one by one."""
        return self.layer.band.taps

    @property
    def segment(self) -> int:
        """Return the operands that the lanes read at a tap."""
        return self.blocks * self.parts * self.isa.lanes

    @property
    def columns(self) -> int:
        """Return the columns of a row: its taps."""
        return self.layer.time.taps * self.segments

    @property
    def placed(self) -> Placed:
        """Return how operands are multiplied where they lie; see `Blocking.placed`."""
        shifts = bool(self.layer.pre_shift.any() or self.layer.matrix.left_shift.any())
        return Placed(self.parts, 1, True, shifts)

    def _columns(self) -> Any:
        m = self.layer.matrix
        return np.tile(m.weight.reshape(1, -1, self.columns), (1, self.places, 1))


def _by_channels(layer: Convolution, isa: Isa, tuning: Tuning) -> ByChannels | None:
    """Return the products of a layer with a filter for each channel, of as many places as have small weights; None for other layers."""
    if not layer.matrix.weight.shape[0] == layer.groups == layer.channels > 1:
        return None
    one = ByChannels(layer, by_channels(isa), 1, layer.groups)
    if layer.band.stride > 1:
        return one
    most = tuning.conv_weight_bytes // (layer.channels * ByteLayout(one.isa).groups(one.columns))
    return replace(one, places=max(1, min(layer.band_places, most)))


def _candidates(layer: Convolution, isa: Isa) -> Iterator[Blocking]:
    """Yield ways to multiply that do not have more rows than `MOST_PARTS` blocks of lanes need."""
    most = MOST_PARTS * isa.lanes
    units = layer.matrix.weight.shape[0]
    for groups in range(1, min(layer.groups, max(1, most * layer.groups // units)) + 1):
        if layer.groups % groups == 0:
            yield Blocking(layer, isa, 1, groups)
    for places in range(1, min(layer.band_places, max(1, most // units)) + 1):
        yield Blocking(layer, isa, places, layer.groups)


def choose_blocking(layer: Convolution, isa: Isa, tuning: Tuning) -> Blocking:
    """Return the way to multiply that takes the least, among those whose weights are small enough."""
    if (channels := _by_channels(layer, isa, tuning)) is not None:
        return channels
    least = Blocking(layer, isa, 1, 1)
    most = max(tuning.conv_weight_bytes, least.weight_bytes())
    fitting = [found for found in _candidates(layer, isa) if found.weight_bytes() <= most]
    return min((least, *fitting), key=lambda found: found.cost(tuning))
