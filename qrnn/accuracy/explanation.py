"""The report of ``qrnn explain``: what each part of a model costs in accuracy, what to change, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qrnn.accuracy.clipping import Saturation
from qrnn.model.layer_facts import Part
from qrnn.system import tables
from qrnn.system.reports import Report

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 12
"""The number of parts that a table shows unless it is told otherwise."""

GATE_NAMES = {
    "i": "input gate",
    "f": "forget gate",
    "g": "candidate",
    "o": "output gate",
    "output": "cell to h",
    "r": "reset gate",
    "z": "update gate",
    "n": "candidate",
    "h": "hidden units",
}
"""The gates in words."""


@dataclass(frozen=True)
class Cost:
    """What one part costs in accuracy.

    ``energy`` is that of its noise at the output, alone; ``share`` is the part of the quantized model's noise energy. ``advice`` says what
    to change, and ``costs`` what that takes. ``without_db`` is the SQNR of the quantized model with this part exact, for the parts that
    cost most, else None.
    """

    part: Part
    energy: float
    share: float
    without_db: float | None
    advice: str
    costs: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "where": self.part.where,
            "gate": self.part.gate or None,
            "kind": self.part.kind,
            "noise_energy": self.energy,
            "share": self.share,
            "sqnr_db_without": self.without_db,
            "advice": self.advice,
            "costs": self.costs,
        }


@dataclass(frozen=True)
class Explanation(Report):
    """The ``costs`` of all parts, the largest first.

    ``sqnr_db`` is the quantized model's, ``sqnr_about_mean_db`` the same about the mean, and ``sqnr_db_all_parts`` that of all parts
    together in the oracle, which leaves out only the rounding of partial sums: the two differ by what the method does not see.
    ``floor_db`` is the SQNR where the weights alone are rounded (`qrnn.quantization.floor`). ``clipped`` counts values beyond the range of
    a graph input, or of what a matrix reads, where there were any.
    """

    model: str
    output: str
    sequences: int
    steps: int
    random_data: bool
    sqnr_db: float
    sqnr_about_mean_db: float
    sqnr_db_all_parts: float
    floor_db: float
    costs: tuple[Cost, ...]
    clipped: tuple[Saturation, ...] = ()
    of_sequences: int = 0
    """The sequences of the data, of which ``sequences`` were taken evenly."""

    def describe_lines(self) -> Iterator[str]:
        """Yield the model's SQNR, and the parts that cost most."""
        yield f"Explanation of {self.model!r}: {self._summary}"
        for cost in self.costs[:4]:
            yield f"  {100 * cost.share:5.1f} %  {cost.part.where}: {part_text(cost.part)}; {cost.advice}"
        yield "  str(report) has all of it as tables"

    @property
    def _amount(self) -> str:
        part = f" of the data's {self.of_sequences}, taken evenly" if self.of_sequences > self.sequences else ""
        return f"{self.sequences} sequences{part}"

    @property
    def _summary(self) -> str:
        return (
            f"output {self.output}, {self._amount}, {self.steps} steps, SQNR {self.sqnr_db:.1f} dB, "
            f"{self.sqnr_about_mean_db:.1f} dB about the mean"
        )

    def render(self, out: Console, top: int = SHOWN) -> None:
        """Print the ``top`` parts that cost most, what is clipped, and how much the other parts cost together."""
        out.print(
            f"{self.model}: {self._summary} (all parts below together: {self.sqnr_db_all_parts:.1f} dB; the floor, with the weights "
            f"alone rounded: {self.floor_db:.1f} dB)",
            soft_wrap=True,
        )
        shown = self.costs[:top]
        changes = list(dict.fromkeys((cost.advice, cost.costs) for cost in shown))
        rows = [
            (
                cost.part.where,
                part_text(cost.part),
                f"{100 * cost.share:.1f} %",
                "" if cost.without_db is None else f"{cost.without_db:.1f} dB",
                f"[{changes.index((cost.advice, cost.costs)) + 1}]",
            )
            for cost in shown
        ]
        columns = (tables.name("layer"), tables.text("part"), *map(tables.number, ("share", "without it", "change")))
        out.print(tables.table(columns, rows))
        for k, (advice, costs) in enumerate(changes):
            out.print(f"  [{k + 1}] {advice}{f' (costs {costs})' if costs else ''}", markup=False, soft_wrap=True)
        for clipped in self.clipped:
            out.print(f"clipped: {clipped}", markup=False, soft_wrap=True)
        if len(self.costs) > top:
            rest = sum(cost.share for cost in self.costs[top:])
            out.print(f"{len(self.costs) - top} more parts: {100 * rest:.1f} % together")
        out.print(
            "share: noise energy of the part alone over that of the whole; shares need not add up to 100 %. "
            "without it: SQNR of the quantized model with that part exact.",
            soft_wrap=True,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what ``qrnn explain --json`` prints."""
        return {
            "model": self.model,
            "output": self.output,
            "sequences": self.sequences,
            "of_sequences": self.of_sequences,
            "steps": self.steps,
            "random_data": self.random_data,
            "sqnr_db": _finite(self.sqnr_db),
            "sqnr_about_mean_db": _finite(self.sqnr_about_mean_db),
            "sqnr_db_all_parts": _finite(self.sqnr_db_all_parts),
            "floor_db": _finite(self.floor_db),
            "note": "shares are of noise energy, each part alone; they need not add up to 1",
            "clipped": [asdict(s) for s in self.clipped],
            "parts": [cost.to_dict() for cost in self.costs],
        }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def part_text(part: Part) -> str:
    """Return a part in words, such as ``forget gate, recurrent weights``."""
    return f"{GATE_NAMES[part.gate]}, {part.kind}" if part.gate else part.kind
