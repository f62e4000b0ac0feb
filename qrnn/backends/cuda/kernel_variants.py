"""Kernels are made for these variants: `plan` chooses among them, `steps` and `inputs` compile them, `proofs` names the confirmed ones."""

from __future__ import annotations

from dataclasses import dataclass

from qrnn.backends.cuda.fragments import A_WORDS, B_WORDS
from qrnn.model.cell_codes import GRU_RESET_AFTER, GRU_RESET_BEFORE, LSTM, RNN

CELL_NAMES = {
    LSTM: "lstm",
    GRU_RESET_AFTER: "gru_reset_after",
    GRU_RESET_BEFORE: "gru_reset_before",
    RNN: "rnn",
}
"""The names that data files have for the codes of cells."""

BLOCK, GRID, LAUNCH = "block", "grid", "launch"
"""The barriers of step kernels."""

BARRIERS = (BLOCK, GRID, LAUNCH)

MOST_THREADS = 256
"""The largest number of threads of a block: each thread then has up to 255 registers."""


@dataclass(frozen=True)
class StepKind:
    """The variant of a step kernel."""

    cell: int
    gates: int
    """The number of gates that have rows in R."""
    operand_bytes: int
    """The bytes of an operand of h: 1, or 2 for a signed high and an unsigned low byte."""
    tiles: int
    """The tiles of 8 sequences that a block works on."""
    barrier: str
    resident: bool
    """Whether the block keeps its rows of R in shared memory for the whole sequence."""
    dp4a_sequences: int
    """1 or 2 sequences whose products are byte dot products (`dp4a`); 0 where the tensor cores multiply."""
    capability: tuple[int, int]

    @property
    def pairs(self) -> int:
        """Return the tiles of 16 rows that a group of 8 units has."""
        return -(-self.gates // 2)

    @property
    def barriers_per_step(self) -> int:
        """Return 2 where linear_before_reset = 0 (r and z, then n from all of r·h), else 1."""
        return 2 if self.cell == GRU_RESET_BEFORE else 1

    @property
    def name(self) -> str:
        """Return one line that describes the kernel."""
        product = f"dp4a for {self.dp4a_sequences}" if self.dp4a_sequences else f"tensor cores, {self.tiles} tiles"
        where = "shared memory" if self.resident else "cache"
        return (
            f"{CELL_NAMES[self.cell]} of {self.gates} gates, {8 * self.operand_bytes}-bit operands, {product}, "
            f"{self.barrier} barrier, R in {where}, compute capability {self.capability[0]}.{self.capability[1]}"
        )


@dataclass(frozen=True)
class ProductKind:
    """The variant of a kernel of W·x on the tensor cores: bytes of an operand, and whether a dense layer or a direction reads the sums."""

    operand_bytes: int
    dense: bool
    capability: tuple[int, int]

    @property
    def name(self) -> str:
        """Return one line that describes the kernel."""
        return (
            f"W·x of a {'dense layer' if self.dense else 'direction'}, {8 * self.operand_bytes}-bit operands, tensor cores, "
            f"compute capability {self.capability[0]}.{self.capability[1]}"
        )


Kind = StepKind | ProductKind


def shared_words(kind: StepKind, groups: int, depth: int) -> int:
    """Return the 32-bit words of shared memory that a block with ``groups`` groups of 8 units needs."""
    operands = (1 if kind.barrier != BLOCK else 2) * kind.tiles * kind.operand_bytes * depth * B_WORDS
    return operands + (groups * kind.pairs * depth * A_WORDS if kind.resident else 0)
