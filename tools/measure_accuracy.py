"""Measure default conversions of public trained models on real data, and write the table of docs/accuracy.md.

    python tools/measure_accuracy.py --shared DIR [--output docs/accuracy.md]

DIR holds ``models/`` and ``data/`` as described in the page that this tool writes. Each model is converted with default settings, then with
16-bit activations and with finer gates, to see what limits the first, and with recurrent weights of four bits; then with every method of
``--refine`` on and off (tools/accuracy_lab.py), beside the dynamic int8 of ONNX Runtime and PyTorch where these are installed.
"""

from __future__ import annotations

import argparse
import gzip
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accuracy_lab import Results, results, section
from accuracy_outcome import Truth
from page_section import DEFAULTS, section_of, with_section
from provenance import when

import qrnn
from qrnn.accuracy.comparison import Comparison
from qrnn.accuracy.metrics import wilson_interval
from qrnn.accuracy.onnxruntime_run import run_onnxruntime
from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.batch import make_batch
from qrnn.model.describe import describe
from qrnn.quantization.widths import Widths, parse_widths, widths_text
from qrnn.system.atomic import write_atomically

Arrays = dict[str, Any]

FSDD = ("lstm64", "gru64", "gru64x2", "bilstm64", "rnn64", "hardlstm64", "lstm64_dynamo", "gru64_dynamo")
CALIBRATION_CLIPS = 200
BAKED_STEPS = 20
"""Steps that the ``_dynamo`` graphs have baked in; ONNX Runtime runs no other number."""


@dataclass(frozen=True)
class Case:
    """One model with its data."""

    path: Path
    calibration: Arrays
    test: Arrays
    output: str
    reference: Callable[[Any], str] | None = None


def spoken_digits(data: Path) -> tuple[Arrays, Arrays]:
    """Return 200 training clips drawn with seed 0 and the 300 test clips with labels; frames are padded to the longest clip."""
    with np.load(data / "fsdd_logmel.npz") as d:
        frames, lengths, labels, test = d["frames"], d["lengths"], d["labels"], d["test"]
    ends = np.cumsum(lengths)
    x = np.zeros((len(lengths), int(lengths.max()), frames.shape[1]), np.float32)
    for row, end, length in zip(x, ends, lengths, strict=True):
        row[:length] = frames[end - length : end]
    training = np.flatnonzero(~test)
    chosen = training[np.random.default_rng(0).permutation(len(training))[:CALIBRATION_CLIPS]]
    calibration = {"x": x[chosen], "lengths": lengths[chosen]}
    return calibration, {"x": x[test], "lengths": lengths[test], "labels": labels[test]}


