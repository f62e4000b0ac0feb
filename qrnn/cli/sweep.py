"""The command ``qrnn sweep``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from qrnn.cli.common import SetOption, StreamOption, console, progress, read_arrays, values_set
from qrnn.cli.training_options import TrainOption, TrainSecondsOption, TrainSeedOption, training_plan, training_words
from qrnn.data_files.archive import array_shapes


def sweep(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="ONNX or Keras file (.onnx, .keras, .h5) with LSTM, GRU or RNN layers."),
    ],
    calibration: Annotated[Path, typer.Option(metavar="DATA.npz", help="Typical inputs, as for convert.")],
    data: Annotated[
        Path, typer.Option(metavar="DATA.npz", help="What to measure on: inputs, optionally lengths, labels.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Results and report; an earlier sweep's is gone on with."),
    ],
    target: Annotated[
        str,
        typer.Option(help="Hardware that bytes and instructions are of, a name or a .toml file (see: qrnn targets)."),
    ] = "cortex-m4",
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AXIS=VALUE,…",
            help="Values of one axis: weights, activations, gates, calibrator, input, refine; or finetune, of numbers of epochs. Repeatable; "
            "; between values that have commas. "
            "Without it a grid of 80 configurations.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="AXIS=VALUE,…", help="Only configurations with one of these values; repeatable."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Measure only the first configurations, at most this many.")] = None,
    front: Annotated[
        str,
        typer.Option(help="The front's figures: sqnr, accuracy, agreement, size, flash, ram, instructions, latency."),
    ] = "sqnr,flash,instructions",
    jobs: Annotated[int | None, typer.Option(help="Processes; as many as there are cores when left out.")] = None,
    dask: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Measure on this Dask scheduler's workers.")
    ] = None,
    train: TrainOption = None,
    train_seconds: TrainSecondsOption = 0.0,
    train_seed: TrainSeedOption = 0,
    latency: Annotated[
        bool, typer.Option("--latency/--no-latency", help="Also measure latency on this machine.")
    ] = True,
    stream: StreamOption = False,
    fixed: SetOption = None,
) -> None:
    """Measure many configurations of a model: accuracy, drift, saturation against flash, RAM, instructions and latency."""
    from qrnn.backends.cpu.threads.pool import core_count
    from qrnn.errors import DataError
    from qrnn.lab.axes import parse_axes
    from qrnn.lab.executors import dask_client
    from qrnn.lab.outputs import write_outputs
    from qrnn.lab.pareto import known_figures
    from qrnn.lab.results import check_folder
    from qrnn.lab.sweep import configurations
    from qrnn.lab.sweep import sweep as measure
    from qrnn.targets import load_target
    from qrnn.trained_files import load_trained

    device = load_target(target)
    axes = parse_axes(vary) if vary else None
    wanted = parse_axes(only or ())
    figures = tuple(name.strip() for name in front.split(","))
    known_figures([], figures)
    if jobs is not None and jobs < 1:
        raise DataError(f"--jobs={jobs}, expected at least 1")
    if jobs is not None and dask is not None:
        raise DataError("--jobs and --dask are both given; expected one of them")
    count = len(configurations(device, axes, wanted, limit))
    check_folder(output)
    source = load_trained(model, stream, values=values_set(fixed), shapes=array_shapes(calibration))
    graph_inputs = source.inputs
    arrays = read_arrays(calibration, graph_inputs), read_arrays(data, graph_inputs)
    plan = training_plan(train, source, train_seconds, train_seed)
    with nullcontext() if dask is None else dask_client(dask) as client, progress(f"{count} configurations") as report:
        result = measure(
            model,
            *arrays,
            output,
            target=device,
            vary=axes,
            only_with=wanted,
            limit=limit,
            front_of=figures,
            jobs=core_count() if jobs is None else jobs,
            executor=client,
            latency=latency,
            stream=stream,
            values=source.values,
            training=plan,
            progress=report,
        )
    paths = write_outputs(
        result, str(model), str(calibration), str(data), training_words(train, train_seconds, train_seed)
    )
    result.render(console())
    pictures = sum(path.suffix == ".png" for path in paths)
    names = [path.name for path in paths if path.suffix != ".png"] + [f"{pictures} pictures"] * (pictures > 0)
    console().print(f"wrote {', '.join(names)} to {output}", soft_wrap=True)
