"""Cycles as ``qrnn fit`` and ``qrnn verify`` print them: their kind, their range, where they go, and what time and energy they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from qrnn.devices.cycles.record import Cycles, Span
    from qrnn.targets import Target


def range_text(span: Span) -> str:
    """Return the figure to expect and, where others are known, the least and the most."""
    if span.low == span.high:
        return f"{span.mid:,.0f}"
    return f"{span.mid:,.0f} ({span.low:,.0f} to {span.high:,.0f})"


def parts_text(parts: Mapping[str, Span]) -> str:
    """Return what each part takes, without those that take nothing."""
    return ", ".join(f"{name} {span.mid:,.0f}" for name, span in parts.items() if span.mid)


def energy_text(joules: float) -> str:
    """Return an energy in a unit that leaves few digits before the point."""
    for unit, size in (("mJ", 1e-3), ("µJ", 1e-6)):
        if joules >= size:
            return f"{joules / size:,.3g} {unit}"
    return f"{joules / 1e-9:,.3g} nJ"


def time_and_energy(cycles: Cycles, target: Target) -> dict[str, float | None]:
    """Return the seconds and the joules of a step; None where the target does not state its clock or its current."""
    clock, energy = target.memory.clock_hz, target.energy
    return {
        "seconds": None if clock is None else cycles.total.mid / clock,
        "joules": None if energy is None else cycles.total.mid * energy.joules_per_cycle,
    }


def print_cycles(out: Console, cycles: Cycles, target: Target) -> None:
    """Print the cycles of a step, and what they come from."""
    found, clock = time_and_energy(cycles, target), target.memory.clock_hz or 0
    seconds, joules = found["seconds"], found["joules"]
    time = "" if seconds is None else f", {1e3 * seconds:,.3g} ms at {clock / 1e6:g} MHz"
    used = "" if joules is None else f", {energy_text(joules)} while it computes"
    out.print(f"{range_text(cycles.total)} cycles a step, {cycles.kind}{time}{used}", soft_wrap=True)
    print_parts(out, cycles)
    out.print(f"  {cycles.kind}: {cycles.source}", soft_wrap=True)


def print_parts(out: Console, cycles: Cycles) -> None:
    """Print the cycles of each phase and of each layer, and why no better kind was to be had."""
    if cycles.phases:
        out.print(f"  by phase: {parts_text(cycles.phases)}", soft_wrap=True)
    if cycles.layers:
        out.print(f"  by layer: {parts_text(cycles.layers)}", soft_wrap=True)
    if cycles.problem is not None:
        out.print(f"  no better kind: {cycles.problem[:300]}", soft_wrap=True)
