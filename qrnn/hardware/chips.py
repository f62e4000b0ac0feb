"""Chips and boards, as data: what one of them has beside its core's target.

``targets/chips/*.toml`` have a table for each chip: the target that it is, its flash, RAM and clock, other names of it (its family, boards with
it), and the document in which to look them up. A chip's name is taken wherever a target's name is.

The figures were entered without these documents at hand; `UNCHECKED` says so wherever a source is shown.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from qrnn.errors import TargetError
from qrnn.hardware.description import (
    MOST_BYTES,
    Energy,
    Memory,
    Target,
    Timing,
    check_counter,
    check_rules,
    check_sizes,
    read_section,
    targets_folder,
)
from qrnn.system.files import read_regular

UNCHECKED = "not compared with it: look there before you rely on a figure"
"""What is said of the document that a chip names."""


@dataclass(frozen=True)
class Chip:
    """A chip: the name of its ``target``, its memories in bytes and clock in Hz, and ``also``, its other names and those of boards with it.

    ``wait_states`` are those of the flash at that clock, of which a read brings ``flash_line_bytes``. ``timing`` takes the place of the
    target's, and ``energy`` is the chip's own. ``gnu_flags`` and ``counter`` take the place of the target's, and ``machine`` of its
    emulated machine, which has the chip's memories then.
    """

    description: str
    target: str
    ram_bytes: int
    clock_hz: int
    source: str
    flash_bytes: int | None = None
    wait_states: int | None = None
    flash_line_bytes: int | None = None
    timing: Timing | None = None
    energy: Energy | None = None
    also: tuple[str, ...] = ()
    gnu_flags: tuple[str, ...] = ()
    counter: str | None = None
    machine: str | None = None

    def memory(self, name: str) -> Memory:
        """Return the memories of the chip ``name``."""
        what = f"{name} ({', '.join(self.also)})" if self.also else name
        source = f"{self.source} ({UNCHECKED})"
        sizes = (self.flash_bytes, self.ram_bytes, self.clock_hz, self.wait_states, self.flash_line_bytes)
        return Memory(*sizes, what, source)


def chips_folder() -> Path:
    """Return the folder of the files."""
    return targets_folder() / "chips"


@cache
def chips() -> dict[str, Chip]:
    """Return all chips by name."""
    found: dict[str, Chip] = {}
    for path in sorted(chips_folder().glob("*.toml")):
        found |= read_chips(path)
    return dict(sorted(found.items()))


def read_chips(path: Path) -> dict[str, Chip]:
    """Read and check one file of chips; TargetError names the file, the key and what was expected."""
    try:
        table = tomllib.loads(read_regular(path, MOST_BYTES).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TargetError(f"{path}: {error}") from None
    found = {}
    for name, keys in table.items():
        if not isinstance(keys, dict):
            raise TargetError(f"{path}: {name} = {keys!r}, expected a table")
        found[name] = chip = read_section(path, Chip, keys, f"{name}.")
        check_sizes(path, name, chip)
        if chip.timing is not None:
            check_sizes(path, f"{name}.timing", chip.timing)
            check_rules(path, f"{name}.", chip.timing)
        check_counter(path, name, chip.counter)
    return found


@cache
def names() -> dict[str, str]:
    """Return the chip of each name that is taken: those of chips, families and boards."""
    found = {name: name for name in chips()}
    for name, chip in chips().items():
        found |= dict.fromkeys(chip.also, name)
    return found


def as_typed(name: str) -> str:
    """Return a name as the files have it: in small letters, with hyphens."""
    return name.lower().replace("_", "-").replace(" ", "-")


def with_chip(name: str, chip: Chip, target: Target) -> Target:
    """Return the target of a chip's core with what the chip has."""
    core, build, emulation = target.core, target.build, target.emulation
    if chip.counter is not None:
        core = replace(core, counter=chip.counter)
    if chip.gnu_flags:
        build = replace(build, gnu_flags=chip.gnu_flags)
    if chip.machine is not None and emulation is not None:
        assert chip.flash_bytes is not None
        emulation = replace(emulation, machine=chip.machine, flash_bytes=chip.flash_bytes, ram_bytes=chip.ram_bytes)
    energy = chip.energy
    if energy is not None:
        energy = replace(energy, source=f"{energy.source} ({UNCHECKED})")
    return replace(
        target,
        name=name,
        description=f"{name}: {chip.description}",
        core=core,
        memory=chip.memory(name),
        build=build,
        emulation=emulation,
        timing=target.timing if chip.timing is None else chip.timing,
        energy=energy,
    )
