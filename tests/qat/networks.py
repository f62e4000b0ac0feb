"""Small float models, one for each kind of layer that has no time of its own or is read before and behind a cell."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import numpy as np

from qrnn import layers
from qrnn.layers import Tensor
from qrnn.model.activation import Activation, ActivationKind
from qrnn.model.float_model import FloatModel
from qrnn.model.window import Window

Draw = Callable[..., Any]


def _gru(draw: Draw, x: Tensor, hidden: int = 3, **more: Any) -> Any:
    return layers.gru(
        x, draw(3 * hidden, x.features), draw(3 * hidden, hidden), draw(3 * hidden), draw(3 * hidden), **more
    )


def _attention(draw: Draw, x: Tensor, **more: Any) -> Tensor:
    wide = [layers.dense(x, draw(4, x.features)) for _ in range(3)]
    return layers.attention(*wide, heads=2, **more)


def _positive(draw: Draw, x: Tensor) -> Tensor:
    return layers.affine(layers.activation(x, "sigmoid"), np.ones(x.features), np.ones(x.features))


KINDS: dict[str, Callable[[Draw, Tensor], Tensor]] = {
    "dense": lambda draw, x: layers.dense(x, draw(5, 4), draw(5)),
    "conv": lambda draw, x: layers.conv(x, draw(6, 4, 3), draw(6), stride=2, padding=(1, 1)),
    "conv_bands": lambda draw, x: layers.conv(x, draw(4, 2, 2, 2), draw(4), bands=2, dilation=2),
    "conv_groups": lambda draw, x: layers.conv(x, draw(4, 1, 3), draw(4), groups=4),
    "conv_transpose": lambda draw, x: layers.conv_transpose(x, draw(4, 3, 3), draw(3), stride=2),
    "upsample": lambda draw, x: layers.upsample(x, 2),
    "max_pool": lambda draw, x: layers.max_pool(x, Window(2, 2)),
    "average_pool": lambda draw, x: layers.average_pool(x, Window(3, 1, 1, 1, 1)),
    "add": lambda draw, x: layers.add(x, layers.dense(x, draw(4, 4))),
    "multiply": lambda draw, x: layers.multiply(x, layers.dense(x, draw(4, 4))),
    "subtract": lambda draw, x: layers.subtract(x, layers.dense(x, draw(4, 4))),
    "divide": lambda draw, x: layers.divide(x, _positive(draw, layers.dense(x, draw(4, 4)))),
    "scale_bands": lambda draw, x: layers.scale_bands(x, layers.dense(x, draw(2, 4)), bands=2),
    "concat": lambda draw, x: layers.concat(x, layers.dense(x, draw(3, 4))),
    "affine": lambda draw, x: layers.affine(x, draw(4), draw(4)),
    "prelu": lambda draw, x: layers.prelu(x, np.abs(draw(4))),
    "softmax": lambda draw, x: layers.softmax(x),
    "log_softmax": lambda draw, x: layers.log_softmax(x),
    "group_softmax": lambda draw, x: layers.group_softmax(x, 2),
    "layer_norm": lambda draw, x: layers.layer_norm(x, draw(4), draw(4)),
    "rms_norm": lambda draw, x: layers.rms_norm(x, draw(4)),
    "group_norm": lambda draw, x: layers.group_norm(x, 2, draw(4), draw(4)),
    "instance_norm": lambda draw, x: layers.instance_norm(x, draw(4), draw(4)),
    "running_norm": lambda draw, x: layers.running_norm(x, draw(4), draw(4), groups=1),
    "moment": lambda draw, x: layers.moment(x, 2, epsilon=0.1),
    "magnitude": lambda draw, x: layers.magnitude(x, layers.dense(x, draw(4, 4)), epsilon=0.1),
    "power": lambda draw, x: layers.power(x, layers.dense(x, draw(4, 4))),
    "log_power": lambda draw, x: layers.log_power(x, layers.dense(x, draw(4, 4)), epsilon=0.1),
    "matmul": lambda draw, x: layers.matmul(x, layers.dense(x, draw(6, 4)), 2, 3),
    "attention": _attention,
    "causal_attention": partial(_attention, causal=True),
    "attention_pool": lambda draw, x: layers.attention_pool(layers.dense(x, draw(2, 4)), x),
    "delay": lambda draw, x: layers.delay(x, 2),
    "last_step": lambda draw, x: layers.repeat(layers.last_step(x), x),
    "time_slice": lambda draw, x: layers.time_slice(x, 1, None, 2),
    "last_steps": lambda draw, x: layers.time_slice(x, -3),
    "step_at": lambda draw, x: layers.repeat(layers.step_at(x, 1), x),
    "spread": lambda draw, x: layers.spread(x, epsilon=0.1),
    "reduce_mean": lambda draw, x: layers.reduce(x, "mean", 2),
    "reduce_max": lambda draw, x: layers.reduce(x, "max", 2),
    "running_mean": lambda draw, x: layers.running(x, "mean"),
    "running_max": lambda draw, x: layers.running(x, "max"),
    "over_bands": lambda draw, x: layers.over_bands(x, 2, lambda band: _gru(draw, band)),
    "per_band": lambda draw, x: layers.per_band(x, 2, lambda band: _gru(draw, band)).output,
    "per_band_starts": lambda draw, x: layers.per_band(x, 2, lambda band: _gru(draw, band), h_0=draw(6)).output,
    **{
        kind: partial(lambda kind, draw, x: layers.activation(x, Activation(kind)), kind)
        for kind in get_args(ActivationKind) if kind not in ("step", "affine", "thresholded_relu")
    },
}  # fmt: skip
"""A layer of each kind, which reads [N, T, 4]."""


def network(kind: str, seed: int = 0) -> FloatModel:
    """Return a model of a dense layer, a layer of ``kind``, and a GRU behind it."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> Any:
        return rng.normal(size=shape) * 0.7

    x = layers.dense(layers.input("x", features=3), draw(4, 3), draw(4))
    y = KINDS[kind](draw, x)
    return layers.model(kind, outputs={"y": y, "h": _gru(draw, y).h_n})
