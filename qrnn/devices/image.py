"""Read from a linked program's ELF file how much flash and RAM it takes, by section, by function and by object."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from qrnn.errors import DeviceError

Section = Literal["text", "rodata", "data", "bss"]

_SYMBOL_KINDS: dict[str, Literal["function", "object"]] = {"STT_FUNC": "function", "STT_OBJECT": "object"}

_ALLOC, _WRITE, _EXECUTE = 2, 1, 4
"""Flags of a section: it takes memory, is written to, is executed (ELF specification, figure 4-11)."""


@dataclass(frozen=True)
class Symbol:
    """A function or an object: its address without Thumb's bit, its size in bytes, and the kind of section it lies in."""

    name: str
    address: int
    size: int
    kind: Literal["function", "object"]
    section: Section


@dataclass(frozen=True)
class Layout:
    """Bytes of code, of constants, and of variables with and without initial values, without padding between sections.

    ``text`` holds the vector table and constants between instructions too. The stack is in none of them.
    """

    text: int
    rodata: int
    data: int
    bss: int
    symbols: tuple[Symbol, ...]


@dataclass(frozen=True)
class Image:
    """A linked program.

    Its file is read when its layout is first asked for, since running a program needs neither the layout nor a reader of ELF files.
    """

    path: Path

    @cached_property
    def layout(self) -> Layout:
        """Return the layout that `read_layout` reads."""
        return read_layout(self.path)

    @property
    def text(self) -> int:
        """Return the bytes of code."""
        return self.layout.text

    @property
    def rodata(self) -> int:
        """Return the bytes of constants."""
        return self.layout.rodata

    @property
    def data(self) -> int:
        """Return the bytes of variables with initial values; they take RAM and flash."""
        return self.layout.data

    @property
    def bss(self) -> int:
        """Return the bytes of variables that start as zero."""
        return self.layout.bss

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """Return all functions and objects, by address."""
        return self.layout.symbols

    @property
    def flash_bytes(self) -> int:
        """Return the bytes of flash: code, constants and the initial values of variables."""
        return self.text + self.rodata + self.data

    @property
    def ram_bytes(self) -> int:
        """Return the bytes of variables; the stack is not included."""
        return self.data + self.bss

    def symbol(self, name: str) -> Symbol:
        """Return the only symbol of that name; DeviceError where there is none or there are several."""
        found = [symbol for symbol in self.symbols if symbol.name == name]
        if len(found) != 1:
            raise DeviceError(f"{self.path}: {len(found)} functions or objects are named {name!r}, expected one")
        return found[0]


def read_image(path: Path) -> Image:
    """Return the linked program of an ELF file, read at once; raises what `read_layout` raises."""
    image = Image(path)
    _ = image.layout
    return image


def read_layout(path: Path) -> Layout:
    """Read a linked ELF file; DeviceError where it is not one."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import SymbolTableSection

    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            arm = elf["e_machine"] == "EM_ARM"
            kinds: dict[int, Section] = {}
            sizes: dict[Section, int] = {"text": 0, "rodata": 0, "data": 0, "bss": 0}
            for index, section in enumerate(elf.iter_sections()):
                if section["sh_flags"] & _ALLOC:
                    kinds[index] = kind = _kind(section["sh_flags"], section["sh_type"])
                    sizes[kind] += section["sh_size"]
            symbols = []
            for table in elf.iter_sections():
                if isinstance(table, SymbolTableSection):
                    for entry in table.iter_symbols():
                        symbol = _symbol(entry, kinds, arm)
                        if symbol is not None:
                            symbols.append(symbol)
    except OSError as error:
        raise DeviceError(f"{path}: {error.strerror}") from None
    except ELFError as error:
        raise DeviceError(f"{path}: not a linked ELF file: {error}") from None
    return Layout(**sizes, symbols=tuple(sorted(set(symbols), key=lambda s: (s.address, s.name))))


def _kind(flags: int, kind: str) -> Section:
    if flags & _EXECUTE:
        return "text"
    if kind == "SHT_NOBITS":
        return "bss"
    return "data" if flags & _WRITE else "rodata"


def _symbol(entry: Any, kinds: dict[int, Section], arm: bool) -> Symbol | None:
    """Return the function or object, where its section takes memory, else None."""
    kind = _SYMBOL_KINDS.get(entry["st_info"]["type"])
    section = kinds.get(entry["st_shndx"])
    if kind is None or section is None:
        return None
    thumb = arm and kind == "function"
    address = entry["st_value"] & ~1 if thumb else entry["st_value"]
    return Symbol(entry.name, address, entry["st_size"], kind, section)
