"""Measure what a model needs on a device: flash and RAM from linked programs, stack and instructions from its emulator, time by estimate.

Flash is the difference between two linked programs, one that calls the model and one that does not: code, constants and whatever of the
compiler's library it needs. Where nothing can be built or run here, figures come from the target's cost model and say so.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from qrnn.devices.cycles.count import best, guessed, measured
from qrnn.devices.cycles.record import Cycles, Kind
from qrnn.devices.emulator import run
from qrnn.devices.image import Image
from qrnn.devices.toolchain import Family, Toolchain, find_toolchain
from qrnn.devices.verify import build_replay
from qrnn.errors import DeviceError
from qrnn.export.expected import random_sequences
from qrnn.export.folder import ExportedFolder
from qrnn.export.ports import ELEMENT_BYTES, Port, state_bytes
from qrnn.export.readme import OPTIMIZATION
from qrnn.export.replay import (
    PHASES,
    PHASES_HEADER,
    Counts,
    Vectors,
    decode_sequences,
    encode_sequences,
    sequence_steps,
)
from qrnn.export.source import Exported, constant_bytes
from qrnn.model.quant_model import QuantModel
from qrnn.targets import Target

STEPS = 12
"""The steps of the random sequence for counting instructions, whose number hardly depends on values."""

_STRETCH = 720_720
"""Steps that many strides divide: so much longer, a sequence has a layer's steps more in proportion to them, wherever windows begin and end."""

_OVERFLOW = re.compile(r"region [`']?(?P<region>\w+)'? overflowed by (?P<bytes>\d+) bytes")
"""The complaints of GNU's linker and of LLVM's when memory is too small."""

_OUTSIDE = re.compile(r"is not within region [`']?(?P<region>\w+)")
"""The complaint of the linker for AVR when memory is too small."""


