"""Concatenations are computed by targets/runtime/qrnn_vectors.h."""

from __future__ import annotations

import numpy as np

from qrnn.errors import UnsupportedError
from qrnn.export.code import c_function
from qrnn.export.layer_code import LayerCode
from qrnn.model.kinds.concat import QuantConcat

MOST_SHORT = 0xFFFF
"""The largest index that is kept in 16 bits."""


class ConcatCode(LayerCode[QuantConcat]):
    """The C of a concatenation: the indices of its features, and the function (part_0, part_1, …, y)."""

    def emit(self) -> None:
        """Add the arrays of indices, and the function that gathers each part."""
        layer, code = self.layer, self.code
        if not layer.parts:
            raise UnsupportedError(f"layer {layer.name}: a concatenation of nothing")
        code.headers.add("qrnn_vectors.h")
        body, at = [], 0
        for number, part in enumerate(layer.parts):
            plain = part.indices.min() >= 0 and part.indices.max() <= MOST_SHORT
            function, kind = ("select", "uint16_t") if plain else ("select_or_zero", "int32_t")
            code.features.add(f"QRNN_USE_{function.upper()}")
            index = code.shared_array(kind, f"{self.name}_index", part.indices.astype(np.int32))
            count, fracs = len(part.indices), f"{part.in_frac}U, {layer.out_frac}U"
            body.append(f"qrnn_{function}(part_{number}, {index}, {count}U, {fracs}, &y[{at}]);")
            at += count
        parameters = ", ".join(f"const int16_t *part_{number}" for number in range(len(layer.parts)))
        c_function(code, self.name, "Features of other vectors.", parameters, body)


LAYER_CODE = ConcatCode
