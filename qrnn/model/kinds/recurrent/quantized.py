"""Quantized recurrent layers. Each dataclass checks its own arrays and formats, so a layer that exists is well formed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from qrnn.model.kinds.recurrent.definition import GATES, CellKind, Forget, RecurrentNames
from qrnn.model.layer import QuantLayer
from qrnn.model.parts import (
    CELL_MAX,
    LEFT_OUT,
    STATE_MAX,
    AnyMatrix,
    GateFunction,
    Int8Array,
    Int16Array,
    Int32Array,
    Int64Array,
    Operand,
    QuantInitialState,
    QuantMatrix,
    check_array,
    check_exp_table,
    check_pre_shift,
    require,
)

C_FRAC_MAX = 23
PEEPHOLE_SHIFT_MAX = 46


@dataclass(frozen=True)
class QuantPeephole:
    """What the cell adds to each row's partial sums, round(c · weight / 2^shift): weight [G·H] int16, shift [G·H] int8."""

    weight: Int16Array
    shift: Int8Array

    def __post_init__(self) -> None:
        check_array("peephole", "weight", self.weight, np.int16, self.weight.shape[:1])
        check_array("peephole", "shift", self.shift, np.int8, self.weight.shape)
        fits = (self.shift >= 0) & (self.shift <= PEEPHOLE_SHIFT_MAX)
        require(bool(fits.all()), f"peephole: shift out of 0…{PEEPHOLE_SHIFT_MAX}")


@dataclass(frozen=True)
class QuantProjection:
    """s = f(saturate16_shifted(requantize(weight · operand + bias), pre_shift)): what is fed back in place of h.

    h before it has ``hidden_frac`` fraction bits and is read through ``operand``; matrix [P, H]. One of: ``function`` f, a softmax with
    its exp ``table`` (argument with ``in_frac`` bits), or neither for the identity.
    """

    matrix: QuantMatrix
    pre_shift: Int8Array
    operand: Operand
    hidden_frac: int
    in_frac: int
    function: GateFunction | None = None
    table: Int32Array | None = None

    def __post_init__(self) -> None:
        check_pre_shift("projection", self.pre_shift, self.matrix.weight.shape[0])
        require(self.matrix.operand_limit == self.operand.limit, "projection: matrix proved for another operand")
        require(0 <= self.hidden_frac <= 15 and 0 <= self.in_frac <= 15, "projection: fraction bits not in 0…15")
        require(self.function is None or self.table is None, "projection: both a function and a softmax")
        require(self.function is None or self.function.in_frac == self.in_frac, "projection: in_frac and function")
        if self.table is not None:
            check_exp_table("projection", self.table)

    @property
    def out_frac(self) -> int:
        """Fraction bits of f's value."""
        if self.table is not None:
            return 14
        return self.in_frac if self.function is None else self.function.out_frac


@dataclass(frozen=True)
class CellShifts:
    """The shifts in the formulas of one direction's cell, all derived from formats; those that a cell does not use are 0."""

    input_frac: int = 0
    """LSTM: i's fraction bits (for f = 1 - i)."""
    forget_frac: int = 0
    """LSTM: f's fraction bits."""
    product: int = 0
    """LSTM: i·g to c's fraction bits."""
    argument: int = 0
    """LSTM: c to the output activation's input."""
    reset_frac: int = 0
    """GRU: r's fraction bits."""
    update_frac: int = 0
    """GRU: z's fraction bits."""
    candidate: int = 0
    """GRU: n to h's fraction bits."""
    hidden: int = 0
    """LSTM: o·activation(c), and RNN: f's value, to h's fraction bits."""


@dataclass(frozen=True)
class QuantDirection:
    """One direction: ih [G·H, I], hh [G·H, P], pre_shift [G·H] int8, one gate function per gate, and for LSTM one more, of the cell."""

    reverse: bool
    ih: AnyMatrix
    hh: AnyMatrix
    pre_shift: Int8Array
    gates: tuple[GateFunction, ...]
    h_0: QuantInitialState
    c_0: QuantInitialState | None = None
    peephole: QuantPeephole | None = None
    projection: QuantProjection | None = None

    def __post_init__(self) -> None:
        rows = self.hh.weight.shape[0]
        require(self.ih.weight.shape[0] == rows, f"ih {self.ih.weight.shape} and hh {self.hh.weight.shape} disagree")
        check_pre_shift("direction", self.pre_shift, rows)
        for name, state, limit in (("h_0", self.h_0, STATE_MAX), ("c_0", self.c_0, CELL_MAX)):
            fits = state is None or bool((np.abs(state.value.astype(np.int64)) <= limit).all())
            require(fits, f"{name} leaves ±{limit}")
        require(self.peephole is None or self.peephole.weight.shape == (rows,), "peephole size")


