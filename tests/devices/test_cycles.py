"""Cycles: a program of known timing traced on each core, the readers of what other tools print, and one model's cycles by part."""

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
from qrnn.devices.cycles.blocks import Sums, basic_blocks, sum_up
from qrnn.devices.cycles.code import Code, parse, read_code
from qrnn.devices.cycles.count import best, guessed, is_traced
from qrnn.devices.cycles.manual import Manual
from qrnn.devices.cycles.places import Part, Places
from qrnn.devices.cycles.record import REST, Cycles, Span
from qrnn.devices.cycles.trace import Step, follow, record
from qrnn.devices.emulator import find_emulator
from qrnn.devices.measure import STEPS, Needs, measure
from qrnn.devices.toolchain import find_toolchain
from qrnn.devices.verify import verify
from qrnn.errors import DeviceError, MissingToolError, TargetError
from qrnn.export.expected import random_sequences
from qrnn.export.folder import ExportedFolder, export_model, read_folder
from qrnn.export.source import Exported
from qrnn.hardware.timings import Rules, read_rules, rules_of
from qrnn.quantization.scheme import Scheme
from qrnn.targets import Memory, Target, Timing, load_target, targets_folder

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


def rules_for(name: str) -> Rules:
    rules = rules_of(load_target(name).timing)
    assert rules is not None
    return rules


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


LISTING = """
program.elf:     file format elf32-littlearm

00000100 <work>:
 100:\te92d 4ff0 \tstmdb\tsp!, {r4, r5, r6, r7, r8, r9, sl, fp, lr}
 104:\t4b18      \tldr\tr3, [pc, #96]\t@ (168 <work+0x68>)
 106:\t681a      \tldr\tr2, [r3, #0]
 108:\tbf08      \tit\teq
 10a:\t2001      \tmoveq\tr0, #1
 10c:\td1fb      \tbne.n\t106 <work+0x6>
 10e:\te8bd 8ff0 \tldmia.w\tsp!, {r4-r11, pc}
 112:\t00001234 \t.word\t0x00001234
"""


def test_what_objdump_lists() -> None:
    found = parse(LISTING.splitlines())
    kinds = {address: one.kind for address, one in found.items()}
    assert kinds == {
        0x100: "multiple",
        0x104: "load",
        0x106: "load",
        0x108: "if_then",
        0x10A: "other",
        0x10C: "branch",
        0x10E: "multiple",
    }
    assert found[0x100].registers == found[0x10E].registers == 9
    assert found[0x10E].pops_pc
    assert not found[0x100].pops_pc
    assert (found[0x104].operands, found[0x10C].operands, found[0x104].end) == ("r3, [pc, #96]", "106", 0x106)
    assert found[0x106].addressed == {"r3"}
    assert [one.address for one in found.values() if one.conditional] == [0x10A]
    llvm = parse(["     8c: f7ff ffd8    \tbl\t0x40 <f> @ imm = #-0x50", "      f8: a0 53 00 00  \t.word\t0x000053a0"])
    assert [(one.mnemonic, one.operands, one.size) for one in llvm.values()] == [("bl", "0x40", 4)]


def test_loads_overlap_unless_one_needs_the_other() -> None:
    manual = Manual(rules_for("cortex-m4"), Memory())
    code = parse([" 0:\t681a \tldr\tr2, [r3, #0]", " 2:\t681a \tldr\tr1, [r3, #4]", " 4:\t681a \tldr\tr0, [r1, #0]"])
    assert manual.price(tuple(code.values()), 6) == [Span(2, 2, 2), Span(1, 1, 2), Span(2, 2, 2)]


def test_wait_states() -> None:
    """None in the least, for the jump in the middle, and in the most also for each line of code and of what a load reads."""
    block = tuple(parse([" 0:\t681a \tldr\tr2, [r3, #0]", " 2:\te92d 4ff0 \tb.w\t0 <f>"]).values())
    waits = Manual(rules_for("cortex-m0plus"), Memory(wait_states=2, flash_line_bytes=8))
    load, jump = waits.price(block, 0)
    assert load == Span(2, 2, 2 + 2 * (2 / 8 + 1))
    assert jump == Span(2, 2 + 2, 2 + 2 + 2 * 4 / 8)


def test_an_instruction_that_the_core_has_not() -> None:
    block = tuple(parse([" 0:\tfb91 f2f0 \tsdiv\tr2, r1, r0"]).values())
    with pytest.raises(DeviceError, match=r"sdiv r2, r1, r0 at 0x0: .* kind 'divide'"):
        Manual(rules_for("cortex-m0plus"), Memory()).price(block, 4)


LOG = """----------------
IN: other
0x00000010:  4770       bx       lr

Trace 0: 0x7f [00800408/00000010/00000110/ff000200] other
Trace 0: 0x7f [00800408/00000090/00000110/ff000200] board_stack_used
----------------
IN: net_step
0x00000100:  b510       push     {r4, lr}
0x00000102:  f000 f8e3  bl       #0x20c

Trace 0: 0x7f [00800408/00000100/00000110/ff000200] net_step
----------------
IN: net_loop
0x00000200:  3801       subs     r0, #1
0x00000202:  d1fd       bne      #0x200

Trace 0: 0x7f [00800408/00000200/00000110/ff000200] net_loop
Trace 0: 0x7f [00800408/00000200/00000110/ff000200] net_loop
Stopped execution of TB chain before 0x7f [00000200] net_loop
Trace 0: 0x7f [00800408/00000300/00000110/ff000200] board_tick
Trace 0: 0x7f [00800408/00000200/00000110/ff000200] net_loop
Trace 0: 0x7f [00800408/00000400/00000110/ff000200] main
Trace 0: 0x7f [00800408/00000410/00000110/ff000200] main
"""


