"""The commands ``qrnn data wav``, ``csv``, ``concat`` and ``front-end``: data files from recordings, tables and other data files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qrnn.cli.common import (
    check_folder_output,
    check_json,
    check_output,
    console,
    npz_bytes,
    print_json,
    read_arrays,
    report_console,
)
from qrnn.cli.group import Commands

if TYPE_CHECKING:
    from qrnn.datasets.sets import Arrays

data = typer.Typer(
    name="data",
    cls=Commands,
    help="Make data files (.npz), as other commands read them, from recordings, tables and other data files.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)

OutputOption = Annotated[Path, typer.Option("--output", "-o", metavar="DATA.npz", help="The data file to write.")]
InputOption = Annotated[str, typer.Option("--input", metavar="NAME", help="The name of the model's input.")]
ClassesOption = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        metavar="FILE.txt",
        help="Write the names of the classes, one a line in the order of their numbers.",
    ),
]
KnownOption = Annotated[
    Path | None,
    typer.Option(
        "--known-classes",
        metavar="FILE.txt",
        help="Number the classes as this file does, which --classes wrote: for a second set with the numbers of the first.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")]
FramesOption = Annotated[
    str,
    typer.Option(
        metavar="LENGTH/DISTANCE",
        help="Frames: their length and how far they lie apart, as in 25ms/10ms or, in samples, 200/80.",
    ),
]
FeaturesOption = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        help="logmel:BANDS, log-mel energies by the integers of the C that `qrnn data front-end` writes; logmel:BANDS,LOW-HIGH with "
        "frequencies in Hz, 60 Hz to half the rate when left out; or samples, the frames themselves, ±1.",
    ),
]


@data.command()
def wav(
    files: Annotated[
        list[Path], typer.Argument(metavar="FOLDER|FILE.wav…", help="WAV files, or folders that hold them.")
    ],
    output: OutputOption,
    input: InputOption = "x",
    frames: FramesOption = "25ms/10ms",
    features: FeaturesOption = "logmel:40",
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="folder|FILE.csv",
            help="Labels: the name of each file's folder, or a table with the columns file and label.",
        ),
    ] = None,
    rate: Annotated[
        int | None, typer.Option(help="Samples a second that every file must have; the first file's when left out.")
    ] = None,
    channel: Annotated[int | None, typer.Option(help="The channel to read of files with several, from 0 on.")] = None,
    classes: ClassesOption = None,
    known_classes: KnownOption = None,
    json: JsonOption = False,
) -> None:
    """Make a data file of recordings (WAV, integers of 8 to 32 bits): one sequence of features for each."""
    from qrnn.datasets.recordings import FOLDER, read_classes, recording_set

    tables = () if labels in (None, FOLDER) else (Path(str(labels)),)
    output = check_output(output, (*files, *tables, *((known_classes,) if known_classes else ())))
    known = read_classes(known_classes) if known_classes else ()
    made = recording_set(files, input, frames, features, labels, rate, channel, known)
    _write(output, made.arrays, made.classes, classes, json, {"rate": made.rate})


@data.command()
def csv(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE.csv…", help="Tables with names of columns in their first line; each begins a sequence."
        ),
    ],
    output: OutputOption,
    input: InputOption = "x",
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…", help="The columns that are features; all but those named otherwise when left out."
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column of labels, numbers or names of classes.")
    ] = None,
    label_each_step: Annotated[
        bool, typer.Option("--label-each-step", help="Keep a label for each row, not one for each sequence.")
    ] = False,
    sequence_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="A column of which every new value begins a new sequence.")
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Cut sequences into windows of so many rows; a rest is left out.")
    ] = None,
    hop: Annotated[
        int | None, typer.Option(help="Rows from window to window; a window's length when left out.")
    ] = None,
    delimiter: Annotated[str, typer.Option(metavar="CHARACTER", help="What stands between fields.")] = ",",
    classes: ClassesOption = None,
    known_classes: KnownOption = None,
    json: JsonOption = False,
) -> None:
    """Make a data file of tables (CSV): rows are time steps."""
    from qrnn.datasets.recordings import read_classes
    from qrnn.datasets.rows import RowChoices, row_set

    output = check_output(output, (*files, *((known_classes,) if known_classes else ())))
    chosen = tuple(name.strip() for name in columns.split(",")) if columns else ()
    choices = RowChoices(chosen, label, sequence_column, window, hop, label_each_step, delimiter)
    made = row_set(files, input, choices, read_classes(known_classes) if known_classes else ())
    _write(output, made.arrays, made.classes, classes, json, {})


@data.command()
def concat(
    files: Annotated[list[Path], typer.Argument(metavar="DATA.npz…", help="Data files with the same arrays.")],
    output: OutputOption,
    json: JsonOption = False,
) -> None:
    """Join the sequences of data files, padded to the longest."""
    from qrnn.datasets.sets import joined

    output = check_output(output, files)
    made = joined(
        {f"{path} ({k + 1})" if files.count(path) > 1 else str(path): read_arrays(path) for k, path in enumerate(files)}
    )
    _write(output, made, (), None, json, {})


@data.command()
def front_end(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The folder for the C.")],
    rate: Annotated[int, typer.Option(help="Samples a second.")] = 16_000,
    frames: FramesOption = "25ms/10ms",
    features: FeaturesOption = "logmel:40",
) -> None:
    """Write the C of a log-mel front end, which gives the features of `qrnn data wav` with the same bits."""
    from qrnn.datasets.features import read_frames, read_log_mel
    from qrnn.datasets.front_end_c import write_front_end
    from qrnn.datasets.log_mel import CODE_FRAC

    check_folder_output(output, ())
    settings = read_log_mel(features, *read_frames(frames, rate), rate)
    names = write_front_end(settings, output)
    out = console()
    out.print(f"wrote {output}: {', '.join(names)}", soft_wrap=True)
    out.print(
        f"{settings.window} samples every {settings.hop}, {settings.points} points, {settings.bands} bands; export the model with "
        f"--codes NAME=1/{1 << CODE_FRAC} for a function that takes the codes",
        soft_wrap=True,
    )


def _write(
    output: Path, arrays: Arrays, classes: tuple[str, ...], names: Path | None, json: bool, facts: dict[str, int]
) -> None:
    """Write a data file and the names of its classes, and say what is in it."""
    from qrnn.errors import DataError
    from qrnn.system.atomic import write_atomically

    check_json(json, output)
    if names is not None:
        names = check_output(names, (output,))
        if not classes:
            raise DataError(
                "--classes: the labels are numbers, or there are none, so that no names can be written; leave it out"
            )
    write_atomically(output, npz_bytes(arrays))
    if names is not None:
        write_atomically(names, "".join(f"{name}\n" for name in classes).encode())
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    if json:
        print_json({"output": str(output), "shapes": shapes, "classes": list(classes), **facts})
        return
    out = report_console(output)
    for name, shape in shapes.items():
        out.print(f"  {name}: {shape}")
    if "lengths" in arrays and arrays["lengths"].size:
        out.print(f"steps: {arrays['lengths'].min()} to {arrays['lengths'].max()}")
    if classes:
        out.print(f"classes: {', '.join(f'{k} {name}' for k, name in enumerate(classes))}", soft_wrap=True)
    out.print(f"wrote {output}", soft_wrap=True)
