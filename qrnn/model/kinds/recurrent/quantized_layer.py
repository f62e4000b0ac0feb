"""The integer layer of recurrent layers: what it checks, and what it says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qrnn.model.kinds.recurrent.definition import RecurrentDefinition
from qrnn.model.kinds.recurrent.quantized import QuantRecurrentDefinition
from qrnn.model.kinds.recurrent.stand_ins import direction_stand_ins, quantized_parts, real_worth
from qrnn.model.kinds.recurrent.start import with_start
from qrnn.model.layer_facts import (
    Bytes,
    Chosen,
    LayerMatrix,
    Part,
    Reading,
    Rounding,
    StandIns,
    StateArray,
    StepLoop,
    Written,
)
from qrnn.model.parts import CELL_MAX, STATE_MAX, GateFunction, QuantInitialState, TensorFormat
from qrnn.model.softmax_rows import MOST_FEATURES
from qrnn.model.surroundings import Checks
from qrnn.model.time import TimeAxis


@dataclass(frozen=True)
class QuantRecurrent(QuantRecurrentDefinition):
    """A recurrent layer. h is int16 with h_frac fraction bits, c int32 with c_frac; operands as `Operand` says.

    ``memory`` False: every time step begins with h_0 and c_0, not with the states that the step before it ended with.
    """

    folds_offset: ClassVar[bool] = True

    @property
    def last_steps(self) -> tuple[str, ...]:
        """Return the names of the tensors that get the last h and, for cells with c, the last c."""
        return self.outputs[1:]

    @property
    def cells(self) -> tuple[str, ...]:
        """Return the name of the tensor that gets the last c, which is int32; none for cells without c."""
        return self.outputs[2:]

    @property
    def by_rows(self) -> bool:
        """Return False, because a step is computed from states too, not from its input alone."""
        return False

    @property
    def whole_sequences(self) -> bool:
        """Return whether a direction is reverse, so that it begins at the end of a sequence."""
        return any(d.reverse for d in self.directions)

    def states(self) -> tuple[StateArray, ...]:
        """Return h, and c, of size 0 for a cell without c, whose first axis is that of the directions.

        Where an initial state is computed, ``begun`` says whether a sequence has had its first step.
        """
        D = len(self.directions)
        c_0 = tuple(d.c_0 for d in self.directions if d.c_0 is not None)
        found = (
            StateArray(
                "h", (D, self.output_size), np.int16, STATE_MAX, self.h_frac, tuple(d.h_0 for d in self.directions)
            ),
            StateArray("c", (D, self.cell_size), np.int32, CELL_MAX, self.c_frac, c_0),
        )
        return (*found, StateArray("begun", (1,), np.int16, 1, least=0)) if self.is_started else found

    def starts(
        self, states: Mapping[str, tuple[Any, ...]], tensors: Mapping[str, Any], axis: TimeAxis
    ) -> tuple[Any, ...]:
        """Return what the cell's sequences begin with, h [N', D, P] and c [N', D, H].

        ``states`` are those of the model's N sequences by the layer's name, ``tensors`` what was computed so far, of which computed initial
        states are read, and ``axis`` the steps of the sequences.
        """
        own = states[self.name]
        if self.is_started:
            h, c, begun = own
            begins = (begun[:, 0] == 0) & (axis.lengths > 0)
            own = with_start(self.h_start, tensors, h, begins), with_start(self.c_start, tensors, c, begins)
        return tuple(self.grouping.states_apart(array) for array in own)

    def after(self, states: tuple[Any, ...], before: tuple[Any, ...], lengths: Any) -> tuple[Any, ...]:
        """Return the arrays of `states` after a run that ended with h and c, ``states``.

        ``before`` are those before it, and ``lengths`` [N] says how many steps it had.
        """
        if not self.is_started:
            return states
        return (*states, np.where(lengths[:, None] > 0, np.int16(1), before[2]))

    def direction_loop(self, number: int) -> StepLoop:
        """Return one step of a direction: the definition that every backend is held to.

        Its states are h [N, P] int16 and c [N, H] int32, [N, 0] for a cell without c. A step writes one row of ``out`` [N, T', P], the new h.
        Its first scratch array holds the arguments of the gates, [N, G·H] int16, as a trace shows them.
        """
        return self.declaration.step_loop(self, self.directions[number])

    def check(self, checks: Checks) -> None:
        """Refuse tensors whose shapes are not x [N, T, I], output [N, T, D·P], h_n [N, D·P] and c_n [N, D·H].

        A softmax of too many features to sum within 32 bits and initial states that do not fit their state inputs are refused too.
        """
        D = len(self.directions)
        checks.expect(self.input, self.input_size, True)
        checks.expect(self.output, self.output_size * D, True)
        checks.expect(self.h_n, self.output_size * D, False)
        if self.c_n is not None:
            checks.expect(self.c_n, self.hidden_size * D, False)
        for parts, size in ((self.h_start, self.output_size * D), (self.c_start, self.cell_size * D)):
            for part in parts:
                fmt = checks.tensors[part.tensor]
                if fmt.has_time:
                    checks.fail(f"begins with {part.tensor!r}, which is over time")
                part.check_places(f"layer {self.name}", fmt.features, size)
        self.check_own(checks)

    def check_own(self, checks: Checks) -> None:
        """Refuse a softmax of too many features to sum within 32 bits, and initial states that do not fit their state inputs."""
        for d in self.directions:
            if d.projection is not None and d.projection.table is not None and self.output_size > MOST_FEATURES:
                checks.fail(f"softmax over {self.output_size} features, at most {MOST_FEATURES} sum within 32 bits")
            for state in (d.h_0, d.c_0):
                if state is not None:
                    _check_source(checks, state)

    def readings(self) -> tuple[Reading, ...]:
        """Return that x is read by the matrices through the operand of x."""
        begins = (
            Reading(part.tensor, frac + part.right_shift - part.left_shift)
            for parts, frac in ((self.h_start, self.h_frac), (self.c_start, self.c_frac))
            for part in parts
        )
        return (Reading(self.input, operand=self.x_operand), *begins)

    @property
    def reads_cells(self) -> tuple[str, ...]:
        """Return the names of the tensors that computed initial states read, of which int32 cells may be some."""
        return self.inputs[1:]

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that output and h_n have the fraction bits of h, within the range of int16, and c_n those of c, within that of int32."""
        h, c = Written(self.h_frac, STATE_MAX), Written(self.c_frac, CELL_MAX)
        return {self.output: h, self.h_n: h, **dict.fromkeys(self.cells, c)}

    def matrices(self) -> tuple[LayerMatrix, ...]:
        """Return each direction's matrix of x [G·H, I] and, where it has them, those of h [G·H, P] and of the projection [P, H]."""
        found = []
        for key, d in zip(self.keys, self.directions, strict=True):
            for name, kind, matrix, operand, fracs in (
                ("weight_ih", "input weights", d.ih, self.x_operand, self.row_fracs(d)),
                ("weight_hh", "recurrent weights", d.hh, self.h_operand, self.recurrent_fracs(d)),
            ):
                if matrix is None:
                    continue
                part = Part(key, kind)
                found.append(LayerMatrix(f"{key}.{name}", part, matrix, d.pre_shift, fracs, operand, self.gates))
            if (p := d.projection) is not None:
                part, fracs = Part(key, "projection"), np.full(self.output_size, p.in_frac, np.int64)
                found.append(LayerMatrix(f"{key}.projection", part, p.matrix, p.pre_shift, fracs, p.operand))
        return tuple(found)

    def functions(self) -> tuple[GateFunction, ...]:
        """Return the gate functions of all directions, then the functions of their projections."""
        gates = [f for d in self.directions for f in d.gates]
        projections = [d.projection.function for d in self.directions if d.projection is not None]
        return tuple(gates + [f for f in projections if f is not None])

    def integer_parts(self) -> tuple[Part, ...]:
        """Return the operand of x, and then each direction's own parts.

        These are its weights and biases by gate, functions, peepholes, normalizations, projection, the operand of h, and the states.
        """
        return quantized_parts(self)

    def stand_ins(self, chosen: Chosen, tensors: Mapping[str, TensorFormat]) -> StandIns:
        """Return what the chosen operands, functions, normalizations, projections and states do to the numbers of a run."""
        return direction_stand_ins(self, chosen, tensors)

    def worth(
        self, real: RecurrentDefinition, chosen: Chosen, tensors: Mapping[str, TensorFormat]
    ) -> RecurrentDefinition:
        """Return ``real`` with the chosen weights, biases, peepholes, normalizations and projections as what their integers are worth."""
        return real_worth(self, real, chosen, tensors)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return where operands, gates' arguments, normalizations, c, h and projections are rounded and saturated."""
        x, h = self.x_operand, self.h_operand
        functions = zip(self.roles, self.directions[0].gates, strict=True)
        gates = ", ".join(f"{role} Q{15 - f.in_frac}.{f.in_frac}" for role, f in functions)
        d = self.directions[0]
        sums = "W·x and R·h, once each" if d.hh is not None else "W·x, once"
        if any(d.peephole is not None for d in self.directions):
            sums = "W·x, R·h and the peephole's part, once each"
        elif d.diagonal is not None:
            sums = "W·x and the diagonal's part, once each"
        bounded = self.h_frac == 15 and all(d.projection is None for d in self.directions)
        found = [
            Rounding(
                f"{self.name}: operands",
                f"x by {x.shift} bits" + (f", h by {h.shift} bits" if d.hh is not None else ""),
                f"x ±{x.limit}" + (f", h ±{h.limit}" if d.hh is not None else ""),
            ),
            Rounding(f"{self.name}: gates", sums, f"int16: {gates}"),
        ]
        if d.norms is not None:
            read = ", ".join(f"Q{15 - n.in_frac}.{n.in_frac}" for n in d.norms.of_rows)
            what = "W·x and R·h" if d.norms.recurrent else "W·x + R·h"
            found.append(
                Rounding(f"{self.name}: norms", f"{what} normalized, once each", f"int16: {read}, then the gates'")
            )
            if (n := d.norms.cell) is not None:
                rounded = f"c to {n.in_frac} bits, then normalized, once each"
                found.append(Rounding(f"{self.name}: norm of c", rounded, "int16, both times"))
        if self.has_cell_state:
            found.append(Rounding(f"{self.name}: c", self.declaration.cell_rounding(self.c_frac), "int32"))
        found.append(
            Rounding(
                f"{self.name}: h", f"once, to {self.h_frac} bits", "never (proved)" if bounded else f"±{STATE_MAX}"
            )
        )
        for name, parts, limit in (("h_0", self.h_start, f"±{STATE_MAX}"), ("c_0", self.c_start, "int32")):
            if parts:
                read = ", ".join(dict.fromkeys(part.tensor for part in parts))
                found.append(Rounding(f"{self.name}: {name}", f"{read}, once, to the bits of the state", limit))
        for number, d in enumerate(self.directions):
            if (p := d.projection) is not None:
                where, rounded = f"{self.name}[{number}]: projection", f"sum, once, to {p.in_frac} bits"
                found.append(Rounding(where, rounded, f"int16; operand ±{p.operand.limit}"))
        return tuple(found)

    def own_bytes(self) -> Bytes:
        """Return 3 bytes for each peephole or diagonal weight, 7 for each number that is normalized, and those of h and c.

        A layer without memory keeps no state.
        """
        own = [w for d in self.directions for w in (d.peephole, d.diagonal) if w is not None]
        norms = [n.parameters for d in self.directions if (found := d.norms) for n in (*found.of_rows, found.cell) if n]
        state = len(self.directions) * (2 * self.output_size + 4 * self.cell_size) if self.memory else 0
        state += 2 if self.is_started else 0
        return Bytes(rows=sum(3 * w.weight.size for w in own) + sum(7 * p.features for p in norms), state=state)


def _check_source(checks: Checks, state: QuantInitialState) -> None:
    """Refuse an initial state that reads outside its state input, or that has constants beside it."""
    if state.source is None or state.indices is None:
        return
    if not ((state.indices >= 0) & (state.indices < checks.state_features(state.source))).all():
        checks.fail(f"initial state reads outside {state.source!r}")
    if state.value.any():
        checks.fail(f"initial state has constants beside the state input {state.source!r}")
