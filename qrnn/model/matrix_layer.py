"""Dense layers and convolutions multiply their input by one matrix of weights and add a bias; what they have in common is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np

from qrnn.model.formats import output_format
from qrnn.model.layer import Layer, QuantLayer
from qrnn.model.layer_facts import Chosen, LayerMatrix, Part, Reading, Rounding, StandIns, Weights, Written
from qrnn.model.parts import (
    LEFT_OUT,
    STATE_MAX,
    AnyMatrix,
    FloatArray,
    Int8Array,
    Int32Array,
    Operand,
    TensorFormat,
    check_pre_shift,
    require,
)
from qrnn.model.surroundings import Equations, Plan


@dataclass(frozen=True)
class MatrixLayer(Layer):
    """Compute y = weight · x + bias, where x holds features of the input, of one step or of several; weight [O, …], bias [O]."""

    name: str
    input: str
    output: str
    weight: FloatArray
    bias: FloatArray

    @property
    def columns(self) -> FloatArray:
        """Return the weights as one matrix, [O, K · F], whose columns are the input's features, of K steps one after the other."""
        return self.weight

    def weights(self) -> tuple[Weights, ...]:
        """Return the matrix, `columns`."""
        return (Weights(self.columns, self.input),)

    def with_weights(self, values: Sequence[FloatArray]) -> Self:
        """Return the layer with other `columns`."""
        return replace(self, weight=self.of_columns(values[0]))

    def of_columns(self, columns: FloatArray) -> FloatArray:
        """Return the weights that ``columns`` stand for: the inverse of that property."""
        return columns

    def read_operand(self, run: Equations) -> FloatArray:
        """Return the input as the matrix reads it."""
        return run.operand(f"{self.name}.x", run.read(self.input))

    @property
    def input_weights(self) -> tuple[FloatArray, ...]:
        """Return the weights as the one matrix."""
        return (self.weight,)

    def with_output_scaled(self, scale: FloatArray) -> MatrixLayer | None:
        """Return the layer with weights and bias multiplied by ``scale`` [O]."""
        return replace(self, weight=self.weight * scale[:, None], bias=self.bias * scale)

    def with_output_affine(self, scale: FloatArray, offset: FloatArray) -> MatrixLayer | None:
        """Return the layer that writes y · ``scale`` + ``offset``, [O] each; None where they cannot become a part of weights and bias."""
        scaled = self.with_output_scaled(scale)
        return None if scaled is None else replace(scaled, bias=scaled.bias + offset)

    def weight_bits(self, plan: Plan) -> int:
        """Return the bits of the integer weights, 8 or 4."""
        return 8

    def input_row_sum(self, plan: Plan, unit: FloatArray) -> float:
        """Return the largest sum of a row of the integer matrix."""
        columns = self.columns
        return plan.row_sum(columns * np.resize(unit, columns.shape[1]), self.weight_bits(plan))

    def quantized_parts(self, plan: Plan) -> MatrixParts:
        """Return the integers of the matrix; the format of its output is decided and recorded here."""
        out = output_format(plan, self.output)
        columns, of_weights = self.columns, self.weight_bits(plan)
        bits = plan.width(self.name, "x")
        rows = plan.row_sum(columns, of_weights) if bits == 16 else 0.0  # operands of 8 bits fit whatever the rows are
        operand = plan.operand(self.input, plan.observed(self.input, bits), rows, bits)
        weight = columns * np.resize(plan.unit(self.input, operand), columns.shape[1])
        fracs = np.full(len(weight), out.frac, np.int64)
        bias = self.bias + plan.fold(self.input, columns) - out.offset * 2.0**-out.frac
        pre_shift = plan.pre_shift(f"layer {self.name}", weight, bias, fracs, operand.limit, of_weights)
        plan.decide(f"{self.output}: int16 with {out.frac} fraction bits ({out.reason})")
        plan.note_shift(self.name, pre_shift)
        plan.note_bias(f"{self.name}.weight", weight, bias, of_weights)
        plan.set_format(self.output, out.frac, offset=(out.offset,))
        matrix = plan.matrix_of(of_weights, weight, bias, fracs, pre_shift, operand.limit)
        return MatrixParts(matrix, pre_shift, operand, out.frac, out.offset)


