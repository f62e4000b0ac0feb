"""What a cell says about itself: a `Cell`, of which each module of `qrnn.model.kinds.recurrent.cells` defines one.

A cell is the equation that makes the next state from x and the state before. Everything that a layer, a conversion or a description asks
about a cell is asked here; variants of a cell (a forget gate that is coupled, a GRU's reset) are fields of the layer, which the cell reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from qrnn.model.activation import activate
from qrnn.model.kinds.recurrent.direction import Direction, Forget, Norm, Norms
from qrnn.model.kinds.recurrent.quantized_direction import CellShifts, QuantDirection
from qrnn.model.layer_facts import StepLoop
from qrnn.model.parts import FloatArray, GateFunction, Int64Array, Operand
from qrnn.model.surroundings import Equations


@dataclass(frozen=True)
class Gate:
    """One function of a cell: its letter, and its ``role``, the key of its function in `Direction.activations`.

    ``peephole``: whether a weight of c may be added to its argument.
    """

    name: str
    role: Literal["gate", "candidate", "output"]
    peephole: bool = False


class RecurrentSettings(Protocol):
    """The fields of a layer by which its cell has variants, and what follows from them."""

    @property
    def name(self) -> str:
        """Return the layer's name in the model."""

    @property
    def forget(self) -> Forget:
        """Return the form of the LSTM's forget gate: ``gate``, ``one`` or ``coupled``."""

    @property
    def linear_before_reset(self) -> bool:
        """Return whether a GRU's r multiplies R·h + b, as in r ⊙ (R·h + b); otherwise it multiplies h, as in R·(r ⊙ h) + b."""

    @property
    def gates(self) -> tuple[str, ...]:
        """Return the letters of the gates that have rows in the matrices, in the rows' order."""

    @property
    def roles(self) -> tuple[str, ...]:
        """Return the names of a direction's functions: the gates, then the function of the cell on its way to h where there is one."""

    @property
    def hidden_size(self) -> int:
        """Return H, the number of units of each gate."""


class FloatSettings(RecurrentSettings, Protocol):
    """The fields and facts that a cell reads of a float layer."""

    @property
    def declaration(self) -> Cell:
        """Return the cell of the layer."""

    @property
    def clip(self) -> float | None:
        """Return the limit to which the arguments of gates and candidates are clamped, ±clip; None where they are not clamped."""

    @property
    def update_keeps(self) -> bool:
        """Return whether z is the share of h that is kept, h' = z·h + (1 - z)·n; otherwise h' = (1 - z)·h + z·n."""


class QuantSettings(RecurrentSettings, Protocol):
    """The fields and facts that a cell reads of an integer layer."""

    @property
    def input_size(self) -> int:
        """Return I, the number of features of x."""

    @property
    def output_size(self) -> int:
        """Return P, the number of features of h as it is fed back and written, in each direction."""

    @property
    def h_frac(self) -> int:
        """Return the fraction bits of h, which is int16."""

    @property
    def c_frac(self) -> int:
        """Return the fraction bits of c, which is int32."""

    @property
    def x_operand(self) -> Operand:
        """Return how the matrices of x read it: by which shift, and within which limit."""

    @property
    def h_operand(self) -> Operand:
        """Return how the matrices of h read it: by which shift, and within which limit."""

    def shifts(self, d: QuantDirection) -> CellShifts:
        """Return the shifts between the formats in the formulas of direction ``d``."""


