"""Run exported models in emulated microcontrollers, compare every bit with the host, measure them, and write docs/benchmarks/devices.md.

    python tools/bench_devices.py [--shared DIR] [--output docs/benchmarks/devices.md]

DIR holds ``models/`` and ``data/`` as for tools/measure_accuracy.py; without it only the layers of random weights are run. Needs the compilers
and emulators that `qrnn verify --emulate` names.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from device_figures import CMSIS_NN, LEAST, LIMITS, bound

import qrnn
from qrnn import layers
from qrnn.atomic import write_atomically
from qrnn.devices.image import read_image
from qrnn.devices.measure import Needs, measure, work
from qrnn.devices.toolchain import find_toolchain
from qrnn.devices.verify import build_replay, verify
from qrnn.errors import DeviceError
from qrnn.export.expected import integer_sequences
from qrnn.export.folder import ExportedFolder, export_model, read_folder
from qrnn.export.replay import PHASES
from qrnn.model.quant_model import QuantModel
from qrnn.targets import Target, load_target

TARGETS = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "rv32imc")
MODELS = ("fsdd_lstm64", "fsdd_gru64", "fsdd_bilstm64", "mnist_gru128x2", "sentence_split_bilstm")
SEQUENCES = 100
SMALL_STEPS = 36
"""Longest sequences that a core with little RAM can hold whole, inputs, outputs and all."""
SMALL_RAM = 32768
WINDOW = 8
"""Bytes of text in a sequence for the sentence splitter, of whose data only two texts are at hand."""
SIZES = (32, 64, 128)
CELLS = ("lstm", "gru")


@dataclass(frozen=True)
class Ran:
    """A trained model on a target: sequences and steps compared, and the difference, or why it was not run."""

    model: str
    target: str
    sequences: int = 0
    steps: int = 0
    difference: str | None = None
    refused: str | None = None
    needs: Needs | None = None


def trained(shared: Path) -> dict[str, tuple[QuantModel, dict[str, Any]]]:
    """Name → default conversion and real data."""
    from measure_accuracy import cases

    found = {}
    for case in cases(shared):
        name = case.path.stem
        if name in MODELS:
            data = case.test
            if name == "sentence_split_bilstm":
                texts = np.lib.stride_tricks.sliding_window_view(data["input"], WINDOW, axis=1)
                data = {"input": texts.reshape(-1, WINDOW)}
            found[name] = (qrnn.quantize(qrnn.load_onnx(case.path), case.calibration), data)
    return found


def layer(cell: str, units: int) -> QuantModel:
    """One layer with as many inputs as units, random weights of the usual size, and no head: what CMSIS-NN's figures are of."""
    rng = np.random.default_rng(units)
    rows = {"lstm": 4, "gru": 3}[cell] * units
    weight = [rng.uniform(-1, 1, (rows, units)) / np.sqrt(units) for _ in range(2)]
    x = layers.input("x", features=units)
    y = (layers.lstm if cell == "lstm" else layers.gru)(x, *weight).output
    model = layers.model(cell, outputs={"y": y})
    return qrnn.quantize(model, {"x": rng.normal(size=(2, 16, units))}, qrnn.Scheme(input="8"))


def exported(model: QuantModel, target: Target, place: Path) -> ExportedFolder:
    """The model's C in a folder of ``place``."""
    export_model(model, target, place / "model", "model")
    return read_folder(place / "model", target)


