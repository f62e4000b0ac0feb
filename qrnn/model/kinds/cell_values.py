"""Layers of kind cell_values give the last cell state of a recurrent layer, which is int32, as int16 that any layer can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qrnn.arithmetic.arrays import of_arrays
from qrnn.arithmetic.cells import begin_state
from qrnn.model.formats import fraction_bits
from qrnn.model.layer import Layer, QuantLayer
from qrnn.model.layer_facts import Loop, Narrowed, Reading, Rounding, RowLoop, Written
from qrnn.model.parts import CELL_MAX, STATE_MAX, TensorFormat, require
from qrnn.model.surroundings import Checks, Equations, Plan

MOST_FRAC = 31
"""The most fraction bits of cells."""


@dataclass(frozen=True)
class CellValues(Layer):
    """Give the features of ``input``, a tensor of cell states [N, F]: y = x."""

    name: str
    input: str
    output: str

    def equation(self, run: Equations) -> None:
        """Copy the cells."""
        run.write(self.output, run.read(self.input))

    def quantize(self, plan: Plan) -> QuantCellValues:
        """Give the output twice the range that it had in calibration, with no more fraction bits than the cells have."""
        own = plan.begin_frac(self.input, self.name)
        largest = plan.largest(self.output)
        frac = min(own, fraction_bits(largest, 15))
        plan.set_format(self.output, frac)
        plan.decide(f"{self.output}: int16 with {frac} fraction bits (|c| ≤ {largest:.3g} in calibration)")
        return QuantCellValues(self.name, self.input, self.output, own, frac)


def cell_rows(contract: Any) -> Loop:
    """Return the loop that sets out_k to x_k with fewer fraction bits, rounded once and saturated."""
    begin_state = contract.begin_state

    def rows(first: int, last: int, shift: int, limit: int, x: Any, out: Any) -> None:
        for m in range(first, last):
            for k in range(out.shape[1]):
                out[m, k] = begin_state(x[m, k], 0, shift, -limit, limit)

    return rows


@dataclass(frozen=True)
class QuantCellValues(QuantLayer):
    """Compute y = saturate(round(x / 2^(in_frac - out_frac)), ±32767) of int32 cells with in_frac fraction bits."""

    name: str
    input: str
    output: str
    in_frac: int
    out_frac: int

    def __post_init__(self) -> None:
        require(
            0 <= self.out_frac <= 15 and self.out_frac <= self.in_frac <= MOST_FRAC,
            f"layer {self.name}: fraction bits {self.in_frac} and {self.out_frac}, expected no more after than before, and 0…15 after",
        )
        require(
            self.in_frac - self.out_frac <= 30, f"layer {self.name}: a shift of {self.in_frac - self.out_frac} bits"
        )

    @property
    def reads_cells(self) -> tuple[str, ...]:
        """Return the input."""
        return (self.input,)

    @property
    def clamps_output(self) -> bool:
        """Return True: cells of more than 16 bits are saturated."""
        return True

    def check(self, checks: Checks) -> None:
        """Refuse another input than cells of a last step, and an output of other features."""
        fmt = checks.tensors[self.input]
        if fmt.bits != 32 or fmt.limit != CELL_MAX:
            checks.fail(f"reads {self.input!r}, which holds no cell states")
        checks.expect(self.input, fmt.features, False)
        checks.expect(self.output, fmt.features, False)

    def readings(self) -> tuple[Reading, ...]:
        """Return that the cells have in_frac fraction bits."""
        return (Reading(self.input, self.in_frac),)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output is int16 with out_frac fraction bits."""
        return {self.output: Written(self.out_frac, STATE_MAX)}

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop over the rows."""
        return (RowLoop(cell_rows, (self.in_frac - self.out_frac, STATE_MAX), self.inputs),)

    def narrowed(self, values: Mapping[str, Any], tensors: Mapping[str, TensorFormat]) -> tuple[Narrowed, ...]:
        """Return the cells with the fraction bits of the output, before they are saturated."""
        shift = self.in_frac - self.out_frac
        read = of_arrays(begin_state)(values[self.input].astype("int64"), 0, shift, -CELL_MAX - 1, CELL_MAX)
        return (Narrowed(self.name, self.input, read, STATE_MAX),)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding."""
        return (Rounding(self.name, f"each cell, once, to {self.out_frac} bits", f"±{STATE_MAX}"),)
