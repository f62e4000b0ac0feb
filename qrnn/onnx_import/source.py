"""Read .onnx files, which may be missing, damaged or hostile."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from qrnn.errors import ModelFileError
from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.external import LARGEST_FILE, load_external_data
from qrnn.onnx_import.node import DAMAGE, first_line
from qrnn.onnx_import.structure import check_structure
from qrnn.onnx_import.wire import check_wire
from qrnn.system.files import read_regular


@dataclass(frozen=True)
class Source:
    """A file that was read, whose parts are counted and whose external data are loaded; ``budget`` is what is left to it."""

    model: onnx.ModelProto
    name: str
    sha256: str
    budget: Budget


def read_onnx(path: str | os.PathLike[str]) -> Source:
    """Read an .onnx file with its external data; errors are those of `qrnn.load_onnx`, as far as they are not about the graph."""
    file = Path(path)
    content = _content(file)
    size = len(content)
    budget = Budget(size)
    digest = hashlib.sha256(content)
    check_wire(content, onnx.ModelProto.DESCRIPTOR, budget, f"'{file}'")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, *DAMAGE) as error:
        raise ModelFileError(
            f"'{file}' is not an ONNX model or is cut off ({first_line(error)}); export the model again"
        ) from error
    del content  # its values are in the model now
    name = file.stem.encode(errors="backslashreplace").decode()  # a file's name may be no Unicode; a model's is
    tensors = check_structure(model, name, budget).tensors
    budget.allow(size + load_external_data(tensors, file, size, digest))
    return Source(model, name, digest.hexdigest(), budget)


def _content(file: Path) -> bytes:
    """Return the bytes of a regular file; anything else is refused before it is opened."""
    try:
        content = read_regular(file, LARGEST_FILE)
    except OSError as error:
        remedy = "give the path of an .onnx file"
        if error.errno == errno.EFBIG:
            remedy = "protobuf reads no larger file, re-export with the weights in external files"
        raise ModelFileError(f"cannot read '{file}': {error.strerror}; {remedy}") from error
    if not content:
        raise ModelFileError(f"'{file}' is empty; export the model again")
    return content
