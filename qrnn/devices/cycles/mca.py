"""Cycles of blocks of instructions by llvm-mca, which simulates a processor's pipeline as LLVM describes it to its compilers.

A block is simulated as a loop, `ITERATIONS` times; its cycles are those of a time. So stalls on results of the block itself and of
the time before are in it; misses of caches, wait states and wrongly foreseen jumps are not.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from qrnn.devices.cycles.code import Code, Instruction
from qrnn.devices.cycles.record import Span
from qrnn.errors import DeviceError, MissingToolError
from qrnn.targets import Target, Timing

ITERATIONS = 100
TRIPLE = "thumbv8.1m.main-none-eabihf"
"""The architecture whose assembler takes the instructions of all M-profile cores; the core's own name chooses which it has."""

_SECONDS = 60
_ROUNDS = 8
"""How often blocks with instructions that the assembler refuses are left out and the others tried again."""

_REFUSED = re.compile(r"^<stdin>:(\d+):\d+: error: (.*)$", re.MULTILINE)
_TARGET = re.compile(r"#?-?\b(0x[0-9a-f]+|[0-9a-f]+)$")
_JUMPS = re.compile(r"(b|cbz|cbnz|b(eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le))(\.[nw])?")
_APART = {"bl": 1.0, "blx": 1.0, "dls": 1.0, "wls": 1.0, "dlstp": 1.0, "wlstp": 1.0, "le": 0.0, "letp": 0.0}
"""Cycles of calls, of which a simulation within one block assumes what it likes (a hundred cycles), and of the instructions of loops without
overhead, which LLVM's models lack; the end of such a loop is free. So is IT, which they lack too; what it governs counts as executed."""


@dataclass(frozen=True)
class Llvm:
    """An installed LLVM: the paths of its llvm-mca and llvm-objdump, and its version."""

    mca: str
    objdump: str
    version: int


def find_llvm(target: Target) -> Llvm:
    """Return the newest LLVM whose model of the target's core is right; MissingToolError says what to install."""
    timing = target.timing
    known = [one for one in _installed() if one.version >= timing.least_llvm and _knows(one, timing.model or "")]
    if known:
        return known[0]
    wanted = f"llvm-mca {timing.least_llvm} or later that knows {timing.model}"
    there = ", ".join(str(one.version) for one in _installed()) or "none"
    package = "llvm" if timing.least_llvm <= 14 else f"llvm-{timing.least_llvm}"
    raise MissingToolError(
        f"target {target.name}: {wanted} is not installed (found: {there}); apt-get install {package}"
    )


@cache
def _installed() -> tuple[Llvm, ...]:
    """Return every LLVM with both tools, the newest first."""
    names = {"llvm-mca"}
    for folder in os.get_exec_path():
        names |= {path.name for path in Path(folder).glob("llvm-mca-[0-9]*")}
    found: dict[int, Llvm] = {}
    for name in sorted(names):
        mca, objdump = shutil.which(name), shutil.which(name.replace("mca", "objdump"))
        if mca is not None and objdump is not None:
            match = re.search(r"LLVM version (\d+)", _output([mca, "--version"]))
            if match is not None:
                found[int(match[1])] = Llvm(mca, objdump, int(match[1]))
    return tuple(found[version] for version in sorted(found, reverse=True))


