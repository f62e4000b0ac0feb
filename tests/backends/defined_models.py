"""Models of kinds of layers that the CPU has no loops for."""

from __future__ import annotations

from typing import Any

import numpy as np

from backends.generators import eager
from backends.loop_kinds import QuantDifference, QuantPooled
from backends.raw_layers import dense_model, ends, int16
from qrnn.backends import create_engine
from qrnn.backends.cpu.engine import CpuEngine
from qrnn.model.float_model import GraphInput, GraphOutput
from qrnn.model.layer import QuantLayer
from qrnn.model.quant_graph import Provenance
from qrnn.model.quant_model import QuantModel

Rng = np.random.Generator


def model_of(layers: tuple[QuantLayer, ...], features: dict[str, int]) -> QuantModel:
    """A model of these layers from x to the output of the last, which is the graph's output y."""
    provenance = Provenance("", 0, "", 0, 0, "minmax", False, "generic", {})
    (last,) = layers[-1].outputs
    tensors = {name: int16(12 if name != "x" else 3, size) for name, size in features.items()}
    every = np.arange(features[last])
    output = GraphOutput("y", (features[last],), True, ((last, every, every),))
    return QuantModel(
        "raw", (GraphInput("x", "features", (features["x"],), True),), layers, (output,), tensors, False, provenance
    )


def difference(rng: Rng, features: int, shift: int = 9, source: str = "x", target: str = "d") -> QuantDifference:
    weight = ends(rng, -32768, 32767, features).astype(np.int16)
    return QuantDifference(target, source, target, weight, shift)


def pooled(rng: Rng, features: int, rows: int, stride: int = 3, delay: int = 0) -> QuantPooled:
    weight = ends(rng, -127, 127, rows, features).astype(np.int8)
    bias = ends(rng, -(1 << 20), 1 << 20, rows).astype(np.int32)
    multiplier = (ends(rng, 0, (1 << 30) - 1, rows) >> rng.integers(0, 20, rows) << 1).astype(np.int32)
    return QuantPooled("pooled", "x", "p", weight, bias, multiplier, stride, delay)


def cpu(model: QuantModel, isa: str | None = None, threads: int = 1) -> CpuEngine:
    engine = create_engine("cpu", model, threads, isa, eager(2) if threads == 2 else None)
    assert isinstance(engine, CpuEngine)
    return engine


def chain(rng: Rng) -> QuantModel:
    """Two layers without loops of the CPU's before and after a dense layer that has them."""
    dense = dense_model(rng, 7, 5, 127).layers[0]
    dense = type(dense)("dense", "d", "e", dense.matrix, dense.pre_shift, dense.operand, 12)  # type: ignore[attr-defined,call-arg]
    layers = (difference(rng, 7), dense, difference(rng, 5, 3, "e", "f"))
    return model_of(layers, {"x": 7, "d": 7, "e": 5, "f": 5})


def zeros_of(layer: QuantLayer, size: int, kind: Any = None) -> Any:
    return [np.zeros((size, *s.shape), kind or s.dtype) for s in layer.states()]
