"""Whole models of a folder on the CPU: qrnn beside ONNX Runtime, in 32-bit floats and quantized to 8 bits, and OpenVINO.

    pip install -e '.[peers]'
    python tools/bench_models.py FOLDER [--data FOLDER] [--batches 1 16] [--threads 1] [--output docs/benchmarks/models.md]

Every ONNX file of the folder is converted and run; what is refused is named with the reason. ``--data`` has inputs, NAME.npz for NAME.onnx with
arrays [N, T, …] by input name, for calibration and for runs; without them inputs are random. Writes the page, and beside it the figures,
under the page's name. Peers that are not installed are left out by name.

Models may be measured one at a time: with ``--keep``, rows of others stay what the figures beside the page say, if these were made on the same
machine, at the same revision and with the same options. ``--converted`` names a folder where converted models are kept, so that a later
call does not convert them again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench_model_page import page
from bench_model_rows import ModelResult, ModelRow, measure
from bench_model_runtimes import make_work, runtimes
from bench_report import load_average, machine
from bench_rows import OURS, Settings, positive
from bench_runtimes import Runtime
from provenance import when

from qrnn.backends.cpu.threads.pool import core_count
from qrnn.errors import QrnnError
from qrnn.system.atomic import write_atomically

PEERS = ("onnxruntime", "openvino")
SAMPLE_SECONDS, ROW_SECONDS = 0.02, 12.0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Compare speeds of whole models and write docs/benchmarks/models.md.")
    parser.add_argument("folder", type=Path, help="a folder of ONNX files")
    parser.add_argument("--models", nargs="+", help="names of files without their ending; all of the folder without it")
    parser.add_argument("--data", type=Path, help="a folder of inputs, NAME.npz for NAME.onnx; random ones without it")
    parser.add_argument("--steps", type=positive, default=50, help="time steps, where the file leaves them free")
    parser.add_argument("--batches", nargs="+", type=positive, default=[1, 16])
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--rounds", type=positive, default=9)
    parser.add_argument("--converted", type=Path, help="a folder for converted models, from which they are read again")
    parser.add_argument("--keep", action="store_true", help="keep the rows of other models that are beside the page")
    parser.add_argument("--quick", action="store_true", help="a trial: short samples, three rounds")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/models.md"))
    options = parser.parse_args(arguments)
    if options.threads > core_count():
        parser.error(f"--threads {options.threads}: this process may use {core_count()} cores")
    found = {path.stem: path for path in sorted(options.folder.glob("*.onnx"))}
    missing = [name for name in options.models or [] if name not in found]
    if missing or not found:
        parser.error(f"{options.folder}: {', '.join(missing) or 'no ONNX file'} is not there")
    options.paths = [found[name] for name in options.models or found]
    return options


def line(row: ModelRow) -> str:
    """Return a row as a line for the terminal."""
    times = ", ".join(f"{name} {us:.1f}" for name, us in row.us.items())
    ratio = row.ratio()
    text = f"{row.model}, batch {row.batch}: {times} µs"
    return text if ratio is None else f"{text}; ratio {ratio:.2f}"


def run(options: argparse.Namespace, every: Sequence[Runtime], command: str) -> ModelResult:
    """Measure every model, and print each row when it is done."""
    load = load_average()
    wanted = [one for one in every if one.package == OURS or one.package in options.peers]
    taking_part = [one for one in wanted if one.installed]
    absent = tuple(dict.fromkeys(one.package for one in wanted if not one.installed))
    for name in absent:
        print(f"{name} is not installed and left out", flush=True)
    settings = Settings((options.threads,), options.rounds, SAMPLE_SECONDS, ROW_SECONDS)
    if options.quick:
        settings = Settings(settings.threads, min(options.rounds, 3), SAMPLE_SECONDS / 10, ROW_SECONDS / 10)
    rows, refused = [], {}
    for path in options.paths:
        for batch in options.batches:
            try:
                work = make_work(path, batch, options.steps, options.data, options.converted)
            except QrnnError as reason:
                refused[path.stem] = str(reason)
                print(f"{path.stem}: {reason}", flush=True)
                break
            rows.append(measure(work, taking_part, settings))
            print(line(rows[-1]), flush=True)
    return ModelResult(tuple(rows), refused, absent, settings, command, load)


def as_json(result: ModelResult) -> bytes:
    """Return all figures as JSON, for programs."""
    content: dict[str, Any] = {
        **about(result),
        "load_before": result.load,
        "absent": list(result.absent),
        "refused": result.refused,
        "rows": [asdict(row) | {"best_peer": row.peer, "ratio": row.ratio()} for row in result.rows],
    }
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def about(result: ModelResult) -> dict[str, Any]:
    """Return what the rows of one page have in common."""
    return {"made": when(), "command": result.command, "machine": machine()}


def with_kept(result: ModelResult, path: Path) -> ModelResult:
    """Return the result with the rows of other models that a JSON file has; SystemExit where they are not of the same kind.

    Rows are in the order of their batches and models, those of the file first.
    """
    kept = json.loads(path.read_text("utf-8"))
    for name, now in about(result).items():
        if kept[name] != now:
            raise SystemExit(f"{path}: {name} is {kept[name]!r}, and now {now!r}; expected the same with --keep")
    fields = [field.name for field in dataclasses.fields(ModelRow)]
    rows = {(row["model"], row["batch"]): ModelRow(**{name: row[name] for name in fields}) for row in kept["rows"]}
    measured = {row.model for row in result.rows} | set(result.refused)
    rows = {key: row for key, row in rows.items() if key[0] not in measured}
    rows |= {(row.model, row.batch): row for row in result.rows}
    refused = {name: why for name, why in kept["refused"].items() if name not in measured} | result.refused
    return replace(result, rows=tuple(rows.values()), refused=refused)


def main(arguments: Sequence[str]) -> None:
    """Run the tool; see the module."""
    options = parse(arguments)
    result = run(options, runtimes(), command_of(options))
    figures = options.output.with_suffix(".json")
    if options.keep and figures.is_file():
        result = with_kept(result, figures)
    models = dict.fromkeys([*(row.model for row in result.rows), *result.refused])
    text = page(
        replace(result, command=shlex.join([*shlex.split(result.command), "--models", *models])), options.output.stem
    )
    print(text)
    write_atomically(options.output, text.encode())
    write_atomically(figures, as_json(result))


def command_of(options: argparse.Namespace) -> str:
    """Return the command but for what names models and files of this run."""
    given = ["python", "tools/bench_models.py", str(options.folder)]
    given += [] if options.data is None else ["--data", str(options.data)]
    given += ["--steps", str(options.steps), "--batches", *map(str, options.batches), "--threads", str(options.threads)]
    given += ["--peers", *options.peers, "--rounds", str(options.rounds), *["--quick"] * options.quick]
    return shlex.join(given)


if __name__ == "__main__":
    main(sys.argv[1:])