@dataclass(frozen=True)
class Needs:
    """What a model needs of one target, in bytes and instructions; ``steps`` is the length of a sequence where it reads whole ones.

    ``flash_bytes`` are code and ``constant_bytes`` of weights and tables. RAM is ``state_bytes``, ``stack_bytes`` and ``buffer_bytes`` for
    inputs, outputs and workspace. ``counted`` is true where instructions were counted in the emulator, and false where they are the cost
    model's. ``phases`` holds instructions per step by `PHASES`, where counted. ``traced`` are cycles of a step, where more is known than
    the number of instructions. None means not known, and ``problem`` says why.
    """

    target: Target
    steps: int
    constant_bytes: int
    state_bytes: int
    buffer_bytes: int
    flash_bytes: int | None = None
    stack_bytes: int | None = None
    instructions: float | None = None
    phases: dict[str, float] | None = None
    compiler: str | None = None
    counted: bool = False
    traced: Cycles | None = None
    problem: str | None = None

    @property
    def ram_bytes(self) -> int:
        """Return the bytes of RAM: state, stack (where it is known) and buffers."""
        return self.state_bytes + self.buffer_bytes + (self.stack_bytes or 0)

    @property
    def cycles_measured(self) -> bool:
        """Return whether cycles are counted: where the emulator counts them, ``instructions`` and ``phases`` are numbers of cycles."""
        emulation = self.target.emulation
        return self.counted and emulation is not None and emulation.counts == "cycles"

    @property
    def timing(self) -> Cycles | None:
        """Return the cycles of a step, with their kind, their range and their parts; None where nothing is known."""
        if self.cycles_measured and self.instructions is not None:
            return measured(self.target, self.instructions, self.phases)
        return self.traced or guessed(self.target, self.instructions, self.phases)

    @property
    def cycles(self) -> float | None:
        """Return the cycles of a step: the middle of their range."""
        return None if self.timing is None else self.timing.total.mid

    @property
    def cycles_kind(self) -> Kind | None:
        """Return what kind of figure the cycles are."""
        return None if self.timing is None else self.timing.kind

    @property
    def seconds(self) -> float | None:
        """Return the time of a step in seconds: cycles over the clock of the target's board."""
        clock = self.target.memory.clock_hz
        return None if self.cycles is None or clock is None else self.cycles / clock

    @property
    def joules(self) -> float | None:
        """Return the energy of a step in joules, while the core computes it; None where the target does not state its current."""
        energy = self.target.energy
        return None if self.cycles is None or energy is None else self.cycles * energy.joules_per_cycle

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; the target is given by its name."""
        found = asdict(self)
        del found["traced"]
        return {
            **found,
            "target": self.target.name,
            "ram_bytes": self.ram_bytes,
            "cycles": self.cycles,
            "cycles_kind": self.cycles_kind,
            "timing": None if self.timing is None else self.timing.to_dict(),
            "seconds": self.seconds,
            "joules": self.joules,
        }


def measure(
    folder: ExportedFolder,
    target: Target,
    steps: int,
    phases: bool = True,
    family: Family | None = None,
    optimization: str = OPTIMIZATION,
    cycles: bool = True,
) -> Needs:
    """Build the folder's C for ``target``, run it in its emulator and count; the cost model replaces what cannot be measured here.

    ``family`` is the compiler, the first that is installed when left out. ``phases`` asks to count also what W·x, R·h, gates and the rest
    take, and ``cycles`` to trace what is executed, where that gives more than a guess of its time.
    """
    needs = sizes(folder.exported, target, steps)
    try:
        toolchain = _toolchain(target, family)
        with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
            place = Path(temporary)
            needs = replace(
                needs, flash_bytes=_flash(folder, target, toolchain, place, optimization), compiler=toolchain.version()
            )
            counts = _count(folder, target, toolchain, place, optimization)
            split = _count(folder, target, toolchain, place, optimization, phases=True).phases if phases else ()
            split_of = dict(zip(PHASES, (v / STEPS for v in split), strict=True)) if phases else None
            traced = _cycles(folder, target, toolchain, place, optimization, counts, split_of) if cycles else None
    except DeviceError as error:
        return replace(needs, instructions=estimate(folder.model, target), problem=_in_short(error))
    return replace(
        needs,
        stack_bytes=counts.stack_bytes,
        instructions=counts.instructions / STEPS,
        phases=split_of,
        counted=True,
        traced=traced,
    )


def _toolchain(target: Target, family: Family | None) -> Toolchain:
    """Return a compiler for a target on which something can be counted."""
    found = find_toolchain(target, family)
    if target.emulation is None:
        raise DeviceError(f"target {target.name}: no emulator counts instructions and stack; expected [emulation]")
    return found


def _in_short(error: DeviceError) -> str:
    """Return an error on one line; of a linker's complaint that memory is too small, only that."""
    text = " ".join(str(error).split())
    if (outside := _OUTSIDE.search(text)) is not None:
        return f"it does not fit the emulated machine, whose memory of {outside['region']} is too small"
    found = _OVERFLOW.search(text)
    if found is None:
        return text
    return f"it does not fit the emulated machine, whose {found['region'].lower()} is {int(found['bytes']):,} bytes too small"


def sizes(exported: Exported, target: Target, steps: int) -> Needs:
    """Return what is known without building anything."""
    length = 1 if exported.streams else steps
    buffers = sum(_bytes(p, length) for p in exported.inputs)
    buffers += sum(
        _bytes(p, exported.most_rows if exported.streams else exported.rows_of(length)) for p in exported.outputs
    )
    return Needs(
        target=target,
        steps=length,
        constant_bytes=constant_bytes(exported.source),
        state_bytes=state_bytes(exported.state),
        buffer_bytes=(0 if exported.scratch is None else exported.scratch.bytes)
        + buffers
        + (0 if exported.whole is None else 2 * exported.whole.work.of(length)),
    )


def estimate(model: QuantModel, target: Target) -> float | None:
    """Return the instructions of a step by the target's cost model; None where it has none."""
    cost = target.cost
    if cost is None or cost.instructions_per_mac is None:
        return None
    macs, units = work(model)
    return (
        cost.instructions_per_mac * macs
        + (cost.instructions_per_unit or 0.0) * units
        + (cost.instructions_per_step or 0.0)
    )


def work(model: QuantModel) -> tuple[int, int]:
    """Return the multiply-adds and the values of gate functions of a time step, all layers together."""
    gate_values = sum(r.hidden_size * len(r.roles) * len(r.directions) for r in model.recurrent_layers)
    return round(sum(layer_work(model).values())), gate_values


