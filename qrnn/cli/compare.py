"""The command ``qrnn compare``."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from qrnn.cli.common import (
    BackendOption,
    IsaOption,
    SetOption,
    StateOption,
    check_output,
    console,
    is_stdout,
    load_source,
    print_json,
    progress,
    read_arrays,
    report_console,
)


def compare(
    onnx: Annotated[
        Path, typer.Argument(metavar="MODEL.onnx", help="The ONNX file that the model was converted from.")
    ],
    model: Annotated[Path, typer.Argument(metavar="MODEL.qrnn", help="The .qrnn file.")],
    data: Annotated[Path, typer.Option(help="DATA.npz: inputs, optionally lengths [N] and labels [N] or [N, T].")],
    json: Annotated[
        Path | None, typer.Option(metavar="FILE|-", help="Also write the whole report as JSON; - prints it instead.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw error over time and SQNR by layer, a PNG.")] = None,
    backend: BackendOption = "cpu",
    isa: IsaOption = None,
    state: StateOption = None,
    fixed: SetOption = None,
    min_sqnr: Annotated[float | None, typer.Option(help="Fail (exit 1) below this SQNR in dB.")] = None,
    min_agreement: Annotated[float | None, typer.Option(help="Fail (exit 1) below this percentage.")] = None,
    max_accuracy_drop: Annotated[
        float | None, typer.Option(help="Fail (exit 1) above this many percentage points.")
    ] = None,
) -> None:
    """Measure a converted model against float64 and, where installed, ONNX Runtime."""
    from qrnn.accuracy.compare import compare as measure
    from qrnn.accuracy.pictures import require_matplotlib
    from qrnn.errors import DataError
    from qrnn.model.file import load
    from qrnn.system.atomic import destination, write_atomically

    inputs = (onnx, model, data)
    json = None if json is None else check_output(json, inputs)
    plot = None if plot is None else check_output(plot, inputs)
    if json is not None and plot is not None and destination(json).is_same(destination(plot)):
        raise DataError(f"--json and --plot both name {plot}; give two names")
    if plot is not None:
        require_matplotlib()
    quantized = load(model)
    float_model = load_source(onnx, quantized, state, fixed)
    arrays = read_arrays(data, float_model.inputs)
    with progress("comparing") as report:
        result = measure(float_model, quantized, arrays, backend=backend, isa=isa, onnx_path=onnx, progress=report)
    if is_stdout(json):
        print_json(result.to_dict())
    elif json is not None:
        write_atomically(json, (json_module.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n").encode())
    if plot is not None:
        result.plot(plot)
    if not is_stdout(json):
        result.render(report_console(plot))
    problems = result.failures(min_sqnr, min_agreement, max_accuracy_drop)
    for problem in problems:
        console(stderr=True).print(f"failed: {problem}", markup=False)
    if problems:
        raise typer.Exit(1)
