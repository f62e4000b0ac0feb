"""Every kernel compiles for Turing, Ampere and Hopper, with the instructions that it was made for and without local memory."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from backends.cuda.ptx import (
    AMPERE,
    CAPABILITIES,
    ELEMENTS,
    FLAG,
    GENERAL,
    HOPPER,
    LONGS,
    LONGS2,
    OCTETS,
    OCTETS2,
    ORDER,
    PACK,
    PLAIN_DENSE,
    PLAIN_PRODUCT,
    PTXAS,
    SHORTS,
    SHORTS2,
    SHORTS3,
    STEPS,
    TURING,
    WORDS,
    WORDS2,
    WORDS3,
    Capability,
    N,
    assemble,
    assert_registers_suffice,
    instructions,
    linker,
    ptx_of,
    types,
)
from backends.loop_kinds import difference_rows, pooled_step
from qrnn.backends.cuda import general, inputs, kinds, loops, steps
from qrnn.backends.cuda.kernel_variants import BLOCK, GRID, LAUNCH, MOST_THREADS, StepKind
from qrnn.model.cell_codes import GRU_RESET_AFTER, GRU_RESET_BEFORE, LSTM, RNN
from qrnn.model.kinds.attention_pool import attention_pool_step
from qrnn.model.kinds.average_pool import average_pool_step
from qrnn.model.kinds.running import running_extreme_step, running_sum_step

NAMES = {capability: f"sm_{capability[0]}{capability[1]}" for capability in CAPABILITIES}
PRODUCTS = {
    TURING: "mma.sync.aligned.m8n8k16.row.col.s32.s8",
    AMPERE: "mma.sync.aligned.m16n8k32.row.col.s32.s8",
    HOPPER: "mma.sync.aligned.m16n8k32.row.col.s32.s8",
}
SPREAD = "cudaCGSynchronize"
"""The function that a grid meets by; the driver's linker puts CUDA's device runtime to it."""

FEW = (
    (LSTM, 4, 2, 2, GRID, True, 0),
    (GRU_RESET_AFTER, 3, 1, 1, GRID, True, 1),
)
"""Cell, gates, bytes of an operand, tiles, barrier, resident, sequences of dp4a; for every device."""

MORE = (
    (LSTM, 4, 1, 1, BLOCK, True, 0),
    (LSTM, 4, 1, 4, GRID, False, 0),
    (GRU_RESET_AFTER, 3, 1, 4, BLOCK, True, 0),
    (GRU_RESET_BEFORE, 3, 1, 2, GRID, True, 0),
    (RNN, 1, 1, 4, GRID, True, 0),
)
RARE = (
    (LSTM, 3, 2, 1, BLOCK, True, 2),
    (GRU_RESET_BEFORE, 3, 2, 1, LAUNCH, False, 1),
    (RNN, 1, 2, 2, BLOCK, False, 0),
    (GRU_RESET_AFTER, 3, 2, 2, LAUNCH, True, 0),
)
"""In long runs, for every device."""

KINDS: list[Any] = [StepKind(*kind, c) for c in CAPABILITIES for kind in FEW] + [
    StepKind(*kind, HOPPER) for kind in MORE
]
KINDS += [pytest.param(StepKind(*kind, c), marks=pytest.mark.long) for c in CAPABILITIES for kind in RARE]


def check(ptx: str, capability: Capability, folder: Path) -> None:
    assert f".target {NAMES[capability]}" in ptx
    assert not instructions(ptx, "div.approx")
    if PTXAS is not None:
        assert_registers_suffice(assemble(ptx, capability, folder))


def label(kind: StepKind) -> str:
    product = "dp4a" if kind.dp4a_sequences else f"{kind.tiles}tiles"
    return f"{NAMES[kind.capability]}-{kind.cell}-{kind.operand_bytes}-{product}-{kind.barrier}"


@pytest.mark.wide(cover=False, keep=1)
@pytest.mark.parametrize("kind", KINDS, ids=label)
def test_steps(kind: StepKind, tmp_path: Path) -> None:
    ptx = ptx_of(steps.step_kernel(kind), STEPS, kind.capability)
    operands = {"s8", "u8"} if kind.operand_bytes == 2 else {"s8"}
    if kind.dp4a_sequences:
        assert instructions(ptx, "dp4a") == {f"dp4a.s32.{sign.replace('8', '32')}" for sign in operands}
        assert instructions(ptx, "shfl.sync") == {"shfl.sync.bfly.b32"}
        assert not instructions(ptx, "mma")
    else:
        assert instructions(ptx, "mma") == {f"{PRODUCTS[kind.capability]}.{sign}.s32" for sign in operands}
        assert not instructions(ptx, "dp4a")
    assert (SPREAD in ptx) == (kind.barrier == GRID)
    assert instructions(ptx, "bar.sync")
    assert f".maxntid {MOST_THREADS}" in ptx
    assert "ld.shared" in ptx
    assert ptx.count(".extern .shared") == 1, "bytes and words of shared memory are one array to the compiler"
    check(ptx, kind.capability, tmp_path)
    if kind.barrier == GRID:
        check_links(kind.capability, tmp_path)


def check_links(capability: Capability, folder: Path) -> None:
    """What a grid meets by is a function of CUDA's device runtime; all else is in the kernel."""
    if (found := linker()) is None or PTXAS is None:
        return
    program, library = found
    command = [program, f"-arch={NAMES[capability]}", str(folder / "kernel.cubin"), "-o", str(folder / "linked.cubin")]
    alone = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert alone.returncode != 0
    assert SPREAD in alone.stderr
    whole = [*command, f"-L{library}", "-lcudadevrt"]
    done = subprocess.run(whole, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("capability", CAPABILITIES, ids=NAMES.get)
@pytest.mark.parametrize(("planes", "dense"), [(1, False), (2, True)])
def test_products(planes: int, dense: bool, capability: Capability, tmp_path: Path) -> None:
    kernel = inputs.product_kernel(planes, dense, capability)
    ptx = ptx_of(kernel, (WORDS, WORDS2, WORDS, N, N, SHORTS2 if dense else WORDS2), capability)
    operands = {"s8", "u8"} if planes == 2 else {"s8"}
    assert instructions(ptx, "mma") == {f"{PRODUCTS[capability]}.{sign}.s32" for sign in operands}
    check(ptx, capability, tmp_path)


def kernel_at(place: str) -> Any:
    """A kernel of `qrnn.backends.cuda`, by its module and its name there."""
    module, _, name = place.rpartition(".")
    return getattr(importlib.import_module(f"qrnn.backends.cuda.{module}"), name)


PLAIN: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "general": (general.run_general, GENERAL),
    "pack": (inputs.pack_operands, PACK),
    "order": (inputs.order_operands, ORDER),
    "plain_product": (inputs.run_plain_product, PLAIN_PRODUCT),
    "plain_dense": (inputs.run_plain_product, PLAIN_DENSE),
    **{place: (kernel_at(place), arguments) for place, arguments in ELEMENTS.items()},
}