@dataclass(frozen=True)
class QuantRecurrentDefinition(RecurrentNames, QuantLayer):
    """The definition of integer recurrent layers; see `QuantRecurrent`, which is this with what it checks and says about itself."""

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
    forget: Forget = "gate"
    memory: bool = field(default=True, metadata=LEFT_OUT)

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        require(self.cell in GATES, f"{where}: cell {self.cell!r} unknown")
        require(self.forget == "gate" or self.cell == "lstm", f"{where}: forget={self.forget} is for lstm")
        reverse = tuple(d.reverse for d in self.directions)
        require(
            reverse in ((False,), (True,), (False, True)),
            f"{where}: {len(reverse)} directions, reverse {list(reverse)}, expected [False], [True] or [False, True]",
        )
        require(0 <= self.h_frac <= 15 and 0 <= self.c_frac <= C_FRAC_MAX, f"{where}: h_frac or c_frac out of range")
        require((self.cell == "lstm") == (self.c_n is not None), f"{where}: c_n and cell disagree")
        for number, d in enumerate(self.directions):
            self._check_direction(f"{where}[{number}]", d)

    def _check_direction(self, where: str, d: QuantDirection) -> None:
        H, P = self.hidden_size, self.output_size
        require(d.hh.weight.shape == (len(self.gates) * H, P), f"{where}: hh shape")
        require(H > 0, f"{where}: fewer rows than gates")
        require(d.ih.weight.shape[1] == self.input_size, f"{where}: directions read different inputs")
        if d.projection is None:
            require(P == H, f"{where}: h has {P} features, expected {H}")
        else:
            require(d.projection.matrix.weight.shape == (P, H), f"{where}: projection shape")
            require(self.cell != "gru", f"{where}: a GRU has no projection")
        require(len(d.gates) == len(self.roles), f"{where}: {len(d.gates)} gate functions")
        require((self.cell == "lstm") == (d.c_0 is not None), f"{where}: c_0 and cell disagree")
        require(d.peephole is None or self.cell == "lstm", f"{where}: peepholes are for lstm")
        require(
            d.h_0.value.shape == (P,) and (d.c_0 is None or d.c_0.value.shape == (H,)), f"{where}: initial state size"
        )
        require(d.ih.operand_limit == self.x_operand.limit, f"{where}: ih proved for another operand")
        require(d.hh.operand_limit == self.h_operand.limit, f"{where}: hh proved for another operand")
        shifts = self.shifts(d)
        for name in ("product", "argument", "candidate", "hidden"):
            require(0 <= getattr(shifts, name) <= 30, f"{where}: formats of {name} do not fit each other")
        require(
            d.projection is None or d.projection.out_frac >= self.h_frac, f"{where}: h_frac finer than the projection"
        )

    def shifts(self, d: QuantDirection) -> CellShifts:
        """The shifts of direction ``d``."""
        fracs = dict(zip(self.roles, (f.out_frac for f in d.gates), strict=True))
        hidden_frac = self.h_frac if d.projection is None else d.projection.hidden_frac
        if self.cell == "lstm":
            return CellShifts(
                input_frac=fracs["i"],
                forget_frac={"gate": fracs.get("f", 0), "one": 15, "coupled": fracs["i"]}[self.forget],
                product=fracs["i"] + fracs["g"] - self.c_frac,
                argument=self.c_frac - d.gates[-1].in_frac,
                hidden=fracs["o"] + fracs["output"] - hidden_frac,
            )
        if self.cell == "gru":
            return CellShifts(reset_frac=fracs["r"], update_frac=fracs["z"], candidate=fracs["n"] - self.h_frac)
        return CellShifts(hidden=fracs["h"] - hidden_frac)

    @property
    def hidden_size(self) -> int:
        return int(self.directions[0].hh.weight.shape[0]) // len(self.gates)

    @property
    def output_size(self) -> int:
        """P: of what is fed back and written, per direction."""
        return int(self.directions[0].hh.weight.shape[1])

    @property
    def input_size(self) -> int:
        return int(self.directions[0].ih.weight.shape[1])

    def row_fracs(self, d: QuantDirection) -> Int64Array:
        """[G·H]: the fraction bits of each row's pre-activation in direction ``d``."""
        return np.repeat([f.in_frac for f in d.gates[: len(self.gates)]], self.hidden_size).astype(np.int64)
