"""The result of a search for the cheapest configuration that meets budgets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qrnn.lab.axes import choices, label
from qrnn.lab.budgets import Bound
from qrnn.lab.evaluate import COSTS, Record
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme
from qrnn.system import tables
from qrnn.system.reports import Report

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 12
"""The number of changes that the terminal lists."""


ROWS = (
    ("SQNR, dB", "sqnr_db", 1),
    ("SQNR about the mean, dB", "sqnr_about_mean_db", 1),
    ("floor of the weights' width, dB", "floor_db", 1),
    ("accuracy, %", "accuracy", 2),
    ("accuracy drop, points", "accuracy_drop", 2),
    ("agreement, %", "agreement", 2),
    ("flash, bytes", "flash_bytes", 0),
    ("RAM, bytes", "ram_bytes", 0),
    ("instructions a step", "instructions", 0),
    ("latency, µs a step", "latency_us", 2),
)
"""The figures that a table shows: their names, their keys in a record, and their digits."""


TRIAL_COLUMNS = (
    ("dB", "sqnr_db", 1),
    ("acc. %", "accuracy", 2),
    ("flash", "flash_bytes", 0),
    ("RAM", "ram_bytes", 0),
    ("instr.", "instructions", 0),
)
"""The figures of the table of trials."""


@dataclass(frozen=True)
class Sensitivity:
    """The effect of one change of the first configuration: figures after it minus figures before."""

    change: str
    differences: dict[str, float | None]


@dataclass(frozen=True)
class TuneResult(Report):
    """The result of a search.

    Where ``met``, ``model`` meets every budget; else it is the one that comes nearest, and ``problems`` says what it misses. ``figures``
    are as in a sweep's record. ``counted`` is true where those of cost were counted on the target, and false where they are the cost
    model's. ``start`` holds the figures of the own scheme of the ``target``, and ``tried`` the number of configurations measured.
    """

    model: QuantModel
    scheme: Scheme
    figures: Record
    counted: bool
    start: Record
    sensitivity: list[Sensitivity]
    bounds: list[Bound]
    problems: list[str]
    tried: int
    target: str = ""
    training: Record | None = None
    """What the model's training came to, as in a sweep's record; None where it is not trained."""
    trials: list[Record] = field(default_factory=list)
    """Every configuration that was tried, the best first, as `qrnn.lab.trials.Trials.record` gives it."""
    earlier: int = 0
    """The number of configurations that an earlier search had measured, in the same folder."""

    @property
    def met(self) -> bool:
        """Return whether every budget is met."""
        return not self.problems

    def describe_lines(self) -> Iterator[str]:
        """Yield which configuration was found, its figures, and which budgets it misses."""
        met = "meets every budget" if self.met else "comes nearest to the budgets"
        yield f"TuneResult for {self.target}, {self.tried} configurations tried; this one {met}: {label(self.scheme)}"
        for title, key, digits in ROWS:
            if self.figures.get(key) is not None and key in (
                "sqnr_db",
                "accuracy",
                "flash_bytes",
                "ram_bytes",
                "instructions",
            ):
                yield f"  {title}: {_figure(self.figures[key], digits, '')}"
        yield from (f"  not met: {problem}" for problem in self.problems)
        yield "  str(result) has all of it as tables"

    def render(self, out: Console, command: str = "") -> None:
        """Print what each change does, and the figures of what was found; ``command`` is the one that makes it."""
        rows: list[tuple[str, ...]] = []
        for s in sorted(self.sensitivity, key=lambda s: s.differences["sqnr_db"] or 0.0)[:SHOWN]:
            d = s.differences
            digits = {"sqnr_db": 1, "accuracy": 2, "flash_bytes": 0, "ram_bytes": 0, "instructions": 0}
            rows.append((s.change, *("?" if d[k] is None else f"{d[k]:+,.{n}f}" for k, n in digits.items())))
        figures = map(tables.number, ("dB", "acc. %", "flash", "RAM", "instr."))
        out.print(tables.table((tables.text("one change"), *figures), rows, "From the target's own scheme"))
        if len(self.sensitivity) > SHOWN:
            out.print(f"and {len(self.sensitivity) - SHOWN} that cost less accuracy (--json has them all)")
        guess = "" if self.counted else "~"
        rows = []
        limits = {b.key: f"{'at least' if b.at_least else 'at most'} {b.limit:,g}" for b in self.bounds}
        for title, key, digits_of in ROWS:
            if self.figures.get(key) is not None:
                mark = guess if key in ("flash_bytes", "ram_bytes", "instructions") else ""
                cells = [_figure(measured.get(key), digits_of, mark) for measured in (self.start, self.figures)]
                rows.append((title, *cells, limits.get(key, "")))
        self._print_trials(out)
        before = f", {self.earlier} of them before" if self.earlier else ""
        out.print(
            f"\n{self.tried} configurations tried for {self.target}{before}; found: {label(self.scheme)}",
            soft_wrap=True,
        )
        columns = (tables.text(""), *map(tables.number, ("start", "found")), tables.text("budget"))
        out.print(tables.table(columns, rows))
        if self.training is not None:
            out.print(
                f"trained for {self.training['epochs']} epochs in {self.training['seconds']:.0f} s, epoch {self.training['best_epoch']} kept",
                soft_wrap=True,
            )
        if guess:
            out.print("~: by the cost model; nothing here can build and run for this target")
        for problem in self.problems:
            out.print(f"not met: {problem}", soft_wrap=True)
        if command:
            out.print(f"{'made by' if self.met else 'the nearest is made by'}: {command}", soft_wrap=True)

    def _print_trials(self, out: Console) -> None:
        """Print the best configurations that were tried; a mark says which meet every budget."""
        rows: list[tuple[str, ...]] = []
        for r in self.trials[:SHOWN]:
            cells = (
                _figure(r["figures"].get(key), digits, "" if r["counted"] or key not in COSTS else "~")
                for _, key, digits in TRIAL_COLUMNS
            )
            rows.append(("yes" if r["met"] else "no", r["label"], *cells))
        columns = (
            tables.text("met"),
            tables.text("configuration"),
            *(tables.number(title) for title, _, _ in TRIAL_COLUMNS),
        )
        out.print(
            tables.table(columns, rows, "The best that were tried, the cheapest that meet the budgets first", gap=1)
        )
        if len(self.trials) > SHOWN:
            out.print(f"and {len(self.trials) - SHOWN} more (--json has them all)")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "met": self.met,
            "problems": self.problems,
            "scheme": choices(self.scheme),
            "figures": self.figures,
            "counted": self.counted,
            "start": self.start,
            "budgets": [
                {"name": b.name, "limit": b.limit, "found": self.figures.get(b.key), "unit": b.unit}
                for b in self.bounds
            ],
            "sensitivity": [{"change": s.change, **s.differences} for s in self.sensitivity],
            "tried": self.tried,
            **({} if self.training is None else {"training": self.training}),
            "tried_before": self.earlier,
            "trials": self.trials,
        }


def _figure(value: Any, digits: int, mark: str) -> str:
    return "?" if value is None else f"{mark}{value:,.{digits}f}"
