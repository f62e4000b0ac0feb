"""Several sequences of a recurrent layer of few units, side by side as one sequence of a layer that fills the lanes of a block.

g copies of a direction are one direction of g · H units, whose matrices have the copies' weights on their diagonals and zeros elsewhere. Each
row's sum is the same number, so that the integers are those of the copies. Products take g times as many multiply-adds, which instructions
for dot products have to spare; what follows them, gates and states, takes a g-th part of the blocks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.backends.cpu.isa import Isa
from qrnn.backends.cpu.packed import can_fuse
from qrnn.model.cell_codes import CODES
from qrnn.model.kinds.recurrent.bands import QuantBanded
from qrnn.model.kinds.recurrent.quantized import QuantDirection, QuantPeephole
from qrnn.model.parts import Matrix, QuantInitialState, QuantMatrix


def most_copies(layer: QuantBanded, isa: Isa | None) -> int:
    """Return how many copies of a layer's units the lanes of a block hold; 1 for one whose steps are not fused."""
    fused = layer.declaration.form(layer) in CODES and all(can_fuse(d) for d in layer.directions)
    if isa is None or not fused:
        return 1
    lanes = isa.with_int16_lanes().units if isa.int16_lanes else isa.units
    return max(1, lanes // layer.hidden_size)


def copies_of(layer: QuantBanded, copies: int, starts: int) -> tuple[QuantDirection, ...]:
    """Return ``copies`` of each direction of a layer as one, with its initial states ``starts`` times."""
    return tuple(_copies(d, len(layer.gates), copies, starts) for d in layer.directions)


def _copies(d: QuantDirection, gates: int, copies: int, starts: int) -> QuantDirection:
    """Return the direction for one of `copies_of`."""

    def rows(values: npt.NDArray[Any]) -> Any:
        return np.tile(values.reshape(gates, 1, -1), (1, copies, 1)).reshape(-1)

    def matrix(given: Matrix) -> QuantMatrix:
        weight = given.weight.reshape(gates, -1, given.weight.shape[1])
        each = np.stack([np.kron(np.eye(copies, dtype=np.int8), part) for part in weight])
        return QuantMatrix(
            each.reshape(-1, copies * given.weight.shape[1]).astype(np.int8), rows(given.bias), rows(given.multiplier),
            rows(given.left_shift), given.operand_limit,
        )  # fmt: skip

    def start(state: QuantInitialState) -> QuantInitialState:
        return replace(state, value=np.tile(state.value, starts))

    return replace(
        d,
        ih=matrix(d.ih),
        hh=matrix(d.matrix_hh),
        pre_shift=rows(d.pre_shift),
        h_0=start(d.h_0),
        c_0=None if d.c_0 is None else start(d.c_0),
        peephole=None if d.peephole is None else QuantPeephole(rows(d.peephole.weight), rows(d.peephole.shift)),
    )
