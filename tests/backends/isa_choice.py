"""Which instruction set the default run takes for which cell: each pair takes seconds to compile, so that each cell has one of its own."""

from __future__ import annotations

import pytest

from qrnn.backends.cpu.isa import PLAIN, available_isas
from qrnn.model.kinds.recurrent.definition import CellKind

FUSED_ISAS = tuple(name for name in available_isas() if name != PLAIN)
CELLS: tuple[tuple[CellKind, bool], ...] = (("lstm", True), ("gru", True), ("gru", False), ("rnn", True))


def usual_isa(cell: str, after: bool = True) -> str:
    """The instruction set by which the default run computes a cell; together the cells have all of them, or the first four."""
    number = next(k for k, (name, way) in enumerate(CELLS) if name == cell and (cell != "gru" or way == after))
    return FUSED_ISAS[number % len(FUSED_ISAS)] if FUSED_ISAS else PLAIN


def _pair(isa: str, cell: CellKind, after: bool) -> pytest.param:  # type: ignore[valid-type]
    usual = isa in (usual_isa(cell, after), PLAIN if cell == "lstm" else "")
    return pytest.param(isa, cell, after, marks=() if usual else pytest.mark.matrix, id=f"{isa}-{cell}-{after}")


isas_and_cells = pytest.mark.parametrize(
    ("isa", "cell", "after"), [_pair(isa, *cell) for isa in available_isas() for cell in CELLS]
)
"""Every instruction set with every cell; all but the usual pairs are marked ``matrix``."""
