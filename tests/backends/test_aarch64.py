"""The fused steps of AArch64: what LLVM makes of them, and, where an emulator is at hand, that they equal the reference bit for bit."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.cross import COMPILER, EMULATOR, ENTRIES, I8MM, NEON, Program, compiled, link, step_module
from backends.generators import assert_equal
from backends.raw_layers import FusableShape, dense_model, ends, fusable_model, raw_model, with_zeros
from backends.test_isas import CELLS, largest_model, largest_run, run_raw
from qrnn.backends import create_engine
from qrnn.backends.cpu import isa as isa_module
from qrnn.backends.cpu import packed
from qrnn.backends.cpu.block_lists import LISTED
from qrnn.backends.cpu.blocks import CELLS as STEPS
from qrnn.backends.cpu.blocks import FORGETS, PHASES, STEP_ARGS, phases_of
from qrnn.backends.cpu.functions import TABLE_AT
from qrnn.backends.cpu.fused import encode as encode_one
from qrnn.backends.cpu.group_steps import MOVING
from qrnn.backends.cpu.isa import PLAIN, Isa, available_isas
from qrnn.backends.cpu.jit import for_python
from qrnn.backends.cpu.kinds.dense import PackedDense
from qrnn.backends.cpu.matrix import AHEAD, ROWS_AHEAD, TILE
from qrnn.backends.cpu.steps import DOTS_IN_FLIGHT, KernelVariant
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.kinds.recurrent.definition import CellKind
from qrnn.model.quant_model import QuantModel

encode = for_python(encode_one)

WEIGHTS = ("ldr", "ldp", "ldur")
LOADS, COUNTING = ("ld1r", *WEIGHTS), ("add", "sub", "subs", "cmp", "mov", "b.lt", "b.ge")

Executables = Callable[[tuple[str, ...], KernelVariant, Isa], Path]

emulated = pytest.mark.skipif(
    COMPILER is None or EMULATOR is None, reason="needs aarch64-linux-gnu-gcc and qemu-aarch64 (qemu-user)"
)


@cache
def built(phases: tuple[str, ...], variant: KernelVariant, isa: Isa = NEON) -> tuple[str, bytes]:
    """Assembly and object code of a cell's steps."""
    return compiled(step_module(isa, phases, variant), isa)


@pytest.fixture(scope="module")
def executables(tmp_path_factory: pytest.TempPathFactory) -> Executables:
    @cache
    def made(phases: tuple[str, ...], variant: KernelVariant, isa: Isa) -> Path:
        return link(built(phases, variant, isa)[1], tmp_path_factory.mktemp(phases[0]))

    return made


def code(assembly: str, function: str) -> str:
    """One function's."""
    body = assembly[assembly.index(f"\n{function}:") :]
    return body[: body.index("Lfunc_end")]


def loops(assembly: str, function: str) -> list[list[str]]:
    """The instructions of each innermost loop that is one basic block: from a label to a branch back to it."""
    found = []
    for match in re.finditer(r"^(\.LBB\w+):((?:.*\n(?!\.LBB))*)", code(assembly, function), re.MULTILINE):
        lines = [line.strip() for line in match[2].splitlines() if line.startswith("\t") and line[1] != "."]
        back = [k for k, line in enumerate(lines) if line.startswith("b.") and line.endswith(match[1])]
        found += [lines[: back[0] + 1]] if back else []
    return found


def dots(rows: int, vectors: int) -> int:
    """Dot products in a loop over the columns of so many rows of a lane and vectors: of few, two groups of columns at a time."""
    count = rows * vectors
    return 2 * count if count < DOTS_IN_FLIGHT else count


