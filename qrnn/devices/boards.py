"""Boards: the start-up code in ``targets/boards`` that makes a program of exported C, and what it needs of a compiler.

A new target needs nothing here where one of these boards starts its core. A new board is its files in ``targets/boards``, an entry of
`BOARDS` and a name in `qrnn.targets.Board`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from qrnn.targets import Board as BoardName
from qrnn.targets import Emulation

_BARE = ("-ffreestanding", "-fno-exceptions", "-fno-asynchronous-unwind-tables")
_LINK_BARE = ("-Wl,--gc-sections", "-Wl,-z,noexecstack", "-Wl,--entry=board_reset")
STACK_BYTES = 256
"""The bytes of RAM that are kept for the stack where no script of ours does."""

_COMMON = ("start.c", "counter.c", "memory.c")


@dataclass(frozen=True)
class Board:
    """The files of one board in ``targets/boards``, and the flags for a compiler and a linker beside those of the target.

    ``script`` is whether the program is linked by ``bare.ld``; a board without it is started by the compiler's own library. ``ticks``
    is whether the counter is a timer whose ticks become instructions by the target's `Emulation.tick_hz`.
    """

    sources: tuple[str, ...]
    standard: str = "-std=c99"
    compile: tuple[str, ...] = _BARE
    link: tuple[str, ...] = _LINK_BARE
    bare: bool = True
    script: bool = True
    ticks: bool = False

    def memory_flags(self, emulation: Emulation) -> tuple[str, ...]:
        """Return the linker's flags for the sizes of memory, where no script of ours has them."""
        if self.script or not self.bare:
            return ()
        sizes = {"TEXT": emulation.flash_bytes, "DATA": emulation.ram_bytes - STACK_BYTES}
        return tuple(f"-Wl,--defsym=__{region}_REGION_LENGTH__={size}" for region, size in sizes.items())


BOARDS: dict[BoardName, Board] = {
    "arm_m": Board((*_COMMON, "arm_m.c", "arm_m.S"), ticks=True),
    "arm_ar": Board((*_COMMON, "arm_ar.S")),
    "riscv32": Board((*_COMMON, "riscv32.c", "riscv32.S")),
    "xtensa": Board((*_COMMON, "xtensa.c", "xtensa.S", "xtensa_rom.c"), ticks=True),
    "avr": Board(
        ("avr.c", "avr.S", "counter.c"),
        standard="-std=gnu99",
        compile=("-ffreestanding",),
        link=("-Wl,--gc-sections",),
        script=False,
    ),
    "host": Board(("host.c",), compile=(), link=(), bare=False, script=False),
}
"""The boards by the name that a target's ``build.board`` gives."""

assert set(BOARDS) == set(get_args(BoardName))
