"""The derivatives of gate functions: f' of the float64 equation that an integer function stands for, 0 where its argument is clamped.

The derivative of a step is 0 wherever it has one, so that nothing would be learned through it. In its place stands the derivative of the
sigmoid that has its middle there, e^-x / (1 + e^-x)², as a surrogate (Bengio, Léonard, Courville 2013,
https://arxiv.org/abs/1308.3432; Neftci, Mostafa, Zenke 2019, https://arxiv.org/abs/1901.09948).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from qrnn.model.activation import Activation, activate
from qrnn.model.parts import FloatArray
from qrnn.qat.tape import Traced
from qrnn.qat.tape_rules import new_tape

_SURROGATE = Activation("sigmoid")


def slope_of(activation: Activation, x: FloatArray, clip: float | None = None) -> FloatArray:
    """Return the derivative of a function of clamp(x, ±``clip``) at every x, or its surrogate."""
    tape = new_tape()
    argument: Any = tape.variable(x)
    y: Any = activate(_SURROGATE if activation.kind == "step" else activation, argument)
    if not isinstance(y, Traced):
        return np.zeros(x.shape)
    tape.backward([(y, np.ones(x.shape))])
    slope = tape.gradient(argument)
    return slope if clip is None else np.where(np.abs(x) < clip, slope, 0.0)


@functools.lru_cache(maxsize=64)
def integer_slopes(activation: Activation, in_frac: int, clip: float | None) -> FloatArray:
    """Return the derivative at every int16 with ``in_frac`` fraction bits, from -32768 up; it is 0 at both ends, where arguments saturate."""
    slopes = slope_of(activation, np.ldexp(np.arange(-32768.0, 32768.0), -in_frac), clip).copy()
    slopes[0] = slopes[-1] = 0.0
    return slopes
