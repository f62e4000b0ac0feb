"""`qrnn.load` takes a path, bytes or an open file, and says what a file is that is no converted model."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qrnn
from model.qrnn_files import differences
from model.test_edited_files import CASES
from qrnn.errors import DataError, ModelFileError
from qrnn.examples import digits_calibration, digits_model
from qrnn.model.quant_model import QuantModel


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[QuantModel, Path]:
    case = CASES["lstm, two ways"]
    model = qrnn.quantize(case.model(), case.data(), case.scheme)
    path = tmp_path_factory.mktemp("saved") / "m.qrnn"
    qrnn.save(model, path)
    return model, path


@pytest.mark.parametrize(
    "given", [str, Path.read_bytes, lambda p: memoryview(p.read_bytes()), lambda p: io.BytesIO(p.read_bytes())]
)
def test_all_are_the_same_model(saved: tuple[QuantModel, Path], given: Any) -> None:
    model, path = saved
    loaded = qrnn.load(given(path))
    assert isinstance(loaded, QuantModel)
    assert differences(loaded, model) == []


def test_an_open_file_is_read_as_bytes(saved: tuple[QuantModel, Path]) -> None:
    model, path = saved
    with path.open("rb") as file:
        loaded = qrnn.load(file)
    assert isinstance(loaded, QuantModel)
    assert differences(loaded, model) == []
    with path.open(encoding="latin-1") as text, pytest.raises(DataError, match="mode 'rb'"):
        qrnn.load(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [5, None, [1]])
def test_what_is_no_file_is_refused(given: Any) -> None:
    with pytest.raises(DataError, match=r"expected the path of a \.qrnn file"):
        qrnn.load(given)


def test_damaged_bytes_are_refused(saved: tuple[QuantModel, Path]) -> None:
    content = saved[1].read_bytes()
    for damaged in (
        b"",
        content[:100],
        content[:-7],
        content + b"\0",
        b"\xff" * 40,
        bytes([content[0] ^ 1]) + content[1:],
    ):
        with pytest.raises(ModelFileError, match="what was given"):
            qrnn.load(damaged)
    with pytest.raises(ModelFileError, match="damaged"):
        qrnn.load(content[:-1] + bytes([content[-1] ^ 1]))


def test_another_kind_of_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"an ONNX model.*convert it first: qrnn convert .*\.onnx --calibration"):
        qrnn.load(digits_model())
    with pytest.raises(ModelFileError, match=r"ZIP archive, such as an \.npz file of data"):
        qrnn.load(digits_calibration())
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(ModelFileError, match="NumPy array"):
        qrnn.load(tmp_path / "a.npy")
    (tmp_path / "m.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(40))
    with pytest.raises(ModelFileError, match="TensorFlow Lite"):
        qrnn.load(tmp_path / "m.tflite")


def test_a_converted_model_is_no_onnx_model(saved: tuple[QuantModel, Path]) -> None:
    with pytest.raises(ModelFileError, match=r"is a converted model \(\.qrnn\), not an ONNX model"):
        qrnn.load_onnx(saved[1])
