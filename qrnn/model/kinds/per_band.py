"""A recurrent layer over time for each band of features: all bands have the same weights, and each has a state of its own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from qrnn.model.kinds.recurrent.bands import Banded, QuantBanded
from qrnn.model.kinds.recurrent.grouping import EachBand
from qrnn.model.kinds.recurrent.layer import Recurrent
from qrnn.model.kinds.recurrent.quantized_layer import QuantRecurrent
from qrnn.model.kinds.recurrent.rule import quantize
from qrnn.model.layer_facts import Bytes, StateArray
from qrnn.model.parts import LEFT_OUT
from qrnn.model.surroundings import Checks, Plan


@dataclass(frozen=True)
class PerBand(Banded, Recurrent):
    """Run a recurrent layer over the T steps of each of ``bands`` B bands.

    x [N, T, B·I] holds the I features of a band one after the other, and ``output`` [N, T, B·D·P] the D·P of each band; ``h_n`` [N, D·B·P] and
    ``c_n`` [N, D·B·H] hold the last states, direction after direction and in each band after band, as do h_0 [B·P] and c_0 [B·H] of a
    direction. Other fields are those of `Recurrent`.
    """

    bands: int = 1

    @property
    def grouping(self) -> EachBand:
        """Return that each band of a sequence is a sequence."""
        return EachBand(self.bands)

    def quantize(self, plan: Plan) -> QuantPerBand:
        """Decide the formats of gate functions and states, and make the integer matrices and the integer layer."""
        made = quantize(plan, self, QuantPerBand, bands=self.bands)
        assert isinstance(made, QuantPerBand)
        return made


@dataclass(frozen=True)
class QuantPerBand(QuantBanded, QuantRecurrent):
    """Run a recurrent layer over time for each of ``bands`` bands: see `PerBand`, and `QuantRecurrent` for the other fields."""

    bands: int = field(default=1, metadata=LEFT_OUT)

    @property
    def state_bands(self) -> int:
        """Return that each band has a state of its own."""
        return self.bands

    @property
    def grouping(self) -> EachBand:
        """Return that each band of a sequence is a sequence."""
        return EachBand(self.bands)

    def states(self) -> tuple[StateArray, ...]:
        """Return h and c of all bands, of size 0 for a cell without c; their first axis is that of the directions."""
        h, c = super().states()
        return (
            replace(h, shape=(h.shape[0], self.bands * h.shape[1])),
            replace(c, shape=(c.shape[0], self.bands * c.shape[1])),
        )

    def check(self, checks: Checks) -> None:
        """Refuse tensors of other shapes than x [N, T, B·I], output [N, T, B·D·P], h_n [N, D·B·P] and c_n [N, D·B·H]."""
        self.check_bands(checks)
        B, D = self.bands, len(self.directions)
        checks.expect(self.h_n, B * D * self.output_size, False)
        if self.c_n is not None:
            checks.expect(self.c_n, B * D * self.hidden_size, False)

    def own_bytes(self) -> Bytes:
        """Return the bytes of a recurrent layer, with the states of all bands."""
        found = super().own_bytes()
        return replace(found, state=found.state * self.bands)
