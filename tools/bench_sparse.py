"""Time and count layers with block-sparse weights beside the same layers with all weights.

    python tools/bench_sparse.py [--cell lstm] [--isa NAME] [--sizes 64,128,256,512] [--densities 1,0.5,0.25,0.125] [--block 8x4] [--rounds 25]
    python tools/bench_sparse.py --devices [--sizes 64,128,256] [--targets cortex-m4,cortex-m55]

Each model is one layer with as many inputs as units, random weights, and matrices pruned by `qrnn.prune`. On the CPU ``step`` is µs of one
step of a stream and ``sequence`` µs a step of `Session.run` on one sequence of 64 steps, by one thread; *all weights* is the same model in a
session whose thresholds leave lists out. The two sessions' results are compared before they are timed. Rounds are interleaved; figures are
medians, and ratios are medians of the rounds' ratios.

With ``--devices`` the layers are exported, compared with the host in the emulator, and counted as `docs/benchmarks/devices.md` says:
instructions a step, and bytes of the matrices' weights with their lists. What a layer takes without lists is that of the density 1.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import qrnn
from qrnn import layers
from qrnn.backends.cpu.tuning import Tuning
from qrnn.devices.measure import measure
from qrnn.devices.verify import verify
from qrnn.export.expected import random_sequences
from qrnn.export.folder import export_model, read_folder
from qrnn.model.quant_model import QuantModel
from qrnn.running.bench import Timed, interleaved, processor

STEPS = 64
SAMPLE_SECONDS = 0.02
TARGETS = "cortex-m4,cortex-m7,cortex-m55,cortex-m0plus,cortex-m3,rv32imc"
WITHOUT_LISTS = Tuning(byte_list_share=0.0, word_list_share=0.0)


def layer(cell: str, units: int, density: float, block: tuple[int, int]) -> tuple[QuantModel, Any]:
    """Return one pruned layer with random weights of the usual size, and the float arrays that it was calibrated with."""
    rng = np.random.default_rng(units)
    rows = {"lstm": 4, "gru": 3}[cell] * units
    weight = [rng.uniform(-1, 1, (rows, units)) / np.sqrt(units) for _ in range(2)]
    y = getattr(layers, cell)(layers.input("x", features=units), *weight).output
    data = rng.normal(size=(1, STEPS, units)).astype(np.float32)
    model = (
        qrnn.prune(layers.model(cell, outputs={"y": y}), density, block)
        if density < 1
        else layers.model(cell, outputs={"y": y})
    )
    return qrnn.quantize(model, {"x": data}, qrnn.Scheme(input="8")), data


def time_cpu(model: QuantModel, data: Any, isa: str | None, rounds: int) -> list[str]:
    """Return, for a step and for a sequence, µs with all weights, µs by the session's choice, and how many times less that is."""
    sessions = {
        "all": qrnn.Session(model, "cpu", 1, isa=isa, tuning=WITHOUT_LISTS),
        "own": qrnn.Session(model, "cpu", 1, isa=isa),
    }
    timed, results = {}, {}
    for name, session in sessions.items():
        stream = session.stream()
        stream.inputs["x"][...] = data[:, 0]
        stream.advance()
        results[name] = (session.run({"x": data}).outputs["y"], stream.outputs["y"].copy())
        timed[f"step {name}"] = Timed(stream.advance)
        timed[f"sequence {name}"] = Timed(partial(session.run, {"x": data}))
    if not all(np.array_equal(a, b) for a, b in zip(*results.values(), strict=True)):
        raise SystemExit("lists of tiles give other results: not timed")
    samples = interleaved(timed, rounds, SAMPLE_SECONDS)
    cells = []
    for kind, steps in (("step", 1), ("sequence", STEPS)):
        pair = [samples[f"{kind} {name}"] for name in sessions]
        ratio = median(a / b for a, b in zip(*pair, strict=True))
        cells += [*(f"{median(v) / steps * 1e6:.2f}" for v in pair), f"{ratio:.2f}"]
    return cells


def count_device(model: QuantModel, name: str) -> tuple[float | None, int | None, int, str]:
    """Return instructions a step, bytes of flash, bytes of weights with lists, and what went wrong; the bits are the host's."""
    target = qrnn.load_target(name)
    if (
        name == "cortex-m0plus"
    ):  # its emulated machine is small; a Cortex-M3 runs the same code, and as many instructions
        target = replace(target, emulation=qrnn.load_target("cortex-m3").emulation)
    with tempfile.TemporaryDirectory() as temporary:
        export_model(model, target, Path(temporary) / "model", "model")
        folder = read_folder(Path(temporary) / "model", target)
        needs = measure(folder, target, 1, phases=False)
        if needs.problem is not None:
            return None, None, folder.exported.weight_bytes, needs.problem
        found = verify(folder, target, random_sequences(model, folder.exported, (1, 5), seed=1))
        if found.difference is not None:
            raise SystemExit(f"{name}: {found.difference}")
    return needs.instructions, needs.flash_bytes, folder.exported.weight_bytes, ""


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", choices=("lstm", "gru"), default="lstm")
    parser.add_argument("--isa")
    parser.add_argument("--sizes", default="64,128,256,512")
    parser.add_argument("--densities", default="1,0.5,0.25,0.125")
    parser.add_argument("--block", default="8x4")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--devices", action="store_true")
    parser.add_argument("--targets", default=TARGETS)
    options = parser.parse_args()
    rows, columns = (int(n) for n in options.block.split("x"))
    sizes, densities = map(int, options.sizes.split(",")), [float(d) for d in options.densities.split(",")]
    print(f"{options.cell}, blocks of {rows} rows and {columns} columns, qrnn {qrnn.__version__}")
    if options.devices:
        print(
            "\n| device | units | density | instructions a step | times fewer | weights, bytes | flash, bytes |\n|---|--:|--:|--:|--:|--:|--:|"
        )
    else:
        print(f"{processor()}, {options.isa or 'best instruction set'}\n")
        print(
            "| units | density | step, all weights | step | times | sequence, all weights | sequence | times |\n|--:|--:|"
            + "--:|" * 6
        )
    for units in sizes:
        models = {d: layer(options.cell, units, d, (rows, columns)) for d in densities}
        if not options.devices:
            for density, (model, data) in models.items():
                print(
                    f"| {units} | {density:g} | {' | '.join(time_cpu(model, data, options.isa, options.rounds))} |",
                    flush=True,
                )
            continue
        for name in options.targets.split(","):
            whole: float | None = None
            for density, (model, _) in models.items():
                count, flash, weights, problem = count_device(model, name)
                whole = count if whole is None else whole
                if count is None or whole is None:
                    print(f"| {name} | {units} | {density:g} | {problem} | | {weights:,} | |", flush=True)
                    continue
                print(
                    f"| {name} | {units} | {density:g} | {count:,.0f} | {whole / count:.2f} | {weights:,} | {flash:,} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
