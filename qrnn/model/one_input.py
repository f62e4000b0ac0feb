"""Integer layers that read one int16 tensor and write another have this in common: fraction bits, formats, and that results are saturated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qrnn.model.layer import QuantLayer
from qrnn.model.layer_facts import Reading, Written
from qrnn.model.parts import STATE_MAX, TensorFormat, require


class QuantOneInput(QuantLayer):
    """An integer layer that reads int16 with in_frac fraction bits, and writes int16 with out_frac fraction bits, saturated."""

    if TYPE_CHECKING:  # dataclasses' fields
        in_frac: int
        out_frac: int

    def check_fracs(self, least: int = -16) -> None:
        """Refuse fraction bits of the input outside of 0…15, and of the output outside of ``least``…15."""
        require(
            0 <= self.in_frac <= 15 and least <= self.out_frac <= 15,
            f"layer {self.name}: in_frac {self.in_frac} not in 0…15, or out_frac {self.out_frac} not in {least}…15",
        )

    @property
    def clamps_output(self) -> bool:
        """Return True: results are saturated to int16."""
        return True

    def readings(self) -> tuple[Reading, ...]:
        """Return that the input is read as fixed-point with in_frac fraction bits."""
        return (Reading(self.input, self.in_frac),)

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output is int16 with out_frac fraction bits."""
        return {self.output: Written(self.out_frac, STATE_MAX)}
