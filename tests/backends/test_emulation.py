"""Emulated instructions equal their definition, and every instruction set runs on every machine by them, bit for bit as the reference."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from backends import test_isas
from backends.isa_choice import CELLS
from backends.raw_layers import FusableShape, dense_model, ends, fusable_model
from backends.test_dense import check as check_dense
from qrnn.backends.cpu import emulation
from qrnn.backends.cpu.isa import EMULATED, ISAS, PLAIN, available_isas, choose_isa, const, load, store, target_for
from qrnn.backends.cpu.matrix import tile_config
from qrnn.backends.cpu.native import machine_of
from qrnn.backends.cpu.parts import I32, I64, function_of, vector_type
from qrnn.errors import BackendError
from qrnn.model.kinds.recurrent.definition import CellKind

HERE = available_isas()
ABSENT = tuple(EMULATED + isa.name for isa in ISAS if isa.name not in HERE)
"""What this machine can only emulate."""

WORDS, LANES, BYTES = vector_type(32, 16), vector_type(16, 32), vector_type(64, 8)
QUADS, FOUR = vector_type(16, 8), vector_type(4, 32)


def compiled(emit: Callable[..., None], arity: int) -> Any:
    """``emit(builder, *addresses)`` as a function for Python, with its instructions emulated."""
    module = ir.Module()
    module.triple = llvm.get_process_triple()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * arity), "tested")
    builder = ir.IRBuilder(function.append_basic_block())
    emit(builder, *function.args)
    builder.ret_void()
    context = llvm.create_context()
    found = emulation.replaced(llvm.parse_assembly(str(module), context), context)
    assert not [f.name for f in found.functions if f.name in emulation.BODIES]
    engine = llvm.create_mcjit_compiler(found, machine_of(target_for(EMULATED + "amx")))
    engine.finalize_object()
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * arity)(engine.get_function_address("tested"))

    def run(*arrays: Any) -> None:
        call(*(a if isinstance(a, int) else a.ctypes.data for a in arrays))

    run.engine = engine  # type: ignore[attr-defined]
    return run


def value_of(name: str, kinds: list[Any], result: Any, extra: tuple[Any, ...] = ()) -> Callable[..., Any]:
    """An instruction that takes values of ``kinds`` and constants, for arrays."""

    def emit(builder: Any, out: Any, *places: Any) -> None:
        values = [load(builder, at, kind) for at, kind in zip(places, kinds, strict=True)]
        function = function_of(builder.module, name, result, [*kinds, *(e.type for e in extra)])
        store(builder, builder.call(function, [*values, *extra]), out)

    run = compiled(emit, 1 + len(kinds))

    def call(*arrays: Any) -> Any:
        out = np.zeros(result.count, f"i{result.element.width // 8}")
        run(out, *arrays)
        return out

    return call


def random_bytes(rng: Any, count: int) -> Any:
    """A third of them at the ends of their types, in words of one, two and four bytes."""
    drawn = rng.integers(0, 256, count, np.uint8)
    words = drawn.view(np.int16)
    words[rng.random(len(words)) < 0.3] = rng.choice([-32768, 32767, 0, -1])
    return drawn


def int32(values: Any) -> Any:
    return np.asarray(values).astype(np.int64).astype(np.uint64).astype(np.uint32).view(np.int32)


def dot_of_bytes(acc: Any, one: Any, two: Any) -> Any:
    products = one.astype(np.int64) * two.view(np.int8).astype(np.int64)
    return int32(acc + products.reshape(-1, 4).sum(axis=1))


def pack(a: Any, b: Any, least: int, most: int) -> Any:
    blocks = np.stack([np.clip(v.view(np.int32), least, most).reshape(4, 4) for v in (a, b)], axis=1)
    return blocks.reshape(-1).astype(np.uint16).view(np.int16)


def words(v: Any) -> Any:
    return v.view(np.int16).astype(np.int64)


X86, NEON = "llvm.x86.avx512.", "llvm.aarch64.neon."
INSTRUCTIONS: dict[str, tuple[list[Any], Any, tuple[Any, ...], Callable[..., Any]]] = {
    f"{X86}vpdpbusd.512": ([LANES] * 3, LANES, (), lambda c, a, b: dot_of_bytes(c.view(np.int32), a, b)),
    f"{X86}pmulh.w.512": ([WORDS] * 2, WORDS, (), lambda a, b: (words(a) * words(b) >> 16).astype(np.int16)),
    f"{X86}pmul.hr.sw.512": (
        [WORDS] * 2,
        WORDS,
        (),
        lambda a, b: ((words(a) * words(b) + (1 << 14)) >> 15).astype(np.int16),
    ),
    f"{X86}pmaddw.d.512": (
        [WORDS] * 2,
        LANES,
        (),
        lambda a, b: int32((words(a) * words(b)).reshape(-1, 2).sum(axis=1)),
    ),
    f"{X86}packssdw.512": ([LANES] * 2, WORDS, (), lambda a, b: pack(a, b, -32768, 32767)),
    f"{X86}packusdw.512": ([LANES] * 2, WORDS, (), lambda a, b: pack(a, b, 0, 65535)),
    f"{X86}vpermi2var.hi.512": (
        [WORDS] * 3,
        WORDS,
        (),
        lambda low, k, high: np.concatenate([low, high]).view(np.int16)[k.view(np.uint16) & 63],
    ),
    f"{X86}pternlog.d.512": (
        [LANES] * 3,
        LANES,
        (ir.Constant(I32, 0b01000010),),
        lambda a, b, c: ((a ^ c) & (b ^ c)).view(np.int32),
    ),
    f"{NEON}sdot.v4i32.v16i8": (
        [FOUR, QUADS, QUADS],
        FOUR,
        (),
        lambda c, a, b: dot_of_bytes(c.view(np.int32), a.view(np.int8), b),
    ),
    f"{NEON}smmla.v4i32.v16i8": (
        [FOUR, QUADS, QUADS],
        FOUR,
        (),
        lambda c, a, b: int32(
            c.view(np.int32)
            + (
                a.view(np.int8).reshape(2, 8).astype(np.int64) @ b.view(np.int8).reshape(2, 8).T.astype(np.int64)
            ).reshape(-1)
        ),
    ),
}


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_an_emulated_instruction_equals_its_definition(name: str) -> None:
    kinds, result, extra, definition = INSTRUCTIONS[name]
    run, rng = value_of(name, kinds, result, extra), np.random.default_rng(0)
    for _ in range(200):
        arrays = [random_bytes(rng, k.count * k.element.width // 8) for k in kinds]
        np.testing.assert_array_equal(run(*arrays), definition(*arrays), err_msg=name)


# --- tiles --------------------------------------------------------------------------------------------------------------------------------


def _amx(builder: Any, name: str, *arguments: Any) -> None:
    function = function_of(builder.module, f"llvm.x86.{name}", ir.VoidType(), [a.type for a in arguments])
    builder.call(function, list(arguments))


def tile_product(builder: Any, config: Any, c: Any, a: Any, w: Any) -> None:
    """C += A · W by tiles 0, 3 and 7; rows lie 64 bytes apart, those of C 80."""

    def pointer(address: Any) -> Any:
        return builder.inttoptr(address, ir.IntType(8).as_pointer())

    def tile(number: int) -> Any:
        return ir.Constant(ir.IntType(8), number)

    _amx(builder, "ldtilecfg", pointer(config))
    _amx(builder, "tileloadd64", tile(0), pointer(c), const(80))
    _amx(builder, "tileloadd64", tile(3), pointer(a), const(64))
    _amx(builder, "tileloadd64", tile(7), pointer(w), const(64))
    _amx(builder, "tdpbusd", tile(0), tile(3), tile(7))
    _amx(builder, "tilestored64", tile(0), pointer(c), const(80))
    _amx(builder, "tilerelease")


def config_of(m: int, k: int, n: int) -> Any:
    """Tiles 0 [m, n], 3 [m, k] and 7 [k, n], of 32-bit words."""
    config = np.zeros(64, np.uint8)
    config[0] = 1
    for number, (rows, columns) in {0: (m, n), 3: (m, k), 7: (k, n)}.items():
        config[48 + number], config[16 + 2 * number] = rows, 4 * columns
    return config


def test_tiles_of_any_shape_belong_to_their_thread() -> None:
    """Each thread has a configuration and tiles of its own; what lies beside the tiles is not touched."""
    run = compiled(tile_product, 4)

    def products(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(100):
            m, k, n = (int(v) for v in rng.integers(1, 17, 3))
            a, w = (random_bytes(rng, 1024).reshape(16, 64) for _ in range(2))
            c = random_bytes(rng, 16 * 80).view(np.int32).reshape(16, 20)
            want = c.astype(np.int64)
            weights = w[:k, : 4 * n].view(np.int8).reshape(k, n, 4).transpose(0, 2, 1).reshape(4 * k, n)
            want[:m, :n] += a[:m, : 4 * k].astype(np.int64) @ weights.astype(np.int64)
            run(config_of(m, k, n), c, a, w)
            np.testing.assert_array_equal(c, int32(want))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(products, range(6)))
    assert tile_config()[:1] == [1]


FAULTS = """
import numpy as np, sys
from backends.test_emulation import compiled, config_of, tile_product
config = config_of(4, 5, 6)
{fault}
arrays = [np.zeros(2048, np.uint8) for _ in range(3)]
compiled(tile_product, 4)(config, *arrays)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize(
    "fault",
    [pytest.param("", id="none"), "config[0] = 0", pytest.param("config[48 + 7] = 6", marks=pytest.mark.matrix)],
)
def test_tiles_that_do_not_fit_end_the_process(fault: str) -> None:
    """As the processor does: no palette, and tiles of shapes that do not go together."""
    tests = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", FAULTS.format(fault=fault)], check=False, timeout=60, env=environment)
    assert done.returncode in ((-signal.SIGILL, -signal.SIGTRAP) if fault else (0,))


