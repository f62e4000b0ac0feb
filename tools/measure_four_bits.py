"""Measure `--weights 4` alone, and without refinement, on the models of docs/accuracy.md, and print the table of its section on that.

    python tools/measure_four_bits.py --shared DIR

A part of what tools/measure_accuracy.py measures, in ten minutes in place of hours.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from accuracy_outcome import Truth
from measure_accuracy import cases

import qrnn

SCHEMES = (qrnn.Scheme(weights=4), qrnn.Scheme(weights=4, refine="none"))


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Measure --weights 4 alone on trained models.")
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    arguments = parser.parse_args()
    print("| model | `--weights 4` | with `--refine none` |\n|---|---|---|")
    for case in cases(arguments.shared):
        model = qrnn.load_onnx(case.path)
        truth = Truth(model, case.path, case.test, case.output)
        cells = [truth.quantized(qrnn.quantize(model, case.calibration, scheme)).cell() for scheme in SCHEMES]
        print(f"| {case.path.stem} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
