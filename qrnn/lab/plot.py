"""Draw a sweep: accuracy against each cost with the front marked, one PNG each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from qrnn.accuracy.pictures import fitted, legend, png
from qrnn.lab.evaluate import Record
from qrnn.lab.pareto import FIGURES, front, value

COLOURS = ("#0b62c4", "#d55e00", "#008f68", "#a0459a", "#8a6d00", "#4a5568", "#c2185b", "#00838f")
MARKERS = "osD^vP*"
"""There are seven markers, so that a colour has the same marker again only after 56 groups."""
FEW = 8
"""Groups whose legend has room inside the axes."""
COLUMN = 24
"""Groups in a column of a legend beside the axes."""


def draw_all(title: str, records: Sequence[Record], colour_by: str | None) -> dict[str, bytes]:
    """Return a PNG by file name (``sqnr_flash.png``, ``accuracy_instructions.png``, …) for each pair of a known quality and a known cost."""
    known = {n: f for n, f in FIGURES.items() if any(value(r, f) is not None for r in records)}
    good = [n for n, f in known.items() if f.more_is_better and n != "agreement"]
    costs = [n for n, f in known.items() if not f.more_is_better and n != "size"]
    return {f"{a}_{b}.png": draw(title, records, a, b, colour_by) for a in good for b in costs}


def draw(title: str, records: Sequence[Record], quality: str, cost: str, colour_by: str | None) -> bytes:
    """Draw one picture, with the front of the two figures as a line.

    A configuration that is exact has an infinite SQNR, and is counted in the title instead.
    """
    up, down = FIGURES[quality], FIGURES[cost]
    known = [r for r in records if value(r, up) is not None and value(r, down) is not None]
    shown = [r for r in known if value(r, up) != math.inf]
    groups: dict[str, list[Record]] = {}
    for record in shown:
        groups.setdefault(f"{colour_by} {record['scheme'][colour_by]}" if colour_by else "", []).append(record)
    many = len(groups) > FEW
    columns = math.ceil(len(groups) / COLUMN)

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        handles = [
            axes.scatter(
                [value(r, down) or 0.0 for r in mine],
                [value(r, up) or 0.0 for r in mine],
                s=34,
                alpha=0.65,
                color=COLOURS[k % len(COLOURS)],
                marker=MARKERS[k % len(MARKERS)],
            )
            for k, mine in enumerate(groups.values())
        ]
        line = sorted((value(shown[i], down) or 0.0, value(shown[i], up) or 0.0) for i in front(shown, (quality, cost)))
        axes.step(
            [x for x, _ in line], [y for _, y in line], where="post", color="#555555", linestyle="--", linewidth=1
        )
        axes.set_xlabel(down.title)
        axes.set_ylabel(up.title)
        exact = f", and {len(known) - len(shown)} that are exact" if len(known) > len(shown) else ""
        axes.set_title(fitted(figure, [title], 10, 4.5)[0] + exact, fontsize=10)
        if quality in ("accuracy", "agreement"):
            axes.set_ylim(top=min(axes.get_ylim()[1], 101.0))  # percent
        axes.grid(alpha=0.3)
        if colour_by and groups:
            beside: dict[str, Any] = (
                {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "ncols": columns} if many else {}
            )
            legend(axes, handles, fitted(figure, list(groups), 8, 2.6), fontsize=8, **beside)

    return png(paint, 7.5 + (3.0 * columns if many else 0.0), 5.0, [title, *groups])
