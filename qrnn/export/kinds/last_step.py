"""The C of layers that take the last step of a sequence: a copy, and none where each step of a model is the last so far."""

from __future__ import annotations

from collections.abc import Mapping

from qrnn.export.c_text import copy
from qrnn.export.layer_code import LayerCode
from qrnn.export.ports import Place, StateField
from qrnn.model.kinds.last_step import QuantLastStep


class LastStepCode(LayerCode[QuantLastStep]):
    """Statements without a function. Where a step may give no row, the last row is a member of the state."""

    writes_anywhere = False

    def emit(self) -> None:
        self._kept = ""
        if self.site.counts_rows:
            member = f"last_{self.name.removeprefix(f'{self.site.name}_')}"
            self.site.state.append(StateField(member, "int16_t", self.features, self.layer.name, None))
            self._kept = f"state->{member}"

    @property
    def keeps_state(self) -> bool:
        return bool(self._kept)

    def places(self) -> Mapping[str, Place]:
        return {self.layer.output: Place(self._kept)} if self._kept else {}

    def step(self) -> list[str]:
        tensors = self.site.tensors
        if self._kept:
            return [copy(self._kept, tensors.place(self.layer.input).at(), self.features, "int16_t")]
        tensors.places[self.layer.output] = tensors.place(self.layer.input)  # this step is the last one so far
        return []

    def run(self) -> list[str]:
        y, x = self.own_place().at(), self.site.tensors.place(self.layer.input)
        return [copy(y, x.at("(length - 1U)"), self.features, "int16_t")]


LAYER_CODE = LastStepCode
