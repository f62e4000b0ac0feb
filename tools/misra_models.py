"""Small models whose exported C has, together, every part of the exporter; tools/misra.py checks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import qrnn
from qrnn import layers
from qrnn.export.choices import Choices, checked_names
from qrnn.export.folder import export_model
from qrnn.export.generation import Generation
from qrnn.layers import Tensor
from qrnn.model.codes import code_format
from qrnn.model.float_model import FloatModel
from qrnn.model.quant_model import QuantModel
from qrnn.model.window import Window, causal

BYTES = qrnn.Scheme(activations=8, input="8")
SHORTS = qrnn.Scheme(activations=16, input="16")
FOUR = qrnn.Scheme(activations=8, input="8", weights=4, refine="none")
FOUR_OF_SHORTS = qrnn.Scheme(activations=16, input="16", weights=4, refine="none")

CORTEX_M4 = {
    "__GNUC__": 12,
    "__OPTIMIZE__": 1,
    "__arm__": 1,
    "__thumb__": 1,
    "__thumb2__": 1,
    "__ARM_ARCH": 7,
    "__ARM_ARCH_ISA_THUMB": 2,
    "__ARM_FEATURE_DSP": 1,
    "__ARM_FEATURE_SIMD32": 1,
    "__ARM_FEATURE_SAT": 1,
}
"""What GCC defines for a Cortex-M4, of that which the C asks for."""
CORTEX_M55 = {**CORTEX_M4, "__ARM_ARCH": 8, "__ARM_FEATURE_MVE": 3}


@dataclass(frozen=True)
class Checked:
    """A model, how its weights and operands are stored, for which target it is exported, with which choices, and the compiler's own macros."""

    make: Callable[[np.random.Generator], FloatModel]
    scheme: qrnn.Scheme = BYTES
    target: str = "generic"
    macros: tuple[tuple[str, int], ...] = ()
    choices: Callable[[QuantModel], Choices] | None = None
    generation: Generation | None = None


def write(name: str, folder: Path) -> None:
    """Export the model ``name`` of `MODELS` to ``folder``, as a model that is called net in C."""
    checked, rng = MODELS[name], np.random.default_rng(1)
    made = checked.make(rng)
    data: dict[str, Any] = {}
    for port in made.inputs:
        shape = (4, 12, *port.shape) if port.has_time else (4, *port.shape)
        data[port.name] = rng.integers(0, port.vocabulary, shape) if port.kind == "tokens" else rng.normal(size=shape)
    model = qrnn.quantize(made, data, checked.scheme)
    choices = checked.choices(model) if checked.choices else None
    target = qrnn.load_target(checked.target)
    export_model(model, target, folder, "net", choices=choices, generation=checked.generation)


def _cell(kind: str, x: Tensor, units: int, rng: np.random.Generator, **options: Any) -> Any:
    gates = {"lstm": 4, "gru": 3}[kind]
    size = (gates * units, x.features), (gates * units, units)
    return getattr(layers, kind)(x, *(rng.normal(size=s) for s in size), **options)


def _lstm(rng: np.random.Generator) -> FloatModel:
    last = layers.last_step(_cell("lstm", layers.input("x", 3), 40, rng).output)
    return layers.model("m", {"y": layers.softmax(layers.dense(last, rng.normal(size=(4, 40))))})


def _both_directions(rng: np.random.Generator) -> FloatModel:
    x = layers.input("x", 5)
    ways = layers.bidirectional(*(_cell("gru", x, 7, rng, reverse=reverse) for reverse in (False, True)))
    return layers.model("m", {"y": layers.dense(ways.output, rng.normal(size=(3, 14)))})


def _windows(rng: np.random.Generator) -> FloatModel:
    band, half = Window(3, before=1, after=1), Window(2, 2)
    x = layers.conv(layers.input("x", 12), rng.normal(size=(9, 2, 3, 3)), band=band, bands=6, dilation=2)
    x = layers.max_pool(x, causal(2), band=half, bands=6)
    x = layers.conv(x, rng.normal(size=(9, 1, 2, 3)), band=band, bands=3, groups=9)
    x = layers.conv(x, rng.normal(size=(6, 3, 2, 1)), bands=3, groups=3, stride=2)
    return layers.model("m", {"y": _cell("gru", layers.activation(x, "relu"), 33, rng).output})


def _attention(rng: np.random.Generator) -> FloatModel:
    x = layers.input("x", 6)
    q, k, v = (layers.dense(x, rng.normal(size=(8, 6))) for _ in range(3))
    own = layers.attention(q, k, v, heads=2, causal=True, window=5)
    pooled = layers.attention_pool(layers.dense(own, rng.normal(size=(2, 8))), own)
    return layers.model("m", {"y": layers.last_step(pooled)})


def _norms(rng: np.random.Generator) -> FloatModel:
    x = layers.layer_norm(layers.input("x", 8), rng.normal(size=8), rng.normal(size=8))
    y = layers.running_norm(layers.group_norm(x, groups=2))
    return layers.model("m", {"y": layers.rms_norm(layers.add(x, y))})


def _elementwise(rng: np.random.Generator) -> FloatModel:
    a, b = layers.input("a", 6), layers.input("b", 6)
    parts = layers.concat(layers.divide(a, layers.magnitude(a, b)), layers.log_power(a, b), layers.multiply(a, b))
    parts = layers.prelu(layers.affine(parts, rng.normal(size=18)), rng.normal(size=18))
    return layers.model("m", {"y": layers.log_softmax(layers.delay(parts, (0, 2))), "best": layers.argmax(parts)})


def _language(rng: np.random.Generator) -> FloatModel:
    x = layers.embedding(layers.tokens("tokens", 11), rng.normal(size=(11, 6)))
    return layers.model("m", {"scores": layers.dense(_cell("gru", x, 9, rng).output, rng.normal(size=(11, 9)))})


def _named(model: QuantModel) -> Choices:
    names = {"y": checked_names(model, "y", ("yes", "no", "noise", "nothing"))}
    return Choices({"x": code_format(model, "x", (0.001, 0.002, 0.003), 0.5)}, names, scratch=True)


MODELS = {
    "LSTM of 8 bits": Checked(_lstm),
    "LSTM with codes, names and scratch": Checked(_lstm, choices=_named),
    "GRU in both directions, of 16 bits": Checked(_both_directions, SHORTS),
    "LSTM of 4 bits": Checked(_lstm, FOUR),
    "LSTM of 4 bits, operands of 16": Checked(_lstm, FOUR_OF_SHORTS),
    "convolutions, pool and GRU": Checked(_windows),
    "convolutions, pool and GRU of 16 bits": Checked(_windows, SHORTS),
    "attention": Checked(_attention),
    "normalizations": Checked(_norms),
    "elementwise functions": Checked(_elementwise),
    "tokens, generated": Checked(_language, generation=Generation(qrnn.Sampling(0.8, top_k=5))),
    "LSTM on Cortex-M4": Checked(_lstm, target="cortex-m4", macros=tuple(CORTEX_M4.items())),
    "convolutions of 16 bits on Cortex-M4": Checked(_windows, SHORTS, "cortex-m4", tuple(CORTEX_M4.items())),
    "LSTM on Cortex-M55": Checked(_lstm, target="cortex-m55", macros=tuple(CORTEX_M55.items())),
}
