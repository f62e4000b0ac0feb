"""Sequences become arrays of a data file, padded to the longest, with their lengths; and several data files become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qrnn.data_files.archive import SHARE_OF_MEMORY, available_memory
from qrnn.errors import DataError
from qrnn.system.sizes import size_text

Arrays = dict[str, Any]

BESIDE = ("lengths", "labels")
"""The arrays that stand beside the inputs of a graph."""


def packed(name: str, sequences: Sequence[Any], labels: Sequence[Any] | None = None) -> Arrays:
    """Return the arrays of a data file: ``name`` [N, T, F] in float32, ``lengths`` [N] and, where they are given, ``labels``.

    ``sequences`` are arrays [T, F]. ``labels`` has one integer for each sequence, or one array [T] for each. Padding is zero.
    """
    if name in BESIDE:
        raise DataError(f"the input is called {name!r}, which is the name of what stands beside inputs; give another")
    if not sequences:
        raise DataError("no sequence was found; expected at least one")
    lengths = np.array([len(s) for s in sequences], np.int64)
    shape = (len(sequences), int(lengths.max()), sequences[0].shape[1])
    check_room(int(np.prod(shape, dtype=object)) * 4)
    values = np.zeros(shape, np.float32)
    for row, sequence in zip(values, sequences, strict=True):
        row[: len(sequence)] = sequence
    arrays: Arrays = {name: values, "lengths": lengths}
    if labels is not None and np.ndim(labels[0]) == 0:
        arrays["labels"] = np.array(labels, np.int64)
    elif labels is not None:
        arrays["labels"] = np.zeros(shape[:2], np.int64)
        for row, steps in zip(arrays["labels"], labels, strict=True):
            row[: len(steps)] = steps
    return arrays


def joined(files: Mapping[str, Mapping[str, Any]]) -> Arrays:
    """Return the sequences of several data files, one file's after the other's, as the arrays of one.

    ``files`` are arrays by the names of their files. Axis 0 counts sequences. Axis 1 is time in arrays of three and more axes, and in
    arrays of two axes that are as long there; where its size differs between files, the shorter are padded with zeros, and ``lengths``
    is added. Every other size must agree. DataError names the file and the array that do not fit.
    """
    first, *others = files
    names = list(dict.fromkeys(name for name in files[first] if name != "lengths"))
    if not names:
        raise DataError(f"{first}: it holds no input; expected one array per graph input")
    for file, arrays in files.items():
        for name, array in arrays.items():
            if name.startswith("lengths."):
                raise DataError(
                    f"{file}: {name} belongs to one of several time axes, which are not joined; give files of models with one time axis"
                )
            if np.ndim(array) == 0:
                raise DataError(f"{file}: {name} is a single number, expected an array with an axis of sequences")
            if array.dtype.kind not in "biuf":
                raise DataError(f"{file}: {name} is of type {array.dtype}, expected real numbers")
        if len({len(array) for array in arrays.values()}) > 1:
            sizes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
            raise DataError(
                f"{file}: its arrays have different numbers of sequences ({sizes}); expected the same N first"
            )
        if own := set(names) ^ (set(arrays) - {"lengths"}):
            raise DataError(
                f"{file}: {', '.join(sorted(own))} is in one of {first} and {file} alone; expected the same"
            )
    steps = {file: _steps(file, arrays) for file, arrays in files.items()}
    timed = {name: all(_is_timed(files[file][name], steps[file]) for file in files) for name in names}
    padded = len(set(steps.values())) > 1
    total = 0
    shapes: dict[str, tuple[int, ...]] = {}
    for name in names:
        shape = list(files[first][name].shape)
        for file in others:
            found = list(files[file][name].shape)
            skip = 2 if timed[name] and padded else 1
            if len(found) != len(shape) or found[skip:] != shape[skip:]:
                raise DataError(
                    f"{file}: {name} has the shape {found}, and {shape} in {first}; expected the same sizes"
                )
        if timed[name]:
            shape[1] = max(step for step in steps.values() if step is not None)
        shapes[name] = (sum(len(arrays[name]) for arrays in files.values()), *shape[1:])
        kind = np.result_type(*(arrays[name].dtype for arrays in files.values()))
        total += int(np.prod(shapes[name], dtype=object)) * kind.itemsize
    check_room(total)
    made: Arrays = {}
    for name, whole in shapes.items():
        made[name] = np.zeros(whole, np.result_type(*(arrays[name].dtype for arrays in files.values())))
        at = 0
        for arrays in files.values():
            array = arrays[name]
            made[name][(slice(at, at + len(array)), *(slice(0, size) for size in array.shape[1:]))] = array
            at += len(array)
    if padded or any("lengths" in arrays for arrays in files.values()):
        made["lengths"] = np.concatenate([_lengths(file, arrays, steps[file]) for file, arrays in files.items()])
    return made


def _steps(file: str, arrays: Mapping[str, Any]) -> int | None:
    """Return the size of a file's time axis; None where its arrays are rows."""
    inputs = {name: array for name, array in arrays.items() if name not in BESIDE}
    found = {array.shape[1] for array in inputs.values() if array.ndim > 2}
    if not found and ("lengths" in arrays or all(array.dtype.kind in "iu" for array in inputs.values())):
        found = {array.shape[1] for array in inputs.values() if array.ndim == 2}  # tokens
    if len(found) > 1:
        raise DataError(f"{file}: its arrays have {', '.join(map(str, sorted(found)))} steps; expected one time axis")
    return found.pop() if found else None


def _is_timed(array: Any, steps: int | None) -> bool:
    return steps is not None and array.ndim > 1 and array.shape[1] == steps


def _lengths(file: str, arrays: Mapping[str, Any], steps: int | None) -> Any:
    """Return the lengths of a file's sequences: all steps where it has none."""
    if steps is None:
        raise DataError(f"{file}: its arrays are rows, and other files have sequences; expected the same")
    count = len(next(iter(arrays.values())))
    found = np.asarray(arrays.get("lengths", np.full(count, steps, np.int64)))
    if found.dtype.kind not in "iu" or found.shape != (count,):
        raise DataError(
            f"{file}: lengths of type {found.dtype} and shape {list(found.shape)}, expected integers [{count}]"
        )
    if count and (int(found.min()) < 0 or int(found.max()) > steps):
        raise DataError(f"{file}: lengths from {found.min()} to {found.max()}, expected 0 to {steps}")
    return found.astype(np.int64)


def check_room(size: int) -> None:
    """Raise DataError where arrays of ``size`` bytes would take more than `SHARE_OF_MEMORY` of the memory that is available."""
    free = available_memory()
    if free is not None and size > SHARE_OF_MEMORY * free:
        raise DataError(
            f"the arrays would take {size_text(size)}, and at most half of the memory that is free ({size_text(free)}) is used for them; "
            "give fewer sequences at a time, or none that is far longer than the others"
        )
