"""Machine code: compiled by LLVM from what `qrnn.backends.cpu.jit` makes of a kernel, kept on disk, and brought into this process.

What is kept is an object file for each `Kernel` and types of arguments, which LLVM's linker loads. Numba, whose import takes longer than
everything else together, is needed only where a kernel is compiled.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from llvmlite.binding import ffi

from qrnn.backends.cpu import emulation
from qrnn.backends.cpu.code_cache import CodeFolder, cache_directory
from qrnn.backends.cpu.isa import Target
from qrnn.backends.cpu.threads.pool import core_count
from qrnn.backends.cpu.wanted import SOURCE_DIGEST, Unit, Wanted, short_hash, symbol_of, versions

C_LIBRARY = frozenset({"memcpy", "memmove", "memset", "sched_yield", "read", "clock_gettime", "floor", "floorf"})
"""The functions that object files may need. The linker ends the process where one cannot be found."""


class Code:
    """Compiled kernels, kept in the folder ``chosen`` or in the user's (`cache_directory`)."""

    def __init__(self, chosen: Path | None = None) -> None:
        self._chosen = chosen

    def addresses(self, wanted: Sequence[Wanted]) -> list[int]:
        """Return the addresses of the functions that are wanted. What is not kept is compiled, by several threads, and kept."""
        with _lock:
            missing = [w for w in dict.fromkeys(wanted) if w not in _loaded]
            if missing:
                self._bring(missing)
        return [_loaded[w] for w in wanted]

    def _bring(self, missing: Sequence[Wanted]) -> None:
        folder = self.folder()
        objects: dict[Wanted, bytes] = {}
        for w in missing:
            found = folder.read(*_place(w))
            if found is not None and is_object(found, symbol_of(w)):
                objects[w] = found
        compiled = compile_all([w for w in missing if w not in objects])
        _load(objects | compiled)
        if compiled and folder.may_write():
            for w, content in compiled.items():
                folder.write(*_place(w), content)

    def keep(self, wanted: Sequence[Wanted]) -> int:
        """Compile what is not kept, and keep it, without bringing it into this process.

        Return how many functions were compiled. Raise OSError where that fails.
        """
        folder = self.folder()
        missing = [w for w in dict.fromkeys(wanted) if folder.read(*_place(w)) is None]
        for w, content in compile_all(missing).items():
            folder.put(*_place(w), content)
        return len(missing)

    def folder(self) -> CodeFolder:
        """Return the folder of the object files."""
        return CodeFolder(self._chosen or cache_directory(), f"{versions()}-{SOURCE_DIGEST[:16]}")


class Collector(Code):
    """Says of every kernel that it is there, and remembers which were wanted: for calls that are laid out and never made."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: dict[Wanted, None] = {}

    def addresses(self, wanted: Sequence[Wanted]) -> list[int]:
        """Keep what is wanted and compile nothing; every address is 0."""
        self.wanted |= dict.fromkeys(wanted)
        return [0] * len(wanted)


DEFAULT = Code()

compilations = 0
"""Kernels that this process has compiled."""

_lock = threading.RLock()


def _renew_lock() -> None:
    """Make a new lock in a forked child, which has none of the threads that may hold the old one."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)

_loaded: dict[Wanted, int] = {}


def _place(wanted: Wanted) -> tuple[str, str]:
    """Return a file's name, and the key of what is in it."""
    key = wanted.key
    return f"{wanted.kernel.name}-{short_hash(key)}.o", key


def is_object(content: bytes, symbol: str) -> bool:
    """Return whether LLVM reads an object file with this function in it."""
    try:
        found = llvm.ObjectFileRef.from_data(content)
    except (RuntimeError, ValueError):
        return False
    return found is not None and symbol.encode() in content


def compile_all(wanted: Iterable[Wanted]) -> dict[Wanted, bytes]:
    """Return the object files of what is wanted.

    Numba works in this thread, which holds the GIL. LLVM works meanwhile in others, which do not.
    """
    global compilations
    # The largest come first, so that LLVM has its share of them while Numba is at the others.
    todo = sorted(wanted, key=lambda w: not w.kernel.variant)
    if not todo:
        return {}
    from qrnn.backends.cpu import jit

    with ThreadPoolExecutor(core_count(), thread_name_prefix="qrnn-compile") as pool:
        done: dict[Wanted, Future[bytes]] = {}
        for w in todo:
            done[w] = pool.submit(emit, jit.unit_of(w), w.target)
            compilations += 1
        return {w: future.result() for w, future in done.items()}


# --- LLVM ---------------------------------------------------------------------------------------------------------------------------------


@cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def machine_of(target: Target) -> Any:
    """Return LLVM's machine for a target, for one thread."""
    _initialize()
    x86 = llvm.Target.from_default_triple().name.startswith("x86")
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=target.cpu,
        features=target.text,
        opt=3,
        reloc="static" if x86 else "default",
        codemodel="jitdefault",
        jit=True,
    )


def _unlocked(name: str) -> Any:
    """Return a function of LLVM's without llvmlite's lock.

    That lock allows one thread at a time, but these threads share nothing that changes.
    """
    locked = getattr(ffi.lib, name)
    return getattr(locked, "_cfn", locked)


def emit(unit: Unit, target: Target) -> bytes:
    """Optimize a unit and compile it to an object file, in a context of LLVM of its own."""
    machine, context = machine_of(target), llvm.create_context()
    module = llvm.parse_bitcode(unit.bitcode, context)
    allowed = C_LIBRARY
    if target.emulated:
        module, allowed = emulation.replaced(module, context), C_LIBRARY | emulation.LIBRARY
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization, options.slp_vectorization = True, False
    builder = llvm.create_pass_builder(machine, options)
    _unlocked("LLVMPY_RunNewModulePassManager")(builder.getModulePassManager(), module, builder)
    strange = {f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")} - allowed
    if strange:
        raise AssertionError(f"{unit.symbol} needs {sorted(strange)}, which is not there when it is loaded")
    with ffi.OutputString() as problem:
        buffer = _unlocked("LLVMPY_TargetMachineEmitToMemory")(machine, module, 1, problem)
        if not buffer:
            raise RuntimeError(str(problem))
    try:
        return ctypes.string_at(ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer))
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


_engines: list[Any] = []
"""LLVM's linkers and the memory of loaded code, for as long as the process lives."""


def _load(objects: dict[Wanted, bytes]) -> None:
    """Bring object files into this process."""
    _initialize()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(jit=True, codemodel="jitdefault")
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    for content in objects.values():
        engine.add_object_file(llvm.ObjectFileRef.from_data(content))
    engine.finalize_object()
    _engines.append(engine)
    for wanted in objects:
        _loaded[wanted] = engine.get_function_address(symbol_of(wanted))
