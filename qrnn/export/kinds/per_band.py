"""The C of a recurrent layer over time for each band: its step functions, called for one band after the other."""

from __future__ import annotations

from typing import ClassVar

from qrnn.export.c_text import copy
from qrnn.export.kinds.recurrent.layer import RecurrentCode, State
from qrnn.export.ports import Place
from qrnn.model.kinds.per_band import QuantPerBand


class PerBandCode(RecurrentCode):
    """The C of a layer of bands, whose states lie one after the other."""

    layer: QuantPerBand

    by_pointers: ClassVar[bool] = True

    def calls(self, number: int, x: str) -> list[str]:
        """Return a loop over the bands, which calls the step function of a direction; see `RecurrentCode.calls`."""
        layer = self.layer
        sizes = (layer.output_size, layer.hidden_size)
        states = [f"&{s.place}[{size}U * b]" for s, size in zip(self.states[number], sizes, strict=False)]
        given = ", ".join([*states, f"{x} + {layer.input_size}U * b"])
        return [
            f"for (uint32_t b = 0U; b < {layer.bands}U; b++) {{",
            f"    {self.functions[number]}({given});",
            "}",
        ]

    def written(self, y: Place, number: int, h: State) -> list[str]:
        """Return the statements that write what a direction gives at step t, band after band; see `RecurrentCode.written`."""
        B, D, P = self.layer.bands, len(self.layer.directions), self.layer.output_size
        if D == 1:
            return [copy(y.at("t"), h.place, B * P, "int16_t")]
        to, given = f"{y.at('t', number * P)} + {D * P}U * b", f"&{h.place}[{P}U * b]"
        line = copy(to, given, P, "int16_t")
        return [f"for (uint32_t b = 0U; b < {B}U; b++) {{", f"    {line}", "}"]


LAYER_CODE = PerBandCode
