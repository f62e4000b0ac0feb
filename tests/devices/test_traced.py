"""Cycles of programs that are traced in the emulator: functions of known timing, and a model by its phases and layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import qrnn
from qrnn import layers
from qrnn.devices.cycles import count, mca
from qrnn.devices.cycles.blocks import Sums, sum_up
from qrnn.devices.cycles.code import read_code
from qrnn.devices.cycles.count import best, guessed, is_traced
from qrnn.devices.cycles.manual import Manual
from qrnn.devices.cycles.places import Part, Places
from qrnn.devices.cycles.record import REST, Cycles, Span
from qrnn.devices.cycles.trace import record
from qrnn.devices.emulator import find_emulator
from qrnn.devices.measure import STEPS, Needs, measure
from qrnn.devices.toolchain import find_toolchain
from qrnn.devices.verify import verify
from qrnn.errors import MissingToolError
from qrnn.export.expected import random_sequences
from qrnn.export.folder import ExportedFolder, export_model, read_folder
from qrnn.export.source import Exported
from qrnn.hardware.timings import rules_of
from qrnn.quantization.scheme import Scheme
from qrnn.targets import Target, load_target

CALLER = """
#include "board.h"
void asm_step(void);
int main(void)
{
    board_stack_paint();
    (void)board_stack_used();
    asm_step();
    return 0;
}
"""
FUNCTION = """
    .syntax unified
    .text
    .global asm_step
    .type asm_step, %function
    .thumb_func
asm_step:
{body}
    .size asm_step, . - asm_step
    .section .note.GNU-stack, "", %progbits
"""

LOOP = """
    push {r4, lr}
    movs r0, #10
