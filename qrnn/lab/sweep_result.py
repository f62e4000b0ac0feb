"""The result of a sweep: the record of every configuration, and which of them are on the Pareto front."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrnn.lab.effects import effects
from qrnn.lab.evaluate import Record
from qrnn.lab.pareto import FIGURES, known_figures, value
from qrnn.lab.plot import draw
from qrnn.lab.training import AXIS
from qrnn.system import tables
from qrnn.system.reports import Picture, Report
from qrnn.targets import Target

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SHOWN = 20
"""The number of rows of the front that the terminal shows."""

_HEADINGS = {
    "sqnr": "dB",
    "about-mean": "mean dB",
    "floor": "floor",
    "accuracy": "acc. %",
    "flash": "flash",
    "ram": "RAM",
    "instructions": "instr.",
    "latency": "µs",
}


@dataclass(frozen=True)
class SweepResult(Report):
    """Every configuration's record in the order of the grid, and the indices of those on the Pareto front of ``front_of``.

    A record is what ``DIR/results/KEY.json`` holds: ``label``, ``scheme``, ``figures`` (`qrnn.lab.pareto.FIGURES` and more), ``cost``,
    errors by layer and over time, saturation, roundings, gate curves; or the reason under ``refused``. ``fresh`` is the number of
    configurations that were measured in this call, not before.
    """

    model: str
    target: Target
    records: list[Record]
    front: list[int]
    front_of: tuple[str, ...]
    folder: Path
    versions: dict[str, str]
    digests: dict[str, str]
    sequences: int
    steps: int
    fresh: int
    stream: bool = False
    """Whether the float model carries every state, as for `sweep`."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """What was fixed when the float model was imported, as for `qrnn.load_onnx`."""

    @property
    def front_records(self) -> list[Record]:
        """Return the records on the front, in the order of the grid."""
        return [self.records[index] for index in self.front]

    def describe_lines(self) -> Iterator[str]:
        """Yield how many configurations were measured, and the first ones of the front."""
        made = sum("figures" in r for r in self.records)
        yield (
            f"SweepResult of {self.model!r} on {self.target.name}: {made} configurations, {len(self.front)} on the front of "
            + (", ".join(self.front_of))
        )
        for r in self.front_records[:4]:
            yield f"  {r['label']}: " + ", ".join(
                f"{found:,.{FIGURES[name].digits}f} {_HEADINGS.get(name, name)}"
                for name in self.front_of
                if (found := value(r, FIGURES[name])) is not None
            )
        yield "  str(result) has the front as a table, result.plot(quality, cost) as a picture"

    def render(self, out: Console) -> None:
        """Print the configurations of the front, those of the highest quality first."""
        made = [r for r in self.records if "figures" in r]
        earlier = len(self.records) - self.fresh
        before = f", {earlier} of them before" if earlier else ""
        out.print(f"{self.model} on {self.target.name}: {len(made)} configurations measured{before}", soft_wrap=True)
        for r in self.records:
            if "refused" in r:
                out.print(f"not for this model: {r['label']}: {r['refused']}", soft_wrap=True)
        figures = known_figures(made, tuple(_HEADINGS))
        titles = {FIGURES[name]: title for name, title in _HEADINGS.items()}
        rows = []
        for r in sorted(self.front_records, key=lambda r: -(value(r, figures[0]) or 0.0))[:SHOWN]:
            cells = []
            for figure in figures:
                found = value(r, figure)
                sure = r["cost"]["counted"] or figure.key != "instructions"
                cells.append("?" if found is None else f"{'' if sure else '~'}{found:,.{figure.digits}f}")
            rows.append((r["label"], *cells))
        columns = (tables.text("configuration"), *(tables.number(titles[figure]) for figure in figures))
        out.print(tables.table(columns, rows, f"Front of {', '.join(self.front_of)}", gap=1))
        timed = ", µs a step on this machine" if FIGURES["latency"] in figures else ""
        out.print(
            "mean dB: SQNR about the mean; floor: SQNR with the weights alone rounded; flash and RAM in bytes, instructions a step on the "
            f"target{timed}",
            soft_wrap=True,
        )
        if len(self.front) > SHOWN:
            out.print(f"and {len(self.front) - SHOWN} more in front.csv")
        if any("training" in r for r in made):
            out.print(_training(made))
        problem = next((r["cost"]["problem"] for r in made if r["cost"]["problem"]), None)
        if problem is not None:
            out.print(f"~ is by the target's cost model, and ? unknown: {problem[:200]}", soft_wrap=True)

    def plot(self, quality: str = "sqnr", cost: str = "flash", path: str | os.PathLike[str] | None = None) -> Picture:
        """Return a picture of one figure of quality against one of cost, with their front; write it as PNG where a ``path`` is given.

        DataError for figures that are not `qrnn.lab.pareto.FIGURES`, where matplotlib is not installed, or the path cannot be written.
        """
        known_figures([], (quality, cost))
        picture = Picture(draw(self.model, [r for r in self.records if "figures" in r], quality, cost, None))
        if path is not None:
            picture.save(path)
        return picture


def _training(records: list[Record]) -> Table:
    """Return a table of what training changes, and what rounding with care does (refine), each where nothing else differs."""
    rows = []
    for effect in effects(records):
        if effect["axis"] in (AXIS, "refine") and effect["pairs"]:
            changes = [effect["median"][key] for key in ("sqnr_db", "accuracy", "agreement")]
            cells = ["" if change is None else f"{change:+.2f}" for change in changes]
            rows.append((f"{effect['axis']}={effect['value']}", effect["against"], str(effect["pairs"]), *cells))
    columns = (tables.text("choice"), tables.text("against"), *map(tables.number, ("pairs", "dB", "acc. %", "agr. %")))
    return tables.table(columns, rows, "What training buys beside refinement: the median change")
