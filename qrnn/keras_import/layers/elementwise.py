"""Layers that compute each element by itself: activations, rescaling, normalization by stored statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qrnn.keras_import.activations import activation_of, apply_activation
from qrnn.keras_import.graph import Graph
from qrnn.keras_import.registry import Call, layer
from qrnn.keras_import.settings import Settings
from qrnn.keras_import.tensors import Value

LAYERS = {"ReLU": "relu", "LeakyReLU": "leaky_relu", "ELU": "elu", "Softmax": "softmax"}


@layer("Activation", keeps_mask=True, by_step=True)
def activation(graph: Graph, call: Call) -> Sequence[Value]:
    """Write the activation that the layer names."""
    call.only()
    name, config = activation_of(call.settings, "activation")
    return [apply_activation(graph, call.x, name, Settings(call.layer.where, config))]


@layer(*LAYERS, keeps_mask=True, by_step=True)
def activation_layer(graph: Graph, call: Call) -> Sequence[Value]:
    """Write an activation that is a layer with settings of its own."""
    call.only()
    return [apply_activation(graph, call.x, LAYERS[call.layer.kind], call.settings)]


@layer("PReLU", keeps_mask=True, by_step=True)
def p_relu(graph: Graph, call: Call) -> Sequence[Value]:
    """Write x, times a slope of its own for each feature where it is negative."""
    call.only()
    x = call.x
    shared = call.settings.take("shared_axes") or []
    if not isinstance(shared, list) or any(not isinstance(k, int) or not 1 <= k < x.rank for k in shared):
        call.settings.damaged(f"shared_axes={shared!r}, expected axes of {x.text()}")
    shape = tuple(1 if k in shared else size for k, size in enumerate(x.shape) if k)
    if any(size is None for size in shape) or (x.rank == 3 and shape[0] != 1):
        call.settings.refuse("it has a slope for each step of a sequence; share them over time with shared_axes=[1]")
    (alpha,) = call.weights.take(call.layer.where, [("alpha", tuple(size for size in shape if size is not None))])
    return [graph.apply("PRelu", x, graph.constant(alpha, "alpha"))]


def scaled(graph: Graph, x: Value, scale: Any, offset: Any) -> Value:
    """Return x · scale + offset, with arrays that are broadcast to the value."""
    return graph.apply("Add", graph.apply("Mul", x, graph.constant(scale, "scale")), graph.constant(offset, "offset"))


@layer("Rescaling", keeps_mask=True, by_step=True)
def rescaling(graph: Graph, call: Call) -> Sequence[Value]:
    """Write x · scale + offset."""
    call.only()
    scale, offset = (_numbers(call, key, default) for key, default in (("scale", None), ("offset", 0.0)))
    return [scaled(graph, call.x, scale, offset)]


def _numbers(call: Call, key: str, default: float | None) -> np.ndarray[Any, Any]:
    value = call.settings.take(key, default)
    if isinstance(value, dict):  # Keras 3 writes an array as an object
        inner = value.get("config")
        value = inner.get("value") if isinstance(inner, dict) else None
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.asarray(np.nan)
    if not np.isfinite(array).all() or array.ndim > 1 or array.size not in (1, call.x.features):
        call.settings.damaged(f"{key}={value!r:.60}, expected a number, or one for each feature")
    return array


@layer("Normalization", keeps_mask=True)
def normalization(graph: Graph, call: Call) -> Sequence[Value]:
    """Write (x - mean) / sqrt(variance) by statistics that the file holds, for each place of the last axis or for all."""
    call.only()
    x, settings = call.x, call.settings
    axis = settings.take("axis", -1)
    if isinstance(axis, list):
        axis = axis[0] if len(axis) == 1 else (axis or None)
    if axis not in (None, -1, x.rank - 1):
        settings.refuse(f"axis={axis!r} is not supported; expected -1, or None for all")
    invert = settings.flag("invert", False)
    given = {key: settings.take(key) for key in ("mean", "variance")}
    shape = (x.features,) if axis is not None else ()
    if any(value is None for value in given.values()):
        size = tuple(s for s in shape if s is not None)
        mean, variance, _ = call.weights.take(call.layer.where, [("mean", size), ("variance", size), ("count", ())])
    else:
        mean, variance = (np.asarray(given[key], np.float64).reshape(-1) for key in ("mean", "variance"))
        if any(array.size not in (1, x.features) for array in (mean, variance)):
            settings.damaged("mean and variance have another size than the features")
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    return [scaled(graph, x, deviation, mean) if invert else scaled(graph, x, 1 / deviation, -mean / deviation)]