1:  ldr r1, [sp]
    ldr r2, [sp, #4]
    muls r2, r1
    str r1, [sp]
    subs r0, #1
    bne 1b
    pop {r4, pc}
"""
"""PUSH of two registers, ten times six instructions of which the branch is taken nine times, POP of two with PC."""

LONG = """
    push {r4, lr}
    movs r0, #3
    movs r1, #7
    smull r2, r3, r0, r1
    smlal r2, r3, r0, r1
    mla r2, r0, r1, r2
    sdiv r2, r1, r0
    cmp r0, r1
    it eq
    moveq r2, r0
    sub sp, #8
    mov r4, sp
    str r4, [r4]
    ldr r4, [r4]
    ldr r3, [r4]
    stmdb sp!, {r0-r3}
    add sp, #24
    pop {r4, pc}
"""


def usable(name: str) -> Target:
    target = load_target(name)
    try:
        find_toolchain(target)
        find_emulator(name, cast(Any, target.emulation))
        if target.timing.rules is None:
            mca.find_llvm(target)
    except MissingToolError as error:
        pytest.skip(str(error))
    return target


def run(target: Target, body: str, place: Path) -> tuple[Span, int]:
    """Return the cycles of a function in assembly by a trace, and its instructions."""
    (place / "main.c").write_text(CALLER)
    (place / "step.S").write_text(FUNCTION.format(body=body))
    sources = [place / "main.c", place / "step.S"]
    image = find_toolchain(target, "gnu").build(target, sources, output=place / "program.elf")
    places = Places(image, cast(Exported, SimpleNamespace(name="asm", layers={})))
    code = read_code(image.path, [f"{target.build.gnu}-objdump"])
    trace = record(image, target, places, b"")
    assert trace.calls == 1
    rules = rules_of(target.timing)
    assert rules is not None
    sums = sum_up(trace, code, places, Manual(rules, target.memory).price)
    assert set(sums.parts) == {Part()}
    return sums.parts[Part()], sums.instructions


@pytest.mark.parametrize(
    ("name", "body", "instructions", "cycles"),
    [
        # 1 + 2, 1, ten times 2 + 2 + 1 + 2 + 1 + 1 and 1 for each of nine jumps, 3 + 2
        ("cortex-m0plus", LOOP, 63, (108, 108, 108)),
        # 1 + 2, 1, ten times 2 + (1, 1, 2) + 1 + (1, 1, 2) + 1 + 1, nine times P, 1 + 2 + P
        ("cortex-m4", LOOP, 63, (87, 97, 127)),
        # 3, 1, 1, (3, 4, 5), (4, 5, 7), 2, (2, 7, 12), 1, (0, 1, 1), 1, 1, 1, (1, 1, 2) + (0, 1, 1), 2, 2, 5, 1, 3 + P
        ("cortex-m3", LONG, 18, (35, 45, 55)),
        # the products take 1 each
        ("cortex-m4", LONG, 18, (29, 37, 44)),
    ],
)
def test_programs_of_known_timing(
    name: str, body: str, instructions: int, cycles: tuple[int, int, int], tmp_path: Path
) -> None:
    span, executed = run(usable(name), body, tmp_path)
    assert executed == instructions
    assert (span.low, span.mid, span.high) == cycles


def test_the_multiplier_of_32_cycles(tmp_path: Path) -> None:
    target = usable("cortex-m0plus")
    slow = replace(target, timing=replace(target.timing, multiply_cycles=32))
    assert run(slow, LOOP, tmp_path)[0] == Span.of(108 + 10 * 31)


@pytest.fixture(scope="module")
def two_layers() -> qrnn.QuantModel:
    rng = np.random.default_rng(0)
    x = layers.input("x", features=12)
    h = layers.lstm(x, rng.normal(size=(64, 12)) / 4, rng.normal(size=(64, 16)) / 4, name="first").output
    y = layers.dense(h, rng.normal(size=(5, 16)), name="last")
    return qrnn.quantize(layers.model("net", {"y": y}), {"x": rng.normal(size=(2, 20, 12))}, Scheme(input="8"))


@pytest.fixture(scope="module")
def folder(two_layers: qrnn.QuantModel, tmp_path_factory: pytest.TempPathFactory) -> ExportedFolder:
    target = usable("cortex-m4")
    place = tmp_path_factory.mktemp("net") / "net"
    export_model(two_layers, target, place, "net")
    return read_folder(place, target)


def check(needs: Needs, kind: str) -> Cycles:
    """Return the cycles of the two layers, whose parts add up to the whole."""
    found = needs.timing
    assert found is not None
    assert found.problem is None
    assert (found.kind, needs.cycles, needs.cycles_kind) == (kind, found.total.mid, kind)
    assert 0 < found.total.low <= found.total.mid <= found.total.high
    for parts in (found.phases, found.layers):
        assert sum(span.mid for span in parts.values()) == pytest.approx(found.total.mid)
        assert sum(span.high for span in parts.values()) == pytest.approx(found.total.high)
    assert set(found.layers) == {"first", "last", REST}
    assert found.layers["first"].mid > 4 * found.layers["last"].mid
    assert found.loops is not None
    assert found.loops.cycles.mid < found.phases["input"].mid + found.phases["state"].mid
    assert 0 <= found.loops.share <= 1
    return found


def test_cycles_of_a_model(folder: ExportedFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trace has the instructions that are counted, but for the few that call the model; its parts are those that are counted."""
    target, sums = folder.target, []

    def kept(*arguments: Any) -> Sums:
        sums.append(sum_up(*arguments))
        return sums[0]

    monkeypatch.setattr(count, "sum_up", kept)
    needs = measure(folder, target, 1)
    found = check(needs, "traced")
    assert needs.instructions is not None
    assert 0 <= STEPS * needs.instructions - sums[0].instructions < 10 * STEPS
    assert found.total.low < found.total.mid < found.total.high
    assert 1.2 < found.total.mid / needs.instructions < 1.7
    assert needs.phases is not None
    for name, instructions in needs.phases.items():
        assert instructions * 0.9 <= found.phases[name].mid <= 2 * instructions, name
    assert needs.to_dict()["timing"]["layers"]["last"] == found.layers["last"].to_dict()


def test_the_kind_falls_back_to_a_guess(folder: ExportedFolder) -> None:
    target = folder.target

    def build(flags: Any) -> Any:
        raise MissingToolError("target cortex-m4: objdump is not installed;\napt-get install binutils")

    found = best(target, folder.exported, build, folder.path, b"", 1000)
    assert found is not None
    assert (found.kind, found.total) == ("guessed", Span.of(1400))
    assert found.problem == "target cortex-m4: objdump is not installed; apt-get install binutils"
    assert guessed(replace(target, cost=None), 1000) is None
    assert not is_traced(load_target("cortex-m33"))


def test_energy(folder: ExportedFolder) -> None:
    """The charge of a cycle times the supply: 1,000 cycles at 52 µA/MHz and 3 V are 156 nJ."""
    target = load_target("nrf52840")
    assert target.energy is not None
    assert 1000 * target.energy.joules_per_cycle == pytest.approx(156e-9)
    assert "not compared" in target.energy.source
    assert load_target("nrf51822").timing.rules == "cortex-m0"
    needs = Needs(target, 1, 0, 0, 0, instructions=1000.0)
    assert needs.joules == pytest.approx(1.4 * 156e-9)
    assert replace(needs, target=folder.target).joules is None


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m3", "cortex-m7", "cortex-m55", "cortex-m85"])
@pytest.mark.parametrize("family", ["gnu", "clang"])
def test_cycles_on_every_core(name: str, family: Any, two_layers: qrnn.QuantModel, tmp_path: Path) -> None:
    target = usable(name)
    export_model(two_layers, target, tmp_path / "net", "net")
    try:
        needs = measure(read_folder(tmp_path / "net", target), target, 1, family=family)
    except MissingToolError as error:
        pytest.skip(str(error))
    if needs.problem is not None:
        pytest.skip(needs.problem)
    found = check(needs, "traced" if target.timing.rules else "modelled")
    folder = read_folder(tmp_path / "net", target)
    done = verify(folder, target, random_sequences(two_layers, folder.exported, (3, 4), 1), family, cycles=True)
    assert done.cycles is not None
    assert done.cycles.total.mid == pytest.approx(found.total.mid, rel=0.05)
