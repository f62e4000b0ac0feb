"""Export ordinary models as users do, import each, and write the table of docs/conformance.md: exporter, spelling, opset, verdict.

    python tools/exporters.py --records F.json [--work DIR] [--only torch|keras]    export and import, by the exporters that are installed
    python tools/exporters.py --records F.json --page                              write the table into docs/conformance.md

PyTorch's two exporters need torch and onnxscript; Keras's own and tf2onnx need tensorflow, keras and tf2onnx, in an environment of their own
where the two families do not go together. Records of exporters that did not run are kept. A model counts as imported when the float64
oracle agrees with ONNX Runtime on random sequences too.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from page_section import EXPORTERS, with_section

from qrnn.accuracy.onnxruntime_run import run_onnxruntime
from qrnn.conversion import random_inputs
from qrnn.equations.oracle import run_oracle_batch
from qrnn.errors import QrnnError
from qrnn.model.batch import make_batch
from qrnn.onnx_import import load_onnx
from qrnn.system.atomic import write_atomically

PAGE = Path(__file__).resolve().parents[1] / "docs" / "conformance.md"

STEPS = 12
"""Steps of the example inputs, which some exporters write into the file."""

DIFFERENCE = 1e-4
"""Most that the oracle may differ from ONNX Runtime, beside the largest magnitude: float32's rounding, over several layers and steps."""

Write = Callable[[Path], object]
"""Writes one model into a file; what it raises is the exporter's failure."""


@dataclass(frozen=True)
class Record:
    """What became of one model: ``verdict`` is ``imports``, ``refused``, ``wrong`` or ``exporter fails``, and ``note`` says why."""

    exporter: str
    spelling: str
    opset: int
    verdict: str
    note: str


def judged(exporter: str, spelling: str, write: Write, path: Path) -> Record:
    """Export one model, import it and compare it with ONNX Runtime."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            write(path)
    except Exception as error:  # noqa: BLE001  # exporters raise all kinds
        return Record(exporter, spelling, 0, "exporter fails", type(error).__name__)
    given = onnx.load(path, load_external_data=False)
    opset = next(o.version for o in given.opset_import if o.domain in ("", "ai.onnx"))
    try:
        model = load_onnx(path)
    except QrnnError as error:
        return Record(exporter, spelling, opset, "refused", str(error))
    try:
        data = random_inputs(model, sequences=2, steps=STEPS)
        batch = make_batch(model.inputs, data)
        got, want = run_oracle_batch(model, batch).outputs, run_onnxruntime(model, path, batch)
    except QrnnError as error:
        return Record(exporter, spelling, opset, "wrong", f"does not run: {error}")
    for name, values in want.items():
        peak = max(1.0, float(np.abs(values).max(initial=0.0)))
        if got[name].shape != values.shape or not np.abs(got[name] - values).max(initial=0.0) <= DIFFERENCE * peak:
            return Record(exporter, spelling, opset, "wrong", f"output {name!r} differs from ONNX Runtime's")
    return Record(exporter, spelling, opset, "imports", "")


def torch_models() -> Iterator[tuple[str, str, Write]]:
    """Yield exporter, spelling and what writes the file, for PyTorch's two exporters."""
    import torch
    from exporter_torch import Called, patterns

    names = {
        False: f"torch {torch.__version__.split('+')[0]}, classic",
        True: f"torch {torch.__version__.split('+')[0]}, dynamo",
    }
    for dynamo in (False, True):
        torch.manual_seed(0)
        for spelling, pattern in patterns().items():
            module = Called(pattern).eval()
            inputs = [f"x{k}" for k in range(len(pattern.inputs))]
            axes = {
                name: {0: "N"} if pattern.fixed_steps or value.ndim < 2 or value.shape[1] != STEPS else {0: "N", 1: "T"}
                for name, value in zip(inputs, pattern.inputs, strict=True)
                if value.shape[0] == 2
            }
            options: dict[str, Any] = (
                {"dynamo": True} if dynamo else {"dynamo": False, "opset_version": 17, "dynamic_axes": axes}
            )

            def write(
                path: Path,
                module: Any = module,
                given: tuple[Any, ...] = pattern.inputs,
                inputs: list[str] = inputs,
                options: Mapping[str, Any] = options,
            ) -> object:
                return torch.onnx.export(module, given, str(path), input_names=inputs, **options)

            yield names[dynamo], spelling, write


def keras_models() -> Iterator[tuple[str, str, Write]]:
    """Yield exporter, spelling and what writes the file, for Keras's own exporter and tf2onnx."""
    from exporter_keras import models, writers

    for exporter, writer in writers().items():
        for spelling, make in models().items():

            def write(path: Path, make: Any = make, writer: Any = writer) -> object:
                return writer(make(), path)

            yield exporter, spelling, write


def table(records: list[Record]) -> str:
    """Return the section of the page."""
    families: dict[str, list[Record]] = {}
    for record in records:
        families.setdefault(record.exporter, []).append(record)
    lines = [
        EXPORTERS,
        "",
        "Made by `python tools/exporters.py --records F.json --page`. Small untrained models, each exported as its library does by default, "
        f"imported, and compared with ONNX Runtime on two random sequences of {STEPS} steps in float, within {DIFFERENCE:g} of the largest "
        "magnitude.",
        "",
    ]
    for exporter, own in families.items():
        exported = [r for r in own if r.verdict != "exporter fails"]
        good = sum(r.verdict == "imports" for r in exported)
        lines.append(f"- {exporter}: {good} of {len(exported)} that export import")
    lines += ["", "| exporter | spelling | opset | verdict |", "|---|---|---|---|"]
    for record in records:
        verdict = record.verdict if not record.note else f"{record.verdict}: {record.note}"
        lines.append(f"| {record.exporter} | {record.spelling} | {record.opset or '-'} | {_cell(verdict)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Return text for one cell of a table, in one line of at most 300 characters."""
    one_line = " ".join(text.split()).replace("|", "\\|")
    return one_line if len(one_line) <= 300 else one_line[:299] + "…"


def main() -> None:
    """Run the exporters that are installed, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="keep the exported files in this folder")
    parser.add_argument("--only", choices=["torch", "keras"])
    parser.add_argument("--page", action="store_true", help="write the table of the records into docs/conformance.md")
    options = parser.parse_args()
    kept = json.loads(options.records.read_text()) if options.records.exists() else []
    records = [Record(**entry) for entry in kept]
    if options.page:
        write_atomically(PAGE, with_section(PAGE.read_text(), EXPORTERS, table(records)).encode())
        return
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    families = {"torch": torch_models, "keras": keras_models}
    found: list[Record] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.work or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for family, models in families.items():
            if options.only not in (None, family) or importlib.util.find_spec(family) is None:
                continue
            for number, (exporter, spelling, write) in enumerate(models()):
                record = judged(exporter, spelling, write, folder / f"{family}{number}.onnx")
                found.append(record)
                print(f"{exporter:28s} {spelling:40s} {record.verdict} {record.note[:150]}", flush=True)
    if not found:
        sys.exit("no exporter is installed: pip install torch onnxscript, or tensorflow keras tf2onnx")
    ran = {record.exporter for record in found}
    records = [*(r for r in records if r.exporter not in ran), *found]
    write_atomically(options.records, json.dumps([asdict(r) for r in records], indent=1).encode())


if __name__ == "__main__":
    main()
