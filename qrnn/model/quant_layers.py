"""The layers of the quantized model, as integers. Each dataclass checks its own arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qrnn.arithmetic.fixedpoint import shift_right_round
from qrnn.model.parts import (
    GateFunction,
    Int8Array,
    Int16Array,
    Int32Array,
    Int64Array,
    Matrix,
    Operand,
    QuantMatrix,
    require,
)
from qrnn.model.quant_recurrent import QuantRecurrent, check_exp_table, check_pre_shift


@dataclass(frozen=True)
class QuantDense:
    """y = saturate16_shifted(requantize(weight · operand + bias), pre_shift), int16 with out_frac fraction bits."""

    name: str
    input: str
    output: str
    matrix: QuantMatrix
    pre_shift: Int8Array
    operand: Operand
    out_frac: int

    def __post_init__(self) -> None:
        check_pre_shift(self.name, self.pre_shift, self.matrix.weight.shape[0])
        require(
            self.matrix.operand_limit == self.operand.limit, f"layer {self.name}: matrix proved for another operand"
        )
        require(-16 <= self.out_frac <= 15, f"layer {self.name}: out_frac {self.out_frac} not in -16…15")

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True)
class QuantPointwise:
    """y = round(gate(align16(x, in_frac, gate.in_frac)) / 2^(gate.out_frac - out_frac)), int16."""

    name: str
    input: str
    output: str
    function: GateFunction
    in_frac: int
    out_frac: int

    def __post_init__(self) -> None:
        shift = self.function.out_frac - self.out_frac
        require(self.function.bounds[1] >> max(shift, 0) <= 32767, f"layer {self.name}: output does not fit int16")
        require(
            0 <= self.out_frac <= self.function.out_frac,
            f"layer {self.name}: out_frac {self.out_frac} not in 0…{self.function.out_frac}, that of the function's output",
        )

    @property
    def limit(self) -> int:
        """The largest magnitude that it writes."""
        low, high = self.function.bounds
        return shift_right_round(max(-low, high), self.function.out_frac - self.out_frac)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True)
class QuantSoftmax:
    """Integer softmax to Q1.14; exp(-d) from ``table`` [129], d with in_frac fraction bits."""

    name: str
    input: str
    output: str
    table: Int32Array
    in_frac: int

    def __post_init__(self) -> None:
        check_exp_table(self.name, self.table)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True)
class QuantEmbedding:
    """y = table[token]; table [V, F] int16 values."""

    name: str
    input: str
    output: str
    table: Int16Array

    def __post_init__(self) -> None:
        fits = self.table.dtype == np.int16 and self.table.ndim == 2 and self.table.size > 0
        require(fits, f"layer {self.name}: table is not int16[V, F]")

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True)
class QuantLastStep:
    """[N, T, F] → [N, F]: each sequence's own last valid step."""

    name: str
    input: str
    output: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True)
class ConcatPart:
    """Features ``indices`` of ``tensor``, aligned from in_frac."""

    tensor: str
    indices: Int64Array
    in_frac: int


@dataclass(frozen=True)
class QuantConcat:
    """Features of several int16 tensors, each aligned to out_frac."""

    name: str
    output: str
    parts: tuple[ConcatPart, ...]
    out_frac: int

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(part.tensor for part in self.parts)


@dataclass(frozen=True)
class QuantAdd:
    """y = `add16` of two int16 tensors: brought to the finer of left_frac and right_frac, added, rounded once to out_frac."""

    name: str
    left: str
    right: str
    output: str
    left_frac: int
    right_frac: int
    out_frac: int

    def __post_init__(self) -> None:
        fracs = (self.left_frac, self.right_frac, self.out_frac)
        require(
            min(fracs) >= 0 and max(fracs) <= 15 and self.out_frac <= max(fracs[:2]),
            f"layer {self.name}: fraction bits {fracs} not in 0…15, or out_frac finer than both inputs",
        )

    @property
    def shifts(self) -> tuple[int, int, int]:
        """a_shift, b_shift, out_shift of `add16`."""
        finer = max(self.left_frac, self.right_frac)
        return finer - self.left_frac, finer - self.right_frac, finer - self.out_frac

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.left, self.right)


QuantLayer = (
    QuantRecurrent
    | QuantDense
    | QuantPointwise
    | QuantSoftmax
    | QuantEmbedding
    | QuantLastStep
    | QuantConcat
    | QuantAdd
)


def named_matrices(layers: tuple[QuantLayer, ...]) -> Iterator[tuple[str, Matrix, tuple[str, ...]]]:
    """Every matrix with its name (``layer.weight``, ``layer[d].weight_ih``, …) and the names of the gates in its rows."""
    for layer in layers:
        if isinstance(layer, QuantDense):
            yield f"{layer.name}.weight", layer.matrix, ()
        elif isinstance(layer, QuantRecurrent):
            for number, d in enumerate(layer.directions):
                yield f"{layer.name}[{number}].weight_ih", d.ih, layer.gates
                yield f"{layer.name}[{number}].weight_hh", d.hh, layer.gates
                if d.projection is not None:
                    yield f"{layer.name}[{number}].projection", d.projection.matrix, ()
