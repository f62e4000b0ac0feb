"""Read .onnx files, which may be missing, damaged or hostile."""

from __future__ import annotations

import errno
import hashlib
import os
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
from qrnn.onnx_import.structure import check_structure
from qrnn.onnx_import.wire import check_wire
from qrnn.system.files import read_regular


def load_onnx(
    path: str | os.PathLike[str],
    stream: bool = False,
    state: Mapping[str, str] | None = None,
    values: Mapping[str, FixedValue] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    window: int | None = None,
) -> FloatModel:
    """Import an .onnx file with its external data, which must lie in the same folder or below it.

    Memory and time are bounded in proportion to the size of these files; see docs/onnx_files.md.

    ``stream`` matters for a graph that runs one time step per call. Without it, a layer carries its states from step to step where they are
    inputs and outputs of the graph; any other layer begins every step with the same states, as the graph does. With it, all states are
    carried.

    ``state`` names graph inputs that hold past steps, each with the graph output that gives it on to the next call; most are found without
    it. They become a part of the model's state, which begins with zeros, and are no inputs and outputs of the model.

    ``values`` fixes inputs of the graph, such as a sampling rate that chooses a branch (``{"sr": 16000}``), and free sizes, by their name in
    the file or as ``"INPUT[AXIS]"``. A fixed input is a constant, and no input of the model.

    ``shapes`` are those of arrays for the inputs, batch first. Where a graph of one step per call, whose input is [N, *features], leaves
    sizes of features free, these are taken from the array [N, T, *features].

    ``window`` makes what the graph normalizes over time a normalization over so many last steps, or with 0 over all steps so far, so that
    it streams; a note of the model says so. Without it, such a model runs over whole sequences alone.

    Raises `ModelFileError` when the file is missing, damaged or inconsistent, and `UnsupportedError` with everything that is not
    implemented.
    """
    source = read_onnx(path)
    return import_checked(
        source.model, source.name, source.sha256, source.budget, stream, state, values, shapes, window
    )


@dataclass(frozen=True)
class Source:
    """A file that was read, whose parts are counted and whose external data are loaded; ``budget`` is what is left to it."""

    model: onnx.ModelProto
    name: str
    sha256: str
    budget: Budget


def read_onnx(path: str | os.PathLike[str]) -> Source:
    """Read an .onnx file with its external data; errors are those of `load_onnx`, as far as they are not about the graph."""
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
