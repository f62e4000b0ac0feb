"""The file of a model with float parts: a safetensors file like that of a model of integers (docs/file_format.md), with ONNX graphs in it.

`load` reads both kinds. A graph in a file comes from outside: it is counted and checked as an .onnx file is, before ONNX Runtime sees it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import safetensors.numpy

from qrnn.errors import ModelFileError, QrnnError
from qrnn.hybrid.model import FloatPart, HybridModel, IntegerPart, Part
from qrnn.model import file as integer_file
from qrnn.model.check import check_complete
from qrnn.model.codec import Tensors, decode, encode
from qrnn.model.container import ModelFile, read_container
from qrnn.model.digest import array_digest
from qrnn.model.file import in_order, verified, warn_of_random
from qrnn.model.float_model import Cache, GraphInput, GraphOutput
from qrnn.model.quant_model import QuantModel
from qrnn.system.atomic import write_atomically

FORMAT = integer_file.FORMAT_WITH_FLOAT_PARTS
SCHEMA = "1"

_FLOAT, _INTEGERS = "float", "integers"


def save(model: QuantModel | HybridModel, path: str | os.PathLike[str]) -> None:
    """Write a model to the file ``path``, whole or not at all; DataError where it cannot be written."""
    if not isinstance(model, HybridModel):
        integer_file.save(model, path)
        return
    tensors: Tensors = {}
    parts = [_encoded(part, tensors, f"parts.{k}") for k, part in enumerate(model.parts)]
    structure = json.dumps(
        {
            "name": model.name,
            "inputs": encode(model.inputs, tensors, "inputs"),
            "outputs": encode(model.outputs, tensors, "outputs"),
            "parts": parts,
            "source_sha256": model.source_sha256,
            "one_step": model.one_step,
            "pairs": dict(model.pairs),
            "caches": encode(model.caches, tensors, "caches"),
            "values": dict(model.values),
            "notes": list(model.notes),
        },
        sort_keys=True,
    )
    metadata = {
        "format": FORMAT,
        "schema": SCHEMA,
        "model": structure,
        "proof": json.dumps({p.name: dict(p.model.proof) for p in model.integer_parts}, sort_keys=True),
        "sha256": array_digest(tensors, structure),
    }
    write_atomically(path, in_order(safetensors.numpy.save(tensors, metadata)))


def _encoded(part: Part, tensors: Tensors, key: str) -> dict[str, Any]:
    if isinstance(part, FloatPart):
        return {"kind": _FLOAT, "part": encode(part, tensors, key)}
    return {
        "kind": _INTEGERS,
        "name": part.name,
        "contract": part.model.contract,
        "multiply_adds": part.multiply_adds,
        "model": encode(part.model, tensors, key, skip=frozenset({"proof"})),
    }


def load(file: ModelFile) -> QuantModel | HybridModel:
    """Read and check a model, of integers alone or with float parts.

    Parameters
    ----------
    file
        The path of a .qrnn file, its bytes, or a file that is open for reading bytes.

    Raises
    ------
    ModelFileError
        If the file is no model, or a damaged one; the message names the file and what is wrong with it.
    DataError
        If what is given is no file.
    """
    container = read_container(file)
    if container.metadata.get("format") != FORMAT:
        return integer_file.rebuild(container)
    try:
        model = _rebuilt(container.metadata, container.tensors)
    except QrnnError as error:
        raise ModelFileError(f"{container.name}: {error}") from None
    for part in model.integer_parts:
        warn_of_random(part.model, container.name)
    return model


def _rebuilt(metadata: dict[str, str], tensors: Tensors) -> HybridModel:
    if metadata.get("schema") != SCHEMA:
        raise ModelFileError(
            f"schema {metadata.get('schema')!r} of a model with float parts, expected {SCHEMA!r}; convert the model again with this version of "
            "qrnn"
        )
    parsed, proof = verified(metadata, tensors)
    wanted = {f.name for f in fields(HybridModel)}
    if not isinstance(parsed, dict) or set(parsed) != wanted or not isinstance(parsed["parts"], list):
        raise ModelFileError("the model's structure is not that of a model with float parts; convert the model again")
    parts = tuple(_decoded(value, tensors, f"parts[{k}]") for k, value in enumerate(parsed["parts"]))
    model = HybridModel(
        decode(parsed["name"], str, tensors, "name"),
        decode(parsed["inputs"], tuple[GraphInput, ...], tensors, "inputs"),
        decode(parsed["outputs"], tuple[GraphOutput, ...], tensors, "outputs"),
        parts,
        decode(parsed["source_sha256"], str, tensors, "source_sha256"),
        decode(parsed["one_step"], bool, tensors, "one_step"),
        decode(parsed["pairs"], Mapping[str, str], tensors, "pairs"),
        decode(parsed["caches"], tuple[Cache, ...], tensors, "caches"),
        decode(parsed["values"], Mapping[str, Any], tensors, "values"),
        decode(parsed["notes"], tuple[str, ...], tensors, "notes"),
    )
    if {p.name: dict(p.model.proof) for p in model.integer_parts} != proof:
        raise ModelFileError("the stored overflow proof is not the model's; convert the model again")
    return model


def _decoded(value: Any, tensors: Tensors, where: str) -> Part:
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind == _FLOAT and set(value) == {"kind", "part"}:
        part: FloatPart = decode(value["part"], FloatPart, tensors, where)
        from qrnn.hybrid.check import check_float_part  # it needs onnx, which models of integers do without

        check_float_part(part)
        return part
    if kind == _INTEGERS and set(value) == {"kind", "name", "contract", "multiply_adds", "model"}:
        name = decode(value["name"], str, tensors, f"{where}.name")
        model: QuantModel = decode(value["model"], QuantModel, tensors, f"{where}.model")
        check_complete(model)
        if value["contract"] != model.contract:
            raise ModelFileError(
                f"part {name!r}: contract {value['contract']!r}, but the part is one of {model.contract!r}; convert the model again"
            )
        return IntegerPart(name, model, decode(value["multiply_adds"], float, tensors, f"{where}.multiply_adds"))
    raise ModelFileError(f"{where}: expected a part in float or in integers; convert the model again")
