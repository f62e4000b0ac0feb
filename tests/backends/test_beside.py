"""Products of the inputs that go beside or before a step's own equal the reference, whatever the lengths, the sizes and the order."""

from __future__ import annotations

import numpy as np
import pytest

from backends.isa_choice import CELLS, FUSED_ISAS
from backends.raw_layers import FusableShape, fusable_model
from backends.test_isas import check_raw
from qrnn.backends.cpu.isa import EMULATED, ISAS, isa_named
from qrnn.backends.cpu.packed import FusedRun
from qrnn.backends.cpu.threads import team
from qrnn.model.kinds.recurrent.definition import CellKind

NAMES = [isa.name if isa.name in FUSED_ISAS else EMULATED + isa.name for isa in ISAS if isa.beside]
"""The instruction sets that have them, emulated where the machine lacks them."""

AROUND = ((7, 8), (9, 0), (40,), (1, 17))
"""Lengths of one sequence or two around the steps whose inputs' products go together."""

SIZES = ((5, 9), (33, 250), (70, 3), (64, 64))


@pytest.mark.shard_by("cell", "after")
@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("isa", NAMES)
@pytest.mark.parametrize("limit", [127, pytest.param(32767, marks=pytest.mark.matrix)])
@pytest.mark.parametrize(("cell", "after"), CELLS)
def test_lengths_and_sizes(cell: CellKind, after: bool, limit: int, isa: str) -> None:
    """States of eight and of sixteen bits; the inputs have eight."""
    for seed, (hidden, inputs) in enumerate(SIZES):
        rng = np.random.default_rng(seed)
        shape = FusableShape(cell, after, hidden, inputs, 127, limit, (bool(seed % 2),), simple=True)
        model = fusable_model(rng, shape)
        layer = model.recurrent_layers[0]
        assert FusedRun(isa_named(isa), layer, layer.directions[0]).isa.halves == 2
        for lengths in AROUND:
            check_raw(model, rng, lengths, (isa,), beside_bytes=0)


@pytest.mark.skipif(not FUSED_ISAS, reason="no instruction set of fused steps")
@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.matrix)])
def test_few_steps_at_once(threads: int) -> None:
    """Products of the inputs of a large layer, which are computed before their steps, for sixteen steps at once."""
    rng = np.random.default_rng(1)
    model = fusable_model(rng, FusableShape("gru", True, 70, 33, 127, 127, (False, True), simple=True))
    for lengths in ((15,), (33, 16)):
        check_raw(model, rng, lengths, FUSED_ISAS[:1], threads, ahead_bytes=0, beside_bytes=1 << 40)


@pytest.mark.matrix
@pytest.mark.skipif(not team.SUPPORTED, reason="no thread teams on this platform")
@pytest.mark.parametrize("isa", [name for name in NAMES if name in FUSED_ISAS])
@pytest.mark.parametrize(("cell", "after"), CELLS)
def test_teams(cell: CellKind, after: bool, isa: str) -> None:
    rng = np.random.default_rng(3)
    for hidden, inputs in SIZES[1:]:
        model = fusable_model(rng, FusableShape(cell, after, hidden, inputs, 127, 127, (False, True), simple=True))
        check_raw(model, rng, (41,), (isa,), 2, beside_bytes=0)
