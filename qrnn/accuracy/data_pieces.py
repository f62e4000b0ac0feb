"""The data of a comparison, in pieces of a few sequences: of arrays in memory, or of a file that is larger than it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt

from qrnn.accuracy.float_run import piece_size
from qrnn.data_files.opening import DataFile
from qrnn.model.batch import Batch, make_batch
from qrnn.model.float_model import FloatModel
from qrnn.model.user_values import as_array
from qrnn.quantization.floor import Features, FeatureSums, features_of

Labels = npt.NDArray[Any] | None


class Compared(NamedTuple):
    """Sequences ``start`` … ``stop`` - 1 with their labels, if there are any."""

    start: int
    stop: int
    batch: Batch
    labels: Labels


class ComparedData(Protocol):
    """What is compared: ``size`` sequences, of which ``first`` are some, or all, with ``labels`` of as many."""

    size: int
    first: Batch
    labels: Labels
    in_memory: bool
    """Whether results of each sequence may be kept."""

    def pieces(self) -> Iterator[Compared]:
        """Return all sequences, as many at a time as `piece_size` says."""

    def features(self) -> Mapping[str, Features]:
        """Return the scales and offsets of graph inputs' features; see `qrnn.quantization.floor`."""


def compared_data(model: FloatModel, data: Mapping[str, Any] | DataFile) -> ComparedData:
    """Return arrays or a file as data of a comparison; DataError for arrays that do not fit the model."""
    return _FileData(model, data) if isinstance(data, DataFile) else _ArrayData(model, data)


class _ArrayData:
    in_memory = True

    def __init__(self, model: FloatModel, data: Mapping[str, Any]) -> None:
        self._model = model
        self.first = make_batch(model.inputs, data)
        self.size = self.first.size
        self.labels: Labels = None if data.get("labels") is None else as_array("labels", data["labels"])

    def pieces(self) -> Iterator[Compared]:
        """See `ComparedData.pieces`."""
        for start, stop, piece in self.first.chunks(piece_size(self._model, self.first)):
            yield Compared(start, stop, piece, None if self.labels is None else self.labels[start:stop])

    def features(self) -> Mapping[str, Features]:
        """See `ComparedData.features`."""
        return features_of(self._model, self.first)


class _FileData:
    in_memory = False

    def __init__(self, model: FloatModel, data: DataFile) -> None:
        self._model, self._data, self.size = model, data, data.size
        piece = next(iter(data.chunks()))
        self.first = make_batch(model.inputs, piece.arrays)
        self.labels: Labels = piece.arrays.get("labels")

    def pieces(self) -> Iterator[Compared]:
        """See `ComparedData.pieces`."""
        for start, batch, labels in self._batches():
            for first, last, piece in batch.chunks(piece_size(self._model, batch)):
                yield Compared(start + first, start + last, piece, None if labels is None else labels[first:last])

    def features(self) -> Mapping[str, Features]:
        """See `ComparedData.features`; the whole file is read for it."""
        sums = FeatureSums(self._model)
        for _, batch, _ in self._batches():
            sums.add(batch)
        return sums.features()

    def _batches(self) -> Iterator[tuple[int, Batch, Labels]]:
        for piece in self._data.chunks():
            yield (
                piece.start,
                make_batch(self._model.inputs, piece.arrays, first=piece.start),
                piece.arrays.get("labels"),
            )