@pytest.mark.wide(cover=False, keep=1)
@pytest.mark.parametrize("simple", [False, True])
@pytest.mark.parametrize("phases", sorted({*STEPS.values(), *FORGETS.values()}))
def test_the_inner_loops_are_dot_products(phases: tuple[str, ...], simple: bool) -> None:
    """Nothing but loads, sdot and the loop's own count; no calls but for copies; requantization by widening multiplication."""
    spans = {"l": "uusus", "g": "uus", "r": "s"}[phases[0][0]] if simple else ""
    assembly, _ = built(phases, KernelVariant(simple, spans=spans))
    first, second = PHASES[phases[0]], PHASES[phases[-1]]
    alone = {"step": first.count, "second_step": second.count}
    several = {
        "group_step": first.count,
        "second_group_step": second.count,
        "product": first.gates,
        "dense_4": 4,
    }
    for function, rows in (alone | several).items():
        inner = [loop for loop in loops(assembly, function) if any(line.startswith("sdot") for line in loop)]
        expected = {dots(rows, vectors) for vectors in ((1,) if function in alone else (1, TILE))}
        assert {sum(line.startswith("sdot") for line in loop) for loop in inner} == expected, function
        for loop in inner:
            names = [line.split()[0] for line in loop]
            assert set(names) <= {"sdot", *LOADS, *COUNTING}, names
            # Each operand is broadcast once, from an address of its own (ld1r takes no offset), for all rows; each weight is
            # loaded once at most, for all vectors. Else: three counts, a comparison, a branch.
            count, broadcasts = names.count("sdot"), names.count("ld1r")
            assert broadcasts * rows == count, function
            assert sum(name in WEIGHTS for name in names) * (1 if count == dots(rows, 1) else TILE) <= count, function
            assert sum(name in COUNTING for name in names) <= broadcasts + 5, function
    for function in ENTRIES[1:]:
        calls = set(re.findall(r"^\t(blr?\s.*|br?\s+\w.*)", code(assembly, function), re.MULTILINE))
        assert calls == ({"bl\tmemcpy"} if function == "encode" else set()), function
    assert "smlal" in assembly


@pytest.mark.parametrize("phases", [STEPS["lstm"], STEPS["rnn"]])
def test_several_vectors_go_by_products_of_matrices(phases: tuple[str, ...]) -> None:
    """Nothing in their inner loops but loads, smmla, two zips for every pair of loaded weights, and the loop's own count."""
    assembly, _ = built(phases, KernelVariant(True, spans={"l": "uusus", "s": "s"}.get(phases[0][0], "")), I8MM)
    phase = PHASES[phases[0]]
    for function, rows in {"group_step": phase.count, "product": phase.gates, "dense_4": 4}.items():
        inner = [loop for loop in loops(assembly, function) if any(line.startswith("smmla") for line in loop)]
        assert inner, function
        for loop in inner:
            names = [line.split()[0] for line in loop]
            assert set(names) <= {"smmla", "zip1", "zip2", *LOADS, *COUNTING}, names
            assert names.count("smmla") == rows * TILE, function
            assert names.count("zip1") == names.count("zip2") == rows, function
    alone = [line for loop in loops(assembly, "step") for line in loop]
    assert any(line.startswith("sdot") for line in alone)
    assert not any(line.startswith("smmla") for line in alone)


