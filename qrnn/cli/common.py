"""What commands share: reading arrays, consoles, progress, writing reports."""

from __future__ import annotations

import io
import json
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qrnn.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console

    from qrnn.model.float_model import FloatModel
    from qrnn.model.quant_model import QuantModel

IsaOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Instruction set of backend cpu; the best when left out.")
]

StreamOption = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="Of a graph that runs one step per call: carry every state from step to step, also one that is no input and output of the graph.",
    ),
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


_UNREADABLE = (
    *(ValueError, TypeError, LookupError, OSError, EOFError, RuntimeError, MemoryError, OverflowError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError),
)
"""What NumPy and the zip reader raise on damaged, encrypted and impossible files."""


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of an .npz file; DataError names the file and what is wrong with it."""
    import numpy as np

    if not path.is_file():
        raise DataError(
            f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; expected an .npz file of arrays"
        )
    try:
        with path.open("rb") as file:
            data = np.load(file, allow_pickle=False)
            if isinstance(data, np.lib.npyio.NpzFile):
                with data:
                    return {name: data[name] for name in data.files}
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: not a readable .npz file of plain arrays ({reason})") from None
    raise DataError(f"{path}: holds one unnamed array; expected an .npz file with one array per graph input")


def load_source(path: Path, model: QuantModel) -> FloatModel:
    """The float model of the ONNX file that ``model`` was converted from, with the same memory from step to step."""
    from qrnn.onnx_import import load_onnx

    return load_onnx(path, stream=all(layer.memory for layer in model.recurrent_layers))


def npz_bytes(arrays: Mapping[str, Any]) -> bytes:
    """An .npz file's content."""
    import numpy as np

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:  # np.savez takes no array named "file"
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


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
