"""`qrnn.load_onnx` takes a path, the file's bytes, an open file, or the model itself."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import qrnn
from qrnn.errors import DataError, ModelFileError
from qrnn.examples import digits_model

CONTENT = digits_model().read_bytes()


@pytest.mark.parametrize(
    "given", [str(digits_model()), CONTENT, bytearray(CONTENT), memoryview(CONTENT), io.BytesIO(CONTENT), onnx.load(digits_model())],
    ids=["path", "bytes", "bytearray", "memoryview", "file", "model"],
)  # fmt: skip
def test_all_are_the_same_model(given: Any) -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 8))
    want, got = qrnn.load_onnx(digits_model()), qrnn.load_onnx(given)
    for name, values in qrnn.run_oracle(want, {"x": x}).outputs.items():
        np.testing.assert_array_equal(qrnn.run_oracle(got, {"x": x}).outputs[name], values)
    if not isinstance(given, onnx.ModelProto):  # whose bytes may have another order
        assert got.source_sha256 == want.source_sha256


def test_an_open_file_is_read(tmp_path: Path) -> None:
    with digits_model().open("rb") as file:
        assert qrnn.load_onnx(file).name == "model"
    (tmp_path / "m.txt").write_text("model")
    with (tmp_path / "m.txt").open() as text, pytest.raises(DataError, match="mode 'rb'"):
        qrnn.load_onnx(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "says"), [(b"", "empty"), (b"\xff" * 40, "not an ONNX model"), (CONTENT[:-50], "what was given")]
)
def test_damaged_bytes_are_refused(given: bytes, says: str) -> None:
    with pytest.raises(ModelFileError, match=says):
        qrnn.load_onnx(given)


@pytest.mark.parametrize("given", [5, None, [digits_model()]])
def test_what_is_no_model_is_refused(given: Any) -> None:
    with pytest.raises(DataError, match=r"expected the path of an \.onnx file"):
        qrnn.load_onnx(given)


def test_data_in_other_files_need_a_path(tmp_path: Path) -> None:
    onnx.save(onnx.load(digits_model()), tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    assert qrnn.load_onnx(tmp_path / "m.onnx").name == "m"
    with pytest.raises(ModelFileError, match="no folder to look in"):
        qrnn.load_onnx((tmp_path / "m.onnx").read_bytes())
