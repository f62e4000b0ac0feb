"""Integer layers that add the squares of two features in 64 bits have this in common."""

from __future__ import annotations

from dataclasses import dataclass

from qrnn.arithmetic.roots import SQUARES_MAX
from qrnn.model.indexed_inputs import QuantIndexedInputs
from qrnn.model.parts import require


@dataclass(frozen=True)
class QuantSquares(QuantIndexedInputs):
    """An integer layer of a² + b² + epsilon, with 2 · ``scale`` fraction bits and less than 2^62; ``epsilon`` is an integer in their units."""

    scale: int
    epsilon: int

    def __post_init__(self) -> None:
        super().__post_init__()
        where, fracs = f"layer {self.name}", (self.left_frac, self.right_frac)
        require(
            max(fracs) <= self.scale <= 15 + min(fracs),
            f"{where}: scale {self.scale} not in {max(fracs)}…{15 + min(fracs)}",
        )
        require(0 <= self.epsilon < SQUARES_MAX, f"{where}: epsilon {self.epsilon} not in 0…2^61 - 1")

    @property
    def square_shifts(self) -> tuple[int, int]:
        """Return by how many bits each of both squares is shifted to 2 · scale fraction bits."""
        return 2 * (self.scale - self.left_frac), 2 * (self.scale - self.right_frac)
