"""Layers of kind argmax give the index of the largest feature of each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.model.layer import Layer, QuantLayer
from qrnn.model.layer_facts import Loop, Part, Reading, RowLoop, Written
from qrnn.model.parts import STATE_MAX, TensorFormat
from qrnn.model.surroundings import Checks, Equations, Plan


@dataclass(frozen=True)
class ArgMax(Layer):
    """Give the index of the largest feature of each step, [N, T, 1] or [N, 1]; of equal ones the first, or with ``last`` the last."""

    name: str
    input: str
    output: str
    last: bool = False

    def equation(self, run: Equations) -> None:
        """Find the indices, as real numbers."""
        x = run.read(self.input)
        found = x.shape[-1] - 1 - np.argmax(x[..., ::-1], axis=-1) if self.last else np.argmax(x, axis=-1)
        run.write(self.output, found[..., None].astype(np.float64))

    def quantize(self, plan: Plan) -> QuantArgMax:
        """Give the output whole numbers."""
        plan.set_format(self.output, 0)
        return QuantArgMax(self.name, self.input, self.output, plan.frac(self.input, self.name), self.last)


def argmax_rows(contract: Any) -> Loop:
    """Return the loop that sets out_0 to the index of the largest element of its row."""

    def rows(first: int, last: int, latest: int, x: Any, out: Any) -> None:
        for m in range(first, last):
            best = 0
            for k in range(x.shape[1]):
                if x[m, k] > x[m, best] or (latest > 0 and x[m, k] == x[m, best]):
                    best = k
            out[m, 0] = best

    return rows


@dataclass(frozen=True)
class QuantArgMax(QuantLayer):
    """Give the index of the largest of the integers of each step, of equal ones the first, or with ``last`` the last."""

    name: str
    input: str
    output: str
    in_frac: int
    last: bool

    def check(self, checks: Checks) -> None:
        """Refuse more features than int16 has indices, and an output of more than one feature."""
        source = checks.tensors[self.input]
        if source.features > STATE_MAX:
            checks.fail(f"{source.features} features, expected at most {STATE_MAX}")
        checks.expect(self.output, 1, source.has_time)

    def readings(self) -> tuple[Reading, ...]:
        """Return that the input is read as fixed-point with in_frac fraction bits."""
        return (Reading(self.input, self.in_frac),)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output holds whole numbers."""
        return {self.output: Written(0, STATE_MAX)}

    def integer_parts(self) -> tuple[Part, ...]:
        """Return no parts: nothing is rounded."""
        return ()

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop over the rows."""
        return (RowLoop(argmax_rows, (int(self.last),), self.inputs),)
