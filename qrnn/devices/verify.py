"""Build exported C, run it, and compare every output and state with the host engine, bit for bit."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qrnn.devices.emulator import run
from qrnn.devices.hosts import OPTIMIZATION as HOST_OPTIMIZATION
from qrnn.devices.hosts import build_program, find_host_compiler, run_program
from qrnn.devices.image import Image
from qrnn.devices.toolchain import Family, Toolchain, find_toolchain
from qrnn.errors import DataError, DeviceError
from qrnn.export.expected import first_difference, host_results
from qrnn.export.folder import ExportedFolder
from qrnn.export.readme import OPTIMIZATION
from qrnn.export.replay import Counts, Vectors, decode_sequences, encode_sequences, replay_source, sequence_length
from qrnn.targets import Target

SECONDS_PER_STEP = 0.5
"""The seconds per step, beyond a minute, after which an emulation is given up."""

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")
"""The warnings with which exported code is built everywhere."""


@dataclass(frozen=True)
class Verified:
    """The result of a comparison: how much was compared, with which compiler, what was counted, and the first difference, if any."""

    sequences: int
    steps: int
    compiler: str
    counts: Counts
    difference: str | None


def verify(
    folder: ExportedFolder, target: Target, sequences: Sequence[Vectors], family: Family | None = None
) -> Verified:
    """Run ``sequences`` through the folder's C on ``target`` and compare every bit with the host.

    The target is the one that the folder was exported for; a folder with plain kernels runs on any.
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
    with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
        if target.host is not None:
            compiler = find_host_compiler(target).version()
            program = build_host_replay(folder, target, max(lengths), Path(temporary))
            done = run_program(target, program, stdin, timeout)
        else:
            toolchain = find_toolchain(target, family)
            compiler = toolchain.version()
            done = run(build_replay(folder, target, toolchain, max(lengths), Path(temporary)), target, stdin, timeout)
    if done.status != 0:
        raise DeviceError(f"target {target.name}: the program ended with status {done.status}, expected 0")
    found, counts = decode_sequences(folder.exported, lengths, done.output)
    difference = first_difference(host_results(folder.model, folder.exported, sequences), found)
    return Verified(len(sequences), sum(lengths), compiler, counts, difference)


def build_replay(
    folder: ExportedFolder,
    target: Target,
    toolchain: Toolchain,
    most_steps: int,
    place: Path,
    flags: Sequence[str] = (),
) -> Image:
    """Build the program that replays sequences, linked in ``place``."""
    replay = place / "replay.c"
    replay.write_text(replay_source(folder.exported, most_steps), encoding="utf-8")
    return toolchain.build(
        target,
        [folder.source, replay],
        folder.include_dirs,
        output=place / "replay.elf",
        flags=(OPTIMIZATION, *WARNINGS, *flags),
    )


def build_host_replay(folder: ExportedFolder, target: Target, most_steps: int, place: Path) -> Path:
    """Build the program that replays sequences, for a target with an operating system, and return its path."""
    replay, program = place / "replay.c", place / "replay"
    replay.write_text(replay_source(folder.exported, most_steps), encoding="utf-8")
    build_program(target, [folder.source, replay], [folder.path], program, (HOST_OPTIMIZATION, *WARNINGS))
    return program
