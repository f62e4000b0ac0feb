"""Layers that compute each feature from one feature of each of two tensors have this in common; which ones, two lists of indices say.

So a tensor of one feature per band goes with one of several channels, or the two halves of a tensor go with each other, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qrnn.model.layer import QuantLayer
from qrnn.model.layer_facts import Bytes, Reading, Written
from qrnn.model.parts import STATE_MAX, FloatArray, IndexArray, Int64Array, TensorFormat, require
from qrnn.model.surroundings import Checks, Equations
from qrnn.model.two_inputs import TwoInputs


@dataclass(frozen=True)
class IndexedInputs(TwoInputs):
    """A layer whose feature k is computed from feature left_index[k] of ``left`` and feature right_index[k] of ``right``.

    They may be one tensor.
    """

    left_index: IndexArray
    right_index: IndexArray

    def operands(self, run: Equations) -> tuple[FloatArray, FloatArray]:
        """Return both operands, [N, T, F] or [N, F] with the features of the output."""
        return run.read(self.left)[..., self.left_index], run.read(self.right)[..., self.right_index]


@dataclass(frozen=True)
class QuantIndexedInputs(QuantLayer):
    """An integer layer whose feature k reads feature left_index[k] of ``left`` and right_index[k] of ``right``, all int16."""

    name: str
    left: str
    right: str
    output: str
    left_index: Int64Array
    right_index: Int64Array
    left_frac: int
    right_frac: int
    out_frac: int

    def __post_init__(self) -> None:
        fracs = (self.left_frac, self.right_frac)
        require(
            min(fracs) >= 0 and max(fracs) <= 15 and -16 <= self.out_frac <= 15,
            f"layer {self.name}: fraction bits {fracs} not in 0…15, or out_frac {self.out_frac} not in -16…15",
        )
        require(
            self.left_index.ndim == self.right_index.ndim == 1
            and self.left_index.size == self.right_index.size > 0
            and min(self.left_index.min(), self.right_index.min()) >= 0,
            f"layer {self.name}: indices {list(self.left_index.shape)} and {list(self.right_index.shape)}, expected as many, from 0 on",
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of both inputs."""
        return (self.left, self.right)

    @property
    def clamps_output(self) -> bool:
        """Return True: results are saturated to int16."""
        return True

    def check(self, checks: Checks) -> None:
        """Refuse indices outside of their tensors, and tensors of which some go over time and others do not."""
        has_time = checks.tensors[self.left].has_time
        for tensor, index in ((self.left, self.left_index), (self.right, self.right_index)):
            features = checks.tensors[tensor].features
            checks.expect(tensor, features, has_time)
            if index.max() >= features:
                checks.fail(f"reads feature {int(index.max())} of {tensor!r}, which has {features}")
        checks.expect(self.output, self.left_index.size, has_time)

    def readings(self) -> tuple[Reading, ...]:
        """Return that each input is read as fixed-point, with its own fraction bits."""
        return (Reading(self.left, self.left_frac), Reading(self.right, self.right_frac))

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output is int16 with out_frac fraction bits."""
        return {self.output: Written(self.out_frac, STATE_MAX)}

    def own_bytes(self) -> Bytes:
        """Return the bytes of the indices."""
        return Bytes(rows=self.left_index.nbytes + self.right_index.nbytes)
