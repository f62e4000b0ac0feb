"""Files that are missing, cut off, damaged or hostile give one clear error and never a traceback."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from qrnn.errors import ModelFileError, QrnnError
from qrnn.onnx_import import load_onnx

from .builders import head

CONTENT = head("GRU").SerializeToString()


def test_good_file(tmp_path: Path) -> None:
    path = tmp_path / "my model.onnx"
    path.write_bytes(CONTENT)
    model = load_onnx(str(path))
    assert model.name == "my model"
    assert model.source_sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"cannot read '.*none\.onnx'"):
        load_onnx(tmp_path / "none.onnx")
    with pytest.raises(ModelFileError, match="cannot read"):
        load_onnx(tmp_path)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.onnx"
    path.write_bytes(b"")
    with pytest.raises(ModelFileError, match="is empty"):
        load_onnx(path)


@pytest.mark.parametrize("content", [b"hello, this is text", b"\x00" * 100, b"PK\x03\x04" + bytes(range(256))])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        load_onnx(path)


@pytest.mark.parametrize("part", [0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999])
def test_truncated(tmp_path: Path, part: float) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(CONTENT[: max(1, int(len(CONTENT) * part))])
    with pytest.raises(QrnnError):
        load_onnx(path)


def external(folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save_model(
        head("GRU"),
        str(path),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
        convert_attribute=False,
    )
    return path


def test_external_data(tmp_path: Path) -> None:
    path = external(tmp_path)
    model = load_onnx(path)
    inside = tmp_path / "inside.onnx"
    inside.write_bytes(CONTENT)
    expected = load_onnx(inside)
    np.testing.assert_array_equal(
        model.layers[0].directions[0].weight_hh,
        expected.layers[0].directions[0].weight_hh,  # type: ignore[union-attr]
    )
    data = (tmp_path / "weights.bin").read_bytes()
    assert model.source_sha256 == hashlib.sha256(path.read_bytes() + data).hexdigest()


def test_missing_external_data(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelFileError, match=r"external files \(weights\.bin\) that cannot be read"):
        load_onnx(path)


def test_cut_external_data(tmp_path: Path) -> None:
    path = external(tmp_path)
    data = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(data[:100])
    with pytest.raises(ModelFileError):
        load_onnx(path)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "a\x00b", ""])
def test_external_data_outside(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    path = external(folder)
    (tmp_path / "secret.bin").write_bytes(b"\x00" * 100000)
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError):
        load_onnx(path)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    flips=st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(1, 255)), max_size=6),
    length=st.one_of(st.just(len(CONTENT)), st.integers(0, len(CONTENT))),
)
def test_damaged_bytes(flips: list[tuple[int, int]], length: int) -> None:
    content = bytearray(CONTENT)
    for place, mask in flips:
        content[place] ^= mask
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.onnx"
        path.write_bytes(bytes(content[:length]))
        try:
            load_onnx(path)
        except QrnnError as error:
            assert str(error)  # noqa: PT017


@pytest.mark.parametrize("text", [b"rnn1", b"rnn1_W", b"logits", b"batch", b"hidden_size", b"MatMul"])
def test_texts_that_are_not_utf_8(text: bytes, tmp_path: Path) -> None:
    """Protobuf reads them as bytes, on which code that expects text would stumble."""
    assert text in CONTENT
    path = tmp_path / "bytes.onnx"
    path.write_bytes(CONTENT.replace(text, b"\xff" * len(text)))
    with pytest.raises(ModelFileError, match="not UTF-8"):
        load_onnx(path)


def test_a_location_that_is_not_utf_8(tmp_path: Path) -> None:
    path = external(tmp_path)
    (place,) = {
        e.value
        for t in onnx.load(path, load_external_data=False).graph.initializer
        for e in t.external_data
        if e.key == "location"
    }
    path.write_bytes(path.read_bytes().replace(place.encode(), b"\xff" * len(place)))
    with pytest.raises(ModelFileError, match="not UTF-8"):
        load_onnx(path)


def test_the_mean_of_nothing_is_folded_without_a_warning(tmp_path: Path) -> None:
    """NumPy warns of it; nothing that a file holds may reach the user as a warning."""
    model = head("GRU")
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((0, 3), np.float32), "nothing"))
    model.graph.node.insert(0, helper.make_node("ReduceMean", ["nothing"], ["mean"], axes=[0], keepdims=0))
    add = next(node for node in model.graph.node if node.op_type == "Add")
    add.input[1] = "mean"
    onnx.save(model, tmp_path / "mean.onnx")
    with pytest.raises(QrnnError, match="holds nan"):
        load_onnx(tmp_path / "mean.onnx")
