"""A model's parameters on the device, laid out for the kernels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numba import cuda

from qrnn.arithmetic.gates import PARAMS
from qrnn.backends.cuda.fragments import depth_tiles, gate_order, pack_weights, plain_order
from qrnn.backends.cuda.inputs import PRODUCT_PAIRS
from qrnn.backends.cuda.plan import Layout
from qrnn.model.cell_codes import FUNCTION, IDENTITY, NONE, SOFTMAX, codes_of
from qrnn.model.cell_formats import pack_formats
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.recurrent.quantized import QuantDirection
from qrnn.model.parts import Int8Array, Int32Array, Matrix, Operand, pack_gates

MOST_COLUMNS = ((1 << 31) - 1) // (127 * 255)
"""The most columns of a row whose operands are split into two bytes: the sum of the low bytes' products then is an int32."""


def upload(array: Any) -> Any:
    """A contiguous copy on the device."""
    return cuda.to_device(np.ascontiguousarray(array))


def planes_of(operand: Operand) -> int:
    """Bytes of an operand."""
    return 1 if operand.limit <= 127 else 2


def row_parameters(matrix: Matrix, pre_shift: Int8Array) -> Int32Array:
    """bias, multiplier, left_shift, pre_shift as [4, R] int32."""
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
        """The weights for `inputs.product_kernel`."""
        order = plain_order(self.size)
        order = np.pad(order, ((0, -len(order) % PRODUCT_PAIRS), (0, 0)), constant_values=-1)
        return upload(pack_weights(self.matrix.weight, order))

    @cached_property
    def columns(self) -> Any:
        """The weights [K, R] int8 for `inputs.run_plain_product`."""
        return upload(self.matrix.weight.T)


@dataclass(frozen=True)
class ProjectionWeights:
    """A projection for `general.run_general`; all empty where there is none."""

    weight: Any
    rows: Any
    params: Any
    tables: Any
    formats: Any


class DirectionWeights:
    """One direction of a recurrent layer."""

    def __init__(self, layer: QuantRecurrent, number: int) -> None:
        d = layer.directions[number]
        self.direction, self.reverse = d, d.reverse
        self.cell, self.forget = codes_of(layer)
        self.hidden, self.fed_back, self.size = layer.hidden_size, layer.output_size, len(d.pre_shift)
        self.inputs = ProductWeights(d.ih, d.pre_shift, layer.x_operand)
        self.h_operand, self.planes = layer.h_operand, planes_of(layer.h_operand)
        self.layout = Layout(self.cell, len(layer.gates), layer.hidden_size, self.planes)
        self.not_fused = ""
        """Why no step kernel takes the direction, where none does."""
        if d.projection is not None:
            self.not_fused = "the step kernels take no projection"
        elif self.planes == 2 and self.hidden > MOST_COLUMNS:
            self.not_fused = f"the step kernels take at most {MOST_COLUMNS} units with 16-bit operands"
        self.fused = not self.not_fused
        self.rows = upload(row_parameters(d.matrix_hh, d.pre_shift))
        self.params, self.tables = (upload(v) for v in pack_gates(d.gates))
        self.formats = upload(pack_formats(layer, d))
        self.peephole = upload(_peephole(d))
        self._h_frac = layer.h_frac

    @cached_property
    def fragments(self) -> Any:
        """R for `steps`."""
        return upload(pack_weights(self.direction.matrix_hh.weight, gate_order(self.layout.gates, self.hidden)))

    @cached_property
    def columns(self) -> Any:
        """R as [P, rows] int8 for `general`."""
        return upload(self.direction.matrix_hh.weight.T)

    @cached_property
    def projection(self) -> ProjectionWeights:
        """See `ProjectionWeights`."""
        p = self.direction.projection
        params, tables = np.zeros((1, PARAMS), np.int64), np.zeros((1, 1), np.int32)
        if p is None:
            weight, rows, formats = np.zeros((0, 0), np.int8), np.zeros((4, 0), np.int32), [NONE, 0, 0, 0, 0]
        else:
            kind = IDENTITY
            if p.function is not None:
                kind, (params, tables) = FUNCTION, pack_gates((p.function,))
            elif p.table is not None:
                kind, tables = SOFTMAX, p.table[None]
            weight, rows = p.matrix.weight.T, row_parameters(p.matrix, p.pre_shift)
            formats = [kind, p.operand.shift, p.operand.limit, p.in_frac, p.out_frac - self._h_frac]
        return ProjectionWeights(*(upload(v) for v in (weight, rows, params, tables, np.array(formats, np.int64))))


def _peephole(d: QuantDirection) -> Int32Array:
    if d.peephole is None:
        return np.zeros((2, 0), np.int32)
    return np.stack([d.peephole.weight.astype(np.int32), d.peephole.shift.astype(np.int32)])
