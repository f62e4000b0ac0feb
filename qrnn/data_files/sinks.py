"""Files of arrays that are written as their rows come: .npz, .npy and Zarr. They appear whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from qrnn.data_files.foreign import zarr_library
from qrnn.errors import DataError
from qrnn.system.atomic import destination, writing

ZARR_CHUNK_BYTES = 4 << 20
"""About how many bytes a chunk of a Zarr array has that is written."""

Arrays = Mapping[str, npt.NDArray[Any]]


class Sink(Protocol):
    """Arrays that are written row by row."""

    def write(self, arrays: Arrays) -> None:
        """Add the next rows of every array, the same number of each."""


def is_zarr_name(path: Path) -> bool:
    """Return whether an output of this name is a Zarr group."""
    return path.suffix == ".zarr"


def check_sink(path: Path, names: tuple[str, ...]) -> None:
    """Refuse an output that could not be written, or that cannot hold arrays of these ``names``, before any work is done."""
    if path.suffix == ".npy" and len(names) != 1:
        raise DataError(
            f"{path}: an .npy file holds one array, and the outputs are {', '.join(names)}; write an .npz file"
        )
    if not is_zarr_name(path):
        destination(path)
        return
    zarr_library()
    if os.path.lexists(path):
        raise DataError(f"cannot write {path}: it is there already; give another name, or remove it")
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK | os.X_OK)):
        raise DataError(f"cannot write {path}: no folder {path.parent} that may be written; make it first")


@contextmanager
def open_sink(path: Path, size: int) -> Iterator[Sink]:
    """Open a file for arrays of ``size`` rows, by the end of its name: .npy, .zarr, or else .npz. It is there when the body has ended."""
    if is_zarr_name(path):
        with _zarr(path, size) as group:
            yield group
        return
    with writing(path) as file, ExitStack() as stack:
        sink = _NpySink(file, size) if path.suffix == ".npy" else _NpzSink(file, size, stack, _folder_of(path))
        yield sink
        sink.finish()


def _folder_of(path: Path) -> str | None:
    """Return the folder for temporary files beside an output; None for the system's."""
    to = destination(path)
    return (os.path.dirname(to.place) or os.curdir) if to.is_file else None


