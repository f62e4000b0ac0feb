"""The instructions of a linked program for Arm cores in Thumb state, by their addresses, as objdump lists them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from qrnn.errors import DeviceError

_SECONDS = 60

_LINE = re.compile(r"^\s*([0-9a-f]+):\s+((?:[0-9a-f]{4} ?){1,2})\s+([a-z][\w.]*)\s*(.*)$")
"""A line of objdump: address, one or two halfwords, mnemonic, operands. Constants between instructions begin with a point."""

_CONDITIONS = "eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|al"

_KINDS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("multiple", r"v?push|v?pop|v?ldm\w*|v?stm\w*"),
        ("double", r"ldrd|strd"),
        ("load", r"v?ldr(b|h|sb|sh|t|bt|ht|sbt|sht|ex|exb|exh)?"),
        ("store", r"v?str(b|h|t|bt|ht|ex|exb|exh)?"),
        ("call", r"bl"),
        ("register_branch", r"blx|bx"),
        ("table_branch", r"tbb|tbh"),
        ("branch", rf"b|cbz|cbnz|b({_CONDITIONS})"),
        ("if_then", r"it[te]{0,3}"),
        ("multiply", r"muls?"),
        ("multiply_add", r"mla|mls"),
        ("multiply_long", r"smull|umull"),
        ("multiply_add_long", r"smlal|umlal"),
        ("divide", r"sdiv|udiv"),
        ("special", r"mrs|msr"),
        ("barrier", r"dmb|dsb|isb"),
    )
)

_SUMS = re.compile(r"muls?|mla|smul[bt]{2}|smla\w*|smua\w*|umlal|umaal|vmla\w*|vmlada\w*")

_REGISTERS = {name: number for number, name in enumerate(("sb", "sl", "fp", "ip", "sp", "lr", "pc"), 9)}


@dataclass(frozen=True)
class Instruction:
    """An instruction: its address and size in bytes, and its text. ``conditional`` is one that an IT before it may skip."""

    address: int
    size: int
    mnemonic: str
    operands: str
    conditional: bool = False

    @property
    def end(self) -> int:
        """Return the address behind it."""
        return self.address + self.size

    @cached_property
    def unconditional(self) -> str:
        """Return the mnemonic without the condition under which an IT has it executed."""
        if not self.conditional:
            return self.mnemonic
        base, point, width = self.mnemonic.partition(".")
        return re.sub(rf"(?<=\w)({_CONDITIONS})$", "", base) + point + width

    @cached_property
    def kind(self) -> str:
        """Return its kind, one of `qrnn.hardware.timings.KINDS`, without what depends on its neighbours."""
        base = self.unconditional.split(".")[0]
        return next((kind for kind, pattern in _KINDS if pattern.fullmatch(base)), "other")

    @cached_property
    def registers(self) -> int:
        """Return how many registers an instruction of kind ``multiple`` loads or stores."""
        return sum(_count(part) for part in _list(self.operands).split(",") if part.strip())

    @cached_property
    def pops_pc(self) -> bool:
        """Return whether an instruction of kind ``multiple`` loads the program counter."""
        return self.kind == "multiple" and "pc" in _list(self.operands)

    @cached_property
    def may_jump(self) -> bool:
        """Return whether the program may go on elsewhere behind it."""
        return (
            self.kind.endswith(("branch", "call")) or self.pops_pc or self.loaded == "pc" or _ends_loop(self.mnemonic)
        )

    @cached_property
    def words_loaded(self) -> int:
        """Return how many words it reads from memory."""
        if self.kind == "multiple":
            return self.registers if re.match(r"v?(pop|ldm)", self.mnemonic) else 0
        return {"load": 1, "double": 2 if self.mnemonic.startswith("ldrd") else 0}.get(self.kind, 0)

    @cached_property
    def loaded(self) -> str:
        """Return the register that an instruction of kind ``load`` writes, and another instruction mostly too."""
        return self.operands.split(",")[0].strip()

    @cached_property
    def multiplies(self) -> bool:
        """Return whether it adds products up, or begins a sum of them: what dot products consist of."""
        return _SUMS.fullmatch(self.unconditional.split(".")[0]) is not None

    @cached_property
    def computed(self) -> str:
        """Return the register that an instruction between registers writes; empty for all others."""
        between = self.kind == "other" or self.kind.startswith(("multiply", "divide"))
        if not between or self.mnemonic.startswith(("cmp", "cmn", "tst", "teq", "nop")):
            return ""
        return self.operands.split(",")[0].strip()

    @cached_property
    def addressed(self) -> frozenset[str]:
        """Return the registers of its address."""
        found = re.search(r"\[([^\]]*)\]", self.operands)
        return frozenset(re.findall(r"\b[a-z]\w*\b", found[1])) if found else frozenset()


class Code:
    """All instructions of a program."""

    def __init__(self, instructions: Mapping[int, Instruction], name: str) -> None:
        self._at, self._name = instructions, name

    def between(self, start: int, end: int) -> tuple[Instruction, ...]:
        """Return the instructions from the address ``start`` to ``end``; DeviceError where there are others than objdump lists."""
        found = []
        while start < end:
            if start not in self._at:
                raise DeviceError(
                    f"{self._name}: the emulator executed 0x{start:x}, where objdump lists no instruction"
                )
            found.append(self._at[start])
            start = found[-1].end
        return tuple(found)


def read_code(image: Path, objdump: Sequence[str]) -> Code:
    """Return the instructions of a program as the command ``objdump`` lists them."""
    command = [*objdump, "-d", str(image)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"cannot run {command[0]}: {error}") from None
    if done.returncode != 0:
        raise DeviceError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr.strip()[-500:]}")
    return Code(parse(done.stdout.splitlines()), str(image))


def parse(lines: Iterable[str]) -> dict[int, Instruction]:
    """Return the instructions of objdump's lines, GNU's or LLVM's, by address."""
    found: dict[int, Instruction] = {}
    left = 0  # instructions to which an IT still applies
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        operands = re.split(r"\s*[@;<]", match[4], maxsplit=1)[0].strip()
        one = Instruction(int(match[1], 16), len(match[2].replace(" ", "")) // 2, match[3], operands, left > 0)
        found[one.address] = one
        left = len(one.mnemonic) - 1 if one.kind == "if_then" else max(0, left - 1)
    return found


def _ends_loop(mnemonic: str) -> bool:
    """Return whether an instruction is of Helium's loops without overhead, and may jump."""
    return mnemonic.split(".")[0] in ("le", "letp", "wls", "wlstp")


def _list(operands: str) -> str:
    """Return what stands in the braces of a list of registers."""
    match = re.search(r"\{([^}]*)\}", operands)
    return match[1] if match else ""


def _count(part: str) -> int:
    """Return how many registers ``r4`` or ``r4-r7`` are."""
    first, _, last = part.strip().partition("-")
    return _number(last) - _number(first) + 1 if last else 1


def _number(register: str) -> int:
    name = register.strip()
    return _REGISTERS[name] if name in _REGISTERS else int(name[1:])
