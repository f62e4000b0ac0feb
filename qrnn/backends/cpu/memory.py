"""What compiled code does with memory: arrays from addresses and addresses of arrays, words, and calls of compiled functions by address."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

_WORD = ir.IntType(64)


def _array(context: Any, builder: Any, kind: Any, at: Any, shape: list[Any]) -> Any:
    """Return a contiguous array at an address."""
    array = make_array(kind)(context, builder)
    itemsize = context.get_constant(types.intp, kind.dtype.bitwidth // 8)
    strides = [itemsize]
    for extent in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], extent))
    data = builder.inttoptr(at, array.data.type)
    populate_array(array, data=data, shape=shape, strides=strides, itemsize=itemsize, meminfo=None)
    return array._getvalue()


def _read(context: Any, builder: Any, kind: Any, words: Any, at: int) -> tuple[Any, int]:
    """Return a value of Numba type ``kind`` from the words at index ``at``, and the index after them."""

    def word(index: int) -> Any:
        return builder.load(builder.gep(words, [ir.Constant(_WORD, index)]))

    if isinstance(kind, types.Array):
        shape = [word(at + 1 + axis) for axis in range(kind.ndim)]
        return _array(context, builder, kind, word(at), shape), at + 1 + kind.ndim
    if isinstance(kind, types.BaseTuple):
        items = []
        for part in kind:
            item, at = _read(context, builder, part, words, at)
            items.append(item)
        return context.make_tuple(builder, kind, items), at
    return context.cast(builder, word(at), types.int64, kind), at + 1


def reader(kinds: Any) -> Any:
    """Return the function that reads, from an address, the values of Numba types ``kinds`` that lie there as words.

    `qrnn.backends.cpu.calls.Frame` lays them out.
    """

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        words = builder.inttoptr(args[0], _WORD.as_pointer())
        return _read(context, builder, kinds, words, 0)[0]

    return intrinsic(lambda _context, address: (kinds(address), codegen))


@intrinsic
def address(_context: Any, array: Any) -> Any:
    """Return the address of an array's first element."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, _WORD)

    return types.int64(array), codegen


@intrinsic
def elements(_context: Any, array: Any, first: Any, last: Any) -> Any:
    """Return elements first … last - 1 of a contiguous array, [last - first]: a slice of ``reshape(-1)`` without its checks."""
    flat = types.Array(array.dtype, 1, "C")

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = builder.ptrtoint(make_array(signature.args[0])(context, builder, args[0]).data, _WORD)
        size = ir.Constant(_WORD, array.dtype.bitwidth // 8)
        at = builder.add(data, builder.mul(args[1], size))
        return _array(context, builder, flat, at, [builder.sub(args[2], args[1])])

    return flat(array, types.int64, types.int64), codegen


@intrinsic
def call_at(_context: Any, function: Any, words: Any) -> Any:
    """Call the compiled function at one address with the other as its argument."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_WORD])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return types.void(function, words), codegen
