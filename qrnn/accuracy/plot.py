"""A comparison as a picture: error over time, and SQNR of every gate and state."""

from __future__ import annotations

import io
import math

import numpy as np

from qrnn.accuracy.compare import Comparison
from qrnn.errors import DataError


def require_matplotlib() -> None:
    """DataError with the remedy where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise DataError("--plot needs matplotlib; install it with: pip install 'qrnn[plot]'") from None


def draw(result: Comparison) -> bytes:
    """The picture as PNG bytes."""
    require_matplotlib()
    from matplotlib import rc_context

    with rc_context({"text.parse_math": False}):  # a dollar in a name is a dollar
        return _draw(result)


def _draw(result: Comparison) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    timed = result.over_time()
    bars = {name: e.sqnr_db for name, e in (result.layers | result.outputs).items() if math.isfinite(e.sqnr_db)}
    figure = Figure(figsize=(8, 5 + 0.22 * len(bars)), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, height_ratios=[3.5, 1 + 0.22 * len(bars)])
    for name, error in timed.items():
        reached = np.nonzero(error.count_at)[0]
        top.plot(reached + 1, np.maximum(error.rmse_at()[reached], 1e-12), label=name, linewidth=1.2)
    top.set_yscale("log")
    top.set_xlabel("time step")
    top.set_ylabel("RMSE against float64")
    top.set_title(f"{result.model}: error over time, {result.sequences} sequences")
    top.grid(alpha=0.3)
    if timed:
        top.legend(fontsize=7, ncols=2)
    names = list(bars)[::-1]
    bottom.barh(names, [bars[name] for name in names], color="#4477aa")
    bottom.set_xlabel("SQNR, dB")
    bottom.tick_params(axis="y", labelsize=7)
    bottom.grid(axis="x", alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
