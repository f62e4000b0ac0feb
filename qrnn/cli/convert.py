"""The command ``qrnn convert``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qrnn.cli.common import (
    FromOption,
    SetOption,
    StateOption,
    StreamOption,
    ToOption,
    WindowOption,
    check_model_output,
    progress,
    read_arrays,
    report_console,
    states_named,
    target_file,
    tensors_named,
    values_set,
    window_of,
)
from qrnn.cli.parts import cut_arrays, other_files, shares_text, write_others
from qrnn.cli.scheme_options import (
    ActivationsOption,
    CalibratorOption,
    GatesOption,
    InputSchemeOption,
    RefineOption,
    TargetOption,
    WeightsOption,
    WidthsOption,
    chosen_scheme,
)
from qrnn.data_files.archive import array_shapes
from qrnn.errors import DataError
from qrnn.system.sizes import size_text

if TYPE_CHECKING:
    from rich.console import Console

    from qrnn.model.float_model import FloatModel
    from qrnn.model.quant_model import QuantModel
    from qrnn.onnx_import.control import FixedValue
    from qrnn.quantization.scheme import Scheme


def convert(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="ONNX or Keras file (.onnx, .keras, .h5) with LSTM, GRU or RNN layers."),
    ],
    calibration: Annotated[
        str, typer.Option(help="DATA.npz of typical inputs, batch first; or the word random, for trials only.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .qrnn file to write.")],
    target: TargetOption = "generic",
    gates: GatesOption = None,
    calibrator: CalibratorOption = None,
    activations: ActivationsOption = None,
    weights: WeightsOption = None,
    refine: RefineOption = None,
    input_scheme: InputSchemeOption = None,
    widths: WidthsOption = None,
    prune: Annotated[
        str | None,
        typer.Option(
            metavar="DENSITY[,RxC]",
            help="Keep this share of the blocks of weights, the largest, and set the others to zero, in blocks of 8x4 or as given. Accuracy "
            "falls: train with these zeros afterwards. Weights that are zero in the file stay zero without this.",
        ),
    ] = None,
    stream: StreamOption = False,
    state: StateOption = None,
    fixed: SetOption = None,
    window: WindowOption = None,
    cut_from: FromOption = None,
    cut_to: ToOption = None,
    float_parts: Annotated[
        list[str] | None,
        typer.Option(
            "--float-parts",
            metavar="auto|TENSOR",
            help="Leave parts in float, which run by ONNX Runtime on the host: auto, what cannot be integers; or what lies before a tensor, or "
            "between tensors; may be repeated, or several with commas between.",
        ),
    ] = None,
) -> None:
    """Convert a trained model, of ONNX or Keras, into an integer-only model."""
    from qrnn.conversion import RANDOM, quantize
    from qrnn.conversion.prune import prune as prune_model
    from qrnn.conversion.prune import pruning_named
    from qrnn.model.file import save
    from qrnn.onnx_import.parts.cut import cut_onnx, import_cut
    from qrnn.targets import load_target
    from qrnn.trained_files import load_trained

    output = check_model_output(output, (model, Path(calibration), *target_file(target)))
    device = load_target(target)
    scheme = chosen_scheme(
        device,
        gates=gates,
        calibrator=calibrator,
        activations=activations,
        weights=weights,
        refine=refine,
        input_scheme=input_scheme,
        widths=widths,
    )
    cuts, parts = (tensors_named(cut_from), tensors_named(cut_to)), tensors_named(float_parts)
    if parts and any(cuts):
        raise DataError("--float-parts makes one model of all parts, --from and --to one of a part; give either")
    if parts and prune is not None:
        raise DataError(
            "--prune is for models that are integers throughout; prune the network before with --float-parts"
        )
    options = (stream, states_named(state), values_set(fixed))
    if parts:
        data = RANDOM if calibration == RANDOM else read_arrays(Path(calibration))
        _convert_parts(model, data, parts, scheme, device.name, (*options, window_of(window)), output)
        return
    shapes = {} if calibration == RANDOM else array_shapes(Path(calibration))
    cut, others = None, {}
    if any(cuts):
        cut = cut_onnx(model, *cuts)
        others = other_files(cut, output, (model, Path(calibration)))
        float_model = import_cut(cut, *options, shapes, window_of(window))
    else:
        float_model = load_trained(model, *options, shapes, window_of(window))
    if prune is not None:
        float_model = prune_model(float_model, *pruning_named(prune))
    if calibration == RANDOM:
        data = RANDOM
    elif cut is not None:
        data = cut_arrays(Path(calibration), cut, float_model, options[2])
    else:
        data = read_arrays(Path(calibration), float_model.inputs)
    with progress("calibrating") as report:
        quantized = quantize(float_model, data, scheme, device.name, report)
    save(quantized, output)
    out = report_console(output)
    if cut is not None:
        write_others(cut, others, out)
    _report(float_model, quantized, data, scheme, output, out)


def _convert_parts(
    model: Path,
    data: Any,
    parts: tuple[str, ...],
    scheme: Scheme,
    target: str,
    options: tuple[bool, dict[str, str], dict[str, FixedValue], int | None],
    output: Path,
) -> None:
    """Convert a model of which parts stay in float, and say what became of it."""
    from qrnn.hybrid.convert import convert as convert_parts
    from qrnn.hybrid.file import save
    from qrnn.hybrid.model import HybridModel

    with progress("calibrating") as report:
        made = convert_parts(model, data, parts, scheme, target, *options, progress=report)
    save(made.model, output)
    out = report_console(output)
    if not isinstance(made.model, HybridModel):
        out.print("nothing has to stay in float: this is a model of integers alone")
        _report(made.real[""], made.model, data, scheme, output, out)
        return
    for part in made.model.integer_parts:
        out.print(f"{part.name}:", markup=False)
        _report(made.real[part.name], part.model, made.data[part.name], scheme, output, out)
    for line in shares_text(made.model):
        out.print(line, markup=False, soft_wrap=True)


def _report(
    float_model: FloatModel, quantized: QuantModel, data: Any, scheme: Scheme, output: Path, out: Console
) -> None:
    """Say what a conversion decided, and what it came to on the calibration data."""
    from qrnn.accuracy.verdict import judge
    from qrnn.conversion.beside import lines
    from qrnn.quantization.source_checks import CALIBRATION

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
