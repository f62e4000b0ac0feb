"""Matrices of int8 or four-bit weights with their requantization, and the proof that no accumulator of theirs overflows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from qrnn.errors import QuantizationError
from qrnn.model.parts.arrays import (
    ACCUMULATOR_LIMIT,
    Int8Array,
    Int32Array,
    Int64Array,
    UInt8Array,
    check_array,
    require,
)
from qrnn.system.brief import Brief


@dataclass(frozen=True)
class Operand:
    """How a matrix reads an int16 tensor: as clamp(round(q / 2^shift), ±limit), which is an int8 when limit ≤ 127."""

    shift: int
    limit: int

    def __post_init__(self) -> None:
        require(
            0 <= self.shift <= 15 and 1 <= self.limit <= 32767,
            f"operand shift {self.shift}, limit {self.limit} out of range",
        )


class Matrix(Brief):
    """One matrix product with its requantization: requantize(weight[r] · operand + bias[r], multiplier[r], left_shift[r]).

    weight [R, K] int8 in [-127, 127]; bias, multiplier [R] int32; left_shift [R] int8; operands within ±operand_limit. The weights are
    stored as they are (`QuantMatrix`) or in four bits (`QuantMatrix4`); readers of ``weight`` see no difference.
    """

    if TYPE_CHECKING:

        @property
        def weight(self) -> Int8Array:
            """Return the weights, [R, K]."""

        @property
        def bias(self) -> Int32Array:
            """Return the bias of each row, [R], in accumulator units."""

        @property
        def multiplier(self) -> Int32Array:
            """Return the multiplier of each row, [R]."""

        @property
        def left_shift(self) -> Int8Array:
            """Return the left shift of each row, [R]."""

        @property
        def operand_limit(self) -> int:
            """Return the largest magnitude of an operand."""

        @property
        def weight_bytes(self) -> int:
            """Return the bytes of the weights as they are stored."""

    def _check_rows(self, rows: int) -> None:
        check_array("matrix", "bias", self.bias, np.int32, (rows,))
        check_array("matrix", "multiplier", self.multiplier, np.int32, (rows,))
        check_array("matrix", "left_shift", self.left_shift, np.int8, (rows,))
        require(
            bool((self.multiplier >= 0).all() and (self.multiplier % 2 == 0).all()),
            "multiplier odd or negative, expected even and ≥ 0",
        )
        require(bool(((self.left_shift >= 0) & (self.left_shift <= 30)).all()), "left_shift out of 0…30")

    def accumulator_bound(self) -> Int64Array:
        """Return the largest |weight · operand + bias| · 2^left_shift of each row that any operand can give, [R]."""
        total = np.abs(self.weight.astype(np.int64)).sum(axis=1) * self.operand_limit + np.abs(
            self.bias.astype(np.int64)
        )
        bound: Int64Array = np.where(total < 1 << 32, total << self.left_shift.astype(np.int64), 1 << 62)
        return bound

    def prove(self, owner: str, row_names: tuple[str, ...] = ()) -> int:
        """Prove that every row's bound is below 2^31, and return the largest bound; QuantizationError names the row that has a larger one."""
        bound = self.accumulator_bound()
        worst = int(bound.argmax())
        if bound[worst] >= ACCUMULATOR_LIMIT:
            size = max(1, len(bound) // max(1, len(row_names)))
            where = f"{row_names[worst // size]}[{worst % size}]" if row_names else str(worst)
            raise QuantizationError(
                f"{owner}, row {where}: accumulator bound {int(bound[worst])} ≥ 2^31; use 8-bit activations or scale the row down"
            )
        return int(bound[worst])


@dataclass(frozen=True)
class QuantMatrix(Matrix):
    """A matrix whose weights are stored as int8."""

    weight: Int8Array
    bias: Int32Array
    multiplier: Int32Array
    left_shift: Int8Array
    operand_limit: int

    def __post_init__(self) -> None:
        require(
            self.weight.ndim == 2 and self.weight.size > 0,
            f"weight has shape {list(self.weight.shape)}, expected [R, K]",
        )
        rows, columns = self.weight.shape
        check_array("matrix", "weight", self.weight, np.int8, (rows, columns))
        self._check_rows(rows)
        require(bool((self.weight > -128).all()), "weight -128 found, expected [-127, 127]")

    @property
    def weight_bytes(self) -> int:
        """Return the bytes of the weights."""
        return self.weight.nbytes


SCALE_COLUMNS = 32
"""The number of consecutive columns of a row of four-bit weights that share a scale."""


def is_less_in_four_bits(columns: int) -> bool:
    """Return whether a row of weights takes less room in whole groups of `SCALE_COLUMNS`, with a byte for each scale, than in bytes."""
    return -(-columns // SCALE_COLUMNS) * (SCALE_COLUMNS // 2 + 1) < columns


SCALE_LIMIT = 15
"""The largest magnitude of a scale: weights q · scale with q in -8…7 lie in ±120."""


@dataclass(frozen=True)
class QuantMatrix4(Matrix):
    """A matrix of four-bit weights: weight[r, k] = q[r, k] · scale[r, k // 32], q in -8…7, |scale| in 1…15.

    nibbles [R, ⌈columns / 2⌉] uint8 have q of an even column in the low four bits, and that of the next one in the high four bits, in two's
    complement; the last one of an odd number of columns is 0. scale [R, ⌈columns / 32⌉] is int8; the other fields are those of `Matrix`.
    """

    nibbles: UInt8Array
    scale: Int8Array
    columns: int
    bias: Int32Array
    multiplier: Int32Array
    left_shift: Int8Array
    operand_limit: int

    def __post_init__(self) -> None:
        require(
            self.nibbles.ndim == 2 and self.nibbles.size > 0,
            f"nibbles has shape {list(self.nibbles.shape)}, expected [R, K / 2]",
        )
        rows, columns = self.nibbles.shape[0], self.columns
        check_array("matrix", "nibbles", self.nibbles, np.uint8, (rows, -(-columns // 2)))
        check_array("matrix", "scale", self.scale, np.int8, (rows, -(-columns // SCALE_COLUMNS)))
        self._check_rows(rows)
        size = np.abs(self.scale.astype(np.int64))
        require(
            bool(((size >= 1) & (size <= SCALE_LIMIT)).all()),
            f"scale 0 or beyond ±{SCALE_LIMIT} found in 4-bit weights",
        )
        padding = columns % 2 == 1 and bool((self.nibbles[:, -1] >> 4).any())
        require(not padding, "4-bit weights beyond the last column are not zero")

    @property
    def q(self) -> Int8Array:
        """Return the four-bit integers, [R, K] int8 in -8…7."""
        halves = np.stack([self.nibbles << 4, self.nibbles & 0xF0], axis=2)  # 16 · q as bytes
        q: Int8Array = halves.view(np.int8).reshape(len(halves), -1)[:, : self.columns] >> 4
        return q

    @cached_property
    def weight(self) -> Int8Array:
        """Return the weights q · scale, [R, K] int8."""
        weight: Int8Array = self.q * np.repeat(self.scale, SCALE_COLUMNS, axis=1)[:, : self.columns]
        return weight

    @property
    def weight_bytes(self) -> int:
        """Return the bytes of the nibbles and the scales."""
        return self.nibbles.nbytes + self.scale.nbytes


def pack_nibbles(q: Int8Array) -> UInt8Array:
    """Return integers [R, K] in -8…7 as `QuantMatrix4` stores them."""
    even = np.pad(q, ((0, 0), (0, q.shape[1] % 2))).astype(np.uint8)
    packed: UInt8Array = (even[:, ::2] & np.uint8(15)) | (even[:, 1::2] << np.uint8(4))
    return packed


AnyMatrix = QuantMatrix | QuantMatrix4
"""The classes of which a model file may hold one where it holds a matrix."""


def check_pre_shift(owner: str, pre_shift: Int8Array, rows: int) -> None:
    """Raise ModelFileError unless ``pre_shift`` has one value in 0…15 per row."""
    check_array(owner, "pre_shift", pre_shift, np.int8, (rows,))
    require(bool(((pre_shift >= 0) & (pre_shift <= 15)).all()), f"{owner}: pre_shift out of 0…15")
