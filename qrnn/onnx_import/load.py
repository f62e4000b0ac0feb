"""Reading .onnx files, which may be missing, damaged or hostile."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import checker, external_data_helper

from qrnn.errors import ModelFileError
from qrnn.files import read_regular
from qrnn.model.float_model import FloatModel
from qrnn.onnx_import.graph import import_model
from qrnn.onnx_import.node import DAMAGE, first_line


def load_onnx(path: str | os.PathLike[str]) -> FloatModel:
    """Import an .onnx file with its external data, which must lie in the same folder or below it.

    Raises `ModelFileError` when the file is missing, damaged or inconsistent, `UnsupportedError` with all that is not implemented.
    """
    file = Path(path)
    try:
        content = read_regular(file)
    except OSError as error:
        raise ModelFileError(f"cannot read '{file}': {error.strerror}; give the path of an .onnx file") from error
    if not content:
        raise ModelFileError(f"'{file}' is empty; export the model again")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, *DAMAGE) as error:
        raise ModelFileError(
            f"'{file}' is not an ONNX model or is cut off ({first_line(error)}); export the model again"
        ) from error
    digest = hashlib.sha256(content)
    locations = sorted({entry.value for t in _tensors(model) for entry in t.external_data if entry.key == "location"})
    try:
        external_data_helper.load_external_data_for_model(model, str(file.parent))
        for location in locations:
            digest.update((file.parent / location).read_bytes())
    except (OSError, checker.ValidationError, *DAMAGE) as error:
        raise ModelFileError(
            f"'{file}' keeps weights in external files ({', '.join(locations) or 'unnamed'}) that cannot be read: {first_line(error)}; "
            "keep them beside the model"
        ) from error
    name = file.stem.encode(errors="backslashreplace").decode()  # a file's name may be no Unicode; a model's is
    return import_model(model, name, digest.hexdigest())


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that may have external data: initializers and attributes."""
    yield from model.graph.initializer
    nodes = [*model.graph.node, *(n for f in model.functions for n in f.node)]
    for node in nodes:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
