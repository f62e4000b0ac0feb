"""Build exported C, run it, and compare every output and state with the host engine, bit for bit."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qrnn.devices.cycles.count import best
from qrnn.devices.cycles.record import Cycles
from qrnn.devices.emulator import EmulatorRun, run
from qrnn.devices.hosts import OPTIMIZATION as HOST_OPTIMIZATION
from qrnn.devices.hosts import build_program, find_host_compiler, run_program
from qrnn.devices.image import Image
from qrnn.devices.toolchain import Family, Toolchain, find_toolchain
from qrnn.errors import DataError, DeviceError
from qrnn.export.expected import first_difference, host_results
from qrnn.export.folder import ExportedFolder
from qrnn.export.generation_replay import cases_of, decode_cases, encode_cases, generation_source, host_generated
from qrnn.export.readme import OPTIMIZATION
from qrnn.export.replay import (
    Counts,
    Vectors,
    decode_sequences,
    encode_sequences,
    replay_source,
    sequence_length,
    sequence_steps,
)
from qrnn.targets import Target

SECONDS_PER_STEP = 0.5
"""The seconds per step, beyond a minute, after which an emulation is given up."""

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")
"""The warnings with which exported code is built everywhere."""


@dataclass(frozen=True)
class Verified:
    """The result of a comparison: how much was compared, with which compiler, what was counted, and the first difference, if any.

    ``cycles`` are those of a step of the compared sequences, where they were asked for and are known.
    """

    sequences: int
    steps: int
    compiler: str
    counts: Counts
    difference: str | None
    generated: int = 0
    """The steps that were generated and compared, where the folder's C generates."""
    cycles: Cycles | None = None


def verify(
    folder: ExportedFolder,
    target: Target,
    sequences: Sequence[Vectors],
    family: Family | None = None,
    cycles: bool = False,
) -> Verified:
    """Run ``sequences`` through the folder's C on ``target`` and compare every bit with the host.

    The target is the one that the folder was exported for; a folder with plain kernels runs on any. ``cycles`` asks for those of a step, for
    which the program is built and run once more where a trace gives them.
    """
    kernels = folder.exported.kernels
    if kernels not in ("plain", target.core.kernels):
        host = target.build.board == "host"
        remedy = "use --emulate" if host else f"export the model for {target.name}"
        raise DeviceError(f"{folder.path}: exported for {kernels} instructions, which {target.name} has not; {remedy}")
    if not sequences:
        raise DataError("no sequence has a step; expected data with at least one")
    lengths = [sequence_length(folder.exported, s) for s in sequences]
    stdin, timeout = encode_sequences(folder.exported, sequences), 60 + SECONDS_PER_STEP * sum(lengths)
    steps = [sequence_steps(folder.exported, s) for s in sequences]
    done, compiler = _run(folder, target, family, replay_source(folder.exported, max(lengths)), stdin, timeout)
    if done.status != 0:
        raise DeviceError(f"target {target.name}: the program ended with status {done.status}, expected 0")
    found, counts = decode_sequences(folder.exported, steps, done.output)
    difference = first_difference(host_results(folder.model, folder.exported, sequences), found)
    generated = 0
    if folder.exported.generates is not None and difference is None:
        generated, difference = _verify_generated(folder, target, family, sequences)
    known = cycles and target.emulation is not None and difference is None
    spent = _cycles(folder, target, family, sequences, counts) if known else None
    return Verified(len(sequences), sum(lengths), compiler, counts, difference, generated, spent)


def _cycles(
    folder: ExportedFolder, target: Target, family: Family | None, sequences: Sequence[Vectors], counts: Counts
) -> Cycles | None:
    """Return the cycles of a step of these sequences."""
    toolchain, lengths = find_toolchain(target, family), [sequence_length(folder.exported, s) for s in sequences]
    with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
        place = Path(temporary)

        def build(flags: Sequence[str]) -> Image:
            return build_replay(folder, target, toolchain, max(lengths), place, flags)

        stdin = encode_sequences(folder.exported, sequences)
        return best(target, folder.exported, build, place, stdin, counts.instructions / sum(lengths))


def _verify_generated(
    folder: ExportedFolder, target: Target, family: Family | None, sequences: Sequence[Vectors]
) -> tuple[int, str | None]:
    """Return how many steps the folder's C generates on ``target``, and where they differ from the host's."""
    cases = cases_of(folder.exported, sequences)
    timeout = 60 + SECONDS_PER_STEP * sum(c.length + c.steps for c in cases)
    program, stdin = generation_source(folder.exported, cases), encode_cases(folder.exported, cases)
    done, _ = _run(folder, target, family, program, stdin, timeout)
    if done.status != 0:
        raise DeviceError(f"target {target.name}: the generating program ended with status {done.status}, expected 0")
    found = decode_cases(folder.exported, len(cases), done.output)
    want = host_generated(folder.model, folder.exported, cases)
    difference = first_difference(want, found)
    count = sum(len(result.outputs["generated"]) for result in found)
    return count, None if difference is None else f"generated {difference}"


def build_replay(
    folder: ExportedFolder,
    target: Target,
    toolchain: Toolchain,
    most_steps: int,
    place: Path,
    flags: Sequence[str] = (),
) -> Image:
    """Build the program that replays sequences, linked in ``place``."""
    return _build(folder, target, toolchain, replay_source(folder.exported, most_steps), place, flags)


def _build(
    folder: ExportedFolder, target: Target, toolchain: Toolchain, program: str, place: Path, flags: Sequence[str] = ()
) -> Image:
    """Build a program with the folder's C, linked in ``place``."""
    replay = place / "replay.c"
    replay.write_text(program, encoding="utf-8")
    return toolchain.build(
        target,
        [folder.source, replay],
        folder.include_dirs,
        output=place / "replay.elf",
        flags=(OPTIMIZATION, *WARNINGS, *flags),
    )


def build_host_replay(folder: ExportedFolder, target: Target, most_steps: int, place: Path) -> Path:
    """Build the program that replays sequences, for a target with an operating system, and return its path."""
    return _build_host(folder, target, replay_source(folder.exported, most_steps), place)


def _build_host(folder: ExportedFolder, target: Target, text: str, place: Path) -> Path:
    """Build a program with the folder's C for a target with an operating system, and return its path."""
    replay, program = place / "replay.c", place / "replay"
    replay.write_text(text, encoding="utf-8")
    build_program(target, [folder.source, replay], folder.include_dirs, program, (HOST_OPTIMIZATION, *WARNINGS))
    return program


def _run(
    folder: ExportedFolder, target: Target, family: Family | None, text: str, stdin: bytes, timeout: float
) -> tuple[EmulatorRun, str]:
    """Build a program with the folder's C and run it on ``target``; return how it ended, and the version of the compiler."""
    with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
        place = Path(temporary)
        if target.host is not None:
            program = _build_host(folder, target, text, place)
            return run_program(target, program, stdin, timeout), find_host_compiler(target).version()
        toolchain = find_toolchain(target, family)
        return run(_build(folder, target, toolchain, text, place), target, stdin, timeout), toolchain.version()
