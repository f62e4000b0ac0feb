"""The command ``qrnn explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qrnn.cli.common import SetOption, StateOption, console, load_source, print_json, progress, read_arrays


def explain(
    onnx: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="The ONNX or Keras file that the model was converted from.")
    ],
    model: Annotated[Path, typer.Argument(metavar="MODEL.qrnn", help="The .qrnn file.")],
    data: Annotated[
        Path | None, typer.Option(help="DATA.npz: inputs, optionally lengths [N]; random numbers when left out.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Show this many parts, those that cost most.")] = 12,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON, all parts.")] = False,
    state: StateOption = None,
    fixed: SetOption = None,
) -> None:
    """Say which layer, gate and tensor costs how much of the error, what to change, and what that costs."""
    from qrnn.accuracy.explain import explain as measure
    from qrnn.conversion import random_inputs
    from qrnn.model.file import load
    from qrnn.running.bench import within_ranges

    quantized = load(model)
    float_model = load_source(onnx, quantized, state, fixed)
    if data is None:
        arrays = within_ranges(quantized, random_inputs(float_model))
    else:
        arrays = read_arrays(data, float_model.inputs)
    with progress("ablating") as report:
        found = measure(float_model, quantized, arrays, random_data=data is None, progress=report)
    if json:
        print_json(found.to_dict())
        return
    if data is None:
        typer.echo("warning: measured on random numbers; give --data for figures that mean something", err=True)
    found.render(console(), top)