@dataclass(frozen=True)
class CellRun:
    """One direction in a run of the float model, as the equation of a cell sees it."""

    layer: FloatSettings
    key: str
    d: Direction
    run: Equations

    def split(self, rows: FloatArray) -> dict[str, FloatArray]:
        """Return the gates' blocks of the last axis, […, G·H], by gate."""
        gates = self.layer.gates
        return dict(zip(gates, np.split(rows, len(gates), axis=-1), strict=True))

    def activate(self, role: str, x: FloatArray) -> FloatArray:
        """Return the value of a gate's or candidate's function, whose argument is clipped.

        The specification has clip apply "to the input of activations"; ONNX Runtime leaves out the cell on its way to the LSTM's output
        activation, and so does this.
        """
        clip = None if role == "output" else self.layer.clip
        function = self.d.activations[self.layer.declaration.role_of(role)]
        return self.run.gate(
            f"{self.key}.{role}", x, activate(function, x if clip is None else np.clip(x, -clip, clip))
        )

    @property
    def norms(self) -> Norms:
        """Return what the cell normalizes; it must be a cell that normalizes something."""
        assert self.d.norms is not None, "the cell normalizes nothing"
        return self.d.norms

    def normalize(self, now: dict[str, FloatArray], what: str, norm: Norm, v: FloatArray, first: int = 0) -> FloatArray:
        """Return v [N, F] normalized by the groups of ``norm`` from its row ``first`` on.

        ``now`` gets each group's numbers before and after, as ``<what>_<group>`` and ``normal_<what>_<group>``.
        """
        found = []
        for group, rows in enumerate(norm.slices):
            if first <= rows.start < first + v.shape[1]:
                name = f"{what}_{group}"
                now[name] = self.run.state(f"{self.key}.{name}", v[:, rows.start - first : rows.stop - first])
                normal = self.run.state(f"{self.key}.normal_{name}", norm.of(group, now[name]))
                now[f"normal_{name}"] = normal
                found.append(normal)
        return np.concatenate(found, axis=1)

    def operand(self, h: FloatArray) -> FloatArray:
        """Return h, or r·h, as R reads it."""
        return self.run.operand(f"{self.key}.h", h)

    def recurrent(self, h: FloatArray) -> FloatArray:
        """Return R·h, [N, G·H], where R is a matrix or a diagonal of each gate; it is zero, [1], where there is neither."""
        recurrence = self.layer.declaration.recurrence
        if recurrence == "matrix":
            return self.operand(h) @ self.d.matrix_hh.T
        if recurrence == "none":
            return np.zeros(1)
        assert self.d.diagonal is not None, "the cell reads h through a diagonal"
        return np.tile(h, len(self.layer.gates)) * self.d.diagonal


@dataclass(frozen=True)
class StateBounds:
    """What a cell's functions say of h: whether they bound it by 1, and the most fraction bits with which they make it."""

    bounded: bool
    most: int


def largest_value(function: GateFunction) -> float:
    """Return the largest magnitude of a function's value."""
    return max(abs(v) for v in function.bounds) * 2.0**-function.out_frac


def mixed_bounds(z: GateFunction, n: GateFunction) -> StateBounds:
    """Return the bounds of h' = z·h + (1 - z)·n, which stays within ±1 where n does and 0 ≤ z ≤ 1.

    It has at most the fraction bits of n.
    """
    return StateBounds(largest_value(n) <= 1 and z.bounds[0] >= 0 and largest_value(z) <= 1, n.out_frac)


