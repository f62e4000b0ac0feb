"""What commands share: reading arrays, consoles, progress, writing reports."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qrnn.data_files.archive import npz_bytes as npz_bytes
from qrnn.data_files.archive import read_arrays as read_arrays
from qrnn.errors import DataError
from qrnn.system.atomic import destination
from qrnn.system.progress import reporting

if TYPE_CHECKING:
    from rich.console import Console

    from qrnn.model.float_model import FloatModel
    from qrnn.model.quant_model import QuantModel
    from qrnn.onnx_import.control import FixedValue

IsaOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Instruction set of backend cpu; the best when left out.")
]

QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress bar, and no text but errors and what --json prints.")
]

BackendOption = Annotated[
    str, typer.Option(help="cpu; cuda, which is experimental (docs/cuda.md); or reference, slow, the definition.")
]

StreamOption = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="Of a graph that runs one step per call: carry every state from step to step, also one that is no input and output of the graph.",
    ),
]

StateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        metavar="IN=OUT",
        help="An input of the graph that holds past steps, and the output that gives it on to the next call; may be repeated. Most are found "
        "without it.",
    ),
]

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Fix an input of the graph, such as a sampling rate that chooses a branch (sr=16000), or a size that the file leaves free, by its "
        "name or as INPUT[AXIS]; may be repeated.",
    ),
]

FromOption = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="TENSOR",
        help="Take the graph from this tensor on, as an input of the model; may be repeated, or several with commas between. What lies "
        "before it is a graph of its own.",
    ),
]

ToOption = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        metavar="TENSOR",
        help="Take the graph up to this tensor, as an output of the model; may be repeated, or several with commas between. What lies behind "
        "it is a graph of its own.",
    ),
]

WindowOption = Annotated[
    str | None,
    typer.Option(
        "--window",
        metavar="N",
        help="What the graph normalizes over time: normalize it over the last N steps instead, or over all so far (all), so that it streams.",
    ),
]


_NOT_QRNN = (".onnx", ".keras", ".h5", ".hdf5", ".npz", ".npy", ".json", ".pt", ".pth")
"""How names of files of other kinds end."""

STDOUT = Path("/dev/stdout")
"""The path for which ``-`` stands as the name of an output; `qrnn.system.atomic` knows it on every system."""


def console(stderr: bool = False) -> Console:
    """Return a console for people, on which names of models are no markup; figures for programs go through `print_json`."""
    return _console_type()(stderr=stderr, highlight=False, markup=False, emoji=False)


@cache
def _console_type() -> type[Console]:
    """Return Rich's console class without its own way to end the process when the reader of stdout has gone; `qrnn.cli.main` does that."""
    from rich.console import Console

    class PipedConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return PipedConsole


def report_console(output: Path | None) -> Console:
    """Return a console for what people read beside an output: stderr where the output itself goes to stdout."""
    return console(stderr=is_stdout(output))


def is_stdout(output: Path | None) -> bool:
    """Return whether an output is this process's stdout, by a name such as ``/dev/stdout``."""
    return output is not None and destination(output).descriptor == 1


def check_json(json: bool, output: Path | None, option: str = "--output") -> None:
    """Raise DataError where ``--json`` and the output of an option would both be written to stdout."""
    if json and is_stdout(output):
        raise DataError(f"{option} and --json both go to stdout; leave out --json, or give {option} the name of a file")


def print_json(value: Any) -> None:
    """Print JSON to stdout."""
    print(json.dumps(value, indent=2, default=str))


def progress(label: str, shown: bool = True) -> AbstractContextManager[Callable[[int, int], Any]]:
    """Show a progress bar on stderr, which the body updates by calling it with (done, all); it vanishes when done.

    Nothing is shown where stderr is no terminal, or not ``shown``.
    """
    return reporting(None if shown else False, label, patience=0.0)


def states_named(given: list[str] | None) -> dict[str, str]:
    """Return the inputs and outputs that ``--state`` names; DataError for a text that is not IN=OUT, and for an input named twice."""
    named: dict[str, str] = {}
    for text in given or []:
        name, equals, output = text.partition("=")
        if not (name and equals and output):
            raise DataError(f"--state {text!r}, expected IN=OUT, the names of an input and of an output of the graph")
        if named.setdefault(name, output) != output:
            raise DataError(
                f"--state names input {name!r} twice, with the outputs {named[name]!r} and {output!r}; give one"
            )
    return named


