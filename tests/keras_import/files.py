"""Write .keras and .h5 files of configs and weights, as Keras does, and read the golden cases that a real Keras made."""

from __future__ import annotations

import io
import json
import lzma
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden" / "keras.npz"

Arrays = Mapping[str, Any]


def keras_bytes(config: Any, weights: Arrays, version: str = "3.15.1") -> bytes:
    """Return a .keras file; ``weights`` are by their paths in its HDF5 file."""
    import h5py

    held, buffer = io.BytesIO(), io.BytesIO()
    with h5py.File(held, "w") as file:
        file.create_group("layers")
        for path, array in weights.items():
            file[path] = array
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version, "date_saved": "2026-01-01@00:00:00"}))
        archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        archive.writestr("model.weights.h5", held.getvalue())
    return buffer.getvalue()


def h5_bytes(config: Any, layers: Mapping[str, Arrays], version: str = "3.15.1") -> bytes:
    """Return an .h5 file; ``layers`` are the weights of each layer by name."""
    import h5py

    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        file.attrs["model_config"] = config if isinstance(config, str) else json.dumps(config)
        file.attrs["keras_version"] = version
        root = file.create_group("model_weights")
        for layer, weights in layers.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in weights]
            for name, array in weights.items():
                group[name] = array
    return held.getvalue()


@dataclass(frozen=True)
class Golden:
    """A model of Keras with the outputs that Keras computed."""

    name: str
    keras: bytes
    h5: bytes
    inputs: Arrays
    outputs: Arrays


@cache
def _facts() -> tuple[Any, Arrays]:
    with np.load(GOLDEN) as found:
        arrays = {key: found[key] for key in found.files}
    return json.loads(lzma.decompress(arrays.pop("facts").tobytes())), arrays


def golden_names() -> list[str]:
    """Return the names of the golden cases."""
    return [case["name"] for case in _facts()[0]["cases"]]


@cache
def golden(name: str) -> Golden:
    """Return a golden case with its files made again."""
    facts, arrays = _facts()
    number, case = next((k, c) for k, c in enumerate(facts["cases"]) if c["name"] == name)
    own = {key.split("/", 1)[1]: array for key, array in arrays.items() if key.split("/", 1)[0] == str(number)}
    weights = {key.removeprefix("weights/"): array for key, array in own.items() if key.startswith("weights/")}
    layers = {layer: {w: weights[path] for w, path in names.items()} for layer, names in case["h5_layers"].items()}
    return Golden(
        name,
        keras_bytes(case["config"], weights, facts["keras"]),
        h5_bytes(case["h5_config"], layers, facts["keras"]),
        {key[3:]: array for key, array in own.items() if key.startswith("in.")},
        {key[4:]: array for key, array in own.items() if key.startswith("out.")},
    )


def sequential(
    *layers: tuple[str, Mapping[str, Any]], shape: Any = (None, None, 3), dtype: str = "float32", **more: Any
) -> dict[str, Any]:
    """Return the config of a Sequential model of Keras 3: an input ``x``, and layers called l0, l1, …"""
    start = {
        "class_name": "InputLayer",
        "module": "keras.layers",
        "config": {"batch_shape": shape, "dtype": dtype, "name": "x"},
    }
    found = [
        {"class_name": kind, "module": "keras.layers", "registered_name": None, "config": {"name": f"l{k}", **config}}
        for k, (kind, config) in enumerate(layers)
    ]
    return {"class_name": "Sequential", "module": "keras", "config": {"name": "net", "layers": [start, *found], **more}}


def lstm_weights(path: str = "layers/lstm/cell/vars", features: int = 3, units: int = 2) -> dict[str, Any]:
    """Return the weights of one LSTM, drawn at random."""
    rng = np.random.default_rng(5)
    shapes = ((features, 4 * units), (units, 4 * units), (4 * units,))
    return {f"{path}/{k}": (0.3 * rng.normal(size=shape)).astype(np.float32) for k, shape in enumerate(shapes)}
