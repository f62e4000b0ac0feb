"""Read .onnx files, which may be missing, damaged or hostile."""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from qrnn.errors import DataError, ModelFileError
from qrnn.model.float_model import FloatModel
from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.control import FixedValue
from qrnn.onnx_import.external import LARGEST_FILE, is_external, load_external_data
from qrnn.onnx_import.graph import import_checked
from qrnn.onnx_import.node import DAMAGE, first_line
from qrnn.onnx_import.problems import written
from qrnn.onnx_import.structure import check_structure
from qrnn.onnx_import.wire import check_wire
from qrnn.system.contents import DATA, LONGEST, ONNX, PYTORCH, kind_of_content
from qrnn.system.files import read_regular

UNNAMED = "model"
"""The name of a model that has none of its own."""

KERAS = (b"PK\x03\x04", b"\x89HDF\r\n\x1a\n")
"""How Keras's files begin, which are zips and HDF5."""


@dataclass(frozen=True)
class Source:
    """A file that was read, whose parts are counted and whose external data are loaded; ``budget`` is what is left to it."""

    model: onnx.ModelProto
    name: str
    sha256: str
    budget: Budget

    @property
    def operators(self) -> dict[str, int]:
        """Return how many nodes of each operator the file has, most frequent first."""
        return operators_of(self.model.graph)

    def imported(
        self,
        stream: bool = False,
        state: Mapping[str, str] | None = None,
        values: Mapping[str, FixedValue] | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
        window: int | None = None,
    ) -> FloatModel:
        """Import the graph; arguments and errors are those of `qrnn.load_onnx`. It is imported once, since its budget is used up."""
        return import_checked(self.model, self.name, self.sha256, self.budget, stream, state, values, shapes, window)


def operators_of(graph: onnx.GraphProto) -> dict[str, int]:
    """Return how many nodes of each operator a graph has, most frequent first."""
    return dict(Counter(written(node) for node in graph.node).most_common())


OnnxModel: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | onnx.ModelProto
"""What is read as an ONNX model: the path of a file, its bytes, a file that is open for reading bytes, or the model itself."""


def read_onnx(given: OnnxModel) -> Source:
    """Read an ONNX model with its external data; errors are those of `qrnn.load_onnx`, as far as they are not about the graph."""
    if isinstance(given, (str, os.PathLike)):
        file = Path(given)
        return _read(_content(file), file.stem, f"'{file}'", file)
    if isinstance(given, onnx.ModelProto):
        name = given.graph.name or UNNAMED
        try:
            content = given.SerializeToString()
        except ValueError as error:  # protobuf writes no model of 2 GiB
            raise ModelFileError(
                f"the model {name!r} cannot be written as bytes ({first_line(error)}); save it with external data, and give the path"
            ) from error
        return _read(content, name, f"the model {name!r}", None)
    content = given if isinstance(given, (bytes, bytearray, memoryview)) else _bytes_of_file(given)
    return _read(bytes(content), UNNAMED, "what was given", None)


def _bytes_of_file(given: Any) -> bytes:
    """Return what an open file still has; DataError for something that is none, or that gives text."""
    if not hasattr(given, "read"):
        raise DataError(
            f"model: {type(given).__name__}, expected the path of an .onnx file, its bytes, an open file or an onnx.ModelProto"
        )
    content = given.read(LARGEST_FILE + 1)
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise DataError(f"model: a file that gives {type(content).__name__}, expected bytes; open it with mode 'rb'")
    if len(content) > LARGEST_FILE:
        raise ModelFileError(
            f"the file has more than {LARGEST_FILE} bytes; protobuf reads no larger one, re-export with the weights in external files"
        )
    return bytes(content)


def _read(content: bytes, name: str, what: str, file: Path | None) -> Source:
    """Return the source of a model's bytes; ``what`` names it in errors, and ``file`` is where external data are looked for."""
    if not content:
        raise ModelFileError(f"{what} is empty; export the model again")
    kind = kind_of_content(content[:LONGEST])
    if content.startswith(KERAS) and kind not in (DATA, PYTORCH):
        raise ModelFileError(
            f"{what} is a Keras file, where an ONNX file is expected; qrnn.load_keras reads it, and cuts are made of ONNX files alone"
        )
    if kind not in (None, ONNX):
        remedy = "give the .onnx file that the training framework exported"
        if kind == PYTORCH:
            remedy = "export the module with torch.onnx.export, or convert it in Python without a file, from qrnn.from_torch(module, example)"
        raise ModelFileError(f"{what} is {kind}, not an ONNX model; {remedy}")
    size = len(content)
    budget = Budget(size)
    digest = hashlib.sha256(content)
    check_wire(content, onnx.ModelProto.DESCRIPTOR, budget, what)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, *DAMAGE) as error:
        raise ModelFileError(
            f"{what} is not an ONNX model or is cut off ({first_line(error)}); export the model again"
        ) from error
    del content  # its values are in the model now
    name = name.encode(errors="backslashreplace").decode()  # a file's name may be no Unicode; a model's is
    tensors = check_structure(model, name, budget).tensors
    if file is None and (outside := next((t.name for t in tensors if is_external(t)), None)) is not None:
        raise ModelFileError(
            f"tensor {outside!r} of {what} lies in another file, and there is no folder to look in; give the path of the .onnx file, or load "
            "the data before (onnx.load_external_data_for_model)"
        )
    budget.allow(size + (0 if file is None else load_external_data(tensors, file, size, digest)))
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
    return content
