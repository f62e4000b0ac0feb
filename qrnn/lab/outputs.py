"""Write what a sweep leaves beside its records: table.csv, front.csv, sweep.json, plots and the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qrnn.errors import DataError
from qrnn.lab.effects import effects
from qrnn.lab.evaluate import Record
from qrnn.lab.pareto import csv_text
from qrnn.lab.report import render, varied
from qrnn.lab.results import FORMAT, REPORT, SUMMARY, TABLES, json_bytes
from qrnn.lab.sweep_result import SweepResult
from qrnn.system.atomic import write_atomically

BRIEF = ("key", "label", "scheme", "figures", "cost", "judgement", "latency", "refused")
"""The parts of a record that the summary has."""


def write_outputs(
    result: SweepResult, model: str, calibration: str, data: str, train: Sequence[str] = ()
) -> list[Path]:
    """Write all outputs to the sweep's folder, each whole or not at all, and return their paths.

    Plots are written only where matplotlib is installed. ``model``, ``calibration``, ``data`` are the paths that commands in the report
    name, and ``train`` the options of a training.
    """
    made = [r for r in result.records if "figures" in r]
    files = {
        TABLES[0]: csv_text(result.records, result.front).encode(errors="backslashreplace"),
        TABLES[1]: csv_text(result.front_records, range(len(result.front))).encode(errors="backslashreplace"),
        SUMMARY: json_bytes(
            {
                "format": FORMAT,
                "model": result.model,
                "target": result.target.name,
                "sequences": result.sequences,
                "steps": result.steps,
                "digests": result.digests,
                "versions": result.versions,
                "front_of": list(result.front_of),
                "front": [result.records[index]["key"] for index in result.front],
                "effects": effects(made),
                "points": [_brief(r) for r in result.records],
            }
        ),
        REPORT: render(result, model, calibration, data, train),
    }
    axes = [axis["name"] for axis in varied(made)]
    try:
        from qrnn.lab.plot import draw_all

        files |= draw_all(result.model, made, "gates" if "gates" in axes else axes[0] if axes else None)
    except DataError:  # no matplotlib: the report has the same plots
        pass
    for name, content in files.items():
        write_atomically(result.folder / name, content)
    return [result.folder / name for name in files]


def _brief(record: Record) -> Record:
    """Return a record without what only its own file and the report have: layers, tensors, gates, and decisions by class."""
    found = {part: record[part] for part in BRIEF if part in record}
    if found.get("judgement") is not None:
        found["judgement"] = {k: v for k, v in found["judgement"].items() if k not in ("classes", "confusion")}
    return found