def layer_work(model: QuantModel) -> dict[str, float]:
    """Return the multiply-adds of each layer that has matrices, for a time step of the inputs.

    A layer whose steps are fewer, since strides lie before it, has a part of its own step's; one without a time axis is computed in
    every step.
    """
    rules, axes = model.length_rules, {i.axis: _STRETCH for i in model.inputs if i.has_time}
    longer = {axis: 2 * steps for axis, steps in axes.items()}
    found = {}
    for layer in model.layers:
        if matrices := layer.matrices():
            rule = rules.get(layer.output)
            rate = 1.0 if rule is None else (rule.of(longer) - rule.of(axes)) / _STRETCH
            found[layer.name] = rate * sum(m.times * m.matrix.weight.size for m in matrices)
    return found


def _bytes(port: Port, length: int) -> int:
    return ELEMENT_BYTES[port.kind] * port.count * (length if port.has_time else 1)


def _flash(folder: ExportedFolder, target: Target, toolchain: Toolchain, place: Path, optimization: str) -> int:
    """Return how many more bytes of flash a program has when it calls the model."""
    found = []
    for calls in (False, True):
        program = place / "footprint.c"
        program.write_text(_footprint(folder.exported, calls), encoding="utf-8")
        sources = [program, folder.source] if calls else [program]
        image = toolchain.build(
            target, sources, folder.include_dirs, output=place / "footprint.elf", flags=(optimization,)
        )
        found.append(image.flash_bytes)
    return found[1] - found[0]


def _footprint(exported: Exported, calls: bool) -> str:
    """Return the source of a program that the linker cannot shorten, with no variables of its own beside a pointer."""
    name = exported.name
    arguments = ["state", *("anywhere" for _ in exported.inputs)]
    arguments += [] if exported.streams else ["1U" for _ in exported.lengths]
    arguments += [*("anywhere" for _ in exported.outputs), *([] if exported.streams else ["anywhere"])]
    arguments += [] if exported.scratch is None else ["anywhere"]
    verb = "step" if exported.streams else "run"
    body = [
        f"    {name}_state *state = anywhere;",
        f"    {name}_init(state);",
        f"    {name}_{verb}({', '.join(arguments)});",
    ]
    lines = [f'#include "{name}.h"', "void *volatile anywhere;", "int main(void)", "{"]
    return "\n".join([*lines, *(body if calls else []), "    return anywhere != 0;", "}", ""])


def _count(
    folder: ExportedFolder,
    target: Target,
    toolchain: Toolchain,
    place: Path,
    optimization: str,
    phases: bool = False,
) -> Counts:
    """Run a random sequence of `STEPS` steps and count."""
    flags: tuple[str, ...] = (optimization,)  # the last of several counts
    if phases:
        header = place / "phases.h"
        header.write_text(PHASES_HEADER, encoding="utf-8")
        flags += ("-DREPLAY_PHASES", "-include", str(header))
    image = build_replay(folder, target, toolchain, STEPS, place, flags)
    sequences = _sequences(folder)
    done = run(image, target, encode_sequences(folder.exported, sequences))
    if done.status != 0:
        raise DeviceError(f"the program ended with status {done.status}, expected 0")
    steps = [sequence_steps(folder.exported, s) for s in sequences]
    return decode_sequences(folder.exported, steps, done.output)[1]


def _sequences(folder: ExportedFolder) -> list[Vectors]:
    """Return the random sequence that is counted."""
    return random_sequences(folder.model, folder.exported, [STEPS], seed=3)


def _cycles(
    folder: ExportedFolder,
    target: Target,
    toolchain: Toolchain,
    place: Path,
    optimization: str,
    counts: Counts,
    phases: dict[str, float] | None,
) -> Cycles | None:
    """Return the cycles of a step of the same sequence."""

    def build(flags: Sequence[str]) -> Image:
        return build_replay(folder, target, toolchain, STEPS, place, (optimization, *flags))

    stdin = encode_sequences(folder.exported, _sequences(folder))
    return best(target, folder.exported, build, place, stdin, counts.instructions / STEPS, phases)
