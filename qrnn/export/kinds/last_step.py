"""The last step of a sequence is copied; no copy is needed where each step of a model is the last so far."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qrnn.export.c_text import copy, copy_constant
from qrnn.export.layer_code import LayerCode
from qrnn.export.ports import Place, StateField
from qrnn.model.kinds.last_step import QuantLastStep


class LastStepCode(LayerCode[QuantLastStep]):
    """The C of a last step: statements without a function. Where a step may give no row, the last row is a member of the state."""

    writes_anywhere = False

    def emit(self) -> None:
        """Add the member of the state for the last row, where a step may give no row."""
        self._kept = ""
        if self.site.counts_rows:
            member = f"last_{self.name.removeprefix(f'{self.site.name}_')}"
            self.site.state.append(StateField(member, "int16_t", self.features, self.layer.name, None))
            self._kept = f"state->{member}"

    @property
    def keeps_state(self) -> bool:
        """Return whether the last row is a member of the state."""
        return bool(self._kept)

    def initial(self) -> list[str]:
        """Return the statements that set the last row, before there is one, to the integers next to the real 0."""
        zero = self.site.model.tensors[self.layer.output].nearest_zero
        if not self._kept or not zero.any():
            return []
        array = self.code.shared_array("int16_t", f"{self.name}_zero", zero.astype(np.int32))
        return [copy_constant(self._kept, array, self.features, "int16_t")]

    def places(self) -> Mapping[str, Place]:
        """Return where the output lies without a copy, if it needs none."""
        return {self.layer.output: Place(self._kept)} if self._kept else {}

    def step(self) -> list[str]:
        """Return the statements that keep the row of a step."""
        tensors = self.site.tensors
        if self._kept:
            return [copy(self._kept, tensors.place(self.layer.input).at(), self.features, "int16_t")]
        tensors.places[self.layer.output] = tensors.place(self.layer.input)  # this step is the last one so far
        return []

    def run(self) -> list[str]:
        """Return the statements that copy the last row of a whole sequence."""
        tensors, read = self.site.tensors, self.layer.input
        y, x, rows = self.own_place().at(), tensors.place(read), tensors.rows_of(read)
        last = copy(y, x.at(f"({rows} - 1U)"), self.features, "int16_t")
        if not self.site.may_be_empty(read):
            return [last]
        zero = self.site.model.tensors[self.layer.output].nearest_zero.astype(np.int32)
        none = f"QRNN_CLEAR({y}, {self.features}U * sizeof(int16_t));"
        if zero.any():
            none = copy_constant(
                y, self.code.shared_array("int16_t", f"{self.name}_zero", zero), self.features, "int16_t"
            )
        return [f"if ({rows} == 0U) {{", f"    {none}", "} else {", f"    {last}", "}"]


LAYER_CODE = LastStepCode
