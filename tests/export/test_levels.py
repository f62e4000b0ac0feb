"""Every target, by every compiler that is here, at every level of optimization: no warning, the target's own flags, and the host's bits."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from installed import cross_compiler

from export.building import compile_program
from export.hosts import HOST_TARGETS, host_target
from export.kinds import kind
from export.test_devices import exported, usable
from qrnn.devices.emulator import run
from qrnn.devices.hosts import build_program, host_compilers, host_of, run_program, runs_here
from qrnn.devices.toolchain import Family, find_toolchain
from qrnn.devices.verify import WARNINGS, build_replay
from qrnn.export.expected import first_difference, host_results, random_sequences
from qrnn.export.folder import ExportedFolder
from qrnn.export.replay import Vectors, decode_sequences, encode_sequences, replay_source
from qrnn.targets import load_target, target_names

LEVELS = ("-O0", "-Os", "-O2", "-O3")
FAMILIES: tuple[Family, ...] = ("gnu", "clang")
USUAL = {
    *(("avr", "gnu", "-Os"), ("lx106", "gnu", "-O2"), ("hazard3", "gnu", "-Os")),
    *(("cortex-r5", "gnu", "-O2"), ("cortex-a7", "clang", "-O2"), ("cortex-m85", "gnu", "-O0")),
    *(("x86-64-v3", "clang", "-O2"), ("wasm32-simd128", "clang", "-Os")),
}
"""What the default run builds: of each board, and of each core that has no other run there."""
MODELS = ("lstm", "gru of 16 bits", "windows beside four bits")
"""Operands of 8 and of 16 bits, weights of 8 and of 4, gates and convolutions; the default run has the first."""
STEPS = (1, 6)
UNEMULATED = [name for name in target_names() if load_target(name).build.board is None and name not in HOST_TARGETS]
BUILDS = [
    pytest.param(*case, marks=() if case[1:] in USUAL and case[0] == MODELS[0] else pytest.mark.matrix)
    for case in product(MODELS, target_names(), FAMILIES, LEVELS)
    if case[1] not in UNEMULATED
]


def bare_replay(folder: ExportedFolder, family: Family, level: str, place: Path) -> bytes:
    """What the sequences give on an emulated board."""
    image = build_replay(folder, folder.target, find_toolchain(folder.target, family), max(STEPS), place, (level,))
    return run(image, folder.target, encode_sequences(folder.exported, sequences(folder))).output


def host_replay(folder: ExportedFolder, family: Family, level: str, place: Path) -> bytes:
    """What the sequences give on a target with an operating system."""
    target, source, program = folder.target, place / "replay.c", place / "replay"
    compiler = next((c for c in host_compilers(target) if (family == "clang") == ("clang" in Path(c.path).name)), None)
    if compiler is None:
        pytest.skip(f"no {family} compiler that makes the instructions of {target.name} is installed")
    if family == "clang" and host_of(target).emulator_flags and not runs_here(host_of(target)):
        pytest.skip(f"the emulator of {target.name} needs flags that clang has not")
    source.write_text(replay_source(folder.exported, max(STEPS)), encoding="utf-8")
    build_program(target, [folder.source, source], folder.include_dirs, program, (level, *WARNINGS), compiler)
    return run_program(target, program, encode_sequences(folder.exported, sequences(folder)), 60).output


def sequences(folder: ExportedFolder) -> list[Vectors]:
    return random_sequences(folder.model, folder.exported, STEPS, seed=4)


@pytest.mark.shard_by("name")
@pytest.mark.parametrize(("which", "name", "family", "level"), BUILDS)
def test_a_level_gives_the_hosts_bits(which: str, name: str, family: Family, level: str, tmp_path: Path) -> None:
    """Warnings are errors, and no flag is given but the target's own and the level."""
    on_host = name in HOST_TARGETS
    folder = exported(kind(which), host_target(name) if on_host else usable(name, family), tmp_path)
    output = (host_replay if on_host else bare_replay)(folder, family, level, tmp_path)
    found, _ = decode_sequences(folder.exported, STEPS, output)
    assert first_difference(host_results(folder.model, folder.exported, sequences(folder)), found) is None


@pytest.mark.matrix
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("which", MODELS)
@pytest.mark.parametrize("name", UNEMULATED)
def test_what_nothing_runs_compiles(name: str, which: str, level: str, tmp_path: Path) -> None:
    build = load_target(name).build
    command = [cross_compiler(f"{build.gnu}-gcc", "-c"), *build.gnu_flags, "-std=c99", level, *WARNINGS]
    folder = exported(kind(which), load_target(name), tmp_path)
    compile_program([*command, "-c", folder.source, "-o", tmp_path / "net.o"])
