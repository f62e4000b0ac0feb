"""Read weights in files beside the model; which bytes a tensor names is checked before any of them is read."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx

from qrnn.errors import ModelFileError
from qrnn.onnx_import.constants import stored_bytes
from qrnn.onnx_import.structure import LONGEST_NAME

LARGEST_FILE = (1 << 31) - 1
"""Bytes of a model with its external data: the most that protobuf can hold."""

LARGEST_READ = 1 << 30
"""The most bytes that one call reads; some systems read no more than 2^31."""


def is_external(tensor: onnx.TensorProto) -> bool:
    """Return whether a tensor's data are in another file. The list ``external_data`` of any other tensor means nothing."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


@dataclass(frozen=True)
class Range:
    """The bytes of a file that a tensor names; ``length`` is what its type and shape need."""

    location: str
    offset: int
    length: int
    to_end: bool
    """Whether the file must end there, because the tensor does not say its length."""


def load_external_data(tensors: Iterable[onnx.TensorProto], model_file: Path, size: int, digest: hashlib._Hash) -> int:
    """Read the data of the external ones among ``tensors`` into them, and return the number of bytes read.

    The files must be regular ones in the folder of ``model_file`` or below it. ``size`` is that of the model itself in bytes. ``digest`` is
    updated with the bytes read: each range once, by file and offset. Raises `ModelFileError`.
    """
    wanted = [(_range(tensor), tensor) for tensor in tensors if is_external(tensor)]
    if not wanted:
        return 0
    wanted.sort(key=lambda pair: (pair[0].location, pair[0].offset, pair[0].length))
    folder = os.path.realpath(model_file.parent)
    total = sum(r.length for r, _ in wanted)
    by_location: dict[str, list[tuple[Range, onnx.TensorProto]]] = {}
    for r, tensor in wanted:
        by_location.setdefault(r.location, []).append((r, tensor))
    sizes = {
        location: _checked_size(folder, location, [r for r, _ in pairs]) for location, pairs in by_location.items()
    }
    if size + total > LARGEST_FILE:
        raise ModelFileError(
            f"'{model_file}' is {size + total} bytes with its external data; at most {LARGEST_FILE} are supported"
        )
    if total > 2 * sum(sizes.values()):
        raise ModelFileError(
            f"'{model_file}' reads {total} bytes from external files of {sum(sizes.values())} bytes; its tensors share bytes more than "
            "twice over, re-export with each tensor's own data"
        )
    for location, pairs in by_location.items():
        with _opened(folder, location) as (file, found):
            before: Range | None = None
            data = b""
            for r, tensor in pairs:
                _check_range(r, location, found)
                if r != before:
                    data = _read(file, r, location)
                    digest.update(data)
                before = r
                tensor.raw_data = data
                tensor.data_location = onnx.TensorProto.DEFAULT
                del tensor.external_data[:]
    return total


def _range(tensor: onnx.TensorProto) -> Range:
    """Return where a tensor says that its data are."""
    where = f"tensor '{tensor.name}'"
    given: dict[str, str] = {}
    for entry in tensor.external_data:
        if entry.key in ("location", "offset", "length"):
            if entry.key in given:
                raise ModelFileError(
                    f"{where} gives the {entry.key} of its external data twice; export the model again"
                )
            given[entry.key] = entry.value
    location = given.get("location", "")
    if not location or len(location) > LONGEST_NAME or "\0" in location:
        raise ModelFileError(
            f"{where} has its data in an external file named '{location[:40]}'; expected a path relative to the model's folder"
        )
    needed = stored_bytes(tensor, where)
    numbers = {
        key: _number(given[key], f"{where}: {key} of its external data") for key in ("offset", "length") if key in given
    }
    if numbers.get("length", needed) != needed:
        raise ModelFileError(
            f"{where} names {numbers['length']} bytes of '{location}' but its type and shape {list(tensor.dims)} need {needed}; "
            "export the model again"
        )
    return Range(location, numbers.get("offset", 0), needed, "length" not in given)


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelFileError(f"{what} is '{text[:40]}', expected a number of bytes; export the model again")
    return int(text)


def _refuse(location: str, why: str) -> ModelFileError:
    return ModelFileError(
        f"the model keeps weights in external files ({location}) that cannot be read: {why}; keep them beside the model"
    )


def _steps(folder: str, location: str) -> tuple[str, ...]:
    """Return the path from ``folder`` to a file in it, part by part, with all links and ``..`` resolved."""
    if os.path.isabs(location):
        raise _refuse(location, "the path is not a relative one")
    resolved = os.path.realpath(os.path.join(folder, location))
    steps = Path(os.path.relpath(resolved, folder)).parts
    if not steps or steps[0] == os.pardir or os.path.isabs(steps[0]):
        raise _refuse(location, "the file is outside the model's folder")
    return steps


def _checked_size(folder: str, location: str, ranges: list[Range]) -> int:
    """Return the size of an external file, which must hold all ``ranges``; nothing is opened for it."""
    try:
        found = os.lstat(os.path.join(folder, *_steps(folder, location)))
    except (OSError, ValueError) as error:
        raise _refuse(location, str(error)) from error
    _check_regular(found, location)
    for r in ranges:
        _check_range(r, location, found)
    return found.st_size


def _check_regular(found: os.stat_result, location: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise _refuse(location, "it is not a regular file")


def _check_range(r: Range, location: str, found: os.stat_result) -> None:
    end = r.offset + r.length
    if end > found.st_size or (r.to_end and end != found.st_size):
        raise _refuse(
            location, f"a tensor needs {r.length} bytes from {r.offset} on, the file has {found.st_size} bytes"
        )


@contextmanager
def _opened(folder: str, location: str) -> Iterator[tuple[int, os.stat_result]]:
    """Open an external file for reading, and return its descriptor and status. A link put in its way meanwhile is not followed."""
    steps = _steps(folder, location)
    handles: list[int] = []
    try:
        if os.open in os.supports_dir_fd:
            handles.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
            for step in steps[:-1]:
                handles.append(os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handles[-1]))
            _check_regular(os.stat(steps[-1], dir_fd=handles[-1], follow_symlinks=False), location)
            # a FIFO put in its place meanwhile must not wait for a writer
            handles.append(os.open(steps[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handles[-1]))
        else:
            handles.append(os.open(os.path.join(folder, *steps), os.O_RDONLY | getattr(os, "O_BINARY", 0)))
        found = os.fstat(handles[-1])
        _check_regular(found, location)
        yield handles[-1], found
    except (OSError, ValueError) as error:
        raise _refuse(location, str(error)) from error
    finally:
        for handle in reversed(handles):
            os.close(handle)


def _read(file: int, r: Range, location: str) -> bytes:
    """Read all bytes of a range."""
    os.lseek(file, r.offset, os.SEEK_SET)
    data = read_exactly(file, r.length)
    if len(data) != r.length:
        raise _refuse(location, "it became shorter while it was read")
    return data


def read_exactly(file: int, length: int) -> bytes:
    """Read ``length`` bytes from an open file, fewer where it ends before."""
    chunks, left = [], length
    while left:
        chunk = os.read(file, min(left, LARGEST_READ))
        if not chunk:
            break
        chunks.append(chunk)
        left -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
