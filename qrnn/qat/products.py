"""Products of matrices for compiled loops: a thread multiplies what it has just computed, where a library would wake threads of its own.

A tile of the result, of some rows and two vectors, stays in registers while the sum runs. It is emitted as LLVM's vectors, which LLVM lays
out for whatever the processor has.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_HEIGHT = 4
"""Rows of a tile."""

_BYTES = 64
"""Bytes of a vector."""

_FAST = ("reassoc", "contract", "nsz")


def _tile(height: int, name: str) -> Any:
    """Return the function that adds to ``height`` rows and two vectors of columns of a result; see `_emit`."""

    @intrinsic  # type: ignore[untyped-decorator]
    def add_tile(
        _context: Any, real: Any, out: Any, out_row: Any, a: Any, a_row: Any, a_step: Any, x: Any, x_row: Any, count: Any, columns: Any
    ) -> Any:  # fmt: skip
        def emit(_target: Any, builder: Any, _signature: Any, values: Any) -> Any:
            kind = ir.FloatType() if real == types.float32 else ir.DoubleType()
            _emit(builder, kind, height, values[1:])

        return types.void(real, *[types.int64] * 9), emit

    add_tile.__name__ = name
    return add_tile


def _emit(builder: Any, kind: Any, height: int, values: Any) -> None:
    """Add a[i, j] · x[j, p] over all j < count to out[i, p]: i < height, p < columns, at most two vectors.

    Given are addresses, and the bytes from a row to the next and, of ``a``, from a column to the next.
    """
    out, out_row, a, a_row, a_step, x, x_row, count, columns = values
    lanes = _BYTES // (4 if isinstance(kind, ir.FloatType) else 8)
    vector, i32, i64 = ir.VectorType(kind, lanes), ir.IntType(32), ir.IntType(64)
    mask_kind = ir.VectorType(ir.IntType(1), lanes)
    pointer = vector.as_pointer()
    name = "f32" if lanes == 16 else "f64"

    def splat(value: Any) -> Any:
        one = builder.insert_element(ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined), value, i32(0))
        zeros = ir.Constant(ir.VectorType(i32, lanes), None)
        return builder.shuffle_vector(one, ir.Constant(one.type, ir.Undefined), zeros)

    numbers = ir.Constant(ir.VectorType(i64, lanes), list(range(lanes)))
    masks = [builder.icmp_signed("<", numbers, splat(builder.sub(columns, i64(v * lanes)))) for v in range(2)]
    module, suffix = builder.module, f"v{lanes}{name}.p0v{lanes}{name}"
    loading = cgutils.get_or_insert_function(
        module, ir.FunctionType(vector, [pointer, i32, mask_kind, vector]), f"llvm.masked.load.{suffix}"
    )
    storing = cgutils.get_or_insert_function(
        module, ir.FunctionType(ir.VoidType(), [vector, pointer, i32, mask_kind]), f"llvm.masked.store.{suffix}"
    )
    size = i32(4 if lanes == 16 else 8)

    def at(base: Any, v: int) -> Any:
        return builder.inttoptr(builder.add(base, i64(_BYTES * v)), pointer)

    def work(whole: bool) -> None:
        def read(base: Any, v: int) -> Any:
            if whole:
                return builder.load(at(base, v), align=size.constant)
            return builder.call(loading, [at(base, v), size, masks[v], ir.Constant(vector, None)])

        places = [builder.add(out, builder.mul(out_row, i64(i))) for i in range(height)]
        starts = [read(place, v) for place in places for v in range(2)]
        before = builder.basic_block
        loop, done = builder.append_basic_block("loop"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed(">", count, i64(0)), loop, done)
        builder.position_at_end(loop)
        j = builder.phi(i64)
        sums = [builder.phi(vector) for _ in starts]
        of_x, of_a = builder.add(x, builder.mul(j, x_row)), builder.add(a, builder.mul(j, a_step))
        reads, made = [read(of_x, v) for v in range(2)], []
        for i in range(height):
            place = builder.add(of_a, builder.mul(a_row, i64(i)))
            factor = splat(builder.load(builder.inttoptr(place, kind.as_pointer()), align=size.constant))
            for v in range(2):
                product = builder.fmul(factor, reads[v], flags=_FAST)
                made.append(builder.fadd(sums[2 * i + v], product, flags=_FAST))
        following = builder.add(j, i64(1))
        end = builder.basic_block
        builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
        j.add_incoming(i64(0), before)
        j.add_incoming(following, end)
        for phi, start, value in zip(sums, starts, made, strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(value, end)
        builder.position_at_end(done)
        for k, (start, value) in enumerate(zip(starts, made, strict=True)):
            found = builder.phi(vector)
            found.add_incoming(start, before)
            found.add_incoming(value, end)
            starts[k] = found
        for i, place in enumerate(places):
            for v in range(2):
                if whole:
                    builder.store(starts[2 * i + v], at(place, v), align=size.constant)
                else:
                    builder.call(storing, [starts[2 * i + v], at(place, v), size, masks[v]])

    with builder.if_else(builder.icmp_signed(">=", columns, i64(2 * lanes))) as (full, part):
        with full:
            work(True)
        with part:
            work(False)


_of_rows, _of_row = _tile(_HEIGHT, "add_rows"), _tile(1, "add_row")


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def add_products(out: Any, a: Any, x: Any) -> None:
    """Add a · x to out: a [I, J] of any layout; x [J, P] and out [I, P] of one type, whose rows lie in one piece each."""
    at = out.ctypes.data, a.ctypes.data, x.ctypes.data
    _add(
        x.dtype.type(1), x.itemsize, *at, (a.shape[0], a.shape[1], x.shape[1]), out.strides[0], a.strides, x.strides[0],
    )  # fmt: skip


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _add(
    one: Any, size: int, at_out: int, at_a: int, at_x: int, shape: tuple[int, int, int], out_row: int, a_strides: tuple[int, int], x_row: int
) -> None:  # fmt: skip
    """Do as `add_products` with addresses: compiled once, and not for each layout."""
    rows, count, columns = shape
    a_row, a_step = a_strides
    width = 2 * _BYTES // size
    for p in range(0, columns, width):
        left = min(width, columns - p)
        i = 0
        while i + _HEIGHT <= rows:
            to, of = at_out + i * out_row + p * size, at_a + i * a_row
            _of_rows(one, to, out_row, of, a_row, a_step, at_x + p * size, x_row, count, left)
            i += _HEIGHT
        while i < rows:
            to, of = at_out + i * out_row + p * size, at_a + i * a_row
            _of_row(one, to, out_row, of, a_row, a_step, at_x + p * size, x_row, count, left)
            i += 1
