"""Find the configurations on the Pareto front: those that no other beats on one figure without losing on another."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qrnn.errors import DataError

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """One measured figure: its key in a record's ``figures``, its name with unit, and whether more is better."""

    key: str
    title: str
    more_is_better: bool
    digits: int = 0


FIGURES: Mapping[str, Figure] = {
    "sqnr": Figure("sqnr_db", "SQNR, dB", True, 1),
    "about-mean": Figure("sqnr_about_mean_db", "SQNR about the mean, dB", True, 1),
    "floor": Figure("floor_db", "floor of the weights' width, dB", True, 1),
    "accuracy": Figure("accuracy", "accuracy, %", True, 2),
    "agreement": Figure("agreement", "agreement, %", True, 2),
    "size": Figure("model_bytes", "weights and tables, bytes", False),
    "flash": Figure("flash_bytes", "flash, bytes", False),
    "ram": Figure("ram_bytes", "RAM, bytes", False),
    "instructions": Figure("instructions", "instructions a step", False),
    "latency": Figure("latency_us", "latency, µs a step", False, 2),
}
"""The figures of fronts, tables and plots, by the names that the command line takes."""

DEFAULT_FRONT = ("sqnr", "flash", "instructions")


def value(record: Record, figure: Figure) -> float | None:
    """Return a figure of a record, None where it is not known; an exact result has an infinite SQNR."""
    found = record.get("figures", {}).get(figure.key)
    if found is None and figure.key in ("sqnr_db", "sqnr_about_mean_db") and record.get("figures", {}).get("exact"):
        return float("inf")
    return None if found is None else float(found)


def front(records: Sequence[Record], names: Sequence[str] = DEFAULT_FRONT) -> list[int]:
    """Return the indices of the records that no other record dominates; of equal ones, the first.

    A record dominates another when it is as good on every figure of ``names`` and better on one. A figure that no record has is left out; a
    record that lacks one of the others is not on the front. DataError for an unknown name.
    """
    figures = known_figures(records, names)
    points: list[tuple[int, tuple[float, ...]]] = []
    for index, record in enumerate(records):
        found = [value(record, figure) for figure in figures]
        if figures and None not in found:
            pairs = zip(found, figures, strict=True)
            points.append((index, tuple(-v if f.more_is_better else v for v, f in pairs if v is not None)))
    first = {p: i for i, p in reversed(points)}
    return [i for i, p in points if first[p] == i and not any(_dominates(q, p) for q in first)]


def known_figures(records: Sequence[Record], names: Sequence[str]) -> list[Figure]:
    """Return the figures of these names that any record has."""
    for name in names:
        if name not in FIGURES:
            raise DataError(f"figure {name!r} is unknown; expected one of {', '.join(FIGURES)}")
    return [FIGURES[name] for name in names if any(value(r, FIGURES[name]) is not None for r in records)]


def _dominates(q: tuple[float, ...], p: tuple[float, ...]) -> bool:
    return q != p and all(a <= b for a, b in zip(q, p, strict=True))


def csv_text(records: Sequence[Record], on_front: Sequence[int]) -> str:
    """Return the table as CSV: key, front (1 or 0), the scheme's fields, the figures. An unknown figure is empty."""
    made = [r for r in records if "figures" in r]
    axes = list(records[0]["scheme"]) if records else []
    figures = [k for k in (made[0]["figures"] if made else {}) if k not in ("output", "exact")]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["key", "front", *axes, *figures, "counted", "refused"])
    marked = set(on_front)
    for index, r in enumerate(records):
        cells = [_cell(r.get("figures", {}).get(k)) for k in figures]
        counted = int(r["cost"]["counted"]) if "cost" in r else ""
        writer.writerow([r["key"], int(index in marked), *r["scheme"].values(), *cells, counted, r.get("refused", "")])
    return buffer.getvalue()


def _cell(found: Any) -> Any:
    return "" if found is None else f"{found:.6g}" if isinstance(found, float) else found
