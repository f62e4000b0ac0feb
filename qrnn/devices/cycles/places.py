"""Which part of a model an instruction belongs to: its layer by the debugger's tables of the program, its phase by marks in the code.

A layer's function may have become a part of its caller. The debugger's tables (DWARF) say so, instruction by instruction, and cost the
program nothing. What several layers call, the products of matrices above all, belongs to the layer that was last executed. A phase begins
where execution passes a label that the kernels' macro QRNN_PHASE leaves, which is no instruction either.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from qrnn.devices.cycles.record import REST
from qrnn.devices.image import Image
from qrnn.errors import DeviceError
from qrnn.export.replay import PHASES
from qrnn.export.source import VERBS, Exported

OTHER = PHASES.index("other")

MARK_FLAGS = ("-gdwarf-4",)
"""The options with which a program is compiled whose parts are to be told apart."""

MARK_HEADER = '#define QRNN_PHASE(phase) __asm__ volatile("qrnn_phase_%c0_%=:" : : "i"(phase))\n'
"""The text that is included before everything else, so that phases are marked."""

_MARK = re.compile(r"qrnn_phase_(\d+)_")

MAIN, BEGIN, TICK = "main", "board_stack_used", "board_tick"


class Part(NamedTuple):
    """A part of a model: the number of a phase, and a layer's name or `REST`."""

    phase: int = OTHER
    layer: str = REST


@dataclass(frozen=True)
class Owner:
    """A run of instructions up to the address ``end``, and the layer or `REST` that they belong to; None for what several layers call."""

    end: int
    layer: str | None


class Places:
    """The parts of a program that calls a model: `entries` are the addresses of the model's functions, `begin` is where calls count from."""

    def __init__(self, image: Image, exported: Exported) -> None:
        functions = {s.name: s for s in image.symbols if s.kind == "function"}
        missing = [name for name in (MAIN, BEGIN) if name not in functions]
        if missing:
            raise DeviceError(
                f"{image.path}: no function is named {missing[0]!r}, expected in every program that is traced"
            )
        main, tick = functions[MAIN], functions.get(TICK)
        self._main = range(main.address, main.address + main.size)
        self._tick = range(tick.address, tick.address + tick.size) if tick is not None else range(0)
        self.begin = functions[BEGIN].address
        own = (f"{exported.name}_{verb}" for verb in VERBS)
        self.entries = frozenset(functions[name].address for name in own if name in functions)
        self.ranges = _ranges(image, self.begin)
        with image.path.open("rb") as file:
            from elftools.elf.elffile import ELFFile

            elf = ELFFile(file)
            self.marks = dict(_marks(elf))
            addresses = {s.address for s in functions.values()}
            self._starts, self._owners = _owners(elf, addresses, _Names(exported))
        self._changes: dict[int, tuple[int | None, str | None]] = {}

    def outside(self, address: int) -> bool:
        """Return whether the model has returned to its caller there."""
        return address in self._main

    def interrupts(self, address: int) -> bool:
        """Return whether an interrupt is served there, which the model knows nothing of."""
        return address in self._tick

    def at(self, part: Part, address: int) -> Part:
        """Return the part of the instruction at an address, where ``part`` is that of the one executed before it."""
        return Part(self.marks.get(address, part.phase), self._layer(address) or part.layer)

    def after(self, part: Part, start: int, end: int) -> Part:
        """Return the part at the end of a block that begins in ``part``."""
        if start not in self._changes:
            phase: int | None = None
            layer: str | None = None
            for address in range(start, end, 2):
                phase, layer = self.marks.get(address, phase), self._layer(address) or layer
            self._changes[start] = phase, layer
        phase, layer = self._changes[start]
        return Part(part.phase if phase is None else phase, layer or part.layer)

    def _layer(self, address: int) -> str | None:
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._owners[index].end:
            return None
        return self._owners[index].layer


class _Names:
    """Whose a function is, by its name."""

    def __init__(self, exported: Exported) -> None:
        self._prefix = f"{exported.name}_"
        self._layers = sorted(exported.layers.items(), key=lambda item: -len(item[1]))

    def owner(self, function: str) -> str | None:
        """Return the layer that a function belongs to, `REST` for the model's own, and None for what several call."""
        name = function.split(".")[0]
        for layer, own in self._layers:
            if name == own or name.startswith(f"{own}_"):
                return layer
        return REST if name.startswith(self._prefix) else None


