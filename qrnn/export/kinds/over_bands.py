"""The C of a recurrent layer over the bands of each time step: its step functions, called for one band after the other from the start."""

from __future__ import annotations

from qrnn.export.c_text import copy
from qrnn.export.code import c_function
from qrnn.export.kinds.recurrent.layer import direction_ending, direction_function, note_promises
from qrnn.export.layer_code import LayerCode
from qrnn.model.kinds.over_bands import QuantOverBands


class OverBandsCode(LayerCode[QuantOverBands]):
    """The C of such a layer: a function of one time step."""

    def emit(self) -> None:
        """Add the step function of each direction, and the function that goes over the bands by them."""
        layer, code = self.layer, self.code
        note_promises(code, layer)
        I, D, P, H = layer.input_size, len(layer.directions), layer.output_size, layer.hidden_size
        body = [f"int16_t h[{P}];", *([f"int32_t c[{H}];"] if layer.c_n is not None else []), ""]
        given = "h, c" if layer.c_n is not None else "h"
        for number, d in enumerate(layer.directions):
            name = self.name + (direction_ending(layer, number) or "_bands")
            step = direction_function(code, self.site.name, layer, number, name)
            for kind, state, start in (("int16_t", "h", d.h_0), ("int32_t", "c", d.c_0)):
                if start is None:
                    continue
                if start.value.any():
                    constant = code.shared_array(kind, f"initial_{name}_{state}", start.value)
                    body.append(f"QRNN_COPY_CONSTANT({state}, {constant}, sizeof({state}));")
                else:
                    body.append(f"QRNN_CLEAR({state}, sizeof({state}));")
            B = layer.bands
            head = f"uint32_t b = {B}U; b-- > 0U;" if d.reverse else f"uint32_t b = 0U; b < {B}U; b++"
            at = f"{D * P}U * b + {number * P}U" if number else f"{D * P}U * b"
            line = copy(f"&y[{at}]", "h", P, "int16_t")
            body += [
                f"for ({head}) {{",
                f"    {step}({given}, &x[{I}U * b]);",
                f"    {line}",
                "}",
            ]
        what = f"A step of {layer.name}: its {layer.bands} bands, one after the other."
        c_function(code, self.name, what, "const int16_t *x", body)


LAYER_CODE = OverBandsCode
