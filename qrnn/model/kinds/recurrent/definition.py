"""The definition of recurrent layers: a cell, in one or two directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

from qrnn.model.kinds.recurrent.cell import Cell
from qrnn.model.kinds.recurrent.cells import CELLS
from qrnn.model.kinds.recurrent.direction import Direction, Forget, InitialState, Projection
from qrnn.model.kinds.recurrent.grouping import ALONE, Grouping
from qrnn.model.kinds.recurrent.start import StartPart
from qrnn.model.layer import Layer

__all__ = [
    "GATES",
    "GATE_ROLE",
    "CellKind",
    "Direction",
    "Forget",
    "InitialState",
    "Projection",
    "RecurrentDefinition",
    "RecurrentNames",
    "gate_blocks",
    "gate_roles",
]

CellKind: TypeAlias = str
"""The name of a cell: one of `GATES`."""

GATES: Mapping[CellKind, tuple[str, ...]] = {
    name: tuple(gate.name for gate in cell.rows) for name, cell in CELLS.items()
}
"""Canonical order of the gate blocks in the rows of weight_ih, weight_hh and the biases."""

GATE_ROLE: Mapping[str, str] = {gate.name: gate.role for cell in CELLS.values() for gate in cell.functions}
"""Gate → its key in `Direction.activations`; a letter means the same in all cells."""


def gate_blocks(cell: CellKind, forget: Forget = "gate") -> tuple[str, ...]:
    """Return the gates that have rows: those of `GATES`, without f where the forget gate is not one of its own."""
    return CELLS[cell].gates(forget)


def gate_roles(cell: CellKind, forget: Forget = "gate") -> tuple[str, ...]:
    """Return the names of a direction's gate functions.

    They are the gates that have rows, and for LSTM the activation of the cell on its way to h.
    """
    return CELLS[cell].roles(forget)


class RecurrentNames:
    """What the float and the integer layer are called alike: gates, roles, tensors and directions."""

    if TYPE_CHECKING:  # dataclasses' fields

        @property
        def name(self) -> str:
            """Return the layer's name in the model."""

        @property
        def cell(self) -> CellKind:
            """Return the name of the layer's cell, one of `GATES`."""

        @property
        def forget(self) -> Forget:
            """Return the form of the LSTM's forget gate: ``gate``, ``one`` or ``coupled``."""

        @property
        def input(self) -> str:
            """Return the name of the tensor x that the layer reads, [N, T, I]."""

        @property
        def output(self) -> str:
            """Return the name of the tensor that gets h of every step, [N, T, D·P]."""

        @property
        def h_n(self) -> str:
            """Return the name of the tensor that gets h after each sequence's last step, [N, D·P]."""

        @property
        def c_n(self) -> str | None:
            """Return the name of the tensor that gets c after each sequence's last step, [N, D·H]; None for a cell without c."""

        @property
        def directions(self) -> tuple[Any, ...]:
            """Return the one or two directions, each with its own weights, functions and initial states."""

        @property
        def hidden_size(self) -> int:
            """Return H, the number of units of each gate."""

        @property
        def h_start(self) -> tuple[Any, ...]:
            """Return the parts of h_0 that are computed, each with the ``tensor`` that it reads; none where the directions say all of it."""

        @property
        def c_start(self) -> tuple[Any, ...]:
            """Return the parts of c_0 that are computed, as `h_start`."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the name of x, and then those of the tensors that computed initial states read."""
        return (self.input, *(name for name in self.begins_with if name != self.input))

    @property
    def begins_with(self) -> tuple[str, ...]:
        """Return the names of the tensors that computed initial states read."""
        return tuple(dict.fromkeys(part.tensor for part in (*self.h_start, *self.c_start)))

    @property
    def is_started(self) -> bool:
        """Return whether some of h_0 or c_0 is computed."""
        return bool(self.h_start or self.c_start)

    @property
    def grouping(self) -> Grouping:
        """Return how the sequences that the cell takes follow from those of the model."""
        return ALONE

    @property
    def backward(self) -> bool:
        """Return whether a direction reads sequences from their end."""
        return any(d.reverse for d in self.directions)

    @property
    def title(self) -> str:
        """Return the layer's cell, its hidden size, and how many directions it has, in words."""
        both = "bidirectional " if len(self.directions) == 2 else ""
        return f"{both}{self.cell.upper() if len(self.cell) < 5 else self.cell} {self.hidden_size}"

    @property
    def declaration(self) -> Cell:
        """Return the cell, which says everything about itself."""
        return CELLS[self.cell]

    @property
    def gates(self) -> tuple[str, ...]:
        """Return the gates that have rows, in the rows' order."""
        return self.declaration.gates(self.forget)

    @property
    def roles(self) -> tuple[str, ...]:
        """Return the names of a direction's functions; see `gate_roles`."""
        return self.declaration.roles(self.forget)

    @property
    def has_cell_state(self) -> bool:
        """Return whether the cell keeps c beside h."""
        return self.declaration.has_cell_state

    @property
    def reads_by_matrix(self) -> bool:
        """Return whether a matrix reads h, through the operand of h."""
        return self.declaration.recurrence == "matrix"

    @property
    def cell_size(self) -> int:
        """Return the size of c in each direction: H, or 0 for a cell without c."""
        return self.hidden_size if self.has_cell_state else 0

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of the tensors that get h of every step, the last h and, for a cell with c, the last c."""
        return (self.output, self.h_n) if self.c_n is None else (self.output, self.h_n, self.c_n)

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the names of the directions, ``name[0]`` and ``name[1]``, with which the names of their quantities begin."""
        return tuple(f"{self.name}[{number}]" for number in range(len(self.directions)))


