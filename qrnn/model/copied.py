"""Integer layers that copy values as they are, which keep the format of what they copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from qrnn.model.formats import fraction_bits_of
from qrnn.model.layer import QuantLayer
from qrnn.model.layer_facts import Part, Reading, Written
from qrnn.model.parts import TensorFormat


class QuantCopy(QuantLayer):
    """A layer whose output has the values of the tensor `copied`."""

    carries_offset: ClassVar[bool] = True

    @property
    def copied(self) -> str:
        """Return the name of the tensor whose values are copied: the first input."""
        return self.inputs[0]

    def readings(self) -> tuple[Reading, ...]:
        """Return that what is copied is read as any fixed-point tensor."""
        return (Reading(self.copied),)

    def integer_parts(self) -> tuple[Part, ...]:
        """Return no parts: a copy rounds nothing."""
        return ()

    def formats(self, tensors: Mapping[str, TensorFormat]) -> dict[str, Written]:
        """Return that the output has the fraction bits, the limit and the offset of what is copied."""
        source = tensors[self.copied]
        frac = fraction_bits_of(source)
        assert frac is not None, "a tensor that is read is fixed-point or scaled"
        return dict.fromkeys(self.outputs, Written(frac, source.limit, source.offset))
