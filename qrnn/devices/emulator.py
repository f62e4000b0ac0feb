"""Run a linked program: on an emulated board by QEMU, or on this machine where the target is the host."""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from qrnn.devices.image import Image
from qrnn.errors import DeviceError, MissingToolError
from qrnn.targets import Emulation, Target, targets_folder

EXIT_FAULT, EXIT_OUTPUT = 250, 251
"""``BOARD_EXIT_FAULT`` and ``BOARD_EXIT_OUTPUT`` of ``targets/boards/board.h``."""

INPUT, OUTPUT = "board.in", "board.out"
"""The files in the working directory that the boards open by semihosting."""


@dataclass(frozen=True)
class EmulatorRun:
    """What a program wrote, and the status that it returned."""

    output: bytes
    status: int


def run(image: Image, target: Target, stdin: bytes = b"", timeout: float = 60.0) -> EmulatorRun:
    """Run ``image`` with ``stdin`` as its input, for at most ``timeout`` seconds.

    A status that the program itself returns is not an error. Raises DeviceError where the program faults, crashes, does not end, or cannot
    write its output, and MissingToolError where the emulator is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="qrnn-") as name:
        folder = Path(name)
        program = image.path.resolve()
        if target.build.board in ("host", "avr"):
            command = [str(program)] if target.build.board == "host" else _simavr(target, program)
            done = _execute(target, command, folder, stdin, timeout)
            output = done.stdout
        else:
            (folder / INPUT).write_bytes(stdin)
            done = _execute(target, emulator_command(target, program), folder, b"", timeout)
            written = folder / OUTPUT
            output = written.read_bytes() if written.is_file() else b""
    words = done.stderr.decode(errors="replace")
    complaints = "\n".join(line for line in words.splitlines() if ": warning: " not in line)
    what = f"target {target.name}: {image.path}"
    if done.returncode == EXIT_FAULT:
        raise DeviceError(
            f"{what}: the program took a fault (a wrong address, an instruction the core has not, or a full stack)"
        )
    if done.returncode == EXIT_OUTPUT:
        raise DeviceError(f"{what}: the program's output could not be written")
    if done.returncode < 0:
        raise DeviceError(f"{what}: ended by signal {-done.returncode}\n{complaints[-2000:]}")
    if done.returncode != 0 and target.emulation is not None and f"{target.emulation.command}:" in complaints:
        raise DeviceError(f"{what}: the emulator failed\n{complaints[-2000:]}")
    return EmulatorRun(output, done.returncode)


def emulator_command(target: Target, program: Path, counted: bool = True) -> list[str]:
    """Return the command that runs a program under QEMU, in its working directory; ``counted`` is whether instructions take virtual time."""
    emulation = target.emulation
    if emulation is None:
        raise DeviceError(f"target {target.name}: no emulator is known for it; expected [emulation]")
    return [
        find_emulator(target.name, emulation),
        *("-M", emulation.machine),
        *(
            ("-kernel", str(program))
            if emulation.load == "kernel"
            else ("-device", f"loader,file={str(program).replace(',', ',,')},cpu-num=0")
        ),
        *("-nodefaults", "-display", "none", "-monitor", "none", "-serial", "none"),
        *("-semihosting-config", "enable=on,target=native"),
        *(("-icount", f"shift={emulation.icount_shift}") if counted else ()),
        *emulation.options,
    ]


def _simavr(target: Target, program: Path) -> list[str]:
    """Return the command that runs a program for an AVR."""
    emulation = target.emulation
    if emulation is None:
        raise DeviceError(f"target {target.name}: no emulator is known for it; expected [emulation]")
    find_emulator(target.name, emulation)
    runner = _simavr_runner()
    if runner is None:
        raise MissingToolError(
            f"target {target.name}: simavr's library or a compiler for this machine is not installed; apt-get install {emulation.package}"
        )
    return [str(runner), emulation.machine, str(target.memory.clock_hz or 16_000_000), str(program)]


@cache
def _simavr_runner() -> Path | None:
    """Build the program that drives simavr's library, once; None where the library or a compiler is not installed."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="qrnn-simavr-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    source, output = targets_folder() / "boards" / "simavr.c", folder / "simavr-run"
    done = subprocess.run(
        [compiler, "-O2", str(source), "-lsimavr", "-o", str(output)], capture_output=True, check=False
    )
    return output if done.returncode == 0 else None


def find_emulator(name: str, emulation: Emulation) -> str:
    """Return the emulator's path; MissingToolError names Debian's package where it is not installed.

    ``name`` is the target's name.
    """
    path = shutil.which(emulation.command)
    if path is None:
        raise MissingToolError(
            f"target {name}: emulator {emulation.command} is not installed; apt-get install {emulation.package}"
        )
    return path


def _execute(
    target: Target, command: list[str], folder: Path, stdin: bytes, timeout: float
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, timeout=timeout, check=False)
    except OSError as error:
        raise DeviceError(f"target {target.name}: cannot run {command[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise DeviceError(f"target {target.name}: the program still ran after {timeout:g} s") from None
