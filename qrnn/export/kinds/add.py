"""Sums are computed by targets/runtime/qrnn_vectors.h."""

from __future__ import annotations

from qrnn.export.code import c_function
from qrnn.export.layer_code import LayerCode
from qrnn.model.kinds.add import QuantAdd


class AddCode(LayerCode[QuantAdd]):
    """The C of a sum: the function (a, b, y)."""

    in_place = True

    def emit(self) -> None:
        """Add the function that calls the runtime's sum of two vectors."""
        self.code.headers.add("qrnn_vectors.h")
        self.code.features.add("QRNN_USE_ADD")
        shifts = ", ".join(f"{s}U" for s in self.layer.shifts)
        call = f"qrnn_add(a, b, {self.features}U, {shifts}, y);"
        c_function(self.code, self.name, "A sum.", "const int16_t *a, const int16_t *b", [call])


LAYER_CODE = AddCode
