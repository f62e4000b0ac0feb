"""The command ``qrnn run``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from qrnn.cli.common import (
    BackendOption,
    IsaOption,
    QuietOption,
    check_json,
    check_output,
    console,
    print_json,
    progress,
    report_console,
)


def run(
    model: Annotated[Path, typer.Argument(metavar="MODEL.qrnn", help="A .qrnn file.")],
    input: Annotated[
        Path,
        typer.Option(
            "--input", "-i", help="DATA: .npz, .npy, Zarr or Parquet; one array per graph input, batch first."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="OUT: .npz, .npy or .zarr; one array per graph output, batch first.")
    ],
    backend: BackendOption = "cpu",
    threads: Annotated[int | None, typer.Option(help="Cores to use; all when left out.")] = None,
    isa: IsaOption = None,
    steps: Annotated[
        str, typer.Option(metavar="all|last", help="Of outputs over time write all steps, or each sequence's last one.")
    ] = "all",
    real: Annotated[
        str | None,
        typer.Option(metavar="float32|float64", help="The type of the outputs; without it that of the inputs."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Run a converted model on whole sequences, which are read, computed and written a few at a time."""
    from qrnn.data_files.opening import open_data
    from qrnn.data_files.sinks import check_sink, is_zarr_name, open_sink
    from qrnn.hybrid.file import load
    from qrnn.model.real_types import asked_type
    from qrnn.running.in_pieces import PieceRuns
    from qrnn.running.session import Session

    if not is_zarr_name(output):
        output = check_output(output, (model, input))
    asked_type(real)
    if not is_zarr_name(output):
        check_json(json, output)
    quantized = load(model)
    check_sink(output, tuple(o.name for o in quantized.outputs))
    session = Session(quantized, backend, threads, isa)
    start = time.perf_counter()
    with (
        open_data(input, quantized) as data,
        open_sink(output, data.size) as sink,
        progress("running", shown=not quiet) as report,
    ):
        runs = PieceRuns(session, steps, real)
        for piece in data.chunks():
            sink.write(runs.outputs(piece.arrays, piece.start))
            report(piece.stop, data.size)
    seconds = time.perf_counter() - start
    if json:
        print_json(
            {
                "output": str(output),
                "outputs": {name: list(shape) for name, shape in runs.shapes.items()},
                "sequences": runs.sequences,
                "steps": runs.steps,
                "seconds": seconds,
                "beyond_calibrated_range": {b.name: b.clipped for b in runs.beyond},
            }
        )
        return
    if quiet:
        return
    out = console() if is_zarr_name(output) else report_console(output)
    for name, shape in runs.shapes.items():
        out.print(f"  {name}: {list(shape)}", markup=False)
    out.print(
        f"{runs.sequences} sequences, {runs.steps} steps on backend {backend} in {seconds:.2f} s (compilation included)"
    )
    if clipped := ", ".join(str(b) for b in runs.beyond if b.clipped):
        out.print(f"beyond the calibrated range and clipped: {clipped}", markup=False, soft_wrap=True)
    out.print(f"wrote {output}", markup=False, soft_wrap=True)
