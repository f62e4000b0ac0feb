"""What cycles are made of: readers of what other tools print, the manuals' timings, and the sums over a canned trace."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from qrnn.devices.cycles import mca
from qrnn.devices.cycles.blocks import basic_blocks, looped, sum_up
from qrnn.devices.cycles.code import Code, parse
from qrnn.devices.cycles.manual import Manual
from qrnn.devices.cycles.places import Part, Places
from qrnn.devices.cycles.record import Span
from qrnn.devices.cycles.trace import Step, Trace, follow
from qrnn.errors import DeviceError, MissingToolError, TargetError
from qrnn.hardware.timings import Rules, read_rules, rules_of
from qrnn.targets import Memory, Timing, load_target, targets_folder


def rules_for(name: str) -> Rules:
    rules = rules_of(load_target(name).timing)
    assert rules is not None
    return rules


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


def test_a_loop_over_two_pages() -> None:
    """The emulator ends a block with a page; the loop around it, whose end is a jump too, is not the one that is meant."""
    lines = [
        " 3fe:\t3801 \tsubs\tr0, #1",
        " 400:\td1fd \tbne\t3fe",
        " 402:\t3901 \tsubs\tr1, #1",
        " 404:\td1fd \tbne\t3fc",
    ]
    code = Code(parse([" 3fc:\t2003 \tmovs\tr0, #3", *lines]), "p")
    trace = Trace(ends={0x3FC: 0x400, 0x3FE: 0x400, 0x400: 0x402, 0x402: 0x406})
    first, page, inner = Step(Part(), 0x3FC, 0x400), Step(Part(), 0x3FE, 0x400), Step(Part(), 0x400, 0x3FE)
    left, outer, ended = Step(Part(), 0x400, 0x402), Step(Part(), 0x402, 0x3FC), Step(Part(), 0x402, 0x500)
    trace.steps.update({first: 2, page: 4, inner: 4, left: 2, outer: 1, ended: 1})
    assert looped(trace, code) == {0x3FE, 0x400}


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
