"""Every instruction set of the cpu backend equals the reference bit for bit, wherever fused steps are used; and can be forced."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Shape

from backends.generators import (
    GATES,
    QUIET,
    Case,
    assert_equal,
    cases,
    eager,
    integers,
    quantized_or_refused,
)
from backends.isa_choice import CELLS, FUSED_ISAS, usual_isa
from backends.raw_layers import FusableShape, ends, fusable_model, raw_model
from qrnn.backends import create_engine
from qrnn.backends.base import LayerState
from qrnn.backends.cpu import packed, steps
from qrnn.backends.cpu.isa import ISAS, PLAIN, Isa
from qrnn.backends.cpu.kinds.recurrent import RecurrentRun
from qrnn.backends.cpu.matrix import AHEAD
from qrnn.backends.cpu.threads import team
from qrnn.backends.cpu.tuning import Tuning
from qrnn.model.activation import Activation
from qrnn.model.kinds.recurrent.definition import CellKind
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session
from qrnn.running.state import State

SIZES = (1, 3, 17, 63, 65, 250)

short = settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
long = settings(max_examples=2500, deadline=None, database=None, suppress_health_check=QUIET)

SEEN: Counter[str] = Counter()
"""How many directions ran ``fused`` and by ``kernels`` in `watched`."""


@contextmanager
def watched(model: QuantModel, runs: int = 1) -> Iterator[None]:
    """``runs`` runs in here, by one thread each, use fused steps for the directions that `can_fuse` names, and for no others."""
    seen: Counter[str] = Counter()
    plain_call, reused = RecurrentRun.plain_call, packed.FusedRun.reused

    def spy(*arguments: Any) -> Any:
        seen["kernels"] += 1
        return plain_call(*arguments)

    def spy_fused(*arguments: Any) -> Any:
        seen["fused"] += 1
        return reused(*arguments)

    with mock.patch.object(RecurrentRun, "plain_call", spy), mock.patch.object(packed.FusedRun, "reused", spy_fused):
        yield
    want = Counter(
        "fused" if packed.can_fuse(d) else "kernels" for layer in model.recurrent_layers for d in layer.directions
    )
    assert seen == Counter({name: runs * count for name, count in want.items()})
    SEEN.update(seen)


def some_isas(cell: str, after: bool = True) -> tuple[str, ...]:
    """One for each cell, where there is any; `test_all_isas_for_every_cell` takes all."""
    return (usual_isa(cell, after),) if FUSED_ISAS else ()


def check_case(case: Case, isas: tuple[str, ...] = FUSED_ISAS) -> None:
    """Untraced: a traced run does not use fused steps."""
    model = quantized_or_refused(case)
    if model is None:
        return
    batch = case.batch(model)
    want, _ = integers(Session(model, "reference"), batch)
    sessions = [Session(model, "cpu", 1, isa) for isa in isas]
    with watched(model, len(sessions)):
        for session in sessions:
            assert_equal(want, integers(session, batch)[0])
    assert_equal(want, integers(Session(model, "cpu", 1, PLAIN), batch)[0])


def run_raw(model: QuantModel, start: LayerState, x: Any, lengths: Any, *how: Any) -> dict[str, Any]:
    """Every tensor and the final state of the one layer; ``how``: backend, threads, isa, tuning."""
    tensors, final, _ = create_engine(how[0], model, *how[1:]).run({"x": x}, {"rnn": start}, lengths)
    return {**tensors, "h": final["rnn"][0], "c": final["rnn"][1]}


def check_raw(
    model: QuantModel, rng: Any, lengths: Any, isas: tuple[str, ...] | None = None, threads: int = 1, **fields: Any
) -> None:
    """Inputs and states up to the ends of their types, a third of them there; ``fields``: of the tuning."""
    layer, lengths = model.recurrent_layers[0], np.asarray(lengths)
    isas = some_isas(layer.cell, layer.linear_before_reset) if isas is None else isas
    N, T = len(lengths), max(1, int(lengths.max()))
    x = ends(rng, -32768, 32767, N, T, layer.input_size).astype(np.int16)
    h, c = Session(model, "reference").initial_state(N).layers["rnn"]
    if rng.random() < 0.7:
        h = ends(rng, -32767, 32767, *h.shape).astype(np.int16)
        c = ends(rng, -(1 << 31), (1 << 31) - 1, *c.shape).astype(np.int32)
    want = run_raw(model, (h, c), x, lengths, "reference")
    if threads > 1:
        for isa in isas:
            assert_equal(want, run_raw(model, (h, c), x, lengths, "cpu", threads, isa, eager(threads, **fields)))
        return
    with watched(model, len(isas)):
        for isa in isas:
            assert_equal(want, run_raw(model, (h, c), x, lengths, "cpu", 1, isa, Tuning(**fields)))
    assert_equal(want, run_raw(model, (h, c), x, lengths, "cpu", 1, PLAIN))


@pytest.mark.matrix
@pytest.mark.time_limit(900)
@short
@given(case=cases())
def test_every_isa_equals_the_reference(case: Case) -> None:
    """Most draws compile kernels of their own, for each instruction set: two minutes where none is cached."""
    check_case(case, FUSED_ISAS if case.shape.cell == "lstm" else FUSED_ISAS[:1])


@pytest.mark.long
@long
@given(case=cases(most_hidden=80))
def test_every_isa_equals_the_reference_long(case: Case) -> None:
    check_case(case)


@st.composite
def fusable_shapes(draw: st.DrawFn, sizes: st.SearchStrategy[int]) -> FusableShape:
    cell, after = draw(st.sampled_from(CELLS))
    limits = st.sampled_from([1, 126, 127, 128, 255, 256, 8191, 32767])
    directions = draw(st.sampled_from([(False,), (True,), (False, True)]))
    how = draw(st.booleans()), draw(st.sampled_from([8, 8, 4]))
    return FusableShape(cell, after, draw(sizes), draw(sizes), draw(limits), draw(limits), directions, *how)


few_short = st.lists(st.integers(0, 6), min_size=1, max_size=4)
many_ragged = st.lists(st.integers(0, 20), min_size=3, max_size=20)
ragged = st.one_of(few_short, few_short, many_ragged)
sizes = st.one_of(st.sampled_from((1, 15, 16, 17, 31, 32, 33, 63, 64, 65)), st.integers(1, 70))


@pytest.mark.matrix
@settings(short, max_examples=25)
@given(shape=fusable_shapes(sizes), lengths=ragged, seed=st.integers(0, 1 << 32))
def test_layers_of_integers_of_every_size(shape: FusableShape, lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = fusable_model(rng, shape)
    assert all(packed.can_fuse(d) for layer in model.recurrent_layers for d in layer.directions)
    check_raw(model, rng, lengths)


@pytest.mark.long
@long
@given(shape=fusable_shapes(sizes), lengths=ragged, seed=st.integers(0, 1 << 32))
def test_layers_of_integers_of_every_size_long(shape: FusableShape, lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    check_raw(fusable_model(rng, shape), rng, lengths, FUSED_ISAS, 1 + seed % 3)


@pytest.mark.long
@pytest.mark.parametrize("block", range(4))
def test_raw_layers_long(block: int) -> None:
    """Layers that fused steps may not take."""
    for seed in range(500 * block, 500 * block + 500):
        rng = np.random.default_rng(seed)
        check_raw(raw_model(rng), rng, rng.integers(0, 7, int(rng.integers(1, 4))), FUSED_ISAS)


@pytest.mark.matrix
@pytest.mark.shard_by("isa", "cell", "after")
@pytest.mark.time_limit(900)
@pytest.mark.parametrize("isa", FUSED_ISAS)
@pytest.mark.parametrize(("cell", "after"), CELLS)
def test_all_isas_for_every_cell(cell: CellKind, after: bool, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests below with what they leave out."""
    if isa == usual_isa(cell, after):
        pytest.skip("done by the tests below")
    monkeypatch.setitem(globals(), "some_isas", lambda *_: (isa,))
    for limit, bits, flag in ((127, 8, False), (32767, 16, True)):
        for simple in (False, True):
            test_awkward_sizes(cell, after, bits, simple)
        test_lengths_around_the_steps_computed_ahead(cell, after, flag)
        test_groups_of_sequences(cell, after, flag, limit)
        test_everything_at_its_ends(cell, after, limit, 1)
        if team.SUPPORTED:
            test_teams(cell, after, 2)


