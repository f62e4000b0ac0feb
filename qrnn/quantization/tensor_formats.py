"""The formats of a model's tensors while it is converted, and how matrices read them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qrnn.errors import QuantizationError
from qrnn.model.boundary import quantize_array
from qrnn.model.float_model import FloatModel
from qrnn.model.parts import CELL_MAX, FloatArray, Int16Array, Operand, TensorFormat
from qrnn.quantization.calibrate import Ranges
from qrnn.quantization.scheme import Scheme


class TensorFormats:
    """The formats that were decided so far, and the ranges of calibration by which the others are."""

    def __init__(self, model: FloatModel, ranges: Ranges, scheme: Scheme) -> None:
        self.model, self.ranges, self.scheme = model, ranges, scheme
        self.tensors: dict[str, TensorFormat] = {}
        self.fracs: dict[str, int] = {}
        """The fraction bits of tensors of int16 whose scale is a power of two."""
        self._cells: dict[str, int] = {}
        """The fraction bits of tensors of cell states."""

    def offset(self, tensor: str) -> tuple[int, ...]:
        """Return the offset of a tensor, or one for each feature; (0,) where it has none."""
        return self.tensors[tensor].offset

    def span(self, tensor: str) -> tuple[float, float]:
        """Return the least and the greatest value that a tensor had in calibration."""
        total = self.ranges.total[tensor]
        return float(total.least[0]), float(total.greatest[0])

    def largest(self, quantity: str) -> float:
        """Return the largest magnitude that a tensor, or a quantity inside a layer, had in calibration."""
        return self.ranges.largest(quantity)

    def observed(self, quantity: str, bits: int) -> float:
        """Return the largest magnitude that a matrix operand of ``bits`` should cover, by the calibrator; 0 for what was not observed."""
        if quantity not in self.ranges.total:
            return 0.0
        return float(self.ranges.total[quantity].threshold(self.scheme.calibrator, operand_limit(bits))[0])

    def frac(self, tensor: str, layer: str) -> int:
        """Return the fraction bits of a fixed-point tensor that ``layer`` reads; QuantizationError where they are not in 0…15."""
        if not 0 <= self.fracs[tensor] <= 15:
            raise QuantizationError(
                f"layer {layer!r}: its input {tensor!r} needs {self.fracs[tensor]} fraction bits, expected 0…15"
            )
        return self.fracs[tensor]

    def begin_frac(self, tensor: str, layer: str) -> int:
        """Return the fraction bits of a tensor that ``layer`` reads, which may be one of int32 cells; QuantizationError as for `frac`."""
        return self._cells[tensor] if tensor in self._cells else self.frac(tensor, layer)

    def set_format(self, tensor: str, frac: int, limit: int = 32767, offset: tuple[int, ...] = (0,)) -> None:
        """Set a tensor's format to int16 with ``frac`` fraction bits, within ±limit, with an offset or one for each feature."""
        info = self.model.tensors[tensor]
        self.fracs[tensor] = frac
        self.tensors[tensor] = TensorFormat(info.features, info.has_time, 16, (2.0**-frac,), limit, offset)

    def set_cells(self, tensor: str, frac: int) -> None:
        """Set a tensor's format to int32 with ``frac`` fraction bits, for cell states."""
        info = self.model.tensors[tensor]
        self._cells[tensor] = frac
        self.tensors[tensor] = TensorFormat(info.features, info.has_time, 32, (2.0**-frac,), CELL_MAX)

    def copy_format(self, source: str, tensor: str) -> None:
        """Give a tensor the format of another one."""
        info = self.model.tensors[tensor]
        self.tensors[tensor] = replace(self.tensors[source], features=info.features, has_time=info.has_time)
        if source in self.fracs:
            self.fracs[tensor] = self.fracs[source]

    def to_format(self, tensor: str, values: FloatArray) -> Int16Array:
        """Return real values as integers of a tensor's format."""
        return quantize_array(values, self.tensors[tensor])

    def operand(self, name: str, largest: float, row_sum: float, bits: int) -> Operand:
        """Return how a matrix reads tensor ``name``.

        A source is read as it is; an int16 tensor is narrowed to ``bits`` by the least shift that covers ``largest``.
        """
        if name not in self.fracs:
            return Operand(0, self.tensors[name].limit)
        return self.narrowing(self.fracs[name], largest, row_sum, bits)

    def narrowing(self, frac: int, largest: float, row_sum: float, bits: int) -> Operand:
        """Return how a matrix reads int16 values with ``frac`` fraction bits: to ``bits``, by the least shift that covers ``largest``."""
        q = largest * 2.0**frac
        limit, shift = max(127, fitting_limit(operand_limit(bits), row_sum)), 0
        # Up to limit + 1: the topmost values lose one unit to the clamp, where one more shift would cost every value a bit.
        while (limit + 1) * 2**shift < q and shift < 15:
            shift += 1
        return Operand(shift, limit)

    def unit(self, name: str, operand: Operand) -> FloatArray:
        """Return the real value of one operand unit of tensor ``name``, [1] or [F]."""
        return self.tensors[name].scales * 2.0**operand.shift

    def fold(self, name: str, weight: FloatArray) -> FloatArray:
        """Return what ``weight`` [R, F] gives for the offset of a tensor, [R]: the matrix that reads its integers adds it to its bias."""
        zeros = self.tensors[name].zeros
        if not zeros.any():  # most tensors have none, and a product wakes the threads of its library
            return np.zeros(len(weight))
        folded: FloatArray = weight @ np.resize(zeros, weight.shape[1])
        return folded


def operand_limit(bits: int) -> int:
    """Return the largest magnitude of an operand of ``bits``."""
    return 127 if bits == 8 else 32767


def fitting_limit(limit: int, row_sum: float) -> int:
    """Halve ``limit`` until a row of that sum stays below 2^30; one more bit is kept for the bias and the left shift."""
    while row_sum * limit >= 2.0**30:
        limit >>= 1
    return limit
