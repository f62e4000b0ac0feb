"""Layers of kind concat gather features from several tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.model.layer import Layer, QuantLayer
from qrnn.model.layer_facts import Loop, Reading, Rounding, RowLoop, Written
from qrnn.model.parts import STATE_MAX, IndexArray, Int64Array, TensorFormat
from qrnn.model.surroundings import Checks, Equations, Plan


@dataclass(frozen=True)
class Concat(Layer):
    """Gather features from several tensors, in order: out = concat(tensor[..., indices] for tensor, indices in parts)."""

    name: str
    output: str
    parts: tuple[tuple[str, IndexArray], ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the tensors, in the order of the parts."""
        return tuple(tensor for tensor, _ in self.parts)

    def equation(self, run: Equations) -> None:
        """Gather the features in float64."""
        run.write(
            self.output, np.concatenate([run.read(tensor)[..., indices] for tensor, indices in self.parts], axis=-1)
        )

    def quantize(self, plan: Plan) -> QuantConcat:
        """Give the output the fewest fraction bits that one of the parts has."""
        fracs = [plan.frac(tensor, self.name) for tensor, _ in self.parts]
        plan.set_format(self.output, min(fracs))
        parts = (ConcatPart(tensor, indices, frac) for (tensor, indices), frac in zip(self.parts, fracs, strict=True))
        return QuantConcat(self.name, self.output, tuple(parts), min(fracs))


def concat_rows(contract: Any) -> Loop:
    """Return the loop that sets out[:, begin …] to the features ``indices`` of x, aligned from in_frac to out_frac fraction bits."""
    align16 = contract.align16

    def rows(first: int, last: int, begin: int, indices: Any, in_frac: int, out_frac: int, x: Any, out: Any) -> None:
        for m in range(first, last):
            for k in range(len(indices)):
                out[m, begin + k] = align16(x[m, indices[k]], in_frac, out_frac)

    return rows


@dataclass(frozen=True)
class ConcatPart:
    """The features ``indices`` [K] of ``tensor``, which has in_frac fraction bits."""

    tensor: str
    indices: Int64Array
    in_frac: int


@dataclass(frozen=True)
class QuantConcat(QuantLayer):
    """Gather features of several int16 tensors, each aligned by `align16` to out_frac fraction bits."""

    name: str
    output: str
    parts: tuple[ConcatPart, ...]
    out_frac: int

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the tensors, in the order of the parts."""
        return tuple(part.tensor for part in self.parts)

    def check(self, checks: Checks) -> None:
        """Refuse indices outside their tensors, fraction bits outside 0…15, and tensors of which some go over time and others do not."""
        if not self.parts or self.output not in checks.tensors:
            checks.fail(f"reads nothing or writes {self.output!r} without a format")
        has_time = checks.tensors[self.output].has_time
        for part in self.parts:
            features = checks.tensors[part.tensor].features
            inside = (
                part.indices.ndim == 1
                and len(part.indices) > 0
                and part.indices.min() >= 0
                and part.indices.max() < features
            )
            if not inside or not 0 <= part.in_frac <= 15 or not 0 <= self.out_frac <= 15:
                checks.fail(f"reads outside {part.tensor!r}")
            checks.expect(part.tensor, features, has_time)
        checks.expect(self.output, sum(len(part.indices) for part in self.parts), has_time)

    def readings(self) -> tuple[Reading, ...]:
        """Return that each part is read as fixed-point, with its own fraction bits."""
        return tuple(Reading(part.tensor, part.in_frac) for part in self.parts)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output is int16 with out_frac fraction bits."""
        return {self.output: Written(self.out_frac, STATE_MAX)}

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return a loop for each part, which fills the part's features of the output."""
        begins = np.cumsum([0, *(len(part.indices) for part in self.parts)]).tolist()
        return tuple(
            RowLoop(concat_rows, (begin, part.indices, part.in_frac, self.out_frac), (part.tensor,))
            for begin, part in zip(begins, self.parts, strict=False)
        )

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the rounding of the parts that have more fraction bits than the output."""
        return (Rounding(self.name, f"parts to {self.out_frac} bits", "int16"),)
