"""The JSON of a Keras model: layers with their class, name and config."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qrnn.errors import ModelFileError, UnsupportedError

LARGEST_CONFIG = 64 << 20
"""The most bytes of a config; those of large models have some hundred kilobytes."""

LONGEST_NAME = 1024

KERAS_MODULE = re.compile(
    r"(tf_keras|keras|tensorflow\.keras|tensorflow\.python\.keras|keras\.src|tf_keras\.src)(\.|$)"
)
OPERATIONS = "keras.src.ops."


@dataclass(frozen=True)
class LayerConfig:
    """One layer as the file has it. ``operation`` says that it is a function such as ``keras.ops.add`` and no layer."""

    kind: str
    name: str
    config: Any
    inbound: Any
    operation: bool = False

    @property
    def where(self) -> str:
        """Return how messages name the layer."""
        return f"layer '{self.name}' ({self.kind})"


def parse_json(content: bytes | str, what: str) -> Mapping[str, Any]:
    """Return the object that a text of JSON is; ModelFileError for anything else."""
    if len(content) > LARGEST_CONFIG:
        raise ModelFileError(
            f"{what} has {len(content)} bytes, at most {LARGEST_CONFIG} are read; save the model again"
        )
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
        raise ModelFileError(f"{what} is no JSON ({str(error)[:100]}); save the model again") from error
    if not isinstance(found, Mapping):
        raise ModelFileError(f"{what} is {type(found).__name__}, expected an object; save the model again")
    return found


def layer_config(entry: Any, what: str) -> LayerConfig:
    """Return the layer that an object of the config describes."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("class_name"), str):
        raise ModelFileError(f"{what} has no class_name; save the model again")
    config = entry.get("config")
    if not isinstance(config, Mapping):
        raise ModelFileError(f"{what} ({entry['class_name'][:80]}) has no config; save the model again")
    name = entry.get("name", config.get("name"))
    if not isinstance(name, str) or not name or len(name) > LONGEST_NAME or len(entry["class_name"]) > LONGEST_NAME:
        name = entry["class_name"][:80]
    kind = entry["class_name"]
    module, registered = entry.get("module"), entry.get("registered_name")
    custom = isinstance(registered, str) and ">" in registered
    foreign = isinstance(module, str) and not KERAS_MODULE.match(module)
    if custom or foreign or ">" in kind:
        raise UnsupportedError(
            f"layer '{name}' is of the class {kind}, which is not of Keras; qrnn runs no code of a file, write the model with Keras's layers"
        )
    operation = isinstance(module, str) and module.startswith(OPERATIONS)
    return LayerConfig(kind, name, config, entry.get("inbound_nodes"), operation)


def snake_case(name: str) -> str:
    """Return the name that Keras makes of a class for the paths of weights."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


class Paths:
    """The names of layers in a container of a weights file: their classes in snake case, numbered where one comes again."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}

    def next(self, kind: str) -> str:
        """Return the name of the next layer, which is of class ``kind``."""
        name = snake_case(kind)
        count = self._used.get(name)
        self._used[name] = 0 if count is None else count + 1
        return name if count is None else f"{name}_{count + 1}"
