"""Networks whose branches come at different times, since windows of some look ahead; they join, or are one output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from qrnn import layers
from qrnn.layers.tensors import Tensor
from qrnn.model.float_model import FloatModel


class Weights:
    """Layers of random weights."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def normal(self, *shape: int) -> Any:
        return self.rng.normal(0, 0.5, shape)

    def conv(self, t: Tensor, taps: int, before: int, after: int, stride: int = 1, dilation: int = 1) -> Tensor:
        weight = self.normal(t.features, t.features, taps)
        return layers.conv(
            t, weight, self.normal(t.features), stride=stride, dilation=dilation, padding=(before, after)
        )

    def dense(self, t: Tensor, features: int) -> Tensor:
        return layers.dense(t, self.normal(features, t.features), self.normal(features))

    def gru(self, t: Tensor, hidden: int = 3) -> Tensor:
        return layers.gru(t, self.normal(3 * hidden, t.features), self.normal(3 * hidden, hidden)).output


def residual(w: Weights, x: Tensor, ahead: int) -> dict[str, Any]:
    """Blocks of a convolution that looks ahead, and a way around it."""
    t = w.dense(x, 3)
    for k in range(2):
        t = layers.activation(layers.add(t, w.conv(t, 2 * ahead + 1, ahead + k % 2, ahead - k % 2)), "relu")
    return {"y": w.gru(t)}


def parallel(w: Weights, x: Tensor, ahead: int) -> dict[str, Any]:
    """Convolutions of several sizes and the input side by side."""
    t = w.dense(x, 2)
    ways = [w.conv(t, 2 * k + 1, k, k) for k in range(ahead + 1)]
    return {"y": w.gru(layers.concat(*ways, t))}


def strided(w: Weights, x: Tensor, ahead: int) -> dict[str, Any]:
    """A convolution of 3 steps beside one of a single step, both of every second step: half a step apart."""
    t = w.dense(x, 2)
    for _ in range(ahead):
        t = layers.add(w.conv(t, 3, 1, 1, stride=2), w.conv(t, 1, 0, 0, stride=2))
    return {"y": w.gru(t)}


def strided_early(w: Weights, x: Tensor, ahead: int) -> dict[str, Any]:
    """The same, where dense layers and a sum stand between the stride and the join."""
    t = w.dense(x, 2)
    one = w.dense(w.conv(t, 1, 0, 0, stride=2), 2)
    two = w.conv(t, 3, 1, 1, stride=2)
    return {"y": w.gru(layers.add(layers.add(one, w.dense(one, 2)), w.conv(two, 2 * ahead + 1, ahead, ahead)))}


def outputs(w: Weights, x: Tensor, ahead: int) -> dict[str, Any]:
    """One output of two tensors, and another of the one that comes first."""
    t = w.gru(x)
    late = w.conv(t, 2 * ahead + 1, ahead, ahead)
    return {"y": (late, w.dense(t, 2)), "last": layers.last_step(layers.add(late, t))}


def around_a_cell(w: Weights, x: Tensor, ahead: int) -> dict[str, Any]:
    """A way around a convolution and a cell."""
    t = w.dense(x, 3)
    return {"y": layers.multiply(t, w.gru(w.conv(t, ahead + 1, 0, ahead)))}


NETWORKS: dict[str, Callable[[Weights, Tensor, int], dict[str, Any]]] = {
    f.__name__: f for f in (residual, parallel, strided, strided_early, outputs, around_a_cell)
}


def network(which: str, ahead: int, seed: int) -> FloatModel:
    """Build a network; windows look ``ahead`` by 1 to 3 steps."""
    return layers.model(which, NETWORKS[which](Weights(seed), layers.input("x", 2), ahead))