def values_set(given: list[str] | None) -> dict[str, FixedValue]:
    """Return the values that ``--set`` gives; DataError for a text that is not NAME=VALUE, and for a name with two values."""
    found: dict[str, FixedValue] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        numbers = [_number(part.strip()) for part in value.split(",")]
        known = [number for number in numbers if number is not None]
        if not (name and equals) or len(known) < len(numbers):
            raise DataError(
                f"--set {text!r}, expected NAME=VALUE, the name of an input or of a size of the graph and a number, true or false, or several "
                "with commas between"
            )
        fixed = known[0] if len(known) == 1 else known
        if found.setdefault(name, fixed) != fixed:
            raise DataError(f"--set gives {name!r} twice, {found[name]} and {fixed}; give one")
    return found


def tensors_named(given: list[str] | None) -> tuple[str, ...]:
    """Return the names that a repeated option gives, of which one may hold several with commas between."""
    names = [part.strip() for text in given or () for part in text.split(",")]
    if "" in names:
        raise DataError(
            f"{' '.join(given or ())!r} names a tensor without a name; expected names of tensors with commas between"
        )
    return tuple(names)


def window_of(given: str | None) -> int | None:
    """Return the number of steps that ``--window`` gives, 0 for all so far; None without it, and DataError for any other text."""
    if given is None:
        return None
    steps = 0 if given == "all" else _number(given)
    if isinstance(steps, bool) or not isinstance(steps, int) or (steps < 1 and given != "all"):
        raise DataError(f"--window {given!r}, expected a number of steps from 1 on, or all")
    return steps


def _number(text: str) -> bool | int | float | None:
    """Return what a text says: a number, or true or false; None for anything else."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return None


def load_source(
    path: Path, model: QuantModel, state: list[str] | None = None, values: list[str] | None = None
) -> FloatModel:
    """Return the float model of the file that ``model`` was converted from, with the same memory, window and cuts.

    ``state`` is what the option ``--state`` holds, and ``values`` what ``--set`` does, beside those that ``model`` was converted with.
    """
    from qrnn.model.kinds.running_norm import QuantRunningNorm
    from qrnn.model.states import check_same_source
    from qrnn.trained_files import load_trained

    fixed = {**model.provenance.values, **values_set(values)}
    stream = all(layer.memory for layer in model.recurrent_layers)
    window = next((layer.steps for layer in model.layers if isinstance(layer, QuantRunningNorm)), None)
    cut = model.provenance.section
    ends = ((), ()) if cut is None else (cut.cut_from, cut.cut_to)
    source = load_trained(path, stream, states_named(state), fixed, None, window, *ends)
    check_same_source(source, model)  # before data are read, which may not fit another model
    return source


def check_output(path: Path, inputs: Iterable[Path] = ()) -> Path:
    """Refuse an output that could not be written, or that is an input by any name, before any work is done.

    Returns the path to write, which for ``-`` is stdout's.
    """
    if path == Path("-"):
        return STDOUT
    to = destination(path)
    for other in inputs:
        with suppress(OSError, ValueError):  # what cannot be read is said when it is read
            if to.found is not None and stat.S_ISREG(to.found.st_mode) and os.path.samestat(to.found, os.stat(other)):
                raise DataError(f"cannot write {path}: it is also an input; give another name")
    return path


def check_model_output(path: Path, inputs: Iterable[Path]) -> Path:
    """Check an output as `check_output` does, and refuse the name of another kind of file, which a .qrnn file might overwrite."""
    to = check_output(path, inputs)
    if path.suffix.lower() in _NOT_QRNN:
        raise DataError(
            f"cannot write {path}: what is written is a .qrnn file; give a name such as {path.with_suffix('.qrnn')}"
        )
    return to


def check_folder_output(folder: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output folder that is written as a whole and holds an input."""
    for other in inputs:
        with suppress(OSError, ValueError):
            if os.path.samefile(folder, os.path.dirname(os.path.realpath(other))):
                raise DataError(f"cannot write {folder}: the input {other} lies in it; give another folder")


def target_file(target: str | None) -> tuple[Path, ...]:
    """Return the file that ``--target`` names, as an input; none for the name of known hardware."""
    return (Path(target),) if target is not None and target.endswith(".toml") else ()
