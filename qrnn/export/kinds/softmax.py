"""Softmax layers are computed by targets/runtime/qrnn_softmax.h."""

from __future__ import annotations

from qrnn.export.code import c_function
from qrnn.export.layer_code import LayerCode
from qrnn.model.kinds.softmax import QuantSoftmax


class SoftmaxCode(LayerCode[QuantSoftmax]):
    """The C of a softmax layer: the table of exp(-d) and the function (x, y)."""

    def emit(self) -> None:
        """Add the table, and the function that normalizes a vector."""
        table = self.code.shared_array("uint16_t", "table_exp", self.layer.table)
        self.code.headers.add("qrnn_softmax.h")
        call = f"qrnn_softmax(x, {self.features}U, {self.layer.in_frac}U, {table}, y);"
        c_function(self.code, self.name, "Probabilities with 14 fraction bits.", "const int16_t *x", [call])


LAYER_CODE = SoftmaxCode