class _Member:
    """An array in a file: a header that says how many rows there will be, and then the rows."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size, self._rows = file, size, 0
        self._like: tuple[tuple[int, ...], np.dtype[Any]] | None = None

    def write(self, name: str, array: npt.NDArray[Any], header: bool = True) -> None:
        """Add rows, which must be of the shape and type of the first ones."""
        like = (array.shape[1:], array.dtype)
        if self._like is None:
            self._like = like
            if header:
                write_header(self._file, array, self._size)
        if like != self._like:
            raise AssertionError(f"rows of {name!r} are {like} after {self._like}")
        self._rows += len(array)
        self._file.write(np.ascontiguousarray(array).data)

    def finish(self, name: str) -> None:
        """Check that all rows have come."""
        if self._rows != self._size:
            raise AssertionError(f"{self._rows} rows of {name!r}, not {self._size}")


def write_header(file: IO[bytes], array: npt.NDArray[Any], size: int) -> None:
    """Write the header of an .npy file of ``size`` rows like those of ``array``."""
    described = np.lib.format.dtype_to_descr(array.dtype)
    content = {"descr": described, "fortran_order": False, "shape": (size, *array.shape[1:])}
    np.lib.format.write_array_header_1_0(file, content)


class _NpySink:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._member = _Member(file, size)

    def write(self, arrays: Arrays) -> None:
        """See `Sink.write`."""
        ((name, array),) = arrays.items()
        self._member.write(name, array)

    def finish(self) -> None:
        """Check that all rows have come."""
        self._member.finish("the array")


class _NpzSink:
    """An archive takes its members one after the other: the first array goes straight into it, the others wait in temporary files."""

    def __init__(self, file: BinaryIO, size: int, stack: ExitStack, folder: str | None) -> None:
        self._archive = stack.enter_context(zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED))
        self._size, self._stack, self._folder = size, stack, folder
        self._first: IO[bytes] | None = None
        stack.callback(self._close_first)  # an archive is not closed before its members
        self._members: dict[str, _Member] = {}
        self._waiting: dict[str, tuple[IO[bytes], npt.NDArray[Any]]] = {}

    def write(self, arrays: Arrays) -> None:
        """See `Sink.write`."""
        for name, array in arrays.items():
            if name not in self._members:
                self._members[name] = _Member(self._place(name, array), self._size)
            self._members[name].write(name, array, header=name not in self._waiting)

    def _place(self, name: str, array: npt.NDArray[Any]) -> IO[bytes]:
        if self._first is None:
            self._first = self._open(name)
            return self._first
        file = self._stack.enter_context(tempfile.TemporaryFile(dir=self._folder))  # noqa: SIM115  # the stack closes it
        self._waiting[name] = (file, array[:0])
        return file

    def _close_first(self) -> None:
        if self._first is not None:
            self._first.close()

    def _open(self, name: str) -> IO[bytes]:
        return self._archive.open(f"{name}.npy", "w", force_zip64=True)

    def finish(self) -> None:
        """Move what waits into the archive, and close it."""
        for name, rows in self._members.items():
            rows.finish(name)
        self._close_first()
        for name, (file, like) in self._waiting.items():
            file.seek(0)
            with self._open(name) as member:
                write_header(member, like, self._size)
                shutil.copyfileobj(file, member, 1 << 20)
            file.close()
        self._archive.close()


class _ZarrRows:
    """An array of a group. It is written in whole chunks, since a chunk that gets rows twice is unpacked and packed twice."""

    def __init__(self, group: Any, name: str, like: npt.NDArray[Any], size: int) -> None:
        self._chunk = min(size, max(1, ZARR_CHUNK_BYTES // max(1, like[:1].nbytes)))
        chunks = (self._chunk, *(max(1, n) for n in like.shape[1:]))
        self._array = group.create_array(name, shape=(size, *like.shape[1:]), chunks=chunks, dtype=like.dtype)
        self._size, self._row = size, 0
        self._waiting: list[npt.NDArray[Any]] = []
        self._held = 0

    def write(self, rows: npt.NDArray[Any]) -> None:
        """Add rows, and write the chunks that are full."""
        self._waiting.append(rows)
        self._held += len(rows)
        if self._held >= self._chunk:
            self._put(self._held // self._chunk * self._chunk)

    def _put(self, count: int) -> None:
        together = np.concatenate(self._waiting)
        self._array[self._row : self._row + count] = together[:count]
        self._row, self._held = self._row + count, self._held - count
        self._waiting = [together[count:].copy()] if self._held else []

    def finish(self, name: str) -> None:
        """Write what is left, and check that all rows have come."""
        if self._held:
            self._put(self._held)
        if self._row != self._size:
            raise AssertionError(f"{self._row} rows of {name!r}, not {self._size}")


class _ZarrSink:
    def __init__(self, group: Any, size: int) -> None:
        self._group, self._size = group, size
        self._arrays: dict[str, _ZarrRows] = {}

    def write(self, arrays: Arrays) -> None:
        """See `Sink.write`."""
        for name, array in arrays.items():
            if name not in self._arrays:
                self._arrays[name] = _ZarrRows(self._group, name, array, self._size)
            self._arrays[name].write(array)

    def finish(self) -> None:
        """Write what waits for a chunk to be full."""
        for name, rows in self._arrays.items():
            rows.finish(name)


@contextmanager
def _zarr(path: Path, size: int) -> Iterator[Sink]:
    """Return a Zarr group that gets its name when all of it is there."""
    temporary = tempfile.mkdtemp(dir=path.parent, prefix=".qrnn.")
    try:
        place = os.path.join(temporary, "group.zarr")
        sink = _ZarrSink(zarr_library().open_group(place, mode="w"), size)
        yield sink
        sink.finish()
        try:
            os.rename(place, path)
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror}; give another name") from None
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
