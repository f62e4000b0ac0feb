"""Wrong .qrnn files of every kind: one line on stderr, exit status 2, and no file left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from model.qrnn_files import QrnnFile

from cli.running import Workplace, unsupported


def edited(change: Callable[[QrnnFile], None], digest: bool = True) -> Callable[[Path, Path], None]:
    def make(good: Path, bad: Path) -> None:
        file = QrnnFile(good)
        change(file)
        file.write(bad, digest)

    return make


def raw(change: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    return lambda good, bad: bad.write_bytes(change(good.read_bytes())) and None


def flip(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 16])


def metadata(**entries: str) -> Callable[[QrnnFile], None]:
    return lambda f: f.metadata.update(entries)


def tensor(key: str, edit: Callable[[np.ndarray[Any, Any]], Any]) -> Callable[[QrnnFile], None]:
    """Edit in place, or put what ``edit`` returns."""

    def change(file: QrnnFile) -> None:
        matches = [k for k in file.tensors if k.endswith(key)]
        assert len(matches) >= 1, (key, list(file.tensors))
        result = edit(file.tensors[matches[0]])
        if result is not None:
            file.tensors[matches[0]] = result

    return change


def put(array: np.ndarray[Any, Any], value: int, place: int = 0) -> None:
    array.reshape(-1)[place] = value


def structure(path: list[Any], value: Any) -> Callable[[QrnnFile], None]:
    def change(file: QrnnFile) -> None:
        where = file.structure
        for key in path[:-1]:
            where = where[key]
        assert path[-1] in where or isinstance(where, list)
        where[path[-1]] = value

    return change


def overflow(file: QrnnFile) -> None:
    """Bias of one row near the end of int32, where the proof has no room left."""
    key = next(k for k in file.tensors if k.endswith("ih.bias"))
    file.tensors[key][3] = 2**31 - 1


def part(place: int, values: Any) -> Callable[[QrnnFile], None]:
    """Other indices (1) or positions (2) of the output; the file stores equal arrays once, so they get a tensor of their own."""

    def change(file: QrnnFile) -> None:
        file.tensors["own"] = np.array(values, np.int64)
        file.structure["outputs"][0]["parts"][0][place] = {"tensor": "own"}

    return change


def no_rows(file: QrnnFile) -> None:
    del file.structure["layers"][0]["directions"][0]["ih"]["bias"]


BAD_MODELS: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "empty": (raw(lambda _: b""), "not a readable .qrnn file"),
    "text": (raw(lambda _: b"hello" * 9), "not a readable .qrnn file"),
    "cut header": (raw(lambda good: good[:100]), "not a readable .qrnn file"),
    "cut data": (raw(lambda good: good[:-7]), "not a readable .qrnn file"),
    "longer": (raw(lambda good: good + b"\0"), "not a readable .qrnn file"),
    "flipped bit": (raw(flip), "checksum"),
    "onnx": (raw(lambda _: unsupported()), "not a readable .qrnn file"),
    "foreign": (raw(lambda _: safetensors.numpy.save({"w": np.zeros(3)})), "no format, expected 'qrnn'"),
    "other format": (edited(metadata(format="pt")), "format 'pt'"),
    "other schema": (edited(metadata(schema="2")), "schema '2'"),
    "other contract": (edited(metadata(contract="99.0")), "contract '99.0'"),
    "old digest": (edited(structure(["name"], "other"), digest=False), "checksum"),
    "other proof": (edited(metadata(proof="{}")), "overflow proof"),
    "proof no JSON": (edited(metadata(proof="}")), "not JSON"),
    "weight -128": (edited(tensor("ih.weight", lambda a: put(a, -128))), "weight -128"),
    "odd multiplier": (edited(tensor("hh.multiplier", lambda a: put(a, 3))), "multiplier odd"),
    "negative multiplier": (edited(tensor("hh.multiplier", lambda a: put(a, -2))), "multiplier odd or negative"),
    "left shift": (edited(tensor("ih.left_shift", lambda a: put(a, 31))), "left_shift"),
    "negative left shift": (edited(tensor("ih.left_shift", lambda a: put(a, -1))), "left_shift"),
    "pre_shift": (edited(tensor("pre_shift", lambda a: put(a, 16))), "pre_shift"),
    "overflow": (edited(overflow), "≥ 2^31"),
    "weight type": (edited(tensor("ih.weight", lambda a: a.astype(np.int16))), "a tensor of int8"),
    "weight shape": (edited(tensor("ih.weight", lambda a: a.reshape(-1, 2))), "bias"),
    "weight columns": (edited(tensor("ih.weight", lambda a: np.ascontiguousarray(a[:, :3]))), "have 3 features"),
    "weight rank": (edited(tensor("ih.weight", lambda a: a.reshape(-1))), "expected [R, K]"),
    "bias type": (edited(tensor("ih.bias", lambda a: a.astype(np.int64))), "a tensor of int32"),
    "bias shape": (edited(tensor("ih.bias", lambda a: a[:-1].copy())), "bias"),
    "gate table size": (edited(tensor("gates.0.table", lambda a: a[:-1].copy())), "table"),
    "gate table range": (edited(tensor("gates.0.table", lambda a: put(a, 20000, 9))), "leaves its range"),
    "gate table": (edited(tensor("gates.0.table", lambda a: put(a, 16385, 9))), "leaves its range"),
    "gate kind": (edited(tensor("gates.0.params", lambda a: put(a, 7))), "kind 7"),
    "gate in_frac": (edited(tensor("gates.0.params", lambda a: put(a, 16, 1))), "fraction bits"),
    "gate segment bits": (edited(tensor("gates.0.params", lambda a: put(a, 60, 4))), "segment bits"),
    "gate offset": (edited(tensor("gates.0.params", lambda a: put(a, 5, 3))), "offset 5"),
    "missing tensor": (edited(structure(["layers", 0, "directions", 0, "ih", "bias"], {"tensor": "no"})), "a tensor"),
    "missing field": (edited(no_rows), "bias"),
    "unknown field": (edited(lambda f: f.structure.update(colour="red")), "colour"),
    "unknown layer": (edited(structure(["layers", 0, "type"], "QuantConv")), "QuantConv"),
    "unknown cell": (edited(structure(["layers", 0, "cell"], "mgu")), "mgu"),
    "other cell": (edited(structure(["layers", 0, "cell"], "lstm")), "c_n and cell"),
    "no directions": (edited(structure(["layers", 0, "directions"], [])), "0 directions"),
    "operand limit": (edited(structure(["layers", 0, "x_operand", "limit"], 126)), "another operand"),
    "operand shift": (edited(structure(["layers", 0, "x_operand", "shift"], 16)), "operand shift"),
    "h_frac": (edited(structure(["layers", 0, "h_frac"], 16)), "h_frac"),
    "out_frac": (edited(structure(["layers", 1, "out_frac"], 16)), "out_frac"),
    "reads nothing": (edited(structure(["layers", 0, "input"], "nothing")), "before it is written"),
    "writes twice": (edited(structure(["layers", 1, "output"], "x")), "'x'"),
    "input features": (edited(structure(["inputs", 0, "shape"], [5])), "shape and format disagree"),
    "negative shape": (edited(structure(["outputs", 0, "shape"], [-1, -3])), "shape"),
    "negative index": (edited(part(1, [-1, 1, 2])), "reads outside"),
    "index beyond": (edited(part(1, [0, 1, 3])), "reads outside"),
    "negative position": (edited(part(2, [-1, 1, 2])), "writes outside"),
    "position beyond": (edited(part(2, [0, 1, 3])), "writes outside"),
    "position twice": (edited(part(2, [0, 1, 1])), "2 of 3 features"),
    "fewer positions": (edited(part(2, [0, 1])), "cannot read"),
    "indices of rank 2": (edited(part(1, [[0, 1, 2]])), "cannot read"),
    "scale nan": (edited(structure(["tensors", "x", "scale"], [float("nan")])), "scale"),
    "scale 0": (edited(structure(["tensors", "x", "scale"], [0.0])), "scale"),
    "scale beyond float": (edited(structure(["tensors", "x", "scale"], [10**400])), "scale"),
    "number for text": (edited(structure(["name"], 3)), "expected str"),
    "text for number": (edited(structure(["layers", 0, "h_frac"], "15")), "expected int"),
    "true for a number": (edited(structure(["layers", 0, "h_frac"], True)), "expected int"),
    "null": (edited(structure(["layers"], None)), "a list"),
    "not an object": (edited(lambda f: setattr(f, "structure", [])), "QuantModel"),
}


@pytest.mark.wide
@pytest.mark.parametrize("command", ["run", "inspect", "compare"])
@pytest.mark.parametrize("kind", BAD_MODELS)
def test_models(place: Workplace, kind: str, command: str) -> None:
    make, says = BAD_MODELS[kind]
    bad = place.path("bad.qrnn")
    make(place.path("gru.qrnn"), bad)
    data = place.path("x.npz")
    if command == "run":
        place.refused("run", bad, "--input", data, "-o", place.path("out.npz"), says=("bad.qrnn", says))
    elif command == "inspect":
        place.refused("inspect", bad, says=("bad.qrnn", says))
    else:
        place.refused("compare", place.path("gru.onnx"), bad, "--data", data, "--json", place.path("o.json"), says=says)


def test_model_missing_or_a_folder(place: Workplace) -> None:
    for bad, says in ((place.path("none.qrnn"), "no such file"), (place.folder, "is a folder")):
        place.refused("run", bad, "--input", place.path("x.npz"), "-o", place.path("out.npz"), says=says)
        place.refused("inspect", bad, "--json", says=says)


def test_compare_refuses_another_source(place: Workplace) -> None:
    other = place.path("other.onnx")
    content = place.path("gru.onnx").read_bytes()
    other.write_bytes(_renamed(content))
    place.refused(
        "compare", other, place.path("gru.qrnn"), "--data", place.path("x.npz"), says=("another file", "its own source")
    )
    place.refused(
        "compare", place.path("ids.onnx"), place.path("gru.qrnn"), "--data", place.path("ids.npz"), says="another file"
    )


def _renamed(content: bytes) -> bytes:
    """Return the same model with another name in its header."""
    import onnx

    model = onnx.load_from_string(content)
    model.producer_name = "another"
    return model.SerializeToString()