class MatrixNumbers(NamedTuple):
    """The parameters that the loops of a matrix layer have in common, in their order; ``shift`` and ``limit`` are those of the operand."""

    weight: Int8Array
    bias: Int32Array
    multiplier: Int32Array
    left_shift: Int8Array
    pre_shift: Int8Array
    shift: int
    limit: int


class MatrixParts(NamedTuple):
    """The integers of a matrix layer, by the names of the fields of `QuantMatrixLayer`."""

    matrix: AnyMatrix
    pre_shift: Int8Array
    operand: Operand
    out_frac: int
    out_offset: int


@dataclass(frozen=True)
class QuantMatrixLayer(QuantLayer):
    """Compute y = saturate16_shifted(requantize(weight · operand + bias), pre_shift), int16 with out_frac fraction bits.

    y + ``out_offset`` is what the output stands for: the bias is less by the offset.
    """

    name: str
    input: str
    output: str
    matrix: AnyMatrix
    pre_shift: Int8Array
    operand: Operand
    out_frac: int
    out_offset: int = field(default=0, kw_only=True, metadata=LEFT_OUT)

    def __post_init__(self) -> None:
        check_pre_shift(self.name, self.pre_shift, self.matrix.weight.shape[0])
        require(
            self.matrix.operand_limit == self.operand.limit, f"layer {self.name}: matrix proved for another operand"
        )
        require(-16 <= self.out_frac <= 15, f"layer {self.name}: out_frac {self.out_frac} not in -16…15")

    @property
    def numbers(self) -> MatrixNumbers:
        """Return the parameters of the layer's loops."""
        m = self.matrix
        return MatrixNumbers(
            m.weight, m.bias, m.multiplier, m.left_shift, self.pre_shift, self.operand.shift, self.operand.limit
        )

    @property
    def clamps_output(self) -> bool:
        """Return True: the sums are saturated to int16."""
        return True

    def readings(self) -> tuple[Reading, ...]:
        """Return that the input is read by a matrix product through ``operand``."""
        return (Reading(self.input, operand=self.operand),)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output is int16 with out_frac fraction bits and the offset."""
        return {self.output: Written(self.out_frac, STATE_MAX, (self.out_offset,))}

    def matrices(self) -> tuple[LayerMatrix, ...]:
        """Return the one matrix."""
        fracs = np.full(len(self.pre_shift), self.out_frac, np.int64)
        part = Part(self.name, "weights")
        return (LayerMatrix(f"{self.name}.weight", part, self.matrix, self.pre_shift, fracs, self.operand),)

    def integer_parts(self) -> tuple[Part, ...]:
        """Return weights, biases, the operand and the output as the parts."""
        return tuple(Part(self.name, kind) for kind in ("weights", "biases", "x operand", "output"))

    def stand_ins(self, chosen: Chosen, tensors: Mapping[str, TensorFormat]) -> StandIns:
        """Add the operand, where it is chosen, to what the output does."""
        found = super().stand_ins(chosen, tensors)
        if Part(self.name, "x operand") in chosen:
            found.operands[f"{self.name}.x"] = self._unit(tensors), self.operand.limit, tensors[self.input].zeros
        return found

    def worth(self, real: Any, chosen: Chosen, tensors: Mapping[str, TensorFormat]) -> Any:
        """Return the float layer with the chosen weights and biases as their integers stand for them."""
        (found,) = self.matrices()
        offset = np.resize(tensors[self.input].zeros, tensors[self.input].features)
        if offset.any():  # the integers' biases are those of x without its offset
            real = real.with_input_shifted(offset)
        if found.part in chosen:
            units = np.resize(self._unit(tensors), self.matrix.weight.shape[1])
            real = replace(real, weight=real.of_columns(self.matrix.weight * found.row_scale[:, None] / units))
        if Part(self.name, "biases") in chosen:
            real = replace(real, bias=self.matrix.bias * found.row_scale + self.out_offset * 2.0**-self.out_frac)
        return real.with_input_shifted(-offset) if offset.any() else real

    def _unit(self, tensors: Mapping[str, TensorFormat]) -> FloatArray:
        """Return the real value of one operand unit, [1] or [F]."""
        return tensors[self.input].scales_and_offsets[0] * 2.0**self.operand.shift

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding of each sum, and the limit of the operand."""
        rounded = f"sum, once, to {self.out_frac} bits"
        return (Rounding(self.name, rounded, f"int16; operand ±{self.operand.limit}"),)
