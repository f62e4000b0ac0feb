"""The weights of a Keras file, by the path of a layer (Keras 3's .keras) or by their names (.h5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from qrnn.errors import ModelFileError
from qrnn.keras_import.config import LayerConfig, Paths
from qrnn.keras_import.hdf5 import Datasets
from qrnn.model.user_values import FLOAT32_MAX

Array = np.ndarray[Any, Any]
Wanted = Sequence[tuple[str, tuple[int, ...] | None]]
"""The names of a layer's variables in Keras's order, each with its shape, None where any will do."""


class Weights(Protocol):
    """The weights of one layer and of the layers inside it."""

    def child(self, path: str, name: str = "") -> Weights:
        """Return those of a layer inside, by the attribute that holds it and by the layer's own name."""

    def inside(self, paths: Paths, layer: LayerConfig) -> Weights:
        """Return those of the next layer of a model."""

    def take(self, where: str, wanted: Wanted) -> list[Array]:
        """Return the layer's own variables; ModelFileError where the file has others."""


def _checked(where: str, name: str, array: Array, shape: tuple[int, ...] | None) -> Array:
    if shape is not None and array.shape != shape:
        raise ModelFileError(
            f"{where}: its weight '{name}' has the shape {list(array.shape)}, expected {list(shape)} by its config; save the model again"
        )
    if not (np.abs(array) <= FLOAT32_MAX).all():
        raise ModelFileError(
            f"{where}: its weight '{name}' holds values that are not finite numbers of float32; train the model again"
        )
    return array


class PathWeights:
    """Weights of a .keras file: those of each layer are numbered in a group ``vars`` at the layer's path."""

    def __init__(self, datasets: Datasets, path: str = "") -> None:
        self._datasets, self._path = datasets, path

    def child(self, path: str, name: str = "") -> PathWeights:
        """Return the weights of a layer inside this one."""
        return PathWeights(self._datasets, f"{self._path}/{path}".lstrip("/"))

    def inside(self, paths: Paths, layer: LayerConfig) -> PathWeights:
        """Return the weights of the next layer of a model, whose path counts the layers of each class."""
        if layer.operation:
            return self
        return self.child(f"{self._container()}/{paths.next(layer.kind)}")

    def _container(self) -> str:
        """Return the name of the group of a model's layers, which Keras 2.13 and before calls otherwise."""
        old = "_layer_checkpoint_dependencies"
        return old if self._datasets.names(f"{self._path}/{old}") else "layers"

    def take(self, where: str, wanted: Wanted) -> list[Array]:
        """Return the variables 0, 1, … of the layer."""
        group = f"{self._path}/vars"
        found = self._datasets.names(group)
        expected = [str(k) for k in range(len(wanted))]
        if sorted(found, key=lambda key: (len(key), key)) != expected:
            names = ", ".join(name for name, _ in wanted)
            raise ModelFileError(
                f"{where}: the file has {len(found)} weights at '{group}', expected {len(wanted)} ({names}); save the model again"
            )
        return [
            _checked(where, name, self._datasets.read(f"{group}/{key}", where), shape)
            for key, (name, shape) in zip(expected, wanted, strict=True)
        ]


class NamedWeights:
    """Weights of an .h5 file: a list of names for each layer of the model, those of the layers inside it among them.

    Keras writes trainable weights before others, so that weights of one name are in the order of the layers, and weights of different names
    need not be. What was taken is not taken again, but by a layer that is called several times. ``owners`` are the layers around a weight.
    """

    def __init__(
        self, datasets: Datasets, group: str, names: list[str], owners: tuple[str, ...], taken: dict[Any, str]
    ) -> None:
        self._datasets, self._group, self._names, self._owners, self._taken = datasets, group, names, owners, taken

    def child(self, path: str, name: str = "") -> NamedWeights:
        """Return the weights of a layer inside this one, whose variables have its name in theirs, where it is known."""
        return NamedWeights(self._datasets, self._group, self._names, (*self._owners, name or path), self._taken)

    def inside(self, paths: Paths, layer: LayerConfig) -> NamedWeights:
        """Return the weights of a layer of a model inside this one."""
        return self.child("", layer.name)

    def take(self, where: str, wanted: Wanted) -> list[Array]:
        """Return the first variables that have these names; of several, those that have most of the layers around them in theirs."""
        return [_checked(where, name, self._next(where, name), shape) for name, shape in wanted]

    def _next(self, where: str, name: str) -> Array:
        key = (*self._owners, name)
        if key not in self._taken:
            parts = {full: full.split(":")[0].split("/") for full in self._names if full not in self._taken.values()}
            fitting = [full for full, own in parts.items() if own[-1] == name]
            if not fitting:
                raise ModelFileError(f"{where}: the file has no weight '{name}' for it; save the model again")
            self._taken[key] = max(fitting, key=lambda full: sum(owner in parts[full] for owner in self._owners))
        return self._datasets.read(f"{self._group}/{self._taken[key]}", where)


class NamedGroups:
    """Weights of an .h5 file, of which each layer of the model has a group with a list of names."""

    def __init__(self, datasets: Datasets) -> None:
        self._datasets = datasets
        self._root = "model_weights" if datasets.names("model_weights") else ""

    def child(self, path: str, name: str = "") -> Weights:
        """Return the weights of one layer by its name."""
        group = f"{self._root}/{name}".strip("/")
        return NamedWeights(self._datasets, group, self._datasets.texts(group, "weight_names") or [], (name,), {})

    def inside(self, paths: Paths, layer: LayerConfig) -> Weights:
        """Return the weights of a layer of the model."""
        return self.child("", layer.name)

    def take(self, where: str, wanted: Wanted) -> list[Array]:
        """Refuse weights of the model itself, which Sequential and functional models have none of."""
        raise ModelFileError(f"{where}: the model has weights outside of its layers; save the model again")
