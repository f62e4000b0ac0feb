"""The sweep as pictures: accuracy against each cost, the front marked, a PNG each."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from qrnn.accuracy.plot import require_matplotlib
from qrnn.lab.evaluate import Record
from qrnn.lab.pareto import FIGURES, front, value

COLOURS = ("#0b62c4", "#d55e00", "#008f68", "#a0459a", "#8a6d00", "#4a5568", "#c2185b", "#00838f")
MARKERS = "osD^vP*X"


def draw_all(title: str, records: Sequence[Record], colour_by: str | None) -> dict[str, bytes]:
    """File name → PNG, for each pair of a quality and a cost that is known: ``sqnr_flash.png``, ``accuracy_instructions.png``, …"""
    require_matplotlib()
    from matplotlib import rc_context

    known = {n: f for n, f in FIGURES.items() if any(value(r, f) is not None for r in records)}
    good = [n for n, f in known.items() if f.more_is_better and n != "agreement"]
    costs = [n for n, f in known.items() if not f.more_is_better and n != "size"]
    with rc_context({"text.parse_math": False}):  # a dollar in a name is a dollar
        return {f"{a}_{b}.png": draw(title, records, a, b, colour_by) for a in good for b in costs}


def draw(title: str, records: Sequence[Record], quality: str, cost: str, colour_by: str | None) -> bytes:
    """One picture, with the front of the two figures as a line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    up, down = FIGURES[quality], FIGURES[cost]
    shown = [r for r in records if value(r, up) not in (None, math.inf) and value(r, down) is not None]
    canvas = Canvas(figsize=(7.5, 5), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    groups = list(dict.fromkeys(str(r["scheme"][colour_by]) for r in shown)) if colour_by else [""]
    for k, group in enumerate(groups):
        mine = [r for r in shown if not colour_by or str(r["scheme"][colour_by]) == group]
        axes.scatter(
            [value(r, down) or 0.0 for r in mine],
            [value(r, up) or 0.0 for r in mine],
            s=34,
            alpha=0.65,
            color=COLOURS[k % len(COLOURS)],
            marker=MARKERS[k % len(MARKERS)],
            label=f"{colour_by} {group}" if colour_by else None,
        )
    line = sorted((value(shown[i], down) or 0.0, value(shown[i], up) or 0.0) for i in front(shown, (quality, cost)))
    axes.step([x for x, _ in line], [y for _, y in line], where="post", color="#555555", linestyle="--", linewidth=1)
    axes.set_xlabel(down.title)
    axes.set_ylabel(up.title)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    if colour_by:
        axes.legend(fontsize=8)
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
