"""The command ``qrnn tune``."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Annotated

import typer

from qrnn.cli.common import (
    SetOption,
    StreamOption,
    check_json,
    check_model_output,
    print_json,
    progress,
    read_arrays,
    report_console,
    target_file,
    values_set,
)
from qrnn.cli.training_options import (
    TrainEpochsOption,
    TrainOption,
    TrainSecondsOption,
    TrainSeedOption,
    training_plan,
    training_words,
)
from qrnn.data_files.archive import array_shapes
from qrnn.system.atomic import destination


def tune(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="ONNX or Keras file (.onnx, .keras, .h5) with LSTM, GRU or RNN layers."),
    ],
    calibration: Annotated[Path, typer.Option(metavar="DATA.npz", help="Typical inputs, as for convert.")],
    data: Annotated[
        Path, typer.Option(metavar="DATA.npz", help="What to measure on: inputs, optionally lengths, labels.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="BEST.qrnn", help="Write the model, where every budget is met."),
    ] = None,
    trials: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep in this folder what is measured, and go on with what it has; when left out, BEST.trials beside --output.",
        ),
    ] = None,
    target: Annotated[
        str, typer.Option(help="Hardware that budgets are of, a name or a .toml file (see: qrnn targets).")
    ] = "cortex-m4",
    max_accuracy_drop: Annotated[
        float | None, typer.Option(help="Percentage points below float; needs labels.")
    ] = None,
    min_sqnr: Annotated[float | None, typer.Option(help="dB against the float64 oracle.")] = None,
    min_agreement: Annotated[float | None, typer.Option(help="Percent of decisions as in float.")] = None,
    flash: Annotated[str | None, typer.Option(help="Bytes, such as 64K.")] = None,
    ram: Annotated[str | None, typer.Option(help="Bytes, such as 8K: state, stack, inputs and outputs.")] = None,
    instructions: Annotated[str | None, typer.Option(help="A time step, such as 200k.")] = None,
    cheapest: Annotated[
        str,
        typer.Option(
            help="What is least: instructions (then flash, then RAM), flash, ram, or latency on this machine."
        ),
    ] = "instructions",
    most: Annotated[int, typer.Option("--most", help="Configurations to measure at most.")] = 150,
    train: TrainOption = None,
    train_epochs: TrainEpochsOption = 20,
    train_seconds: TrainSecondsOption = 0.0,
    train_seed: TrainSeedOption = 0,
    stream: StreamOption = False,
    fixed: SetOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Find the cheapest configuration that meets every budget; exit status 1 where none does, and by how much."""
    from qrnn.errors import DataError
    from qrnn.lab.axes import convert_command
    from qrnn.lab.budgets import ORDER, Budgets, parse_amount
    from qrnn.lab.results import check_folder
    from qrnn.lab.tune import tune as search
    from qrnn.model.file import save
    from qrnn.targets import load_target
    from qrnn.trained_files import load_trained

    least = next((name for name in ORDER if name == cheapest), None)
    if least is None:
        raise DataError(f"--cheapest={cheapest!r}, expected one of {', '.join(ORDER)}")
    if most < 1:
        raise DataError(f"--most={most}, expected at least 1")
    budgets = Budgets(
        max_accuracy_drop,
        min_sqnr,
        min_agreement,
        parse_amount("--flash", flash, "bytes"),
        parse_amount("--ram", ram, "bytes"),
        parse_amount("--instructions", instructions, "instructions"),
    )
    if output is not None:
        output = check_model_output(
            output, (model, calibration, data, *([] if train is None else [train]), *target_file(target))
        )
        check_json(json, output)
    folder = trials or trials_beside(output)
    if folder is not None:
        check_folder(folder)
    device = load_target(target)
    float_model = load_trained(model, stream, values=values_set(fixed), shapes=array_shapes(calibration))
    graph_inputs = float_model.inputs
    arrays = read_arrays(calibration, graph_inputs), read_arrays(data, graph_inputs)
    plan = training_plan(train, float_model, train_seconds, train_seed, train_epochs)
    with progress("searching") as report:
        result = search(
            float_model,
            *arrays,
            budgets,
            target=device,
            cheapest=least,
            most=most,
            training=plan,
            folder=folder,
            progress=report,
        )
    if output is not None and result.met:
        save(result.model, output)
    command = convert_command(
        result.scheme,
        str(model),
        str(calibration),
        device.name,
        str(output or "best.qrnn"),
        stream,
        float_model.values,
        training_words(train, 0, train_seed),
    )
    if json:
        print_json({**result.to_dict(), "command": command})
    else:
        out = report_console(output)
        result.render(out, command)
        if output is not None and result.met:
            out.print(f"wrote {output}", soft_wrap=True)
        if folder is not None:
            out.print(f"what was measured is in {folder}; a search with other budgets goes on with it", soft_wrap=True)
    if not result.met:
        raise typer.Exit(1)


def trials_beside(output: Path | None) -> Path | None:
    """Return the folder for the trials of a search whose model goes to ``output``; None where that is no ordinary file."""
    if output is None:
        return None
    found = destination(output).found
    if found is not None and not stat.S_ISREG(found.st_mode):
        return None
    return output.with_name(f"{output.stem}.trials")
