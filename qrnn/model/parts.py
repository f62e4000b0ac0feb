"""Quantized layers are made of these parts: gate functions, operands, matrices, initial states, tensor formats.

Each part checks its own arrays, so one that exists is well formed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from qrnn.arithmetic import gates as g
from qrnn.errors import ModelFileError, QuantizationError
from qrnn.system.brief import Brief

UInt8Array = npt.NDArray[np.uint8]
Int8Array = npt.NDArray[np.int8]
Int16Array = npt.NDArray[np.int16]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]

LEFT_OUT: Mapping[str, bool] = {"left_out": True}
"""The metadata of a dataclass's field that a file leaves out where it has its default, so that files without it stay what they were."""

ACCUMULATOR_LIMIT = 1 << 31
"""The magnitude of every accumulator, shifted left, stays below this."""


STATE_MAX = 32767
"""The largest magnitude of a value of h at the beginning and at the end of a step (docs/arithmetic.md, section 4)."""

CELL_MAX = (1 << 31) - 1
"""The largest magnitude of an initial c; a step may also end at -2^31, where `saturate32` stops."""


def require(condition: bool, message: str) -> None:
    """Raise ModelFileError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ModelFileError(message)


def check_array(
    owner: str, name: str, array: npt.NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]
) -> None:
    """Raise ModelFileError unless ``array`` has exactly this type and shape."""
    if array.dtype == dtype and array.shape == shape:
        return
    raise ModelFileError(
        f"{owner}.{name} is {array.dtype}{list(array.shape)}, expected {np.dtype(dtype)}{list(shape)}; convert the model again"
    )


@dataclass(frozen=True)
class GateFunction(Brief):
    """One gate function of the contract: ``params`` [8] int64 and ``table`` int32, empty where it has none (`qrnn.arithmetic.gates`)."""

    name: str
    params: Int64Array
    table: Int32Array

    def __post_init__(self) -> None:
        check_array(self.name, "params", self.params, np.int64, (g.PARAMS,))
        kind, in_frac, out_frac = (int(v) for v in self.params[:3])
        self._require(0 <= in_frac <= 15 and 0 <= out_frac <= 15, f"fraction bits {in_frac}, {out_frac} not in 0…15")
        if kind in (g.ODD, g.TABLE):
            self._check_table(kind)
        elif kind == g.RAMP:
            slope, intercept, shift, low, high = (int(v) for v in self.params[g.SLOPE :])
            self._require(0 <= shift <= 15, f"shift {shift} not in 0…15")
            self._check_line(slope, intercept, 1 << 15)
            self._require(-32768 <= low <= high <= 32768, f"bounds {low}, {high} not in order or beyond ±32768")
        elif kind == g.THRESHOLD:
            at, slope, intercept, high, below = (int(v) for v in self.params[g.THRESHOLD_AT :])
            self._require(-32768 <= at <= 32767, f"threshold {at} not an int16")
            self._check_line(slope, intercept, 0)
            self._require(abs(high) <= 32768 and abs(below) <= 32768, f"bounds {below}, {high} beyond ±32768")
        else:
            self._require(False, f"kind {kind} unknown, expected 0 (odd), 1 (ramp), 2 (table) or 3 (threshold)")
        if kind in (g.RAMP, g.THRESHOLD):
            check_array(self.name, "table", self.table, np.int32, (0,))
        self._require(self.bounds[0] >= -32768 and self.bounds[1] <= 32768, f"outputs {self.bounds} beyond ±32768")

    def _require(self, condition: bool, message: str) -> None:
        require(condition, f"gate {self.name}: {message}")

    def _check_line(self, slope: int, intercept: int, rounding: int) -> None:
        fits = abs(slope) <= 32767 and abs(slope) * 32768 + abs(intercept) + rounding < ACCUMULATOR_LIMIT
        self._require(fits, f"slope {slope} with intercept {intercept} does not fit 32 bits")

    def _check_table(self, kind: int) -> None:
        """Check the size of the table, its values, and that the product of a difference with a fraction fits 32 bits."""
        bits = int(self.params[g.SEGMENT_BITS])
        self._require(0 <= bits <= 15, f"segment bits {bits} not in 0…15")
        range_bits, last = (15, g.CUT) if kind == g.ODD else (16, g.HIGHEST)
        check_array(self.name, "table", self.table, np.int32, ((1 << (range_bits - bits)) + 1,))
        if kind == g.ODD:
            offset, cut = int(self.params[g.OFFSET]), int(self.params[g.CUT])
            self._require(offset in (0, 1 << 14, -(1 << 14)), f"offset {offset}, expected 0 or ±16384")
            self._require(0 <= cut <= 32767, f"cut {cut} not in 0…32767")
            largest = abs(offset) or 32767
        else:
            lowest, highest = int(self.params[g.LOWEST]), int(self.params[g.HIGHEST])
            self._require(-32768 <= lowest <= highest <= 32767, f"clip {lowest}, {highest} not in order or not int16")
            largest = 32768
        table = self.table.astype(np.int64)
        self._require(bool((np.abs(table) <= largest).all()), f"table leaves its range ±{largest}")
        self._require(bool((np.abs(np.diff(table)) <= 65534).all()), "table entries differ by more than 65534")
        self._require(not self.params[last + 1 :].any(), "unused parameters are not zero")

    @property
    def in_frac(self) -> int:
        """Return the fraction bits of the argument."""
        return int(self.params[g.IN_FRAC])

    @property
    def out_frac(self) -> int:
        """Return the fraction bits of the value."""
        return int(self.params[g.OUT_FRAC])

    @cached_property
    def bounds(self) -> tuple[int, int]:
        """Return the least and the largest value of the function.

        Each kind is monotone between few inputs (rounding and clamping are monotone), which are its knots and the ends of its range.
        """
        kind = int(self.params[g.KIND])
        if kind == g.ODD:
            bits, center = int(self.params[g.SEGMENT_BITS]), abs(int(self.params[g.OFFSET]))
            top = max(abs(v) for v in self._table_extremes(0, 32767 - int(self.params[g.CUT]), bits))
            return center - top, center + top
        if kind == g.TABLE:
            lowest, bits, highest = (int(v) for v in self.params[g.LOWEST : g.HIGHEST + 1])
            return self._table_extremes(lowest + 32768, highest + 32768, bits)
        if kind == g.RAMP:
            ends = [g.evaluate_ramp(x, *(int(v) for v in self.params[g.SLOPE :])) for x in (-32768, 32767)]
            return min(ends), max(ends)
        at, slope, intercept, high, below = (int(v) for v in self.params[g.THRESHOLD_AT :])
        above = [min(x * slope + intercept, high) for x in (at + 1, 32767) if at < 32767]
        return min([below, *above]), max([below, *above])

    def _table_extremes(self, first: int, last: int, bits: int) -> tuple[int, int]:
        """Return the least and the largest p over first … last."""
        table = self.table.tolist()
        knots = table[-(-first >> bits) : (last >> bits) + 1]
        values = [*knots, *(g.piecewise_linear(m, table, bits) for m in (first, last))]
        return min(values), max(values)


def pack_gates(functions: tuple[GateFunction, ...]) -> tuple[Int64Array, Int32Array]:
    """Return ``params`` [G, 8] and ``tables`` [G, longest] as the contract's `evaluate` reads them; short tables are padded with zeros."""
    tables = np.zeros((len(functions), max(1, *(f.table.size for f in functions), 0)), np.int32)
    for row, function in zip(tables, functions, strict=True):
        row[: function.table.size] = function.table
    return np.stack([f.params for f in functions]), tables


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


