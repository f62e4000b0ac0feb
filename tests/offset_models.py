"""Models whose outputs lie far from 0, which quantization gives an offset."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from qrnn import layers
from qrnn.conversion import quantize
from qrnn.model.float_model import FloatModel, GraphOutput, TensorInfo
from qrnn.model.kinds.concat import Concat
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme

F, H = 3, 5


def far_model(middles: tuple[float, ...] = (1013.0, 1012.0), spread: float = 0.3, seed: int = 0) -> FloatModel:
    """A GRU and a head of outputs about ``middles``: each step, its features turned round, the last step, and the last of its features."""
    rng = np.random.default_rng(seed)
    O = len(middles)
    x = layers.input("x", F)
    gru = layers.gru(x, rng.normal(size=(3 * H, F)), 0.5 * rng.normal(size=(3 * H, H)), name="gru")
    y = layers.dense(gru.output, spread * rng.normal(size=(O, H)), np.array(middles), name="head")
    model = layers.model("far", {"y": y, "last": layers.last_step(y, name="end")})
    slices = (("turned", "head", np.arange(O)[::-1].copy()), ("one", "end", np.array([O - 1])))
    for name, source, indices in slices:
        has_time = model.tensors[source].has_time
        part = (name, np.arange(len(indices)), np.arange(len(indices)))
        model = replace(
            model,
            layers=(*model.layers, Concat(name, name, ((source, indices),))),
            tensors={**model.tensors, name: TensorInfo(len(indices), has_time)},
            outputs=(*model.outputs, GraphOutput(name, (len(indices),), has_time, (part,))),
        )
    return model


def far_data(seed: int, *lead: int) -> dict[str, Any]:
    """Inputs of `far_model`, [*lead, F]."""
    return {"x": np.random.default_rng(seed).normal(size=(*lead, F)).astype(np.float32)}


def far_quantized(scheme: Scheme | None = None) -> QuantModel:
    """`far_model`, quantized with its usual data."""
    return quantize(far_model(), far_data(1, 8, 20), scheme or Scheme(input="8"))
