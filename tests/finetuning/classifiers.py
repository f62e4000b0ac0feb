"""Small classifiers and data for tests of fine-tuning, and a trainer that trains nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import qrnn
from qrnn import layers
from qrnn.finetuning.checkpoint import Arrays
from qrnn.model.float_model import FloatModel
from qrnn.model.quant_model import QuantModel

CLASSES = 3


def classifier(every: bool = True, head: str = "", classes: int = CLASSES, seed: int = 0) -> FloatModel:
    """Return a GRU over ``x`` [N, T, 4] with a dense layer, at ``every`` step or at the last one, and a softmax or what ``head`` says."""
    rng = np.random.default_rng(seed)
    x = layers.input("x", 4)
    h = layers.gru(x, rng.normal(size=(15, 4)), rng.normal(size=(15, 5)) / 2).output
    t = layers.dense(h if every else layers.last_step(h), rng.normal(size=(classes, 5)), rng.normal(size=classes))
    if head == "softmax":
        t = layers.softmax(t)
    elif head:
        t = layers.activation(t, head)
    return layers.model("classifier", {"y": t})


def arrays(count: int = 12, steps: int = 6, seed: int = 1) -> dict[str, Any]:
    """Return inputs of such a model, with lengths."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, steps + 1, count)
    lengths[0] = steps
    return {"x": rng.normal(size=(count, steps, 4)).astype(np.float32), "lengths": lengths}


class Scripted:
    """A trainer whose epochs end with models that are given beforehand; its state is how many epochs it has trained."""

    def __init__(self, models: Sequence[QuantModel], losses: Sequence[float] = ()) -> None:
        self.models, self.losses, self.done = models, losses, 0
        self.trained: list[int] = []

    def epoch(self, number: int, report: Callable[[float], None]) -> float:
        assert number == self.done + 1
        self.trained.append(number)
        self.done = number
        report(0.5)
        report(1.0)
        return self.losses[number - 1] if self.losses else 1.0 / number

    def deploy(self) -> QuantModel:
        return self.models[self.done - 1]

    def state(self) -> Arrays:
        return {"done": np.array([self.done])}

    def load(self, state: Arrays) -> None:
        self.done = int(state["done"][0])


def quantized(model: FloatModel, data: dict[str, Any], weights: int = 8, gates: str = "pwl:128") -> QuantModel:
    """Return the model in integers, without refinement."""
    given = {name: data[name] for name in ("x", "lengths")}
    return qrnn.quantize(model, given, qrnn.Scheme(weights=weights, refine="none", gates=gates, input="8"))
