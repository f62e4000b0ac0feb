"""Measure what multipliers of 16 significant bits, in place of 31, cost in accuracy, and print a table.

    python tools/measure_multipliers.py --shared DIR [MODEL …]

Converts every model of ``DIR/models`` for which there are data (or those that are named) by both, with weights and operands of 8 bits, and
compares each with float on data that the conversion has not seen: the judged output's SQNR about the mean, and decisions.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from shared_cases import data_of

import qrnn
from qrnn.accuracy.comparison import Comparison
from qrnn.errors import QrnnError

SCHEME = qrnn.Scheme(activations=8, input="8")


def reports(path: Path, shared: Path) -> tuple[Comparison, Comparison] | None:
    """Return the comparisons with multipliers of 31 and of 16 bits; None where there are no data or the model is refused."""
    try:
        model = qrnn.load_onnx(path)
        data = data_of(model, path, shared)
        if data is None:
            return None
        calibration, test = data
        wide, short = (qrnn.quantize(model, calibration, replace(SCHEME, multipliers=bits)) for bits in (31, 16))
        return qrnn.compare(model, wide, test), qrnn.compare(model, short, test)
    except QrnnError:
        return None


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("models", nargs="*", help="file names without .onnx; all when left out")
    arguments = parser.parse_args()
    print("| model | output | 31 bits | 16 bits | loss | decisions |\n|---|---|---|---|---|---|", flush=True)
    losses = []
    for path in sorted((arguments.shared / "models").glob("*.onnx")):
        found = reports(path, arguments.shared) if not arguments.models or path.stem in arguments.models else None
        if found is None:
            continue
        wide, short = found
        decisions = (
            ""
            if short.decisions is None
            else f"{short.decisions.agreement.percent - wide.decisions.agreement.percent:+.2f} points"
            if wide.decisions
            else ""
        )
        for name, error in wide.outputs.items():
            got = short.outputs[name].about_mean_db
            losses.append(error.about_mean_db - got)
            print(
                f"| {path.stem} | {name} | {error.about_mean_db:.2f} dB | {got:.2f} dB | {losses[-1]:+.3f} dB | {decisions} |",
                flush=True,
            )
    print(f"\nlargest loss {max(losses):.3f} dB, mean {sum(losses) / len(losses):.3f} dB, of {len(losses)} outputs")


if __name__ == "__main__":
    main()
