"""Programs and libraries for targets with an operating system, or an engine that runs WebAssembly: the section ``[host]`` of a target.

A program runs on this machine where its processor has the target's instructions, and else by the target's emulator of programs, such as
QEMU's in user mode.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from qrnn.devices.emulator import EmulatorRun
from qrnn.devices.toolchain import boards_folder, run_tool
from qrnn.errors import DeviceError, MissingToolError
from qrnn.export.source import CORES
from qrnn.targets import Host, Target

OPTIMIZATION = "-O3"
"""The compiler's option for libraries of hosts, with which docs/benchmarks/hosts.md is measured."""

_BUILD_SECONDS = 300


@dataclass(frozen=True)
class HostCompiler:
    """An installed compiler that makes a target's instructions: its path, and the flags that choose the processor."""

    path: str
    flags: tuple[str, ...]

    def version(self) -> str:
        """Return the compiler's own name and version, on one line."""
        return run_tool((self.path, "--version")).splitlines()[0]


def host_of(target: Target) -> Host:
    """Return the section ``[host]`` of a target; DeviceError where it has none."""
    if target.host is None:
        raise DeviceError(f"target {target.name}: it has no operating system that runs programs; expected [host]")
    return target.host


def host_compilers(target: Target) -> Iterator[HostCompiler]:
    """Yield each installed compiler of the target's that makes its instructions, in the order in which the target names them."""
    host = host_of(target)
    for name in host.compilers:
        path = shutil.which(name)
        if path is not None:
            flags = (*host.flags, *(host.clang_flags if name.startswith("clang") else ()))
            if _makes(path, flags, target.core.kernels, host.machine):
                yield HostCompiler(path, flags)


def find_host_compiler(target: Target) -> HostCompiler:
    """Return the first of `host_compilers`; MissingToolError names Debian's packages."""
    host = host_of(target)
    for compiler in host_compilers(target):
        return compiler
    raise MissingToolError(
        f"target {target.name}: none of {', '.join(host.compilers)} is installed and makes its instructions; "
        f"apt-get install {' '.join(host.packages)}"
    )


def runner_of(target: Target) -> tuple[str, ...]:
    """Return the command that runs the target's programs, empty where this processor does; MissingToolError where nothing does."""
    host = host_of(target)
    if runs_here(host):
        return ()
    if not host.emulator:
        raise MissingToolError(
            f"target {target.name}: this processor lacks its instructions, and no emulator has them; run it on such a machine"
        )
    path = shutil.which(host.emulator[0])
    if path is None:
        raise MissingToolError(
            f"target {target.name}: {host.emulator[0]} is not installed; apt-get install {' '.join(host.packages)}"
        )
    return (path, *(word.replace("{boards}", str(boards_folder())) for word in host.emulator[1:]))


def runs_here(host: Host) -> bool:
    """Return whether this machine's own processor runs the target's programs."""
    return platform.system() == "Linux" and platform.machine() == host.machine and set(host.features) <= _features()


def build_program(
    target: Target,
    sources: Sequence[Path],
    include_dirs: Sequence[Path],
    output: Path,
    flags: Sequence[str],
    compiler: HostCompiler | None = None,
) -> None:
    """Compile ``sources`` with the board of hosts, and link them into the program ``output``.

    ``compiler`` is one of `host_compilers`, and their first where it is None.
    """
    compiler, host = compiler or find_host_compiler(target), host_of(target)
    include = [f"-I{folder}" for folder in (*include_dirs, boards_folder())]
    emulated = () if runs_here(host) else host.emulator_flags
    own = [*compiler.flags, *host.program_flags, *emulated, "-std=c99", *flags, *include]
    run_tool((compiler.path, *own, *map(str, (*sources, boards_folder() / "host.c")), "-o", str(output)))


def run_program(target: Target, program: Path, stdin: bytes, timeout: float) -> EmulatorRun:
    """Run a program that `build_program` made, for at most ``timeout`` seconds."""
    command = [*runner_of(target), str(program.resolve())]
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout, check=False)
    except OSError as error:
        raise DeviceError(f"target {target.name}: cannot run {command[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise DeviceError(f"target {target.name}: the program still ran after {timeout:g} s") from None
    if done.returncode < 0 or done.returncode > 128:
        words = done.stderr.decode(errors="replace")
        raise DeviceError(f"target {target.name}: the program ended with status {done.returncode}\n{words[-2000:]}")
    return EmulatorRun(done.stdout, done.returncode)


@cache
def _makes(path: str, flags: tuple[str, ...], kernels: str, machine: str) -> bool:
    """Return whether a compiler takes ``flags``, is one for ``machine``, and has the instructions of ``kernels``."""
    own = {"x86_64": "__x86_64__", "aarch64": "__aarch64__", "riscv64": "__riscv", "wasm32": "__wasm32__"}.get(machine)
    conditions = [f"!defined({own})"] if own else []
    if (core := CORES.get(f"qrnn_dot_{kernels}.h")) is not None:
        conditions.append(core[0])
    with tempfile.TemporaryDirectory(prefix="qrnn-") as folder:
        probe = Path(folder) / "probe.c"
        probe.write_text("".join(f"#if {c}\n#error\n#endif\n" for c in conditions) + "int probe;\n")
        done = subprocess.run(
            [path, *flags, "-c", str(probe), "-o", str(Path(folder) / "probe.o")],
            capture_output=True,
            check=False,
            timeout=60,
        )
    return done.returncode == 0


@cache
def _features() -> frozenset[str]:
    """Return the words by which Linux lists the instructions of this machine's processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    listed = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    risc_v = re.search(r"^isa\s*:\s*rv\d+([a-z]*)(.*)$", text, re.MULTILINE)  # letters, then words with "_" before each
    found = listed[1].split() if listed else []
    return frozenset([*found, *(risc_v[1] if risc_v else ""), *(risc_v[2].split("_") if risc_v else ())])
