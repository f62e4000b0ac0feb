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
from typing import Any

import numba
from numba.core import caching
from numba.extending import register_jitable

from qrnn import arithmetic

for _function in arithmetic.CONTRACT:
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
    """SHA-256 over the sources that the kernels are built from: the contract and this package."""
    digest = hashlib.sha256()
    for folder in (Path(inspect.getfile(arithmetic)).parent, Path(__file__).parent):
        for path in sorted(folder.glob("*.py")):
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


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    _impl_class = _CacheImpl


def jit(function: Callable[..., Any]) -> Any:
    """Compile for nopython use without the GIL. No fastmath: the contract is integers, and exact."""
    return numba.njit(nogil=True, boundscheck=False)(function)


def jit_entry(function: Callable[..., Any]) -> Any:
    """`jit`, and kept on disk: for the few functions that Python calls (their callees are compiled into them)."""
    dispatcher = jit(function)
    with contextlib.suppress(OSError, RuntimeError):  # no writable directory: compiled anew in each process
        dispatcher._cache = _Cache(function)
    return dispatcher