class Canned:
    """The places of `LOG`: a function with a mark in its loop, the interrupt's, and main."""

    begin, entries = 0x90, frozenset({0x100})

    def outside(self, address: int) -> bool:
        return address >= 0x400

    def interrupts(self, address: int) -> bool:
        return address == 0x300

    def at(self, part: Part, address: int) -> Part:
        return Part(0, part.layer) if address == 0x202 else part

    def after(self, part: Part, start: int, end: int) -> Part:
        return self.at(part, 0x202) if start <= 0x202 < end else part


def test_a_log_is_followed() -> None:
    """What ran before the calls that count is left out, and so are interrupts and the block that they stopped."""
    places = cast(Places, Canned())
    trace = follow((line.encode() for line in LOG.splitlines()), places)
    first, product = Part(), Part(0)
    assert dict(trace.steps) == {
        Step(first, 0x100, 0x200): 1,
        Step(first, 0x200, 0x200): 1,
        Step(product, 0x200, 0x400): 1,
    }
    assert (trace.calls, trace.complete, trace.ends[0x100], trace.ends[0x200]) == (1, True, 0x106, 0x204)
    assert basic_blocks(trace) == [(0x100, 0x106), (0x200, 0x204)]
    code = Code(
        parse(
            [
                " 100:\tb510 \tpush\t{r4, lr}",
                " 102:\tf000 f8e3 \tbl\t200",
                " 200:\t3801 \tsubs\tr0, #1",
                " 202:\td1fd \tbne\t200",
            ]
        ),
        "p",
    )
    sums = sum_up(trace, code, places, Manual(rules_for("cortex-m0plus"), Memory()).price)
    assert sums.instructions == 6
    assert sums.parts == {first: Span.of(3 + 3 + 1), product: Span.of(2 + 1 + 2)}
    assert sums.loops.cycles == Span.of(2 + 1 + 2), "the loop's instructions once W·x has begun"
    with pytest.raises(DeviceError, match="executed 0x100, where objdump lists no instruction"):
        sum_up(trace, Code({}, "p"), places, Manual(rules_for("cortex-m0plus"), Memory()).price)


def test_a_long_log_ends_with_a_call() -> None:
    trace = follow((line.encode() for line in LOG.splitlines()), cast(Places, Canned()), most_blocks=2)
    assert (trace.complete, trace.calls) == (False, 1)
    trace = follow((line.encode() for line in LOG.splitlines()), cast(Places, Canned()), most_blocks=0)
    assert (trace.complete, trace.calls, trace.steps.total()) == (False, 0, 1)


def test_llvm_models_a_loop() -> None:
    """The Cortex-M7 issues two instructions that do not wait for each other; a call, and the end of a loop, are counted apart."""
    target = load_target("cortex-m7")
    try:
        llvm = mca.find_llvm(target)
    except MissingToolError as error:
        pytest.skip(str(error))
    lines = [
        "add.w\tr0, r4, #1",
        "add.w\tr1, r5, #1",
        "add.w\tr2, r2, #1",
        "add.w\tr2, r2, #1",
        "bl\t0x40 <f>",
        "nosuch\tr1",
    ]
    code = Code(parse([f" {4 * k:x}:\t0000 0000 \t{line}" for k, line in enumerate(lines)]), "p")
    found = mca.model_blocks(llvm, target.timing, code, [(0, 8), (8, 16), (16, 20), (20, 24)], 1.5)
    assert found.blocks[0, 8] == pytest.approx(1, abs=0.05)
    assert found.blocks[8, 16] == pytest.approx(2, abs=0.05)
    assert found.blocks[16, 20] == 1
    assert (20, 24) not in found.blocks
    assert found.refused is not None
    assert "invalid instruction" in found.refused
    spans = found.price(code.between(0, 24), 24)
    assert [span.mid for span in spans] == pytest.approx([0.5, 0.5, 1, 1, 1, 1.5], abs=0.03)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"CodeRegions": [{"Name": "x", "SummaryView": {}}]}'])
def test_output_of_another_llvm(text: str) -> None:
    with pytest.raises(DeviceError, match="llvm-mca's output is not as expected"):
        mca.read_json(text)


def test_an_llvm_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    target = load_target("cortex-m55")
    monkeypatch.setattr(mca, "_installed", lambda: (mca.Llvm("mca", "objdump", 14),))
    with pytest.raises(
        MissingToolError, match=r"cortex-m55: llvm-mca 19 or later .* \(found: 14\); apt-get install llvm-19"
    ):
        mca.find_llvm(target)


@pytest.mark.parametrize(
    ("cycles", "says"),
    [
        ("load = [2, 1, 2]", r"cycles\.load = \[2, 1, 2\], expected three cycles"),
        ("loads = [2, 2, 2]", r"key 'cycles\.loads' is unknown"),
        ("other = [1, 1, 1]", r"key 'cycles\.load' is missing"),
    ],
)
def test_wrong_rules(cycles: str, says: str, tmp_path: Path) -> None:
    whole = (targets_folder() / "timings" / "cortex-m0.toml").read_text(encoding="utf-8")
    text = whole.replace("load = [2, 2, 2]\n", f"{cycles}\n" if "other" not in cycles else "", 1)
    if "loads" in cycles:
        text = whole + f"{cycles}\n"
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(TargetError, match=says):
        read_rules(tmp_path / "rules.toml")


def test_every_file_of_rules_is_read() -> None:
    names = [path.stem for path in (targets_folder() / "timings").glob("*.toml")]
    assert len(names) >= 4
    for name in names:
        assert rules_of(Timing(rules=name)) is not None


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
