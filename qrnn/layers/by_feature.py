"""Layers of one tensor by feature: PRelu, a factor and an offset, the logarithm of a softmax, and the index of the largest feature."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.layers.checks import place, shaped
from qrnn.layers.tensors import Tensor, readable, simple_layer
from qrnn.model.kinds.affine import Affine
from qrnn.model.kinds.argmax import ArgMax
from qrnn.model.kinds.log_softmax import LogSoftmax
from qrnn.model.kinds.prelu import PRelu


def prelu(t: Tensor, slope: Any, *, name: str | None = None) -> Tensor:
    """Return t where t ≥ 0, else slope · t; slope [F] has one number for each feature (He et al. 2015)."""
    where = place("prelu", name)
    t = readable(where, t)
    own = shaped(where, "slope", slope, (t.features,), "[F]")
    shape = (t.features, t.has_time)
    return simple_layer("prelu", name, (t,), shape, lambda out, names: PRelu(out, names[0], out, own))


def affine(t: Tensor, scale: Any, offset: Any = None, *, name: str | None = None) -> Tensor:
    """Return scale · t + offset; scale and offset [F] have one number for each feature, and without an offset none is added."""
    where = place("affine", name)
    t = readable(where, t)
    factors = shaped(where, "scale", scale, (t.features,), "[F]")
    added = np.zeros(t.features) if offset is None else shaped(where, "offset", offset, (t.features,), "[F]")
    shape = (t.features, t.has_time)
    return simple_layer("affine", name, (t,), shape, lambda own, names: Affine(own, names[0], own, factors, added))


def log_softmax(t: Tensor, *, name: str | None = None) -> Tensor:
    """Return t_k - ln Σ_j e^(t_j) over all features of each step."""
    t = readable(place("log_softmax", name), t)
    shape = (t.features, t.has_time)
    return simple_layer("log_softmax", name, (t,), shape, lambda own, names: LogSoftmax(own, names[0], own))


def argmax(t: Tensor, *, name: str | None = None) -> Tensor:
    """Return the index of the largest feature of each step, of equal ones the first, as one feature."""
    t = readable(place("argmax", name), t)
    return simple_layer("argmax", name, (t,), (1, t.has_time), lambda own, names: ArgMax(own, names[0], own))
