"""What elementwise operators compute of which features: groups of them that a graph spells out are found by their equation.

Each elementwise operator of a graph makes a layer, and the builder remembers of what features its result is which function (`Term`). An
operator that reads such a result may so find that both of its operands are functions of the same features, as in x · sigmoid(x), or that it
takes the root of a sum of squares; it then makes one layer of those features. The layers between that nothing else reads are dropped with
all that no output depends on. Transpose, Reshape, Slice, Identity, Cast and Dropout only move ids, and are so looked through.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from qrnn.model.activation import Activation, activate
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.scalar_function import ScalarFunction, X, constant
from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.values import Features

MOST_TERMS = 24
"""The most operations of a term; a larger one counts as features that stand for themselves."""

NAMED = (
    Activation("gelu"),
    Activation("gelu_tanh"),
    Activation("hard_swish"),
    Activation("mish"),
    Activation("softplus"),
    Activation("softsign"),
    Activation("tanh"),
    Activation("sigmoid"),
    Activation("swish", 1.0),
    Activation("relu"),
    Activation("elu", 1.0),
    Activation("hard_sigmoid", 1.0 / 6.0, 0.5),
    Activation("leaky_relu", -1.0),
)
"""The activations by whose names functions are called that are the same but for float32's rounding."""


@dataclass(frozen=True, eq=False)
class Term:
    """What n features are: an operation of terms, constants (``values`` [n]), or features that stand for themselves.

    ``ids`` [n] are the features; constants have none, nor what no layer computes yet. ``op`` is one of
    `qrnn.model.scalar_function.OPERATIONS`, or "activation".
    """

    ids: IndexArray | None = None
    op: str = ""
    args: tuple[Term, ...] = ()
    values: FloatArray | None = None
    activation: Activation | None = None

    @cached_property
    def size(self) -> int:
        """Return the number of operations, constants and features in it."""
        return 1 + sum(arg.size for arg in self.args)

    @cached_property
    def number(self) -> float | None:
        """Return the constant, where it is the same for all features; else None."""
        if self.values is None or not self.values.size or not (self.values == self.values.flat[0]).all():
            return None
        return float(self.values.flat[0])

    def taken(self, places: IndexArray, budget: Budget) -> Term:
        """Return the term of the features at ``places``; what all features in their order are is the term itself."""
        n = next(what.size for term in self.inside() for what in (term.ids, term.values) if what is not None)
        if places.size == n and np.array_equal(places, np.arange(n)):
            return self
        budget.value("what elementwise operators compute", places.size * self.size)
        return self._at(places)

    def _at(self, places: IndexArray) -> Term:
        return Term(
            None if self.ids is None else self.ids[places],
            self.op,
            tuple(arg._at(places) for arg in self.args),
            None if self.values is None else self.values[places],
            self.activation,
        )

    def inside(self) -> Iterator[Term]:
        """Yield the term and the terms in it, each after those that it is made of."""
        for arg in self.args:
            yield from arg.inside()
        yield self


def numbers(values: Any, size: int) -> Term:
    """Return constants as a term of ``size`` features."""
    return Term(values=np.broadcast_to(np.asarray(values, np.float64), (size,)))


def term_of(build: Builder, value: Features) -> Term:
    """Return what is known of a value's features, row-major."""
    flat = value.ids.reshape(-1)
    parts = build.book.parts(flat)
    known = build.terms.get(parts[0].tensor.start) if len(parts) == 1 else None
    return Term(flat) if known is None else known.taken(parts[0].indices, build.budget)


def remember(build: Builder, value: Features, op: str, *args: Term, activation: Activation | None = None) -> None:
    """Record what the features of a node's result are; ``args`` are row-major, like ``value``."""
    flat = value.ids.reshape(-1)
    parts = build.book.parts(flat)
    term = Term(flat, op, args, activation=activation)
    if len(parts) != 1 or parts[0].tensor.features != flat.size or term.size > MOST_TERMS:
        return
    build.budget.value("what elementwise operators compute", flat.size)
    order = np.argsort(parts[0].indices, kind="stable").astype(np.int64)
    build.terms[parts[0].tensor.start] = term.taken(order, build.budget)


def is_linear(term: Term) -> bool:
    """Return whether a term is a sum of multiples of features and constants, which layers of weights may hold."""
    if not term.args:
        return True
    if term.op in ("mul", "div"):
        a, b = term.args
        return (is_linear(a) and b.values is not None) or (term.op == "mul" and is_linear(b) and a.values is not None)
    return term.op in ("add", "sub", "neg") and all(map(is_linear, term.args))


