"""The .qrnn file is a safetensors file of integers, with the model's structure as JSON in its metadata (docs/file_format.md).

Metadata entries: ``format`` "qrnn", ``schema``, ``contract``, ``model`` (JSON), ``proof`` (JSON) and ``sha256`` over the model's JSON and
every tensor. Loading checks all of it, rebuilds every dataclass with its own checks, and proves the accumulators again.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import safetensors.numpy

from qrnn.arithmetic import CONTRACT_VERSION, WITHOUT_OFFSETS
from qrnn.errors import ModelFileError, QrnnError
from qrnn.model.check import check_complete
from qrnn.model.codec import Tensors, decode, encode
from qrnn.model.container import Container, ModelFile, read_container
from qrnn.model.digest import array_digest
from qrnn.model.integers_only import check_integers
from qrnn.model.quant_model import QuantModel
from qrnn.system.atomic import write_atomically

FORMAT = "qrnn"
FORMAT_WITH_FLOAT_PARTS = "qrnn-float-parts"
"""The format of a file of `qrnn.hybrid`, which is refused here."""

SCHEMA = "1"


class RandomCalibrationWarning(UserWarning):
    """Warning that a model was calibrated on random numbers: its formats say nothing about real data."""


def save(model: QuantModel, path: str | os.PathLike[str]) -> None:
    """Write ``model`` to ``path``, whole or not at all."""
    check_integers(model, "save")
    tensors: Tensors = {}
    structure = json.dumps(encode(model, tensors, "", skip=frozenset({"proof"})), sort_keys=True)
    metadata = {
        "format": FORMAT,
        "schema": SCHEMA,
        "contract": model.contract,
        "model": structure,
        "proof": json.dumps(dict(model.proof), sort_keys=True),
        "sha256": array_digest(tensors, structure),
    }
    write_atomically(path, in_order(safetensors.numpy.save(tensors, metadata)))


def model_digest(model: QuantModel) -> str:
    """Return the SHA-256 over all that a model's integers depend on: its structure and arrays, and not its provenance."""
    tensors: Tensors = {}
    structure = json.dumps(encode(model, tensors, "", skip=frozenset({"proof", "provenance"})), sort_keys=True)
    return array_digest(tensors, model.contract + structure)


def in_order(content: bytes) -> bytes:
    """Return the same safetensors file with its header's keys sorted, so that equal models give equal bytes."""
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def load(file: ModelFile) -> QuantModel:
    """Read and check a model from a path, bytes or an open file; ModelFileError names the file and what is wrong with it."""
    return rebuild(read_container(file))


def rebuild(container: Container) -> QuantModel:
    """Return the model of a file that was read; ModelFileError names the file and what is wrong with it."""
    try:
        model = _rebuild(container.metadata, container.tensors)
    except QrnnError as error:
        raise ModelFileError(f"{container.name}: {error}") from None
    warn_of_random(model, container.name)
    return model


def warn_of_random(model: QuantModel, file: str) -> None:
    """Warn where a model of a file was calibrated on random numbers."""
    if model.provenance.random_calibration:
        warnings.warn(
            f"{Path(file).name} was calibrated on random numbers; convert it with real data before trusting any result",
            RandomCalibrationWarning,
            stacklevel=3,
        )


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; ModelFileError where a name stands twice, of which readers take one or the other."""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for k, (name, _) in enumerate(pairs) if name in dict(pairs[:k]))
        raise ModelFileError(f"metadata: {twice!r} stands twice in one JSON object; convert the model again")
    return found


def verified(metadata: dict[str, str], tensors: Tensors) -> tuple[Any, Any]:
    """Return a file's structure and proof as JSON has them; ModelFileError where the file is damaged, or they are no JSON."""
    structure = metadata.get("model", "")
    if array_digest(tensors, structure) != metadata.get("sha256"):
        raise ModelFileError(
            "checksum does not match: the file is damaged; convert the model again or restore the file"
        )
    try:
        parsed = json.loads(structure, object_pairs_hook=_unrepeated)
        proof = json.loads(metadata.get("proof", ""), object_pairs_hook=_unrepeated)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"metadata is not JSON ({error})") from None
    return parsed, proof


def _rebuild(metadata: dict[str, str], tensors: Tensors) -> QuantModel:
    if metadata.get("format") == FORMAT_WITH_FLOAT_PARTS:
        raise ModelFileError(_of_float_parts(metadata.get("model", "")))
    contracts = (WITHOUT_OFFSETS, CONTRACT_VERSION)
    for name, expected in (("format", (FORMAT,)), ("schema", (SCHEMA,)), ("contract", contracts)):
        if metadata.get(name) not in expected:
            found = f"{name} {metadata[name]!r}" if name in metadata else f"no {name}"
            wanted = " or ".join(map(repr, expected))
            raise ModelFileError(f"{found}, expected {wanted}; convert the model again with this version of qrnn")
    parsed, proof = verified(metadata, tensors)
    model: QuantModel = decode(parsed, QuantModel, tensors, "model")
    check_complete(model)
    if metadata["contract"] != model.contract:
        raise ModelFileError(
            f"contract {metadata['contract']!r}, but the model is one of {model.contract!r}; convert the model again"
        )
    if dict(model.proof) != proof:
        raise ModelFileError("the stored overflow proof is not the model's; convert the model again")
    return model


def _of_float_parts(structure: str) -> str:
    """Return why a file with float parts is refused where a model of integers alone is expected, with the tensors at their border."""
    names: list[str] = []
    try:
        parts = [value.get("part", value.get("model")) for value in json.loads(structure)["parts"]]
        read = {i["name"] for part in parts for i in part["inputs"]}
        names = [str(o["name"]) for part in parts for o in part["outputs"] if o["name"] in read]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        pass  # a damaged file; `qrnn.load` says so
    border = f", with the tensors {', '.join(map(repr, names))} at their border" if names else ""
    return (
        f"the model has float parts{border}, and a model of integers alone is expected here; cut the graph there by qrnn convert --from and "
        "--to, which leaves a .qrnn of integers beside ONNX files of the rest, to be run on the host (docs/onnx_files.md)"
    )
