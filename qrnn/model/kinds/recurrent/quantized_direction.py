"""What one direction of an integer recurrent layer is made of. Each dataclass checks its own arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from qrnn.model.norm_parameters import NormParameters
from qrnn.model.parts import (
    CELL_MAX,
    LEFT_OUT,
    STATE_MAX,
    AnyMatrix,
    GateFunction,
    Int8Array,
    Int16Array,
    Int32Array,
    Operand,
    QuantInitialState,
    QuantMatrix,
    check_array,
    check_exp_table,
    check_pre_shift,
    require,
)
from qrnn.system.brief import Brief

C_FRAC_MAX = 23
PEEPHOLE_SHIFT_MAX = 46


@dataclass(frozen=True)
class QuantPeephole(Brief):
    """What a state adds to each row's partial sums, round(v · weight / 2^shift): weight [G·H] int16, shift [G·H] int8.

    v is the row's own unit of c (a peephole) or of h (a diagonal recurrence).
    """

    weight: Int16Array
    shift: Int8Array

    def __post_init__(self) -> None:
        check_array("peephole", "weight", self.weight, np.int16, self.weight.shape[:1])
        check_array("peephole", "shift", self.shift, np.int8, self.weight.shape)
        fits = (self.shift >= 0) & (self.shift <= PEEPHOLE_SHIFT_MAX)
        require(bool(fits.all()), f"peephole: shift out of 0…{PEEPHOLE_SHIFT_MAX}")


@dataclass(frozen=True)
class QuantProjection(Brief):
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
        """Return the fraction bits of f's value."""
        if self.table is not None:
            return 14
        return self.in_frac if self.function is None else self.function.out_frac


@dataclass(frozen=True)
class QuantNorm(Brief):
    """One group of numbers that are normalized together: int16 with ``in_frac`` fraction bits, in which epsilon is folded."""

    parameters: NormParameters
    in_frac: int

    def __post_init__(self) -> None:
        require(0 <= self.in_frac <= 15, f"a normalization's in_frac {self.in_frac} out of 0…15")


@dataclass(frozen=True)
class QuantNorms(Brief):
    """What a cell normalizes; groups of neighbours follow one another.

    ``sums``: of the rows' sums, or, beside ``recurrent``, of the sums of x alone; ``recurrent`` are then those of h. What the two give is
    added, and the sum shifted left by ``sum_shift`` to the gates' input formats. ``cell``: of c, before its function.
    """

    sums: tuple[QuantNorm, ...]
    recurrent: tuple[QuantNorm, ...] = ()
    cell: QuantNorm | None = None
    sum_shift: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.sum_shift <= 15, f"normalizations: sum_shift {self.sum_shift} out of 0…15")
        require(self.sum_shift == 0 or self.recurrent != (), "normalizations: a sum_shift without two parts to add")

    @property
    def of_rows(self) -> tuple[QuantNorm, ...]:
        """Return the groups of sums, then those of recurrent sums."""
        return self.sums + self.recurrent


@dataclass(frozen=True)
class CellShifts(Brief):
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
class QuantDirection(Brief):
    """One direction: ih [G·H, I], hh [G·H, P], pre_shift [G·H] int8, one gate function per gate, and for LSTM one more, of the cell.

    A cell that reads h through a ``diagonal``, each row its own unit of h, or through no weights at all has no hh.
    """

    reverse: bool
    ih: AnyMatrix
    hh: AnyMatrix | None
    pre_shift: Int8Array
    gates: tuple[GateFunction, ...]
    h_0: QuantInitialState
    c_0: QuantInitialState | None = None
    peephole: QuantPeephole | None = None
    projection: QuantProjection | None = None
    diagonal: QuantPeephole | None = field(default=None, metadata=LEFT_OUT)
    norms: QuantNorms | None = field(default=None, metadata=LEFT_OUT)

    def __post_init__(self) -> None:
        rows = self.ih.weight.shape[0]
        if self.hh is not None:
            agree = self.hh.weight.shape[0] == rows
            require(agree, f"ih {self.ih.weight.shape} and hh {self.hh.weight.shape} disagree")
        check_pre_shift("direction", self.pre_shift, rows)
        for name, state, limit in (("h_0", self.h_0, STATE_MAX), ("c_0", self.c_0, CELL_MAX)):
            fits = state is None or bool((np.abs(state.value.astype(np.int64)) <= limit).all())
            require(fits, f"{name} leaves ±{limit}")
        require(self.peephole is None or self.peephole.weight.shape == (rows,), "peephole size")
        require(self.diagonal is None or self.diagonal.weight.shape == (rows,), "diagonal size")
        require(self.diagonal is None or self.hh is None, "both a diagonal and a matrix hh")
        if self.norms is not None:
            for groups in (self.norms.sums, self.norms.recurrent or self.norms.sums):
                found = sum(norm.parameters.features for norm in groups)
                require(found == rows, f"normalizations of {found} rows, expected {rows}")

    @property
    def matrix_hh(self) -> AnyMatrix:
        """Return hh of a cell that has it; raise an AssertionError for one that has not."""
        assert self.hh is not None, "the cell has no matrix of h"
        return self.hh
