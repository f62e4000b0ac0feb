"""The C of layers that take the last step of a sequence: a copy, and none where a model streams."""

from __future__ import annotations

from qrnn.export.c_text import copy
from qrnn.export.layer_code import LayerCode
from qrnn.model.kinds.last_step import QuantLastStep


class LastStepCode(LayerCode[QuantLastStep]):
    """Statements without a function."""

    writes_anywhere = False

    def emit(self) -> None:
        return

    def step(self) -> list[str]:
        tensors = self.site.tensors
        tensors.places[self.layer.output] = tensors.place(self.layer.input)  # this step is the last one so far
        return []

    def run(self) -> list[str]:
        y, x = self.own_place().at(), self.site.tensors.place(self.layer.input)
        return [copy(y, x.at("(length - 1U)"), self.features, "int16_t")]


LAYER_CODE = LastStepCode