@dataclass(frozen=True)
class QuantInitialState(Brief):
    """The h_0 (int16 values) or c_0 (int32) of one direction, [H]; or the elements ``indices`` of the graph state input ``source``."""

    value: Int32Array
    source: str | None = None
    indices: Int64Array | None = None

    def __post_init__(self) -> None:
        require(self.value.ndim == 1 and self.value.dtype == np.int32, "initial state is not int32[H]")
        require((self.source is None) == (self.indices is None), "initial state: source and indices go together")
        if self.indices is not None:
            check_array("initial state", "indices", self.indices, np.int64, self.value.shape)


INT32_MAX = (1 << 31) - 1
"""The largest magnitude of the offset of a tensor that a layer writes."""

OFFSET_MAX = 1 << 52
"""The largest magnitude of the offset of a graph input: float64 holds its sum with any int32 exactly."""


@dataclass(frozen=True)
class TensorFormat(Brief):
    """Shape and meaning of one tensor: real = (q + offset[f]) · scale[f].

    ``scale`` and ``offset`` have 1 or F entries each. Scales are powers of two but for graph inputs and embeddings. ``limit`` is the largest
    |q|; ``bits`` is the storage width on a device. Offsets that are all zero become the one offset 0.
    """

    features: int
    has_time: bool
    bits: int
    scale: tuple[float, ...]
    limit: int
    offset: tuple[int, ...] = field(default=(0,), metadata=LEFT_OUT)

    def __post_init__(self) -> None:
        require(len(self.scale) in (1, self.features), f"{len(self.scale)} scales for {self.features} features")
        require(all(1e-60 <= s <= 1e60 for s in self.scale), "scale out of 1e-60…1e60")
        require(len(self.offset) in (1, self.features), f"{len(self.offset)} offsets for {self.features} features")
        require(all(abs(o) <= OFFSET_MAX for o in self.offset), "offset beyond ±2^52")
        if not any(self.offset):
            object.__setattr__(self, "offset", (0,))

    @cached_property
    def scales(self) -> FloatArray:
        """Return ``scale`` as an array, [1] or [F]."""
        return np.array(self.scale)

    @property
    def exponent(self) -> int | None:
        """Return n where the one scale is 2^n; None where there are several, or it is no power of two."""
        mantissa, power = math.frexp(self.scale[0])
        return power - 1 if len(self.scale) == 1 and mantissa == 0.5 else None

    @property
    def form(self) -> str:
        """Return the type of the integers and where their binary point is, in words: "int16 Q0.15", "int8" or "int8 per feature"."""
        if self.exponent is not None:
            return f"int{self.bits} Q{self.bits - 1 + self.exponent}.{-self.exponent}"
        return f"int{self.bits}" if len(self.scale) == 1 else f"int{self.bits} per feature"

    @property
    def has_offset(self) -> bool:
        """Return whether an integer 0 of the tensor is not the real number 0."""
        return self.offset != (0,)

    @cached_property
    def zeros(self) -> FloatArray:
        """Return the real value of the integer 0, [1] or [F]."""
        scales, offsets = self.scales_and_offsets
        return scales * offsets

    @cached_property
    def nearest_zero(self) -> Int16Array:
        """Return the integers next to the real 0, [F]; an offset beyond ±limit leaves none that is the real 0."""
        integers = np.clip(-np.array(self.offset, np.int64), -self.limit, self.limit)
        return np.ascontiguousarray(np.broadcast_to(integers.astype(np.int16), self.features))

    @cached_property
    def scales_and_offsets(self) -> tuple[FloatArray, FloatArray]:
        """Return ``scale`` and ``offset`` as float64 arrays of equal length, both [1] or both [F]."""
        size = max(len(self.scale), len(self.offset))
        scales, offsets = (np.broadcast_to(np.array(v, np.float64), size) for v in (self.scale, self.offset))
        return np.ascontiguousarray(scales), np.ascontiguousarray(offsets)


EXP_TABLE_SIZE = 129
"""The number of entries of the softmax's table of e^-d."""


def check_exp_table(owner: str, table: Int32Array) -> None:
    """Raise ModelFileError unless ``table`` can serve `qrnn.arithmetic.gates.exp_weight`."""
    check_array(owner, "table", table, np.int32, (EXP_TABLE_SIZE,))
    require(bool(table[0] == 32768 and table.min() >= 0 and table.max() <= 32768), f"layer {owner}: exp table")


def check_pre_shift(owner: str, pre_shift: Int8Array, rows: int) -> None:
    """Raise ModelFileError unless ``pre_shift`` has one value in 0…15 per row."""
    check_array(owner, "pre_shift", pre_shift, np.int8, (rows,))
    require(bool(((pre_shift >= 0) & (pre_shift <= 15)).all()), f"{owner}: pre_shift out of 0…15")
