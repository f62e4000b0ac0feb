"""Scalar functions of real numbers are what gates, pointwise layers and projections apply."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from qrnn.model.parts import FloatArray

ActivationKind = Literal[
    "sigmoid",
    "tanh",
    "relu",
    "hard_sigmoid",
    "hard_tanh",
    "step",
    "affine",
    "leaky_relu",
    "thresholded_relu",
    "scaled_tanh",
    "elu",
    "softsign",
    "softplus",
    "swish",
    "hard_swish",
    "gelu",
    "gelu_tanh",
    "mish",
]

ACTIVATION_PARAMETERS: Mapping[ActivationKind, tuple[str, ...]] = {
    "sigmoid": (),
    "tanh": (),
    "relu": (),
    "hard_sigmoid": ("alpha", "beta"),
    "hard_tanh": (),
    "step": (),
    "affine": ("alpha", "beta"),
    "leaky_relu": ("alpha",),
    "thresholded_relu": ("alpha",),
    "scaled_tanh": ("alpha", "beta"),
    "elu": ("alpha",),
    "softsign": (),
    "softplus": (),
    "swish": ("alpha",),
    "hard_swish": (),
    "gelu": (),
    "gelu_tanh": (),
    "mish": (),
}
"""The parameters that each function takes, by its kind."""


@dataclass(frozen=True)
class Activation:
    """A scalar function f(x) of one of these kinds, with its parameters.

    sigmoid 1/(1 + e^-x); tanh; relu max(0, x); hard_sigmoid max(0, min(1, alpha·x + beta)); hard_tanh max(-1, min(1, x)); step 1 for x ≥ 0,
    else 0; affine alpha·x + beta; leaky_relu x for x ≥ 0, else alpha·x; thresholded_relu x for x > alpha, else 0; scaled_tanh
    alpha·tanh(beta·x); elu x for x ≥ 0, else alpha·(e^x - 1); softsign x/(1 + |x|); softplus ln(1 + e^x); swish x/(1 + e^(-alpha·x));
    hard_swish x·max(0, min(1, x/6 + 1/2)); gelu x·Φ(x), with Φ the distribution function of the normal distribution;
    gelu_tanh x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2, its approximation; mish x·tanh(ln(1 + e^x)).

    The names and equations are those of the ONNX operators LSTM, GRU and RNN, and ``step`` and ``hard_tanh``, which ONNX lacks. Parameters
    that a function does not take (`ACTIVATION_PARAMETERS`) are ignored.
    """

    kind: ActivationKind
    alpha: float = 0.2
    beta: float = 0.5

    def __str__(self) -> str:
        values = ", ".join(f"{getattr(self, name):g}" for name in ACTIVATION_PARAMETERS[self.kind])
        return f"{self.kind}({values})" if values else self.kind


def activate(activation: Activation, x: FloatArray) -> FloatArray:
    """Return f(x) in float64, element by element; see `Activation` for the equations."""
    alpha, beta = activation.alpha, activation.beta
    result: FloatArray
    match activation.kind:
        case "sigmoid":
            result = 0.5 * (1.0 + np.tanh(0.5 * x))
        case "tanh":
            result = np.tanh(x)
        case "relu":
            result = np.maximum(x, 0.0)
        case "hard_sigmoid":
            result = np.clip(alpha * x + beta, 0.0, 1.0)
        case "hard_tanh":
            result = np.clip(x, -1.0, 1.0)
        case "step":
            result = np.where(x >= 0.0, 1.0, 0.0)
        case "affine":
            result = alpha * x + beta
        case "leaky_relu":
            result = np.where(x >= 0.0, x, alpha * x)
        case "thresholded_relu":
            result = np.where(x > alpha, x, 0.0)
        case "scaled_tanh":
            result = alpha * np.tanh(beta * x)
        case "elu":
            result = np.where(x >= 0.0, x, alpha * np.expm1(np.minimum(x, 0.0)))
        case "softsign":
            result = x / (1.0 + np.abs(x))
        case "softplus":
            result = np.logaddexp(0.0, x)
        case "swish":
            result = x * (0.5 * (1.0 + np.tanh(0.5 * alpha * x)))
        case "hard_swish":
            result = x * np.clip(x / 6.0 + 0.5, 0.0, 1.0)
        case "gelu":
            result = x * (0.5 + 0.5 * erf(x * math.sqrt(0.5)))
        case "gelu_tanh":
            result = x * (0.5 + 0.5 * np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
        case "mish":
            result = x * np.tanh(np.logaddexp(0.0, x))
    return result


def erf(x: FloatArray) -> FloatArray:
    """Return the error function of each element, in float64."""
    result: FloatArray = _erf(np.atleast_1d(x)).astype(np.float64).reshape(np.shape(x))
    return result


_erf: Any = np.frompyfunc(math.erf, 1, 1)


def softmax(x: FloatArray) -> FloatArray:
    """Return e^x / Σ e^x over the last axis, in float64."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    result: FloatArray = e / e.sum(axis=-1, keepdims=True)
    return result
