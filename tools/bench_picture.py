"""Draw the picture of ratios that tools/bench_peers.py writes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qrnn.accuracy.pictures import fitted, logarithmic, png

TEXT_SHARE = 0.36
"""The share of the axis' length that is kept free for a bar's text."""


@dataclass(frozen=True)
class Bar:
    """A row's label, its ratio to the best peer and the peer's name; both None where no peer was timed."""

    label: str
    ratio: float | None
    peer: str | None


def ratios(groups: Mapping[str, Sequence[Bar]], ours: str) -> bytes:
    """Return a PNG with bars from 1 to each ratio on a logarithmic axis.

    All groups share the axis; they stand one above the other, each under its title.
    """
    sizes = [len(bars) for bars in groups.values()]
    every = [bar.ratio for bars in groups.values() for bar in bars if bar.ratio is not None]
    low, high = min(1.0, *every, 1.0), max(1.0, *every, 1.0)
    beside = TEXT_SHARE * (1 + (low < 1.0))  # the texts stand right of the longest bar, and left of the shortest
    span = max(math.log10(high / low), 0.3) / (1.0 - beside)
    limits = (low / 10 ** (span * TEXT_SHARE) if low < 1.0 else 0.9, high * 10 ** (span * TEXT_SHARE))
    names = [text for bars in groups.values() for bar in bars for text in (bar.label, bar.peer or "")]

    def paint(figure: Any) -> None:
        axes = figure.subplots(len(groups), 1, squeeze=False, sharex=True, height_ratios=[size + 1 for size in sizes])
        for axis, (title, bars) in zip(axes[:, 0], groups.items(), strict=True):
            axis.set_xscale("log")
            _group(axis, figure, bars)
            axis.set_title(title, fontsize=9, loc="left")
        last = axes[-1, 0]
        last.set_xlim(*limits)
        last.tick_params(axis="x", labelsize=8, which="both")
        logarithmic(last.xaxis)
        last.set_xlabel(f"time of the best peer over time of {ours} (above 1: {ours} is quicker)", fontsize=8)

    return png(paint, 8.0, 1.2 + 0.28 * sum(sizes) + 0.5 * len(groups), names)


def _group(axis: Any, figure: Any, bars: Sequence[Bar]) -> None:
    at = range(len(bars))
    ratios = [bar.ratio if bar.ratio is not None else float("nan") for bar in bars]
    colours = ["#2a7f62" if ratio >= 1.0 else "#b5483a" for ratio in ratios]
    axis.barh(at, [ratio - 1.0 for ratio in ratios], left=1.0, color=colours)
    peers = fitted(figure, [bar.peer or "" for bar in bars], 7, 1.6)
    for k, (ratio, peer) in enumerate(zip(ratios, peers, strict=True)):
        right = ratio >= 1.0
        if ratio == ratio:
            text = f" {ratio:.2f} · {peer} " if right else f" {peer} · {ratio:.2f} "
            axis.text(ratio, k, text, va="center", ha="left" if right else "right", fontsize=7)
        else:
            axis.text(1.0, k, " no peer ", va="center", fontsize=7)
    axis.set_yticks(at, fitted(figure, [bar.label for bar in bars], 8, 1.6), fontsize=8)
    axis.set_ylim(len(bars) - 0.4, -0.6)
    axis.axvline(1.0, color="black", linewidth=0.8)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
