"""The reference backend runs the contract as plain Python on unbounded integers: it is slow, and its integers are the right ones.

Dot products are NumPy int64; every accumulator is checked against int32, so an overflow that the proof missed is an error here.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.arithmetic import fixedpoint, gates
from qrnn.backends.base import Engine, LayerState, Trace
from qrnn.model.definitions import PLAIN
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.layer import QuantLayer
from qrnn.model.parts import IndexArray, Int16Array, Matrix, Operand


def matvec(matrix: Matrix, operand: list[int]) -> list[int]:
    """Return requantize(weight · operand + bias) of all rows, [R] int32."""
    acc = matrix.weight.astype(np.int64) @ np.asarray(operand, np.int64) + matrix.bias
    rows = zip(acc.tolist(), matrix.multiplier.tolist(), matrix.left_shift.tolist(), strict=True)
    return [requantize(a, multiplier, shift) for a, multiplier, shift in rows]


def to_operands(values: list[int], operand: Operand) -> list[int]:
    """Return the operands of int16 values for a matrix product."""
    return [fixedpoint.to_operand(v, operand.shift, operand.limit) for v in values]


class Row(list[int]):
    """A parameter of one axis: a list, which is read faster than an array."""

    @property
    def shape(self) -> tuple[int]:
        """Return the length as an array's shape."""
        return (len(self),)


class Table:
    """A parameter of two axes, with the products of its rows with the vectors that `dot` last multiplied them by."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self.shape = values.shape
        self.rows: list[list[int]] = values.tolist()
        self.weight = values.astype(np.int64)
        self.vectors = np.zeros((0, 0), object)
        self.addresses = b""
        self.products: list[list[int]] = []

    def __getitem__(self, place: tuple[int, int]) -> int:
        return self.rows[place[0]][place[1]]


def dot(weight: Table, r: int, x: npt.NDArray[Any], n: int) -> int:
    """Return the sum of weight[r, k] · x[n, k] over k.

    The products of a matrix with vectors are made once. Vectors whose integers are the same objects, which ``weight`` holds so that no
    others take their addresses, are the same vectors.
    """
    addresses = x.tobytes()
    if addresses != weight.addresses:
        weight.vectors, weight.addresses = x.copy(), addresses
        weight.products = (x.astype(np.int64) @ weight.weight.T).tolist()
    return weight.products[n][r]


def requantize(acc: int, multiplier: int, left_shift: int) -> int:
    """Return the contract's `requantize` of an accumulator that fits an int32; AssertionError for another, which the proof excludes."""
    if not fixedpoint.INT32_MIN <= acc << left_shift <= fixedpoint.INT32_MAX:
        raise AssertionError(f"accumulator {acc} << {left_shift} leaves int32: the overflow proof is wrong")
    return fixedpoint.requantize(acc, multiplier, left_shift)


def evaluate(x: int, params: Table, tables: Table, row: int) -> int:
    """Return the contract's `evaluate` on whole rows of the tables."""
    return gates.evaluate(x, params.rows, tables.rows, row)


CHECKED = SimpleNamespace(**(vars(PLAIN) | {"dot": dot, "requantize": requantize, "evaluate": evaluate}))
"""The functions of the contract for step loops, on Python's integers."""


def plain(parameter: Any) -> Any:
    """Return a parameter of a step loop in Python's integers."""
    if not isinstance(parameter, np.ndarray):
        return parameter
    if parameter.ndim == 1:
        return Row(parameter.tolist())
    return Table(parameter) if parameter.ndim == 2 else parameter.astype(object)


class ReferenceEngine(Engine):
    """A model run by plain Python, layer by layer."""

    name = "reference"

    def recurrent(
        self, layer: QuantRecurrent, x: Int16Array, state: LayerState, lengths: IndexArray, trace: Trace | None
    ) -> tuple[Int16Array, LayerState]:
        """Run a recurrent layer by its own definition, step by step; see `Engine.recurrent`."""
        (N, T, _), P, D = x.shape, layer.output_size, len(layer.directions)
        y = np.zeros((N, T, D * P), np.int16)
        h_n, c_n = state[0].copy(), state[1].copy()
        given = x.astype(object)
        for number, d in enumerate(layer.directions):
            loop = layer.direction_loop(number)
            step, parameters = loop.make(CHECKED), [plain(p) for p in loop.parameters]
            h, c = h_n[:, number].astype(object), c_n[:, number].astype(object)
            out = np.zeros((N, T, P), object)
            scratch = [np.zeros((1, *array.shape), object) for array in loop.scratch]
            pre_trace = np.zeros((N, T, *loop.scratch[0].shape), np.int16)
            c_trace = np.zeros((N, T, layer.cell_size), np.int32)
            for n in range(N):
                arrays = [a[n : n + 1] for a in (given, out, h, c)]
                steps = range(int(lengths[n]))
                for t in reversed(steps) if d.reverse else steps:
                    step(0, t, t, *arrays, *parameters, *scratch)
                    if trace is not None:
                        pre_trace[n, t], c_trace[n, t] = scratch[0][0], c[n]
            h_n[:, number], c_n[:, number] = h, c
            y[:, :, number * P : (number + 1) * P] = out
            if trace is not None:
                key = f"{layer.name}[{number}]"
                h_trace = out.astype(np.int16)
                trace.arrays.update({f"{key}.pre": pre_trace, f"{key}.h": h_trace, f"{key}.c": c_trace})
        return y, (h_n, c_n)

    def rows(self, layer: QuantLayer, *inputs: Int16Array | IndexArray) -> Int16Array:
        """Return the rows of a layer's output: by NumPy's dot products for a dense layer, by its own definition for any other."""
        if type(layer) is not QuantDense:
            return super().rows(layer, *inputs)
        (x,) = inputs
        shifts = layer.pre_shift.tolist()
        rows = []
        for operand in x.tolist():
            sums = matvec(layer.matrix, to_operands(operand, layer.operand))
            rows.append([fixedpoint.saturate16_shifted(s, shift) for s, shift in zip(sums, shifts, strict=True)])
        return np.array(rows, np.int16).reshape(len(rows), len(shifts))


ENGINE = ReferenceEngine
