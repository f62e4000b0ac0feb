"""The report of ``qrnn compare``: outputs, every gate and state, drift over time, saturation, decisions, accuracy."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from qrnn.accuracy.clipping import Saturation
from qrnn.accuracy.decisions import Decisions
from qrnn.accuracy.plot import draw
from qrnn.accuracy.probe import ErrorSum
from qrnn.model.parts import FloatArray
from qrnn.system import tables
from qrnn.system.reports import Picture, Report

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@dataclass
class SequenceErrors:
    """Σ want², Σ error² and the largest |error| of one output over each sequence [N]."""

    signal: FloatArray
    noise: FloatArray
    largest: FloatArray

    def add(self, rows: slice, want: FloatArray, got: FloatArray) -> None:
        """Add ``want`` and ``got`` [n, T, F] or [n, F], zero on padded steps, of the sequences ``rows``."""
        error = (want - got).reshape(len(want), -1)
        self.signal[rows] = (want.reshape(len(want), -1) ** 2).sum(axis=1)
        self.noise[rows] = (error**2).sum(axis=1)
        self.largest[rows] = np.abs(error).max(axis=1, initial=0.0)


@dataclass
class Comparison(Report):
    """The whole report; `to_dict` gives what ``qrnn compare --json`` writes."""

    model: str
    backend: str
    sequences: int
    steps: int
    outputs: dict[str, ErrorSum]
    onnxruntime: dict[str, ErrorSum]
    onnxruntime_note: str
    layers: dict[str, ErrorSum]
    decisions: Decisions | None
    saturation: list[Saturation]
    ranges: dict[str, float]
    weight_ranges: dict[str, float]
    random_calibration: bool
    floor: dict[str, ErrorSum] = field(default_factory=dict)
    """The errors of outputs where the weights alone are rounded (`qrnn.quantization.floor`): the rest of the scheme costs what is beyond."""
    by_sequence: dict[str, SequenceErrors] = field(default_factory=dict)
    """Errors by sequence for each output, in the order of the data; not part of `to_dict`."""
    against: str = "the float64 oracle"
    """What stands for float."""

    def over_time(self) -> dict[str, ErrorSum]:
        """Return the errors of outputs and of every layer's states h and c that have more than one step, for tables and plots of drift."""
        states = {name: e for name, e in self.layers.items() if name.rsplit(".", 1)[-1] in ("h", "c")}
        return {name: e for name, e in (self.outputs | states).items() if len(e.count_at) > 1}

    def describe_lines(self) -> Iterator[str]:
        """Yield the SQNR of each output, the decisions and the accuracy."""
        yield f"Comparison of {self.model!r}: {self.sequences} sequences, {self.steps} steps, backend {self.backend}"
        for name, error in self.outputs.items():
            least = f", floor {_db(self.floor[name].sqnr_db)}" if name in self.floor else ""
            yield f"  {name}: SQNR {_db(error.sqnr_db)}, {_db(error.about_mean_db)} about the mean{least}"
        if self.decisions is not None:
            agreement = self.decisions.agreement
            yield f"  decisions: {agreement.agree} of {agreement.total} as in float"
            for source, tally in self.decisions.correct.items():
                yield f"  accuracy of {source}: {tally.percent:.2f} %"
        yield "  str(report) has all of it as tables, report.plot() as a picture"

    def render(self, out: Console) -> None:
        """Print the whole report."""
        out.print(f"{self.model}: {self.sequences} sequences, {self.steps} steps, backend {self.backend}", markup=False)
        if self.random_calibration:
            out.print("calibrated on random numbers: these figures say nothing about real use", style="bold red")
        out.print(_outputs(self))
        if self.floor:
            out.print(
                "floor: the weights rounded to their width, and nothing else; what lies between is what the rest costs"
            )
        if self.onnxruntime_note:
            out.print(self.onnxruntime_note, markup=False, soft_wrap=True)
        if self.layers:
            out.print(_layers(self.layers))
        drift = self.over_time()
        if drift:
            out.print(_drift(drift))
        if self.ranges or self.weight_ranges:
            out.print(_ranges(self))
        saturated = [s for s in self.saturation if s.saturated]
        if saturated:
            rows = [
                (
                    s.where,
                    f"{s.saturated} of {s.total}",
                    f"{100 * s.saturated / s.total:.2f} %",
                    "" if s.largest is None else f"{s.largest:.2f} times the limit",
                )
                for s in saturated
            ]
            columns = (tables.name("saturated"), *map(tables.number, ("values", "share")), tables.text("up to"))
            out.print(tables.table(columns, rows, "Saturation"))
        elif self.layers:
            out.print("saturation: none anywhere")
        if self.decisions is not None:
            self.decisions.render(out)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Picture:
        """Return a picture of the error over time and of the SQNR of every gate and state; write it as PNG where a ``path`` is given.

        DataError where matplotlib is not installed, or the path cannot be written.
        """
        picture = Picture(draw(self.model, self.sequences, self.over_time(), self.layers | self.outputs))
        if path is not None:
            picture.save(path)
        return picture

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists."""
        return {
            "model": self.model,
            "backend": self.backend,
            "sequences": self.sequences,
            "steps": self.steps,
            "random_calibration": self.random_calibration,
            "outputs": {name: e.to_dict() for name, e in self.outputs.items()},
            "floor": {name: e.to_dict() for name, e in self.floor.items()},
            "onnxruntime_against_float64": {name: e.to_dict() for name, e in self.onnxruntime.items()},
            "onnxruntime_note": self.onnxruntime_note,
            "layers": {name: e.to_dict() for name, e in self.layers.items()},
            "decisions": None if self.decisions is None else self.decisions.to_dict(),
            "saturation": [asdict(s) for s in self.saturation],
            "range_used": self.ranges,
            "weight_rms_of_range": self.weight_ranges,
        }

    def failures(
        self, min_sqnr: float | None = None, min_agreement: float | None = None, max_accuracy_drop: float | None = None
    ) -> list[str]:
        """Return one line for each gate that is not met.

        ``min_sqnr`` in dB holds for every output that decides, ``min_agreement`` is in percent, ``max_accuracy_drop`` in percentage points.
        """
        problems = []
        judged = (
            self.outputs if self.decisions is None else {self.decisions.output: self.outputs[self.decisions.output]}
        )
        if min_sqnr is not None:
            problems += [
                f"{name}: SQNR about the mean {e.about_mean_db:.2f} dB is below {min_sqnr:g} dB"
                for name, e in judged.items()
                if not e.about_mean_db >= min_sqnr
            ]
        if min_agreement is not None:
            rate = self.decisions.agreement.percent if self.decisions else float("nan")
            if not rate >= min_agreement:
                problems.append(f"agreement {rate:.2f} % is below {min_agreement:g} %")
        if max_accuracy_drop is not None:
            drop = self.decisions.accuracy_drop if self.decisions else float("nan")
            if not drop <= max_accuracy_drop:
                problems.append(
                    "no labels in the data: the accuracy drop is unknown"
                    if np.isnan(drop)
                    else f"accuracy drop {drop:.2f} points is above {max_accuracy_drop:g}"
                )
        return problems


def _db(value: float) -> str:
    return "exact" if math.isinf(value) else f"{value:.1f} dB"


def _ratios(error: ErrorSum) -> tuple[str, str]:
    return _db(error.sqnr_db), _db(error.about_mean_db)


def _outputs(result: Comparison) -> Table:
    rows: list[tuple[str, ...]] = []
    for name, error in result.outputs.items():
        rows.append((name, "qrnn", *_ratios(error), f"{error.largest:.4g}", f"{error.rmse:.4g}"))
        if name in result.floor:
            least = result.floor[name]
            rows.append(("", "floor", *_ratios(least), f"{least.largest:.4g}", f"{least.rmse:.4g}"))
        if name in result.onnxruntime:
            other = result.onnxruntime[name]
            rows.append(("", "ONNX Runtime", *_ratios(other), f"{other.largest:.2g}", f"{other.rmse:.2g}"))
    figures = map(tables.number, ("SQNR", "about mean", "max error", "RMSE"))
    return tables.table((tables.name("output"), tables.text("source"), *figures), rows, f"Against {result.against}")


def _layers(layers: Mapping[str, ErrorSum]) -> Table:
    """Return a table with one row for each layer and direction, and one column for each gate or state."""
    grouped: dict[str, dict[str, ErrorSum]] = {}
    for key, error in layers.items():
        layer, quantity = key.rsplit(".", 1)
        grouped.setdefault(layer, {})[quantity] = error
    quantities = [q for q in ("i", "f", "g", "o", "r", "z", "n", "c", "h") if any(q in row for row in grouped.values())]
    rows = [
        (layer, *(_db(row[q].sqnr_db).removesuffix(" dB") if q in row else "" for q in quantities))
        for layer, row in grouped.items()
    ]
    return tables.table((tables.name("layer"), *map(tables.number, quantities)), rows, "SQNR of gates and states, dB")


def _ranges(result: Comparison) -> Table:
    rows = [(name, f"{100 * share:.1f} %", "at most") for name, share in result.ranges.items()]
    rows += [(name, f"{100 * share:.1f} %", "RMS") for name, share in result.weight_ranges.items()]
    columns = (tables.name("tensor or matrix"), tables.number("of its range"), tables.text(""))
    return tables.table(columns, rows, "Ranges used")


def _drift(errors: Mapping[str, ErrorSum]) -> Table:
    """Return a table with the RMSE at a few steps from the first to the last."""
    steps = max(len(e.count_at) for e in errors.values())
    marks = sorted(
        {0, *(t - 1 for t in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384) if t <= steps), steps - 1}
    )
    marks = [marks[round(k * (len(marks) - 1) / 5)] for k in range(6)] if len(marks) > 6 else marks
    rows = []
    for name, error in errors.items():
        at = error.rmse_at()
        rows.append((name, *(f"{at[m]:.2g}" if m < len(at) and error.count_at[m] else "" for m in marks)))
    columns = (tables.name("RMSE at step"), *(tables.number(str(m + 1)) for m in marks))
    return tables.table(columns, rows, "Error over time")
