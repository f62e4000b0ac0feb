"""Run exported models in emulated microcontrollers, compare every bit with the host, measure them, and write docs/benchmarks/devices.md.

    python tools/bench_devices.py [--shared DIR] [--output docs/benchmarks/devices.md]

DIR holds ``models/`` and ``data/`` as for tools/measure_accuracy.py; without it only the layers of random weights are run. Needs the compilers
and emulators that `qrnn verify --emulate` names, and clang. The cost models in ``targets/`` are fitted anew to what is counted.
tools/bench_windows.py writes the page's section of convolutions and whole models, and tools/bench_small.py that of a small LSTM.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from device_figures import references
from device_page import COMPILERS, TIMED, Layer, Measured, Ran, page, write_costs
from page_section import SMALL, WINDOWS, section_of, with_section
from provenance import when

import qrnn
from qrnn import layers
from qrnn.devices.cycles.count import is_traced
from qrnn.devices.image import read_image
from qrnn.devices.measure import measure, work
from qrnn.devices.toolchain import find_toolchain
from qrnn.devices.verify import build_replay, verify
from qrnn.errors import DeviceError
from qrnn.export.expected import integer_sequences
from qrnn.export.folder import ExportedFolder, export_model, read_folder
from qrnn.model.quant_model import QuantModel
from qrnn.system.atomic import write_atomically
from qrnn.targets import Target, load_target, targets_folder

TARGETS = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "rv32imc")
MODELS = ("fsdd_lstm64", "fsdd_gru64", "fsdd_bilstm64", "mnist_gru128x2", "sentence_split_bilstm")
SEQUENCES = 100
SMALL_STEPS = 36
"""Longest sequences that a core with little RAM can hold whole, inputs, outputs and all."""
SMALL_RAM = 32768
WINDOW = 8
"""Bytes of text in a sequence for the sentence splitter, of whose data only two texts are at hand."""
SIZES = (16, 32, 64, 128, 256)
CELLS = ("lstm", "gru")
MODELLED = "cortex-m85"
"""A target that is timed without figures of CMSIS-NN beside it."""


def trained(shared: Path) -> dict[str, tuple[QuantModel, dict[str, Any]]]:
    """Return the default conversion of each trained model by name, with real data."""
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


def layer(cell: str, units: int, target: Target | None = None) -> QuantModel:
    """Return one layer with as many inputs as units, random weights of the usual size, and no head, as in CMSIS-NN's figures.

    Its multipliers are those that ``target`` asks for.
    """
    rng = np.random.default_rng(units)
    rows = {"lstm": 4, "gru": 3}[cell] * units
    weight = [rng.uniform(-1, 1, (rows, units)) / np.sqrt(units) for _ in range(2)]
    x = layers.input("x", features=units)
    y = (layers.lstm if cell == "lstm" else layers.gru)(x, *weight).output
    model = layers.model(cell, outputs={"y": y})
    multipliers = 31 if target is None else target.scheme.get("multipliers", 31)
    return qrnn.quantize(model, {"x": rng.normal(size=(2, 16, units))}, qrnn.Scheme(input="8", multipliers=multipliers))


def exported(model: QuantModel, target: Target, place: Path) -> ExportedFolder:
    """Export the model's C into a folder of ``place``."""
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


def run_layer(cell: str, units: int, target: Target, compiler: str | None = None) -> Layer:
    """Measure one layer; a compiler of `COMPILERS` is used where given, and then without the split into phases."""
    model = layer(cell, units, target)
    if (
        target.name == "cortex-m0plus"
    ):  # its small machine has not the flash; a Cortex-M3 runs the same code, and as many instructions
        target = replace(target, emulation=load_target("cortex-m3").emulation)
    with tempfile.TemporaryDirectory() as temporary:
        folder = exported(model, target, Path(temporary))
        if compiler is None:
            needs = measure(folder, target, 1)
        else:
            family, optimization = COMPILERS[compiler]
            needs = measure(folder, target, 1, phases=False, family=family, optimization=optimization)
    print(
        f"{cell} {units}, {target.name}, {compiler or 'as exported'}: {needs.instructions}", file=sys.stderr, flush=True
    )
    return Layer(cell, units, *work(model), needs)


def timed(peers: Sequence[Layer]) -> list[Layer]:
    """Return the LSTM layers among ``peers`` whose cycles are traced or modelled, and those of a target that has no peer."""
    known = [layer for layer in peers if is_traced(layer.needs.target)]
    return [*known, *(run_layer("lstm", units, load_target(MODELLED), TIMED) for units in SIZES)]


def functions(model: QuantModel, target: Target) -> list[tuple[str, int]]:
    """Return the functions of an exported model as they are linked, with their bytes."""
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


def emulator() -> str:
    """Return the version line of QEMU for Arm."""
    done = subprocess.run(("qemu-system-arm", "--version"), capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0] if done.returncode == 0 else "QEMU"


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/devices.md"))
    parser.add_argument("--targets", default=",".join(TARGETS))
    arguments = parser.parse_args()
    began = when()  # files may change while this runs
    targets = [load_target(name) for name in arguments.targets.split(",")]
    models = trained(arguments.shared) if arguments.shared is not None else {}
    with ThreadPoolExecutor(2) as pool:
        ran = [pool.submit(run_model, name, *models[name], t) for name in MODELS if name in models for t in targets]
        own = [pool.submit(run_layer, cell, units, t) for cell in CELLS for units in SIZES for t in targets]
        known = references()
        peers = {
            compiler: [
                pool.submit(run_layer, "lstm", units, t, compiler)
                for t in targets
                for units in sorted({u for c, name, u in known if (c, name) == (compiler, t.name)})
            ]
            for compiler in COMPILERS
        }
        by_compiler = {compiler: [job.result() for job in jobs] for compiler, jobs in peers.items()}
        run = Measured(
            command="python tools/bench_devices.py" + (" --shared DIR" if models else ""),
            when=began,
            emulator=emulator(),
            models=[job.result() for job in ran],
            layers=[job.result() for job in own],
            peers=by_compiler,
            timed=timed(by_compiler[TIMED]),
            code=functions(models["fsdd_lstm64"][0], load_target("cortex-m4")) if "fsdd_lstm64" in models else [],
            short_steps=SMALL_STEPS,
            short_ram=SMALL_RAM,
            window=WINDOW,
        )
    before = arguments.output.read_text(encoding="utf-8") if arguments.output.exists() else ""
    text = page(run)
    for title in (WINDOWS, SMALL):
        text = with_section(text, title, section_of(before, title))
    print(text)
    write_atomically(arguments.output, text.encode())
    write_costs(run.layers, targets_folder(), Path(__file__).parents[1] / "docs" / "add_a_target.md")
    if wrong := [r for r in run.models if r.difference is not None]:
        raise SystemExit(f"{len(wrong)} runs differ from the host")


if __name__ == "__main__":
    main()