@pytest.mark.wide(cover=False, keep=4)
@pytest.mark.parametrize("name", PLAIN)
def test_plain_kernels(name: str, tmp_path: Path) -> None:
    kernel, arguments = PLAIN[name]
    ptx = ptx_of(kernel, arguments, TURING)
    if name == "elements.quantize":
        assert {"div.rn.f64"} == {i for i in instructions(ptx, "div.") if "f" in i}, "the boundary's division is IEEE's"
        assert not instructions(ptx, "fma"), "nothing is contracted: float64 as on the host"
    check(ptx, TURING, tmp_path)


PARAMETERS: dict[str, tuple[Any, ...]] = {
    "dense": (OCTETS2, WORDS, WORDS, OCTETS, OCTETS, N, N),
    "pointwise": (LONGS2, WORDS2, N, N, N),
    "softmax": (WORDS, N),
    "add": (N, N, N),
    "concat": (N, LONGS, N, N),
    "embedding": (SHORTS2,),
}
"""The parameters of each kind's loop over rows, as its `row_loops` give them."""


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("name", PARAMETERS)
def test_loops_over_rows(name: str, tmp_path: Path) -> None:
    """The definitions compile, those of the kinds with kernels too: what is compiled for a new kind is of the same language."""
    make = getattr(importlib.import_module(f"qrnn.model.kinds.{name}"), f"{name}_rows")
    x = {"add": (SHORTS2, SHORTS2), "embedding": (LONGS,)}.get(name, (SHORTS2,))
    arguments = (types.Tuple(PARAMETERS[name]), types.Tuple(x), SHORTS2)
    check(ptx_of(loops.row_loop_kernel(make), arguments, TURING), TURING, tmp_path)


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("capability", [TURING, HOPPER], ids=NAMES.get)
def test_a_kind_that_only_its_definition_knows(capability: Capability, tmp_path: Path) -> None:
    arguments = (types.Tuple((SHORTS, N)), types.Tuple((SHORTS2,)), SHORTS2)
    check(ptx_of(loops.row_loop_kernel(difference_rows), arguments, capability), capability, tmp_path)


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize(
    ("capability", "out"),
    [(TURING, SHORTS3), (HOPPER, types.Array(types.int16, 3, "A"))],
    ids=["sm_75-whole", "sm_90-columns"],
)
def test_steps_that_only_their_definition_knows(capability: Capability, out: Any, tmp_path: Path) -> None:
    """Into an array of its own, or into a direction's columns of a wider one."""
    states, parameters, scratch = (WORDS2, WORDS2), (OCTETS2, WORDS, WORDS, N, N), (SHORTS2,)
    rest = types.Tuple((*states, *parameters, *scratch))
    arguments = (LONGS, FLAG, N, FLAG, types.Tuple((SHORTS3,)), out, LONGS, rest, SHORTS2, SHORTS3, WORDS2, WORDS3)
    check(ptx_of(loops.step_loop_kernel(pooled_step), arguments, capability), capability, tmp_path)