class _Layer:
    """The first direction of a layer in a program's memory; see `fused.run_group`."""

    def __init__(self, isa: Isa, model: QuantModel, x: Any, h: Any, c: Any, bits: tuple[int, int] = (8, 8)) -> None:
        self.isa = isa
        self.layer = model.recurrent_layers[0]
        self.phases = phases_of(self.layer)
        d = self.layer.directions[0]
        _, variant = packed.kernel_variants_of(isa, self.layer, d, bits)
        self.program, self.variant = Program(), replace(variant, shifts=True, functions=())  # fewer variants
        self.y = np.zeros((*x.shape[:2], self.layer.hidden_size), np.int16)
        self.x_shape = x.shape
        p = packed.pack_direction(isa, self.layer, d, bits, lookup=variant.lookup)
        scratch = packed.group_scratch(isa, self.layer, bits)
        operands, reset, z, self.h, self.c, xs, x_operands, tails, sums, self.c_places, *_ = scratch
        ih_weights, ih_params, *self.x_sizes = p.ih
        hh_weights, hh_params, groups, byte_parts = p.hh
        wide, offsets = p.coding
        self.x_format = (int(p.formats[2]), int(p.formats[3]), *self.x_sizes)
        for k in range(len(h)):
            self.h[k, : h.shape[1]] = h[k]
            self.c[k, self.c_places[: c.shape[1]]] = c[k]
            encode(h[k], 0, int(p.formats[0]), int(p.formats[1]), operands[0, k], wide, byte_parts, offsets)
        place = self.program.place
        functions = p.functions.copy()
        functions[:, TABLE_AT] = [place(table) for table in p.tables]
        self.at_x, self.at_y = place(x), place(self.y)
        self.fixed = [place(a) for a in (hh_weights, hh_params, functions, p.formats)]
        self.ih = [place(ih_weights), place(ih_params)]
        self.operands, self.row = place(operands), operands.shape[2]
        self.x_operands, self.x_row, self.tail = place(x_operands), x_operands.shape[1], place(tails)
        self.places, self.sums = [place(reset), place(z)], place(sums)
        self.states = [place(self.h), place(self.c), groups, byte_parts]
        self.xs, self.xs_step = place(xs), 4 * xs.shape[1]
        self.xs_block = self.xs_step * isa.units // self.h.shape[1]
        of_state = (4 * z.shape[1], self.xs_step, 2 * self.h.shape[1], 4 * self.c.shape[1])
        self.strides = (self.row, self.row, self.row, *of_state)
        self.last = self.h.shape[1] // isa.units

    def input_products(self, first: int, count: int, t: int, steps: int, ahead: int) -> None:
        """Of ``count`` sequences from ``first`` on, of time steps from t on: rows for ``ahead`` steps, of which there are ``steps``."""
        _, T, I = self.x_shape
        for k in range(count):
            at_x = self.at_x + 2 * I * ((first + k) * T + t)
            rows = (self.x_operands + k * self.x_row, count * self.x_row)
            self.program.call("encode", (at_x, 2 * I, I, self.tail, *rows, *self.x_format), steps)
        where = (self.x_operands, self.x_row, self.xs, self.xs_step, self.xs_block, *self.x_sizes, self.sums)
        self.program.call("product", (*self.ih, *where), ahead * count, 0, self.last)

    def one_by_one(self) -> None:
        """All time steps of a sequence, then of the next; see `fused.run`."""
        N, T, _ = self.x_shape
        for n in range(N):
            now, following = self._operands()
            for t in range(T):
                if t % AHEAD == 0:
                    count = min(AHEAD, T - t)
                    self.input_products(n, 1, t, count, count)
                for entry, values in self._phases(now, following, t % AHEAD):
                    moved = list(values)
                    for name, stride in zip(MOVING, self.strides, strict=True):
                        moved[STEP_ARGS.index(name)] += n * stride if name != "xs" else 0
                    self.program.call(entry, moved, 0, self.last, t & 1)
                self._keep(n, t)
                now, following = following, now

    def together(self) -> None:
        """Time step by time step."""
        N, T, _ = self.x_shape
        now, following = self._operands()
        ahead = ROWS_AHEAD // N
        for t in range(T):
            if t % ahead == 0:
                self.input_products(0, N, t, min(ahead, T - t), ahead)
            for entry, values in self._phases(now, following, t % ahead * N):
                group_entry = entry.replace("step", "group_step")
                self.program.call(group_entry, values, self.strides, self.sums, N, self.last)
            for n in range(N):
                self._keep(n, t)
            now, following = following, now

    def _operands(self) -> tuple[int, int]:
        """Where those of h lie, in turn: of two such arrays."""
        return self.operands, self.operands + len(self.h) * self.row

    def _phases(self, now: int, following: int, xs_row: int) -> list[tuple[str, tuple[int, ...]]]:
        """The entries for one step's phases, and the arguments that they take by name."""
        rest = (following, *self.places, self.xs + xs_row * self.xs_step, self.xs_block, *self.states)
        sources = (now, self.places[0])[: len(self.phases)]
        return [(entry, (*self.fixed, at, *rest)) for entry, at in zip(("step", "second_step"), sources, strict=False)]

    def _keep(self, n: int, t: int) -> None:
        """Copy h to y."""
        _, T, H = self.y.shape
        self.program.call("copy", self.at_y + 2 * H * (n * T + t), self.states[0] + n * self.strides[5], 2 * H)

    def run(self, executables: Executables, group: bool) -> dict[str, Any]:
        """What `run_raw` gives for the layer."""
        if group:
            self.together()
        else:
            self.one_by_one()
        self.program.run(executables(self.phases, self.variant, self.isa))
        N, _, H = self.y.shape
        C = H if self.layer.cell == "lstm" else 0
        return {"y": self.y, "h": self.h[:N, None, :H], "c": self.c[:N, None, self.c_places[:C]]}


