"""Layers that gather features from several tensors."""

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
    """Features gathered from several tensors, in order: out = concat(tensor[..., indices] for tensor, indices in parts)."""

    name: str
    output: str
    parts: tuple[tuple[str, IndexArray], ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(tensor for tensor, _ in self.parts)

    def equation(self, run: Equations) -> None:
        run.write(
            self.output, np.concatenate([run.read(tensor)[..., indices] for tensor, indices in self.parts], axis=-1)
        )

    def quantize(self, plan: Plan) -> QuantConcat:
        fracs = [plan.frac(tensor, self.name) for tensor, _ in self.parts]
        plan.set_format(self.output, min(fracs))
        parts = (ConcatPart(tensor, indices, frac) for (tensor, indices), frac in zip(self.parts, fracs, strict=True))
        return QuantConcat(self.name, self.output, tuple(parts), min(fracs))


def concat_rows(contract: Any) -> Loop:
    """out[:, begin …] = the features ``indices`` of x, aligned."""
    align16 = contract.align16

    def rows(first: int, last: int, begin: int, indices: Any, in_frac: int, out_frac: int, x: Any, out: Any) -> None:
        for m in range(first, last):
            for k in range(len(indices)):
                out[m, begin + k] = align16(x[m, indices[k]], in_frac, out_frac)

    return rows


@dataclass(frozen=True)
class ConcatPart:
    """Features ``indices`` of ``tensor``, aligned from in_frac."""

    tensor: str
    indices: Int64Array
    in_frac: int


@dataclass(frozen=True)
class QuantConcat(QuantLayer):
    """Features of several int16 tensors, each aligned to out_frac."""

    name: str
    output: str
    parts: tuple[ConcatPart, ...]
    out_frac: int

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(part.tensor for part in self.parts)

    def check(self, checks: Checks) -> None:
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
        return tuple(Reading(part.tensor, part.in_frac) for part in self.parts)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        return {self.output: Written(self.out_frac, STATE_MAX)}

    def row_loops(self) -> tuple[RowLoop, ...]:
        begins = np.cumsum([0, *(len(part.indices) for part in self.parts)]).tolist()
        return tuple(
            RowLoop(concat_rows, (begin, part.indices, part.in_frac, self.out_frac), (part.tensor,))
            for begin, part in zip(begins, self.parts, strict=False)
        )

    def roundings(self) -> tuple[Rounding, ...]:
        return (Rounding(self.name, f"parts to {self.out_frac} bits", "int16"),)
