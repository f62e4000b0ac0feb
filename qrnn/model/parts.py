"""The parts that quantized layers are made of: gate functions, operands, matrices, initial states, tensor formats.

Each checks its own arrays, so one that exists is well formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.arithmetic import gates as g
from qrnn.errors import ModelFileError, QuantizationError

Int8Array = npt.NDArray[np.int8]
Int16Array = npt.NDArray[np.int16]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]

ACCUMULATOR_LIMIT = 1 << 31
"""What the magnitude of every accumulator, shifted left, stays below."""


def require(condition: bool, message: str) -> None:
    """ModelFileError with ``message`` unless ``condition``."""
    if not condition:
        raise ModelFileError(message)


def check_array(
    owner: str, name: str, array: npt.NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]
) -> None:
    """ModelFileError unless ``array`` has exactly this type and shape."""
    require(
        array.dtype == dtype and array.shape == shape,
        f"{owner}.{name} is {array.dtype}{list(array.shape)}, expected {np.dtype(dtype)}{list(shape)}; convert the model again",
    )


@dataclass(frozen=True)
class GateFunction:
    """One gate function of the contract: ``params`` [8] int64 and ``table`` int32 (empty for a ramp); see `qrnn.arithmetic.gates`."""

    name: str
    params: Int64Array
    table: Int32Array

    def __post_init__(self) -> None:
        check_array(self.name, "params", self.params, np.int64, (g.PARAMS,))
        kind, in_frac, out_frac = (int(v) for v in self.params[:3])
        require(
            0 <= in_frac <= 15 and 0 <= out_frac <= 15,
            f"gate {self.name}: fraction bits {in_frac}, {out_frac} not in 0…15",
        )
        if kind == g.ODD:
            bits = int(self.params[g.SEGMENT_BITS])
            require(0 <= bits <= 15, f"gate {self.name}: segment bits {bits} not in 0…15")
            check_array(self.name, "table", self.table, np.int32, ((1 << (15 - bits)) + 1,))
            top = int(self.params[g.OFFSET])
            require(
                top in (0, 1 << 14) and self.table.min() >= 0 and self.table.max() <= (top or 32767),
                f"gate {self.name}: table leaves its range",
            )
        elif kind == g.RAMP:
            slope, intercept, shift = (int(v) for v in self.params[[g.SLOPE, g.INTERCEPT, g.SHIFT]])
            low, high = int(self.params[g.LOW]), int(self.params[g.HIGH])
            fits = (
                0 <= shift <= 15
                and abs(slope) <= 32767
                and abs(slope) * 32768 + abs(intercept) + (1 << 15) < ACCUMULATOR_LIMIT
            )
            require(fits and 0 <= low <= high <= 32768, f"gate {self.name}: ramp does not fit 32 bits")
            check_array(self.name, "table", self.table, np.int32, (0,))
        else:
            raise ModelFileError(f"gate {self.name}: kind {kind} unknown, expected 0 (table) or 1 (ramp)")

    @property
    def in_frac(self) -> int:
        return int(self.params[g.IN_FRAC])

    @property
    def out_frac(self) -> int:
        return int(self.params[g.OUT_FRAC])

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the largest output."""
        if int(self.params[g.KIND]) == g.RAMP:
            return int(self.params[g.LOW]), int(self.params[g.HIGH])
        offset, top = int(self.params[g.OFFSET]), int(self.table.max())
        return offset - top, offset + top


def pack_gates(functions: tuple[GateFunction, ...]) -> tuple[Int64Array, Int32Array]:
    """``params`` [G, 8] and ``tables`` [G, longest] as the contract's `evaluate` reads them; short tables are padded with zeros."""
    tables = np.zeros((len(functions), max(1, *(f.table.size for f in functions), 0)), np.int32)
    for row, function in zip(tables, functions, strict=True):
        row[: function.table.size] = function.table
    return np.stack([f.params for f in functions]), tables


@dataclass(frozen=True)
class Operand:
    """How a layer's matvec reads an int16 tensor: clamp(round(q / 2^shift), ±limit); int8 when limit ≤ 127."""

    shift: int
    limit: int

    def __post_init__(self) -> None:
        require(
            0 <= self.shift <= 15 and 1 <= self.limit <= 32767,
            f"operand shift {self.shift}, limit {self.limit} out of range",
        )


@dataclass(frozen=True)
class QuantMatrix:
    """One matvec with its requantization: requantize(weight[r] · operand + bias[r], multiplier[r], left_shift[r]).

    weight [R, K] int8 in [-127, 127]; bias, multiplier [R] int32; left_shift [R] int8; operands within ±operand_limit.
    """

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
        check_array("matrix", "bias", self.bias, np.int32, (rows,))
        check_array("matrix", "multiplier", self.multiplier, np.int32, (rows,))
        check_array("matrix", "left_shift", self.left_shift, np.int8, (rows,))
        require(bool((self.weight > -128).all()), "weight -128 found, expected [-127, 127]")
        require(
            bool((self.multiplier >= 0).all() and (self.multiplier % 2 == 0).all()),
            "multiplier odd or negative, expected even and ≥ 0",
        )
        require(bool(((self.left_shift >= 0) & (self.left_shift <= 30)).all()), "left_shift out of 0…30")

    def accumulator_bound(self) -> Int64Array:
        """[R]: the largest |weight · operand + bias| · 2^left_shift that any operand can give."""
        total = np.abs(self.weight.astype(np.int64)).sum(axis=1) * self.operand_limit + np.abs(
            self.bias.astype(np.int64)
        )
        bound: Int64Array = np.where(total < 1 << 32, total << self.left_shift.astype(np.int64), 1 << 62)
        return bound

    def prove(self, owner: str, row_names: tuple[str, ...] = ()) -> int:
        """The overflow proof: every row's bound is below 2^31. Returns the largest bound."""
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
class QuantInitialState:
    """h_0 (int16 values) or c_0 (int32) of one direction, [H]; or elements ``indices`` of the graph state input ``source``."""

    value: Int32Array
    source: str | None = None
    indices: Int64Array | None = None

    def __post_init__(self) -> None:
        require(self.value.ndim == 1 and self.value.dtype == np.int32, "initial state is not int32[H]")
        require((self.source is None) == (self.indices is None), "initial state: source and indices go together")
        if self.indices is not None:
            check_array("initial state", "indices", self.indices, np.int64, self.value.shape)


@dataclass(frozen=True)
class TensorFormat:
    """Shape and meaning of one tensor: real = q · scale[f] (scale has 1 or F entries, powers of two but for graph inputs).

    ``limit`` bounds |q|; ``bits`` is the storage width on a device.
    """

    features: int
    has_time: bool
    bits: int
    scale: tuple[float, ...]
    limit: int

    def __post_init__(self) -> None:
        require(len(self.scale) in (1, self.features), f"{len(self.scale)} scales for {self.features} features")
        require(all(1e-60 <= s <= 1e60 for s in self.scale), "scale out of 1e-60…1e60")

    @cached_property
    def scales(self) -> npt.NDArray[np.float64]:
        """``scale`` as an array, [1] or [F]."""
        return np.array(self.scale)
