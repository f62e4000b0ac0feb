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

from backends.cross import COMPILER, EMULATOR, NEON, Program, compiled, link, step_module
from backends.generators import assert_equal
from backends.raw_layers import FusableShape, dense_model, ends, fusable_function, fusable_model
from backends.test_isas import CELLS, largest_model, largest_run, run_raw
from qrnn.backends import create_engine
from qrnn.backends.cpu import isa as isa_module
from qrnn.backends.cpu import packed
from qrnn.backends.cpu.blocks import PHASES, STEP_ARGS, TABLE_PAIRS
from qrnn.backends.cpu.dense import PARTS, DenseRun
from qrnn.backends.cpu.fused import CELLS as STEPS
from qrnn.backends.cpu.fused import encode
from qrnn.backends.cpu.isa import PLAIN, available_isas
from qrnn.backends.cpu.matrix import MOVING, TILE, VECTORS
from qrnn.backends.cpu.packed import is_simple
from qrnn.model.float_model import CellKind
from qrnn.model.quant_model import QuantDense, QuantModel

LOADS, COUNTING = ("ld1r", "ldr", "ldp", "ldur"), ("add", "sub", "subs", "cmp", "mov", "b.lt", "b.ge")

Executables = Callable[[tuple[str, ...], bool], Path]

emulated = pytest.mark.skipif(
    COMPILER is None or EMULATOR is None, reason="needs aarch64-linux-gnu-gcc and qemu-aarch64 (qemu-user)"
)


@cache
def built(phases: tuple[str, ...], simple: bool) -> tuple[str, bytes]:
    """Assembly and object code of a cell's steps."""
    return compiled(step_module(NEON, phases, simple))


@pytest.fixture(scope="module")
def executables(tmp_path_factory: pytest.TempPathFactory) -> Executables:
    @cache
    def made(phases: tuple[str, ...], simple: bool) -> Path:
        return link(built(phases, simple)[1], tmp_path_factory.mktemp(phases[0]))

    return made


def loops(assembly: str, function: str) -> list[list[str]]:
    """The instructions of each innermost loop that is one basic block: from a label to a branch back to it."""
    body = assembly[assembly.index(f"\n{function}:") :]
    body = body[: body.index("Lfunc_end")]
    found = []
    for match in re.finditer(r"^(\.LBB\w+):((?:.*\n(?!\.LBB))*)", body, re.MULTILINE):
        lines = [line.strip() for line in match[2].splitlines() if line.startswith("\t") and line[1] != "."]
        back = [k for k, line in enumerate(lines) if line.startswith("b.") and line.endswith(match[1])]
        found += [lines[: back[0] + 1]] if back else []
    return found


@pytest.mark.parametrize("simple", [False, True])
@pytest.mark.parametrize("phases", sorted(set(STEPS.values())))
def test_the_inner_loops_are_dot_products(phases: tuple[str, ...], simple: bool) -> None:
    """Nothing but loads, sdot and the loop's own count; no calls anywhere; requantization by widening multiplication."""
    assembly, _ = built(phases, simple)
    gates = PHASES[phases[0]].gates
    own = {"step": PHASES[phases[0]].count, "second_step": PHASES[phases[-1]].count}
    dots = {name: {2 * count} for name, count in own.items()}  # two groups of columns at a time
    dots |= {name.replace("step", "group_step"): {TILE * count} for name, count in own.items()}
    dots |= {name: {2 * count, TILE * count} for name, count in (("product", gates), ("dense", PARTS))}
    for function, counts in dots.items():
        inner = [loop for loop in loops(assembly, function) if any(line.startswith("sdot") for line in loop)]
        assert {sum(line.startswith("sdot") for line in loop) for loop in inner} == counts, function
        for loop in inner:
            names = [line.split()[0] for line in loop]
            count = names.count("sdot")
            assert set(names) <= {"sdot", *LOADS, *COUNTING}, names
            assert len(names) - count <= count + 10, function
    assert not re.search(r"^\tblr?\s", assembly, re.MULTILINE)
    assert "smlal" in assembly


