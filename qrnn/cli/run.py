"""The command ``qrnn run``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from qrnn.cli.common import (
    BackendOption,
    IsaOption,
    check_output,
    is_stdout,
    npz_bytes,
    print_json,
    progress,
    read_arrays,
    report_console,
)


def run(
    model: Annotated[Path, typer.Argument(metavar="MODEL.qrnn", help="A .qrnn file.")],
    input: Annotated[Path, typer.Option("--input", "-i", help="DATA.npz: one array per graph input, batch first.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="OUT.npz: one array per graph output, batch first.")],
    backend: BackendOption = "cpu",
    threads: Annotated[int | None, typer.Option(help="Cores to use; all when left out.")] = None,
    isa: IsaOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Run a converted model on whole sequences."""
    from qrnn.errors import DataError
    from qrnn.hybrid.file import load
    from qrnn.hybrid.model import HybridModel
    from qrnn.model.batch import is_beside, make_batch
    from qrnn.running.input_ranges import inputs_beyond
    from qrnn.running.session import Session
    from qrnn.system.atomic import write_atomically

    output = check_output(output, (model, input))
    if json and is_stdout(output):
        raise DataError("--output and --json both go to stdout; leave out --json, or give --output the name of a file")
    quantized = load(model)
    session = Session(quantized, backend, threads, isa)
    arrays = read_arrays(input, quantized.inputs)
    batch = make_batch(quantized.inputs, arrays)
    start = time.perf_counter()
    with progress("running") as report:
        inputs = {name: value for name, value in arrays.items() if not is_beside(quantized.inputs, name)}
        result = session.run(inputs, batch.given_lengths, progress=report)
    seconds = time.perf_counter() - start
    write_atomically(output, npz_bytes(result.outputs))
    steps = batch.step_count
    beyond = [] if isinstance(quantized, HybridModel) else inputs_beyond(quantized, batch)
    if json:
        shapes = {name: list(value.shape) for name, value in result.outputs.items()}
        print_json(
            {
                "output": str(output),
                "outputs": shapes,
                "sequences": batch.size,
                "steps": steps,
                "seconds": seconds,
                "beyond_calibrated_range": {b.name: b.clipped for b in beyond},
            }
        )
        return
    out = report_console(output)
    for name, value in result.outputs.items():
        out.print(f"  {name}: {list(value.shape)}", markup=False)
    out.print(f"{batch.size} sequences, {steps} steps on backend {backend} in {seconds:.2f} s (compilation included)")
    if clipped := ", ".join(str(b) for b in beyond if b.clipped):
        out.print(f"beyond the calibrated range and clipped: {clipped}", markup=False, soft_wrap=True)
    out.print(f"wrote {output}", markup=False, soft_wrap=True)
