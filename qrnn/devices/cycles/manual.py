"""Cycles of executed instructions by the timings in the core's manual (``targets/timings``); docs/devices.md, "Cycles", has the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from qrnn.devices.cycles.code import Instruction
from qrnn.devices.cycles.record import Span
from qrnn.errors import DeviceError
from qrnn.hardware.timings import Rules
from qrnn.targets import Memory

WORD_BYTES = 4


@dataclass(frozen=True)
class Manual:
    """The timings of a core, and the flash that its instructions come from."""

    rules: Rules
    memory: Memory

    def price(self, block: Sequence[Instruction], following: int) -> list[Span]:
        """Return the cycles of each instruction of a block, which goes on at the address ``following``."""
        last = len(block) - 1
        return [
            self._price(one, block[k - 1] if k else None, k == last and following != one.end)
            for k, one in enumerate(block)
        ]

    def _price(self, one: Instruction, before: Instruction | None, jumps: bool) -> Span:
        """Return the cycles of an instruction behind another; ``jumps`` is whether the program goes on elsewhere."""
        parts = [self._of(one, _kind(one, before))]
        if one.kind == "multiple":
            parts.append(tuple(one.registers * cycles for cycles in self._of(one, "register")))
        if jumps:
            parts.append(self._of(one, "refill"))
        if "address" in self.rules.cycles and before is not None and before.computed in one.addressed:
            parts.append(self._of(one, "address"))
        low, mid, high = (sum(cycles) for cycles in zip(*parts, strict=True))
        if one.conditional and not jumps:
            low = min(low, 1)  # it may have been skipped
        return self._with_waits(one, jumps, Span(low, mid, high))

    def _of(self, one: Instruction, kind: str) -> tuple[int, ...]:
        found = self.rules.cycles.get(kind)
        if found is None:
            raise DeviceError(
                f"{one.mnemonic} {one.operands} at 0x{one.address:x}: the core's timings say nothing of kind {kind!r} ({self.rules.source})"
            )
        return found

    def _with_waits(self, one: Instruction, jumps: bool, span: Span) -> Span:
        """Add the flash's wait states: for jumps with a prefetch buffer, for everything that is read without one."""
        waits = self.memory.wait_states or 0
        if waits == 0:
            return span
        line = self.memory.flash_line_bytes or WORD_BYTES
        reads = one.size / line + ceil(WORD_BYTES * one.words_loaded / line)
        jump = waits if jumps else 0
        return Span(span.low, span.mid + jump, span.high + jump + waits * reads)


def _kind(one: Instruction, before: Instruction | None) -> str:
    """Return the kind of an instruction, with what it owes to the one before it."""
    if one.pops_pc:
        return "pop_pc"
    if one.kind == "load" and before is not None and before.kind == "load" and before.loaded not in one.addressed:
        return "load_behind"
    return one.kind