def check(
    executables: Executables,
    model: QuantModel,
    x: Any,
    h: Any,
    c: Any,
    bits: tuple[int, int] = (8, 8),
    isa: Isa = NEON,
    ways: tuple[bool, ...] = (False, True),
) -> None:
    """By steps of one sequence and of all of them at once, or by one of these ``ways``."""
    lengths = np.full(len(x), x.shape[1])
    want = run_raw(model, (h, c), x, lengths, "reference")
    for group in ways:
        got = _Layer(isa, model, x, h[:, 0], c[:, 0], bits).run(executables, group)
        assert_equal({name: want[name] for name in got}, got)


@pytest.mark.wide(cover=False, keep=2)
@emulated
@pytest.mark.parametrize("simple", [False, True])
@pytest.mark.parametrize("limit", [127, 32767])
@pytest.mark.parametrize(("cell", "after"), CELLS)
def test_emulated_steps_equal_the_reference(
    executables: Executables, cell: CellKind, after: bool, limit: int, simple: bool
) -> None:
    """Inputs and states up to the ends of their types, a third of them there."""
    sizes = ((1, 65, 5, 4), (3, 1, 1, 1), (17, 3, 32, 5), (65, 17, 5, 14), (8, 32, 3, 65))
    for seed, (hidden, inputs, sequences, steps) in enumerate(sizes):
        rng = np.random.default_rng(seed)
        model = fusable_model(rng, FusableShape(cell, after, hidden, inputs, limit, limit, simple=simple))
        layer = model.recurrent_layers[0]
        assert packed.is_simple(layer, layer.directions[0]) or not simple
        x = ends(rng, -32768, 32767, sequences, steps, inputs).astype(np.int16)
        h = ends(rng, -32767, 32767, sequences, 1, hidden).astype(np.int16)
        c = ends(rng, -(1 << 31), (1 << 31) - 1, sequences, 1, hidden if cell == "lstm" else 0).astype(np.int32)
        check(executables, model, x, h, c)


@emulated
@pytest.mark.parametrize("limit", [127, 32767])
@pytest.mark.parametrize(
    ("cell", "after"), [CELLS[0], *(pytest.param(*cell, marks=pytest.mark.matrix) for cell in CELLS[1:])]
)
def test_emulated_products_of_matrices_equal_the_reference(
    executables: Executables, cell: CellKind, after: bool, limit: int
) -> None:
    """Groups of sequences, which fill the last vectors or not."""
    for seed, (hidden, inputs, sequences, steps) in enumerate(((17, 3, 32, 3), (65, 17, 5, 4), (8, 32, 3, 20))):
        rng = np.random.default_rng(seed)
        model = fusable_model(rng, FusableShape(cell, after, hidden, inputs, limit, limit, simple=True))
        x = ends(rng, -32768, 32767, sequences, steps, inputs).astype(np.int16)
        h = ends(rng, -32767, 32767, sequences, 1, hidden).astype(np.int16)
        c = ends(rng, -(1 << 31), (1 << 31) - 1, sequences, 1, hidden if cell == "lstm" else 0).astype(np.int32)
        check(executables, model, x, h, c, isa=I8MM, ways=(True,))


@emulated
@pytest.mark.parametrize("limit", [127, pytest.param(32767, marks=pytest.mark.matrix)])
def test_emulated_lists_of_tiles_equal_the_reference(executables: Executables, limit: int) -> None:
    for seed, (hidden, inputs, density) in enumerate(((17, 30, 0.3), (9, 5, 1.0), (8, 64, 0.0))):
        rng = np.random.default_rng(seed)
        model = with_zeros(
            rng, fusable_model(rng, FusableShape("lstm", True, hidden, inputs, limit, limit)), (8, 4), density
        )
        x = ends(rng, -32768, 32767, 5, 3, inputs).astype(np.int16)
        h = ends(rng, -32767, 32767, 5, 1, hidden).astype(np.int16)
        c = ends(rng, -(1 << 31), (1 << 31) - 1, 5, 1, hidden).astype(np.int32)
        check(executables, model, x, h, c, (LISTED, LISTED))


