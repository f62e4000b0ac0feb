"""Read a .qrnn file, or its bytes, as a safetensors file: arrays and texts by name. Nothing of the model is looked at."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import safetensors
import safetensors.numpy

from qrnn.errors import DataError, ModelFileError
from qrnn.model.codec import Tensors
from qrnn.system.contents import LONGEST, ONNX, QRNN, kind_of_content
from qrnn.system.files import open_regular

ModelFile: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""What is read as a converted model: the path of a .qrnn file, its bytes, or a file that is open for reading bytes."""

_BROKEN = (safetensors.SafetensorError, OSError, ValueError, TypeError, AttributeError, RecursionError)
"""What the library raises for a file that is not one of its own."""


@dataclass(frozen=True)
class Container:
    """What a file holds: arrays by name and texts by name. ``name`` is what messages call the file."""

    name: str
    metadata: dict[str, str]
    tensors: Tensors


def read_container(given: ModelFile) -> Container:
    """Read a file; ModelFileError names it and says what is wrong with it, DataError what was given in the place of a file."""
    if isinstance(given, (str, os.PathLike)):
        return _of_path(Path(given))
    content = given if isinstance(given, (bytes, bytearray, memoryview)) else _bytes_of_file(given)
    name = "what was given"
    content = bytes(content)
    try:
        tensors = safetensors.numpy.load(content)
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size]).get("__metadata__", {})
    except _BROKEN as error:
        raise _unreadable(name, content[:LONGEST], error) from None
    return Container(name, metadata, tensors)


def _of_path(file: Path) -> Container:
    try:
        with open_regular(file) as opened:  # safetensors would wait for a FIFO's writer
            beginning = opened.read(LONGEST)
    except OSError as error:
        raise ModelFileError(f"{file}: {error.strerror}; expected a .qrnn file made by qrnn convert") from None
    try:
        with safetensors.safe_open(file, framework="numpy") as stored:
            metadata = stored.metadata() or {}
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118  # not a mapping
    except _BROKEN as error:
        raise _unreadable(str(file), beginning, error) from None
    return Container(str(file), metadata, tensors)


def _bytes_of_file(given: Any) -> bytes:
    """Return the bytes of an open file; DataError for anything that is no such file."""
    read = getattr(given, "read", None)
    if read is None:
        raise DataError(f"model: {type(given).__name__}, expected the path of a .qrnn file, its bytes or an open file")
    content = read()
    if not isinstance(content, bytes):
        raise DataError(f"model: a file that gives {type(content).__name__}, expected bytes; open it with mode 'rb'")
    return content


def _unreadable(name: str, beginning: bytes, error: Exception) -> ModelFileError:
    """Return the error for a file that is no safetensors file, with what it is instead where that is known."""
    kind = kind_of_content(beginning)
    if kind == ONNX:
        target = name if name.endswith(".onnx") else "MODEL.onnx"
        return ModelFileError(
            f"{name}: {kind}, not a readable .qrnn file; convert it first: qrnn convert {target} --calibration DATA.npz -o MODEL.qrnn"
        )
    reason = kind or (str(error).splitlines()[0] if str(error) else type(error).__name__)
    if kind == QRNN:
        reason = "cut off or damaged"
    return ModelFileError(
        f"{name}: not a readable .qrnn file ({reason}); expected one that qrnn convert wrote; convert the model again"
    )
