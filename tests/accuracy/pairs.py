"""A small float model and its quantized form, and data to compare them on."""

from __future__ import annotations

from typing import Any

import numpy as np
from models import Shape, make_model

from qrnn.conversion import quantize
from qrnn.model.float_model import FloatModel
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme

RNG = np.random.default_rng(0)
N, T = 130, 7
"""More sequences than `qrnn.accuracy.float_run.LEAST_PIECE`."""
X = RNG.normal(size=(N, T, 3))
LENGTHS = RNG.integers(1, T - 1, N)
"""Shorter than T, so that no piece is as long as the arrays."""
MASK = np.arange(T) < LENGTHS[:, None]


def pair(shape: Shape, x: Any) -> tuple[FloatModel, QuantModel]:
    model = make_model(shape, np.random.default_rng(1))
    return model, quantize(model, {"x": x}, Scheme(input="8"))
