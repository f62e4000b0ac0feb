"""The command ``qrnn finetune``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qrnn.cli.common import (
    SetOption,
    StateOption,
    StreamOption,
    WindowOption,
    check_json,
    check_model_output,
    check_output,
    console,
    print_json,
    read_arrays,
    report_console,
    states_named,
    target_file,
    values_set,
    window_of,
)
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
from qrnn.errors import DataError, UnsupportedError

if TYPE_CHECKING:
    from qrnn.finetuning.loop import Progress, Report
    from qrnn.model.float_model import FloatModel


def finetune(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="ONNX or Keras file (.onnx, .keras, .h5) with LSTM, GRU or RNN layers."),
    ],
    calibration: Annotated[Path, typer.Option(metavar="DATA.npz", help="Typical inputs, as for convert.")],
    data: Annotated[
        Path,
        typer.Option(
            metavar="TRAIN.npz",
            help="Inputs to train on, optionally lengths; and labels [N] (a class for each sequence), [N, T] (for each step), or [N, L] with "
            "label_lengths [N] (CTC); or targets, under the names of the graph's outputs; or neither, to follow the float model.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .qrnn file to write.")],
    validation: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA.npz",
            help="Such data that are not trained on, by which epochs are judged; a part is held out without.",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training data.")] = 20,
    batch: Annotated[int, typer.Option(help="Sequences in one step of training.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="The first step size of Adam; it falls to zero.")] = 5e-4,
    clip: Annotated[float, typer.Option(help="The largest norm of a gradient.")] = 1.0,
    distill: Annotated[
        float,
        typer.Option(help="The share of the loss that is following the float model, beside labels or targets: 0 to 1."),
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="Of the order of sequences, and of what is held out.")] = 0,
    held_out: Annotated[float, typer.Option(help="The share of the data that is held out without --validation.")] = 0.1,
    patience: Annotated[int, typer.Option(help="Epochs without a better one after which training ends; 0: never.")] = 0,
    seconds: Annotated[float, typer.Option(help="No epoch begins that would end later; 0: no limit.")] = 0.0,
    recalibrate: Annotated[int, typer.Option(help="Estimate formats again every so many epochs; 0: never.")] = 0,
    learned_scales: Annotated[
        bool | None,
        typer.Option(
            "--learned-scales/--no-learned-scales", help="Learn the weights' scales too; by itself for four bits."
        ),
    ] = None,
    goal_output: Annotated[
        str | None,
        typer.Option(
            "--train-output", metavar="NAME", help="The graph's output that labels belong to, or that alone is trained."
        ),
    ] = None,
    blank: Annotated[int, typer.Option(help="CTC's class of no label.")] = 0,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Written after every epoch; training goes on from it where it was interrupted."
        ),
    ] = None,
    target: TargetOption = "generic",
    gates: GatesOption = None,
    calibrator: CalibratorOption = None,
    activations: ActivationsOption = None,
    weights: WeightsOption = None,
    refine: RefineOption = None,
    input_scheme: InputSchemeOption = None,
    widths: WidthsOption = None,
    stream: StreamOption = False,
    state: StateOption = None,
    fixed: SetOption = None,
    window: WindowOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Convert a trained model and train it further as the integers that the device computes; never worse than without training."""
    from qrnn.finetuning.finetune import finetune as train
    from qrnn.finetuning.finetune import torch_trainer
    from qrnn.finetuning.training import Training
    from qrnn.model.file import save
    from qrnn.targets import load_target

    inputs = [model, calibration, data, *([] if validation is None else [validation]), *target_file(target)]
    output = check_model_output(output, inputs)
    if checkpoint is not None:
        checkpoint = _check_checkpoint(checkpoint, output, inputs)
    check_json(json, output)
    training = Training(
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        clip=clip,
        distill=distill,
        seed=seed,
        held_out=held_out,
        patience=patience,
        seconds=seconds,
        recalibrate=recalibrate,
        learned_scales=learned_scales,
    )
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
    make = torch_trainer()
    options = (stream, states_named(state), values_set(fixed), array_shapes(calibration), window_of(window))
    real = _imported(model, *options)
    beside = training_names(real)
    arrays = read_arrays(calibration, real.inputs)
    to_train = read_arrays(data, real.inputs, beside)
    to_judge = None if validation is None else read_arrays(validation, real.inputs, beside)
    with training_progress(epochs) as report:
        found = train(
            real,
            arrays,
            to_train,
            validation=to_judge,
            scheme=scheme,
            target=device.name,
            training=training,
            output=goal_output,
            blank=blank,
            checkpoint=checkpoint,
            progress=report,
            trainer=make,
        )
    save(found.model, output)
    if json:
        print_json(found.to_dict())
        return
    out = report_console(output)
    found.render(out)
    out.print(f"wrote {output}", markup=False, soft_wrap=True)


def training_names(model: FloatModel) -> frozenset[str]:
    """Return the names of arrays of training data that are not for the model's inputs: labels, their lengths, targets."""
    from qrnn.finetuning.goals import LABEL_LENGTHS, LABELS

    return frozenset({LABELS, LABEL_LENGTHS, *(o.name for o in model.outputs)}) - {i.name for i in model.inputs}


def _imported(path: Path, *options: Any) -> FloatModel:
    """Import the file of a model; a refusal says that parts cannot stay in float here."""
    from qrnn.trained_files import load_trained

    try:
        return load_trained(path, *options)
    except UnsupportedError as error:
        raise UnsupportedError(
            f"{error} | only models of integers throughout are fine-tuned, with no part that stays in float",
            error.problems,
        ) from None


def _check_checkpoint(path: Path, output: Path, inputs: list[Path]) -> Path:
    """Refuse a checkpoint that is an input, the output or no regular file."""
    from qrnn.system.atomic import destination

    found = check_output(path, inputs)
    if not destination(found).is_file:
        raise DataError(f"--checkpoint {path}: expected the name of a file, from which training can go on")
    if destination(found).is_same(destination(output)):
        raise DataError(f"--checkpoint and --output are both {path}; give two names")
    return found


@contextmanager
def training_progress(epochs: int) -> Iterator[Report]:
    """Show on stderr how many epochs are done, how the last one did, and how much time is left; it vanishes when done."""
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    out = console(stderr=True)
    columns = (
        TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
        BarColumn(),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task("converting", total=1.0, epoch=0, epochs=epochs)

        def report(progress: Progress) -> None:
            last = "" if progress.last is None else f"{progress.last.score}, best {progress.best}"
            left = "" if progress.seconds_left is None else f"{progress.seconds_left:.0f} s left"
            words = ", ".join(part for part in (left, last) if part)
            done = 0 if progress.last is None else progress.last.number
            bar.update(task, completed=progress.share, epoch=done, description=words)

        yield report
