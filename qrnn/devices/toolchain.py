"""Compilers that build C for a target, together with the start-up code of its board, into one linked program.

Three families are known: GNU's cross compilers, clang (which leaves linking to GNU's linker), and the clang in PyPI's ``ziglang``. The
target's file says which of them take it, and with which flags.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from qrnn.devices.boards import BOARDS, Board
from qrnn.devices.image import Image, read_image
from qrnn.errors import DeviceError, MissingToolError
from qrnn.targets import Build, Target, targets_folder

Family = Literal["gnu", "clang", "zig"]
FAMILIES: tuple[Family, ...] = ("gnu", "clang", "zig")

_BUILD_SECONDS = 300

_COMPILE = ("-ffunction-sections", "-fdata-sections", "-g0")
_LIBRARIES: dict[Family, tuple[str, ...]] = {"gnu": ("-nostdlib", "-lgcc"), "clang": ("-nostdlib", "-lgcc"), "zig": ()}
"""Libraries for arithmetic without an instruction; zig has no C library for a bare core, and adds its own unless it is told not to."""


def boards_folder() -> Path:
    """Return the folder of ``board.h`` and its implementations."""
    return targets_folder() / "boards"


@dataclass(frozen=True)
class Toolchain:
    """An installed compiler: the commands that compile and link, without what a target adds."""

    family: Family
    compiler: tuple[str, ...]
    linker: tuple[str, ...]

    def version(self) -> str:
        """Return the compiler's own name and version, on one line."""
        if self.family == "zig":
            return f"zig {run_tool((*self.compiler[:-1], 'version')).strip()}"
        return run_tool((*self.compiler, "--version")).splitlines()[0]

    def build(
        self,
        target: Target,
        sources: Sequence[Path],
        include_dirs: Sequence[Path] = (),
        defines: Mapping[str, str | int] | None = None,
        output: Path = Path("program.elf"),
        flags: Sequence[str] = ("-O2",),
    ) -> Image:
        """Compile ``sources`` and the target's board, link them into ``output``, and, for a bare board, read its layout.

        ``flags`` go to every compilation of a source; of them only those about warnings go to the board's code, whose counts no
        optimization may change. DeviceError carries the compiler's own words.
        """
        board = _board(target)
        bare = board.bare
        own = self._flags(target.build)
        common = [
            *own,
            board.standard,
            *_COMPILE,
            *board.compile,
            *(("-fno-sanitize=all",) if self.family == "zig" else ()),
        ]
        common += [f"-I{folder}" for folder in (*include_dirs, boards_folder())]
        settings = {**_board_defines(target), **(defines or {})}
        common += [f"-D{name}={value}" for name, value in settings.items()]
        parts = [(source, tuple(flags)) for source in sources]
        warnings = tuple(flag for flag in flags if flag.startswith("-W"))
        parts += [(boards_folder() / name, ("-O2", *warnings)) for name in board.sources]
        with tempfile.TemporaryDirectory(prefix="qrnn-") as folder:
            objects = []
            for number, (source, extra) in enumerate(parts):
                objects.append(str(Path(folder) / f"{number}.o"))  # two sources may have one name
                run_tool((*self.compiler, *common, *extra, "-c", str(source), "-o", objects[-1]))
            gnu = self.family != "zig" if bare else False  # clang leaves linking to GNU's linker
            link = list(target.build.gnu_link_flags or target.build.gnu_flags if gnu else own)
            link += board.link
            if target.emulation is not None:
                link += board.memory_flags(target.emulation)
            if board.script:
                script = Path(folder) / "bare.ld"
                script.write_text(linker_script(target), encoding="utf-8")
                link += ["-T", str(script)]
            run_tool(
                (*self.linker, *link, *objects, *(_LIBRARIES[self.family] if board.script else ()), "-o", str(output))
            )
        return read_image(output) if bare else Image(output)  # programs of a host need not be ELF files

    def _flags(self, build: Build) -> tuple[str, ...]:
        """Return the target's flags, with the core's own name where the compiler knows it."""
        flags = _target_flags(self.family, build)
        if build.core is None or self.family == "zig":
            return flags
        own = tuple(f"-mcpu={build.core}" if flag.startswith("-mcpu=") else flag for flag in flags)
        return own if _takes(self.compiler, own) else flags