def function_of_one(term: Term) -> tuple[IndexArray, ScalarFunction, Activation | None] | None:
    """Return features x [n] and a function f with term = f(x), and f as an activation where it is one; None where there are no such features.

    They are those for which f is an activation, or else those that lie deepest.
    """
    tried: list[IndexArray] = []
    deepest: tuple[IndexArray, ScalarFunction, Activation | None] | None = None
    for inner in term.inside():
        if inner.ids is None or inner is term or any(np.array_equal(inner.ids, ids) for ids in tried):
            continue
        tried.append(inner.ids)
        if (function := _as_function(term, inner.ids)) is None:
            continue
        if (activation := named(function)) is not None:
            return inner.ids, function, activation
        deepest = deepest or (inner.ids, function, None)
    return deepest


def _as_function(term: Term, ids: IndexArray) -> ScalarFunction | None:
    if term.ids is not None and np.array_equal(term.ids, ids):
        return X
    if term.values is not None:
        return None if term.number is None else constant(term.number)
    if not term.args:
        return None
    args = [_as_function(arg, ids) for arg in term.args]
    found = tuple(arg for arg in args if arg is not None)
    return ScalarFunction(term.op, found, activation=term.activation) if len(found) == len(args) else None


FEW = 173
"""Every so many numbers a function is compared with an activation first; the others follow where these agree."""


@cache
def _probe() -> tuple[FloatArray, FloatArray]:
    x = np.linspace(-12.0, 12.0, 2401)
    return x, np.array([activate(activation, x) for activation in NAMED])


def named(function: ScalarFunction) -> Activation | None:
    """Return the activation that a function is: itself, or one of `NAMED` but for the rounding of its constants; None where it is none."""
    if function.activation is not None and function.args == (X,):
        return function.activation
    x, values = _probe()
    few = function(x[::FEW])
    for k in np.flatnonzero(_near(values[:, ::FEW], few)):
        if _near(values[k], function(x)):
            return NAMED[k]
    return None


def _near(wanted: FloatArray, got: FloatArray) -> Any:
    """Return whether ``got`` is ``wanted``, or each row of it, but for float32's rounding of constants; NaN is near nothing."""
    with np.errstate(invalid="ignore"):
        return (np.abs(got - wanted) <= 2e-6 * (1.0 + np.abs(wanted))).all(axis=-1)


# --- sums of squares ----------------------------------------------------------------------------------------------------------------------


def square_of(term: Term) -> Term | None:
    """Return a of a term a²; None for what is no square."""
    if term.op == "pow" and term.args[1].number == 2.0:
        return square_base(term.args[0])
    if term.op == "mul":
        a, b = term.args
        if a.ids is not None and b.ids is not None and np.array_equal(a.ids, b.ids):
            return square_base(a)
    return None


def square_base(term: Term) -> Term:
    """Return a term with the same square: without a sign or a magnitude around it."""
    while term.op in ("abs", "neg"):
        term = term.args[0]
    return term


def sum_of_squares(term: Term) -> tuple[list[Term], float] | None:
    """Return the terms a, b … and the constant c ≥ 0 of a² + b² + … + c, one square or more; None for any other term."""
    squares: list[Term] = []
    epsilon = 0.0
    waiting = [term]
    while waiting:
        part = waiting.pop()
        if (base := square_of(part)) is not None:
            squares.append(base)
        elif part.op == "add":
            waiting += part.args[::-1]
        elif part.number is not None:
            epsilon += part.number
        else:
            return None
    return (squares, epsilon) if squares and epsilon >= 0.0 else None


def two_squares(term: Term) -> tuple[IndexArray, IndexArray, float] | None:
    """Return the features a and b and the constant c ≥ 0 of a² + b² + c; None for any other term, and where a is b."""
    found = sum_of_squares(term)
    if found is None or len(found[0]) != 2:
        return None
    (a, b), epsilon = found
    if a.ids is None or b.ids is None or np.array_equal(a.ids, b.ids):
        return None
    return a.ids, b.ids, epsilon


def no_less_than(term: Term) -> tuple[Term, float]:
    """Return (other, least ≥ 0) with term = max(other, least), for a term that cannot be below 0: least is 0 where nothing bounds it."""
    least = 0.0
    while term.op == "max":
        a, b = term.args
        number, rest = (a.number, b) if a.values is not None else (b.number, a)
        if number is None:
            break
        term, least = rest, max(least, number)
    return term, least


def multiple_of(term: Term) -> tuple[Term, float, float]:
    """Return (other, factor, offset) with term = factor · other + offset, the constants being the same for all features."""
    factor, offset = 1.0, 0.0
    while term.op in ("add", "sub", "mul", "div", "neg"):
        first = term.args[0]
        a, b = first.number, term.args[-1].number
        match term.op:
            case "neg":
                term, factor = first, -factor
            case "add" | "sub" if b is not None:
                term, offset = first, offset + factor * (b if term.op == "add" else -b)
            case "add" | "sub" if a is not None:
                term, offset, factor = term.args[1], offset + factor * a, factor if term.op == "add" else -factor
            case "mul" if b is not None:
                term, factor = first, factor * b
            case "mul" if a is not None:
                term, factor = term.args[1], factor * a
            case "div" if b:
                term, factor = first, factor / b
            case _:
                break
    return term, factor, offset