def run_model(name: str, model: QuantModel, data: dict[str, Any], target: Target) -> Ran:
    """Compare every output and state of `SEQUENCES` sequences of real data, and measure."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = exported(model, target, Path(temporary))
        found = integer_sequences(model, folder.exported, data)
        ram = target.emulation.ram_bytes if target.emulation is not None else None
        if not folder.exported.streams and ram is not None and ram <= SMALL_RAM:
            timed = [p.name for p in folder.exported.inputs if p.has_time]
            found = [s for s in found if len(s[timed[0]]) <= SMALL_STEPS]
        try:
            needs = measure(folder, target, SMALL_STEPS)
            if needs.problem is not None:
                return Ran(name, target.name, refused=needs.problem)
            done = verify(folder, target, found[:SEQUENCES])
        except DeviceError as error:
            return Ran(name, target.name, refused=" ".join(str(error).split()))
    return Ran(name, target.name, done.sequences, done.steps, done.difference, needs=needs)


def run_layer(cell: str, units: int, target: Target) -> Needs:
    """Measure one layer."""
    with tempfile.TemporaryDirectory() as temporary:
        return measure(exported(layer(cell, units), target, Path(temporary)), target, 1)


def functions(model: QuantModel, target: Target) -> list[tuple[str, int]]:
    """The functions of an exported model as they are linked, with their bytes."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        names = {
            s.name
            for s in build_replay(exported(model, target, place), target, find_toolchain(target), 1, place).symbols
        }
        symbols = read_image(place / "replay.elf").symbols
        own = [
            s for s in symbols if s.kind == "function" and s.name.startswith(("qrnn_", "model_")) and s.name in names
        ]
        return [(s.name, s.size) for s in own]


def models_table(ran: Sequence[Ran]) -> Iterable[str]:
    """Lines of the trained models' table."""
    heads = ("model", "target", "sequences, steps", "bits", "instructions a step", "W·x, R·h, gates, rest")
    yield "| " + " | ".join((*heads, "flash", "of it code", "RAM", "stack", "ms a step")) + " |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for r in ran:
        if r.refused is not None or r.needs is None:
            yield f"| {r.model} | {r.target} | – | {r.refused} | | | | | | | |"
            continue
        n = r.needs
        assert n.flash_bytes is not None
        shares = ", ".join(f"{100 * v / sum((n.phases or {}).values()):.0f} %" for v in (n.phases or {}).values())
        code = n.flash_bytes - n.constant_bytes
        bits = "all equal" if r.difference is None else r.difference
        yield (
            f"| {r.model} | {r.target} | {r.sequences}, {r.steps:,} | {bits} | {n.instructions:,.0f} | {shares} | {n.flash_bytes:,} | {code:,} "
            f"| {n.ram_bytes:,} | {n.stack_bytes:,} | {1e3 * (n.seconds or 0):.3f} |"
        )


def layers_table(found: dict[tuple[str, int, str], Needs]) -> Iterable[str]:
    """Lines of the table of single layers: instructions a step, beside CMSIS-NN's and the least that this form of products takes."""
    yield "| layer | target | instructions a step | per multiply-add | W·x, R·h, gates, rest | bound | / bound | CMSIS-NN | ratio | asked |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for (cell, units, name), n in found.items():
        model = layer(cell, units)
        macs, _ = work(model)
        assert n.instructions is not None
        least = bound(n.target.core.kernels, name, macs)
        phases = ", ".join(f"{(n.phases or {}).get(p, 0):,.0f}" for p in PHASES)
        reference = CMSIS_NN.get((name, units)) if cell == "lstm" else None
        asked = LIMITS.get((cell, name, units))
        ratio = "" if reference is None else f"**{n.instructions / reference:.3f}**"
        if cell == "gru":
            ratio = f"{n.instructions / (found['lstm', units, name].instructions or 1):.3f} of the LSTM"
        peer = "" if reference is None else f"{reference:,}"
        limit = "" if asked is None else f"≤ {asked}"
        yield (
            f"| {cell.upper()} {units} | {name} | {n.instructions:,.0f} | {n.instructions / macs:.2f} | {phases} | {least:,.0f} "
            f"| {n.instructions / least:.2f} | {peer} | {ratio} | {limit} |"
        )