def mnist(data: Path) -> tuple[Arrays, Arrays]:
    """Return the first 128 test images as calibration, and all 10,000 with labels; no training images are at hand."""
    images = np.frombuffer(gzip.decompress((data / "t10k-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    labels = np.frombuffer(gzip.decompress((data / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8).astype(
        np.int64
    )
    x = images.reshape(-1, 28, 28).astype(np.float32) / 255
    return {"input.1": x[:128]}, {"input.1": x, "labels": labels}


def cases(shared: Path) -> list[Case]:
    """Return every model that is measured."""
    models, data = shared / "models", shared / "data"
    calibration, test = spoken_digits(data)
    found = [Case(models / f"fsdd_{name}.onnx", calibration, test, "logits") for name in FSDD]
    calibration, test = mnist(data)
    found.append(Case(models / "thirdparty" / "mnist_gru128x2.onnx", calibration, test, "83"))
    with np.load(data / "sentence_split_bilstm_io.npz") as d:
        text = {"input": d["input"]}
    found.append(Case(models / "thirdparty" / "sentence_split_bilstm.onnx", text, text, "output"))
    with np.load(data / "dtln_model_1_io.npz") as d:
        magnitude, mask = d["magnitude"][None], d["mask"][None].astype(np.float64)

    def mask_error(session: Any) -> str:
        got = session.run({"input_2": magnitude}, real="float64").outputs["activation_2"]
        return f"mask RMSE {np.sqrt(np.mean((got - mask) ** 2)):.4f}, max {np.abs(got - mask).max():.3f} against its authors' float"

    noisy = {"input_2": magnitude[:, :400]}
    dtln = models / "thirdparty" / "dtln_model_1.onnx"
    found.append(Case(dtln, noisy, {"input_2": magnitude}, "activation_2", mask_error))
    return found


@dataclass(frozen=True)
class Row:
    """One line of the table and of that of four-bit weights, a note on it, and what each variant gains over the default, in dB."""

    line: str
    four: str
    note: str | None
    gains: tuple[float, ...]
    methods: Results


def row(case: Case) -> Row:
    """Convert, compare and describe one model; finer gates keep the default's widths."""
    model = qrnn.load_onnx(case.path)
    quantized = qrnn.quantize(model, case.calibration)
    report = qrnn.compare(model, quantized, case.test, onnx_path=case.path)
    widths = parse_widths(quantized.provenance.scheme["widths"])
    chosen = widths_text(tuple((key, width) for key, width in widths if width != "8")) or "none"
    schemes = (
        qrnn.Scheme(activations=16),
        qrnn.Scheme(gates="pwl:512", widths=widths),
        qrnn.Scheme(activations=16, gates="pwl:512"),
    )
    others = [qrnn.quantize(model, case.calibration, scheme) for scheme in schemes]
    truth = Truth(model, case.path, case.test, case.output)
    variants = [truth.quantized(other).db for other in others]
    error = report.outputs[case.output]
    runtime = report.onnxruntime.get(case.output)
    cells = [
        case.path.stem,
        chosen,
        f"{error.sqnr_db:.1f}",
        f"{error.largest:.3f}",
        *(f"{db:.1f}" for db in variants),
        _agreement(report),
        *_accuracies(report),
        f"{runtime.largest:.1e}" if runtime else _baked_difference(model, case),
    ]
    note = None
    if case.reference:
        default, wide = (case.reference(qrnn.Session(q)) for q in (quantized, others[0]))
        note = f"- {case.path.stem}: {default}; with 16-bit activations {wide}"
    four = _four_bits(case, truth, quantized, widths)
    print(" | ".join(cells), note or "", "\n ", four, flush=True)
    return Row(
        "| " + " | ".join(cells) + " |",
        four,
        note,
        tuple(db - error.sqnr_db for db in variants),
        results(truth, case.calibration),
    )


def _four_bits(case: Case, truth: Truth, eight: qrnn.QuantModel, widths: Widths) -> str:
    """Return the row of a model with recurrent weights of four bits; the default's widths are kept."""
    model = truth.model
    four = qrnn.quantize(model, case.calibration, qrnn.Scheme(weights=4, widths=widths))
    wide = qrnn.quantize(model, case.calibration, qrnn.Scheme(weights=4, activations=16))
    report = qrnn.compare(model, four, case.test)
    error = report.outputs[case.output]
    wide_db = truth.quantized(wide).db
    sizes = [describe(q)["bytes"]["weights"] / 1024 for q in (eight, four)]
    cells = [
        case.path.stem,
        *(f"{size:.1f}" for size in sizes),
        f"{error.sqnr_db:.1f}",
        f"{error.largest:.3f}",
        f"{wide_db:.1f}",
        _agreement(report),
        *_accuracies(report),
    ]
    return "| " + " | ".join(cells) + " |"


def _baked_difference(model: qrnn.FloatModel, case: Case) -> str:
    """Compare ONNX Runtime with the oracle for a graph with a baked number of steps, on every test clip that is long enough."""
    long_enough = np.flatnonzero(case.test["lengths"] >= BAKED_STEPS)
    batch = make_batch(model.inputs, {"x": case.test["x"][long_enough, :BAKED_STEPS]})
    want = run_oracle_batch(model, batch).outputs[case.output]
    got = run_onnxruntime(model, case.path, batch)[case.output]
    return f"{np.abs(want - got).max():.1e} ({len(long_enough)} clips cut to {BAKED_STEPS} frames)"


def _agreement(report: Comparison) -> str:
    decisions = report.decisions
    return f"{decisions.agreement.agree} / {decisions.agreement.total}" if decisions else "-"


def _accuracies(report: Comparison) -> tuple[str, str]:
    if report.decisions is None or not report.decisions.correct:
        return "-", "-"
    floats, integers = report.decisions.correct["float"], report.decisions.correct["quantized"]
    low, high = wilson_interval(integers.agree, integers.total)
    return f"{100 * floats.rate:.2f} %", f"{100 * integers.rate:.2f} % ({100 * low:.1f} – {100 * high:.1f})"


def _span(values: Iterable[float]) -> str:
    """Return the least and the largest, with signs."""
    ordered = sorted(values)
    return f"{ordered[0]:+.1f} to {ordered[-1]:+.1f}"


PAGE = """# Accuracy on trained models

Made by `python tools/measure_accuracy.py --shared DIR` on {date} ({machine}, Python {python}, NumPy {numpy}).

Every model is converted with default settings (8-bit weights, widths of operands and inputs chosen by measured calibration error,
`pwl:128` gates, robust ranges) and compared with the float64 oracle. `fsdd_*`: spoken digits, calibrated on {clips} training
clips, decided at each clip's last frame of 300 test clips. `mnist_gru128x2`: calibrated on the first 128 of the 10,000 test images,
for want of training images. `sentence_split_bilstm`: its golden input, which is also its calibration. `dtln_model_1`: calibrated on
the first 400 of the clip's 1,218 frames; its decisions are the mask at 0.5, element by element.

The columns A16, fine gates, and both: SQNR with 16-bit activations (the input too), with `pwl:512` gates and the default's widths,
and with 16-bit activations and `pwl:512`.

| model | widths beside 8 | SQNR dB | max error | A16 dB | fine gates dB | both dB | decisions as float | float | qrnn (95 %) | ORT − oracle |
|---|---|---|---|---|---|---|---|---|---|---|
{rows}

{notes}

What limits the default: against it, 16-bit operands give {wide} dB, finer gates {fine} dB, both {both} dB. What is left with both is the
8-bit weights' noise; it comes first where that gain is small.
`ORT − oracle` is the largest difference between ONNX Runtime (float32) and the float64 oracle on the same data.

## Weights of four bits

`--weights 4`: W and R of recurrent layers, and the weights of convolutions, have four bits and a small integer for each 32 columns; dense
layers and embeddings have eight.
The option alone refines by `rounding,bias`, and a W that is under 15 % of its layer's weights keeps eight bits (docs/arithmetic.md,
section 6); nothing is trained again. Widths are the default's; A16: with 16-bit activations.

| model | KiB at 8 | KiB at 4 | SQNR dB | max error | A16 dB | decisions as float | float | qrnn (95 %) |
|---|---|---|---|---|---|---|---|---|
{four}
{methods}"""


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Measure accuracy on trained models and write docs/accuracy.md.")
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--output", type=Path, default=Path("docs/accuracy.md"))
    arguments = parser.parse_args()
    rows = [row(case) for case in cases(arguments.shared)]
    page = PAGE.format(
        date=when(),
        machine=platform.machine(),
        python=platform.python_version(),
        numpy=np.__version__,
        clips=CALIBRATION_CLIPS,
        rows="\n".join(r.line for r in rows),
        four="\n".join(r.four for r in rows),
        methods=section([r.methods for r in rows]),
        notes="\n".join(r.note for r in rows if r.note),
        wide=_span(r.gains[0] for r in rows),
        fine=_span(r.gains[1] for r in rows),
        both=_span(r.gains[2] for r in rows),
    )
    if arguments.output.is_file():
        page = with_section(page, DEFAULTS, section_of(arguments.output.read_text("utf-8"), DEFAULTS))
    write_atomically(arguments.output, page.encode())


if __name__ == "__main__":
    main()