@pytest.mark.shard_by("cell", "after")
@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("simple", [False, pytest.param(True, marks=pytest.mark.matrix)])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("cell", "after"), CELLS)
def test_awkward_sizes(cell: CellKind, after: bool, bits: int, simple: bool) -> None:
    """Every hidden and every input size, in pairs of two orders, the second of simple layers."""
    limit = 127 if bits == 8 else 32767
    for seed, (hidden, inputs) in enumerate(
        zip(SIZES, SIZES if simple else SIZES[::-1], strict=True), simple * len(SIZES)
    ):
        rng = np.random.default_rng(seed)
        both = (False, True) if hidden < 64 else (bool(seed % 2),)
        model = fusable_model(rng, FusableShape(cell, after, hidden, inputs, limit, limit, both, simple))
        check_raw(model, rng, (2, 0, 3) if hidden < 64 else (2,))


@pytest.mark.shard_by("cell", "after")
@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("cell", "after"), CELLS)
def test_lengths_around_the_steps_computed_ahead(cell: CellKind, after: bool, reverse: bool) -> None:
    rng = np.random.default_rng(11)
    model = fusable_model(rng, FusableShape(cell, after, 5, 9, 127, 300, (reverse,)))
    check_raw(model, rng, (AHEAD - 1, 0, AHEAD, AHEAD + 1, 2 * AHEAD + 2, 1, 2, 3, 5))