@dataclass(frozen=True)
class RecurrentDefinition(RecurrentNames, Layer):
    """A recurrent layer of one or two directions. `Recurrent` is this with its equation and its rule.

    Writes ``output`` [N, T, D·P] (zero on padding), ``h_n`` [N, D·P] and, for cells with c, ``c_n`` [N, D·H]; direction d owns the features
    d·P … (d+1)·P - 1. A reverse direction starts at each sequence's own last valid step. h_n and c_n of a sequence of no steps are
    zero, as in ONNX Runtime. ``clip``: the arguments of all gates and candidates are clamped to ±clip, but not the cell on its
    way to the output activation (so ONNX Runtime). ``update_keeps``: the GRU's h' = z·h + (1 - z)·n (Cho et al. 2014, ONNX,
    PyTorch); False is h' = (1 - z)·h + z·n (Chung et al. 2014). ``memory`` False: every time step begins with h_0 and c_0, not with the
    states that the step before it ended with. ``h_start`` and ``c_start``: the elements of h_0 and c_0 that are computed, in the place of what
    the directions say (`qrnn.model.kinds.recurrent.start`).
    """

    keeps_state: ClassVar[bool] = True
    folds_offset: ClassVar[bool] = True

    name: str
    cell: CellKind
    input: str
    output: str
    h_n: str
    c_n: str | None
    directions: tuple[Direction, ...]
    linear_before_reset: bool = False
    forget: Forget = "gate"
    update_keeps: bool = True
    clip: float | None = None
    memory: bool = True
    h_start: tuple[StartPart, ...] = ()
    c_start: tuple[StartPart, ...] = ()

    def with_input(self, tensor: str, other: str) -> Self:
        """Return the layer as it reads the tensor ``other`` where it reads ``tensor``."""
        starts = (
            tuple(replace(part, tensor=other) if part.tensor == tensor else part for part in parts)
            for parts in (self.h_start, self.c_start)
        )
        h_start, c_start = starts
        return replace(super().with_input(tensor, other), h_start=h_start, c_start=c_start)

    @property
    def hidden_size(self) -> int:
        """Return H, which follows from the G·H rows of weight_ih."""
        return int(self.directions[0].weight_ih.shape[0]) // len(self.gates)

    @property
    def output_size(self) -> int:
        """Return P, the size of what is fed back and written in each direction: H, or the rows of the projection."""
        projection = self.directions[0].projection
        return self.hidden_size if projection is None else int(projection.weight.shape[0])

    @property
    def input_size(self) -> int:
        """Return I, the number of features of x, which are the columns of weight_ih."""
        return int(self.directions[0].weight_ih.shape[1])
