"""The formats of a direction are packed into one array here, for compiled code."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np

from qrnn.model.kinds.recurrent.quantized import QuantDirection, QuantRecurrentDefinition
from qrnn.model.parts import Int64Array

H_SHIFT, H_LIMIT, X_SHIFT, X_LIMIT = 0, 1, 2, 3
INPUT_FRAC, FORGET_FRAC, PRODUCT, ARGUMENT, RESET_FRAC, UPDATE_FRAC, CANDIDATE, HIDDEN = 4, 5, 6, 7, 8, 9, 10, 11
"""Places in the array: those of the operands of h and x, then `qrnn.model.kinds.recurrent.quantized.CellShifts` in its order."""

FORMATS = 12


def pack_formats(layer: QuantRecurrentDefinition, d: QuantDirection) -> Int64Array:
    """Return the formats of one direction, [FORMATS] int64."""
    h, x = layer.h_operand, layer.x_operand
    return np.array([h.shift, h.limit, x.shift, x.limit, *astuple(layer.shifts(d))], np.int64)