@pytest.mark.shard_by("cell", "after")
@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("limit", [127, 32767])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("cell", "after"), CELLS)
def test_groups_of_sequences(cell: CellKind, after: bool, reverse: bool, limit: int) -> None:
    """More and fewer than go through a step together; some end early, some before they begin, some at once."""
    rng = np.random.default_rng(limit)
    for sequences, hidden, inputs in ((2, 5, 64), (3, 60, 3), (15, 4, 50), (16, 17, 128), (17, 64, 2), (37, 2, 5)):
        simple = limit == 127 or sequences == 16
        model = fusable_model(rng, FusableShape(cell, after, hidden, inputs, limit, limit, (reverse,), simple))
        lengths = rng.choice([0, 1, 2, 15, 16, 17, 18, 33], sequences)
        lengths[rng.integers(sequences)] = 16
        check_raw(model, rng, lengths)
        if sequences == 37:
            check_raw(model, rng, lengths, threads=2)


@pytest.mark.parametrize(
    ("cell", "after"), [("lstm", True), *(pytest.param(*c, marks=pytest.mark.matrix) for c in CELLS[1:])]
)
def test_groups_go_gate_by_gate_or_not(cell: CellKind, after: bool) -> None:
    """Small and large layers take different ways through a step of several sequences: a layer that takes the other one gives the same bits."""
    usual = packed.kernel_variants_of

    def turned(isa: Isa, *layer: Any) -> Any:
        ih, hh = usual(isa, *layer)
        return ih, replace(hh, by_gates=not hh.by_gates)

    rng = np.random.default_rng(1)
    model = fusable_model(rng, FusableShape(cell, after, 37, 20, simple=True))
    with mock.patch.object(packed, "kernel_variants_of", turned):
        check_raw(model, rng, (16, 3, 0, 16, 5, 2, 9))


