"""A matrix's parameters on the device are laid out for the kernels."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numba import cuda

from qrnn.backends.cuda.fragments import depth_tiles, pack_weights, plain_order
from qrnn.backends.cuda.inputs import PRODUCT_PAIRS
from qrnn.model.parts import Int8Array, Int32Array, Matrix, Operand

MOST_COLUMNS = ((1 << 31) - 1) // (127 * 255)
"""The most columns of a row whose operands are split into two bytes: the sum of the low bytes' products then is an int32."""


def upload(array: Any) -> Any:
    """Return a contiguous copy on the device."""
    return cuda.to_device(np.ascontiguousarray(array))


def planes_of(operand: Operand) -> int:
    """Return the bytes of an operand."""
    return 1 if operand.limit <= 127 else 2


def row_parameters(matrix: Matrix, pre_shift: Int8Array) -> Int32Array:
    """Return bias, multiplier, left_shift and pre_shift as [4, R] int32."""
    return np.stack([v.astype(np.int32) for v in (matrix.bias, matrix.multiplier, matrix.left_shift, pre_shift)])


class ProductWeights:
    """A matrix that all steps are multiplied by at once: W of a direction, or a dense layer's."""

    def __init__(self, matrix: Matrix, pre_shift: Int8Array, operand: Operand) -> None:
        self.matrix, (self.size, columns) = matrix, matrix.weight.shape
        self.planes, self.depth, self.operand = planes_of(operand), depth_tiles(columns), operand
        self.plain_only = self.planes == 2 and columns > MOST_COLUMNS
        """Whether the rows are too long for the tensor cores' sums."""
        self.rows = upload(row_parameters(matrix, pre_shift))

    @cached_property
    def fragments(self) -> Any:
        """Return the weights for `inputs.product_kernel`."""
        order = plain_order(self.size)
        order = np.pad(order, ((0, -len(order) % PRODUCT_PAIRS), (0, 0)), constant_values=-1)
        return upload(pack_weights(self.matrix.weight, order))

    @cached_property
    def columns(self) -> Any:
        """Return the weights [K, R] int8 for `inputs.run_plain_product`."""
        return upload(self.matrix.weight.T)
