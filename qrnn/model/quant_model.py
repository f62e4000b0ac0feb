"""The quantized model: everything a backend or an export needs, as integers; nothing here is a float but the boundary's scales.

Tensors between layers are int16, batch first, ``[N, T, F]`` or ``[N, F]``; real = q · 2^-frac, or q · scale[f] for graph inputs and
embeddings (`TensorFormat`). Each dataclass checks its own arrays, so a model that exists is well formed; `QuantModel` checks that
layers fit together and proves that no accumulator can overflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qrnn.model.float_model import GATES, CellKind, GraphInput, GraphOutput
from qrnn.model.parts import (
    GateFunction,
    Int8Array,
    Int16Array,
    Int32Array,
    Int64Array,
    Operand,
    QuantInitialState,
    QuantMatrix,
    TensorFormat,
    check_array,
    require,
)

ROLES: Mapping[CellKind, tuple[str, ...]] = {
    "lstm": ("i", "f", "g", "o", "output"),
    "gru": GATES["gru"],
    "rnn": GATES["rnn"],
}
"""Rows of a direction's gate functions: one per gate, and for LSTM the activation of the cell on its way to h."""

_UNIT_ROLES = ("i", "f", "o", "r", "z")
"""Roles whose function lies in [0, 1], where 1 is 32768 and needs 17 bits; the others stay within ±32767."""

C_FRAC_MAX, C_FRAC_MIN = 23, 12


@dataclass(frozen=True)
class QuantDirection:
    """One direction: ih [G·H, I], hh [G·H, H], pre_shift [G·H] int8, one gate function per role of `ROLES`."""

    reverse: bool
    ih: QuantMatrix
    hh: QuantMatrix
    pre_shift: Int8Array
    gates: tuple[GateFunction, ...]
    h_0: QuantInitialState
    c_0: QuantInitialState | None = None

    def __post_init__(self) -> None:
        rows, hidden = self.hh.weight.shape
        require(
            self.ih.weight.shape[0] == rows and rows % hidden == 0,
            f"ih {self.ih.weight.shape} and hh {self.hh.weight.shape} disagree",
        )
        check_array("direction", "pre_shift", self.pre_shift, np.int8, (rows,))
        require(bool(((self.pre_shift >= 0) & (self.pre_shift <= 15)).all()), "pre_shift out of 0…15")
        require(
            self.h_0.value.shape == (hidden,) and (self.c_0 is None or self.c_0.value.shape == (hidden,)),
            "initial state size",
        )
        require(bool((np.abs(self.h_0.value.astype(np.int64)) <= 32767).all()), "h_0 leaves ±32767")


