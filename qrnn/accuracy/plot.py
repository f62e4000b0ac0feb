"""Draw a comparison: error over time, and SQNR of every gate and state."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qrnn.accuracy.pictures import fitted, legend, logarithmic, png
from qrnn.accuracy.probe import ErrorSum

TITLE_POINTS = 10
NAME_POINTS = 7
NAME_INCHES = 2.6
"""The greatest length of a name beside an axis."""
ROW_INCHES = 0.22
FEW = 8
"""The most lines whose legend has room inside the axes."""
STYLES = ("-", "--", ":", "-.")
LEAST_RMSE = 1e-12
"""The place on the logarithmic axis where an error of 0 is drawn."""


def draw(model: str, sequences: int, timed: dict[str, ErrorSum], rows: dict[str, ErrorSum]) -> bytes:
    """Return the picture as PNG bytes: the errors ``timed`` over the steps, and the SQNR of ``rows``, of a run of so many sequences."""
    many = len(timed) > FEW
    heights = (max(3.5, 0.8 + 0.15 * len(timed) if many else 0.0), 1 + ROW_INCHES * max(len(rows), 1))

    def paint(figure: Any) -> None:
        top, bottom = figure.subplots(2, 1, height_ratios=heights)
        _over_time(top, figure, timed, many)
        name = fitted(figure, [model], TITLE_POINTS, 3.0)[0]
        top.set_title(f"{name}: error over time, {sequences} sequences", fontsize=TITLE_POINTS)
        _by_part(bottom, figure, rows)

    return png(paint, 11.0 if many else 8.0, 1.2 + sum(heights), [model, *timed, *rows])


def _over_time(axes: Any, figure: Any, timed: dict[str, ErrorSum], many: bool) -> None:
    from matplotlib import colormaps

    lines = []
    for k, error in enumerate(timed.values()):
        reached = np.nonzero(error.count_at)[0]
        colour = colormaps["viridis"](0.9 * k / (len(timed) - 1)) if many else f"C{k}"
        rmse = np.maximum(error.rmse_at()[reached], LEAST_RMSE)
        style = STYLES[k % len(STYLES)] if many else "-"
        lines += axes.plot(reached + 1, rmse, linewidth=1.2, color=colour, linestyle=style)
    axes.set_yscale("log")
    logarithmic(axes.yaxis)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("time step")
    axes.set_ylabel("RMSE against float64")
    axes.grid(alpha=0.3)
    if not timed:
        axes.text(0.5, 0.5, "no output or state has more than one step", ha="center", transform=axes.transAxes)
    else:
        beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if many else {}
        legend(axes, lines, fitted(figure, list(timed), NAME_POINTS, NAME_INCHES), fontsize=NAME_POINTS, **beside)


def _by_part(axes: Any, figure: Any, rows: dict[str, ErrorSum]) -> None:
    """Draw a bar for each part; a part without error or without signal has no SQNR in dB and gets a word instead."""
    at = range(len(rows))
    values = [e.sqnr_db for e in rows.values()]
    axes.barh(at, [v if math.isfinite(v) else 0.0 for v in values], color="#4477aa")
    for k, v in enumerate(values):
        if not math.isfinite(v):
            axes.text(0.0, k, " exact" if v == math.inf else " no signal", va="center", fontsize=NAME_POINTS)
    axes.set_yticks(at, fitted(figure, list(rows), NAME_POINTS, NAME_INCHES), fontsize=NAME_POINTS)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    if not any(math.isfinite(v) for v in values):
        axes.set_xlim(0.0, 1.0)
        axes.set_xticks([])
    axes.set_xlabel("SQNR, dB")
    axes.grid(axis="x", alpha=0.3)
