"""The price of a model in instructions of a generic core, by which a search for widths counts cost.

One table serves every target, so that the same model and data give the same widths wherever they go. It is no forecast for a device:
`qrnn fit` counts that device's own instructions. docs/tradeoffs.md has the counted figures that the table lies between.
"""

from __future__ import annotations

from types import MappingProxyType

from qrnn.model.kinds.rescale import QuantRescale
from qrnn.model.parts import QuantMatrix4
from qrnn.model.quant_model import QuantModel

PRICES = MappingProxyType(
    {
        "product of 8 bits": 1.0,
        "product of 16 bits": 1.5,
        "product with a weight of 4 bits": 0.5,
        "gate value": 40.0,
        "value rescaled": 8.0,
        "step": 500.0,
    }
)
"""Instructions by what they are for: a multiply-add by the bits of its operand, what a 4-bit weight adds to it, a value of a gate function with
its share of the cell, a value of a narrow copy (`qrnn.model.kinds.rescale`), and what a time step takes beside those."""

MUCH_MORE = 1.25
"""Where the widths that were chosen cost more than this against 8 bits for all, a conversion shows both."""


def step_instructions(model: QuantModel, narrow: bool = False) -> float:
    """Return the instructions of a time step in which every layer runs once; ``narrow``: those that 8-bit operands throughout would take."""
    found = PRICES["step"]
    for matrix in model.matrices:
        wide = matrix.operand.limit > 127 and not narrow
        price = PRICES["product of 16 bits" if wide else "product of 8 bits"]
        if isinstance(matrix.matrix, QuantMatrix4):
            price += PRICES["product with a weight of 4 bits"]
        found += matrix.times * matrix.matrix.weight.size * price
    for layer in model.recurrent_layers:
        found += PRICES["gate value"] * layer.hidden_size * len(layer.roles) * len(layer.directions)
    copies = [layer for layer in model.layers if isinstance(layer, QuantRescale) and not narrow]
    return found + PRICES["value rescaled"] * sum(len(layer.multiplier) for layer in copies)
