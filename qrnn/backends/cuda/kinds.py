"""What step kernels are made for; of this `plan` chooses and `steps` compiles."""

from __future__ import annotations

from dataclasses import dataclass

from qrnn.backends.cuda.fragments import A_WORDS, B_WORDS
from qrnn.model.cell_codes import GRU_RESET_BEFORE

BLOCK, GRID, LAUNCH = "block", "grid", "launch"
"""Barriers."""

MOST_THREADS = 256
"""Of a block: each then has up to 255 registers."""


@dataclass(frozen=True)
class StepKind:
    """What a step kernel is made for: planes of operands, tiles of sequences that a block has; ``dot``: sequences that dp4a serves, or 0."""

    cell: int
    gates: int
    planes: int
    tiles: int
    barrier: str
    resident: bool
    dot: int
    capability: tuple[int, int]

    @property
    def pairs(self) -> int:
        """Tiles of 16 rows that a group of 8 units has."""
        return -(-self.gates // 2)

    @property
    def ticks(self) -> int:
        """Of a step."""
        return 2 if self.cell == GRU_RESET_BEFORE else 1


def shared_words(kind: StepKind, groups: int, depth: int) -> int:
    """32-bit words of shared memory that a block with so many groups of units needs."""
    operands = (1 if kind.barrier != BLOCK else 2) * kind.tiles * kind.planes * depth * B_WORDS
    return operands + (groups * kind.pairs * depth * A_WORDS if kind.resident else 0)
