"""A data file from WAV files, with labels by the names of their folders or by a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qrnn.datasets.features import bytes_of, read_features
from qrnn.datasets.sets import Arrays, check_room, packed
from qrnn.datasets.wav import read_wav
from qrnn.errors import DataError
from qrnn.system.files import read_regular

MOST_FILES = 1_000_000
MOST_TABLE = 1 << 26
"""The most bytes of a table of labels."""

FOLDER = "folder"
"""The word of ``--labels`` for the names of folders."""


@dataclass(frozen=True)
class RecordingSet:
    """The arrays of a data file, the names of its classes in the order of their numbers, and the rate of its recordings in Hz."""

    arrays: Arrays
    classes: tuple[str, ...]
    rate: int


def wav_files(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the WAV files that paths name; those of a folder, and of the folders in it, in the order of their names."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() == ".wav" and p.is_file())
            if not inside:
                raise DataError(
                    f"{path}: the folder holds no file that ends in .wav; expected recordings in it or in its folders"
                )
            found += inside
        else:
            found.append(path)
        if len(found) > MOST_FILES:
            raise DataError(f"{path}: more than {MOST_FILES:,} files; make several data files, and join them")
    return tuple(found)


def recording_set(
    paths: Sequence[Path],
    name: str,
    frames: str,
    features: str,
    labels: str | None = None,
    rate: int | None = None,
    channel: int | None = None,
    known: Sequence[str] = (),
) -> RecordingSet:
    """Return the data file of recordings: features of each file as one sequence of input ``name``.

    ``frames`` and ``features`` are the texts of `qrnn.datasets.features`. ``labels`` is ``folder``, a class for the name of each folder, or the
    path of a table with the columns ``file`` and ``label``. Without ``rate``, that of the first file is expected of all. ``known``
    are classes in the order of their numbers; without them, the names of labels are numbered in order.
    """
    files = wav_files(paths)
    given = None if labels is None else _by_folder(files) if labels == FOLDER else _by_table(Path(labels), files)
    sequences: list[Any] = []
    held, made = 0, None
    for file in files:
        recording = read_wav(file, channel, rate)
        if made is None:
            rate = recording.rate
            made = read_features(features, frames, rate)
        check_room(held + bytes_of(made, len(recording.samples)))
        sequences.append(made.real(recording.samples))
        held += sequences[-1].nbytes
    classes, numbers = numbered(given, known) if given is not None else ((), None)
    return RecordingSet(packed(name, sequences, numbers), classes, rate or 0)


def numbered(labels: Sequence[str], known: Sequence[str] = ()) -> tuple[tuple[str, ...], list[int]]:
    """Return the names of classes, in the order of their numbers, and each label's number.

    ``known`` are the classes where they are given, and DataError names a label that is none of them. Otherwise labels that all are the
    numbers 0, 1, … keep them, and have no names; and others are numbered in the order of their names.
    """
    if known:
        if new := sorted(set(labels) - set(known)):
            raise DataError(f"label {new[0]!r} is none of the known classes; expected one of {', '.join(known)}")
    elif all(label.isascii() and label.isdigit() and len(label) < 10 for label in labels):
        return (), [int(label) for label in labels]
    classes = tuple(known) or tuple(sorted(set(labels)))
    places = {label: k for k, label in enumerate(classes)}
    return classes, [places[label] for label in labels]


def read_classes(path: Path) -> tuple[str, ...]:
    """Return the classes in a file that ``--classes`` wrote, one a line."""
    try:
        found = tuple(line for line in read_regular(path, MOST_TABLE).decode("utf-8-sig").splitlines() if line.strip())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected the names of classes, one a line") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text in UTF-8 ({error}); save it as UTF-8") from None
    if not found or len(set(found)) < len(found):
        raise DataError(
            f"{path}: {'it is empty' if not found else 'it names a class twice'}; expected the names of classes, one a line"
        )
    return found


def _by_folder(files: Sequence[Path]) -> list[str]:
    return [file.resolve().parent.name for file in files]


def _by_table(table: Path, files: Sequence[Path]) -> list[str]:
    """Return each file's label: the table names it by its path beside the table, as it was given, or by its name alone."""
    known = _label_table(table)
    labels = []
    for file in files:
        names = [str(file), file.name]
        if file.resolve().is_relative_to(table.resolve().parent):
            names.insert(0, file.resolve().relative_to(table.resolve().parent).as_posix())
        found = next((known[name] for name in names if name in known), None)
        if found is None:
            raise DataError(f"{table}: no line for {file}; expected one with {names[0]} in column file")
        labels.append(found)
    return labels


def _label_table(table: Path) -> Mapping[str, str]:
    try:
        text = read_regular(table, MOST_TABLE).decode("utf-8-sig")
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns = rows.fieldnames or []
        if "file" not in columns or "label" not in columns:
            raise DataError(
                f"{table}: columns {', '.join(columns) or 'none'}, expected file and label in the first line"
            )
        known: dict[str, str] = {}
        for row in rows:
            file, label = row["file"], row["label"]
            if not file or not label:
                raise DataError(f"{table}, line {rows.line_num}: a file or a label is missing; expected both")
            if known.setdefault(file, label) != label:
                raise DataError(
                    f"{table}, line {rows.line_num}: {file} has two labels, {known[file]} and {label}; expected one"
                )
    except OSError as error:
        raise DataError(
            f"{table}: {error.strerror}; expected a table with the columns file and label, or the word folder"
        ) from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{table}: not a table of labels in UTF-8 ({error}); save it as CSV in UTF-8") from None
    return known
