"""Files of models with float parts: what is saved is loaded, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors
import safetensors.numpy
from onnx import TensorProto, helper
from onnx_import.running import data

from hybrid.parts import built, converted, saved
from qrnn.errors import ModelFileError
from qrnn.hybrid.file import load, save
from qrnn.hybrid.model import HybridModel
from qrnn.model.digest import array_digest
from qrnn.running.session import Session

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    save(converted(saved(built("front behind"), folder), {"x": data(4, 9, 4)}), folder / "model.qrnn")
    return folder / "model.qrnn"


def test_what_is_saved_is_loaded(file: Path, tmp_path: Path) -> None:
    model = load(file)
    assert isinstance(model, HybridModel)
    save(model, tmp_path / "again.qrnn")
    assert (tmp_path / "again.qrnn").read_bytes() == file.read_bytes()
    x = data(2, 6, 4)
    got = (Session(load(p)).run({"x": x}).outputs["y"] for p in (file, tmp_path / "again.qrnn"))
    np.testing.assert_array_equal(*got)


def edited(file: Path, folder: Path, edit: Callable[[dict[str, Any], dict[str, Any], dict[str, str]], None]) -> Path:
    """Return a copy of a file after ``edit`` of its structure, tensors and metadata, with a checksum that fits."""
    with safetensors.safe_open(file, framework="numpy") as opened:
        metadata = dict(opened.metadata())
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    structure = json.loads(metadata["model"])
    edit(structure, tensors, metadata)
    metadata["model"] = json.dumps(structure, sort_keys=True)
    metadata["sha256"] = array_digest(tensors, metadata["model"])
    path = folder / "edited.qrnn"
    path.write_bytes(safetensors.numpy.save(tensors, metadata))
    return path


def graph_edit(change: Callable[[onnx.ModelProto], Any]) -> Callable[..., None]:
    """Edit the graph of the first part."""

    def edit(structure: dict[str, Any], tensors: dict[str, Any], _: dict[str, str]) -> None:
        key = structure["parts"][0]["part"]["content"]["tensor"]
        model = onnx.ModelProto.FromString(tensors[key].tobytes())
        change(model)
        tensors[key] = np.frombuffer(model.SerializeToString(), np.uint8)

    return edit


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def huge(model: onnx.ModelProto) -> None:
    node = helper.make_node("ConstantOfShape", ["huge_shape"], ["huge"])
    model.graph.initializer.append(helper.make_tensor("huge_shape", TensorProto.INT64, [2], [1 << 20, 1 << 20]))
    model.graph.node.insert(0, node)


def drawing(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("RandomNormal", [], ["r"], shape=[1]))


def calling(model: onnx.ModelProto) -> None:
    body = [helper.make_node("Abs", ["a"], ["b"])]
    model.functions.append(helper.make_function("local", "F", ["a"], ["b"], body, model.opset_import))


def set_part(key: str, value: Any) -> Callable[..., None]:
    def edit(structure: dict[str, Any], *_: Any) -> None:
        structure["parts"][0]["part"][key] = value

    return edit


def set_top(key: str, value: Any) -> Callable[..., None]:
    def edit(structure: dict[str, Any], *_: Any) -> None:
        structure[key] = value

    return edit


def no_graph(structure: dict[str, Any], tensors: dict[str, Any], _: Any) -> None:
    tensors[structure["parts"][0]["part"]["content"]["tensor"]] = np.arange(200, dtype=np.uint8)


def newer(_: Any, __: Any, metadata: dict[str, str]) -> None:
    metadata["schema"] = "2"


def other_proof(_: Any, __: Any, metadata: dict[str, str]) -> None:
    metadata["proof"] = "{}"


def turned(structure: dict[str, Any], *_: Any) -> None:
    structure["parts"].reverse()


def moved_axis(structure: dict[str, Any], *_: Any) -> None:
    structure["parts"][0]["part"]["inputs"][0]["time_axis"] = 7


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (graph_edit(external), "external"),
        (graph_edit(huge), "elements"),
        (graph_edit(drawing), "random numbers"),
        (graph_edit(calling), "functions"),
        (graph_edit(lambda m: m.graph.output.pop()), "part 'float1'|not a valid"),
        (graph_edit(lambda m: m.graph.output[0].ClearField("name")), "float1"),
        (no_graph, "not an ONNX model"),
        (newer, "schema '2'"),
        (other_proof, "overflow proof"),
        (turned, "no part before it gives"),
        (moved_axis, "axes that do not fit"),
        (set_part("by_steps", 3), "by_steps"),
        (set_part("more", 3), "fields of FloatPart"),
        (set_top("parts", []), "no part gives output"),
        (set_top("parts", [7]), "a part in float or in integers"),
        (set_top("more", 1), "structure"),
        (set_top("name", 3), "name"),
    ],
)
def test_hostile_files(edit: Callable[..., None], says: str, file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=says):
        load(edited(file, tmp_path, edit))


def test_damaged_files(file: Path, tmp_path: Path) -> None:
    """Cut off, or with a changed byte anywhere among the values."""
    content = file.read_bytes()
    path = tmp_path / "damaged.qrnn"
    for bad in (content[: len(content) // 2], content[:-3], content[:-40] + bytes([content[-40] ^ 1]) + content[-39:]):
        path.write_bytes(bad)
        with pytest.raises(ModelFileError):
            load(path)
    with pytest.raises(ModelFileError, match="no such file"):
        load(tmp_path / "missing.qrnn")