def toolchains(target: Target) -> tuple[Toolchain, ...]:
    """Return all installed compilers that take the target."""
    found = (_find(family, target) for family in FAMILIES)
    return tuple(toolchain for toolchain in found if toolchain is not None)


def find_toolchain(target: Target, family: Family | None = None) -> Toolchain:
    """Return an installed compiler for the target, of ``family`` or the first of `FAMILIES`; MissingToolError says what to install."""
    _board(target)
    found = [toolchain for toolchain in toolchains(target) if family in (None, toolchain.family)]
    if found:
        return found[0]
    build = target.build
    packages = [build.gnu_package] if build.gnu_package else ["gcc"] if build.board == "host" else []
    if family == "clang":
        packages.append("clang")
    remedies = [f"apt-get install {' '.join(packages)}"] if packages and family != "zig" else []
    if family in (None, "zig") and (build.zig_flags or build.board == "host"):
        remedies.append("pip install 'qrnn[cross]'")
    if not remedies:
        raise MissingToolError(
            f"target {target.name}: it names no flags for {family or 'any compiler'}; expected in [build]"
        )
    raise MissingToolError(
        f"target {target.name}: no C compiler ({family or 'any'}) is installed; {' or '.join(remedies)}"
    )


def linker_script(target: Target) -> str:
    """Return the linker script of a bare board, with the memory map of the target's emulated machine."""
    emulation = target.emulation
    if emulation is None:
        raise DeviceError(f"target {target.name}: no memory map to link for; expected [emulation]")
    text = (boards_folder() / "bare.ld").read_text(encoding="utf-8")
    for key in ("flash_origin", "flash_bytes", "ram_origin", "ram_bytes"):
        text = text.replace(f"@{key.upper()}@", hex(getattr(emulation, key)))
    return text


def _board(target: Target) -> Board:
    if target.build.board is None:
        raise DeviceError(
            f"target {target.name}: no board starts it, so that nothing can be built or run here; expected build.board"
        )
    return BOARDS[target.build.board]


def _board_defines(target: Target) -> dict[str, str]:
    """Return what boards with a ticking counter ask for: instructions per tick of the timer, in units of 2^-32."""
    emulation = target.emulation
    if not _board(target).ticks or emulation is None or emulation.tick_hz is None:
        return {}
    ticks_per_second = emulation.tick_hz << emulation.icount_shift  # of a clock with one instruction a nanosecond
    factor = ((10**9 << 32) + ticks_per_second // 2) // ticks_per_second
    return {"BOARD_INSTRUCTIONS_PER_TICK_Q32": f"UINT32_C({factor})"}


def _target_flags(family: Family, build: Build) -> tuple[str, ...]:
    return {"gnu": build.gnu_flags, "clang": build.clang_flags, "zig": build.zig_flags}[family]


@cache
def _takes(compiler: tuple[str, ...], flags: tuple[str, ...]) -> bool:
    """Return whether a compiler knows flags."""
    command = (*compiler, *flags, "-fsyntax-only", "-x", "c", os.devnull)
    try:
        return subprocess.run(command, capture_output=True, timeout=_BUILD_SECONDS, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _find(family: Family, target: Target) -> Toolchain | None:
    """Return the family's compiler, where it is installed and the target has flags for it, else None."""
    build, host = target.build, target.build.board == "host"
    if not host and (build.board is None or not _target_flags(family, build)):
        return None
    if family == "zig":
        if importlib.util.find_spec("ziglang") is None:
            return None
        command = (sys.executable, "-m", "ziglang", "cc")
        return Toolchain(family, command, command)
    gnu = shutil.which("gcc") or shutil.which("cc") if host else shutil.which(f"{build.gnu}-gcc")
    if family == "gnu":
        return Toolchain(family, (gnu,), (gnu,)) if gnu else None
    clang = shutil.which("clang")
    linker = clang if host else gnu
    return Toolchain(family, (clang,), (linker,)) if clang and linker else None


def run_tool(command: Sequence[str]) -> str:
    """Run a compiler or a tool beside it and return its output; DeviceError carries its words where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
    except OSError as error:
        raise DeviceError(f"cannot run {command[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{' '.join(command)}: still running after {_BUILD_SECONDS} s") from None
    if done.returncode != 0:
        raise DeviceError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr.strip()}")
    return done.stdout
