"""The command ``qrnn convert``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from qrnn.cli.arrays import array_shapes
from qrnn.cli.common import (
    SetOption,
    StateOption,
    StreamOption,
    WindowOption,
    check_output,
    progress,
    read_arrays,
    report_console,
    states_named,
    target_file,
    values_set,
    window_of,
)
from qrnn.system.sizes import size_text


def convert(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="ONNX file with LSTM, GRU or RNN layers.")],
    calibration: Annotated[
        str, typer.Option(help="DATA.npz of typical inputs, batch first; or the word random, for trials only.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .qrnn file to write.")],
    target: Annotated[
        str, typer.Option(help="Known hardware whose defaults to take, or its FILE.toml (see: qrnn targets).")
    ] = "generic",
    gates: Annotated[
        str | None,
        typer.Option(
            help="Gate functions: pwl:N (N segments on the half range), hard, hard:ALPHA,BETA or step, for all or as GATE=…, "
            "separated by commas: input, forget, candidate, output, cell, reset, update, head; sigmoid, tanh (see: qrnn gates)."
        ),
    ] = None,
    calibrator: Annotated[str | None, typer.Option(help="robust, minmax, percentile or mse.")] = None,
    activations: Annotated[
        str | None, typer.Option(help="Bits of the matrix products' operands: 8, 16, or auto, chosen layer by layer.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Bits of the weights of recurrent layers and convolutions: 8 or 4. Or 16, those of all layers but recurrent ones, which takes "
            "twice their multiply-adds; or auto, 16 where 8 are far too few."
        ),
    ] = None,
    refine: Annotated[
        str | None,
        typer.Option(
            help="Win accuracy back without training: some of equalize, channels, gates, rounding, bias, separated by commas; all; none. "
            "Without it: rounding,bias for --weights 4, channels,rounding,bias for 16, and none for 8."
        ),
    ] = None,
    input_scheme: Annotated[
        str | None, typer.Option(help="Input: auto, 8, 8-per-feature, 16 or 16-per-feature.")
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=WIDTH,…",
            help="Widths of single parts: TENSOR=8, 8-per-feature, 16 or 16-per-feature for an input; LAYER.x=8, 8-per-feature or 16 and "
            "LAYER.h=8 or 16 for operands; LAYER.W=8 or 4 and LAYER.R=8 or 4 for weights.",
        ),
    ] = None,
    stream: StreamOption = False,
    state: StateOption = None,
    fixed: SetOption = None,
    window: WindowOption = None,
) -> None:
    """Convert a trained ONNX model into an integer-only model."""
    from qrnn.accuracy.verdict import judge
    from qrnn.conversion import RANDOM, quantize
    from qrnn.conversion.beside import lines
    from qrnn.model.file import save
    from qrnn.onnx_import import load_onnx
    from qrnn.quantization.scheme import Scheme
    from qrnn.quantization.source_checks import CALIBRATION
    from qrnn.targets import load_target

    output = check_output(output, (model, Path(calibration), *target_file(target)))
    device = load_target(target)
    defaults = Scheme(**device.scheme)
    given = {
        "gates": gates,
        "calibrator": calibrator,
        "activations": int(activations) if activations in ("8", "16") else activations,
        "weights": int(weights) if weights in ("16", "8", "4") else weights,
        "input": input_scheme,
        "refine": refine,
        "widths": widths,
    }
    scheme = replace(defaults, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    shapes = {} if calibration == RANDOM else array_shapes(Path(calibration))
    float_model = load_onnx(model, stream, states_named(state), values_set(fixed), shapes, window_of(window))
    data = RANDOM if calibration == RANDOM else read_arrays(Path(calibration), float_model.inputs)
    with progress("calibrating") as report:
        quantized = quantize(float_model, data, scheme, device.name, report)
    save(quantized, output)
    out = report_console(output)
    for note in float_model.notes:
        out.print(f"note: {note}", soft_wrap=True)
    for decision in quantized.provenance.decisions:
        if decision.startswith(CALIBRATION):  # already said as a warning
            continue
        out.print(f"  {decision}", soft_wrap=True, markup=False)
    if quantized.provenance.random_calibration:
        typer.echo("warning: calibrated on random numbers; convert with real data before trusting any result", err=True)
    bound = max(quantized.proof.values())
    out.print(f"overflow proof: {len(quantized.proof)} matrices, largest accumulator {bound} < 2^31", markup=False)
    size = f" ({size_text(output.stat().st_size)})" if output.is_file() else ""  # a pipe or a device has none
    out.print(f"wrote {output}{size}", markup=False, soft_wrap=True)
    if not isinstance(data, str):
        verdict = judge(float_model, quantized, data)
        for line in lines(float_model, quantized, data, scheme, verdict):
            out.print(line, markup=False, soft_wrap=True)
        out.print(f"on the calibration data, {verdict}", markup=False, soft_wrap=True)
