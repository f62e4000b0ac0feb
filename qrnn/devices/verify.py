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
from qrnn.export.trace_replay import MOST_BYTES, LayerDifference, first_layer, trace_flag, trace_source, traceable
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
    layer: LayerDifference | None = None
    """The first layer that differs, where an output or a state does and a layer shows it."""
    untraced: str | None = None
    """Why no layer shows it."""


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
    first = first_difference(host_results(folder.model, folder.exported, sequences), found, folder.exported)
    difference = None if first is None else str(first)
    layer = untraced = None
    if first is not None:
        try:
            layer = find_layer(folder, target, family, first.sequence, sequences[first.sequence])
        except DeviceError as error:  # what differs is known in any case
            untraced = " ".join(str(error).split())
    generated = 0
    if folder.exported.generates is not None and difference is None:
        generated, difference = _verify_generated(folder, target, family, sequences)
    known = cycles and target.emulation is not None and difference is None
    spent = _cycles(folder, target, family, sequences, counts) if known else None
    return Verified(len(sequences), sum(lengths), compiler, counts, difference, generated, spent, layer, untraced)


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


def find_layer(
    folder: ExportedFolder, target: Target, family: Family | None, sequence: int, inputs: Vectors
) -> LayerDifference:
    """Return the first layer whose values on ``target`` are not the host's, by one sequence that is replayed with traced C.

    Raises DeviceError where no layer shows a difference, where the trace would be too large, and where traced C cannot be built or run.
    """
    traced = traceable(folder.model, folder.exported, inputs)
    if traced is None:
        raise DeviceError(
            f"the trace of the sequence would have more than {MOST_BYTES:,} bytes; give shorter ones (--data)"
        )
    output = run_traced(folder, target, family, traced)
    found = first_layer(folder.model, folder.exported, sequence, traced, output)
    if found is None:
        raise DeviceError(
            "no layer differs when the sequence runs alone; what ran before it has changed memory or a state"
        )
    return found


def run_traced(folder: ExportedFolder, target: Target, family: Family | None, inputs: Vectors) -> bytes:
    """Return what the layers of the folder's C give for a sequence on ``target``, as `qrnn.export.trace_replay` reads it."""
    exported, length = folder.exported, sequence_length(folder.exported, inputs)
    program, stdin = trace_source(exported, length), encode_sequences(exported, [inputs])
    timeout = 60 + 2 * SECONDS_PER_STEP * length
    done, _ = _run(folder, target, family, program, stdin, timeout, (trace_flag(exported),))
    if done.status != 0:
        raise DeviceError(f"target {target.name}: the traced program ended with status {done.status}, expected 0")
    return done.output


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
    difference = first_difference(want, found, folder.exported)
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


def _build_host(folder: ExportedFolder, target: Target, text: str, place: Path, flags: Sequence[str] = ()) -> Path:
    """Build a program with the folder's C for a target with an operating system, and return its path."""
    replay, program = place / "replay.c", place / "replay"
    replay.write_text(text, encoding="utf-8")
    build_program(target, [folder.source, replay], folder.include_dirs, program, (HOST_OPTIMIZATION, *WARNINGS, *flags))
    return program


def _run(
    folder: ExportedFolder,
    target: Target,
    family: Family | None,
    text: str,
    stdin: bytes,
    timeout: float,
    flags: Sequence[str] = (),
) -> tuple[EmulatorRun, str]:
    """Build a program with the folder's C and run it on ``target``; return how it ended, and the version of the compiler."""
    with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
        place = Path(temporary)
        if target.host is not None:
            program = _build_host(folder, target, text, place, flags)
            return run_program(target, program, stdin, timeout), find_host_compiler(target).version()
        toolchain = find_toolchain(target, family)
        return run(_build(folder, target, toolchain, text, place, flags), target, stdin, timeout), toolchain.version()
