"""Measure a small LSTM with one input on emulated microcontrollers, and write its section of docs/benchmarks/devices.md.

    python tools/bench_small.py [--output docs/benchmarks/devices.md]

Such layers process audio, sample by sample: at 48 kHz a step has 10,000 cycles of a core with 480 MHz.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from bench_devices import exported
from page_section import SMALL, with_section
from provenance import when

import qrnn
from qrnn import layers
from qrnn.devices.measure import Needs, measure
from qrnn.export.replay import PHASES
from qrnn.model.float_model import FloatModel
from qrnn.system.atomic import write_atomically
from qrnn.targets import load_target

UNITS = 40
TARGETS = ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
SCHEMES = {
    "16 bits": qrnn.Scheme(activations=16, input="16"),
    "16 bits, hard gates": qrnn.Scheme(activations=16, input="16", gates="hard"),
    "8 bits": qrnn.Scheme(input="8"),
}
OPTIMIZATION = "-O3"


def small() -> FloatModel:
    """Return an LSTM of `UNITS` units with one input, random weights of the usual size, and no head."""
    rng = np.random.default_rng(UNITS)
    weights = [rng.uniform(-1, 1, (4 * UNITS, columns)) / np.sqrt(UNITS) for columns in (1, UNITS)]
    return layers.model("small", outputs={"y": layers.lstm(layers.input("x", features=1), *weights).output})


def signals(steps: int, seed: int) -> dict[str, np.ndarray]:
    """Return four sequences of normal numbers."""
    return {"x": np.random.default_rng(seed).normal(size=(4, steps, 1))}


def row(scheme: str, target: str, needs: Needs, error: float) -> str:
    """Return a line of the table."""
    phases = needs.phases or {}
    parts = ", ".join(f"{phases.get(name, 0):,.0f}" for name in PHASES if name != "windows")
    cycles = "" if needs.cycles is None else f"{needs.cycles:,.0f}"
    figures = (f"{needs.instructions:,.0f}", parts, cycles, f"{needs.flash_bytes or 0:,}", f"{needs.ram_bytes:,}")
    return f"| {scheme} | {target} | {' | '.join(figures)} | {error:.1f} |"


def section() -> str:
    """Return the section."""
    model, lines = small(), []
    for name, scheme in SCHEMES.items():
        quantized = qrnn.quantize(model, signals(64, 1), scheme)
        error = -qrnn.compare(model, quantized, signals(512, 2)).outputs["y"].sqnr_db
        for target in map(load_target, TARGETS):
            with tempfile.TemporaryDirectory() as temporary:
                folder = exported(quantized, target, Path(temporary))
                needs = measure(folder, target, 1, family="gnu", optimization=OPTIMIZATION)
            lines.append(row(name, target.name, needs, error))
    return "\n".join(
        [
            SMALL,
            "",
            f"Made by `python tools/bench_small.py` on {when()}. An LSTM of {UNITS} units with one input, as audio effects",
            f"have them, with random weights; gcc {OPTIMIZATION}. Cycles are those of `qrnn fit`. The error is that of h against float64 with",
            "the gates of the model, in dB of h; hard gates are other functions than the model's, so that rounding is little of their error.",
            "A step of 48 kHz has 10,000 cycles at 480 MHz.",
            "",
            "| operands | target | instructions a step | W·x, R·h, gates, rest | cycles | flash | RAM | error, dB |",
            "|---|---|---|---|---|---|---|---|",
            *lines,
            "",
        ]
    )


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/devices.md"))
    arguments = parser.parse_args()
    text = section()
    print(text)
    before = arguments.output.read_text(encoding="utf-8") if arguments.output.exists() else ""
    write_atomically(arguments.output, with_section(before, SMALL, text).encode())


if __name__ == "__main__":
    main()