@pytest.mark.matrix
@pytest.mark.parametrize("limit", [127, 32767])
@pytest.mark.parametrize(("cell", "after"), CELLS)
def test_layers_of_tables_alone(cell: CellKind, after: bool, limit: int) -> None:
    """What most models are: compiled without ramps and left_shifts. Alone, and in groups that end in all ways."""
    rng = np.random.default_rng(limit)
    for sequences, hidden, inputs in ((1, 33, 5), (4, 70, 40), (11, 32, 64), (37, 5, 3)):
        shape = FusableShape(cell, after, hidden, inputs, limit, limit, (False,), simple=True, tables=True)
        check_raw(fusable_model(rng, shape), rng, rng.choice([0, 1, 2, 15, 33], sequences) if sequences > 1 else (9,))


@pytest.mark.shard_by("cell", "after")
@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("limit", [127, 32767])
@pytest.mark.parametrize(("cell", "after"), CELLS)
def test_everything_at_its_ends(cell: CellKind, after: bool, limit: int, sign: int) -> None:
    """The largest weights, inputs and states of one sign: sums as near to 32 bits as the proof lets them come."""
    model, (x, h, c) = largest_model(cell, after, limit, sign), largest_run(cell)
    want = run_raw(model, (h, c), x, np.array([3, 3, 3]), "reference")
    for isa in some_isas(cell, after):
        assert_equal(want, run_raw(model, (h, c), x, np.array([3, 3, 3]), "cpu", 1, isa))


def largest_model(cell: CellKind, after: bool, limit: int, sign: int) -> QuantModel:
    """400 units on 401 inputs with the largest weights of one sign."""
    rng = np.random.default_rng(limit)
    model = fusable_model(rng, FusableShape(cell, after, 400, 401, limit, limit, simple=sign > 0))
    layer = model.recurrent_layers[0]
    for part in (layer.directions[0].ih, layer.directions[0].hh):
        part.weight[:] = 127 * sign
        part.left_shift[:] = 0
        room = (1 << 31) - 1 - np.abs(part.weight.astype(np.int64)).sum(axis=1) * limit
        part.bias[:] = room * np.where(np.arange(len(room)) % 3, sign, 0)
        part.multiplier[:] = (1 << 31) - 2
        part.prove("drawn")
    return model


def largest_run(cell: CellKind) -> tuple[Any, Any, Any]:
    """Return x of three sequences of three steps, h and c for `largest_model`: the largest, the least, both."""
    x = np.full((3, 3, 401), 32767, np.int16)
    x[1] = -32768
    h = np.full((3, 1, 400), 32767, np.int16)
    h[1] = -32767
    c = np.full((3, 1, 400 if cell == "lstm" else 0), (1 << 31) - 1, np.int32)
    c[1] = -(1 << 31)
    return x, h, c


RELU, HARD = {"candidate": Activation("relu")}, {"gate": Activation("hard_sigmoid")}


@pytest.mark.matrix
@pytest.mark.shard_by("case")
@pytest.mark.parametrize(
    "case",
    [
        *(Case(Shape("lstm", 3, 21, weight=3.0), lengths=(5, 4), scheme=Scheme(gates=g, input="8")) for g in GATES),
        Case(Shape("gru", 3, 9, activations=HARD, weight=3.0), lengths=(5, 4)),
        Case(Shape("gru", 3, 18, activations=HARD, linear_before_reset=False, states=True), lengths=(5, 4)),
        Case(Shape("rnn", 3, 9, (False, True), activations=RELU), lengths=(5, 4), scheme=Scheme(16, input="16")),
    ],
    ids=lambda case: f"{case.shape.cell}-{case.scheme.gates}",
)
def test_gate_functions(case: Case) -> None:
    SEEN.clear()
    check_case(case, FUSED_ISAS if case.shape.cell == "lstm" else FUSED_ISAS[:1])
    assert SEEN["fused"] > 0
    assert not SEEN["kernels"]


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("gates", ["pwl:8", "pwl:1024"])
@pytest.mark.parametrize("isa", FUSED_ISAS)
def test_steps_equal_the_whole_run(isa: str, gates: str) -> None:
    case = Case(Shape("lstm", 3, 19, layers=2), steps=9, lengths=(9, 9), scheme=Scheme(gates=gates, input="8"))
    model, x = case.quantized(), case.data()["x"]
    whole, session, state = Session(model, "reference").run({"x": x}), Session(model, "cpu", 1, isa), None
    for t in range(9):
        result = session.step({"x": x[:, t]}, state)
        state = result.state
        np.testing.assert_array_equal(result.outputs["y"], whole.outputs["y"][:, t])
    assert isinstance(state, State)
    for name, (h, c) in whole.state.layers.items():
        np.testing.assert_array_equal(state.layers[name][0], h)
        np.testing.assert_array_equal(state.layers[name][1], c)


