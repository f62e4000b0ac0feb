"""Four-bit weights on the cpu backend: every way to read them equals the reference, and each is taken when it should be."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from backends.raw_layers import FusableShape, ends, fusable_model, matrix4
from backends.test_isas import CELLS, FUSED_ISAS, LAYOUTS, SIZES, check_raw, run_raw, some_isas
from qrnn.backends.cpu import packed
from qrnn.backends.cpu.blocks import TOGETHER
from qrnn.backends.cpu.four_bits import MOST_RAISES
from qrnn.backends.cpu.fused_variants import FusedVariants
from qrnn.backends.cpu.isa import ISAS
from qrnn.backends.cpu.matrix import GROUP_LEAST
from qrnn.backends.cpu.native import DEFAULT
from qrnn.backends.cpu.packed import FusedRun
from qrnn.backends.cpu.tasks import Tasks
from qrnn.backends.cpu.threads import team
from qrnn.backends.cpu.tuning import Tuning
from qrnn.model.kinds.recurrent.definition import CellKind
from qrnn.model.parts import Operand
from qrnn.running.session import Session

FEW_STEPS = Tuning().few_steps
OUTGROWN = {"cache_bytes": 0}
"""No cache: every weight is read as it is stored where that is ever done."""


@pytest.mark.shard_by("cell", "after")
@pytest.mark.wide(cover=False, keep=1)
@pytest.mark.parametrize("simple", [False, pytest.param(True, marks=pytest.mark.matrix)])
@pytest.mark.parametrize("limit", [127, 32767])
@pytest.mark.parametrize(("cell", "after"), CELLS)
def test_awkward_sizes(cell: CellKind, after: bool, limit: int, simple: bool) -> None:
    """Few steps and many, in two orders of sizes, the second of simple layers; three sequences go as a group."""
    for seed, (hidden, inputs) in enumerate(
        zip(SIZES, SIZES if simple else SIZES[::-1], strict=True), simple * len(SIZES)
    ):
        rng = np.random.default_rng(seed)
        how = (bool(seed % 2),), simple
        shape = FusableShape(cell, after, hidden, inputs, limit, limit, *how, weights=4)
        model = fusable_model(rng, shape)
        for lengths in ((2,), (5, 0), (FEW_STEPS + 1,), (2, 0, 3)) if hidden < 64 else ((2,), (FEW_STEPS,)):
            check_raw(model, rng, lengths, **OUTGROWN)


@pytest.mark.parametrize("limit", [pytest.param(127, marks=pytest.mark.matrix), 255])
def test_many_blocks_and_long_vectors(limit: int) -> None:
    """More blocks than go together, and in two parts more groups than their starts are kept of."""
    rng, hidden = np.random.default_rng(limit), 16 * MOST_RAISES + 32
    assert hidden > 32 * TOGETHER
    model = fusable_model(rng, FusableShape("rnn", True, hidden, 3, 127, limit, simple=limit == 127, weights=4))
    check_raw(model, rng, (3,), FUSED_ISAS[:1], **OUTGROWN)


@pytest.mark.matrix
@pytest.mark.skipif(not team.SUPPORTED, reason="no thread teams on this platform")
@pytest.mark.parametrize("limit", [127, 32767])
@pytest.mark.parametrize(("cell", "after"), CELLS)
def test_teams(cell: CellKind, after: bool, limit: int) -> None:
    for hidden, steps in itertools.product((17, 70), (3, FEW_STEPS + 3)):
        rng = np.random.default_rng(hidden)
        how = (False, True), limit == 127
        model = fusable_model(rng, FusableShape(cell, after, hidden, 40, limit, limit, *how, weights=4))
        check_raw(model, rng, (steps,), threads=2, **OUTGROWN)


@pytest.mark.matrix
@pytest.mark.parametrize("isa", [i for i in ISAS if i.name in FUSED_ISAS], ids=lambda i: i.name)
def test_groups_by_four_bits(isa: Any) -> None:
    """Which `FusedVariants` does not choose, but `FusedRun` can."""
    cell, after = CELLS[FUSED_ISAS.index(isa.name) % len(CELLS)]
    for sequences, limit in ((5, 127), (17, 8191)):
        rng = np.random.default_rng(sequences)
        shape = FusableShape(cell, after, 50, 70, limit, limit, simple=limit == 127, weights=4)
        model = fusable_model(rng, shape)
        layer, steps = model.recurrent_layers[0], 7
        x = ends(rng, -32768, 32767, sequences, steps, 70).astype(np.int16)
        h, c = Session(model, "reference").initial_state(sequences).layers["rnn"]
        lengths = rng.integers(0, steps + 1, sequences)
        want = run_raw(model, (h, c), x, lengths, "reference")
        y = np.zeros((sequences, steps, 50), np.int16)
        h_n, c_n = h[:, 0].copy(), c[:, 0].copy()
        how = FusedRun(isa, layer, layer.directions[0], (4, 4)).reused(sequences)
        Tasks(1, isa, DEFAULT).in_parts((x, lengths, h_n, c_n, y), how, 1, 0)
        np.testing.assert_array_equal(y, want["y"])
        np.testing.assert_array_equal(h_n, want["h"][:, 0])
        np.testing.assert_array_equal(c_n, want["c"][:, 0])


def variants(weights: int, model_bytes: int, cache: int) -> FusedVariants:
    """Of an LSTM with 8 KiB of weights of h."""
    layer = fusable_model(
        np.random.default_rng(0), FusableShape("lstm", True, 32, 32, weights=weights)
    ).recurrent_layers[0]
    isa = next(i for i in ISAS if i.name == FUSED_ISAS[0])
    return FusedVariants(isa, layer, layer.directions[0], model_bytes, tuning=Tuning(cache_bytes=cache))


@pytest.mark.skipif(not FUSED_ISAS, reason="no instruction set of fused steps")
def test_the_form_that_is_chosen() -> None:
    """By what is read between two reads of the same weight: those of h in a sequence, the whole model in single steps."""

    def chosen(made: FusedVariants, *how: int) -> Any:
        return made.choose(*how).bits

    many = FEW_STEPS
    small, large, part = variants(4, 8192, 1 << 20), variants(4, 1 << 20, 1 << 10), variants(4, 1 << 20, 1 << 16)
    assert chosen(small, 1, many, 1) == chosen(small, 1, 1, 1) == (8, 8)
    assert chosen(large, 1, many, 1) == chosen(large, GROUP_LEAST - 1, many, 1) == (8, 4)
    assert chosen(large, 1, many - 1, 1) == chosen(large, 1, 1, 1) == (4, 4)
    assert chosen(large, GROUP_LEAST, many, 1) == chosen(large, GROUP_LEAST, 1, 1) == (8, 8)
    assert chosen(large, 1, many, 64) == (8, 8), "each thread has a cache"
    assert (chosen(part, 1, many, 1), chosen(part, 1, 1, 1)) == ((8, 8), (4, 4))
    assert part.choose(1, 1, 1) is part.choose(1, 2, 1)
    eight = variants(8, 1 << 20, 0)
    assert chosen(eight, 1, many, 1) == chosen(eight, 1, 1, 1) == (8, 8)


@pytest.mark.wide
@pytest.mark.parametrize("isa", sorted(LAYOUTS, key=str), ids=lambda i: f"{i.name}-{i.units}")
@pytest.mark.parametrize("phases", [(4,), (2, 1), (1,)])
@pytest.mark.parametrize(("hidden", "columns"), [(1, 1), (17, 33), (64, 64), (5, 250)])
def test_packed_nibbles(isa: Any, phases: tuple[int, ...], hidden: int, columns: int) -> None:
    """Unpacked again, word by word, they are the weights and scales; half the bytes and a scale for 32 columns."""
    rng, gates = np.random.default_rng(columns), sum(phases)
    matrix = matrix4(rng, gates * hidden, columns, 127)
    pre_shift = np.zeros(gates * hidden, np.int8)
    weights, params, groups, _ = packed.pack_matrix(isa, matrix, pre_shift, phases, Operand(0, 127), 4)
    eight = packed.pack_matrix(isa, matrix, pre_shift, phases, Operand(0, 127), 8)
    np.testing.assert_array_equal(params, eight[1], "one bias, one multiplier")
    units, blocks, word = -(-columns // 32), -(-hidden // isa.units), isa.operand_bits // 8
    order = np.argsort(isa.unit_order())
    assert groups * isa.group == 32 * units
    assert weights.size == blocks * isa.units * gates * units * 17
    per_block, start = weights.view(np.uint8).reshape(blocks, -1), 0
    together = isa.halves if word == 1 else 1
    """Half blocks whose rows share bytes; else a word has several columns of a row."""
    panels_of, lanes = isa.halves // together, isa.lanes
    q, scale = [], []
    for count in phases:
        size = isa.lanes * count * units
        panels = per_block[:, start : start + 17 * size * isa.halves].reshape(blocks, panels_of, -1)
        start += 17 * size * isa.halves
        nibbles = panels[:, :, : 16 * size * together].copy().view(f"<u{word}").astype(np.int64)
        nibbles = nibbles.reshape(blocks, panels_of, units, count, 4 * together, lanes, isa.group)
        if word == 1:
            nibbles ^= 8  # the low half is raised by eight
        split = np.stack([(nibbles >> 4 * k) & 15 for k in range(2 * word)], axis=5)  # … vector, k, lane, within
        split = (split ^ 8) - 8
        row_and_columns = (3, 0, 1, 5, 6, 2, 4, 7) if together == 2 else (3, 0, 1, 6, 2, 4, 5, 7)
        rows = split.transpose(row_and_columns).reshape(count, blocks, isa.units, 32 * units)
        q.append(rows[:, :, order].reshape(count, blocks * isa.units, 32 * units))
        scales = panels[:, :, 16 * size * together :].copy().view(np.int8)
        scales = scales.reshape(blocks, panels_of, units, count, together, lanes)
        rows = scales.transpose(3, 0, 1, 4, 5, 2).reshape(count, blocks, isa.units, units)
        scale.append(rows[:, :, order].reshape(count, blocks * isa.units, units))
    whole, scales = np.concatenate(q), np.concatenate(scale)
    np.testing.assert_array_equal(whole[:, :hidden, :columns].reshape(matrix.q.shape), matrix.q)
    np.testing.assert_array_equal(scales[:, :hidden].reshape(matrix.scale.shape), matrix.scale)
    assert not whole[:, hidden:].any()
    assert not whole[:, :, columns:].any()


def test_weights_of_eight_bits_are_not_packed_in_four() -> None:
    layer = fusable_model(np.random.default_rng(0), FusableShape("rnn", True, 8, 8)).recurrent_layers[0]
    with pytest.raises(TypeError, match="eight bits"):
        packed.pack_matrix(ISAS[0], layer.directions[0].ih, np.zeros(8, np.int8), (1,), layer.x_operand, 4)


def test_some_isas_cover_all() -> None:
    """What the tests above leave out for one cell they take for another."""
    taken = {isa for cell, after in CELLS for isa in some_isas(cell, after)}
    assert taken == set(FUSED_ISAS)