@pytest.mark.matrix
@emulated
def test_emulated_steps_of_cells_of_every_kind(executables: Executables) -> None:
    """Gate functions without bounds, peepholes, forget gates that are not gates of their own."""
    left = {
        ("lstm", True),
        ("lstm", False),
        ("lstm_one", True),
        ("lstm_coupled", False),
        ("gru_reset_after", False),
        ("rnn", False),
    }
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        model = raw_model(rng)
        layer, d = model.recurrent_layers[0], model.recurrent_layers[0].directions[0]
        key = phases_of(layer)[0], d.peephole is not None
        if key not in left or d.reverse or len(layer.directions) > 1 or not packed.can_fuse(d):
            continue
        left.remove(key)
        H = layer.hidden_size
        x = ends(rng, -32768, 32767, 3, 5, layer.input_size).astype(np.int16)
        h = ends(rng, -32767, 32767, 3, 1, H).astype(np.int16)
        c = ends(rng, -(1 << 31), (1 << 31) - 1, 3, 1, H if layer.cell == "lstm" else 0).astype(np.int32)
        check(executables, model, x, h, c)
    assert not left


@pytest.mark.wide(cover=False)
@emulated
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("limit", [127, 32767])
def test_emulated_steps_at_their_ends(executables: Executables, limit: int, sign: int) -> None:
    """The largest weights, inputs and states: the sums and the bias's correction as far as the proof lets them come."""
    model = largest_model("lstm", True, limit, sign)
    x, h, c = largest_run("lstm")
    check(executables, model, x, h, c)


@pytest.mark.wide(cover=False, keep=2)
@emulated
@pytest.mark.parametrize("isa", [NEON, I8MM], ids=lambda isa: isa.name)
@pytest.mark.parametrize("limit", [127, 32767])
@pytest.mark.parametrize(
    ("vectors", "inputs", "rows"), [(1, 1, 1), (2, 33, 17), (33, 64, 65), (5, 7, 16), (20, 250, 3)]
)
def test_emulated_dense_layers(
    executables: Executables, isa: Isa, vectors: int, inputs: int, rows: int, limit: int
) -> None:
    rng = np.random.default_rng(inputs)
    model = dense_model(rng, inputs, rows, limit)
    layer = model.layers[0]
    assert isinstance(layer, QuantDense)
    x = ends(rng, -32768, 32767, vectors, inputs).astype(np.int16)
    program, dense = Program(), PackedDense(isa, layer)
    weights, params, groups, byte_parts = dense.rows
    operands, results, tails, sums, _ = dense.scratch()
    fixed = [program.place(a) for a in (weights, params)]
    at_operands, row = program.place(operands), operands.shape[1]
    encoding = (2 * inputs, inputs, program.place(tails), at_operands, row, *dense.fixed[1], groups, byte_parts)
    program.call("encode", (program.place(x), *encoding), vectors)
    out = (program.place(results), 2 * results.shape[1], 2 * results.shape[1] // len(params))
    program.call(
        f"dense_{params.shape[2]}",
        (*fixed, at_operands, row, *out, groups, byte_parts, program.place(sums)),
        vectors,
        0,
        len(params),
    )
    program.run(executables(STEPS["rnn"], KernelVariant(True), isa))
    want = create_engine("reference", model).rows(layer, x)
    np.testing.assert_array_equal(results[:vectors, :rows], want)


@pytest.mark.parametrize("features", ["", "+neon,+fp-armv8", "+dotprod", "-dotprod", "+dotprod,+i8mm", "-i8mm"])
@pytest.mark.parametrize("name", ["generic", "neoverse-n1", "neoverse-v1", "apple-m1", "cortex-a72", "cortex-a76"])
def test_which_processors_have_it(name: str, features: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the processor's name where LLVM lists no features, or not this one."""
    monkeypatch.setenv("NUMBA_CPU_FEATURES", features)
    monkeypatch.setenv("NUMBA_CPU_NAME", name)
    isa_module.host_features.cache_clear()
    try:
        known = name not in ("generic", "cortex-a72")
        has = features != "-dotprod" and (known or "+dotprod" in features)
        both = has and "-i8mm" not in features and (name == "neoverse-v1" or "+i8mm" in features)
        assert available_isas() == ((I8MM.name,) * both + (NEON.name,) * has + (PLAIN,))
    finally:
        isa_module.host_features.cache_clear()