class Cell(ABC):
    """A cell. It keeps h, and with `has_cell_state` also c; h is what a layer writes."""

    name: ClassVar[str]
    """What layers and files call it."""

    rows: ClassVar[tuple[Gate, ...]]
    """The gates that have rows in the matrices, in the rows' order."""

    output_function: ClassVar[Gate | None] = None
    """A function without rows, after those of the gates: of the cell on its way to h."""

    has_cell_state: ClassVar[bool] = False
    """Whether it keeps c, [H] int32, beside h."""

    cell_product: ClassVar[tuple[str, str] | None] = None
    """The two gates whose product is added to c."""

    recurrence: ClassVar[Literal["matrix", "diagonal", "none"]] = "matrix"
    """How h is read: by a matrix R, by a diagonal of each gate, or by no weights."""

    normalizes: ClassVar[bool] = False
    """Whether it normalizes its sums; every direction then has `Norms`, and any other cell's has none."""

    takes_projection: ClassVar[bool] = False
    """Whether a projection may stand between it and what is fed back."""

    forgets: ClassVar[tuple[Forget, ...]] = ("gate",)
    """The forms of the forget gate."""

    reset_gate: ClassVar[str | None] = None
    """The gate that multiplies what the candidate reads of h."""

    state_gate: ClassVar[str | None] = None
    """The gate whose value is h itself, before a projection."""

    @property
    def takes_peephole(self) -> bool:
        """Return whether some gate may read c."""
        return any(gate.peephole for gate in self.rows)

    def gates(self, forget: Forget) -> tuple[str, ...]:
        """Return the gates that have rows, in a layer whose forget gate is of the form ``forget``."""
        return tuple(gate.name for gate in self.rows)

    def roles(self, forget: Forget) -> tuple[str, ...]:
        """Return the names of a direction's functions: the gates that have rows, then the `output_function`."""
        gates = self.gates(forget)
        return gates if self.output_function is None else (*gates, self.output_function.name)

    @property
    def functions(self) -> tuple[Gate, ...]:
        """Return every function that any variant has."""
        return self.rows if self.output_function is None else (*self.rows, self.output_function)

    def role_of(self, name: str) -> str:
        """Return the key that the function ``name`` has in `Direction.activations`."""
        return next(gate.role for gate in self.functions if gate.name == name)

    def form(self, layer: RecurrentSettings) -> str:
        """Return the name of the cell's variant in ``layer``, for which a backend has a kernel of its own."""
        return self.name

    def value_of(self, gate: str, projected: bool) -> str:
        """Return the name of the equation's quantity that holds a gate's value."""
        if gate != self.state_gate:
            return gate
        return "hidden" if projected else "h"

    def apart(self, layer: RecurrentSettings) -> tuple[str, ...]:
        """Return the gates whose recurrent sum is not simply added to that of x, so that the biases of the two stay apart."""
        return ()

    def refuses_groups(self, layer: RecurrentSettings, sums: Sequence[int], recurrent: Sequence[int]) -> str:
        """Return why the cell cannot normalize rows in groups of these sizes, or an empty string where it can.

        ``recurrent`` is empty where W·x + R·h is normalized.
        """
        return ""

    @abstractmethod
    def equation(self, cell: CellRun, wx: FloatArray, h: FloatArray, c: FloatArray) -> dict[str, FloatArray]:
        """Compute one step in float64: ``wx`` [N, G·H] is W·x + b, h [N, P] and c [N, H] the states before it.

        It returns the new ``h`` (and ``c``), each gate's argument ``pre_<gate>``, and the values of the gates but for the `state_gate`.
        """

    @abstractmethod
    def shifts(self, layer: QuantSettings, d: QuantDirection, fracs: Mapping[str, int], hidden_frac: int) -> CellShifts:
        """Return the shifts in the cell's formulas.

        ``fracs`` are the fraction bits of its functions' values, ``hidden_frac`` those of h before a projection.
        """

    @abstractmethod
    def state_bounds(self, functions: Mapping[str, GateFunction]) -> StateBounds:
        """Return what the cell's functions, by role, say of h."""

    @abstractmethod
    def step_loop(self, layer: QuantSettings, d: QuantDirection) -> StepLoop:
        """Return one step of a direction in integers.

        Its states are h [N, P] int16 and c [N, H] int32, or [N, 0], and it writes a row of ``out`` [N, T', P] a step. Its first scratch array
        holds the arguments of the gates, [N, G·H] int16.
        """

    def hidden(self, layer: QuantSettings, d: QuantDirection, pre: Any, c: Any) -> Int64Array:
        """Return the integers of h before a projection, [M, H], for a cell with `takes_projection`.

        ``pre`` [M, G·H] holds the arguments of the gates at M steps, and ``c`` [M, H] the cell states after them, or None.
        """
        raise NotImplementedError(f"the cell {self.name} takes no projection")

    def cell_rounding(self, c_frac: int) -> str:
        """Return in words what is rounded on the way to c, which has ``c_frac`` fraction bits."""
        raise NotImplementedError(f"the cell {self.name} has no c")

    def sensitivities(
        self, layer: FloatSettings, d: Direction, seen: Callable[[str], FloatArray], h: FloatArray, c: FloatArray | None
    ) -> dict[str, FloatArray]:
        """Return by how much the result of a step moves with each gate's value, [M, H], by gate.

        ``seen`` gives quantities of the equation at M steps; ``h`` and ``c`` are the states before each.
        """
        return {gate: np.ones((len(h), layer.hidden_size)) for gate in layer.gates}
