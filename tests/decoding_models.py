"""Small random models whose outputs are fed back: of tokens, of one-hot tokens, of values, and a transducer."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np

import qrnn
from qrnn import layers
from qrnn.model.quant_model import QuantModel

Head = Literal["logits", "softmax", "log_softmax", "argmax"]

VOCABULARY = 11
SCHEME = qrnn.Scheme(activations=8)
"""A scheme without a search for widths."""


@cache
def language_model(
    head: Head = "logits", cell: str = "gru", vocabulary: int = VOCABULARY, seed: int = 0, conditioned: bool = False
) -> QuantModel:
    """Tokens → embedding → cell → scores, with a vector for each sequence and one for each step where it is ``conditioned``."""
    rng = np.random.default_rng(seed)
    E, H = 6, 9
    tokens = layers.tokens("tokens", vocabulary)
    x = layers.embedding(tokens, rng.normal(size=(vocabulary, E)))
    data = {"tokens": rng.integers(0, vocabulary, (8, 30))}
    if conditioned:
        data["step"], data["voice"] = rng.normal(size=(8, 30, 3)), rng.normal(size=(8, 2))
        own = layers.repeat(layers.input("voice", 2, has_time=False), like=x)
        x, E = layers.concat(x, layers.input("step", 3), own), E + 5
    gates = {"gru": 3, "lstm": 4, "rnn": 1}[cell]
    y = getattr(layers, cell)(x, rng.normal(size=(gates * H, E)), rng.normal(size=(gates * H, H))).output
    y = layers.dense(y, 4.0 * rng.normal(size=(vocabulary, H)), 0.3 * rng.normal(size=vocabulary))
    y = {"logits": lambda t: t, "softmax": layers.softmax, "log_softmax": layers.log_softmax, "argmax": layers.argmax}[
        head
    ](y)
    return qrnn.quantize(layers.model("language", {"scores": y}), data, SCHEME)


@cache
def one_hot_model(seed: int = 0) -> QuantModel:
    """One-hot tokens in, probabilities out."""
    rng = np.random.default_rng(seed)
    V, H = 7, 8
    x = layers.input("x", V)
    y = layers.lstm(x, 2.0 * rng.normal(size=(4 * H, V)), rng.normal(size=(4 * H, H))).output
    y = layers.softmax(layers.dense(y, 3.0 * rng.normal(size=(V, H))))
    return qrnn.quantize(layers.model("one_hot", {"p": y}), {"x": np.eye(V)[rng.integers(0, V, (8, 30))]}, SCHEME)


@cache
def forecaster(seed: int = 0, scheme: str = "auto", last: bool = False) -> QuantModel:
    """Values in, the next values out; with ``last`` the output is that of a sequence's last step."""
    rng = np.random.default_rng(seed)
    F, H = 3, 8
    x = layers.input("x", F)
    y = layers.gru(x, 0.5 * rng.normal(size=(3 * H, F)), 0.7 * rng.normal(size=(3 * H, H))).output
    y = layers.last_step(y) if last else y
    y = layers.dense(y, rng.normal(size=(F, H)), np.array([3.0, -20.0, 0.1]))
    data = rng.normal(size=(8, 30, F)) * [1.0, 10.0, 0.3] + [3.0, -20.0, 0.0]
    return qrnn.quantize(layers.model("forecaster", {"y": y}), {"x": data}, qrnn.Scheme(activations=8, input=scheme))


@cache
def transducer(seed: int = 0, vocabulary: int = 6) -> QuantModel:
    """Prediction network over tokens and joint network with the frames of an encoder; the blank is the last score and no token."""
    rng = np.random.default_rng(seed)
    E, H, F = 4, 7, 5
    tokens = layers.tokens("tokens", vocabulary)
    p = layers.lstm(
        layers.embedding(tokens, rng.normal(size=(vocabulary, E))),
        rng.normal(size=(4 * H, E)),
        rng.normal(size=(4 * H, H)),
    ).output
    joint = layers.add(
        layers.dense(p, rng.normal(size=(H, H))), layers.dense(layers.input("frames", F), rng.normal(size=(H, F)))
    )
    bias = np.zeros(vocabulary + 1)
    bias[-1] = 1.5
    y = layers.dense(layers.activation(joint, "tanh"), 1.5 * rng.normal(size=(vocabulary + 1, H)), bias)
    data = {"tokens": rng.integers(0, vocabulary, (8, 30)), "frames": rng.normal(size=(8, 30, F))}
    return qrnn.quantize(layers.model("transducer", {"joint": y}), data, SCHEME)
