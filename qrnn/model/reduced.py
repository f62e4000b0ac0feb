"""What the layers have in common that write sums, means, or largest and least values of several elements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from qrnn.model.formats import fraction_bits, wanted_by_reader
from qrnn.model.layer import Layer
from qrnn.model.layer_facts import Rounding, Written
from qrnn.model.one_input import QuantOneInput
from qrnn.model.parts import LEFT_OUT, STATE_MAX, FloatArray, TensorFormat, require
from qrnn.model.surroundings import Plan

Reduction = Literal["mean", "sum", "max", "min"]
"""What is made of several elements: one rounded division of their exact sum, their sum, or the largest or the least of them."""

MOST_FEATURES = 1 << 24
"""The most features of a step of an input."""


def mean_frac(plan: Plan, tensor: str, in_frac: int) -> int:
    """Give means of values with ``in_frac`` fraction bits their own, and return them: what the reader wants, or else what calibration showed.

    Means that vary less than their values have more fraction bits than these. They never need fewer, since they lie within the same range.
    """
    wanted = wanted_by_reader(plan, tensor)
    largest = plan.largest(tensor)
    frac, reason = max(in_frac, fraction_bits(largest)), f"|y| ≤ {largest:.3g} in calibration"
    if wanted is not None:
        frac, reason = wanted[0], f"the input format of {wanted[1]}"
    plan.decide(f"{tensor}: int16 with {frac} fraction bits ({reason})")
    plan.set_format(tensor, frac)
    return frac


@dataclass(frozen=True)
class Reduced(Layer):
    """A layer that makes one feature of every ``count`` of a step, which are ``inner`` features apart.

    A step of the input is [outer, count, inner], row-major, and one of the output [outer, inner]. With ``count`` 1 each feature is by itself.
    """

    name: str
    input: str
    output: str
    function: Reduction
    features: int
    """The features of the output, outer · inner."""
    count: int = 1
    inner: int = 1

    least_frac: ClassVar[int] = 0

    lowest_frac: ClassVar[int] = Layer.least_frac
    """The fewest fraction bits of a sum, whose units may be larger than 1."""

    @property
    def homogeneous(self) -> bool:
        """Return whether each feature of the output depends on one feature of the input alone."""
        return self.count == 1

    def grouped(self, x: FloatArray) -> FloatArray:
        """Return x [..., F] as [..., outer, count, inner]."""
        return x.reshape(*x.shape[:-1], self.features // self.inner, self.count, self.inner)

    def fracs(self, plan: Plan) -> tuple[int, int]:
        """Decide the output's format, and return the fraction bits of the input and of the output."""
        in_frac = plan.frac(self.input, self.name)
        if self.function in ("max", "min"):
            plan.copy_format(self.input, self.output)
            return in_frac, in_frac
        if self.function == "mean":
            return in_frac, mean_frac(plan, self.output, in_frac)
        wanted = wanted_by_reader(plan, self.output)
        largest = plan.largest(self.output)
        least = max((reader.least_frac for reader in plan.readers(self.output)), default=self.lowest_frac)
        out_frac = wanted[0] if wanted is not None else fraction_bits(largest, in_frac, least)
        why = f"the input format of {wanted[1]}" if wanted is not None else f"|y| ≤ {largest:.3g} in calibration"
        plan.decide(f"{self.output}: int16 with {out_frac} fraction bits ({why})")
        plan.set_format(self.output, out_frac)
        return in_frac, out_frac


@dataclass(frozen=True)
class QuantReduced(QuantOneInput):
    """An integer layer that makes one feature of every ``count`` of a step; see `Reduced`.

    The output is int16 with out_frac fraction bits; ``max`` and ``min`` have those of the input.
    """

    name: str
    input: str
    output: str
    function: Reduction
    features: int
    in_frac: int
    out_frac: int
    count: int = field(default=1, metadata=LEFT_OUT)
    inner: int = field(default=1, metadata=LEFT_OUT)

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        require(1 <= self.features <= MOST_FEATURES, f"{where}: features {self.features}")
        require(1 <= self.count <= MOST_FEATURES // self.features, f"{where}: {self.features} times {self.count}")
        require(
            self.inner >= 1 and self.features % self.inner == 0, f"{where}: {self.features} features by {self.inner}"
        )
        self.check_fracs(Reduced.lowest_frac if self.function == "sum" else 0)
        require(not self.compares or self.in_frac == self.out_frac, f"{where}: {self.function} in another format")

    @property
    def compares(self) -> bool:
        """Return whether the layer takes the largest or the least element."""
        return self.function in ("max", "min")

    @property
    def sign(self) -> int:
        """Return 1 for the largest element, and -1 for the least, which is the largest of those with the other sign."""
        return -1 if self.function == "min" else 1

    @property
    def shifts(self) -> tuple[int, int]:
        """Return by how many bits a sum is shifted left, and by how many right, for the output's fraction bits."""
        by = self.out_frac - self.in_frac
        return max(by, 0), max(-by, 0)

    @property
    def clamps_output(self) -> bool:
        """Return whether the output is saturated to int16: sums are, and means in a format that is finer than the input's."""
        return not self.compares

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output has out_frac fraction bits; the largest and the least have the limit of the input."""
        return {self.output: Written(self.out_frac, tensors[self.input].limit if self.compares else STATE_MAX)}

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding of a sum or a mean; the largest and the least are copies."""
        if self.compares:
            return ()
        return (Rounding(self.name, f"each {self.function}, once, to {self.out_frac} bits", "int16"),)


def reduced(function: Reduction, values: FloatArray, axis: int) -> FloatArray:
    """Return the mean, the sum, the largest or the least of values along an axis, in float64."""
    found: FloatArray = getattr(np, function)(values, axis=axis)
    return found
