"""The bundled example is a trained GRU that reads 8x8 handwritten digits row by row, with its calibration and test data.

README.md beside this file says where the data come from, under which licence, and how the files were made.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

__all__ = ["digits_calibration", "digits_model", "digits_test"]


def digits_model() -> Path:
    """Return the path of the ONNX model.

    It reads ``x`` [batch, time, 8] and writes ``logits`` [batch, time, 10]; the logits of the last step are the answer.
    """
    return _path("digits_gru.onnx")


def digits_calibration() -> Path:
    """Return the path of the calibration data: ``x`` [128, 8, 8] float32, from the training images."""
    return _path("digits_calibration.npz")


def digits_test() -> Path:
    """Return the path of the test data: ``x`` [360, 8, 8] float32 and ``labels`` [360] int64."""
    return _path("digits_test.npz")


def _path(name: str) -> Path:
    return Path(str(files(__name__).joinpath(name)))  # the package is always unpacked on disk
