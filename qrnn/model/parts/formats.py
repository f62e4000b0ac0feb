"""What the integers of tensors and of initial states stand for, and how large they may be."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from qrnn.model.parts.arrays import LEFT_OUT, FloatArray, Int16Array, Int32Array, Int64Array, check_array, require
from qrnn.system.brief import Brief

STATE_MAX = 32767
"""The largest magnitude of a value of h at the beginning and at the end of a step (docs/arithmetic.md, section 4)."""

CELL_MAX = (1 << 31) - 1
"""The largest magnitude of an initial c; a step may also end at -2^31, where `saturate32` stops."""

INT32_MAX = (1 << 31) - 1
"""The largest magnitude of the offset of a tensor that a layer writes."""

OFFSET_MAX = 1 << 52
"""The largest magnitude of the offset of a graph input: float64 holds its sum with any int32 exactly."""


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
