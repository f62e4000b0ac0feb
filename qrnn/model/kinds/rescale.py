"""Layers of kind rescale write a copy of a tensor with a scale and an offset for each feature, for the matrices that read it.

Conversion puts one before a matrix whose operand is to be ``8-per-feature`` or ``16-per-feature``, where other layers read the same tensor
as it is, or where the tensor comes out of a layer that can write one scale alone. No float model has such a layer: its equation would be
y = x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qrnn.arithmetic.fixedpoint import requantize
from qrnn.model.layer import QuantLayer
from qrnn.model.layer_facts import Bytes, Loop, Narrowed, Part, Reading, Rounding, RowLoop, Written
from qrnn.model.parts import LEFT_OUT, STATE_MAX, FloatArray, Int8Array, Int32Array, TensorFormat, check_array, require
from qrnn.model.surroundings import Checks

LARGEST_SHIFT = 15
"""The largest left shift, with which an int16 still fits 32 bits."""

LARGEST_OFFSET = 1 << 30
"""The largest magnitude of an offset, with which the difference still fits 32 bits."""


def rescale_rows(contract: Any) -> Loop:
    """Return the loop that sets out_k to x_k · 2^left_shift_k · multiplier_k / 2^32, rounded once, less offset_k, within ±limit."""
    requantize, saturate = contract.requantize, contract.saturate

    def rows(
        first: int, last: int, multiplier: Any, left_shift: Any, offset: Any, limit: int, x: Any, out: Any
    ) -> None:
        for m in range(first, last):
            for k in range(out.shape[1]):
                out[m, k] = saturate(requantize(x[m, k], multiplier[k], left_shift[k]) - offset[k], -limit, limit)

    return rows


@dataclass(frozen=True)
class QuantRescale(QuantLayer):
    """Compute y = clamp(requantize(x) - offset, ±limit) of each feature; x has in_frac fraction bits.

    multiplier [F] int32, left_shift [F] int8; ``offset`` holds one integer for all features or one for each, within ±2^30, which
    `TensorFormat` has too. ``limit`` is 127 for an int8 copy, or 2^k - 1 up to 32767 for one of 16 bits.
    """

    name: str
    input: str
    output: str
    in_frac: int
    multiplier: Int32Array
    left_shift: Int8Array
    limit: int = field(default=127, metadata=LEFT_OUT)
    offset: tuple[int, ...] = field(default=(0,), metadata=LEFT_OUT)

    def __post_init__(self) -> None:
        owner = f"layer {self.name}"
        require(self.multiplier.ndim == 1 and self.multiplier.size > 0, f"{owner}: multiplier is not int32[F]")
        check_array(owner, "multiplier", self.multiplier, np.int32, self.multiplier.shape)
        check_array(owner, "left_shift", self.left_shift, np.int8, self.multiplier.shape)
        require(
            bool(((self.multiplier > 0) & (self.multiplier % 2 == 0)).all()), f"{owner}: multiplier odd or not above 0"
        )
        require(
            bool(((self.left_shift >= 0) & (self.left_shift <= LARGEST_SHIFT)).all()),
            f"{owner}: left_shift out of 0…{LARGEST_SHIFT}",
        )
        require(-16 <= self.in_frac <= 15, f"{owner}: in_frac {self.in_frac} not in -16…15")
        require(127 <= self.limit <= STATE_MAX, f"{owner}: limit {self.limit} not in 127…{STATE_MAX}")
        require(len(self.offset) in (1, self.multiplier.size), f"{owner}: {len(self.offset)} offsets")
        require(max(map(abs, self.offset)) <= LARGEST_OFFSET, f"{owner}: an offset beyond ±{LARGEST_OFFSET}")

    @property
    def offsets(self) -> Int32Array:
        """Return the offset of each feature, [F]."""
        return np.ascontiguousarray(np.broadcast_to(np.array(self.offset, np.int32), self.multiplier.shape))

    @property
    def scales(self) -> FloatArray:
        """Return the real value of one unit of each feature of the output, [F]."""
        found: FloatArray = np.ldexp(1.0, 32 - self.left_shift.astype(np.int64) - self.in_frac) / self.multiplier
        return found

    def written(self, has_time: bool) -> TensorFormat:
        """Return the format of the output."""
        bits = 8 if self.limit == 127 else 16
        return TensorFormat(len(self.multiplier), has_time, bits, tuple(self.scales.tolist()), self.limit, self.offset)

    def check(self, checks: Checks) -> None:
        """Refuse tensors that do not have one feature per multiplier."""
        has_time = checks.tensors[self.input].has_time
        checks.expect(self.input, len(self.multiplier), has_time)
        checks.expect(self.output, len(self.multiplier), has_time)

    def readings(self) -> tuple[Reading, ...]:
        """Return that the input is read as fixed-point with in_frac fraction bits."""
        return (Reading(self.input, self.in_frac),)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return no formats: those with a scale for each feature are checked by `check_source`."""
        return {}

    def check_source(self, checks: Checks) -> None:
        """Refuse an output whose scales are not those that the multipliers give."""
        checks.as_source(self.output)
        fmt = checks.tensors[self.output]
        if fmt != self.written(fmt.has_time):
            checks.fail(f"writes {self.output!r} with other scales than the tensor has")

    def narrowed(self, values: Mapping[str, Any], tensors: Mapping[str, TensorFormat]) -> tuple[Narrowed, ...]:
        """Return the values of the copy before they are clamped."""
        x, multiplier, left_shift = (
            np.asarray(v, np.int64) for v in (values[self.input], self.multiplier, self.left_shift)
        )
        copy: Any = requantize(x, multiplier, left_shift)  # type: ignore[arg-type]
        return (Narrowed(f"{self.name}: copy", self.input, copy - self.offsets, self.limit),)

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop over the rows."""
        return (RowLoop(rescale_rows, (self.multiplier, self.left_shift, self.offsets, self.limit), self.inputs),)

    def integer_parts(self) -> tuple[Part, ...]:
        """Return no parts: what the copy costs belongs to the x operand of the matrix that reads it."""
        return ()

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding of each feature."""
        return (Rounding(self.name, "each feature, once, to its own scale", f"±{self.limit}"),)

    def own_bytes(self) -> Bytes:
        """Return the bytes of multiplier and left_shift."""
        return Bytes(rows=self.multiplier.nbytes + self.left_shift.nbytes)
