"""What kernels are called, what they are compiled for, and the keys by which their code is kept."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from qrnn import arithmetic
from qrnn.backends.cpu.isa import Target
from qrnn.model import boundary, cell_codes, cell_formats

ENTRY = "qrnn_entry_"
"""What the names of the functions in object files begin with; the digest of their key follows."""

Kinds = str | tuple["Kinds", ...]
"""Types of arguments: of an array its type and its axes, as in ``i2:3``; ``int``, ``bool``; and tuples of these."""


def source_digest() -> str:
    """Return the SHA-256 over the sources that the kernels are built from.

    These are the contract, the boundary, the formats, the codes and this package.
    """
    digest = hashlib.sha256()
    folders = (Path(inspect.getfile(arithmetic)).parent, Path(__file__).parent)
    paths = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    for path in (*paths, *(Path(inspect.getfile(module)) for module in (boundary, cell_formats, cell_codes))):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


SOURCE_DIGEST = source_digest()


@cache
def versions() -> str:
    """Return the versions of the packages that compile kernels."""
    return f"numba-{importlib.metadata.version('numba')}-llvmlite-{llvmlite.__version__}"


@dataclass(frozen=True)
class Kernel:
    """A function of a module of compiled functions, or what its function ``name`` makes of ``variant``."""

    module: str
    name: str
    variant: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """A kernel, the types of its arguments, and what it is compiled for."""

    kernel: Kernel
    kinds: Kinds
    target: Target

    @property
    def key(self) -> str:
        """All that its code depends on. Of the processor, that is the features that the code may use and not its name."""
        return repr((self.kernel, self.kinds, self.target, llvm.get_process_triple(), SOURCE_DIGEST, versions()))


@dataclass(frozen=True)
class Unit:
    """A kernel as LLVM's bitcode, not optimized, with the function ``symbol`` (address of the arguments' words) → nothing."""

    symbol: str
    bitcode: bytes


def short_hash(key: str) -> str:
    """Return 16 hexadecimal digits that stand for a key."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def symbol_of(wanted: Wanted) -> str:
    """Return the name of a kernel's function in its object file, which no other has."""
    return ENTRY + short_hash(wanted.key)
