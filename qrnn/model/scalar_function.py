"""Functions of one real number, put together from elementwise operations and constants, as graphs spell them out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.model.activation import Activation, activate, erf
from qrnn.model.parts import FloatArray
from qrnn.system.brief import Brief

OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "min": np.minimum,
    "max": np.maximum,
    "neg": np.negative,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "reciprocal": lambda x: np.divide(1.0, x),
    "erf": erf,
    "equal": lambda a, b: np.equal(a, b).astype(np.float64),
    "greater": lambda a, b: np.greater(a, b).astype(np.float64),
    "greater_equal": lambda a, b: np.greater_equal(a, b).astype(np.float64),
    "less": lambda a, b: np.less(a, b).astype(np.float64),
    "less_equal": lambda a, b: np.less_equal(a, b).astype(np.float64),
    "not": lambda a: np.equal(a, 0.0).astype(np.float64),
    "where": lambda condition, a, b: np.where(condition != 0.0, a, b),
}
"""What an operation computes in float64. Outside of its domain the result is NaN or infinite. A comparison is 1 where it holds, else 0."""


@dataclass(frozen=True)
class ScalarFunction(Brief):
    """A function of x: x itself (``op`` is "x"), the constant ``value`` ("number"), or an operation or activation of such functions.

    ``op`` is else one of `OPERATIONS`, or "activation" with the activation beside it.
    """

    op: str
    args: tuple[ScalarFunction, ...] = ()
    value: float = 0.0
    activation: Activation | None = None

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return the value at each element, in float64; NaN or an infinity where an operation has no value."""
        with np.errstate(all="ignore"):
            return self._at(np.asarray(x, np.float64))

    def _at(self, x: FloatArray) -> FloatArray:
        if self.op == "x":
            return x
        if self.op == "number":
            return np.full_like(x, self.value)
        args = [arg._at(x) for arg in self.args]
        result: FloatArray = activate(self.activation, *args) if self.activation else OPERATIONS[self.op](*args)
        return result

    def __str__(self) -> str:
        if self.op == "x":
            return "x"
        if self.op == "number":
            return f"{self.value:g}"
        name = str(self.activation) if self.activation else self.op
        return f"{name}({', '.join(map(str, self.args))})"


X = ScalarFunction("x")
"""The function x itself."""


def constant(value: float) -> ScalarFunction:
    """Return a constant function."""
    return ScalarFunction("number", value=float(value))


def clip_bounds(function: ScalarFunction) -> tuple[float, float] | None:
    """Return (low, high) of a function min(max(x, low), high), however minima and maxima with constants are nested; None for any other."""
    low, high = -math.inf, math.inf
    while function.op in ("min", "max"):
        rest = [arg for arg in function.args if arg.op != "number"]
        numbers = [arg.value for arg in function.args if arg.op == "number"]
        if len(rest) != 1 or len(numbers) != 1:
            return None
        bound = min(max(numbers[0], low), high)  # what is inside is clipped by what is outside
        low, high = (low, bound) if function.op == "min" else (bound, high)
        function = rest[0]
    return (low, high) if function.op == "x" else None
