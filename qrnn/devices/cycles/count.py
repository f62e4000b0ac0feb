"""Cycles of a step on a target, of the best kind that can be had here."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from qrnn.devices.cycles import mca
from qrnn.devices.cycles.blocks import Price, Sums, basic_blocks, sum_up
from qrnn.devices.cycles.code import Code, read_code
from qrnn.devices.cycles.manual import Manual
from qrnn.devices.cycles.places import MARK_FLAGS, MARK_HEADER, Places
from qrnn.devices.cycles.record import NONE, Cycles, Kind, Loops, Span
from qrnn.devices.cycles.trace import Trace, record
from qrnn.devices.image import Image
from qrnn.errors import DeviceError, MissingToolError
from qrnn.export.replay import PHASES
from qrnn.export.source import Exported
from qrnn.hardware.timings import rules_of
from qrnn.targets import Target

HEADER = "marks.h"


def is_traced(target: Target) -> bool:
    """Return whether cycles of the target come from a trace of executed instructions."""
    timing, emulation = target.timing, target.emulation
    by_qemu = emulation is not None and emulation.command.startswith("qemu-system-arm")
    return by_qemu and target.build.board == "arm_m" and (timing.rules, timing.model) != (None, None)


def mark_flags(place: Path) -> tuple[str, ...]:
    """Write the header of marks into a folder, and return the options that compile a program for a trace."""
    header = place / HEADER
    header.write_text(MARK_HEADER, encoding="utf-8")
    return (*MARK_FLAGS, "-include", str(header))


def measured(target: Target, cycles: float, phases: Mapping[str, float] | None) -> Cycles:
    """Return the cycles that the emulator counted."""
    assert target.emulation is not None
    parts = {name: Span.of(one) for name, one in (phases or {}).items()}
    return Cycles("measured", Span.of(cycles), f"clock cycles, counted by {target.emulation.command}", parts)


def guessed(
    target: Target, instructions: float | None, phases: Mapping[str, float] | None = None, problem: str | None = None
) -> Cycles | None:
    """Return instructions times the cycles for one that the target states; None where it states none, or nothing is counted."""
    rate = None if target.cost is None else target.cost.cycles_per_instruction
    if rate is None or instructions is None or target.cost is None:
        return None
    parts = {name: Span.of(one * rate) for name, one in (phases or {}).items()}
    return Cycles("guessed", Span.of(instructions * rate), target.cost.source, parts, problem=problem)


def traced(target: Target, exported: Exported, image: Image, stdin: bytes, instructions: float) -> Cycles:
    """Return the cycles of a step from a run of ``image``, which is compiled with `mark_flags` and reads ``stdin``.

    ``instructions`` are those of a step as they are counted, to which the trace is scaled: it may end early, and its program has a few
    instructions more or less. DeviceError says why there is no trace, MissingToolError what to install.
    """
    places = Places(image, exported)
    trace, code, price, kind, source = _priced(target, image, places, stdin)
    sums = sum_up(trace, code, places, price)
    factor = instructions / sums.instructions
    phases, layers = _by_phase(sums, factor), _by_layer(sums, factor)
    total = sum(sums.parts.values(), NONE) * factor
    return Cycles(kind, total, source, phases, layers, Loops(sums.loops.cycles * factor, sums.loops.share))


def _priced(target: Target, image: Image, places: Places, stdin: bytes) -> tuple[Trace, Code, Price, Kind, str]:
    """Return the trace of a program, its instructions, what they cost, and the kind and the source of that."""
    rules = rules_of(target.timing)
    if rules is not None:
        code = read_code(image.path, _objdump(target))
        trace = record(image, target, places, stdin)
        source = f"{rules.source}; {_waits(target)}"
        return trace, code, Manual(rules, target.memory).price, "traced", source
    llvm = mca.find_llvm(target)
    code = read_code(image.path, [llvm.objdump, f"--mcpu={target.timing.model}"])
    trace = record(image, target, places, stdin)
    otherwise = (target.cost.cycles_per_instruction if target.cost else None) or 1.0
    model = mca.model_blocks(llvm, target.timing, code, basic_blocks(trace), otherwise)
    source = f"llvm-mca {llvm.version}, -mcpu={target.timing.model}; no wait states, no misses of a cache, every jump foreseen"
    if model.refused is not None:
        source += f"; {otherwise:g} cycles an instruction in blocks that it refuses ({model.refused})"
    return trace, code, model.price, "modelled", source


def _objdump(target: Target) -> list[str]:
    """Return the command that lists instructions."""
    for name in (f"{target.build.gnu}-objdump", "llvm-objdump"):
        path = shutil.which(name)
        if path is not None:
            return [path]
    raise MissingToolError(
        f"target {target.name}: {target.build.gnu}-objdump is not installed; apt-get install {target.build.gnu_package}"
    )


def _waits(target: Target) -> str:
    """Return in words what is assumed of the flash."""
    waits = target.memory.wait_states
    if not waits:
        return "no wait states"
    line = target.memory.flash_line_bytes or 4
    return f"{waits} wait states: none in the least, for each taken jump in the middle, and for each read of {line} bytes in the most"


def _by_phase(sums: Sums, factor: float) -> dict[str, Span]:
    found: dict[str, Span] = dict.fromkeys(PHASES, NONE)
    for part, span in sums.parts.items():
        found[PHASES[part.phase]] += span * factor
    return found


def _by_layer(sums: Sums, factor: float) -> dict[str, Span]:
    found: dict[str, Span] = defaultdict(lambda: NONE)
    for part, span in sums.parts.items():
        found[part.layer] += span * factor
    return dict(found)


Build = Callable[[Sequence[str]], Image]
"""What compiles the program that calls the model, with options in addition."""


def best(
    target: Target,
    exported: Exported,
    build: Build,
    place: Path,
    stdin: bytes,
    instructions: float,
    phases: Mapping[str, float] | None = None,
) -> Cycles | None:
    """Return the cycles of a step, of the best kind that can be had here; None where not even cycles for an instruction are known.

    ``instructions`` are those of a step as the emulator counts them, which are cycles where it counts these, and ``phases`` their parts.
    Where a trace is due, the program is built in the folder ``place``, and run with ``stdin``.
    """
    if target.emulation is not None and target.emulation.counts == "cycles":
        return measured(target, instructions, phases)
    if not is_traced(target):
        return guessed(target, instructions, phases)
    try:
        return traced(target, exported, build(mark_flags(place)), stdin, instructions)
    except DeviceError as error:
        return guessed(target, instructions, phases, " ".join(str(error).split()))
