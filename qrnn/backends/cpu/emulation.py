"""Instructions that a processor lacks, as functions of LLVM that do the same in plain operations.

An emulated instruction set (``emulated-amx``) is compiled from the code of the real one. Its intrinsics are then replaced by the functions
below, so that its layouts, its tails and its loops run on any machine, slowly. Where an instruction of the processor would fault, as tiles that
nobody configured do, the function traps. The semantics are those of the Intel SDM, volume 2, and of the Arm architecture reference manual.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from qrnn.backends.cpu.isa import const, load, store
from qrnn.backends.cpu.parts import I32, I64, constant, for_range, function_of, splat, vector_type

LIBRARY = frozenset({"pthread_self"})
"""The functions of the C library that emulated code needs beside those of other code: tiles belong to a thread."""

_PREFIX = "qrnn.emulated."
_I1, _I8 = ir.IntType(1), ir.IntType(8)

Body = Callable[[Any, list[Any]], Any]
"""body(builder, arguments) → the value of the instruction, or None; arguments are in the types that it asks for."""


def _bytes_of(builder: Any, value: Any, signed: bool) -> list[Any]:
    """Return the first byte of every four, the second, and so on, as 32-bit lanes."""
    kind = vector_type(_bits(value.type) // 8, 8)
    value = builder.bitcast(value, kind)
    widen = builder.sext if signed else builder.zext
    wide = vector_type(kind.count // 4, 32)
    return [widen(_every(builder, value, k, 4), wide) for k in range(4)]


def _every(builder: Any, value: Any, first: int, step: int) -> Any:
    places = list(range(first, value.type.count, step))
    mask = ir.Constant(vector_type(len(places), 32), places)
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), mask)


def _bits(kind: Any) -> int:
    return int(kind.count * kind.element.width) if isinstance(kind, ir.VectorType) else int(kind.width)


def _dot_of_bytes(builder: Any, acc: Any, one: Any, two: Any, signed: bool) -> Any:
    """Return ``acc`` plus the four products of bytes of each 32-bit lane. The first's bytes are ``signed`` or not, and sums wrap."""
    for a, b in zip(_bytes_of(builder, one, signed), _bytes_of(builder, two, True), strict=True):
        acc = builder.add(acc, builder.mul(a, b))
    return acc


