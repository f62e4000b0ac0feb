"""Calls with fixed arguments, and lists of them run from compiled code: what a stream's step is made of.

Numba unpacks every array that Python passes, at about 0.2 µs each; a layer has thirty. `Call` lays its arguments out once, as words that the
compiled function reads from memory, and `run_calls` goes through a list of calls without coming back to Python.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import typeof, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array
from numba.np.numpy_support import from_dtype

from qrnn.backends.cpu.jit import callback, jit_entry, renamed
from qrnn.model.parts import Int64Array

_WORD = ir.IntType(64)


def _words(value: Any) -> list[int]:
    """An argument as int64 words: of an array its address and shape, of a tuple its items one after the other."""
    if isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise AssertionError("a call's arrays are contiguous")
        return [value.ctypes.data, *value.shape]
    if isinstance(value, tuple):
        return [word for item in value for word in _words(item)]
    return [int(value)]


def _read(context: Any, builder: Any, kind: Any, words: Any, at: int) -> tuple[Any, int]:
    """A value of Numba type ``kind`` from the words at index ``at``, and the index after them."""

    def word(index: int) -> Any:
        return builder.load(builder.gep(words, [ir.Constant(_WORD, index)]))

    if isinstance(kind, types.Array):
        array = make_array(kind)(context, builder)
        shape = [word(at + 1 + axis) for axis in range(kind.ndim)]
        itemsize = context.get_constant(types.intp, kind.dtype.bitwidth // 8)
        strides = [itemsize]
        for extent in reversed(shape[1:]):
            strides.insert(0, builder.mul(strides[0], extent))
        data = builder.inttoptr(word(at), array.data.type)
        populate_array(array, data=data, shape=shape, strides=strides, itemsize=itemsize, meminfo=None)
        return array._getvalue(), at + 1 + kind.ndim
    if isinstance(kind, types.BaseTuple):
        items = []
        for part in kind:
            item, at = _read(context, builder, part, words, at)
            items.append(item)
        return context.make_tuple(builder, kind, items), at
    return context.cast(builder, word(at), types.int64, kind), at + 1


def reader(kinds: Any) -> Any:
    """arguments(address) → the values of types ``kinds`` that lie there as words (`Frame`)."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        words = builder.inttoptr(args[0], _WORD.as_pointer())
        return _read(context, builder, kinds, words, 0)[0]

    return intrinsic(lambda _context, address: (kinds(address), codegen))


@intrinsic
def address(_context: Any, array: Any) -> Any:
    """The address of an array's first element."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, _WORD)

    return types.int64(array), codegen


@intrinsic
def call_at(_context: Any, function: Any, words: Any) -> Any:
    """Call the compiled function at one address with the other as its argument."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_WORD])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return types.void(function, words), codegen


def function(*_arguments: Any) -> None:
    """What `entry` calls."""
    raise NotImplementedError


def arguments(_address: int) -> Any:
    """Its arguments, from memory."""
    raise NotImplementedError


def entry(address: int) -> None:
    """``function`` with the arguments that lie as words at ``address``."""
    function(*arguments(address))


def digest(kinds: Any) -> str:
    """Of Numba types, for the names of functions compiled for them."""
    return hashlib.sha256(repr(kinds).encode()).hexdigest()[:12]


@cache
def _compiled(called: Any, kinds: Any) -> Any:
    """`entry` for one function and types of arguments; kept on disk."""
    space = dict(globals()) | {"function": called, "arguments": reader(kinds)}
    return callback(renamed(entry, f"call_{called.py_func.__name__}_{digest(kinds)}", space), types.int64)


class Frame:
    """Arguments laid out as words: contiguous arrays, integers, booleans and tuples of these.

    Arrays are read and written where they are, so what is put into them before a call is what it works on.
    """

    def __init__(self, values: tuple[Any, ...]) -> None:
        self._values = values  # kept alive: the words are addresses
        self._words: Int64Array = np.array(_words(values), np.int64)
        self._begins = np.cumsum([0, *(len(_words((value,))) for value in values)]).tolist()
        self.kinds = types.Tuple([typeof(value) for value in values])
        self.address: int = self._words.ctypes.data

    def put(self, number: int, array: npt.NDArray[Any]) -> None:
        """Let argument ``number`` be another array, of the same type, which the caller keeps alive."""
        begin = self._begins[number]
        self._words[begin : begin + 1 + array.ndim] = address_of(array), *array.shape

    def place(self, number: int) -> tuple[Int64Array, int]:
        """The words, and among them the address of argument ``number``, an array: another may be put there, of the same shape and type, which
        the caller keeps alive."""
        return self._words, self._begins[number]


