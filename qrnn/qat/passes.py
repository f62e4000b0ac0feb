"""What backpropagation through time is given of a direction, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass

from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.recurrent.direction import Direction
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.qat.numbers import Steps
from qrnn.qat.values import Values


@dataclass
class DirectionPass:
    """One direction of a layer, its forward pass and what is wanted of it, with the steps in the order of processing.

    ``x`` [N, T, I] is as the matrix reads it; ``before`` holds h [N, P] and c [N, H] before the first step; ``of_h`` [N, T, P], ``of_last``
    [N, P] and ``of_cell`` [N, H] are the gradients of h at every step, and of h and c after the last one. ``wants_x`` asks for that of x.
    """

    values: Values
    layer: Recurrent
    number: int
    x: FloatArray
    steps: Steps
    before: tuple[FloatArray, FloatArray]
    lengths: IndexArray
    of_h: FloatArray
    of_last: FloatArray
    of_cell: FloatArray
    wants_x: bool

    @property
    def d(self) -> Direction:
        """Return the float direction."""
        return self.layer.directions[self.number]

    @property
    def key(self) -> str:
        """Return the name of the direction in the model."""
        return self.layer.keys[self.number]


@dataclass
class DirectionGradients:
    """The gradients of a direction.

    ``x`` [N, T, I] is that of x, or None where nobody wants it, ``h`` [N, P] and ``c`` [N, H] are those of the states before the first step,
    and ``arrays`` those of the direction's arrays, by path.
    """

    x: FloatArray | None
    h: FloatArray
    c: FloatArray
    arrays: dict[str, FloatArray]
