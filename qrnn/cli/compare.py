"""``qrnn compare``."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from qrnn.cli.common import IsaOption, check_output, console, progress, read_arrays


def compare(
    onnx: Annotated[
        Path, typer.Argument(metavar="MODEL.onnx", help="The ONNX file that the model was converted from.")
    ],
    model: Annotated[Path, typer.Argument(metavar="MODEL.qrnn", help="The .qrnn file.")],
    data: Annotated[Path, typer.Option(help="DATA.npz: inputs, optionally lengths [N] and labels [N] or [N, T].")],
    json: Annotated[Path | None, typer.Option(help="Also write the whole report as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw error over time and SQNR by layer, a PNG.")] = None,
    backend: Annotated[str, typer.Option(help="cpu, cuda or reference.")] = "cpu",
    isa: IsaOption = None,
    min_sqnr: Annotated[float | None, typer.Option(help="Fail (exit 1) below so many dB.")] = None,
    min_agreement: Annotated[float | None, typer.Option(help="Fail (exit 1) below so many percent.")] = None,
    max_accuracy_drop: Annotated[
        float | None, typer.Option(help="Fail (exit 1) above so many percentage points.")
    ] = None,
) -> None:
    """Measure a converted model against float64 and, where installed, ONNX Runtime."""
    from qrnn.accuracy.compare import compare as measure
    from qrnn.accuracy.plot import draw, require_matplotlib
    from qrnn.accuracy.report import render
    from qrnn.atomic import write_atomically
    from qrnn.errors import DataError
    from qrnn.model.file import load
    from qrnn.onnx_import import load_onnx

    for path in (json, plot):
        if path is not None:
            check_output(path, (onnx, model, data))
    if json is not None and plot is not None and json.resolve() == plot.resolve():
        raise DataError(f"--json and --plot both name {plot}; give two names")
    if plot is not None:
        require_matplotlib()
    float_model, quantized = load_onnx(onnx), load(model)
    arrays = read_arrays(data, float_model.inputs)
    with progress("comparing") as report:
        result = measure(float_model, quantized, arrays, backend=backend, isa=isa, onnx_path=onnx, progress=report)
    if json is not None:
        write_atomically(json, (json_module.dumps(result.as_dict(), indent=2, allow_nan=False) + "\n").encode())
    if plot is not None:
        write_atomically(plot, draw(result))
    render(result, console())
    problems = result.failures(min_sqnr, min_agreement, max_accuracy_drop)
    for problem in problems:
        console(stderr=True).print(f"failed: {problem}", markup=False)
    if problems:
        raise typer.Exit(1)
