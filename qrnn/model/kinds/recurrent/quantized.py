"""The definition of integer recurrent layers. It checks its own arrays and formats, so a layer that exists is well formed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from qrnn.model.kinds.recurrent.cells import CELLS
from qrnn.model.kinds.recurrent.definition import CellKind, Forget, RecurrentNames
from qrnn.model.kinds.recurrent.quantized_direction import (
    C_FRAC_MAX,
    PEEPHOLE_SHIFT_MAX,
    CellShifts,
    QuantDirection,
    QuantNorm,
    QuantNorms,
    QuantPeephole,
    QuantProjection,
)
from qrnn.model.kinds.recurrent.start import QuantStartPart
from qrnn.model.layer import QuantLayer
from qrnn.model.parts import LEFT_OUT, Int64Array, Operand, require

__all__ = [
    "C_FRAC_MAX",
    "PEEPHOLE_SHIFT_MAX",
    "CellShifts",
    "QuantDirection",
    "QuantNorm",
    "QuantNorms",
    "QuantPeephole",
    "QuantProjection",
    "QuantRecurrentDefinition",
    "group_fracs",
]


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
    h_start: tuple[QuantStartPart, ...] = field(default=(), metadata=LEFT_OUT)
    c_start: tuple[QuantStartPart, ...] = field(default=(), metadata=LEFT_OUT)

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        require(self.cell in CELLS, f"{where}: cell {self.cell!r} unknown, expected one of {', '.join(CELLS)}")
        declared = self.declaration
        others = ", ".join(name for name, cell in CELLS.items() if self.forget in cell.forgets)
        require(self.forget in declared.forgets, f"{where}: forget={self.forget} is for {others}")
        reverse = tuple(d.reverse for d in self.directions)
        require(
            reverse in ((False,), (True,), (False, True)),
            f"{where}: {len(reverse)} directions, reverse {list(reverse)}, expected [False], [True] or [False, True]",
        )
        require(0 <= self.h_frac <= 15 and 0 <= self.c_frac <= C_FRAC_MAX, f"{where}: h_frac or c_frac out of range")
        require(declared.has_cell_state == (self.c_n is not None), f"{where}: c_n and cell disagree")
        for number, d in enumerate(self.directions):
            self._check_direction(f"{where}[{number}]", d)
        self._check_start(where)

    def _check_start(self, where: str) -> None:
        """Refuse computed initial states of a layer without memory, or with two values for one element."""
        require(self.memory or not self.is_started, f"{where}: computed initial states in a layer without memory")
        require(self.has_cell_state or not self.c_start, f"{where}: c_0 is computed and the cell has no c")
        for name, parts in (("h_0", self.h_start), ("c_0", self.c_start)):
            if parts:
                positions = np.concatenate([part.positions for part in parts])
                once = len(np.unique(positions)) == len(positions)
                require(once, f"{where}: an element of {name} is computed twice")

    def _check_direction(self, where: str, d: QuantDirection) -> None:
        declared, H, P, rows = self.declaration, self.hidden_size, self.output_size, len(d.pre_shift)
        require(H > 0, f"{where}: fewer rows than gates")
        self._check_recurrence(where, d)
        self._check_norms(where, d)
        require(rows == len(self.gates) * H, f"{where}: ih shape")
        require(d.ih.weight.shape[1] == self.input_size, f"{where}: directions read different inputs")
        if d.projection is not None:
            require(d.projection.matrix.weight.shape == (P, H), f"{where}: projection shape")
            require(declared.takes_projection, f"{where}: a {self.cell} has no projection")
        require(len(d.gates) == len(self.roles), f"{where}: {len(d.gates)} gate functions")
        require(declared.has_cell_state == (d.c_0 is not None), f"{where}: c_0 and cell disagree")
        require(d.peephole is None or declared.takes_peephole, f"{where}: peepholes are not for {self.cell}")
        require(
            d.h_0.value.shape == (self.state_bands * P,)
            and (d.c_0 is None or d.c_0.value.shape == (self.state_bands * H,)),
            f"{where}: initial state size",
        )
        require(d.ih.operand_limit == self.x_operand.limit, f"{where}: ih proved for another operand")
        shifts = self.shifts(d)
        for name in ("product", "argument", "candidate", "hidden"):
            require(0 <= getattr(shifts, name) <= 30, f"{where}: formats of {name} do not fit each other")
        require(
            d.projection is None or d.projection.out_frac >= self.h_frac, f"{where}: h_frac finer than the projection"
        )

    def _check_recurrence(self, where: str, d: QuantDirection) -> None:
        """Refuse another way to read h than the cell's own: by a matrix, by a diagonal or by nothing."""
        recurrence = self.declaration.recurrence
        require((d.hh is not None) == (recurrence == "matrix"), f"{where}: hh and the cell {self.cell} disagree")
        require((d.diagonal is not None) == (recurrence == "diagonal"), f"{where}: diagonal and {self.cell} disagree")
        if d.hh is not None:
            rows, columns = d.hh.weight.shape
            require(rows == len(self.gates) * self.hidden_size, f"{where}: hh shape")
            read = f"{where}: h has {columns} features, expected {self.output_size}"
            require(columns == self.output_size, read if d.projection is None else f"{where}: hh shape")
            require(d.hh.operand_limit == self.h_operand.limit, f"{where}: hh proved for another operand")

    def _check_norms(self, where: str, d: QuantDirection) -> None:
        """Refuse normalizations that are not those of the cell."""
        declared = self.declaration
        require((d.norms is not None) == declared.normalizes, f"{where}: norms and the cell {self.cell} disagree")
        if d.norms is None:
            return
        sums, recurrent = (tuple(n.parameters.features for n in g) for g in (d.norms.sums, d.norms.recurrent))
        problem = declared.refuses_groups(self, sums, recurrent)
        require(not problem, f"{where}: {problem}")
        if d.norms.cell is not None:
            require(declared.has_cell_state, f"{where}: a normalization of c, which a {self.cell} has not")
            found = d.norms.cell.parameters.features
            require(found == self.hidden_size, f"{where}: a normalization of {found} c, expected {self.hidden_size}")

    @property
    def state_bands(self) -> int:
        """Return how many bands have a state of their own in each direction; 1 in a layer that knows no bands."""
        return 1

    def shifts(self, d: QuantDirection) -> CellShifts:
        """Return the shifts of direction ``d``, which follow from the formats of its functions and states."""
        fracs = dict(zip(self.roles, (f.out_frac for f in d.gates), strict=True))
        hidden_frac = self.h_frac if d.projection is None else d.projection.hidden_frac
        return self.declaration.shifts(self, d, fracs, hidden_frac)

    @property
    def hidden_size(self) -> int:
        """Return H, which follows from the G·H rows of ih."""
        return int(self.directions[0].ih.weight.shape[0]) // len(self.gates)

    @property
    def output_size(self) -> int:
        """Return P, the size of what is fed back and written in each direction: H, or the rows of the projection."""
        projection = self.directions[0].projection
        return self.hidden_size if projection is None else int(projection.matrix.weight.shape[0])

    @property
    def input_size(self) -> int:
        """Return I, the number of features of x, which are the columns of ih."""
        return int(self.directions[0].ih.weight.shape[1])

    def row_fracs(self, d: QuantDirection) -> Int64Array:
        """Return the fraction bits of each row's sum of x (and of h, but see `recurrent_fracs`) in direction ``d``, [G·H]."""
        return self.gate_fracs(d) if d.norms is None else group_fracs(d.norms.sums)

    def recurrent_fracs(self, d: QuantDirection) -> Int64Array:
        """Return the fraction bits of each row's sum of h in direction ``d``, [G·H].

        They are those of x except where the two are normalized apart.
        """
        return self.row_fracs(d) if d.norms is None or not d.norms.recurrent else group_fracs(d.norms.recurrent)

    def gate_fracs(self, d: QuantDirection) -> Int64Array:
        """Return the fraction bits of each row's gate argument in direction ``d``, [G·H]."""
        return np.repeat([f.in_frac for f in d.gates[: len(self.gates)]], self.hidden_size).astype(np.int64)


def group_fracs(groups: tuple[QuantNorm, ...]) -> Int64Array:
    """Return the fraction bits of each number that is normalized."""
    return np.repeat([n.in_frac for n in groups], [n.parameters.features for n in groups]).astype(np.int64)