def odd_layouts(array: Any) -> Iterator[Any]:
    """The same values: strided, of Fortran's order, at an odd address, not to be written to."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    yield wide[..., ::2]
    yield np.asfortranarray(array)
    raw = np.zeros(array.nbytes + 1, np.uint8)
    odd = raw[1:].view(array.dtype).reshape(array.shape)
    odd[...] = array
    yield odd
    fixed = array.copy()
    fixed.flags.writeable = False
    yield fixed


@pytest.mark.parametrize("isa", FUSED_ISAS[-1:])
def test_arrays_of_any_layout(isa: str) -> None:
    rng = np.random.default_rng(2)
    model = fusable_model(rng, FusableShape("lstm", True, 18, 35))
    x = ends(rng, -32768, 32767, 2, 7, 35).astype(np.int16)
    h, c = (v.copy() for v in Session(model, "reference").initial_state(2).layers["rnn"])
    lengths = np.array([7, 4])
    want = run_raw(model, (h, c), x, lengths, "reference")
    for x_odd, h_odd, c_odd in zip(odd_layouts(x), odd_layouts(h), odd_layouts(c), strict=True):
        assert_equal(want, run_raw(model, (h_odd, c_odd), x_odd, lengths, "cpu", 1, isa))
    assert_equal(want, run_raw(model, (h, c), x, np.repeat(lengths, 2)[::2], "cpu", 1, isa))


@pytest.mark.matrix
@pytest.mark.shard_by("cell", "after")
@pytest.mark.skipif(not team.SUPPORTED, reason="no thread teams on this platform")
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize(("cell", "after"), CELLS)
def test_teams(cell: CellKind, after: bool, threads: int) -> None:
    """Of fewer blocks than threads, and of more."""
    for hidden, limit in itertools.product((1, 17, 70), (127, 32767)):
        rng, simple = np.random.default_rng(hidden), (limit == 127) == (hidden > 1)
        model = fusable_model(rng, FusableShape(cell, after, hidden, 20, limit, limit, (False, True), simple))
        check_raw(model, rng, (AHEAD + 1,), threads=threads)


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("sequences", [1, 3])
def test_two_sessions_at_once(sequences: int) -> None:
    """Two models on two instruction sets, each by several threads: scratch is nobody else's."""
    cases = [
        Case(Shape(cell, 3, 40), sequences=sequences, steps=30, lengths=(30,) * sequences) for cell in ("lstm", "gru")
    ]
    models = [case.quantized() for case in cases]
    batches = [case.batch(model) for case, model in zip(cases, models, strict=True)]
    wants = [integers(Session(m, "reference"), b)[0] for m, b in zip(models, batches, strict=True)]
    with ThreadPoolExecutor(6) as pool:
        sessions = [
            Session(m, "cpu", 2, isa, tuning=eager(2, wake_spins=1 << 16))
            for m, isa in zip(models, (FUSED_ISAS * 2)[:2], strict=True)
        ]
        jobs = [
            (k, pool.submit(lambda k=k: [integers(sessions[k], batches[k])[0] for _ in range(5)])) for k in (0, 1) * 3
        ]
        for k, job in jobs:
            for got in job.result(60):
                assert_equal(wants[k], got)


