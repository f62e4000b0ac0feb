"""Every emulated target, by every compiler that is here, at every level of optimization: no warning, and the host's bits."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.kinds import kind
from export.test_devices import TARGETS, exported, usable
from qrnn.devices.emulator import run
from qrnn.devices.toolchain import Family, find_toolchain
from qrnn.devices.verify import build_replay
from qrnn.export.expected import first_difference, host_results, random_sequences
from qrnn.export.replay import decode_sequences, encode_sequences

LEVELS = ("-O0", "-Os", "-O2", "-O3")
FAMILIES: tuple[Family, ...] = ("gnu", "clang")
USUAL = {
    *(("avr", "gnu", "-O0"), ("avr", "gnu", "-Os"), ("lx106", "gnu", "-O2"), ("hazard3", "gnu", "-Os")),
    *(("cortex-r5", "gnu", "-O2"), ("cortex-a7", "clang", "-O2"), ("cortex-m85", "gnu", "-O0")),
}
"""What the default run builds: of each board, and of each core that has no other run there."""
BUILDS = [
    pytest.param(name, family, level, marks=() if (name, family, level) in USUAL else pytest.mark.matrix)
    for name in TARGETS
    for family in FAMILIES
    for level in LEVELS
]


@pytest.mark.parametrize(("name", "family", "level"), BUILDS)
def test_a_level_gives_the_hosts_bits(name: str, family: Family, level: str, tmp_path: Path) -> None:
    """An LSTM, gates and a head; `build_replay` takes warnings for errors."""
    target = usable(name, family)
    folder = exported(kind("lstm"), target, tmp_path)
    sequences = random_sequences(folder.model, folder.exported, (1, 6), seed=4)
    image = build_replay(folder, target, find_toolchain(target, family), 6, tmp_path, (level,))
    done = run(image, target, encode_sequences(folder.exported, sequences))
    found, _ = decode_sequences(folder.exported, [1, 6], done.output)
    assert first_difference(host_results(folder.model, folder.exported, sequences), found) is None
