"""How this backend compiles: options, the contract registered with Numba, and an on-disk cache keyed by every source it depends on.

Numba's own cache looks at one file's change time and misses edits in the files that a kernel calls into; here the key is a digest of
all of them. Where no directory is writable, kernels are compiled in every process.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
from numba import types
from numba.core import caching, cgutils
from numba.core.ccallback import CFunc
from numba.extending import intrinsic, register_jitable

from qrnn import arithmetic
from qrnn.model import boundary, cell_formats

for _function in (*arithmetic.CONTRACT, boundary.to_integers, boundary.to_reals):
    register_jitable(_function)


def cache_directory() -> Path:
    """Where compiled kernels are kept: ``QRNN_CACHE_DIR``, or the user's cache folder."""
    if chosen := os.environ.get("QRNN_CACHE_DIR"):
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "qrnn" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "qrnn"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qrnn"


def source_digest() -> str:
    """SHA-256 over the sources that the kernels are built from: the contract, the boundary, the formats and this package."""
    digest = hashlib.sha256()
    folders = (Path(inspect.getfile(arithmetic)).parent, Path(__file__).parent)
    paths = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    for path in (*paths, *(Path(inspect.getfile(module)) for module in (boundary, cell_formats))):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


SOURCE_DIGEST = source_digest()


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    """Numba's question where to keep a function and how fresh it is, answered as the module says."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = function.__qualname__
        self._py_file = inspect.getfile(function)

    def get_cache_path(self) -> str:
        return str(cache_directory() / f"numba-{numba.__version__}-{SOURCE_DIGEST[:16]}")

    def get_source_stamp(self) -> str:
        return SOURCE_DIGEST

    def get_disambiguator(self) -> str:
        return self._name

    @classmethod
    def from_function(cls, function: Callable[..., Any], _file: str) -> _Locator | None:
        locator = cls(function)
        try:
            locator.ensure_cache_path()
        except (OSError, RuntimeError):  # RuntimeError: no home directory
            return None
        return locator


class _CacheImpl(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = [_Locator]  # noqa: RUF012  # the name and type are Numba's


class _Files(caching.IndexDataCacheFile):  # type: ignore[misc]
    """A file for each signature, named by a digest of its key.

    Numba's index of numbered files lets two processes that save different signatures at once take the same number: the index then names one
    signature's code for the other.
    """

    def _path(self, key: object) -> str:
        return str(self._data_name(int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little")))

    def save(self, key: object, data: object) -> None:
        self._save_data(self._path(key), (repr(key), data))

    def load(self, key: object) -> object:
        try:
            kept, data = self._load_data(self._path(key))
        except OSError:
            return None
        return data if kept == repr(key) else None


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    _impl_class = _CacheImpl

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _Files(self.cache_path, self._impl.filename_base, SOURCE_DIGEST)


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
    _keep(dispatcher, function)
    return dispatcher


def callback(function: Callable[..., Any], *kinds: Any) -> Any:
    """A function of nothing but numbers that compiled code calls by its ``address``; kept on disk."""
    made = CFunc(function, (kinds, types.void), {}, {"nopython": True, "boundscheck": False})
    _keep(made, function)
    made.compile()
    return made


def _keep(compiled: Any, function: Callable[..., Any]) -> None:
    with contextlib.suppress(OSError, RuntimeError):  # no writable directory: compiled anew in each process
        compiled._cache = _Cache(function)
