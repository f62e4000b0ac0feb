"""Open a file with a trained model by what is in it, whatever its name: ONNX, or Keras (.keras, .h5)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from qrnn.model.float_model import FloatModel
from qrnn.onnx_import.control import FixedValue
from qrnn.onnx_import.inspection import inspect_source
from qrnn.onnx_import.load import load_onnx
from qrnn.onnx_import.source import KERAS, Source, read_onnx
from qrnn.system.contents import DATA, LONGEST, ONNX, PYTORCH, kind_of_content

SUFFIXES = (".onnx", ".keras", ".h5", ".hdf5")
"""How the names of such files end."""

KERAS_FILE = "a Keras model"
"""What a file is that begins as those of Keras do."""


def is_trained(path: str | os.PathLike[str]) -> bool:
    """Return whether a file holds a trained model of another format, by its content or else by its name."""
    return os.fspath(path).lower().endswith(SUFFIXES) or _kind(path) in (KERAS_FILE, ONNX, PYTORCH)


def read_trained(path: str | os.PathLike[str]) -> Source:
    """Read the file of a trained model; errors are those of `qrnn.load_onnx` and `qrnn.load_keras`."""
    if _kind(path) == KERAS_FILE:
        from qrnn.keras_import.load import read_keras

        return read_keras(path)
    return read_onnx(path)


def _kind(path: str | os.PathLike[str]) -> str | None:
    """Return what a regular file is by how it begins; None for a file that cannot be read, which is left to the importer to name."""
    from qrnn.system.files import open_regular

    try:
        with open_regular(path) as file:
            beginning = os.read(file.fileno(), LONGEST)
    except (OSError, ValueError):
        return None
    kind = kind_of_content(beginning)
    return KERAS_FILE if beginning.startswith(KERAS) and kind not in (DATA, PYTORCH) else kind


def load_trained(
    path: str | os.PathLike[str],
    stream: bool = False,
    state: Mapping[str, str] | None = None,
    values: Mapping[str, FixedValue] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    window: int | None = None,
    cut_from: Sequence[str] = (),
    cut_to: Sequence[str] = (),
) -> FloatModel:
    """Import the file of a trained model; arguments and errors are those of `qrnn.load_onnx` and `qrnn.load_keras`. Only ONNX files are cut."""
    if cut_from or cut_to:
        return load_onnx(path, stream, state, values, shapes, window, cut_from, cut_to)
    return read_trained(path).imported(stream, state, values, shapes, window)


def inspect_trained(
    path: str | os.PathLike[str],
    stream: bool = False,
    state: Mapping[str, str] | None = None,
    values: Mapping[str, FixedValue] | None = None,
    cut_from: Sequence[str] = (),
    cut_to: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what there is to know of the file of a trained model before it is converted; only ONNX files are cut."""
    source = read_onnx(path) if cut_from or cut_to else read_trained(path)
    return inspect_source(source, stream, state, values, cut_from, cut_to)


def runtime_model(path: str | os.PathLike[str]) -> str | os.PathLike[str] | bytes:
    """Return what ONNX Runtime is given of a file: the file itself, or the graph of a Keras model as bytes."""
    if _kind(path) != KERAS_FILE:
        return path
    content: bytes = read_trained(path).model.SerializeToString()
    return content
