"""Instruction sets: which this processor has, how each lays out weights and operands, and its dot product in LLVM.

Weights are packed in half blocks of ``lanes`` rows: for each group of ``group`` columns, the group's weights of row 0, of row 1, …, so that one
vector load brings a group of every row, and one broadcast the operands of that group.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name

from qrnn.backends.cpu.parts import I32, I64, INT16_LANES, function_of, splat, vector_type
from qrnn.errors import BackendError

X86, ARM = ("x86_64", "amd64"), ("aarch64", "arm64")
"""Architectures, by the names that `platform.machine` has for them, in small letters."""

Dot = Callable[[Any, Any, Any, Any], Any]
"""dot(builder, accumulators <lanes x i32>, operands, weights) → accumulators plus the products of one group, as `Isa` loads it."""


@dataclass(frozen=True)
class Isa:
    """An instruction set. ``group`` operands of a row are multiplied and summed by one instruction.

    ``operand_bits`` 8: operands are stored as bytes with ``offset`` added; 16-bit ones as their high bytes, likewise, and then their
    low bytes, with ``low_offset`` added. 16: as int16.
    """

    name: str
    features: tuple[str, ...]
    lanes: int
    group: int
    operand_bits: int
    offset: int
    dot: Dot
    low_offset: int = 0
    amx: bool = False
    """Whether products of many vectors go through AMX tiles (`qrnn.backends.cpu.matrix`)."""
    int16_lanes: bool = False
    """Whether it has what `qrnn.backends.cpu.parts` does with 16-bit lanes."""
    halves: int = 1
    """Half blocks of ``lanes`` rows in a block of hidden units; one "half" may be the whole block."""
    half_tail: bool = False
    """Whether the last block has units for its first half block only; see `unit_places`."""
    machines: tuple[str, ...] = X86
    """The architecture that has it."""
    half_dot: Dot | None = None
    """The dot product with half as many lanes, where lists of tiles of half as many rows go by it (`qrnn.backends.cpu.block_lists`)."""
    pair_dot: Dot | None = None
    """The product of eight columns of two operand vectors and two rows, where it has one (`qrnn.backends.cpu.weight_layouts`)."""
    beside: int = 0
    """Operand vectors whose products of the inputs go beside a step's products (`qrnn.backends.cpu.beside`); 0 where there is no room."""
    gate_by_gate: int = 0
    """The bytes of a direction's weights up to which several sequences go through a step gate by gate (`qrnn.backends.cpu.gate_steps`)."""
    emulated: bool = False
    """Whether its instructions are functions of plain operations (`qrnn.backends.cpu.emulation`), which any processor runs."""

    @property
    def masked(self) -> bool:
        """Whether it loads some lanes of a vector in one instruction, as AVX-512 does."""
        return self.int16_lanes

    @property
    def units(self) -> int:
        """Hidden units of a block: what goes through the gates at once."""
        return self.lanes * self.halves

    def with_int16_lanes(self) -> Isa:
        """Return the instruction set with blocks for 16-bit lanes, if it can have them."""
        return replace(self, halves=INT16_LANES // self.lanes) if self.int16_lanes else self

    def unit_order(self) -> list[int]:
        """Return the units of a block in the order of its half blocks' rows.

        It is the order in which 16-bit lanes are unpacked, so that they are packed in their own order.
        """
        if self.halves == 1:
            return list(range(self.lanes))
        return [8 * eight + 4 * half + k for half in (0, 1) for eight in range(INT16_LANES // 8) for k in range(4)]

    def leaves_half(self, units: int) -> bool:
        """Return whether the last block of so many hidden units has no more than one of its two half blocks holds."""
        return self.halves == 2 and 0 < units % self.units <= self.lanes

    def unit_places(self, blocks: int) -> list[int]:
        """Return the units of so many blocks, in the order of their half blocks' rows.

        Units of a half tail are the first rows in their own order, so that products of its other half block may be left out.
        """
        orders = [self.unit_order()] * blocks
        if self.half_tail:
            orders[-1] = list(range(self.units))
        return [block * self.units + unit for block, order in enumerate(orders) for unit in order]

    @property
    def operand_size(self) -> int:
        """Bytes of the operands of one group of columns, in one part."""
        return self.group * self.operand_bits // 8

    def operands(self, builder: Any, address: Any) -> Any:
        """Load one group's operands into every lane, as ``dot`` takes them."""
        return splat(builder, load(builder, address, I32), self.lanes)

    def weights(self, builder: Any, address: Any) -> Any:
        """Load one group's weights of every row, as ``dot`` takes them: bytes, widened to the width of operands."""
        count = self.lanes * self.group
        narrow = load(builder, address, vector_type(count, 8))
        return narrow if self.operand_bits == 8 else builder.sext(narrow, vector_type(count, self.operand_bits))

    def encoded_offset(self, byte_parts: int) -> int:
        """Return what the offsets add to an operand that is stored in so many parts."""
        return 256 * self.offset + self.low_offset if byte_parts == 2 else self.offset

    def available(self, features: dict[str, bool]) -> bool:
        """Return whether a processor with these LLVM features has it, and for AMX whether the kernel lets this process use it."""
        return all(features.get(name, False) for name in self.features) and (not self.amx or amx_permitted())


def const(value: int) -> Any:
    """Return an i64 constant."""
    return ir.Constant(I64, value)


def _bytes_pointer(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def load(builder: Any, address: Any, kind: Any, align: int = 1) -> Any:
    """Load a value of LLVM type ``kind`` from an address."""
    value = builder.load(_bytes_pointer(builder, address, kind))
    value.align = align
    return value


def store(builder: Any, value: Any, address: Any, align: int = 1) -> None:
    """Store at an address."""
    builder.store(value, _bytes_pointer(builder, address, value.type)).align = align


def _vpdpbusd(lanes: int) -> Dot:
    """Return a ``dot`` of four unsigned bytes of operands and four signed bytes of weights, summed into 32 bits without saturation."""
    bits = 32 * lanes

    def dot(builder: Any, acc: Any, operands: Any, weights: Any) -> Any:
        kind = vector_type(lanes, 32)
        function = function_of(builder.module, f"llvm.x86.avx512.vpdpbusd.{bits}", kind, [kind] * 3)
        return builder.call(function, [acc, operands, builder.bitcast(weights, kind)])

    return dot


def _vpmaddwd(builder: Any, acc: Any, operands: Any, weights: Any) -> Any:
    """Multiply two int16 operands by two weights, bytes widened to int16, and sum into 32 bits. No sum can leave them."""
    int16, kind = vector_type(16, 16), vector_type(8, 32)
    function = function_of(builder.module, "llvm.x86.avx2.pmadd.wd", kind, [int16, int16])
    return builder.add(acc, builder.call(function, [builder.bitcast(operands, int16), weights]))


def _sdot(builder: Any, acc: Any, operands: Any, weights: Any) -> Any:
    """Multiply four signed bytes of operands by four of weights, and sum into 32 bits without saturation."""
    quads, kind = vector_type(16, 8), vector_type(4, 32)
    function = function_of(builder.module, "llvm.aarch64.neon.sdot.v4i32.v16i8", kind, [kind, quads, quads])
    return builder.call(function, [acc, builder.bitcast(operands, quads), weights])


def _smmla(builder: Any, acc: Any, operands: Any, weights: Any) -> Any:
    """Multiply eight signed bytes of two vectors of operands by those of two rows of weights, and sum into [2, 2] of 32 bits."""
    bytes_, kind = vector_type(16, 8), vector_type(4, 32)
    function = function_of(builder.module, "llvm.aarch64.neon.smmla.v4i32.v16i8", kind, [kind, bytes_, bytes_])
    return builder.call(function, [acc, operands, weights])


def _pairs(builder: Any, acc: Any, operands: Any, weights: Any) -> Any:
    """Multiply two int16 operands by two weights of as many bits, and sum into 32 bits, in the plain operations of LLVM."""
    kind = weights.type
    words = builder.bitcast(operands, kind)
    for first in (0, 1):
        places = ir.Constant(vector_type(kind.count // 2, 32), list(range(first, kind.count, 2)))
        one, two = (builder.shuffle_vector(v, ir.Constant(kind, ir.Undefined), places) for v in (words, weights))
        acc = builder.add(acc, builder.mul(builder.sext(one, acc.type), builder.sext(two, acc.type)))
    return acc


_AVX512_VNNI = ("avx512f", "avx512bw", "avx512vl", "avx512vnni")


def copy_int16(builder: Any, to: Any, at: Any, count: Any) -> None:
    """Copy ``count`` int16 to one address from another."""
    pointers = [builder.inttoptr(address, ir.IntType(8).as_pointer()) for address in (to, at)]
    kinds = [p.type for p in pointers]
    memcpy = builder.module.declare_intrinsic("llvm.memcpy", [*kinds, I64])
    builder.call(memcpy, [*pointers, builder.mul(count, const(2)), ir.Constant(ir.IntType(1), 0)])


def first_int16(builder: Any, at: Any, count: Any, lanes: int) -> Any:
    """Return the ``count`` int16 at an address as the first of so many lanes, of which the others are 0; nothing behind them is read."""
    kind, word = vector_type(lanes, 16), ir.IntType(16)
    numbers = ir.Constant(kind, list(range(lanes)))
    mask = builder.icmp_unsigned("<", numbers, splat(builder, builder.trunc(count, word), lanes))
    pointer = builder.inttoptr(at, kind.as_pointer())
    align, none = ir.Constant(I32, 2), ir.Constant(kind, None)
    found = function_of(builder.module, f"llvm.masked.load.v{lanes}i16.p0", kind, [pointer.type, I32, mask.type, kind])
    return builder.call(found, [pointer, align, mask, none])


ISAS = (
    Isa(
        "amx",
        (*_AVX512_VNNI, "amx-tile", "amx-int8"),
        16,
        4,
        8,
        128,
        _vpdpbusd(16),
        amx=True,
        int16_lanes=True,
        half_dot=_vpdpbusd(8),
    ),
    Isa(
        "avx512vnni",
        _AVX512_VNNI,
        16,
        4,
        8,
        128,
        _vpdpbusd(16),
        int16_lanes=True,
        half_dot=_vpdpbusd(8),
        beside=8,
        gate_by_gate=1 << 18,
    ),
    Isa("avxvnni", ("avx2", "avxvnni"), 8, 4, 8, 128, _vpdpbusd(8)),
    Isa("avx2", ("avx2",), 8, 2, 16, 0, _vpmaddwd, gate_by_gate=1 << 62),
    # Low bytes are unsigned, but the operands of sdot and smmla are signed.
    Isa("neon-i8mm", ("dotprod", "i8mm"), 4, 4, 8, 0, _sdot, low_offset=-128, machines=ARM, pair_dot=_smmla),
    Isa("neon-dotprod", ("dotprod",), 4, 4, 8, 0, _sdot, low_offset=-128, machines=ARM),
)
"""The instruction sets, the best first."""

EMULATED = "emulated-"
"""What stands before the name of an instruction set whose instructions are to be emulated."""

PLAIN = "plain"
"""No instruction set but what the compiler makes of plain loops."""

PORTABLE = Isa(PLAIN, (), 8, 2, 16, 0, _pairs, machines=())
"""What stands in the place of an instruction set for layers that have no plain loops: it asks nothing of a processor."""


def isa_named(name: str) -> Isa:
    """Return the instruction set of a name, emulated where the name says so, or `PORTABLE`. Raise LookupError where there is none."""
    own = name.removeprefix(EMULATED)
    found = next((isa for isa in (*ISAS, PORTABLE) if isa.name == own), None)
    if found is None or (found is PORTABLE and own != name):
        raise LookupError(name)
    return found if own == name else replace(found, name=name, emulated=True)


@cache
def amx_permitted() -> bool:
    """Ask Linux for the use of AMX tiles by this process: arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    try:
        syscall = ctypes.CDLL(None, use_errno=True).syscall
    except OSError:
        return False
    return int(syscall(_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA)) == 0


_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA = 158, 0x1023, 18
"""Linux x86-64: arch/x86/include/uapi/asm/prctl.h."""


@cache
def host_features() -> dict[str, bool]:
    """Return the LLVM features of this processor, or those of them that Numba's variables of the environment leave.

    These are ``NUMBA_CPU_FEATURES``, ``NUMBA_ENABLE_AVX`` and ``NUMBA_CPU_NAME``, of which generic has no feature.
    """
    given, name = os.environ.get("NUMBA_CPU_FEATURES"), os.environ.get("NUMBA_CPU_NAME", "")
    if given is None and name.lower() == "generic":
        given = ""
    if given is not None:
        listed = {item[1:]: item[0] == "+" for item in given.split(",") if item}
    else:
        try:
            listed = dict(get_host_cpu_features())
        except RuntimeError:
            listed = {}
        if os.environ.get("NUMBA_ENABLE_AVX", "1") == "0":
            listed = {feature: on and not feature.startswith("avx") for feature, on in listed.items()}
    name = name or get_host_cpu_name()
    known = {"dotprod": DOTPROD_CPUS, "i8mm": I8MM_CPUS}
    return {feature: True for feature, names in known.items() if name.startswith(names)} | listed


_ARMV9 = tuple(f"cortex-a{n}" for n in (510, 520, 710, 715, 720, 725))
DOTPROD_CPUS = ("apple-m", "neoverse-", "cortex-x", *(f"cortex-a{n}" for n in (55, 75, 76, 77, 78)), *_ARMV9)
"""Names of AArch64 processors for which LLVM uses dot products, listed or not: of an AArch64 host, LLVM lists some features on Linux (dotprod
from LLVM 20 on) and none on macOS."""
I8MM_CPUS = (
    *(f"apple-m{n}" for n in range(2, 10)),
    *(f"neoverse-{n}" for n in ("v1", "v2", "v3", "n2", "n3", "512tvb")),
    *(f"cortex-x{n}" for n in (2, 3, 4, 9)),
    *_ARMV9,
)
"""Names of AArch64 processors for which LLVM uses products of matrices of bytes, listed or not."""


def available_isas() -> tuple[str, ...]:
    """Return the names of what this processor has, best first, `PLAIN` last."""
    return (*(isa.name for isa in ISAS if isa.available(host_features())), PLAIN)


def is_emulated(name: str) -> bool:
    """Return whether an instruction set is named that is to be emulated."""
    return name.removeprefix(EMULATED) in {isa.name for isa in ISAS} and name.startswith(EMULATED)


def choose_isa(name: str | None = None) -> Isa | None:
    """Return the instruction set named, or by ``QRNN_CPU_ISA``, or the best; None for `PLAIN`.

    Raise BackendError for one that is not to be had.
    """
    wanted = name or os.environ.get("QRNN_CPU_ISA") or None
    here = available_isas()
    if wanted is not None and is_emulated(wanted):
        return isa_named(wanted)
    if wanted is not None and wanted not in here:
        known = wanted in {isa.name for isa in ISAS}
        raise BackendError(
            f"instruction set {wanted!r} {'is not in this processor' if known else 'is unknown'}; expected one of {', '.join(here)}"
            + (f", or {EMULATED}{wanted} for a slow test of its code" if known else "")
        )
    return next((isa for isa in ISAS if isa.name == (wanted or here[0])), None)


_V2 = ("cx16", "sahf", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2")
_V3 = (*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_LEVELS = (("x86-64-v4", _V4), ("x86-64-v3", _V3), ("x86-64-v2", _V2), ("x86-64", ()))
"""The levels of the x86-64 psABI, by LLVM's names."""

_ARM_BASE = ("neon",)


@dataclass(frozen=True)
class Target:
    """What code is compiled for: LLVM's name of a kind of processor, which says no more than ``features``, and these."""

    cpu: str
    features: tuple[str, ...]
    emulated: bool = False
    """Whether instructions beyond those are replaced (`qrnn.backends.cpu.emulation`)."""

    @property
    def text(self) -> str:
        """The features as LLVM takes them."""
        return ",".join(f"+{feature}" for feature in self.features)


@cache
def target_for(name: str) -> Target:
    """Return what code for an instruction set, or for `PLAIN`, is compiled for.

    It is the same on every processor that has what is usual beside the instruction set. Of the psABI level that goes with an x86 instruction
    set, it takes the features that this processor has, if it has the instruction set, and else all. Code is kept under their names, and so is
    used on no processor that lacks one. Plain loops are compiled for this processor's level, and so is what is emulated.
    """
    if is_emulated(name):
        return replace(target_for(PLAIN), emulated=True)
    machine, host = platform.machine().lower(), host_features()
    isa = next((i for i in ISAS if i.name == name), None)
    own = isa.features if isa is not None else ()
    if machine in X86:
        level = _V4 if isa is None or "avx512f" in own else _V3
        here = all(host.get(feature, False) for feature in own)
        found = {*own, *(feature for feature in level if host.get(feature, False) or not here)}
        cpu = next(cpu for cpu, needed in _LEVELS if found.issuperset(needed))
        return Target(cpu, tuple(sorted(found)))
    if machine in ARM:
        return Target("generic", (*_ARM_BASE, *own))
    return Target(get_host_cpu_name(), tuple(sorted(feature for feature, on in host.items() if on)))


def find_isa(name: str | None) -> Isa | None:
    """Return the instruction set named, of this architecture, whether or not this processor has it.

    Without a name it is that of `choose_isa`.
    """
    if name is None or name in available_isas() or is_emulated(name):
        return choose_isa(name)
    machine = platform.machine().lower()
    known = (*(isa.name for isa in ISAS if machine in isa.machines), PLAIN)
    if name not in known:
        raise BackendError(f"instruction set {name!r} is not one of {machine}; expected one of {', '.join(known)}")
    return next(isa for isa in ISAS if isa.name == name)