def costs(single: dict[tuple[str, int, str], Needs]) -> Iterable[str]:
    """Lines of the cost models: least squares over the relative errors of the single layers' instructions."""
    yield "| target | instructions_per_mac | instructions_per_unit | instructions_per_step | largest error |"
    yield "|---|---|---|---|---|"
    for name in dict.fromkeys(target for _, _, target in single):
        rows = [
            (*work(layer(cell, units)), n.instructions) for (cell, units, target), n in single.items() if target == name
        ]
        table = np.array(rows, np.float64)
        terms, counted = np.column_stack([table[:, :2], np.ones(len(table))]), table[:, 2]
        found = np.linalg.lstsq(terms / counted[:, None], np.ones(len(table)), rcond=None)[0]
        error = np.abs(terms @ found / counted - 1).max()
        yield f"| {name} | {found[0]:.3f} | {found[1]:.1f} | {found[2]:.0f} | {100 * error:.1f} % |"


def page(ran: Sequence[Ran], single: dict[tuple[str, int, str], Needs], code: Sequence[tuple[str, int]]) -> str:
    """docs/benchmarks/devices.md."""
    compilers = sorted({n.compiler for n in single.values() if n.compiler is not None})
    lines = [
        "# Exported models on emulated microcontrollers",
        "",
        f"Made by `python tools/bench_devices.py --shared DIR` on {datetime.now(UTC).date()}; {'; '.join(compilers)}; QEMU.",
        "",
        "Instructions are counted in the emulator, exactly and without the cost of counting (docs/add_a_target.md says how). They are no",
        "cycles: ms a step are an estimate, instructions by the cycles for one that the target states, over its board's clock. Flash is the",
        "difference between two linked programs, with and without the model. RAM is the state, the stack at its deepest, inputs, outputs and",
        "room for work.",
        "",
        "## Trained models, real data",
        "",
        "Each step's outputs and each sequence's final state are compared with the host's; equal means that no bit differs. RAM of models",
        f"that read whole sequences is for {SMALL_STEPS} steps, and on machines with less than {SMALL_RAM // 1024} KiB of it only sequences of",
        f"at most so many are run. {WINDOW} bytes of text are a sequence for sentence_split_bilstm.",
        "",
        *models_table(ran),
        "",
        "## One layer, as many inputs as units",
        "",
        "CMSIS-NN: `arm_lstm_unidirectional_s8`, gcc 12.2 -O3, counted in QEMU; figures that were given, which this command does not",
        "measure again. It has no GRU. The bound is the multiply-adds alone, in the fewest instructions that their form takes:",
        "",
        *(f"- {name}: {text}" for name, (_, text) in LEAST.items()),
        "",
        *layers_table(single),
        "",
    ]
    lines += [
        "## Cost models",
        "",
        "What `[cost]` of the targets says, by which instructions are estimated where none can be counted: multiply-adds of a step, values of",
        "gate functions, and a constant, fitted to the layers above.",
        "",
        *costs(single),
        "",
    ]
    if code:
        total = sum(size for _, size in code)
        parts = ", ".join(f"`{name}` {size}" for name, size in code)
        lines += [
            "## Code",
            "",
            f"fsdd_lstm64, an LSTM with its dense head, on cortex-m4: {total:,} bytes of functions: {parts}.",
            "",
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/devices.md"))
    parser.add_argument("--targets", default=",".join(TARGETS))
    arguments = parser.parse_args()
    targets = [load_target(name) for name in arguments.targets.split(",")]
    models = trained(arguments.shared) if arguments.shared is not None else {}
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(run_model, name, *models[name], t) for name in MODELS if name in models for t in targets]
        shapes = [(cell, units, t) for cell in CELLS for units in SIZES for t in targets]
        counted = [pool.submit(run_layer, *shape) for shape in shapes]
        ran = [job.result() for job in jobs]
        single = {(cell, units, t.name): job.result() for (cell, units, t), job in zip(shapes, counted, strict=True)}
    code = functions(models["fsdd_lstm64"][0], load_target("cortex-m4")) if "fsdd_lstm64" in models else []
    text = page(ran, single, code)
    print(text)
    write_atomically(arguments.output, text.encode())
    if wrong := [r for r in ran if r.difference is not None]:
        raise SystemExit(f"{len(wrong)} runs differ from the host")


if __name__ == "__main__":
    main()