def encoded(
    program: Program, x: Any, coding: Any, shift: int, limit: int, groups: int, planes: int, row: int
) -> tuple[int, int]:
    """Address of the operands of x [M, K], and bytes between two: all but the last lanes by the program, as in `fused.encode_steps`."""
    words, offsets, lanes = coding
    M, K = x.shape
    out = np.zeros((M + VECTORS, row), np.uint8)
    for m in range(M):
        encode(x[m], K // lanes * lanes, shift, limit, out[m], words, planes, offsets)
    source, base = program.place(x), program.place(out)
    for m in range(M):
        program.call("encode", (source + 2 * K * m, base + row * m, shift, limit, groups, planes), K // lanes)
    return base, row


class _Layer:
    """The first direction of a layer in a program's memory, for sequences of ``steps`` steps; see `fused.run_group`."""

    def __init__(self, model: QuantModel, x: Any, h: Any, c: Any) -> None:
        self.layer = model.recurrent_layers[0]
        self.phases = STEPS[self.layer.cell, self.layer.linear_before_reset]
        d = self.layer.directions[0]
        self.program, self.x, self.simple = Program(), x, is_simple(d)
        self.y = np.zeros((*x.shape[:2], self.layer.hidden_size), np.int16)
        self.packed = packed.pack_direction(NEON, self.layer, d)
        self.scratch = packed.group_scratch(NEON, self.layer)
        operands, reset, z, self.h, self.c, xs, _, sums, *_ = self.scratch
        _, _, groups, planes = self.packed.hh
        words, offsets, self.lanes = self.packed.coding
        formats = self.packed.formats
        for k in range(len(h)):
            self.h[k, : h.shape[1]], self.c[k, : c.shape[1]] = h[k], c[k]
            encode(h[k], 0, int(formats[0]), int(formats[1]), operands[0, k], words, planes, offsets)
        place = self.program.place
        functions = self.packed.functions.copy()
        functions[:, TABLE_PAIRS] = [place(table) for table in self.packed.tables]
        self.fixed = [place(a) for a in (*self.packed.hh[:2], functions, formats)]
        self.operands, self.row = place(operands), operands.shape[2]
        self.places, self.sums = [place(reset), place(z)], place(sums)
        self.states = [place(self.h), place(self.c), groups, planes]
        self.xs, self.xs_bytes = place(xs), 4 * xs.shape[2]
        of_state = (4 * z.shape[1], xs.shape[1] * self.xs_bytes, 2 * self.h.shape[1], 4 * self.c.shape[1])
        self.strides = (self.row, self.row, self.row, *of_state)
        self.last = self.h.shape[1] // self.lanes

    def input_products(self) -> None:
        """Of every step of every sequence."""
        weights, params, groups, planes = self.packed.ih
        shift, limit = (int(v) for v in self.packed.formats[2:4])
        N, T, I = self.x.shape
        coded = (self.packed.coding, shift, limit, groups, planes, self.scratch[6].shape[1])
        base, row = encoded(self.program, self.x.reshape(N * T, I), *coded)
        ih = [self.program.place(weights), self.program.place(params)]
        for n in range(N):
            here = (base + n * T * row, row, self.xs + n * self.strides[4], self.xs_bytes, groups, planes, self.sums)
            self.program.call("product", (*ih, *here), T, 0, self.last)

    def steps(self, group: bool) -> None:
        """All time steps, of the sequences together or one by one."""
        N, T, H = self.y.shape
        y = self.program.place(self.y)
        now, following = self.operands, self.operands + self.scratch[0].shape[1] * self.row
        for t in range(T):
            for phase, entry in enumerate(("step", "second_step")[: len(self.phases)]):
                source = self.places[0] if phase else now
                values = (*self.fixed, source, following, *self.places, self.xs + t * self.xs_bytes, *self.states)
                if group:
                    self.program.call(
                        entry.replace("step", "group_step"), values, self.strides, self.sums, N, self.last
                    )
                    continue
                for n in range(N):
                    moved = list(values)
                    for name, stride in zip(MOVING, self.strides, strict=True):
                        moved[STEP_ARGS.index(name)] += n * stride
                    self.program.call(entry, moved, 0, self.last, t & 1)
            for n in range(N):
                self.program.call("copy", y + 2 * H * (n * T + t), self.states[0] + n * self.strides[5], 2 * H)
            now, following = following, now

    def run(self, executables: Executables, group: bool) -> dict[str, Any]:
        """What `run_raw` gives for the layer."""
        self.input_products()
        self.steps(group)
        self.program.run(executables(self.phases, self.simple))
        N, _, H = self.y.shape
        C = H if self.layer.cell == "lstm" else 0
        return {"y": self.y, "h": self.h[:N, None, :H], "c": self.c[:N, None, :C]}


def simplified(rng: np.random.Generator, model: QuantModel) -> QuantModel:
    """The model with its layer as `is_simple` has it."""
    layer = model.recurrent_layers[0]
    d = layer.directions[0]
    gates = []
    for gate, role in zip(d.gates, layer.roles, strict=True):
        low, high = (-32768, 32768) if layer.cell == "rnn" else (0, 32768) if role in "iforz" else (-32767, 32767)
        while not is_simple(replace(d, pre_shift=np.zeros_like(d.pre_shift), gates=(gate,))):
            gate = fusable_function(rng, low, high, gate.in_frac, gate.out_frac)
        gates.append(gate)
    d = replace(d, pre_shift=np.zeros_like(d.pre_shift), gates=tuple(gates))
    return replace(model, layers=(replace(layer, directions=(d,)),))


def check(executables: Executables, model: QuantModel, x: Any, h: Any, c: Any) -> None:
    """By steps of one sequence and of all of them at once."""
    lengths = np.full(len(x), x.shape[1])
    want = run_raw(model, (h, c), x, lengths, "reference")
    for group in (False, True):
        got = _Layer(model, x, h[:, 0], c[:, 0]).run(executables, group)
        assert_equal({name: want[name] for name in got}, got)


@emulated
@pytest.mark.parametrize("simple", [False, True])
@pytest.mark.parametrize("limit", [127, 32767])
@pytest.mark.parametrize(("cell", "after"), CELLS)
def test_emulated_steps_equal_the_reference(
    executables: Executables, cell: CellKind, after: bool, limit: int, simple: bool
) -> None:
    """Inputs and states up to the ends of their types, a third of them there."""
    for seed, (hidden, inputs) in enumerate(((1, 65), (3, 1), (17, 3), (65, 17), (8, 32))):
        rng = np.random.default_rng(seed)
        model = fusable_model(rng, FusableShape(cell, after, hidden, inputs, limit, limit))
        model = simplified(rng, model) if simple else model
        assert is_simple(model.recurrent_layers[0].directions[0]) or not simple
        x = ends(rng, -32768, 32767, 5, 4, inputs).astype(np.int16)
        h = ends(rng, -32767, 32767, 5, 1, hidden).astype(np.int16)
        c = ends(rng, -(1 << 31), (1 << 31) - 1, 5, 1, hidden if cell == "lstm" else 0).astype(np.int32)
        check(executables, model, x, h, c)


@emulated
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("limit", [127, 32767])
def test_emulated_steps_at_their_ends(executables: Executables, limit: int, sign: int) -> None:
    """The largest weights, inputs and states: the sums and the bias's correction as far as the proof lets them come."""
    model = largest_model("lstm", True, limit, sign)
    x, h, c = largest_run("lstm")
    check(executables, model, x, h, c)


@emulated
@pytest.mark.parametrize("limit", [127, 32767])
@pytest.mark.parametrize(
    ("vectors", "inputs", "rows"), [(1, 1, 1), (2, 33, 17), (17, 64, 65), (5, 7, 16), (20, 250, 3)]
)
def test_emulated_dense_layers(executables: Executables, vectors: int, inputs: int, rows: int, limit: int) -> None:
    rng = np.random.default_rng(inputs)
    model = dense_model(rng, inputs, rows, limit)
    layer = model.layers[0]
    assert isinstance(layer, QuantDense)
    x = ends(rng, -32768, 32767, vectors, inputs).astype(np.int16)
    program, dense = Program(), DenseRun(NEON, layer)
    weights, params, groups, planes = dense.rows
    operands, results, sums, _ = dense.scratch()
    coded = (dense.fixed[0], layer.operand.shift, layer.operand.limit, groups, planes, operands.shape[1])
    placed = [program.place(a) for a in (weights, params)]
    address, row = encoded(program, x, *coded)
    where = (address, row, program.place(results), 2 * results.shape[1], groups, planes, program.place(sums))
    program.call("dense", (*placed, *where), vectors, 0, len(params))
    program.run(executables(STEPS["rnn", True], True))
    want = create_engine("reference", model).dense(layer, x)
    np.testing.assert_array_equal(results[:vectors, :rows], want)


@pytest.mark.parametrize("features", ["", "+neon,+fp-armv8", "+dotprod", "-dotprod"])
@pytest.mark.parametrize("name", ["generic", "neoverse-n1", "apple-m1", "cortex-a72", "cortex-a76"])
def test_which_processors_have_it(name: str, features: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the processor's name where LLVM lists no features, or not this one."""
    monkeypatch.setattr(isa_module.config, "CPU_FEATURES", features)
    monkeypatch.setattr(isa_module.config, "CPU_NAME", name)
    isa_module.host_features.cache_clear()
    try:
        known = name not in ("generic", "cortex-a72")
        has = features != "-dotprod" and (known or features == "+dotprod")
        assert available_isas() == ((NEON.name, PLAIN) if has else (PLAIN,))
    finally:
        isa_module.host_features.cache_clear()
