"""How this backend compiles: options, the contract registered with Numba, and units for LLVM.

Numba optimizes and assembles every function of its own, and again with each that calls it. Here its libraries are only put together, and LLVM
goes once over a kernel with all that it calls (`qrnn.backends.cpu.native`). Kernels do not allocate, raise or touch a Python object.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import FunctionType
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, codegen, compiler, registry
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic, register_jitable
from numba.np.numpy_support import from_dtype

from qrnn import arithmetic
from qrnn.arithmetic.reals import round_half_up
from qrnn.backends.cpu.memory import reader
from qrnn.backends.cpu.wanted import Kernel, Kinds, Unit, Wanted, symbol_of
from qrnn.model import boundary

_OPTIONS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Neither Python nor C calls these functions by themselves."""

for _function in (*arithmetic.CONTRACT, round_half_up, boundary.to_integers, boundary.to_reals):
    register_jitable(**_OPTIONS)(_function)


def jit(function: Callable[..., Any]) -> Any:
    """Let compiled code call this function, which for Python stays what it is. There is no fastmath: the contract is integers, and exact."""
    return register_jitable(**_OPTIONS)(function)


def for_python(function: Callable[..., Any]) -> Any:
    """Return the function compiled by Numba alone, for Python to call, in this process.

    Tests of what compiled code calls use it.
    """
    return numba.njit(nogil=True, boundscheck=False)(function)


def emitted(emit: Callable[..., None], arity: int) -> Any:
    """Return ``emit(builder, *arguments)`` as a function for compiled code. Arguments that are tuples arrive as lists of values."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        unpacked = [
            cgutils.unpack_tuple(builder, a) if isinstance(kind, types.BaseTuple) else a
            for kind, a in zip(signature.args, args, strict=True)
        ]
        emit(builder, *unpacked)
        return context.get_dummy_value()

    if arity == 1:
        return intrinsic(lambda _context, a: (types.void(a), codegen))
    if arity == 2:
        return intrinsic(lambda _context, a, b: (types.void(a, b), codegen))
    if arity == 3:
        return intrinsic(lambda _context, a, b, c: (types.void(a, b, c), codegen))
    if arity == 4:
        return intrinsic(lambda _context, a, b, c, d: (types.void(a, b, c, d), codegen))
    return intrinsic(lambda _context, a, b, c, d, e: (types.void(a, b, c, d, e), codegen))


def renamed(function: Callable[..., Any], name: str, space: dict[str, Any]) -> Any:
    """Return the function's code under another name, among the functions of ``space``."""
    made = FunctionType(function.__code__.replace(co_name=name, co_qualname=name), space, name)
    made.__qualname__ = name
    return made


# --- units --------------------------------------------------------------------------------------------------------------------------------


class _Library(codegen.CPUCodeLibrary):  # type: ignore[misc]
    """Modules that are put together and not optimized; `qrnn.backends.cpu.native` optimizes the whole of a kernel."""

    def add_llvm_module(self, ll_module: Any) -> None:
        self._final_module.link_in(ll_module)

    def finalize(self) -> None:
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0, since Python calls none of the functions."""
        return 0


class _Codegen(codegen.JITCPUCodegen):  # type: ignore[misc]
    _library_class = _Library

    def set_env(self, env_name: str, env: Any) -> None:
        """Do nothing, since what is compiled uses nothing of Python's."""


_codegen = _Codegen("qrnn.kernels")


def _flags() -> Any:
    flags = compiler.Flags()
    flags.nrt = flags.boundscheck = flags.enable_pyobject = flags.release_gil = False
    flags.error_model = "numpy"
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = flags.no_compile = True
    return flags


def _kernel(*_arguments: Any) -> None:
    """Run the kernel that `_entry` calls. It takes the place of this function."""
    raise NotImplementedError


def _arguments(_address: int) -> Any:
    """Read the kernel's arguments from memory. `reader` makes the function that takes the place of this one."""
    raise NotImplementedError


def _entry(address: int) -> None:
    """Call the kernel with the arguments that lie as words at ``address``."""
    _kernel(*_arguments(address))


def numba_types(kinds: Kinds) -> Any:
    """Return Numba's types for `Kinds`."""
    if isinstance(kinds, tuple):
        return types.Tuple([numba_types(kind) for kind in kinds])
    if kinds in ("int", "bool"):
        return types.int64 if kinds == "int" else types.boolean
    dtype, axes = kinds.split(":")
    return types.Array(from_dtype(np.dtype(dtype)), int(axes), "C")


def function_of(kernel: Kernel) -> Any:
    """Return the function that a kernel's name and variant stand for."""
    found = getattr(importlib.import_module(kernel.module), kernel.name)
    return found(*kernel.variant) if kernel.variant else found


def unit_of(wanted: Wanted) -> Unit:
    """Return a kernel as Numba makes it. Its target does not matter here: LLVM is given it with the unit."""
    kinds = numba_types(wanted.kinds)
    space = {"_kernel": function_of(wanted.kernel), "_arguments": reader(kinds)}
    symbol = symbol_of(wanted)
    with global_compiler_lock:
        context = registry.cpu_target.target_context
        typing = registry.cpu_target.typing_context
        usual, context._internal_codegen = context._internal_codegen, _codegen
        try:
            entry = renamed(_entry, f"entry_{wanted.kernel.name}", space)
            result = compiler.compile_extra(typing, context, entry, (types.int64,), types.void, _flags(), {})
            library = result.library
            library._ensure_finalized()
        finally:
            context._internal_codegen = usual
        module = library._final_module
        module.link_in(llvm.parse_assembly(_wrapper(context, result.fndesc, symbol)))
        for value in (*module.functions, *module.global_variables):
            if not value.is_declaration and value.name != symbol:
                value.linkage = "internal"
        return Unit(symbol, module.as_bitcode())


def _wrapper(context: Any, described: Any, symbol: str) -> str:
    """Return the function ``symbol``, as text of LLVM.

    It calls the compiled `_entry` as Numba's functions are called, and does not look at its status.
    """
    kind = context.call_conv.get_function_type(described.restype, described.argtypes)
    module = ir.Module(symbol)
    module.triple, module.data_layout = llvm.get_process_triple(), _codegen._data_layout
    called = ir.Function(module, kind, described.llvm_func_name)
    made = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(64)]), symbol)
    builder = ir.IRBuilder(made.append_basic_block())
    places = [builder.alloca(pointer.pointee) for pointer in kind.args[:2]]
    builder.call(called, [*places, made.args[0]])
    builder.ret_void()
    return str(module)
