"""Pointwise layers are computed by targets/runtime/qrnn_pointwise.h."""

from __future__ import annotations

from qrnn.export.code import c_function
from qrnn.export.layer_code import LayerCode
from qrnn.model.kinds.pointwise import QuantPointwise


class PointwiseCode(LayerCode[QuantPointwise]):
    """The C of a pointwise layer: a gate function and the function (x, y)."""

    in_place = True

    def emit(self) -> None:
        """Add the gate function, and the function that applies it to every element."""
        layer, function = self.layer, self.layer.function
        gate = self.code.gates(f"{self.name}_gate", [function])
        self.code.headers |= {"qrnn_pointwise.h", "qrnn_contract_lanes.h"}
        formats = f"{layer.in_frac}U, {function.in_frac}U, {function.out_frac - layer.out_frac}U"
        call = f"qrnn_pointwise({gate}, x, {self.features}U, {formats}, y);"
        c_function(self.code, self.name, function.name + ".", "const int16_t *x", [call])


LAYER_CODE = PointwiseCode
