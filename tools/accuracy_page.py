"""Print what the default conversion of each shared model comes to, beside its floor, and its price against 8-bit operands.

    python tools/accuracy_page.py --shared DIR [--only NAME …]

DIR holds ``models/`` and ``data/`` as tools/measure_accuracy.py describes them. Figures are dB about the mean on the test data; *floor* is
the float model with nothing but its weights rounded. *Within* says whether the default is within the tolerance of a conversion
(`qrnn.conversion.noise`). Instructions are those of the table by which a search counts cost (`qrnn.conversion.prices`); microseconds are
measured on this machine, one thread. Models that cannot be imported are named at the end.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from measure_accuracy import Case, cases

import qrnn
from qrnn.conversion.noise import ENOUGH_DB, TOLERANCE_DB
from qrnn.conversion.prices import step_instructions
from qrnn.errors import QrnnError
from qrnn.lab.latency import measure_latency
from qrnn.model.batch import Batch, make_batch
from qrnn.model.file import save
from qrnn.quantization.scheme import AUTO, Scheme
from qrnn.quantization.widths import parse_widths, widths_text

HEAD = """| model | floor | default | within | 8 bits | widths beside 8 | instructions | 8 bits | µs a step | 8 bits | conversion |
|---|---|---|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Print default conversions beside their floors.")
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--only", nargs="*", default=(), help="names of models; all when left out")
    arguments = parser.parse_args()
    found = cases(arguments.shared)
    print(HEAD)
    for case in found:
        if not arguments.only or case.path.stem in arguments.only:
            print(row(case), flush=True)
    for path in sorted((arguments.shared / "models").rglob("*.onnx")):
        if path not in {case.path for case in found} and not arguments.only:
            try:
                qrnn.load_onnx(path)
                print(f"- {path.stem}: imported, and without data here")
            except QrnnError as error:
                print(f"- {path.stem}: not imported: {str(error).splitlines()[0][:100]}")


def row(case: Case) -> str:
    """Return the line of one model."""
    model = qrnn.load_onnx(case.path)
    started = time.perf_counter()
    default = qrnn.quantize(model, case.calibration, Scheme(activations=AUTO))
    seconds = time.perf_counter() - started
    narrow = qrnn.quantize(model, case.calibration, Scheme(activations=8, input="8"))
    reports = [qrnn.compare(model, made, case.test) for made in (default, narrow)]
    floor, got, plain = (
        e.about_mean_db for e in (reports[0].floor[case.output], *(r.outputs[case.output] for r in reports))
    )
    batch = make_batch(model.inputs, case.test).take(slice(1))
    widths = parse_widths(default.provenance.scheme.get("widths", {}))
    chosen = widths_text(tuple((key, width) for key, width in widths if width != "8"))
    instructions = [step_instructions(made) for made in (default, narrow)]
    micros = [latency(made, batch) for made in (default, narrow)]
    cells = [
        case.path.stem,
        f"{floor:.1f}",
        f"{got:.1f}",
        "yes"
        if got >= min(floor - TOLERANCE_DB, ENOUGH_DB)
        else f"no, by {min(floor - TOLERANCE_DB, ENOUGH_DB) - got:.1f} dB",
        f"{plain:.1f}",
        chosen or "none",
        *(f"{count:,.0f}" for count in instructions),
        *(f"{us:.1f}" for us in micros),
        f"{seconds:.1f} s",
    ]
    return "| " + " | ".join(cells) + " |"


def latency(model: qrnn.QuantModel, batch: Batch) -> float:
    """Return the microseconds of one step on one thread."""
    with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
        path = Path(temporary) / "model.qrnn"
        save(model, path)
        return float(measure_latency(path, batch)["us"])


if __name__ == "__main__":
    main()
