"""Open a file of arrays for a model, to be read in pieces of a few sequences, however many it has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt

from qrnn.data_files import archive
from qrnn.data_files.archive import SHARE_OF_MEMORY, Declared, check_arrays_fit, refusing
from qrnn.data_files.foreign import ParquetStore, ZarrStore, is_zarr
from qrnn.data_files.stores import NpyStore, NpzStore, Store, npy_folder
from qrnn.errors import DataError
from qrnn.model.float_model import GraphInput
from qrnn.model.user_values import check_count
from qrnn.system.files import open_regular
from qrnn.system.sizes import size_text

PIECE_BYTES = 4 << 20
"""About how many bytes of a file are read at a time; what is computed of them takes a multiple."""

WHOLE_BYTES = 4 << 20
"""The largest file that ``qrnn compare`` reads whole."""

_NPY, _PARQUET = b"\x93NUMPY", b"PAR1"


class Piece(NamedTuple):
    """The arrays of sequences ``start`` … ``stop`` - 1 of a file, by name."""

    start: int
    stop: int
    arrays: dict[str, npt.NDArray[Any]]


class HasInputs(Protocol):
    """A model, as far as its data are concerned."""

    @property
    def inputs(self) -> tuple[GraphInput, ...]:
        """Return the graph inputs."""


class DataFile:
    """Arrays in a file, one for each graph input of a model, read in pieces of a few sequences; see `open_data`."""

    def __init__(self, path: Path, store: Store, declared: dict[str, Declared]) -> None:
        self.path, self._store = path, store
        self.declared = declared
        self.size = next(iter(declared.values())).shape[0]
        """The number of sequences N."""
        self._names = dict(zip(store.declared, declared, strict=True))

    @property
    def nbytes(self) -> int:
        """Return the size of all arrays in bytes."""
        return sum(array.nbytes for array in self.declared.values())

    def chunks(self, sequences: int | None = None) -> Iterator[Piece]:
        """Yield the pieces in order, of at most so many ``sequences``; of about `PIECE_BYTES` where it is None.

        Each call begins with the first sequence, and ends what the call before it had begun. DataError names the file where it is damaged.
        """
        if sequences is not None:
            check_count("sequences", sequences)
        rows = sequences or self._rows()
        with refusing(self.path), self._store.readers() as readers:
            for start in range(0, self.size, rows):
                stop = min(self.size, start + rows)
                yield Piece(start, stop, {self._names[name]: read(stop - start) for name, read in readers.items()})

    def _rows(self) -> int:
        """Return how many sequences are read at a time; DataError where one does not fit into memory."""
        one, free = -(-self.nbytes // self.size), archive.available_memory()
        if free is not None and one > SHARE_OF_MEMORY * free:
            raise DataError(
                f"{self.path}: one sequence takes {size_text(one)}, and at most half of the memory that is free ({size_text(free)}) is used "
                "for one; give shorter sequences, or stream them step by step"
            )
        return max(1, PIECE_BYTES // max(1, one))

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def __enter__(self) -> DataFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_data(path: str | os.PathLike[str], model: HasInputs) -> DataFile:
    """Open a file of arrays for a model, whose sequences are then read in pieces: memory does not grow with their number.

    Parameters
    ----------
    path: an .npz file, whose members are unpacked as they are read; a folder of files NAME.npy; a Zarr group; or a Parquet file with a row for
        each sequence, whose columns are numbers or nested lists. Arrays are named and shaped as `Session.run` takes them, with ``lengths``
        and ``labels`` beside them where there are any. Of a model with one input, an .npy file or a single Zarr array will do.
    model: what the arrays are for; they are checked against its inputs by name, shape and type before values are read.

    Raises DataError, which names the file, the array and what is wrong with it; MissingLibraryError where zarr or pyarrow is not installed.
    """
    place = Path(path)
    with refusing(place):
        store = _store_of(place)
        try:
            declared = _named(store.declared, model.inputs)
            check_arrays_fit(model.inputs, declared)
            return DataFile(place, store, declared)
        except BaseException:
            store.close()
            raise


def _store_of(path: Path) -> Store:
    """Return the arrays of a file, by what it begins with, or of a folder."""
    if path.is_dir():
        return ZarrStore(path) if is_zarr(path) else npy_folder(path)
    try:
        file = open_regular(path)
    except OSError as error:
        raise DataError(
            f"{error.strerror}; expected an .npz, .npy or Parquet file of arrays, or a Zarr store"
        ) from None
    try:
        start = file.read(6)
        file.seek(0)
        if start == _NPY:
            return NpyStore({"": file})
        if start.startswith(_PARQUET):
            return ParquetStore(file)
        return NpzStore(file)
    except BaseException:
        file.close()
        raise


def _named(declared: Any, inputs: tuple[GraphInput, ...]) -> dict[str, Declared]:
    """Return the arrays by name; one without a name is that of the model's only input."""
    if set(declared) != {""}:
        return dict(declared)
    wanted = [i.name for i in inputs if i.kind in ("features", "tokens")]
    if len(wanted) != 1:
        raise DataError(
            f"holds one unnamed array, and the model has the inputs {', '.join(wanted)}; expected an .npz file with one array per graph input"
        )
    return {wanted[0]: declared[""]}
