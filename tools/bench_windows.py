"""Run exported convolutions and whole models in emulated microcontrollers, and write their section of docs/benchmarks/devices.md.

    python tools/bench_windows.py [--shared DIR] [--output docs/benchmarks/devices.md] [--targets NAME,…]

DIR holds ``models/whole/`` and ``data/``; without it only layers of random weights are run. Every output and state of every step is compared
with the host's. tools/bench_devices.py writes the rest of the page, and keeps this section as it is.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench_devices import emulator, exported
from device_page import table
from measure_accuracy import spoken_digits
from page_section import WINDOWS, with_section
from provenance import when

import qrnn
from qrnn import layers
from qrnn.devices.measure import Needs, layer_work, measure, sizes, work
from qrnn.devices.verify import verify
from qrnn.errors import QrnnError
from qrnn.export.expected import integer_sequences, random_sequences
from qrnn.export.replay import PHASES, Vectors, sequence_length
from qrnn.export.source import Exported
from qrnn.model.quant_model import QuantModel
from qrnn.model.window import EACH, Window
from qrnn.system.atomic import write_atomically
from qrnn.targets import Target, load_target

TARGETS = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m55", "rv32imc")
"""Cortex-M7 and M33 have the kernels of Cortex-M4."""
SEQUENCES = 20
STEPS = 30
"""The sequences of a model that are compared, and the steps of a random sequence of a layer."""

STACK = 2048
"""The bytes of stack that are left free where sequences are cut to fit a machine."""

Arrays = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """A causal convolution of ``channels`` to ``rows`` with ``taps`` over time and ``band_taps``, padded, over ``bands``."""

    channels: int
    rows: int
    taps: int
    band_taps: int = 1
    bands: int = 1
    groups: int = 1
    bits: int = 8

    def __str__(self) -> str:
        kind = (
            {1: "", self.channels: "depthwise"}.get(self.groups, f"{self.groups} groups,") if self.channels > 1 else ""
        )
        size = f"{self.taps}×{self.band_taps}" if self.bands > 1 else f"{self.taps} tap{'s' if self.taps > 1 else ''}"
        over = f", {self.bands} bands" if self.bands > 1 else ""
        return f"{kind} {self.channels} → {self.rows}, {size}{over}{', 16 bits' if self.bits == 16 else ''}".strip()

    def quantized(self) -> QuantModel:
        """Return the layer alone, with random weights of the usual size."""
        rng = np.random.default_rng(self.channels)
        own = self.channels // self.groups
        weight = rng.normal(size=(self.rows, own, self.taps, self.band_taps)) / np.sqrt(
            own * self.taps * self.band_taps
        )
        edge = self.band_taps // 2
        band = EACH if self.band_taps == 1 else Window(self.band_taps, before=edge, after=edge)
        x = layers.input("x", self.bands * self.channels)
        bias = 0.1 * rng.normal(size=self.rows)
        y = layers.conv(x, weight, bias, band=band, bands=self.bands, groups=self.groups)
        data = {"x": rng.normal(size=(3, STEPS, x.features))}
        return qrnn.quantize(layers.model("conv", {"y": y}), data, qrnn.Scheme(self.bits, input=str(self.bits)))


SHAPES = (
    Shape(32, 32, 1),
    Shape(32, 32, 3),
    Shape(64, 64, 3),
    Shape(64, 64, 3, bits=16),
    Shape(12, 32, 5),
    Shape(32, 32, 3, 3, 8),
    Shape(8, 16, 3, 3, 16),
    Shape(1, 8, 3, 3, 32),
    Shape(32, 32, 3, groups=4),
    Shape(32, 32, 5, groups=32),
    Shape(16, 16, 3, 3, 16, groups=16),
)


def digits(data: Path) -> tuple[Arrays, Arrays]:
    """Return clips of spoken digits."""
    calibration, test = spoken_digits(data)
    return calibration, {key: test[key] for key in ("x", "lengths")}


def vowels(data: Path) -> tuple[Arrays, Arrays]:
    """Return the training and the test clips of Japanese vowels."""
    with np.load(data / "japanese_vowels.npz") as d:
        found = [padded("x", d[f"{part}_frames"], d[f"{part}_lengths"]) for part in ("train", "test")]
    return found[0], found[1]


def noisy(data: Path) -> tuple[Arrays, Arrays]:
    """Return noisy clips: the first 50 for calibration, the others to test."""
    with np.load(data / "fsdd_gate_mask_io.npz") as d:
        found = padded("x", d["noisy"].astype(np.float32), d["lengths"])
    return {k: v[:50] for k, v in found.items()}, {k: v[50:] for k, v in found.items()}


def lines(data: Path) -> tuple[Arrays, Arrays]:
    """Return images of lines of digits, column by column: the first 100 for calibration, the others to test."""
    with np.load(data / "digits_ocr_test.npz") as d:
        x = (d["images"].transpose(0, 2, 1)[:, :, None] / 255).astype(np.float32)
        lengths = -(-d["widths"] // 4) * 4
    return {"x": x[:100], "lengths": lengths[:100]}, {"x": x[100:], "lengths": lengths[100:]}


def padded(name: str, frames: Any, lengths: Any) -> Arrays:
    """Return sequences that stand one after the other as an array [N, T, F] with their lengths."""
    x = np.zeros((len(lengths), int(lengths.max()), frames.shape[1]), np.float32)
    for row, end, length in zip(x, np.cumsum(lengths), lengths, strict=True):
        row[:length] = frames[end - length : end]
    return {name: x, "lengths": np.asarray(lengths)}


MODELS: Mapping[str, Callable[[Path], tuple[Arrays, Arrays]]] = {
    "fsdd_crnn": digits,
    "fsdd_crnn_causal": digits,
    "fsdd_dsconv_gru": digits,
    "fsdd_lnlstm": digits,
    "fsdd_attpool": digits,
    "fsdd_dualpath": digits,
    "vowels_convlstm": vowels,
    "digits_ocr": lines,
    "fsdd_gate_mask": noisy,
}


@dataclass(frozen=True)
class Row:
    """A layer or a model on a target: what it needs and how many sequences and steps were compared, or why it was not run."""

    what: str
    target: Target
    multiply_adds: int
    needs: Needs | None = None
    compared: str = ""
    difference: str | None = None
    refused: str | None = None


def fitting(sequences: Sequence[Vectors], exported: Exported, target: Target) -> list[Vectors]:
    """Return the sequences, cut where a model needs whole ones, so that they fit the RAM of the emulated machine beside `STACK`."""
    steps = max(sequence_length(exported, s) for s in sequences)
    if exported.whole is not None and target.emulation is not None:
        most = target.emulation.ram_bytes - STACK
        steps = max((n for n in range(1, steps + 1) if sizes(exported, target, n).ram_bytes <= most), default=1)
    timed = {p.name for p in exported.inputs if p.has_time}
    return [{k: v[:steps] if k in timed else v for k, v in s.items()} for s in sequences]


def run(what: str, model: QuantModel, target: Target, data: Arrays | None) -> Row:
    """Measure, and compare sequences of ``data``, or a random one, with the host."""
    macs = work(model)[0]
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = exported(model, target, Path(temporary))
            sequences = random_sequences(model, folder.exported, (STEPS,), seed=1)
            if data is not None:
                sequences = fitting(integer_sequences(model, folder.exported, data, SEQUENCES), folder.exported, target)
            needs = measure(folder, target, STEPS)
            if needs.problem is not None:
                return Row(what, target, macs, refused=needs.problem)
            done = verify(folder, target, sequences)
    except QrnnError as error:
        return Row(what, target, macs, refused=" ".join(str(error).split()))
    return Row(what, target, macs, needs, f"{done.sequences}, {done.steps:,}", done.difference)


MODEL_HEADS = (
    *("model", "target", "sequences, steps", "bits", "multiply-adds", "instructions a step", "ms"),
    *("W·x, R·h, gates, rest, windows", "flash", "RAM", "stack"),
)


def section(shapes: Sequence[Row], models: Sequence[Row], inside: Mapping[str, str], head: str) -> str:
    """Return the section; ``inside`` says which layers a model has and their multiply-adds."""
    text = [
        WINDOWS,
        "",
        head,
        "",
        "Instructions a step are the mean over a sequence, its end included; rest and phases as above, and windows for convolutions and pools.",
        "",
        "### Convolutions of random weights",
        "",
        f"Causal over time, padded over bands, and nothing else in the model; {STEPS} random steps are compared with the host. Operands have",
        "8 bits unless a row says 16.",
        "",
        *table(
            (
                "layer",
                "target",
                "bits",
                "multiply-adds",
                "instructions a step",
                "for a multiply-add",
                "code",
                "RAM",
                "stack",
            ),
            [_shape_row(row) for row in shapes],
        ),
    ]
    if models:
        text += [
            "### Whole models",
            "",
            f"Trained models, default conversion, {SEQUENCES} sequences of real data. Multiply-adds are those of a step of the input. RAM",
            f"of a model that needs whole sequences is that for {STEPS} steps; where a machine cannot hold its sequences, they are cut",
            "to what it holds.",
            "",
            *(f"- {name}: {each}" for name, each in inside.items()),
            "",
            *table(MODEL_HEADS, [_model_row(row) for row in models]),
        ]
    return "\n".join(text)


def _shape_row(row: Row) -> list[str]:
    if row.needs is None or row.needs.instructions is None or row.needs.flash_bytes is None:
        return [row.what, row.target.name, "–", f"{row.multiply_adds:,}", str(row.refused), *[""] * 4]
    needs = row.needs
    return [
        *(row.what, row.target.name, row.difference or "all equal", f"{row.multiply_adds:,}"),
        *(f"{needs.instructions or 0:,.0f}", f"{(needs.instructions or 0) / row.multiply_adds:.2f}"),
        *(f"{row.needs.flash_bytes - needs.constant_bytes:,}", f"{needs.ram_bytes:,}", f"{needs.stack_bytes:,}"),
    ]


def _model_row(row: Row) -> list[str]:
    if row.needs is None or row.needs.instructions is None or row.needs.phases is None:
        return [row.what, row.target.name, "–", "–", f"{row.multiply_adds:,}", str(row.refused), *[""] * 5]
    needs, phases = row.needs, row.needs.phases
    whole = sum(phases.values())
    return [
        *(row.what, row.target.name, row.compared, row.difference or "all equal", f"{row.multiply_adds:,}"),
        *(f"{needs.instructions:,.0f}", f"{1e3 * (needs.seconds or 0):.3f}"),
        ", ".join(f"{100 * phases[phase] / whole:.0f} %" for phase in PHASES),
        *(f"{needs.flash_bytes:,}", f"{needs.ram_bytes:,}", f"{needs.stack_bytes:,}"),
    ]


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/devices.md"))
    parser.add_argument("--targets", default=",".join(TARGETS))
    arguments = parser.parse_args()
    command = "python tools/bench_windows.py" + (" --shared DIR" if arguments.shared else "")
    began = when()  # files may change while this runs
    targets = [load_target(name) for name in arguments.targets.split(",")]
    shapes = [run(str(shape), shape.quantized(), target, None) for shape in SHAPES for target in targets]
    models, inside = [], {}
    for name, read in MODELS.items() if arguments.shared else ():
        calibration, test = read(arguments.shared / "data")
        path = arguments.shared / "models" / "whole" / f"{name}.onnx"
        model = qrnn.quantize(qrnn.load_onnx(path), calibration)
        inside[name] = ", ".join(f"{layer} {count:,.0f}" for layer, count in layer_work(model).items())
        models += [run(name, model, target, test) for target in targets]
    compilers = sorted({str(row.needs.compiler) for row in (*shapes, *models) if row.needs is not None})
    head = f"Made by `{command}` on {began}; {'; '.join([*compilers, emulator()])}."
    text = section(shapes, models, inside, head)
    print(text)
    page = arguments.output.read_text(encoding="utf-8")
    write_atomically(arguments.output, with_section(page, WINDOWS, text).encode())
    if wrong := [row for row in (*shapes, *models) if row.difference is not None]:
        raise SystemExit(f"{len(wrong)} runs differ from the host")


if __name__ == "__main__":
    main()