@dataclass(frozen=True)
class QuantRecurrent:
    """A recurrent layer. h is int16 with h_frac fraction bits, c int32 with c_frac; operands as `Operand` says."""

    name: str
    cell: CellKind
    input: str
    output: str
    h_n: str
    c_n: str | None
    directions: tuple[QuantDirection, ...]
    linear_before_reset: bool
    h_frac: int
    c_frac: int
    x_operand: Operand
    h_operand: Operand

    def __post_init__(self) -> None:
        require(self.cell in GATES, f"layer {self.name}: cell {self.cell!r} unknown")
        require(1 <= len(self.directions) <= 2, f"layer {self.name}: {len(self.directions)} directions")
        require(
            0 <= self.h_frac <= 15 and C_FRAC_MIN <= self.c_frac <= C_FRAC_MAX,
            f"layer {self.name}: h_frac or c_frac out of range",
        )
        require((self.cell == "lstm") == (self.c_n is not None), f"layer {self.name}: c_n and cell disagree")
        for d in self.directions:
            require(
                d.hh.weight.shape == (len(GATES[self.cell]) * self.hidden_size, self.hidden_size),
                f"layer {self.name}: hh shape",
            )
            require(d.ih.weight.shape[1] == self.input_size, f"layer {self.name}: directions read different inputs")
            require(len(d.gates) == len(ROLES[self.cell]), f"layer {self.name}: {len(d.gates)} gate functions")
            require((self.cell == "lstm") == (d.c_0 is not None), f"layer {self.name}: c_0 and cell disagree")
            require(d.ih.operand_limit == self.x_operand.limit, f"layer {self.name}: ih proved for another operand")
            require(d.hh.operand_limit == self.h_operand.limit, f"layer {self.name}: hh proved for another operand")
            require(
                all(f.out_frac == 15 for f in d.gates) or self.cell == "rnn",
                f"layer {self.name}: gate output is not Q0.15",
            )
            for role, function in zip(ROLES[self.cell], d.gates, strict=True):
                low, high = function.bounds
                fits = (low >= 0) if role in _UNIT_ROLES else (low >= -32767 and high <= 32767)
                require(fits, f"layer {self.name}: {function.name} cannot serve as {role}")
            require(
                d.gates[-1].out_frac >= self.h_frac, f"layer {self.name}: h_frac finer than the activation's output"
            )
            if self.cell == "lstm":
                require(
                    d.gates[-1].in_frac <= self.c_frac,
                    f"layer {self.name}: c_frac coarser than the output activation's input",
                )

    @property
    def hidden_size(self) -> int:
        return int(self.directions[0].hh.weight.shape[1])

    @property
    def input_size(self) -> int:
        return int(self.directions[0].ih.weight.shape[1])

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


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
        check_array(self.name, "pre_shift", self.pre_shift, np.int8, (self.matrix.weight.shape[0],))
        require(
            bool(((self.pre_shift >= 0) & (self.pre_shift <= 15)).all()), f"layer {self.name}: pre_shift out of 0…15"
        )
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
        check_array(self.name, "table", self.table, np.int32, (129,))
        require(
            bool(self.table[0] == 32768 and self.table.min() >= 0 and self.table.max() <= 32768),
            f"layer {self.name}: exp table",
        )

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
        require(self.table.dtype == np.int16 and self.table.ndim == 2, f"layer {self.name}: table is not int16[V, F]")

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


QuantLayer = QuantRecurrent | QuantDense | QuantPointwise | QuantSoftmax | QuantEmbedding | QuantLastStep | QuantConcat


def named_matrices(layers: tuple[QuantLayer, ...]) -> Iterator[tuple[str, QuantMatrix, tuple[str, ...]]]:
    """Every matrix with its name (``layer.weight``, ``layer[d].weight_ih``, …) and the names of the gates in its rows."""
    for layer in layers:
        if isinstance(layer, QuantDense):
            yield f"{layer.name}.weight", layer.matrix, ()
        elif isinstance(layer, QuantRecurrent):
            for number, d in enumerate(layer.directions):
                yield f"{layer.name}[{number}].weight_ih", d.ih, GATES[layer.cell]
                yield f"{layer.name}[{number}].weight_hh", d.hh, GATES[layer.cell]


@dataclass(frozen=True)
class Provenance:
    """Where a model came from and how its formats were chosen; kept in the file, shown by ``qrnn inspect``."""

    source_sha256: str
    opset: int
    calibration_sha256: str
    calibration_sequences: int
    calibration_steps: int
    calibrator: str
    random_calibration: bool
    target: str
    scheme: Mapping[str, Any]
    decisions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class QuantModel:
    """A whole quantized model; construction checks the graph and proves every accumulator (``proof``: layer → largest bound)."""

    name: str
    inputs: tuple[GraphInput, ...]
    layers: tuple[QuantLayer, ...]
    outputs: tuple[GraphOutput, ...]
    tensors: Mapping[str, TensorFormat]
    one_step: bool
    provenance: Provenance
    proof: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from qrnn.model.check import check_graph, prove  # the checks read this module's types

        check_graph(self)
        object.__setattr__(self, "proof", prove(self))

    @property
    def recurrent_layers(self) -> tuple[QuantRecurrent, ...]:
        return tuple(layer for layer in self.layers if isinstance(layer, QuantRecurrent))
