"""How this backend compiles: options, the contract registered with Numba, and an on-disk cache keyed by every source it depends on.

Numba's own cache looks at one file's change time and misses edits in the files that a kernel calls into; here the key is a digest of
all of them. Where nothing can be kept, `qrnn.backends.cpu.code_cache` warns, and kernels are compiled in every process.
"""

from __future__ import annotations

import hashlib
import inspect
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import numba
from numba import types
from numba.core import caching, cgutils
from numba.core.ccallback import CFunc
from numba.core.serialize import dumps
from numba.extending import intrinsic, register_jitable

from qrnn import arithmetic
from qrnn.arithmetic.reals import round_half_up
from qrnn.backends.cpu.code_cache import CodeFolder, cache_directory
from qrnn.model import boundary, cell_codes, cell_formats

for _function in (*arithmetic.CONTRACT, round_half_up, boundary.to_integers, boundary.to_reals):
    register_jitable(_function)


def source_digest() -> str:
    """SHA-256 over the sources that the kernels are built from: the contract, the boundary, the formats, the codes, and this package."""
    digest = hashlib.sha256()
    folders = (Path(inspect.getfile(arithmetic)).parent, Path(__file__).parent)
    paths = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    for path in (*paths, *(Path(inspect.getfile(module)) for module in (boundary, cell_codes, cell_formats))):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


SOURCE_DIGEST = source_digest()


class _Impl(caching.CompileResultCacheImpl):  # type: ignore[misc]
    """Numba's way to turn a compiled function into something that can be pickled, and back. Where it is kept is not Numba's to choose."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._lineno = function.__code__.co_firstlineno
        self._locator = SimpleNamespace(_py_file=inspect.getfile(function))  # for warnings


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    """A file for each signature of a function, named by a digest of its key.

    Numba's index of numbered files lets two processes that save different signatures at once take the same number: the index then names one
    signature's code for the other. Whatever cannot be read, unpickled or linked counts as not there, and is compiled and kept anew.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._py_func = function
        self._name = repr(function)
        self._impl = _Impl(function)
        self._function = (
            f"{Path(inspect.getfile(function)).stem}.{function.__qualname__}-{sys.implementation.cache_tag}"
        )
        self._files = CodeFolder(cache_directory(), f"numba-{numba.__version__}-{SOURCE_DIGEST[:16]}")
        self._cache_path = str(self._files.path)
        self.enable()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function of a signature; None where it is to be compiled."""
        target_context.refresh()
        content = self._files.read(*self._place(sig, target_context.codegen()))
        if content is None:
            return None
        try:
            return self._impl.rebuild(target_context, pickle.loads(content))
        except Exception:  # noqa: BLE001  # it was pickled or linked by other versions of what Numba needs
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function, where that is possible."""
        if self._files.may_write() and self._impl.check_cachable(data):
            self._files.write(*self._place(sig, data.codegen), dumps(self._impl.reduce(data)))

    def flush(self) -> None:
        """Numba's order to forget what is kept, by which it compiles a function anew; files are written over then."""

    def _place(self, sig: Any, codegen: Any) -> tuple[str, str]:
        """A file's name, and all that its code depends on."""
        key = repr((self._function, SOURCE_DIGEST, numba.__version__, self._index_key(sig, codegen)))
        name = f"{self._function.replace('<', '').replace('>', '')}.{hashlib.sha256(key.encode()).hexdigest()[:16]}.nbc"
        return name, key


def jit(function: Callable[..., Any]) -> Any:
    """Compile for nopython use without the GIL. No fastmath: the contract is integers, and exact."""
    return numba.njit(nogil=True, boundscheck=False)(function)


def emitted(emit: Callable[..., None], arity: int) -> Any:
    """``emit(builder, *arguments)`` as a function for compiled code; arguments that are tuples arrive as lists of values."""

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
    if arity == 4:
        return intrinsic(lambda _context, a, b, c, d: (types.void(a, b, c, d), codegen))
    return intrinsic(lambda _context, a, b, c, d, e: (types.void(a, b, c, d, e), codegen))


def renamed(function: Callable[..., Any], name: str, space: dict[str, Any]) -> Any:
    """The function's code under another name, among the functions of ``space``.

    Compiled functions that differ need names that differ: Numba's symbols are made of the name, a number that each process counts for itself
    and the signature, and where two symbols loaded from the cache agree, the first serves both.
    """
    made = FunctionType(function.__code__.replace(co_name=name, co_qualname=name), space, name)
    made.__qualname__ = name
    return made


def jit_entry(function: Callable[..., Any]) -> Any:
    """`jit`, and kept on disk: for the few functions that Python calls (their callees are compiled into them)."""
    dispatcher = jit(function)
    dispatcher._cache = _Cache(function)
    return dispatcher


def callback(function: Callable[..., Any], *kinds: Any) -> Any:
    """A function of nothing but numbers that compiled code calls by its ``address``; kept on disk."""
    made: Any = CFunc(function, (kinds, types.void), {}, {"nopython": True, "boundscheck": False})
    made._cache = _Cache(function)
    made.compile()
    return made
