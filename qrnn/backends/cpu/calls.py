"""Calls with fixed arguments, and lists of them run from compiled code: everything that this backend does goes through them.

`Call` lays its arguments out once, as words that the compiled function reads from memory, and a `CallList` goes through its calls without
coming back to Python.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.backends.cpu import python_calls
from qrnn.backends.cpu.isa import PLAIN, Isa, Target, target_for
from qrnn.backends.cpu.native import DEFAULT, Code
from qrnn.backends.cpu.python_calls import address_of
from qrnn.backends.cpu.wanted import Kernel, Kinds, Wanted
from qrnn.model.parts import Int64Array


def _lay_out(value: Any, words: list[int]) -> Kinds:
    """Add an argument's words: of an array its address and shape, of a tuple its items one after the other. Returns its type."""
    if isinstance(value, np.ndarray):
        if not (value.flags.c_contiguous and value.dtype.isnative):
            raise AssertionError("a call's arrays are contiguous, and of this machine's byte order")
        words.append(address_of(value))
        words.extend(value.shape)
        return f"{value.dtype.kind}{value.itemsize}:{value.ndim}"
    if isinstance(value, tuple):
        return tuple([_lay_out(item, words) for item in value])
    words.append(int(value))
    return "bool" if isinstance(value, (bool, np.bool_)) else "int"


class Frame:
    """Arguments laid out as words: contiguous arrays, integers, booleans and tuples of these.

    Arrays are read and written where they are, so what is put into them before a call is what it works on.
    """

    def __init__(self, values: tuple[Any, ...]) -> None:
        self._values = values  # They are kept alive, since the words are addresses.
        words: list[int] = []
        kinds, self._begins = [], []
        for value in values:
            self._begins.append(len(words))
            kinds.append(_lay_out(value, words))
        self.kinds: Kinds = tuple(kinds)
        self._words: Int64Array = np.array(words, np.int64)
        self.address: int = address_of(self._words)

    def put(self, number: int, array: npt.NDArray[Any]) -> None:
        """Let argument ``number`` be another array, of the same type, which the caller keeps alive."""
        begin = self._begins[number]
        self._words[begin : begin + 1 + array.ndim] = address_of(array), *array.shape

    def place(self, number: int) -> tuple[Int64Array, int]:
        """Return the words, and the index of the one that is the address of argument ``number``, an array.

        The address of another array may be put there, of the same shape and type, which the caller keeps alive.
        """
        return self._words, self._begins[number]


class Call:
    """A kernel with all its arguments; compiled for an instruction set, or as plain loops are."""

    def __init__(self, kernel: Kernel, *values: Any, isa: Isa | None = None) -> None:
        self.frame = Frame(values)
        self._wanted = wanted_of(kernel, self.frame.kinds, PLAIN if isa is None else isa.name)

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """The kernels that have to be there before the call is made; the first is its own."""
        return (self._wanted,)

    def link(self, code: Code) -> tuple[int, int]:
        """Return the addresses of the compiled function and of its words, when all that is ``wanted`` is there."""
        return code.addresses((self._wanted,))[0], self.frame.address

    def put_all(self, number: int, arrays: Sequence[npt.NDArray[Any]]) -> None:
        """Let the arguments from ``number`` on be other arrays; see `Frame.put`."""
        for k, array in enumerate(arrays, number):
            self.frame.put(k, array)

    def wake(self) -> None:
        """Wake whatever this call needs beside the thread that runs it, before a `CallList` with the call is run."""


@lru_cache(maxsize=4096)
def wanted_of(kernel: Kernel, kinds: Kinds, isa: str) -> Wanted:
    """Return a `Wanted`, which is the same object each time."""
    return Wanted(kernel, kinds, target_for(isa))


def target_of(isa: Isa | None) -> Target:
    """Return what kernels are compiled for beside the instruction set ``isa``."""
    return target_for(PLAIN if isa is None else isa.name)