LAYOUTS = {layout for i in ISAS if i.name in FUSED_ISAS for layout in (i, i.with_int16_lanes())}


@pytest.mark.wide
@pytest.mark.parametrize("isa", sorted(LAYOUTS, key=str), ids=lambda i: f"{i.name}-{i.units}")
@pytest.mark.parametrize(("phases", "rows"), [((4,), 4), ((2, 1), 3), ((1,), 1)])
@pytest.mark.parametrize("limit", [127, 32767])
@pytest.mark.parametrize(("hidden", "columns"), [(1, 1), (17, 33), (64, 16), (5, 250), (48, 48)])
@pytest.mark.parametrize("tail", [False, True])
def test_packed_weights(
    isa: Any, phases: tuple[int, ...], rows: int, limit: int, hidden: int, columns: int, tail: bool
) -> None:
    """Unpacked again they are the weights, and with encoded operands and the bias they give the sums."""
    if tail and not isa.leaves_half(hidden):
        pytest.skip("no half block is left over")
    isa = replace(isa, half_tail=tail)
    rng = np.random.default_rng(columns)
    layer = fusable_model(
        rng,
        FusableShape({4: "lstm", 3: "gru", 1: "rnn"}[rows], False, hidden, columns, limit),  # type: ignore[arg-type]
    ).recurrent_layers[0]
    matrix, pre_shift = layer.directions[0].ih, layer.directions[0].pre_shift * (not tail)
    weights, params, groups, byte_parts = packed.pack_matrix(isa, matrix, pre_shift, phases, layer.x_operand)
    assert weights.ctypes.data % 64 == 0
    assert byte_parts == (2 if isa.operand_bits == 8 and limit > 127 else 1)
    blocks, K = -(-hidden // isa.units), groups * isa.group
    units = np.argsort(isa.unit_places(blocks))
    per_block = weights.reshape(blocks, -1)
    unpacked, start = [], 0
    for count in phases:
        size = count * isa.units * K
        part = per_block[:, start : start + size].reshape(blocks, isa.halves, groups, count, isa.lanes, isa.group)
        assert not (tail and part[-1, 1].any())
        unpacked.append(part.transpose(3, 0, 1, 4, 2, 5).reshape(count, blocks * isa.units, K)[:, units])
        start += size
    whole = np.concatenate(unpacked)
    np.testing.assert_array_equal(whole[:, :hidden, :columns].reshape(matrix.weight.shape), matrix.weight)
    assert not whole[:, hidden:].any()
    assert not whole[:, :, columns:].any()

    operand = ends(rng, -limit, limit, columns)
    stored = operand + isa.encoded_offset(byte_parts)  # what the bytes of an encoded operand mean
    sums = matrix.weight.astype(np.int64) @ stored
    np.testing.assert_array_equal(params[:, 4, :, ::2], params[:, 1, :, 1::2])
    of_units = params.transpose(1, 2, 0, 3).reshape(5, rows, -1)[:, :, units[:hidden]]
    bias, multiplier, left_shift, pre, _ = of_units.reshape(5, -1)
    wrapped = (sums + bias).astype(np.uint64).astype(np.uint32).view(np.int32)
    np.testing.assert_array_equal(wrapped, matrix.weight.astype(np.int64) @ operand + matrix.bias)
    np.testing.assert_array_equal(multiplier, matrix.multiplier)
    np.testing.assert_array_equal(left_shift, matrix.left_shift)
    if tail:
        assert (params[-1, steps.PRE_SHIFT] == steps.HALF_TAIL).all()
        assert not params[:-1, steps.PRE_SHIFT].any()
    else:
        np.testing.assert_array_equal(pre, pre_shift)