REDUCTIONS: dict[str, tuple[Any, int, tuple[Any, ...]]] = {
    "sum": (running_sum_step, 1, (SHORTS2, WORDS2, WORDS2, *[N] * 6)),
    "extreme": (running_extreme_step, 1, (SHORTS3, *[N] * 3)),
    "pool": (average_pool_step, 1, (SHORTS3, SHORTS2, WORDS2, WORDS2, *[N] * 12)),
    "attention": (attention_pool_step, 2, (WORDS3, *[WORDS2] * 5, LONGS, LONGS, *[N] * 4, WORDS, *[WORDS2] * 3)),
}
"""The number of inputs of each step, and its states, parameters and scratch arrays."""


@pytest.mark.wide(cover=False, keep=1)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_steps_of_reductions(name: str, tmp_path: Path) -> None:
    make, count, rest = REDUCTIONS[name]
    inputs = types.Tuple((SHORTS3,) * count)
    arguments = (LONGS, FLAG, N, FLAG, inputs, SHORTS3, LONGS, types.Tuple(rest), SHORTS2, SHORTS3, WORDS2, WORDS3)
    check(ptx_of(loops.step_loop_kernel(make), arguments, TURING), TURING, tmp_path)


def test_every_kernel_is_here() -> None:
    """A kernel that nobody compiled would be found by its first user."""
    modules = ["elements", *(f"kinds.{module.name}" for module in pkgutil.iter_modules(kinds.__path__))]
    found = {
        f"{module}.{name}"
        for module in modules
        for name, value in vars(importlib.import_module(f"qrnn.backends.cuda.{module}")).items()
        if getattr(value, "targetoptions", {}).get("launch_bounds") and value.py_func.__module__.endswith(module)
    }
    assert found == set(ELEMENTS)
