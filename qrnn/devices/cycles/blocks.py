"""Sums over a trace: cycles and instructions in all, by the parts of the model, and in the loops of its products."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qrnn.devices.cycles.code import Code, Instruction
from qrnn.devices.cycles.places import Part, Places
from qrnn.devices.cycles.record import NONE, Loops, Span
from qrnn.devices.cycles.trace import Trace
from qrnn.export.replay import PHASES

Price = Callable[[Sequence[Instruction], int], Sequence[Span]]
"""What a block of instructions costs, one by one, when the program goes on at an address."""

PRODUCTS = (PHASES.index("input"), PHASES.index("state"))


@dataclass(frozen=True)
class Sums:
    """Executed instructions and their cycles, by part, and those in loops."""

    instructions: int
    parts: dict[Part, Span]
    loops: Loops


def basic_blocks(trace: Trace) -> list[tuple[int, int]]:
    """Return the first address and the end of all stretches of instructions into which nothing jumps."""
    starts = set(trace.ends) & {step.start for step in trace.steps}
    found = set()
    for start in starts:
        cuts = sorted(s for s in starts if start < s < trace.ends[start])
        found |= set(zip([start, *cuts], [*cuts, trace.ends[start]], strict=True))
    return sorted(found)


def looped(trace: Trace, code: Code) -> frozenset[int]:
    """Return the addresses of straight lines of instructions at whose end the program jumps back to their beginning.

    The emulator ends a block at the end of a page of memory, too, so that such a line may be two blocks.
    """
    starts = {step.start for step in trace.steps}
    cut = {trace.ends[start] for start in starts if not code.between(start, trace.ends[start])[-1].may_jump}
    found: set[int] = set()
    for step in trace.steps:
        head, last = step.following, trace.ends[step.start]
        end = trace.ends.get(head, head)
        while head < end < last and end in cut and end in trace.ends:
            end = trace.ends[end]
        if head < end == last:
            found.update(range(head, last, 2))
    return frozenset(found)


def sum_up(trace: Trace, code: Code, places: Places, price: Price) -> Sums:
    """Return the sums of a trace at a price."""
    repeated = looped(trace, code)
    parts: dict[Part, Span] = defaultdict(lambda: NONE)
    loops, instructions, products, inside = NONE, 0, 0, 0
    for step, count in trace.steps.items():
        end = trace.ends[step.start]
        block = code.between(step.start, end)
        part, instructions = step.part, instructions + count * len(block)
        for one, span in zip(block, price(block, step.following), strict=True):
            part = places.at(part, one.address)
            cost = span * count
            parts[part] += cost
            if part.phase in PRODUCTS:
                repeats = one.address in repeated
                products += count * one.multiplies
                inside += count * (one.multiplies and repeats)
                loops += cost if repeats else NONE
    return Sums(instructions, dict(parts), Loops(loops, inside / products if products else 0.0))