# --- instruction sets ---------------------------------------------------------------------------------------------------------------------


def test_their_names() -> None:
    for isa in ISAS:
        found = choose_isa(EMULATED + isa.name)
        assert found is not None
        assert (found.emulated, found.lanes, found.amx) == (True, isa.lanes, isa.amx)
        assert target_for(found.name).features == target_for(PLAIN).features
        assert found.name not in HERE
    for name in (EMULATED, EMULATED + PLAIN, EMULATED + "mmx", 2 * EMULATED + "amx"):
        with pytest.raises(BackendError, match="unknown"):
            choose_isa(name)


FEW = [name for name in ABSENT if name.removeprefix(EMULATED) in ("amx", "neon-i8mm")]
"""Those whose products of many vectors have a code of their own."""


@pytest.mark.parametrize("isa", FEW)
def test_dense_layers(isa: str) -> None:
    """Bytes and words, whole tiles and tails."""
    for limit in (127, 32767):
        rng = np.random.default_rng(limit)
        dense = dense_model(rng, 64, 33, limit)
        check_dense(dense, ends(rng, -32768, 32767, 35, 64).astype(np.int16), (isa,))


@pytest.mark.parametrize("isa", FEW)
@pytest.mark.parametrize("simple", [False, pytest.param(True, marks=pytest.mark.matrix)])
def test_groups_of_sequences(isa: str, simple: bool) -> None:
    for limit, hidden in ((127, 20), (32767, 40)):
        rng = np.random.default_rng(limit)
        model = fusable_model(rng, FusableShape("rnn", True, hidden, 66, limit, limit, (False,), simple, simple))
        test_isas.check_raw(model, rng, rng.choice([0, 1, 2, 17], 37), (isa,))


@pytest.mark.matrix
@pytest.mark.shard_by("isa", "cell", "after")
@pytest.mark.time_limit(1800)
@pytest.mark.parametrize("isa", ABSENT)
@pytest.mark.parametrize(("cell", "after"), CELLS)
def test_every_cell(cell: CellKind, after: bool, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `test_isas` asks of the instruction sets of this machine."""
    test_isas.test_all_isas_for_every_cell(cell, after, isa, monkeypatch)
