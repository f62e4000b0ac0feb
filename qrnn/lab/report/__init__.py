"""Render the report of a sweep as one HTML file that needs no other file and no network."""

from __future__ import annotations

import html
import json
import shlex
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import Any

from qrnn.lab.axes import convert_command
from qrnn.lab.evaluate import Record
from qrnn.lab.pareto import FIGURES
from qrnn.lab.sweep_result import SweepResult
from qrnn.lab.training import Configuration

SCRIPTS = ("charts.js", "effects.js", "classes.js", "details.js", "main.js")
DETAILS = (
    "outputs",
    "layers",
    "drift",
    "saturation",
    "ranges",
    "weight_ranges",
    "tensors",
    "roundings",
    "decisions",
    "worst",
)
DETAILED = 250
"""The number of points whose details are shown, beside the front's."""


def render(result: SweepResult, model: str, calibration: str, data: str, train: Sequence[str] = ()) -> bytes:
    """Return the page; ``model``, ``calibration`` and ``data`` are the paths that its commands name, ``train`` the options of a training."""
    here = files(__name__)
    title = f"{result.model}: accuracy against cost"
    content = json.dumps(report_data(result, model, calibration, data, train), allow_nan=False, separators=(",", ":"))
    page = Template((here / "report.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        css=(here / "report.css").read_text(encoding="utf-8"),
        data=content.replace("<", "\\u003c"),  # nothing in a name can end the element that holds it
        script="\n".join((here / script).read_text(encoding="utf-8") for script in SCRIPTS),
    )
    return page.encode(errors="backslashreplace")  # names of files may be no Unicode


def report_data(
    result: SweepResult, model: str, calibration: str, data: str, train: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the data that the page's script reads."""
    made = [(index, r) for index, r in enumerate(result.records) if "figures" in r]
    position = {index: k for k, (index, _) in enumerate(made)}
    curves: dict[str, int] = {}
    listed: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    for index, record in made:
        point = _point(record)
        point["command"] = _commands(result, record, model, calibration, data, train)
        if len(points) < DETAILED or index in result.front:
            point["details"] = {key: record[key] for key in DETAILS}
            point["details"]["byClass"] = _by_class(record)
            point["details"]["gates"] = [_gate(gate, curves, listed) for gate in record["gates"]]
        points.append(point)
    records = [record for _, record in made]
    float_accuracy = _accuracy(records, "float")
    return {
        "points": points,
        "figures": [
            {"name": name, "key": f.key, "title": f.title, "more": f.more_is_better, "digits": f.digits}
            for name, f in FIGURES.items()
            if any(r["figures"].get(f.key) is not None for r in records)
        ],
        "axes": varied(records),
        "front": [position[index] for index in result.front],
        "frontOf": list(result.front_of),
        "curves": listed,
        "float": {} if float_accuracy is None else {"accuracy": float_accuracy},
        "exactDb": 1
        + max([r["figures"]["sqnr_db"] for r in records if r["figures"]["sqnr_db"] is not None], default=100),
        "outputs": list(records[0]["outputs"]) if records else [],
        "refused": [{"label": r["label"], "refused": r["refused"]} for r in result.records if "refused" in r],
        "subtitle": _subtitle(result, records, float_accuracy),
        "footer": _footer(result, records, calibration, data),
    }


def varied(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return the axes that have more than one value, the one with the most values last; all axes where there is one configuration."""
    found = []
    for name in records[0]["scheme"] if records else ():
        values = list(dict.fromkeys(str(r["scheme"][name]) for r in records))
        if len(values) > 1 or len(records) == 1:
            found.append({"name": name, "values": values})
    order = {name: rank for rank, name in enumerate(("weights", "activations", "gates"))}
    return sorted(found, key=lambda axis: order.get(axis["name"], len(order)))


def _point(record: Record) -> dict[str, Any]:
    judgement = record["judgement"] or {}
    intervals = {
        "accuracy": judgement.get("accuracy", {}).get("quantized", {}).get("confidence_95"),
        "agreement": judgement.get("agreement", {}).get("confidence_95"),
    }
    return {
        "key": record["key"],
        "label": record["label"],
        "scheme": record["scheme"],
        "figures": {"latency_us": None, **record["figures"]},
        "counted": record["cost"]["counted"],
        "linked": record["cost"]["linked"],
        "intervals": {name: [100 * bound for bound in found] for name, found in intervals.items() if found is not None},
        "latency": record.get("latency"),
        "details": None,
    }


def _by_class(record: Record) -> dict[str, Any]:
    """Return accuracy and confusion by class, with no class where there are no labels."""
    judgement = record["judgement"] or {}
    return {
        "classes": judgement.get("classes", []),
        "confusion": judgement.get("confusion"),
        "count": judgement.get("class_count", 0),
    }


def _commands(
    result: SweepResult, record: Record, model: str, calibration: str, data: str, train: Sequence[str]
) -> str:
    """Return the commands that make a configuration's model and measure it."""
    scheme = Configuration(**record["scheme"])
    convert = convert_command(
        scheme, model, calibration, result.target.name, "point.qrnn", result.stream, result.values, train
    )
    return f"{convert}\n{shlex.join(['qrnn', 'compare', model, 'point.qrnn', '--data', data])}"


def _gate(gate: dict[str, Any], curves: dict[str, int], listed: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a gate without its curve, which goes to ``listed`` once."""
    curve = {name: gate[name] for name in ("x", "true", "integer")}
    key = json.dumps(curve)
    if key not in curves:
        curves[key] = len(listed)
        listed.append(curve)
    return {**{name: v for name, v in gate.items() if name not in curve}, "curve": curves[key]}


def _accuracy(records: Sequence[Record], source: str) -> float | None:
    for record in records:
        found = (record["judgement"] or {}).get("accuracy", {}).get(source)
        if found is not None:
            return 100 * float(found["rate"])
    return None


def _subtitle(result: SweepResult, records: Sequence[Record], float_accuracy: float | None) -> str:
    parts = [f"{len(result.records)} configurations on {result.sequences} sequences, {result.steps:,} steps"]
    if float_accuracy is not None:
        parts.append(f"float accuracy {float_accuracy:.2f} %")
    runtime = [e["max_error"] for r in records[:1] for e in r["onnxruntime"].values() if e["max_error"] is not None]
    if runtime:
        parts.append(f"ONNX Runtime and the float64 model differ by {max(runtime):.1e} at most")
    counted = [r for r in records if r["cost"]["counted"]]
    if counted and len(counted) == len(records):
        parts.append(
            f"target {result.target.name}: linked by {counted[0]['cost']['compiler']}, instructions counted in the emulator"
        )
    else:
        problem = next((r["cost"]["problem"] for r in records if r["cost"]["problem"]), None)
        parts.append(
            f"target {result.target.name}: ~ marks figures of the cost model" + (f" ({problem})" if problem else "")
        )
    return "; ".join(parts) + "."


def _footer(result: SweepResult, records: Sequence[Record], calibration: str, data: str) -> str:
    v, d = result.versions, result.digests
    latency = next((r["latency"] for r in records if "latency" in r), None)
    parts = [
        f"qrnn {v['qrnn']}, contract {v['contract']}, NumPy {v['numpy']}, compiler {v['compiler']}, emulator {v['emulator']}"
    ]
    parts += [
        f"model {d['model'][:12]}, calibration {calibration} {d['calibration'][:12]}, data {data} {d['data'][:12]}"
    ]
    parts += [f"latency on {latency['processor']}, one thread"] if latency else []
    return " · ".join(parts)
