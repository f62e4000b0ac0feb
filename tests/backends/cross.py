"""Fused steps for a processor that is not this one: emitted by LLVM, linked with a small C program, run by an emulator.

A `Program` is an image of memory and a list of calls of the functions of `ENTRIES`, with the addresses in the image for arguments; what the
image holds after the calls comes back. The calls are those that `qrnn.backends.cpu.fused` makes, and everything is packed as it packs it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from qrnn.backends.cpu import blocks, group_steps, matrix
from qrnn.backends.cpu.isa import Isa, const, isa_named, load
from qrnn.backends.cpu.kinds.dense import MOST_PARTS
from qrnn.backends.cpu.parts import I64
from qrnn.backends.cpu.steps import KernelVariant

TRIPLE = "aarch64-unknown-linux-gnu"
NEON, I8MM = isa_named("neon-dotprod"), isa_named("neon-i8mm")

COMPILER = shutil.which("aarch64-linux-gnu-gcc")
EMULATOR = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")

BASE = 1 << 32
"""Where the image lies."""

DENSE = tuple(f"dense_{parts}" for parts in range(1, MOST_PARTS + 1))
"""Products of a dense layer, by how many blocks of rows are multiplied together."""

ENTRIES = ("copy", "encode", "product", "step", "second_step", "group_step", "second_group_step", *DENSE)
"""What a program can call; the first is of the C program."""

MAIN = r"""
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

typedef void entry(int64_t *arguments);
entry encode, product, step, second_step, group_step, second_group_step, dense_1, dense_2, dense_3, dense_4;

static void copy(int64_t *a) { memcpy((void *)a[0], (void *)a[1], a[2]); }

static entry *const entries[] = {
    copy, encode, product, step, second_step, group_step, second_group_step, dense_1, dense_2, dense_3, dense_4,
};

int main(void) {
    int64_t header[3]; /* address, bytes, address of the calls */
    if (fread(header, 8, 3, stdin) != 3) return 1;
    void *base = (void *)header[0];
    if (mmap(base, header[1], 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != base) return 2;
    if (fread(base, 1, header[1], stdin) != (size_t)header[1]) return 3;
    for (int64_t *call = (int64_t *)header[2]; call[0] >= 0; call += 2 + call[1]) entries[call[0]](call + 2);
    return fwrite(base, 1, header[1], stdout) == (size_t)header[1] ? 0 : 4;
}
"""


@dataclass
class Program:
    """See the module."""

    image: bytearray = field(default_factory=bytearray)
    calls: list[int] = field(default_factory=list)
    arrays: list[tuple[int, Any]] = field(default_factory=list)

    def place(self, array: Any) -> int:
        """The address of a copy of ``array``, which `run` brings up to date."""
        self.image += bytes(-len(self.image) % 64)
        start = len(self.image)
        self.image += array.tobytes()
        self.arrays.append((start, array))
        return BASE + start

    def call(self, entry: str, *arguments: Any) -> None:
        """Call later; arguments that are sequences are passed one by one."""
        flat = [int(v) for a in arguments for v in (a if isinstance(a, tuple | list) else (a,))]
        self.calls += [ENTRIES.index(entry), len(flat), *flat]

    def run(self, executable: Path) -> None:
        """Do the calls; the arrays placed then hold what their copies do."""
        calls = self.place(np.array([*self.calls, -1], np.int64)) - BASE
        self.image += bytes(-len(self.image) % (1 << 16))
        header = np.array([BASE, len(self.image), BASE + calls], np.int64).tobytes()
        assert EMULATOR is not None
        done = subprocess.run(
            [EMULATOR, executable], input=header + self.image, stdout=subprocess.PIPE, timeout=120, check=True
        )
        assert len(done.stdout) == len(self.image)
        for start, array in self.arrays:
            array[...] = np.frombuffer(done.stdout, array.dtype, array.size, start).reshape(array.shape)


def _entry(module: ir.Module, name: str, sizes: tuple[int, ...], emit: Callable[..., None]) -> None:
    """``void name(int64 *arguments)``: emit(builder, *arguments), of which those of a size above 0 are lists of so many."""
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64]), name)
    builder = ir.IRBuilder(function.append_basic_block())
    words = iter(range(sum(max(1, n) for n in sizes)))

    def argument() -> Any:
        return load(builder, builder.add(function.args[0], const(8 * next(words))), I64, 8)

    emit(builder, *([argument() for _ in range(n)] if n else argument() for n in sizes))
    builder.ret_void()


def step_module(isa: Isa, phases: tuple[str, ...], variant: KernelVariant) -> ir.Module:
    """Every entry that the steps of a cell of these phases need, and that of dense layers."""
    module = ir.Module()
    module.triple = TRIPLE
    values, moving, gates = len(blocks.STEP_ARGS), len(group_steps.MOVING), blocks.PHASES[phases[0]].gates
    _entry(module, "encode", (len(blocks.ENCODE_ARGS), 0), lambda b, *a: blocks.emit_encode(b, isa, *a))
    _entry(
        module,
        "product",
        (len(matrix.PRODUCT_ARGS), 0, 0, 0),
        lambda b, *a: matrix.emit_product(b, isa, gates, *a, variant=replace(variant, peephole=False)),
    )
    dense = (len(matrix.PRODUCT_ARGS), 0, 0, 0)
    for parts, name in enumerate(DENSE, 1):
        _entry(
            module,
            name,
            dense,
            lambda b, *a, parts=parts: matrix.emit_product(b, isa, parts, *a, variant=KernelVariant(), dense=True),
        )
    for prefix, phase in (("", phases[0]), ("second_", phases[-1])):
        _entry(
            module, f"{prefix}step", (values, 0, 0, 0),
            lambda b, *a, phase=phase: blocks.emit_step(b, isa, phase, variant, *a),
        )  # fmt: skip
        _entry(
            module, f"{prefix}group_step", (values, moving, 0, 0, 0),
            lambda b, *a, phase=phase: group_steps.emit_group_step(b, isa, phase, variant, *a),
        )  # fmt: skip
    return module


@cache
def _target() -> Any:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(TRIPLE)


def compiled(module: ir.Module, isa: Isa) -> tuple[str, bytes]:
    """Assembly and object code, optimized as Numba does it."""
    features = ",".join(f"+{feature}" for feature in ("neon", *isa.features))
    machine = _target().create_target_machine(features=features, opt=3, reloc="static")
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    return machine.emit_assembly(parsed), machine.emit_object(parsed)


def link(code: bytes, folder: Path) -> Path:
    """The object code with the C program around it, as an executable in ``folder``."""
    (folder / "main.c").write_text(MAIN, encoding="ascii")
    (folder / "steps.o").write_bytes(code)
    assert COMPILER is not None
    subprocess.run([COMPILER, "-O1", "-static", "-o", "steps", "main.c", "steps.o"], cwd=folder, check=True)
    return folder / "steps"
