"""`qrnn.load` takes a path, bytes or an open file, and says what a file is that is no converted model."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import qrnn
from model.qrnn_files import differences
from model.test_edited_files import CASES
from qrnn.errors import DataError, ModelFileError
from qrnn.examples import digits_calibration, digits_model
from qrnn.model.quant_model import QuantModel
from qrnn.trained_files import is_trained, read_trained


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
    with pytest.raises(ModelFileError, match=r"an \.npz file of data"):
        qrnn.load(digits_calibration())
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(ModelFileError, match="NumPy array"):
        qrnn.load(tmp_path / "a.npy")
    (tmp_path / "m.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(40))
    with pytest.raises(ModelFileError, match="TensorFlow Lite"):
        qrnn.load(tmp_path / "m.tflite")


@pytest.mark.parametrize("member", ["m/data.pkl", "m/data/0", "m/data/weights/weight_0", "m/.format_version"])
def test_a_pytorch_file_is_named_with_the_way_from_it(tmp_path: Path, member: str) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr(member, b"")
    for read in (qrnn.load_onnx, read_trained):
        with pytest.raises(ModelFileError, match=r"is a PyTorch file.*torch\.onnx\.export.*from_torch"):
            read(tmp_path / "m.pt")
    assert is_trained(tmp_path / "m.pt")


def test_files_that_are_no_model_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("what the model was trained on: größere Sätze\n" * 40, encoding="utf-8")
    with pytest.raises(ModelFileError, match="a text file"):
        qrnn.load(tmp_path / "notes")
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(ModelFileError, match="a pickled Python object"):
        qrnn.load_onnx(tmp_path / "m.pkl")
    with pytest.raises(ModelFileError, match=r"an \.npz file of data, not an ONNX model"):
        read_trained(digits_calibration())
    save_file({"w": np.zeros(400)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelFileError, match="a safetensors file of another program"):
        qrnn.load_onnx(tmp_path / "w.safetensors")


def test_a_model_is_known_without_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(digits_model().read_bytes())
    assert is_trained(tmp_path / "model")


def test_a_converted_model_is_no_onnx_model(saved: tuple[QuantModel, Path]) -> None:
    with pytest.raises(ModelFileError, match=r"is a converted model \(\.qrnn\), not an ONNX model"):
        qrnn.load_onnx(saved[1])