def _output(command: Sequence[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


@cache
def _knows(llvm: Llvm, model: str) -> bool:
    """Return whether LLVM has a model of a core."""
    done = _simulate(llvm, model, "nop\n")
    return done.returncode == 0 and "not a recognized processor" not in done.stderr


def _simulate(llvm: Llvm, model: str, text: str) -> subprocess.CompletedProcess[str]:
    command = [llvm.mca, f"-mtriple={TRIPLE}", f"-mcpu={model}", f"-iterations={ITERATIONS}", "-instruction-info=false"]
    command += ["-resource-pressure=false", "-json"]
    try:
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"cannot run {llvm.mca}: {error}") from None


@dataclass(frozen=True)
class Model:
    """Cycles for each basic block by its first address and its end, and those for an instruction of blocks that LLVM does not take."""

    blocks: Mapping[tuple[int, int], float]
    starts: frozenset[int]
    otherwise: float
    refused: str | None = None

    def price(self, block: Sequence[Instruction], following: int) -> list[Span]:
        """Return the cycles of each instruction of a block: of each basic block in it, to each instruction the same part.

        Where the program goes on makes no difference.
        """
        found: list[Span] = []
        end = block[-1].end
        cuts = [one.address for one in block[1:] if one.address in self.starts]
        for start, stop in zip([block[0].address, *cuts], [*cuts, end], strict=True):
            own = [one for one in block if start <= one.address < stop]
            cycles = self.blocks.get((start, stop))
            found += [Span.of(self.otherwise if cycles is None else cycles / len(own))] * len(own)
        return found


def model_blocks(llvm: Llvm, timing: Timing, code: Code, blocks: Sequence[tuple[int, int]], otherwise: float) -> Model:
    """Return the cycles of basic blocks; ``otherwise`` are those for an instruction of a block that LLVM refuses."""
    assert timing.model is not None
    every = {bounds: code.between(*bounds) for bounds in blocks}
    apart = {bounds: sum(_APART.get(_base(one), 0.0) for one in block) for bounds, block in every.items()}
    left = {bounds: [one for one in block if not _is_apart(one)] for bounds, block in every.items()}
    empty = dict.fromkeys((bounds for bounds, block in left.items() if not block), 0.0)
    left = {bounds: block for bounds, block in left.items() if block}
    refused: str | None = None
    for _ in range(_ROUNDS):
        text, owners = _assembly(left)
        done = _simulate(llvm, timing.model, text)
        wrong = {owners[int(line) - 1] for line, _ in _REFUSED.findall(done.stderr)}
        if not wrong:
            break
        refused = refused or _REFUSED.findall(done.stderr)[0][1]
        left = {bounds: block for bounds, block in left.items() if bounds not in wrong}
    if done.returncode != 0:
        raise DeviceError(f"{llvm.mca}: exit status {done.returncode}\n{done.stderr.strip()[-500:]}")
    found = {**read_json(done.stdout), **empty}
    cycles = {bounds: one + apart[bounds] for bounds, one in found.items()}
    return Model(cycles, frozenset(start for start, _ in blocks), otherwise, refused)


def read_json(text: str) -> dict[tuple[int, int], float]:
    """Return the cycles of each region of llvm-mca's output by the region's bounds."""
    try:
        regions = json.loads(text)["CodeRegions"]
        found = {}
        for region in regions:
            start, end = (int(word, 16) for word in region["Name"].split("-"))
            summary = region["SummaryView"]
            found[start, end] = summary["TotalCycles"] / summary["Iterations"]
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise DeviceError(f"llvm-mca's output is not as expected: {error!r}") from None
    return found


def _assembly(blocks: Mapping[tuple[int, int], Sequence[Instruction]]) -> tuple[str, list[tuple[int, int]]]:
    """Return blocks as llvm-mca reads them, and the block of each line."""
    lines: list[str] = []
    owners: list[tuple[int, int]] = []
    for (start, end), block in blocks.items():
        own = [f"@ LLVM-MCA-BEGIN {start:x}-{end:x}", *map(_line, block), "@ LLVM-MCA-END"]
        lines += own
        owners += [(start, end)] * len(own)
    return "\n".join([*lines, ""]), owners


def _line(one: Instruction) -> str:
    """Return an instruction as an assembler takes it; where a jump goes does not matter."""
    operands = _TARGET.sub(".Lelsewhere", one.operands) if _JUMPS.fullmatch(one.unconditional) else one.operands
    return f"{one.unconditional} {operands}"


def _is_apart(one: Instruction) -> bool:
    return one.kind == "if_then" or _base(one) in _APART


def _base(one: Instruction) -> str:
    return one.unconditional.split(".")[0]
