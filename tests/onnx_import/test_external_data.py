"""Weights in files beside the model: which bytes may be named, and that nothing else is opened, read or hashed."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qrnn.errors import ModelFileError
from qrnn.onnx_import import import_model, load_onnx

from .builders import Graph, head

Edit = Callable[[onnx.ModelProto], None]
LARGEST = (1 << 31) - 1


def entries(tensor: onnx.TensorProto, **values: Any) -> None:
    """Give a tensor external data; a value of None is left out."""
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in values.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))


def split(folder: Path, name: str = "weights.bin", padding: int = 0) -> onnx.ModelProto:
    """A GRU with all of its initializers in ``name``, ``padding`` bytes of 0xAA before each; saved as model.onnx."""
    model = head("GRU")
    data = b""
    for tensor in model.graph.initializer:
        data += b"\xaa" * padding
        entries(tensor, location=name, offset=len(data), length=len(tensor.raw_data))
        data += tensor.raw_data
        tensor.ClearField("raw_data")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return model


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def refused(path: Path, text: str) -> str:
    started = time.process_time()
    with pytest.raises(ModelFileError, match=text) as caught:
        load_onnx(path)
    assert time.process_time() - started < 5
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["weights.bin", "sub/weights.bin", "onnx::MatMul_12", "sub/../weights.bin"])
def test_data_beside_the_model_or_below(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    model = load_onnx(saved(tmp_path, split(tmp_path, name)))
    inside = import_model(head("GRU"), "inside")
    np.testing.assert_array_equal(model.layers[0].directions[0].weight_hh, inside.layers[0].directions[0].weight_hh)  # type: ignore[union-attr]


def test_only_the_bytes_that_are_read_are_hashed(tmp_path: Path) -> None:
    path = saved(tmp_path, split(tmp_path, padding=16))
    digest = load_onnx(path).source_sha256
    data = b"".join(t.raw_data for t in head("GRU").graph.initializer)
    assert digest == hashlib.sha256(path.read_bytes() + data).hexdigest()
    content = bytearray((tmp_path / "weights.bin").read_bytes())
    content[3] ^= 1  # of the padding
    (tmp_path / "weights.bin").write_bytes(content)
    assert load_onnx(path).source_sha256 == digest
    content[16] ^= 1
    (tmp_path / "weights.bin").write_bytes(content)
    assert load_onnx(path).source_sha256 != digest


@pytest.mark.parametrize("location", ["/dev/zero", "/etc/passwd", "fifo", "missing.bin", "..", "\0", "x" * 10_000])
def test_external_data_of_a_tensor_that_is_not_external_means_nothing(tmp_path: Path, location: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    model = head("GRU")
    for tensor in model.graph.initializer:
        tensor.external_data.add(key="location", value=location)
    path = saved(tmp_path, model)
    assert load_onnx(path).source_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def make_special(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    (folder.parent / "outside.bin").write_bytes(b"\0" * 100_000)
    (folder / "link").symlink_to("/dev/zero")
    (folder / "link_out").symlink_to(folder.parent / "outside.bin")
    (folder / "folder_out").symlink_to(folder.parent)
    (folder / "loop").symlink_to("loop")


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("/dev/zero", "not a relative"),
        ("../../../../../../../../dev/zero", "outside the model's folder"),
        ("../outside.bin", "outside the model's folder"),
        ("folder/../../outside.bin", "outside the model's folder"),
        ("fifo", "not a regular file"),
        ("folder", "not a regular file"),
        (".", "cannot be read"),
        ("link", "outside the model's folder"),
        ("link_out", "outside the model's folder"),
        ("folder_out/outside.bin", "outside the model's folder"),
        ("loop", "cannot be read"),
        ("socket", "not a regular file"),
        ("missing.bin", "cannot be read"),
        ("weights.bin/", "cannot be read|need"),
        ("", "expected a path"),
        ("a\0b", "expected a path"),
        ("x" * 5000, "expected a path"),
        ("x" * 300, "cannot be read"),
    ],
)
def test_other_files_are_never_opened(tmp_path: Path, location: str, text: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    make_special(folder)
    model = split(folder)
    path = saved(folder, model)
    with socket.socket(socket.AF_UNIX) as endpoint:
        here = os.open(".", os.O_RDONLY)
        os.chdir(folder)  # the name of a socket may not be long
        try:
            endpoint.bind("socket")
        finally:
            os.fchdir(here)
            os.close(here)
        for entry in model.graph.initializer[0].external_data:
            if entry.key == "location":
                entry.value = location
        if location == "weights.bin/":  # resolves to the file itself
            load_onnx(saved(folder, model))
        else:
            refused(saved(folder, model), text)
    assert path.exists()


def numbers(**values: Any) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[1]
        given = {e.key: e.value for e in tensor.external_data} | values
        entries(tensor, **given)

    return edit


def doubled(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="offset", value="0")


def dims(*sizes: int) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        model.graph.initializer[1].dims[:] = sizes

    return edit


def kind(number: int) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        model.graph.initializer[1].data_type = number

    return edit


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (numbers(length=8), "names 8 bytes .* need"),
        (numbers(length=1 << 40), "names 1099511627776 bytes .* need"),
        (numbers(offset=1 << 40), "from 1099511627776 on"),
        (numbers(offset=-4), "expected a number of bytes"),
        (numbers(offset="0x10"), "expected a number of bytes"),
        (numbers(length="9" * 5000), "expected a number of bytes"),
        (numbers(length=None), "a tensor needs .* the file has"),
        (doubled, "twice"),
        (dims(1 << 31, 1 << 31), "need 73786976294838206464|need"),
        (dims(-1, -60), "shape"),
        (kind(99), "unknown element type 99"),
    ],
)
def test_sizes_are_checked_before_anything_is_read(tmp_path: Path, edit: Edit, text: str) -> None:
    model = split(tmp_path)
    edit(model)
    refused(saved(tmp_path, model), text)


def test_a_shape_beyond_the_file_is_refused_without_a_length(tmp_path: Path) -> None:
    model = split(tmp_path)
    numbers(length=None)(model)
    dims(1 << 20, 1 << 20)(model)
    refused(saved(tmp_path, model), "a tensor needs 4398046511104 bytes")


def test_bytes_that_many_tensors_share_are_not_read_again_and_again(tmp_path: Path) -> None:
    model = split(tmp_path)
    with (tmp_path / "weights.bin").open("ab") as file:
        file.truncate(1 << 24)
    for k in range(64):
        tensor = model.graph.initializer.add(name=f"more{k}", data_type=TensorProto.FLOAT, dims=[1 << 22])
        entries(tensor, location="weights.bin", length=1 << 24)
    refused(saved(tmp_path, model), "share bytes more than twice")


def test_all_of_two_gigabytes_is_refused(tmp_path: Path) -> None:
    model = split(tmp_path)
    with (tmp_path / "weights.bin").open("ab") as file:
        file.truncate(1 << 33)  # a hole
    entries(
        model.graph.initializer.add(name="more", data_type=TensorProto.FLOAT, dims=[1 << 30]), location="weights.bin"
    )
    numbers_of_last = {"location": "weights.bin", "length": 1 << 32}
    entries(model.graph.initializer[-1], **numbers_of_last)
    refused(saved(tmp_path, model), f"at most {LARGEST} are supported")


def test_tensors_of_every_place_are_loaded_and_hashed(tmp_path: Path) -> None:
    """Tensors of constants, subgraphs and functions are each read from a file of their own."""
    g = Graph(17)
    x = g.input("x", ["t", "n", 4])
    y = g.node("Squeeze", [g.recurrent("GRU", x, 4, 5)[0], g.const(np.array([1]))])

    def outside(name: str, value: float) -> onnx.TensorProto:
        tensor = numpy_helper.from_array(np.full(5, value, np.float32), name)
        (tmp_path / f"{name}.bin").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        entries(tensor, location=f"{name}.bin", length=20)
        return tensor

    g.nodes.append(helper.make_node("Constant", [], ["c"], value=outside("constant", 1.0)))
    y = g.node("Add", [y, "c"])
    body = [
        helper.make_node("Constant", [], ["k"], value=outside("function", 2.0)),
        helper.make_node("Add", ["a", "k"], ["b"]),
    ]
    opsets = [helper.make_opsetid("", 17)]
    g.nodes.append(helper.make_node("shift", [y], ["z"], domain="local"))
    g.nodes.append(helper.make_node("Identity", ["z"], ["out"]))
    g.output("out")
    model = g.model(
        functions=[helper.make_function("local", "shift", ["a"], ["b"], body, opsets)],
        opsets=[helper.make_opsetid("local", 1)],
    )
    path = saved(tmp_path, model)
    loaded = load_onnx(path)
    np.testing.assert_allclose(loaded.layers[-1].offset, np.full(5, 3.0))  # type: ignore[union-attr]
    data = b"".join((tmp_path / f"{name}.bin").read_bytes() for name in ("constant", "function"))
    assert loaded.source_sha256 == hashlib.sha256(path.read_bytes() + data).hexdigest()
    (tmp_path / "function.bin").unlink()
    refused(path, "function.bin")


def test_a_model_in_memory_with_external_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = split(tmp_path)
    monkeypatch.chdir(tmp_path)  # where onnx would find the file
    with pytest.raises(ModelFileError, match="external file that is not loaded"):
        import_model(model, "memory")


@pytest.mark.parametrize("special", ["/dev/zero", "/dev/full", "fifo", "folder", "link", "socket_of_nobody"])
def test_paths_that_are_no_files(tmp_path: Path, special: str) -> None:
    make_special(tmp_path)
    path = Path(special) if special.startswith("/") else tmp_path / special
    result: list[BaseException] = []

    def load() -> None:
        try:
            load_onnx(path)
        except ModelFileError as error:
            result.append(error)

    thread = threading.Thread(target=load, daemon=True)  # a FIFO without a writer would wait for ever
    thread.start()
    thread.join(20)
    assert len(result) == 1
    assert "cannot read" in str(result[0])


def test_a_file_beyond_protobuf(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(1 << 34)  # a hole: nothing is on the disk
    refused(path, f"is larger than {LARGEST} bytes; .* external files")
