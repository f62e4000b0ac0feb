"""Known hardware by its names: targets, of which each is one file in ``targets/``, and the chips and boards that are one of them."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from qrnn.errors import TargetError
from qrnn.hardware import chips
from qrnn.hardware.description import (
    MOST_BYTES,
    Board,
    Build,
    Core,
    Cost,
    Emulation,
    Energy,
    Host,
    Kernels,
    ListCosts,
    Memory,
    Target,
    Timing,
    read_target,
    targets_folder,
)

__all__ = [
    "MOST_BYTES",
    "Board",
    "Build",
    "Core",
    "Cost",
    "Emulation",
    "Energy",
    "Host",
    "Kernels",
    "ListCosts",
    "Memory",
    "Target",
    "Timing",
    "chip_names",
    "load_target",
    "read_target",
    "target_names",
    "targets_folder",
]


def target_names() -> tuple[str, ...]:
    """Return the names that `load_target` takes."""
    return tuple(sorted(path.stem for path in targets_folder().glob("*.toml")))


def chip_names() -> tuple[str, ...]:
    """Return the names of the chips that `load_target` takes, without their other names."""
    return tuple(chips.chips())


def load_target(name: str) -> Target:
    """Read and check one target, given by its name, by that of a chip or a board, or by the path of its file, which ends in ``.toml``.

    TargetError names the file, the key and what was expected.
    """
    if name in target_names():
        return read_target(targets_folder() / f"{name}.toml")
    if name.endswith(".toml"):
        return read_target(Path(name))
    chip = chips.names().get(chips.as_typed(name))
    if chip is not None:
        return chips.with_chip(chip, chips.chips()[chip], load_target(chips.chips()[chip].target))
    near = get_close_matches(chips.as_typed(name), [*target_names(), *chips.names()], 3)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    known = ", ".join(target_names())
    raise TargetError(
        f"target {name!r} is unknown; {meant}expected one of {known}, a chip or a board (see: qrnn targets) or the path of a .toml file"
    )
