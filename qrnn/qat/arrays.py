"""The real arrays of a float model: which of them are trained, by name, and layers with other arrays in their places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from qrnn.model.float_model import FloatModel
from qrnn.model.layer import Layer
from qrnn.model.parts import FloatArray

Named = Mapping[str, Any]
"""Arrays by their path inside of a layer, such as ``directions.0.weight_ih``."""


def layer_arrays(layer: Layer) -> dict[str, FloatArray]:
    """Return every array of real numbers of a layer, by its path: weights, biases, gains, tables, constant initial states."""
    return dict(_found("", layer))


def _found(path: str, value: Any) -> Iterator[tuple[str, FloatArray]]:
    if isinstance(value, np.ndarray):
        if value.dtype == np.float64 and value.size:
            yield path, value
        return
    if is_dataclass(value):
        inside = [(field.name, getattr(value, field.name)) for field in fields(value)]
    elif isinstance(value, tuple):
        inside = [(str(k), part) for k, part in enumerate(value)]
    else:
        return
    for name, part in inside:
        yield from _found(f"{path}.{name}" if path else name, part)


def with_arrays(layer: Any, values: Named, path: str = "", checked: bool = False) -> Any:
    """Return a layer, or a part of one, with ``values`` in the place of its arrays; where ``checked`` is False they need not be arrays.

    A part none of whose arrays is named stays the same object.
    """
    prefix = f"{path}." if path else ""
    if path and path in values:
        return values[path]
    if path and not any(name.startswith(prefix) for name in values):
        return layer
    if isinstance(layer, tuple):
        return tuple(with_arrays(part, values, f"{prefix}{k}", checked) for k, part in enumerate(layer))
    if not is_dataclass(layer) or isinstance(layer, type):
        return layer
    made = {
        field.name: with_arrays(getattr(layer, field.name), values, f"{prefix}{field.name}", checked)
        for field in fields(layer)
    }
    if checked:
        changed = {name: part for name, part in made.items() if part is not getattr(layer, name)}
        return replace(layer, **changed)
    copied = object.__new__(type(layer))  # without the checks, which are for arrays
    for name, part in made.items():
        object.__setattr__(copied, name, part)
    return copied


def model_arrays(model: FloatModel) -> dict[str, dict[str, FloatArray]]:
    """Return the arrays of every layer that has some, by the layers' names."""
    found = {layer.name: layer_arrays(layer) for layer in model.layers}
    return {name: arrays for name, arrays in found.items() if arrays}


def with_model_arrays(model: FloatModel, values: Callable[[str], Named]) -> FloatModel:
    """Return the model with other arrays: ``values`` gives those of a layer by its name."""
    layers = tuple(with_arrays(layer, values(layer.name), checked=True) for layer in model.layers)
    return replace(model, layers=layers)
