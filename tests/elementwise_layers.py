"""Integer layers of the elementwise kinds with drawn parameters, each as a model of its own, for tests of every backend and of exported C."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from qrnn.arithmetic.octaves import OCTAVE_ENTRY_MAX
from qrnn.model.float_model import GraphInput, GraphOutput
from qrnn.model.kinds.affine import QuantAffine
from qrnn.model.kinds.argmax import QuantArgMax
from qrnn.model.kinds.combine import OPERATIONS, QuantCombine
from qrnn.model.kinds.function import QuantFunction
from qrnn.model.kinds.log_power import QuantLogPower
from qrnn.model.kinds.log_softmax import QuantLogSoftmax
from qrnn.model.kinds.magnitude import QuantMagnitude
from qrnn.model.kinds.prelu import QuantPRelu
from qrnn.model.layer import QuantLayer
from qrnn.model.log_table import log_table
from qrnn.model.parts import STATE_MAX, TensorFormat
from qrnn.model.quant_graph import Provenance
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.gate_tables import exp_table

PROVENANCE = Provenance("", 0, "", 0, 0, "minmax", False, "generic", {})
KINDS = ("root", "power", "log power", *OPERATIONS, "function", "prelu", "affine", "log softmax", "argmax")
FRAC = st.integers(0, 15)


def extremes(rng: np.random.Generator, *shape: int) -> Any:
    """Int16 values of every size; a third of them at an end, and some 0."""
    drawn = rng.integers(-STATE_MAX, STATE_MAX + 1, shape) >> rng.integers(0, 16, shape)
    return np.where(rng.random(shape) < 1 / 3, np.sign(drawn) * STATE_MAX, drawn).astype(np.int16)


def model_of(
    layer: QuantLayer, fracs: dict[str, int], features: dict[str, int], has_time: bool = True, offset: int = 0
) -> QuantModel:
    """A model of one layer, whose inputs are graph inputs, and of its output y with this offset."""
    tensors = {
        name: TensorFormat(features[name], has_time, 16, (2.0 ** -fracs[name],), STATE_MAX)
        for name in dict.fromkeys(layer.inputs)
    }
    tensors["y"] = TensorFormat(features["y"], has_time, 16, (2.0 ** -fracs["y"],), STATE_MAX, (offset,))
    inputs = tuple(GraphInput(name, "features", (features[name],), has_time) for name in dict.fromkeys(layer.inputs))
    every = np.arange(features["y"])
    outputs = (GraphOutput("y", (features["y"],), has_time, (("y", every, every),)),)
    return QuantModel("drawn", inputs, (layer,), outputs, tensors, False, PROVENANCE)


@st.composite
def models(draw: st.DrawFn, kind: str, has_time: bool = True) -> QuantModel:
    """A model of one layer of a kind, with any parameters that the layer allows."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    F = draw(st.integers(1, 5))
    in_frac, other, out_frac = draw(FRAC), draw(FRAC), draw(FRAC)
    if kind == "function":
        bits = draw(st.integers(0, 6))
        size = 2 * (((16 - bits) << bits) + 1)
        table = rng.integers(-OCTAVE_ENTRY_MAX, OCTAVE_ENTRY_MAX + 1, size) >> rng.integers(0, 20, size)
        lowest = draw(st.integers(-32768, 32767))
        highest = draw(st.integers(lowest, 32767))
        layer: QuantLayer = QuantFunction(
            "own", "x", "y", "f", bits, table.astype(np.int32), lowest, highest, in_frac, out_frac
        )
        return model_of(layer, {"x": in_frac, "y": out_frac}, {"x": F, "y": F}, has_time)
    if kind == "prelu":
        slope, shift = extremes(rng, F), rng.integers(0, 47, F).astype(np.int8)
        layer = QuantPRelu("own", "x", "y", slope, shift, in_frac, out_frac)
        return model_of(layer, {"x": in_frac, "y": out_frac}, {"x": F, "y": F}, has_time)
    if kind == "affine":
        bias = rng.integers(-(1 << 61), (1 << 61) + 1, F) >> rng.integers(0, 62, F)
        shift, offset = rng.integers(0, 47, F).astype(np.int8), draw(st.sampled_from([0, 1000, -(1 << 30)]))
        layer = QuantAffine("own", "x", "y", extremes(rng, F), bias, shift, in_frac, out_frac, offset)
        return model_of(layer, {"x": in_frac, "y": out_frac}, {"x": F, "y": F}, has_time, offset)
    if kind == "log softmax":
        layer = QuantLogSoftmax("own", "x", "y", exp_table(), log_table(), in_frac, out_frac)
        return model_of(layer, {"x": in_frac, "y": out_frac}, {"x": F, "y": F}, has_time)
    if kind == "argmax":
        layer = QuantArgMax("own", "x", "y", in_frac, draw(st.booleans()))
        return model_of(layer, {"x": in_frac, "y": 0}, {"x": F, "y": 1}, has_time)
    right, G = draw(st.sampled_from([("x", F), ("z", draw(st.integers(1, 5)))]))
    other = in_frac if right == "x" else other
    size = draw(st.integers(1, 6))
    own = ("own", "x", right, "y", rng.integers(0, F, size), rng.integers(0, G, size), in_frac, other)
    least, most = min(in_frac, other), max(in_frac, other)
    if kind in OPERATIONS:
        finest = {"mul": min(15, in_frac + other), "div": 15}.get(kind, most)
        out_frac = min(out_frac, finest)
        layer = QuantCombine(*own, out_frac, kind)
    else:
        scale = draw(st.integers(most, 15 + least))
        epsilon = draw(st.sampled_from([0, 1, (1 << 61) - 1]) | st.integers(0, (1 << 61) - 1))
        if kind == "log power":
            shift, least = (
                draw(st.integers(0, 46)),
                draw(st.integers(1, (1 << 61) - 1)) >> draw(st.integers(0, 60)) or 1,
            )
            multiplier = draw(st.integers(-(1 << 24), 1 << 24)) >> draw(st.integers(0, 24))
            bias = draw(st.integers(1 - (1 << 61), (1 << 61) - 1)) >> draw(st.integers(0, 60))
            layer = QuantLogPower(*own, out_frac, scale, epsilon, least, multiplier, bias, shift, log_table())
        else:
            root = kind == "root"
            shift = draw(st.integers(1, 30) if root else st.integers(0, 46))
            out_frac = (scale if root else 2 * scale) - shift
            out_frac = min(max(out_frac, scale - 30 if root else 2 * scale - 46, 0), 15, scale - 1 if root else 15)
            scale = max(scale, out_frac + 1) if root else scale
            layer = QuantMagnitude(*own, out_frac, scale, epsilon, root)
    return model_of(layer, {"x": in_frac, "z": other, "y": out_frac}, {"x": F, "z": G, "y": size}, has_time)


def data_of(model: QuantModel, rng: np.random.Generator, size: int, steps: int) -> dict[str, Any]:
    """Integers for each input of a model, with the ends of their range."""
    return {i.name: extremes(rng, size, *([steps] if i.has_time else []), *i.shape) for i in model.inputs}
