"""Layers of kind concat gather features from one tensor or several, and zeros beside them: they join, pad, slice, repeat and reorder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from qrnn.errors import QuantizationError
from qrnn.model.layer import Layer, QuantLayer
from qrnn.model.layer_facts import Loop, Reading, Rounding, RowLoop, Written
from qrnn.model.parts import STATE_MAX, IndexArray, Int64Array, TensorFormat
from qrnn.model.surroundings import Checks, Equations, Plan
from qrnn.system.brief import Brief


@dataclass(frozen=True)
class Concat(Layer):
    """Gather features from tensors, in order: out = concat(tensor[..., indices] for tensor, indices in parts); an index of -1 gives 0."""

    name: str
    output: str
    parts: tuple[tuple[str, IndexArray], ...]

    carries_offset: ClassVar[bool] = True

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the tensors, in the order of the parts."""
        return tuple(tensor for tensor, _ in self.parts)

    def with_input(self, tensor: str, other: str) -> Concat:
        """Return the layer as it gathers features of ``other`` where it gathers those of ``tensor``."""
        parts = tuple((other if name == tensor else name, indices) for name, indices in self.parts)
        return replace(self, parts=parts)

    def equation(self, run: Equations) -> None:
        """Gather the features in float64."""
        found = [np.where(indices < 0, 0.0, run.read(tensor)[..., indices]) for tensor, indices in self.parts]
        run.write(self.output, np.concatenate(found, axis=-1))

    def quantize(self, plan: Plan) -> QuantConcat:
        """Give the output the fewest fraction bits that one of the parts has, and the offsets of the parts."""
        fracs = [plan.frac(tensor, self.name) for tensor, _ in self.parts]
        offsets = [plan.offset(tensor) for tensor, _ in self.parts]
        carried = [
            carried_offset(offset, indices, frac, min(fracs))
            for offset, (_, indices), frac in zip(offsets, self.parts, fracs, strict=True)
        ]
        if (lost := next((k for k, part in enumerate(carried) if part is None), None)) is not None:
            raise QuantizationError(
                f"layer {self.name!r}: the offset of {self.parts[lost][0]!r} is no whole number of units of 2^-{min(fracs)}, to which the "
                "parts are aligned; give that tensor no offset"
            )
        plan.set_format(self.output, min(fracs), offset=tuple(o for part in carried if part is not None for o in part))
        parts = (ConcatPart(tensor, indices, frac) for (tensor, indices), frac in zip(self.parts, fracs, strict=True))
        return QuantConcat(self.name, self.output, tuple(parts), min(fracs))


def carried_offset(offset: tuple[int, ...], indices: IndexArray, in_frac: int, out_frac: int) -> tuple[int, ...] | None:
    """Return the offset of each of the features ``indices`` of a tensor, in units of out_frac fraction bits; None where one is not whole.

    The integer of a zero is 0, with the offset 0.
    """
    chosen = [int(o) for o in np.where(indices < 0, 0, np.resize(offset, int(indices.max(initial=0)) + 1)[indices])]
    if out_frac >= in_frac:
        return tuple(o << (out_frac - in_frac) for o in chosen)
    if any(o & ((1 << (in_frac - out_frac)) - 1) for o in chosen):
        return None
    return tuple(o >> (in_frac - out_frac) for o in chosen)


def concat_rows(contract: Any) -> Loop:
    """Return the loop that sets out[:, begin …] to the features ``indices`` of x, aligned from in_frac to out_frac fraction bits, and zeros."""
    align16 = contract.align16

    def rows(first: int, last: int, begin: int, indices: Any, in_frac: int, out_frac: int, x: Any, out: Any) -> None:
        for m in range(first, last):
            for k in range(len(indices)):
                if indices[k] < 0:
                    out[m, begin + k] = 0
                else:
                    out[m, begin + k] = align16(x[m, indices[k]], in_frac, out_frac)

    return rows


@dataclass(frozen=True)
class ConcatPart(Brief):
    """The features ``indices`` [K] of ``tensor``, which has in_frac fraction bits; -1 stands for a zero."""

    tensor: str
    indices: Int64Array
    in_frac: int


@dataclass(frozen=True)
class QuantConcat(QuantLayer):
    """Gather features of int16 tensors, each aligned by `align16` to out_frac fraction bits, and zeros."""

    name: str
    output: str
    parts: tuple[ConcatPart, ...]
    out_frac: int

    carries_offset: ClassVar[bool] = True

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
                and part.indices.min() >= -1
                and part.indices.max() < features
            )
            if not inside or not 0 <= part.in_frac <= 15 or not 0 <= self.out_frac <= 15:
                checks.fail(f"reads outside {part.tensor!r}")
            checks.expect(part.tensor, features, has_time)
            offset = checks.tensors[part.tensor].offset
            if carried_offset(offset, part.indices, part.in_frac, self.out_frac) is None:
                checks.fail(f"rounds the offset of {part.tensor!r}")
        checks.expect(self.output, sum(len(part.indices) for part in self.parts), has_time)

    def readings(self) -> tuple[Reading, ...]:
        """Return that each part is read as fixed-point, with its own fraction bits."""
        return tuple(Reading(part.tensor, part.in_frac) for part in self.parts)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output is int16 with out_frac fraction bits, and with the offsets of the parts."""
        carried = [
            carried_offset(tensors[part.tensor].offset, part.indices, part.in_frac, self.out_frac)
            for part in self.parts
        ]
        offsets = tuple(o for part in carried for o in (part or ()))
        return {self.output: Written(self.out_frac, STATE_MAX, offsets)}

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
