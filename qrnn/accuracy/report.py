"""Print a comparison as tables for a terminal of 80 columns."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from qrnn.accuracy.compare import Comparison
from qrnn.accuracy.metrics import wilson_interval
from qrnn.accuracy.probe import ErrorSum


def render(result: Comparison, out: Console) -> None:
    """Print the whole report."""
    out.print(
        f"{result.model}: {result.sequences} sequences, {result.steps} steps, backend {result.backend}", markup=False
    )
    if result.random_calibration:
        out.print("calibrated on random numbers: these figures say nothing about real use", style="bold red")
    out.print(_outputs(result))
    out.print("floor: the weights rounded to their width, and nothing else; what lies between is what the rest costs")
    if result.onnxruntime_note:
        out.print(result.onnxruntime_note, markup=False, soft_wrap=True)
    out.print(_layers(result.layers))
    drift = result.over_time()
    if drift:
        out.print(_drift(drift))
    out.print(_ranges(result))
    saturated = [s for s in result.saturation if s.saturated]
    if saturated:
        table = Table("saturated", "values", "share", "up to", title="Saturation", title_justify="left")
        for s in saturated:
            largest = "" if s.largest is None else f"{s.largest:.2f} times the limit"
            table.add_row(s.where, f"{s.saturated} of {s.total}", f"{100 * s.saturated / s.total:.2f} %", largest)
        out.print(table)
    else:
        out.print("saturation: none anywhere")
    _print_decisions(result, out)


def _db(value: float) -> str:
    return "exact" if math.isinf(value) else f"{value:.1f} dB"


def _ratios(error: ErrorSum) -> tuple[str, str]:
    return _db(error.sqnr_db), _db(error.about_mean_db)


def _outputs(result: Comparison) -> Table:
    table = Table(
        "output",
        "source",
        "SQNR",
        "about mean",
        "max error",
        "RMSE",
        title="Against the float64 oracle",
        title_justify="left",
    )
    for name, error in result.outputs.items():
        table.add_row(name, "qrnn", *_ratios(error), f"{error.largest:.4g}", f"{error.rmse:.4g}")
        if name in result.floor:
            least = result.floor[name]
            table.add_row("", "floor", *_ratios(least), f"{least.largest:.4g}", f"{least.rmse:.4g}")
        if name in result.onnxruntime:
            other = result.onnxruntime[name]
            table.add_row("", "ONNX Runtime", *_ratios(other), f"{other.largest:.2g}", f"{other.rmse:.2g}")
    return table


def _layers(layers: Mapping[str, ErrorSum]) -> Table:
    """Return a table with one row for each layer and direction, and one column for each gate or state."""
    grouped: dict[str, dict[str, ErrorSum]] = {}
    for key, error in layers.items():
        layer, quantity = key.rsplit(".", 1)
        grouped.setdefault(layer, {})[quantity] = error
    quantities = [q for q in ("i", "f", "g", "o", "r", "z", "n", "c", "h") if any(q in row for row in grouped.values())]
    table = Table("layer", *quantities, title="SQNR of gates and states, dB", title_justify="left")
    for layer, row in grouped.items():
        table.add_row(layer, *(_db(row[q].sqnr_db).removesuffix(" dB") if q in row else "" for q in quantities))
    return table


def _ranges(result: Comparison) -> Table:
    table = Table("tensor or matrix", "of its range", title="Ranges used", title_justify="left")
    for name, share in result.ranges.items():
        table.add_row(name, f"{100 * share:.1f} % at most")
    for name, share in result.weight_ranges.items():
        table.add_row(name, f"{100 * share:.1f} % RMS")
    return table


def _drift(errors: Mapping[str, ErrorSum]) -> Table:
    """Return a table with the RMSE at a few steps from the first to the last."""
    steps = max(len(e.count_at) for e in errors.values())
    marks = sorted(
        {0, *(t - 1 for t in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384) if t <= steps), steps - 1}
    )
    marks = [marks[round(k * (len(marks) - 1) / 5)] for k in range(6)] if len(marks) > 6 else marks
    table = Table("RMSE at step", *(str(m + 1) for m in marks), title="Error over time", title_justify="left")
    for name, error in errors.items():
        at = error.rmse_at()
        table.add_row(name, *(f"{at[m]:.2g}" if m < len(at) and error.count_at[m] else "" for m in marks))
    return table


def _print_decisions(result: Comparison, out: Console) -> None:
    decisions = result.decisions
    if decisions is None:
        return
    a = decisions.agreement
    out.print(
        f"decisions ({decisions.rule} of {decisions.output}, {decisions.at}): "
        f"{a.agree} of {a.total} as in float ({a.percent:.2f} %)",
        markup=False,
        soft_wrap=True,
    )
    if decisions.correct:
        table = Table("accuracy", "correct", "rate", "95 % interval", title_justify="left")
        for source, tally in decisions.correct.items():
            low, high = wilson_interval(tally.agree, tally.total)
            rate = f"{tally.percent:.2f} %"
            table.add_row(source, f"{tally.agree} of {tally.total}", rate, f"{100 * low:.2f} – {100 * high:.2f} %")
        out.print(table)
        out.print(f"accuracy drop: {decisions.accuracy_drop:.2f} points")