class Call:
    """A function of `qrnn.backends.cpu.jit` with all its arguments."""

    def __init__(self, called: Callable[..., Any], *values: Any) -> None:
        self.frame = Frame(values)
        self._entry = _compiled(called, self.frame.kinds)

    @property
    def addresses(self) -> tuple[int, int]:
        """Of the compiled function and of its words."""
        return self._entry.address, self.frame.address

    def wake(self) -> None:
        """Before a `CallList` with this call is run: whatever it needs beside the thread that runs it."""


FIRST, LAST, STATUS = 0, 1, 2
"""Words of a `CallList`'s control: what its calls work on, and whether one of them must be the last."""


class CallList:
    """Calls in order, which all know ``control`` [3] int64: `run` sets `FIRST` and `LAST`; a call that is to be the last sets `STATUS`."""

    def __init__(self, calls: Sequence[Call], control: Int64Array) -> None:
        self.calls, self._control = tuple(calls), control
        self._addresses = np.array([call.addresses for call in calls], np.int64).reshape(-1, 2)
        self._words = np.array([control.ctypes.data, len(calls), self._addresses.ctypes.data], np.int64)
        self.address: int = self._words.ctypes.data
        """What `run_calls` takes first."""
        self._run = list_runner()
        self._wakers = [call.wake for call in calls if type(call).wake is not Call.wake]

    def wake(self) -> None:
        """See `Call.wake`."""
        for waker in self._wakers:
            waker()

    def one_by_one(self) -> list[CallList]:
        """Each call in a list of its own, for measuring."""
        return [CallList((call,), self._control) for call in self.calls]

    def run(self, first: int, last: int) -> int:
        """The status at the end: 0 when all calls were made. Not by two threads at once."""
        return int(self._run(self.address, first, last))


@intrinsic
def _word_at(_context: Any, address: Any) -> Any:
    """The int64 at an address."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], _WORD.as_pointer()))

    return types.int64(address), codegen


@intrinsic
def _set_word(_context: Any, address: Any, value: Any) -> Any:
    """The int64 at an address, set."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        builder.store(args[1], builder.inttoptr(args[0], _WORD.as_pointer()))
        return context.get_dummy_value()

    return types.void(address, types.int64), codegen


@jit_entry
def run_calls(calls: int, first: int, last: int) -> int:
    """The calls of the `CallList` at address ``calls``, until the status is no longer 0; returns it.

    There lie the addresses of the control, the number of calls and the address of their pairs of addresses.
    """
    control, count, addresses = _word_at(calls), _word_at(calls + 8), _word_at(calls + 16)
    _set_word(control + 8 * FIRST, first)
    _set_word(control + 8 * LAST, last)
    _set_word(control + 8 * STATUS, 0)
    for k in range(count):
        call_at(_word_at(addresses + 16 * k), _word_at(addresses + 16 * k + 8))
        if _word_at(control + 8 * STATUS) != 0:
            break
    status: int = _word_at(control + 8 * STATUS)
    return status


@jit_entry
def _address_of(array: Any) -> int:
    found: int = address(array)
    return found


@cache
def _address_entry(kind: str, dimensions: int) -> Callable[[Any], int]:
    kinds = (types.Array(from_dtype(np.dtype(kind)), dimensions, "C"),)
    _address_of.compile(kinds)
    found: Callable[[Any], int] = _address_of.get_overload(kinds)
    return found


def address_of(values: npt.NDArray[Any]) -> int:
    """Where a contiguous array begins: in a tenth of the time of ``values.ctypes.data``."""
    return _address_entry(values.dtype.char, values.ndim)(values)


@cache
def list_runner() -> Callable[[int, int, int], int]:
    """`run_calls` without Numba's choice between signatures, which takes longer than a small call."""
    kinds = (types.int64,) * 3
    run_calls.compile(kinds)
    found: Callable[[int, int, int], int] = run_calls.get_overload(kinds)
    return found