FIRST, LAST, STATUS, ASKED = python_calls.FIRST, python_calls.LAST, python_calls.STATUS, python_calls.ASKED
"""Words of a `CallList`'s control: what its calls work on, and whether one of them must be the last; see `CallList`."""


class CallList:
    """Calls in order, which all know ``control`` [3] int64: `run` sets `FIRST` and `LAST`; a call that is to be the last sets `STATUS`.

    Where ``control`` has a fourth word, `ASKED`, and a call sets it, `wake` is called behind all calls.
    """

    def __init__(self, calls: Sequence[Call], control: Int64Array, code: Code = DEFAULT) -> None:
        self.calls, self._control, self._code = tuple(calls), control, code
        code.addresses([wanted for call in calls for wanted in call.wanted])
        self._addresses = np.array([call.link(code) for call in calls], np.int64).reshape(-1, 2)
        self._wakers = [call.wake for call in calls if type(call).wake is not Call.wake]
        self._after = self.wake if len(control) > ASKED and self._wakers else None
        self._run, words = python_calls.runner(control, self._addresses, 0, 0, self._after)
        self._span = np.asarray(words)[python_calls.SPAN]

    def runner(self, first: int, last: int) -> Callable[[], int]:
        """Return a function that repeats `run` with these arguments, at the least cost. It works only for as long as the list lives."""
        return python_calls.runner(self._control, self._addresses, first, last, self._after)[0]

    def wake(self) -> None:
        """Wake what the calls need; see `Call.wake`."""
        for waker in self._wakers:
            waker()

    @property
    def words(self) -> tuple[int, int, int]:
        """Where the control and the calls lie, and how many calls there are, for code that makes them; see `addresses`."""
        return address_of(self._control), address_of(self._addresses), len(self._addresses)

    @property
    def failed(self) -> bool:
        """Whether a call said, when the calls were made last, that it had to be the last."""
        return bool(self._control[STATUS] != 0)

    @property
    def addresses(self) -> Int64Array:
        """The compiled function and the words of each call, [calls, 2].

        Code that makes the calls itself keeps the list alive, and has called `run` before.
        """
        return self._addresses

    def one_by_one(self) -> list[CallList]:
        """Return a list for each call alone, for measuring."""
        return [CallList((call,), self._control, self._code) for call in self.calls]

    def run(self, first: int, last: int) -> int:
        """Make the calls, and return the status at the end: 0 when all calls were made. Two threads must not do so at once."""
        self._span[:] = first, last
        status: int = self._run()
        return status


class ReusedCalls:
    """Calls that are laid out for the first of their kind, which takes longer than many a run, and then made with other arrays.

    Many threads may use them at once.
    """

    def __init__(self, code: Code) -> None:
        self._code = code
        self._idle: dict[Hashable, list[tuple[Call, CallList]]] = {}

    def run(
        self,
        kind: Hashable,
        make: Callable[..., Call],
        arrays: Sequence[npt.NDArray[Any]],
        number: int,
        first: int,
        last: int,
    ) -> None:
        """Make a call for rows first … last - 1, with ``arrays`` as its arguments from ``number`` on.

        ``make(control, arrays)`` lays it out, for small arrays of the same types.
        """
        idle = self._idle.setdefault(kind, [])
        try:
            made = idle.pop()
        except IndexError:
            made = reused_call(make, arrays, self._code)
        made[0].put_all(number, arrays)
        made[1].wake()
        made[1].run(first, last)
        idle.append(made)


def reused_call(make: Callable[..., Call], arrays: Sequence[npt.NDArray[Any]], code: Code) -> tuple[Call, CallList]:
    """Lay out the call that ``make(control, arrays)`` returns for arrays of these types, alone in a list."""
    # These are small, since calls keep what they are made with.
    like = [np.empty((1,) * array.ndim, array.dtype) for array in arrays]
    control = np.zeros(3, np.int64)
    call = make(control, like)
    return call, CallList((call,), control, code)
