"""The ways from Python into compiled code, as functions of CPython's made by LLVM: calls through ctypes take longer than a small kernel."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import numpy.typing as npt
from llvmlite import ir

from qrnn.backends.cpu.parts import for_range, function_of
from qrnn.errors import BackendError
from qrnn.model.parts import Int64Array

FIRST, LAST, STATUS, ASKED = 0, 1, 2, 3
"""Words of a control: what calls work on, and whether the one that sets it must be the last; of one with four words, whether a call asks for
what a `runner` calls ``after`` the calls."""

SPAN = slice(3, 5)
"""The words of a `runner` that hold `FIRST` and `LAST`."""

HEADER = object.__basicsize__
"""Bytes of NumPy's array objects before their first field, which is the address of their elements."""

_WORD, _POINTER = ir.IntType(64), ir.IntType(8).as_pointer()
_FUNCTION = ir.FunctionType(_POINTER, [_POINTER, _POINTER])


def _word(builder: Any, address: Any, index: int = 0) -> Any:
    """Return where the int64 ``index`` of those at an address lies."""
    return builder.inttoptr(builder.add(address, ir.Constant(_WORD, 8 * index)), _WORD.as_pointer())


def _data(builder: Any, array: Any) -> Any:
    """Return the address of an array object's elements."""
    at = builder.add(builder.ptrtoint(array, _WORD), ir.Constant(_WORD, HEADER))
    return builder.load(builder.inttoptr(at, _WORD.as_pointer()))


def _emit_run(module: Any) -> None:
    """Emit qrnn_run, which makes the calls of the words that its ``self`` holds, an array of int64 (`runner`)."""
    made = ir.Function(module, _FUNCTION, "qrnn_run")
    b = ir.IRBuilder(made.append_basic_block())
    words = _data(b, made.args[0])
    save = function_of(module, "PyEval_SaveThread", _POINTER, [])
    restore = function_of(module, "PyEval_RestoreThread", ir.VoidType(), [_POINTER])
    thread = b.call(save, [])
    control, pairs, count, first, last, after = (b.load(_word(b, words, k)) for k in range(6))
    status = _word(b, control, STATUS)
    for place, value in ((FIRST, first), (LAST, last), (STATUS, ir.Constant(_WORD, 0))):
        b.store(value, _word(b, control, place))
    done = b.append_basic_block("done")
    kind = ir.FunctionType(ir.VoidType(), [_WORD]).as_pointer()
    with for_range(b, ir.Constant(_WORD, 0), count) as k:
        pair = b.add(pairs, b.mul(k, ir.Constant(_WORD, 16)))
        b.call(b.inttoptr(b.load(_word(b, pair)), kind), [b.load(_word(b, pair, 1))])
        following = b.append_basic_block("following")
        b.cbranch(b.icmp_signed("==", b.load(status), ir.Constant(_WORD, 0)), following, done)
        b.position_at_end(following)
    b.branch(done)
    b.position_at_end(done)
    found = b.load(status)
    b.call(restore, [thread])
    with b.if_then(b.icmp_signed("!=", after, ir.Constant(_WORD, 0))):
        asked = _word(b, control, ASKED)
        with b.if_then(b.icmp_signed("!=", b.load(asked), ir.Constant(_WORD, 0))):
            b.store(ir.Constant(_WORD, 0), asked)
            call = function_of(module, "PyObject_CallNoArgs", _POINTER, [_POINTER])
            result = b.call(call, [b.inttoptr(after, _POINTER)])
            with b.if_then(b.icmp_unsigned("==", result, ir.Constant(_POINTER, None))):
                b.ret(result)  # The function raised an exception.
            b.call(function_of(module, "Py_DecRef", ir.VoidType(), [_POINTER]), [result])
    b.ret(b.call(function_of(module, "PyLong_FromLongLong", _POINTER, [_WORD]), [found]))


def _emit_address(module: Any) -> None:
    """Emit qrnn_address, which returns the address of an array's elements."""
    made = ir.Function(module, _FUNCTION, "qrnn_address")
    b = ir.IRBuilder(made.append_basic_block())
    b.ret(b.call(function_of(module, "PyLong_FromLongLong", _POINTER, [_WORD]), [_data(b, made.args[1])]))


_NO_ARGUMENT, _ONE_ARGUMENT = 0x0004, 0x0008
"""METH_NOARGS and METH_O."""


class _Method(ctypes.Structure):
    """PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_NEEDED = ("PyEval_SaveThread", "PyEval_RestoreThread", "PyLong_FromLongLong", "PyObject_CallNoArgs", "Py_DecRef")

_new_function = ctypes.pythonapi.PyCFunction_NewEx
_new_function.argtypes = (ctypes.POINTER(_Method), ctypes.py_object, ctypes.c_void_p)
_new_function.restype = ctypes.py_object


def _compiled() -> Any:
    """Return LLVM's engine with the functions of this module. Its code lives as long as it does."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name in _NEEDED:
        llvm.add_symbol(name, ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value)
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        jit=True, codemodel="jitdefault", opt=1
    )
    module = ir.Module("python_calls")
    module.triple = llvm.get_process_triple()
    _emit_run(module)
    _emit_address(module)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    return engine


class _Functions:
    """The functions as CPython has them, and all that has to live as long as they are called."""

    def __init__(self) -> None:
        self._engine = _compiled()
        self.run = self._method("qrnn_run", _NO_ARGUMENT)
        self._address = self._method("qrnn_address", _ONE_ARGUMENT)
        self.address_of: Callable[[Any], int] = _new_function(self._address, None, None)
        probe = np.zeros(3)
        if self.address_of(probe) != probe.ctypes.data:
            raise BackendError(
                "NumPy's arrays do not lie in memory as expected; use another version of NumPy, or backend reference"
            )

    def _method(self, name: str, flags: int) -> _Method:
        return _Method(name.encode(), self._engine.get_function_address(name), flags, None)


_functions: _Functions | None = None
_making = threading.Lock()


def _renew_lock() -> None:
    """Make a new lock in a forked child, which has none of the threads that may hold the old one."""
    global _making
    _making = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def _made() -> _Functions:
    """Return the functions, which the first thread that asks makes.

    `functools.cache` would let several threads make them at once and drop all but one, with code that another thread has just been given.
    """
    global _functions
    if _functions is None:
        with _making:
            if _functions is None:
                _functions = _Functions()
    return _functions


def address_of(values: npt.NDArray[Any]) -> int:
    """Return where an array begins, in a tenth of the time of ``values.ctypes.data``."""
    return _made().address_of(values)


class Words(np.ndarray[Any, np.dtype[np.int64]]):
    """int64 words of addresses, and what has to live as long."""

    alive: tuple[Any, ...]


def runner(
    control: Int64Array, addresses: Int64Array, first: int, last: int, after: Callable[[], Any] | None = None
) -> tuple[Callable[[], int], Words]:
    """Return a function that makes calls and returns the status at the end, and its words, of which `SPAN` may be changed.

    ``control`` [3] and ``addresses`` [calls, 2], of the compiled functions and of their arguments, are int64. With ``after``, control is [4],
    and ``after`` is called behind the calls where one of them has set `ASKED`.
    """
    values = [
        address_of(control),
        address_of(addresses),
        len(addresses),
        first,
        last,
        0 if after is None else id(after),
    ]
    words = np.array(values, np.int64).view(Words)
    words.alive = control, addresses, after
    return _new_function(_made().run, words, None), words
