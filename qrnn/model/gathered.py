"""Integer layers that gather features of past steps from a ring, which all have the input's fraction bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qrnn.model.layer import QuantLayer
from qrnn.model.layer_facts import Part, Reading
from qrnn.model.parts import Int64Array
from qrnn.model.surroundings import Checks


class QuantGathered(QuantLayer):
    """A layer whose outputs are features ``indices`` of steps of ``input``, with ``frac`` fraction bits."""

    if TYPE_CHECKING:  # dataclasses' fields
        input: str
        output: str
        frac: int
        indices: Int64Array

    @property
    def features(self) -> int:
        """Return the number of features of a step of the ring, up to the last one that is read."""
        return int(self.indices.max()) + 1

    def check(self, checks: Checks) -> None:
        """Refuse tensors without time, an input with fewer features than are read, and an output of others."""
        checks.expect(self.output, self.indices.size, True)
        self.check_read(checks)

    def check_read(self, checks: Checks) -> None:
        """Refuse an input without time, or with fewer features than are read."""
        found = checks.tensors[self.input].features
        if found < self.features:
            checks.fail(f"reads feature {self.features - 1} of {self.input!r}, which has {found}")
        checks.expect(self.input, found, True)

    def readings(self) -> tuple[Reading, ...]:
        """Return that the input is read as fixed-point with ``frac`` fraction bits."""
        return (Reading(self.input, self.frac),)

    def integer_parts(self) -> tuple[Part, ...]:
        """Return no parts: a copy rounds nothing."""
        return ()
