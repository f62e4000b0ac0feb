"""Take .qrnn files apart and put them together again, with a digest of our own, for tests of damaged and edited files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import safetensors
import safetensors.numpy
from onnx import TensorProto
from onnx_import.builders import Graph

from qrnn.model.quant_model import QuantModel


class QrnnFile:
    """The content of one file: ``metadata`` strings, ``structure`` (the model's JSON, parsed), ``tensors``."""

    def __init__(self, path: Path) -> None:
        with safetensors.safe_open(path, framework="numpy") as opened:
            self.metadata: dict[str, str] = dict(opened.metadata())
            self.tensors = {key: opened.get_tensor(key).copy() for key in opened.keys()}  # noqa: SIM118
        self.structure: Any = json.loads(self.metadata["model"])

    def write(self, path: Path, digest: bool = True) -> Path:
        """Write the edited content, with a digest that fits it (or the old one)."""
        text = json.dumps(self.structure, sort_keys=True)
        metadata = self.metadata | {"model": text}
        if digest:
            metadata["sha256"] = digest_of(text, self.tensors)
        path.write_bytes(safetensors.numpy.save(self.tensors, metadata))
        return path


def digest_of(structure: str, tensors: dict[str, np.ndarray[Any, Any]]) -> str:
    """Return the digest that the file format describes, written here a second time."""
    sha = hashlib.sha256(structure.encode("utf-8"))
    for key, array in sorted(tensors.items()):
        sha.update((key + " " + array.dtype.str + " " + str(array.shape)).encode())
        sha.update(array.tobytes(order="C"))
    return sha.hexdigest()


def differences(a: Any, b: Any, where: str = "model") -> list[str]:
    """List where two values made of dataclasses, containers and arrays differ: types, dtypes, shapes, values."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        same = (
            isinstance(a, np.ndarray)
            and isinstance(b, np.ndarray)
            and (a.dtype, a.shape) == (b.dtype, b.shape)
            and np.array_equal(a, b)
        )
        return [] if same else [where]
    if is_dataclass(a) and type(a) is type(b):
        return [d for f in fields(a) for d in differences(getattr(a, f.name), getattr(b, f.name), f"{where}.{f.name}")]
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        return [d for i, (u, v) in enumerate(zip(a, b, strict=True)) for d in differences(u, v, f"{where}[{i}]")]
    if isinstance(a, dict) and isinstance(b, dict) and set(a) == set(b):
        return [d for key in a for d in differences(a[key], b[key], f"{where}.{key}")]
    return [] if type(a) is type(b) and a == b else [where]


def equal(a: QuantModel, b: QuantModel) -> bool:
    return not differences(a, b)


def token_model() -> onnx.ModelProto:
    """Build ids [N, T] in 0…6 → embedding → LSTM → logits [N, T, 3]."""
    g = Graph()
    ids = g.input("ids", ["batch", "time"], TensorProto.INT64)
    embedded = g.node("Gather", [g.random(7, 4, name="table"), ids])
    y = g.recurrent("LSTM", g.node("Transpose", [embedded], perm=[1, 0, 2]), 4, 5)[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    g.node("Add", [g.node("MatMul", [y, g.random(5, 3)], name="fc"), g.random(3)], ["logits"])
    g.output("logits")
    return g.model()
