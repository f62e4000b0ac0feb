"""How large the layers of a float model are: their parameters, and the multiply-adds of their matrices."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.layer import Layer

OPERANDS = ("x", "h")
"""The parts of `Layer.width_parts` that are operands of products; the others are the same products' weights."""


def kind_text(layer: Layer) -> str:
    """Return the kind of a layer in words: the cell of a recurrent one, else the name of its class."""
    if isinstance(layer, Recurrent):
        directions = "" if len(layer.directions) == 1 else ", both directions"
        return layer.cell + (directions or (", backwards" if layer.backward else ""))
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(layer).__name__).lower()


def multiply_adds(layer: Layer) -> int:
    """Return the multiply-adds of the layer's matrices for one step of its output, or one sequence where that is not over time."""
    return sum(part.products for name, part in layer.width_parts().items() if name in OPERANDS)


def parameters(layer: Layer) -> int:
    """Return the number of real parameters of a layer: weights, biases, scales, tables, initial states."""
    count, left, seen = 0, [layer], set[int]()
    while left:
        value: Any = left.pop()
        if isinstance(value, np.ndarray):
            if value.dtype.kind == "f" and id(value) not in seen:
                seen.add(id(value))
                count += value.size
        elif isinstance(value, (tuple, list)):
            left.extend(value)
        elif is_dataclass(value):
            left.extend(getattr(value, field.name) for field in fields(value))
    return count