def _ranges(image: Image, begin: int) -> str:
    """Return the addresses that QEMU is to log: of all functions but the board's, and the first instruction at ``begin``."""
    own = [s for s in image.symbols if s.kind == "function" and s.size and not s.name.startswith("board_")]
    return ",".join([f"0x{begin:x}+0x2", *(f"0x{s.address:x}+0x{s.size:x}" for s in own)])


def _marks(elf: Any) -> Iterator[tuple[int, int]]:
    """Yield the address of each mark, and the number of the phase that begins there."""
    from elftools.elf.sections import SymbolTableSection

    for table in elf.iter_sections():
        if isinstance(table, SymbolTableSection):
            for symbol in table.iter_symbols():
                if (match := _MARK.match(symbol.name)) is not None:
                    yield symbol["st_value"] & ~1, int(match[1])


def _owners(elf: Any, functions: set[int], names: _Names) -> tuple[list[int], list[Owner]]:
    """Return where runs of instructions begin, in order, and whose they are."""
    painted: dict[int, str | None] = {}  # every other address of a function
    if elf.has_dwarf_info():
        dwarf = elf.get_dwarf_info()
        for unit in dwarf.iter_CUs():
            top = unit.get_top_DIE()
            base = top.attributes["DW_AT_low_pc"].value if "DW_AT_low_pc" in top.attributes else 0
            for entry in top.iter_children():
                if entry.tag == "DW_TAG_subprogram" and any(low in functions for low, _ in _spans(entry, dwarf, base)):
                    _paint(entry, dwarf, base, names, painted)
    starts: list[int] = []
    owners: list[Owner] = []
    for address, layer in sorted(painted.items()):
        if owners and owners[-1] == Owner(address, layer):
            owners[-1] = Owner(address + 2, layer)
        else:
            starts.append(address)
            owners.append(Owner(address + 2, layer))
    return starts, owners


def _paint(entry: Any, dwarf: Any, base: int, names: _Names, painted: dict[int, str | None]) -> None:
    """Say of the instructions of a function, or of one that became a part of another, whose they are; inner ones come later and win."""
    if entry.tag in ("DW_TAG_subprogram", "DW_TAG_inlined_subroutine"):
        name = _name(entry)
        owner = None if name is None else names.owner(name)
        if owner is not None or entry.tag == "DW_TAG_subprogram":
            for low, high in _spans(entry, dwarf, base):
                painted.update(dict.fromkeys(range(low, high, 2), owner))
    for child in entry.iter_children():
        if child.tag in ("DW_TAG_inlined_subroutine", "DW_TAG_lexical_block"):
            _paint(child, dwarf, base, names, painted)


def _name(entry: Any) -> str | None:
    """Return the name of a function, also of a copy of it."""
    for _ in range(4):
        if "DW_AT_name" in entry.attributes:
            return str(entry.attributes["DW_AT_name"].value.decode())
        if "DW_AT_abstract_origin" not in entry.attributes:
            return None
        entry = entry.get_DIE_from_attribute("DW_AT_abstract_origin")
    return None


def _spans(entry: Any, dwarf: Any, base: int) -> list[tuple[int, int]]:
    """Return the addresses of a function's instructions, each the first and the one behind the last."""
    found: Mapping[str, Any] = entry.attributes
    if "DW_AT_low_pc" in found and "DW_AT_high_pc" in found:
        low, high = found["DW_AT_low_pc"].value & ~1, found["DW_AT_high_pc"]
        return [(low, high.value if high.form == "DW_FORM_addr" else low + high.value)]
    if "DW_AT_ranges" not in found:
        return []
    spans = []
    for one in dwarf.range_lists().get_range_list_at_offset(found["DW_AT_ranges"].value):
        if hasattr(one, "base_address"):
            base = one.base_address
        else:
            spans.append((base + one.begin_offset, base + one.end_offset))
    return spans
