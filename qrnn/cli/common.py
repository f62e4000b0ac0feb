"""What commands share: reading arrays, consoles, progress, writing reports."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qrnn.cli.arrays import npz_bytes as npz_bytes
from qrnn.cli.arrays import read_arrays as read_arrays
from qrnn.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console

IsaOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Instruction set of backend cpu; the best when left out.")
]


def console(stderr: bool = False) -> Console:
    """A console for people; figures for programs go through `print_json`."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)  # names in models may look like markup


def print_json(value: Any) -> None:
    """JSON on stdout."""
    print(json.dumps(value, indent=2, default=str))


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr; the body calls it with (done, all). It vanishes when done."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    out = console(stderr=True)
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def size_text(count: int) -> str:
    """Bytes for people."""
    if count < 10_000:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < 10_000_000 else f"{count / 1048576:.1f} MiB"


def check_output(path: Path, inputs: tuple[Path, ...] = ()) -> None:
    """Refuse an output that could not be written, before any work is done."""
    try:
        if not path.parent.is_dir():
            raise DataError(f"cannot write {path}: no folder {path.parent}; make it first")
        if path.is_dir():
            raise DataError(f"cannot write {path}: it is a folder; give a file name")
        for other in inputs:
            if path.exists() and other.exists() and path.samefile(other):
                raise DataError(f"cannot write {path}: it is also an input; give another name")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}; give another name") from None
