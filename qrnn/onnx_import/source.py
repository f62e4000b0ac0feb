"""Read .onnx files, which may be missing, damaged or hostile."""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from qrnn.errors import ModelFileError
from qrnn.model.float_model import FloatModel
from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.control import FixedValue
from qrnn.onnx_import.external import LARGEST_FILE, load_external_data
from qrnn.onnx_import.graph import import_checked
from qrnn.onnx_import.node import DAMAGE, first_line
from qrnn.onnx_import.problems import written
from qrnn.onnx_import.structure import check_structure
from qrnn.onnx_import.wire import check_wire
from qrnn.system.files import read_regular

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


def read_onnx(path: str | os.PathLike[str]) -> Source:
    """Read an .onnx file with its external data; errors are those of `qrnn.load_onnx`, as far as they are not about the graph."""
    file = Path(path)
    content = _content(file)
    if content.startswith(KERAS):
        raise ModelFileError(
            f"'{file}' is a Keras file, where an ONNX file is expected; qrnn.load_keras reads it, and cuts are made of ONNX files alone"
        )
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
