"""A data file from tables of measurements (CSV): rows are time steps, columns features."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from qrnn.datasets.recordings import RecordingSet, numbered
from qrnn.datasets.sets import check_room, packed
from qrnn.errors import DataError
from qrnn.system.files import open_regular

BYTES_FOR_EACH = 64
"""At most so many bytes of memory are taken for each byte of a table: a row of one digit is two bytes, and a list with a number in Python."""


@dataclass
class _Sequence:
    """The rows of one sequence, and the label of each."""

    values: list[list[float]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RowChoices:
    """How rows become sequences.

    ``columns`` are the features, all other columns where it is empty. ``label`` is the column of labels. Where ``sequence`` is given, a new
    value in this column begins a new sequence; a new file always does. ``window`` cuts sequences into windows of so many rows, one every
    ``hop`` rows; rows that fill no window are left out. ``each_step`` keeps a label for each row; otherwise a sequence has one.
    """

    columns: tuple[str, ...] = ()
    label: str | None = None
    sequence: str | None = None
    window: int | None = None
    hop: int | None = None
    each_step: bool = False
    delimiter: str = ","

    def __post_init__(self) -> None:
        for what, value in (("--window", self.window), ("--hop", self.hop)):
            if value is not None and value < 1:
                raise DataError(f"{what} {value}, expected at least 1")
        if self.hop is not None and self.window is None:
            raise DataError("--hop says how far windows lie apart, and --window is not given; give it, too")
        if self.each_step and self.label is None:
            raise DataError("--label-each-step needs the column of labels; give --label")
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise DataError(f"--delimiter {self.delimiter!r}, expected one character, such as ';'")
        if len(set(self.columns)) < len(self.columns):
            raise DataError(f"--columns {','.join(self.columns)}: a column is named twice; name each once")


def row_set(paths: Sequence[Path], name: str, choices: RowChoices, known: Sequence[str] = ()) -> RecordingSet:
    """Return the data file of tables: sequences of input ``name``, with labels where a column has them, numbered as ``known`` says.

    The first line of each table has the names of its columns. DataError names the file, the line and the column of what is no number.
    """
    sequences: list[_Sequence] = []
    columns: tuple[str, ...] | None = None
    for path in paths:
        try:
            opened = open_regular(path)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; expected a table (CSV)") from None
        with opened as file:
            check_room(BYTES_FOR_EACH * os.fstat(file.fileno()).st_size)
            try:
                with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
                    found, own = _read(path, text, choices)
            except (csv.Error, UnicodeDecodeError) as error:
                raise DataError(f"{path}: not a table in UTF-8 ({error}); save it as CSV in UTF-8") from None
        if columns is not None and found != columns:
            raise DataError(f"{path}: columns {', '.join(found)}, expected those of {paths[0]}: {', '.join(columns)}")
        columns = found
        sequences += own
    cut = [part for sequence in sequences for part in _windows(sequence, choices)]
    if not cut:
        longest = max((len(s.values) for s in sequences), default=0)
        words = f"no sequence has {choices.window} rows; the longest has {longest}: choose a smaller --window"
        raise DataError(
            words if sequences else f"{paths[0]}: no row of numbers; expected lines below the names of columns"
        )
    values = [np.array(part.values, np.float32) for part in cut]
    if choices.label is None:
        return RecordingSet(packed(name, values), (), 0)
    classes, numbers = numbered([label for part in cut for label in part.labels], known)
    ends = np.cumsum([len(part.labels) for part in cut])
    by_step = np.split(np.array(numbers, np.int64), ends[:-1])
    labels: list[Any] = by_step
    if not choices.each_step:
        for number, steps in enumerate(by_step):
            if (steps != steps[0]).any():
                raise DataError(
                    f"--label {choices.label}: sequence {number} has several labels; add --label-each-step to keep one for each row, or begin "
                    "a new sequence where the label changes (--sequence-column)"
                )
        labels = [int(steps[-1]) for steps in by_step]
    return RecordingSet(packed(name, values, labels), classes, 0)


def _header(path: Path, fields: list[str], choices: RowChoices) -> list[str]:
    """Return the names of a table's columns; DataError for a first line that holds none."""
    names = [field.strip() for field in fields]
    if len(set(names)) < len(names) or not names:
        raise DataError(
            f"{path}: its first line is {'empty' if not names else 'no list of different names'}; expected names of columns"
        )
    others = [other for other in (";", "\t", ",") if other != choices.delimiter and other in names[0]]
    if len(names) == 1 and others:
        raise DataError(
            f"{path}: its first line is one field, {names[0]!r}; give what parts fields: --delimiter {others[0]!r}"
        )
    counted = names == [str(k) for k in range(len(names))]  # as of a table without names that another program numbered
    named = choices.columns or choices.label is not None or choices.sequence is not None
    if not named and not counted and all(map(_is_number, names)):
        raise DataError(
            f"{path}: its first line holds numbers alone ({names[0]}, …), which would be lost as names of columns; put a line of names above "
            "it, or give these as --columns"
        )
    return names


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read(path: Path, text: TextIO, choices: RowChoices) -> tuple[tuple[str, ...], list[_Sequence]]:
    """Return the names of a table's features, and its sequences."""
    reader = csv.reader(text, delimiter=choices.delimiter, strict=True)
    header = _header(path, next(reader, []), choices)
    beside = {name for name in (choices.label, choices.sequence) if name is not None}
    columns = choices.columns or tuple(name for name in header if name not in beside)
    for name in (*columns, *sorted(beside)):
        if name not in header:
            raise DataError(f"{path}: no column {name!r}; expected one of {', '.join(header)}")
    if not columns:
        raise DataError(f"{path}: no column is left for features; name them by --columns")
    places = [header.index(name) for name in columns]
    label, key = (None if name is None else header.index(name) for name in (choices.label, choices.sequence))
    sequences: list[_Sequence] = []
    last: str | None = None
    for row in _rows(path, reader, len(header)):
        now = "" if key is None else row[key]
        if not sequences or now != last:
            sequences.append(_Sequence())
            last = now
        sequences[-1].values.append([_number(path, reader.line_num, header[k], row[k]) for k in places])
        if label is not None:
            if not row[label].strip():
                raise DataError(
                    f"{path}, line {reader.line_num}: no label in column {header[label]!r}; expected one in each row"
                )
            sequences[-1].labels.append(row[label].strip())
    return columns, sequences


def _rows(path: Path, reader: Any, count: int) -> Iterator[list[str]]:
    """Yield the rows of a table that are not empty; each has ``count`` fields."""
    for row in reader:
        if row:
            if len(row) != count:
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(row)} fields, expected {count}, one for each column"
                )
            yield row


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= float(np.finfo(np.float32).max):
        raise DataError(f"{path}, line {line}, column {column!r}: {text[:40]!r}, expected a number that float32 holds")
    return value


def _windows(sequence: _Sequence, choices: RowChoices) -> Iterator[_Sequence]:
    """Yield the windows of a sequence, or the sequence itself where it is not cut."""
    if choices.window is None:
        yield sequence
        return
    for start in range(0, len(sequence.values) - choices.window + 1, choices.hop or choices.window):
        part = slice(start, start + choices.window)
        yield _Sequence(sequence.values[part], sequence.labels[part])
