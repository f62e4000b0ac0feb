"""Write the section of docs/accuracy.md on default conversions: each shared model beside its floor, and its price against 8-bit operands.

    python tools/accuracy_page.py --shared DIR --records FOLDER [--only NAME …] [--page docs/accuracy.md]

DIR holds ``models/`` and ``data/``, as tools/shared_cases.py has them. What is measured of a model is kept in FOLDER, so that a run that was
interrupted goes on where it ended, and models can be measured one by one; what another revision measured is measured again. The section is
written only with ``--page``. Conversions are timed in processor time, with the kernels of a step compiled before.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure_accuracy import Arrays
from page_section import DEFAULTS, with_section
from provenance import revision, when
from shared_cases import data_of

import qrnn
from qrnn.conversion.noise import ENOUGH_DB, TOLERANCE_DB, judged_outputs
from qrnn.conversion.prices import MUCH_MORE, step_instructions
from qrnn.errors import QrnnError
from qrnn.lab.latency import measure_latency
from qrnn.model.batch import make_batch
from qrnn.model.file import save
from qrnn.quantization.scheme import Scheme
from qrnn.quantization.widths import parse_widths, widths_text
from qrnn.system.atomic import write_atomically

Record = dict[str, Any]

SECTION = """{title}

Made by `python tools/accuracy_page.py --shared DIR --records FOLDER --page docs/accuracy.md` on {when} ({machine}, Python {python}).

Every model that converts, with the defaults of target `generic`: `--activations auto`. Figures are dB about the mean on data that were not
calibrated on, where there are such data. *Floor*: the float64 model with its weights rounded to 8 bits, and nothing else. *Short*: by how
much the default is further than {tolerance:g} dB below its floor and has less than {enough:g} dB. *8 bits*: 8-bit operands and inputs
throughout (`--activations 8 --input-scheme 8`). *Price*: generic instructions a step (docs/tradeoffs.md, “What a width costs”) against those
of 8 bits. µs: the median of a step on one thread here. *Conversion*: seconds of processor time.

| model | floor | default | short | 8 bits | widths beside 8 | instructions | price | µs | µs at 8 | conversion |
|---|---|---|---|---|---|---|---|---|---|---|
{rows}

{summary}
"""


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Measure default conversions beside their floors.")
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--records", type=Path, required=True, help="folder in which measurements are kept")
    parser.add_argument("--only", nargs="*", default=(), help="names of models; all when left out")
    parser.add_argument("--page", type=Path, help="the page whose section is written")
    arguments = parser.parse_args()
    arguments.records.mkdir(parents=True, exist_ok=True)
    found: dict[str, Record] = {}
    for path in sorted((arguments.shared / "models").rglob("*.onnx")):
        if not arguments.only or path.stem in arguments.only:
            found[path.stem] = record = kept(path, arguments.shared, arguments.records)
            print(line(path.stem, record) if "floor" in record else f"{path.stem}: {record['problem']}", flush=True)
    if arguments.page is not None:
        write_atomically(
            arguments.page, with_section(arguments.page.read_text("utf-8"), DEFAULTS, section(found)).encode()
        )


def kept(path: Path, shared: Path, folder: Path) -> Record:
    """Return the record of one model, measured now unless this revision has measured it."""
    place, now = folder / f"{path.stem}.json", revision()
    if place.exists():
        earlier: Record = json.loads(place.read_text("utf-8"))
        if earlier["revision"] == now:
            return earlier
    record = {"revision": now, **measured(path, shared)}
    write_atomically(place, json.dumps(record, indent=1).encode())
    return record


def measured(path: Path, shared: Path) -> Record:
    """Return the figures of one model, or under ``problem`` why there are none."""
    try:
        model = qrnn.load_onnx(path)
        data = data_of(model, path, shared)
        if data is None:
            return {"problem": "imported; no data for it here"}
        return figures(model, *data)
    except QrnnError as error:
        return {"problem": str(error).splitlines()[0][:200]}


def figures(model: qrnn.FloatModel, calibration: Arrays, test: Arrays) -> Record:
    """Convert a model by default and with 8 bits throughout, and return what both come to."""
    narrow = qrnn.quantize(model, calibration, Scheme(activations=8, input="8"))
    qrnn.Session(narrow).warm_up()
    started = time.process_time()
    default = qrnn.quantize(model, calibration)
    seconds = time.process_time() - started
    reports = [qrnn.compare(model, made, test) for made in (default, narrow)]
    floor = reports[0].floor
    worst = max(
        judged_outputs(model),
        key=lambda name: _short(floor[name].about_mean_db, reports[0].outputs[name].about_mean_db),
    )
    got, plain = (report.outputs[worst].about_mean_db for report in reports)
    widths = parse_widths(default.provenance.scheme.get("widths", {}))
    return {
        "output": worst,
        "floor": floor[worst].about_mean_db,
        "default": got,
        "narrow": plain,
        "widths": widths_text(tuple((key, width) for key, width in widths if width != "8")),
        "instructions": [step_instructions(made) for made in (default, narrow)],
        "microseconds": [microseconds(made, test) for made in (default, narrow)],
        "seconds": seconds,
    }


def microseconds(model: qrnn.QuantModel, data: Arrays) -> float:
    """Return the microseconds of one step on one thread."""
    batch = make_batch(model.inputs, data)
    with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
        path = Path(temporary) / "model.qrnn"
        save(model, path)
        return float(measure_latency(path, batch.take(np.flatnonzero(batch.lengths)[:1]))["us"])


def _short(floor: float, got: float) -> float:
    return min(floor - TOLERANCE_DB, ENOUGH_DB) - got


def line(name: str, record: Record) -> str:
    """Return the row of one model."""
    short, (own, narrow), (us, us_narrow) = (
        _short(record["floor"], record["default"]),
        record["instructions"],
        record["microseconds"],
    )
    cells = [
        name,
        f"{record['floor']:.1f}",
        f"{record['default']:.1f}",
        "-" if short <= 0 else f"{short:.1f}",
        f"{record['narrow']:.1f}",
        record["widths"] or "none",
        f"{own:,.0f}",
        f"{100 * (own / narrow - 1):+.0f} %",
        f"{us:.1f}",
        f"{us_narrow:.1f}",
        f"{record['seconds']:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def section(found: dict[str, Record]) -> str:
    """Return the section of all models that were measured."""
    known = {name: record for name, record in found.items() if "floor" in record}
    short = {name: _short(r["floor"], r["default"]) for name, r in known.items()}
    within = sum(value <= 0 for value in short.values())
    dear = [name for name, r in known.items() if r["instructions"][0] > MUCH_MORE * r["instructions"][1]]
    summary = [
        f"{within} of {len(known)} models are within {TOLERANCE_DB:g} dB of their floor, or have {ENOUGH_DB:g} dB and more.",
        f"More than {100 * (MUCH_MORE - 1):.0f} % dearer than 8 bits: {', '.join(dear) or 'none'}.",
        *(f"\n- {name}: {record['problem']}" for name, record in found.items() if "problem" in record),
    ]
    return SECTION.format(
        title=DEFAULTS,
        when=when(),
        machine=platform.machine(),
        python=platform.python_version(),
        tolerance=TOLERANCE_DB,
        enough=ENOUGH_DB,
        rows="\n".join(line(name, record) for name, record in known.items()),
        summary="\n".join(summary),
    )


if __name__ == "__main__":
    main()
