"""Lists of tiles on the CPU have the reference's integers on every instruction set, and are taken where the thresholds say so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pruned import network

from backends import test_dense
from backends.generators import QUIET
from backends.raw_layers import FusableShape, dense_model, fusable_model, matrix4, with_zeros
from backends.test_isas import CELLS, FUSED_ISAS, check_raw, some_isas
from qrnn import Scheme, quantize
from qrnn.backends.cpu.block_lists import LISTED, MOST_COLUMNS, ListLayout, list_limit, listed_share
from qrnn.backends.cpu.fused_variants import FusedVariants
from qrnn.backends.cpu.isa import ISAS, available_isas
from qrnn.backends.cpu.kinds.dense import PackedDense
from qrnn.backends.cpu.tuning import Tuning
from qrnn.running.session import Session

ALWAYS = {"byte_list_share": 1.0, "word_list_share": 1.0}
"""Lists, however long they are."""

short = settings(max_examples=6, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
long = settings(max_examples=300, deadline=None, database=None, suppress_health_check=QUIET)
isas = pytest.mark.parametrize("isa", [i for i in ISAS if i.name in FUSED_ISAS], ids=lambda i: i.name)

blocks = st.tuples(st.sampled_from((1, 4, 8, 16)), st.sampled_from((1, 4, 8)))
densities = st.sampled_from((0.0, 0.05, 0.25, 0.5, 1.0))
sizes = st.integers(1, 70)


def check_layer(
    cell: Any,
    after: bool,
    hidden: int,
    inputs: int,
    limit: int,
    block: Any,
    density: float,
    seed: int,
    names: Any,
    simple: bool = False,
) -> None:
    """One sequence, two, and a group of them."""
    rng = np.random.default_rng(seed)
    shape = FusableShape(cell, after, hidden, inputs, limit, limit, simple=simple)
    model = with_zeros(rng, fusable_model(rng, shape), block, density)
    for lengths in ((3,), (3, 0, 2, 1, 3)):
        check_raw(model, rng, lengths, names, **ALWAYS)


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize(("cell", "after"), CELLS)
def test_awkward_sizes(cell: Any, after: bool) -> None:
    for seed, (hidden, inputs, density) in enumerate(
        ((1, 70, 0.3), (33, 5, 0.5), (8, 1, 0.0), (47, 33, 0.25), (16, 64, 1.0))
    ):
        check_layer(cell, after, hidden, inputs, (127, 32767)[seed % 2], (8, 4), density, seed, some_isas(cell, after))


@short
@given(
    hidden=sizes,
    inputs=sizes,
    limit=st.sampled_from((1, 127, 32767)),
    block=blocks,
    density=densities,
    seed=st.integers(0, 999),
)
@example(hidden=45, inputs=37, limit=32767, block=(8, 4), density=0.3, seed=1)
def test_any_pattern(hidden: int, inputs: int, limit: int, block: Any, density: float, seed: int) -> None:
    check_layer("lstm", True, hidden, inputs, limit, block, density, seed, some_isas("lstm"))


@pytest.mark.matrix
@pytest.mark.time_limit(900)
@long
@given(
    cell=st.sampled_from(CELLS), hidden=sizes, inputs=sizes, limit=st.sampled_from((1, 127, 32767)), block=blocks, density=densities,
    seed=st.integers(0, 1 << 32),
)  # fmt: skip
def test_any_pattern_of_any_cell(
    cell: Any, hidden: int, inputs: int, limit: int, block: Any, density: float, seed: int
) -> None:
    check_layer(*cell, hidden, inputs, limit, block, density, seed, FUSED_ISAS, bool(seed % 2))


@short
@given(
    inputs=sizes, rows=sizes, vectors=st.sampled_from((1, 2, 3, 5, 33)), limit=st.sampled_from((127, 32767)), block=blocks, density=densities,
    seed=st.integers(0, 1 << 32),
)  # fmt: skip
def test_dense_layers(inputs: int, rows: int, vectors: int, limit: int, block: Any, density: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = with_zeros(rng, dense_model(rng, inputs, rows, limit), block, density)
    x = test_dense.any_inputs(rng, vectors, inputs)
    want = test_dense.run(model, x, "reference")
    for isa in available_isas():
        got = test_dense.run(model, x, "cpu", isa, Tuning(dense_macs=1, cores=1, **ALWAYS))
        np.testing.assert_array_equal(got, want, err_msg=isa)


@isas
def test_layout_of_lists(isa: Any) -> None:
    """Each list has the tiles that are not all zero, in order, and is filled up to pairs."""
    weight = np.zeros((32, 24), np.int8)
    weight[3, 9] = 5
    weight[0, 23] = -7
    assert listed_share(isa, weight, 1) == pytest.approx(2 / (6 * (32 // ListLayout(isa)._tile.lanes)))
    assert listed_share(isa, np.zeros((8, MOST_COLUMNS + 1), np.int8), 1) == 1.0
    rng = np.random.default_rng(0)
    model = dense_model(rng, 24, 32, 127)
    packed = ListLayout(isa).pack(type(model.layers[0].matrix)(weight, *rows_of(model)), (1,))  # type: ignore[attr-defined]
    begin, tiles = packed[:16].view(np.int64)
    starts = packed[16:begin].view(np.int32)
    assert starts[-1] == 2
    assert packed[begin : begin + 4].view(np.uint16).tolist() == [2, 5]
    assert packed[tiles:].tobytes().count(b"\x05") == 1
    assert np.abs(packed[tiles:].astype(int)).sum() == 12


def rows_of(model: Any) -> tuple[Any, ...]:
    m = model.layers[0].matrix
    return m.bias, m.multiplier, m.left_shift, m.operand_limit


@isas
def test_lists_are_taken_by_their_share(isa: Any) -> None:
    rng = np.random.default_rng(1)
    made = {d: with_zeros(rng, fusable_model(rng, FusableShape("lstm", True, 64, 64)), (8, 4), d) for d in (0.2, 1.0)}

    def bits(density: float, *how: int, **fields: Any) -> tuple[int, int]:
        layer = made[density].recurrent_layers[0]
        variants = FusedVariants(isa, layer, layer.directions[0], 0, tuning=Tuning(**fields))
        assert variants.choose(*how) in variants.every()
        return variants.choose(*how).bits

    assert bits(1.0, 1, 100, 1) == (8, 8)
    assert bits(0.2, 1, 1, 1) == (LISTED, LISTED)
    together = (8, 8) if isa.amx else (LISTED, LISTED)
    assert bits(0.2, 8, 100, 1) == together
    assert bits(0.2, 1, 1, 1, byte_list_share=0.0, word_list_share=0.0) == (8, 8)
    assert list_limit(isa, Tuning(), 8) == (0.0 if isa.amx else list_limit(isa, Tuning(), 1))


@isas
def test_four_bit_weights_are_listed_where_lists_are_half_as_long(isa: Any) -> None:
    rng = np.random.default_rng(2)
    model = fusable_model(rng, FusableShape("lstm", True, 64, 64, weights=4))
    layer = model.recurrent_layers[0]
    tuning = Tuning(cache_bytes=0)
    variants = FusedVariants(isa, layer, layer.directions[0], 1 << 30, tuning=tuning)
    assert variants.choose(1, 1, 1).bits == (4, 4)
    assert matrix4(rng, 4, 32, 127).weight.any()


@pytest.mark.wide
@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("widths", [{"weights": 4, "refine": "none"}, {"activations": 16}], ids=lambda w: next(iter(w)))
def test_pruned_networks_of_each_width(widths: dict[str, Any], isa: str) -> None:
    """Networks that `qrnn.prune` would give, quantized with weights of four bits and operands of 16."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2, 9, 37)).astype(np.float32)
    model = quantize(network(1, "gru", 37, 45, (8, 4), 0.2), {"x": x}, Scheme(input="8", **widths))
    want = Session(model, "reference").run({"x": x}).outputs
    session = Session(model, "cpu", 1, isa=isa, tuning=Tuning(dense_macs=1, cache_bytes=0))
    got = session.run({"x": x}).outputs
    assert all(np.array_equal(got[name], want[name]) for name in want)
    stream = session.stream()
    alone = [stream.step({"x": x[:1, t]})["y"].copy() for t in range(x.shape[1])]
    assert np.array_equal(np.concatenate(alone), want["y"][0])


@isas
def test_dense_layers_are_listed_by_their_share(isa: Any) -> None:
    rng = np.random.default_rng(4)
    model = with_zeros(rng, dense_model(rng, 64, 64, 127), (8, 4), 0.1)
    x = test_dense.any_inputs(rng, 1, 64)
    seen = []
    made = PackedDense.__init__

    def watched(self: Any, *a: Any) -> None:
        made(self, *a)
        seen.append(self.bits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PackedDense, "__init__", watched)
        test_dense.run(model, x, "cpu", isa.name, Tuning(dense_macs=1, cores=1))
    assert set(seen) == {LISTED}
