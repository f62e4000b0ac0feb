"""The command ``qrnn compare``."""

from __future__ import annotations

import json as json_module
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from qrnn.cli.common import (
    BackendOption,
    FromOption,
    IsaOption,
    QuietOption,
    SetOption,
    StateOption,
    ToOption,
    check_output,
    console,
    is_stdout,
    load_source,
    print_json,
    progress,
    read_arrays,
    report_console,
    tensors_named,
    values_set,
)
from qrnn.cli.parts import cut_arrays, cut_of, shares_text


def compare(
    onnx: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="The ONNX or Keras file that the model was converted from.")
    ],
    model: Annotated[Path, typer.Argument(metavar="MODEL.qrnn", help="The .qrnn file.")],
    data: Annotated[
        Path,
        typer.Option(
            help="DATA: .npz, .npy, Zarr or Parquet; inputs, optionally lengths [N] and labels [N] or [N, T]."
        ),
    ],
    json: Annotated[
        Path | None, typer.Option(metavar="FILE|-", help="Also write the whole report as JSON; - prints it instead.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw error over time and SQNR by layer, a PNG.")] = None,
    backend: BackendOption = "cpu",
    isa: IsaOption = None,
    state: StateOption = None,
    fixed: SetOption = None,
    cut_from: FromOption = None,
    cut_to: ToOption = None,
    min_sqnr: Annotated[float | None, typer.Option(help="Fail (exit 1) below this SQNR in dB.")] = None,
    min_agreement: Annotated[float | None, typer.Option(help="Fail (exit 1) below this percentage.")] = None,
    max_accuracy_drop: Annotated[
        float | None, typer.Option(help="Fail (exit 1) above this many percentage points.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Measure a converted model against float64 and, where installed, ONNX Runtime."""
    from qrnn.accuracy.compare import compare as measure
    from qrnn.data_files.opening import WHOLE_BYTES, DataFile, open_data
    from qrnn.errors import DataError
    from qrnn.hybrid.compare import compare_parts, shares
    from qrnn.hybrid.file import load
    from qrnn.hybrid.model import HybridModel
    from qrnn.system.atomic import destination, write_atomically
    from qrnn.trained_files import runtime_model

    inputs = (onnx, model, data)
    json = None if json is None else check_output(json, inputs)
    plot = None if plot is None else check_output(plot, inputs)
    if json is not None and plot is not None and destination(json).is_same(destination(plot)):
        raise DataError(f"--json and --plot both name {plot}; give two names")
    quantized = load(model)
    cuts = (tensors_named(cut_from), tensors_named(cut_to))
    more: dict[str, Any] = {}
    if isinstance(quantized, HybridModel):
        if plot is not None or state or fixed or any(cuts):
            raise DataError(quantized.refusal("compare with --plot, --state, --set, --from or --to"))
        arrays = read_arrays(data, quantized.inputs)
        with progress("comparing", not quiet) as report:
            result = compare_parts(onnx, quantized, arrays, backend=backend, isa=isa, progress=report)
        more = {"float_parts": shares(quantized)}
    else:
        cut = cut_of(onnx, quantized, cuts)
        float_model = load_source(onnx, quantized, state, fixed)
        content = runtime_model(onnx)
        opened: DataFile | dict[str, Any] = {}
        if cut is None:
            opened = open_data(data, float_model)
        else:
            opened = cut_arrays(data, cut, float_model, {**quantized.provenance.values, **values_set(fixed)})
            content = cut.model.model.SerializeToString()
        with (
            closing(opened) if isinstance(opened, DataFile) else nullcontext(),
            progress("comparing", not quiet) as report,
        ):
            if isinstance(opened, DataFile) and opened.nbytes <= WHOLE_BYTES:
                opened = next(iter(opened.chunks(opened.size))).arrays
            result = measure(
                float_model, quantized, opened, backend=backend, isa=isa, onnx_path=content, progress=report
            )
    if is_stdout(json):
        print_json({**result.to_dict(), **more})
    elif json is not None:
        write_atomically(
            json, (json_module.dumps({**result.to_dict(), **more}, indent=2, allow_nan=False) + "\n").encode()
        )
    if not is_stdout(json) and not quiet:
        result.render(report_console(plot))
        if isinstance(quantized, HybridModel):
            for line in shares_text(quantized):
                console().print(line, markup=False, soft_wrap=True)
    if plot is not None:
        result.plot(plot)  # last: where matplotlib is missing, what was computed has been shown
    problems = result.failures(min_sqnr, min_agreement, max_accuracy_drop)
    for problem in problems:
        console(stderr=True).print(f"failed: {problem}", markup=False)
    if problems:
        raise typer.Exit(1)