def _vpdpbusd(builder: Any, args: list[Any]) -> Any:
    kind = vector_type(_bits(args[0].type) // 32, 32)
    return _dot_of_bytes(builder, builder.bitcast(args[0], kind), args[1], args[2], signed=False)


def _sdot(builder: Any, args: list[Any]) -> Any:
    acc, one, two = args
    return _dot_of_bytes(builder, acc, one, two, signed=True)


def _smmla(builder: Any, args: list[Any]) -> Any:
    """Multiply two rows of eight bytes by two columns of as many, and add the products to [2, 2]."""
    acc, one, two = args
    rows, columns = (builder.sext(v, vector_type(16, 32)) for v in (one, two))
    for k in range(8):
        a, b = (
            builder.shuffle_vector(v, v, ir.Constant(vector_type(4, 32), [8 * place + k for place in places]))
            for v, places in ((rows, (0, 0, 1, 1)), (columns, (0, 1, 0, 1)))
        )
        acc = builder.add(acc, builder.mul(a, b))
    return acc


def _pairs_of_words(builder: Any, args: list[Any]) -> Any:
    """Compute vpmaddwd, whose sum wraps where all four words are -32768."""
    wide = vector_type(args[0].type.count // 2, 32)
    products = [
        builder.mul(*(builder.sext(_every(builder, v, k, 2), wide) for v in args))
        for k in (0, 1)
    ]  # fmt: skip
    return builder.add(*products)


def _wide_words(builder: Any, args: list[Any]) -> Any:
    kind = vector_type(args[0].type.count, 32)
    return builder.mul(*(builder.sext(v, kind) for v in args)), kind


def _pmulhw(builder: Any, args: list[Any]) -> Any:
    product, kind = _wide_words(builder, args)
    return builder.trunc(builder.ashr(product, constant(kind, 16)), args[0].type)


def _pmulhrsw(builder: Any, args: list[Any]) -> Any:
    product, kind = _wide_words(builder, args)
    rounded = builder.add(builder.ashr(product, constant(kind, 14)), constant(kind, 1))
    return builder.trunc(builder.ashr(rounded, constant(kind, 1)), args[0].type)


def _pack(builder: Any, args: list[Any], least: int, most: int) -> Any:
    """Saturate 32-bit lanes to 16 bits: of every 128 bits the first's four lanes, then the second's."""
    kind = args[0].type
    clamped = []
    for value in args:
        for end, sign in ((least, "<"), (most, ">")):
            limit = constant(kind, end)
            value = builder.select(builder.icmp_signed(sign, value, limit), limit, value)
        clamped.append(value)
    places = [
        source * kind.count + 4 * block + k for block in range(kind.count // 4) for source in (0, 1) for k in range(4)
    ]
    joined = builder.shuffle_vector(*clamped, ir.Constant(vector_type(len(places), 32), places))
    return builder.trunc(joined, vector_type(len(places), 16))


def _vpermi2w(builder: Any, args: list[Any]) -> Any:
    """Return the words of two registers that the low bits of each index number."""
    low, index, high = args
    count = low.type.count
    table = builder.alloca(ir.ArrayType(low.type, 2))
    for k, part in enumerate((low, high)):
        builder.store(part, builder.gep(table, [ir.Constant(I32, 0), ir.Constant(I32, k)]))
    base = builder.ptrtoint(table, I64)
    found = ir.Constant(low.type, ir.Undefined)
    for k in range(count):
        place = builder.zext(builder.extract_element(index, ir.Constant(I32, k)), I64)
        place = builder.and_(place, const(2 * count - 1))
        word = load(builder, builder.add(base, builder.shl(place, const(1))), low.type.element, 2)
        found = builder.insert_element(found, word, ir.Constant(I32, k))
    return found


def _vpternlog(builder: Any, args: list[Any]) -> Any:
    """Look each bit up in a table of eight bits, by the bits of three registers, the first's the highest."""
    a, b, c, table = args
    kind = a.type
    found = constant(kind, 0)
    for place in range(8):
        bits = [v if place >> (2 - k) & 1 else builder.not_(v) for k, v in enumerate((a, b, c))]
        on = builder.and_(builder.lshr(table, ir.Constant(I32, place)), ir.Constant(I32, 1))
        on = splat(builder, builder.sub(ir.Constant(I32, 0), on), kind.count)
        found = builder.or_(found, builder.and_(on, builder.and_(bits[0], builder.and_(bits[1], bits[2]))))
    return found


# --- AMX ----------------------------------------------------------------------------------------------------------------------------------

SLOTS = 64
"""The threads that can have tiles at once; more wait for one of them."""

_ROW, _TILE_BYTES, _CONFIG = 64, 1024, 8 * 1024
_SLOT_BYTES = _CONFIG + 64
"""A thread's eight tiles, and the 64 bytes of their configuration."""
_COLUMN_BYTES, _ROW_COUNTS = 16, 48
"""Where a configuration has the bytes of a tile's rows, and their number."""


def _global(module: Any, name: str, kind: Any) -> Any:
    found = module.globals.get(name)
    if found is None:
        found = ir.GlobalVariable(module, kind, name)
        found.linkage, found.initializer, found.align = "internal", ir.Constant(kind, None), 64
    return found


def _slot(builder: Any, number: Any) -> tuple[Any, Any]:
    """Return the pointer to the place of a slot's owner, and the address of the slot's bytes."""
    owners = _global(builder.module, f"{_PREFIX}owners", ir.ArrayType(I64, SLOTS))
    tiles = _global(builder.module, f"{_PREFIX}tiles", ir.ArrayType(_I8, SLOTS * _SLOT_BYTES))
    owner = builder.gep(owners, [const(0), number])
    base = builder.ptrtoint(tiles, I64)
    return owner, builder.add(base, builder.mul(number, const(_SLOT_BYTES)))


def _trap_unless(builder: Any, condition: Any) -> None:
    with builder.if_then(builder.not_(condition)):
        builder.call(function_of(builder.module, "llvm.trap", ir.VoidType(), []), [])
        builder.unreachable()


def _finder(module: Any) -> Any:
    """Return the function that returns the number of the calling thread's slot, or `SLOTS`."""
    name = f"{_PREFIX}find"
    if name in module.globals:
        return module.globals[name]
    found = ir.Function(module, ir.FunctionType(I64, []), name)
    found.linkage = "internal"
    found.attributes.add("noinline")
    b = ir.IRBuilder(found.append_basic_block())
    me = b.call(function_of(module, "pthread_self", I64, []), [])
    with for_range(b, const(0), const(SLOTS)) as number:
        owner = b.load_atomic(_slot(b, number)[0], "acquire", 8)
        with b.if_then(b.icmp_signed("==", owner, me)):
            b.ret(number)
    b.ret(const(SLOTS))
    return found


def _own(builder: Any) -> Any:
    """Return the address of the calling thread's tiles, which must be configured."""
    number = builder.call(_finder(builder.module), [])
    _trap_unless(builder, builder.icmp_signed("<", number, const(SLOTS)))
    return _slot(builder, number)[1]


def _copy(builder: Any, to: Any, source: Any, count: Any) -> None:
    pointers = [builder.inttoptr(address, _I8.as_pointer()) for address in (to, source)]
    memcpy = builder.module.declare_intrinsic("llvm.memcpy", [*(p.type for p in pointers), I64])
    builder.call(memcpy, [*pointers, count, ir.Constant(_I1, 0)])


def _clear(builder: Any, to: Any, count: int) -> None:
    pointer = builder.inttoptr(to, _I8.as_pointer())
    memset = builder.module.declare_intrinsic("llvm.memset", [pointer.type, I64])
    builder.call(memset, [pointer, ir.Constant(_I8, 0), const(count), ir.Constant(_I1, 0)])


def _ldtilecfg(builder: Any, args: list[Any]) -> None:
    b, module = builder, builder.module
    config = b.ptrtoint(args[0], I64)
    _trap_unless(b, b.icmp_signed("==", load(b, config, _I8), ir.Constant(_I8, 1)))
    me = b.call(function_of(module, "pthread_self", I64, []), [])
    number = b.alloca(I64)
    b.store(b.call(_finder(module), []), number)
    taken = b.append_basic_block()
    again = b.append_basic_block()
    b.cbranch(b.icmp_signed("<", b.load(number), const(SLOTS)), taken, again)
    b.position_at_end(again)
    following = b.urem(b.add(b.load(number), const(1)), const(SLOTS))
    b.store(following, number)
    pair = b.cmpxchg(_slot(b, following)[0], const(0), me, "acq_rel", "acquire")
    b.cbranch(b.extract_value(pair, 1), taken, again)
    b.position_at_end(taken)
    tiles = _slot(b, b.load(number))[1]
    _clear(b, tiles, _CONFIG)
    _copy(b, b.add(tiles, const(_CONFIG)), config, const(64))


def _tilerelease(builder: Any, args: list[Any]) -> None:
    number = builder.call(_finder(builder.module), [])
    with builder.if_then(builder.icmp_signed("<", number, const(SLOTS))):
        builder.store_atomic(const(0), _slot(builder, number)[0], "release", 8)


class _Tile:
    """A tile of the calling thread: its address, its rows and the bytes of each."""

    def __init__(self, builder: Any, tiles: Any, number: Any) -> None:
        b, number = builder, builder.zext(number, I64)
        self.at = b.add(tiles, b.mul(number, const(_TILE_BYTES)))
        config = b.add(tiles, const(_CONFIG))
        self.rows = b.zext(load(b, b.add(config, b.add(number, const(_ROW_COUNTS))), _I8), I64)
        width = b.add(config, b.add(b.shl(number, const(1)), const(_COLUMN_BYTES)))
        self.row_bytes = b.zext(load(b, width, ir.IntType(16), 2), I64)

    def row(self, builder: Any, number: Any) -> Any:
        """Return the address of a row."""
        return builder.add(self.at, builder.mul(number, const(_ROW)))


def _tilezero(builder: Any, args: list[Any]) -> None:
    _clear(builder, _Tile(builder, _own(builder), args[0]).at, _TILE_BYTES)


def _tileload(builder: Any, args: list[Any]) -> None:
    b, tile = builder, _Tile(builder, _own(builder), args[0])
    base = b.ptrtoint(args[1], I64)
    _clear(b, tile.at, _TILE_BYTES)
    with for_range(b, const(0), tile.rows) as row:
        _copy(b, tile.row(b, row), b.add(base, b.mul(row, args[2])), tile.row_bytes)


def _tilestore(builder: Any, args: list[Any]) -> None:
    b, tile = builder, _Tile(builder, _own(builder), args[0])
    base = b.ptrtoint(args[1], I64)
    with for_range(b, const(0), tile.rows) as row:
        _copy(b, b.add(base, b.mul(row, args[2])), tile.row(b, row), tile.row_bytes)


def _tdpbusd(builder: Any, args: list[Any]) -> None:
    b, tiles = builder, _own(builder)
    c, a, w = (_Tile(b, tiles, number) for number in args)
    for one, two in ((a.rows, c.rows), (w.row_bytes, c.row_bytes), (b.lshr(a.row_bytes, const(2)), w.rows)):
        _trap_unless(b, b.icmp_signed("==", one, two))
    kind = vector_type(_ROW // 4, 32)
    with for_range(b, const(0), c.rows) as row, for_range(b, const(0), w.rows) as k:
        four = load(b, b.add(a.row(b, row), b.shl(k, const(2))), I32, 4)
        weights = load(b, w.row(b, k), kind, 4)
        sums = load(b, c.row(b, row), kind, 4)
        total = _dot_of_bytes(b, sums, splat(b, four, kind.count), weights, signed=False)
        store(b, total, c.row(b, row), 4)


# --- all of them --------------------------------------------------------------------------------------------------------------------------

_X86, _NEON = "llvm.x86.", "llvm.aarch64.neon."

BODIES: dict[str, Body] = {
    f"{_X86}avx512.vpdpbusd.256": _vpdpbusd,
    f"{_X86}avx512.vpdpbusd.512": _vpdpbusd,
    f"{_X86}avx2.pmadd.wd": _pairs_of_words,
    f"{_X86}avx512.pmaddw.d.512": _pairs_of_words,
    f"{_X86}avx512.pmulh.w.512": _pmulhw,
    f"{_X86}avx512.pmul.hr.sw.512": _pmulhrsw,
    f"{_X86}avx512.packssdw.512": lambda b, args: _pack(b, args, -32768, 32767),
    f"{_X86}avx512.packusdw.512": lambda b, args: _pack(b, args, 0, 65535),
    f"{_X86}avx512.vpermi2var.hi.512": _vpermi2w,
    f"{_X86}avx512.pternlog.d.512": _vpternlog,
    f"{_X86}ldtilecfg": _ldtilecfg,
    f"{_X86}tilerelease": _tilerelease,
    f"{_X86}tilezero": _tilezero,
    f"{_X86}tileloadd64": _tileload,
    f"{_X86}tilestored64": _tilestore,
    f"{_X86}tdpbusd": _tdpbusd,
    f"{_NEON}sdot.v4i32.v16i8": _sdot,
    f"{_NEON}smmla.v4i32.v16i8": _smmla,
}
"""What replaces each intrinsic. AVX-VNNI's own intrinsics are those of AVX-512."""


def _type_of(text: str) -> Any:
    """Return the type that LLVM writes so."""
    if text == "void":
        return ir.VoidType()
    if text in ("ptr", "i8*"):
        return _I8.as_pointer()
    if found := re.fullmatch(r"<(\d+) x i(\d+)>", text):
        return vector_type(int(found[1]), int(found[2]))
    return ir.IntType(int(text.removeprefix("i")))


def _define(module: Any, name: str, declared: Any) -> None:
    """Add the function that replaces an intrinsic, with the types with which this version of LLVM declares it."""
    kinds = [_type_of(str(argument.type)) for argument in declared.arguments]
    result = _type_of(str(declared.global_value_type).split(" (")[0])
    function = ir.Function(module, ir.FunctionType(result, kinds), name.replace("llvm.", _PREFIX))
    builder = ir.IRBuilder(function.append_basic_block())
    value = BODIES[name](builder, list(function.args))
    if isinstance(result, ir.VoidType):
        function.attributes.add("noinline")  # There are many such functions, and each is long.
        builder.ret_void()
        return
    builder.ret(builder.bitcast(value, result))


def replaced(module: Any, context: Any) -> Any:
    """Return a module of LLVM in which every intrinsic of `BODIES` is one of these functions."""
    declared = {f.name: f for f in module.functions if f.is_declaration and f.name in BODIES}
    if not declared:
        return module
    definitions = ir.Module("emulated")
    definitions.triple, definitions.data_layout = module.triple, module.data_layout
    for name, function in declared.items():
        _define(definitions, name, function)
    text = str(module)
    for name in declared:
        text = re.sub(rf"^declare .*@{re.escape(name)}\(.*\n", "", text, flags=re.MULTILINE)
        text = re.sub(rf"@{re.escape(name)}(?![\w.])", f"@{name.replace('llvm.', _PREFIX)}", text)
        signature = str(declared[name].global_value_type)
        result, _, arguments = signature.partition(" (")
        text += f"\ndeclare {result} @{name.replace('llvm.', _PREFIX)}({arguments}\n"
    found = llvm.parse_assembly(text, context)
    found.link_in(llvm.parse_assembly(str(definitions), context))
    for function in found.functions:
        if not function.is_declaration and function.name.startswith(_PREFIX):
            function.linkage = "internal"
    return found
