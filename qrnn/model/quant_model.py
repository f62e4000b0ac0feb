"""The quantized model: everything a backend or an export needs, as integers; nothing here is a float but the boundary's scales.

Tensors between layers are int16, batch first, ``[N, T, F]`` or ``[N, F]``; real = q · 2^-frac, or q · scale[f] for graph inputs and
embeddings (`TensorFormat`). Each dataclass checks its own arrays, so a model that exists is well formed; `QuantModel` checks that
layers fit together and proves that no accumulator can overflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.arithmetic import gates as g
from qrnn.errors import ModelFileError, QuantizationError
from qrnn.model.float_model import GATES, CellKind, GraphInput, GraphOutput

Int8Array = npt.NDArray[np.int8]
Int16Array = npt.NDArray[np.int16]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]

ROLES: Mapping[CellKind, tuple[str, ...]] = {
    "lstm": ("i", "f", "g", "o", "output"),
    "gru": GATES["gru"],
    "rnn": GATES["rnn"],
}
"""Rows of a direction's gate functions: one per gate, and for LSTM the activation of the cell on its way to h."""

_UNIT_ROLES = ("i", "f", "o", "r", "z")
"""Roles whose function lies in [0, 1], where 1 is 32768 and needs 17 bits; the others stay within ±32767."""

C_FRAC_MAX, C_FRAC_MIN = 23, 12
ACCUMULATOR_LIMIT = 1 << 31


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ModelFileError(message)


def _check(owner: str, name: str, array: npt.NDArray[Any], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    _require(
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
        _check(self.name, "params", self.params, np.int64, (g.PARAMS,))
        kind, in_frac, out_frac = (int(v) for v in self.params[:3])
        _require(
            0 <= in_frac <= 15 and 0 <= out_frac <= 15,
            f"gate {self.name}: fraction bits {in_frac}, {out_frac} not in 0…15",
        )
        if kind == g.ODD:
            bits = int(self.params[g.SEGMENT_BITS])
            _require(0 <= bits <= 15, f"gate {self.name}: segment bits {bits} not in 0…15")
            _check(self.name, "table", self.table, np.int32, ((1 << (15 - bits)) + 1,))
            top = int(self.params[g.OFFSET])
            _require(
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
            _require(fits and 0 <= low <= high <= 32768, f"gate {self.name}: ramp does not fit 32 bits")
            _check(self.name, "table", self.table, np.int32, (0,))
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
        _require(
            0 <= self.shift <= 15 and 1 <= self.limit <= 32767,
            f"operand shift {self.shift}, limit {self.limit} out of range",
        )

    @property
    def dtype(self) -> type[np.int8 | np.int16]:
        return np.int8 if self.limit <= 127 else np.int16


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
        _require(
            self.weight.ndim == 2 and self.weight.size > 0,
            f"weight has shape {list(self.weight.shape)}, expected [R, K]",
        )
        rows, columns = self.weight.shape
        _check("matrix", "weight", self.weight, np.int8, (rows, columns))
        _check("matrix", "bias", self.bias, np.int32, (rows,))
        _check("matrix", "multiplier", self.multiplier, np.int32, (rows,))
        _check("matrix", "left_shift", self.left_shift, np.int8, (rows,))
        _require(bool((self.weight > -128).all()), "weight -128 found, expected [-127, 127]")
        _require(
            bool((self.multiplier >= 0).all() and (self.multiplier % 2 == 0).all()),
            "multiplier odd or negative, expected even and ≥ 0",
        )
        _require(bool(((self.left_shift >= 0) & (self.left_shift <= 30)).all()), "left_shift out of 0…30")

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
        _require(self.value.ndim == 1 and self.value.dtype == np.int32, "initial state is not int32[H]")
        _require((self.source is None) == (self.indices is None), "initial state: source and indices go together")
        if self.indices is not None:
            _check("initial state", "indices", self.indices, np.int64, self.value.shape)


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
        _require(
            self.ih.weight.shape[0] == rows and rows % hidden == 0,
            f"ih {self.ih.weight.shape} and hh {self.hh.weight.shape} disagree",
        )
        _check("direction", "pre_shift", self.pre_shift, np.int8, (rows,))
        _require(bool(((self.pre_shift >= 0) & (self.pre_shift <= 15)).all()), "pre_shift out of 0…15")
        _require(
            self.h_0.value.shape == (hidden,) and (self.c_0 is None or self.c_0.value.shape == (hidden,)),
            "initial state size",
        )
        _require(bool((np.abs(self.h_0.value.astype(np.int64)) <= 32767).all()), "h_0 leaves ±32767")


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
        _require(self.cell in GATES, f"layer {self.name}: cell {self.cell!r} unknown")
        _require(1 <= len(self.directions) <= 2, f"layer {self.name}: {len(self.directions)} directions")
        _require(
            0 <= self.h_frac <= 15 and C_FRAC_MIN <= self.c_frac <= C_FRAC_MAX,
            f"layer {self.name}: h_frac or c_frac out of range",
        )
        _require((self.cell == "lstm") == (self.c_n is not None), f"layer {self.name}: c_n and cell disagree")
        for d in self.directions:
            _require(
                d.hh.weight.shape == (len(GATES[self.cell]) * self.hidden_size, self.hidden_size),
                f"layer {self.name}: hh shape",
            )
            _require(d.ih.weight.shape[1] == self.input_size, f"layer {self.name}: directions read different inputs")
            _require(len(d.gates) == len(ROLES[self.cell]), f"layer {self.name}: {len(d.gates)} gate functions")
            _require((self.cell == "lstm") == (d.c_0 is not None), f"layer {self.name}: c_0 and cell disagree")
            _require(d.ih.operand_limit == self.x_operand.limit, f"layer {self.name}: ih proved for another operand")
            _require(d.hh.operand_limit == self.h_operand.limit, f"layer {self.name}: hh proved for another operand")
            _require(
                all(f.out_frac == 15 for f in d.gates) or self.cell == "rnn",
                f"layer {self.name}: gate output is not Q0.15",
            )
            for role, function in zip(ROLES[self.cell], d.gates, strict=True):
                low, high = function.bounds
                fits = (low >= 0) if role in _UNIT_ROLES else (low >= -32767 and high <= 32767)
                _require(fits, f"layer {self.name}: {function.name} cannot serve as {role}")
            _require(
                d.gates[-1].out_frac >= self.h_frac, f"layer {self.name}: h_frac finer than the activation's output"
            )
            if self.cell == "lstm":
                _require(
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
        _check(self.name, "pre_shift", self.pre_shift, np.int8, (self.matrix.weight.shape[0],))
        _require(
            bool(((self.pre_shift >= 0) & (self.pre_shift <= 15)).all()), f"layer {self.name}: pre_shift out of 0…15"
        )
        _require(
            self.matrix.operand_limit == self.operand.limit, f"layer {self.name}: matrix proved for another operand"
        )
        _require(-16 <= self.out_frac <= 15, f"layer {self.name}: out_frac {self.out_frac} not in -16…15")

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
        _require(self.function.bounds[1] >> max(shift, 0) <= 32767, f"layer {self.name}: output does not fit int16")
        _require(
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
        _check(self.name, "table", self.table, np.int32, (129,))
        _require(
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
        _require(self.table.dtype == np.int16 and self.table.ndim == 2, f"layer {self.name}: table is not int16[V, F]")

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
        _require(len(self.scale) in (1, self.features), f"{len(self.scale)} scales for {self.features} features")
        _require(all(1e-60 <= s <= 1e60 for s in self.scale), "scale out of 1e-60…1e60")


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
