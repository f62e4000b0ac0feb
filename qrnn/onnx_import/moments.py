"""Variances over time, as graphs spell them out: the mean of the squares of what steps differ from their mean, and what is made of that.

A graph goes through a sequence twice for it, once for the mean. Here the differences and their squares are values that no layer makes; where
their mean over time is met, a layer computes the variance of all steps so far from sums of values and squares
(`qrnn.model.kinds.spread.Spread`). An epsilon, the root, and the divisor of a sample become a part of that layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from qrnn.model.kinds.last_step import LastStep
from qrnn.model.kinds.running import Running
from qrnn.model.kinds.spread import Spread
from qrnn.model.parts import IndexArray
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.lengths import longer, rule_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.two_tensors import two
from qrnn.onnx_import.reduced_features import record
from qrnn.onnx_import.statistics import Statistic
from qrnn.onnx_import.values import TIME, Features, Symbol, Value, is_shape

Stage = Literal["centred", "squared", "sum", "times steps", "variance"]
"""How far a variance is spelled out: x - mean, its square, the sum of squares over time, the variance times the steps, the variance."""


@dataclass(frozen=True)
class Moment:
    """What the features of a tensor are of the features ``ids`` over time, flat."""

    stage: Stage
    ids: IndexArray
    sample: bool = False
    epsilon: float = 0.0


def through(node: Node, build: Builder) -> Value | None:
    """Return what a node computes on the way to a variance over time; None for a node that computes something else."""
    handler = _HANDLERS.get(node.op)
    return None if handler is None or build.one_step else handler(node, build)


def _known(build: Builder, value: object, *stages: Stage) -> Moment | None:
    """Return what a value is, where all of its features are of one of these stages; the ids are those of the value, row-major."""
    if not isinstance(value, Features) or not build.moments:
        return None
    parts = build.book.parts(value.ids)
    moment: Moment | None = build.moments.get(parts[0].tensor.start) if len(parts) == 1 else None
    if moment is None or moment.stage not in stages:
        return None
    return replace(moment, ids=moment.ids[parts[0].indices])


def _held(node: Node, build: Builder, moment: Moment, like: Features) -> Features:
    """Return features that no layer makes, in the shape of a value."""
    build.budget.value("steps less their mean", 2 * moment.ids.size)
    tensor = build.new_tensor(f"{node.name}.{moment.stage.replace(' ', '_')}", True, moment.ids.size, True, "moment")
    build.moments[tensor.start] = moment
    return Features(tensor.ids.reshape(like.ids.shape), like.axes)


def _centred(node: Node, build: Builder) -> Features | None:
    """Return x - mean of x over time."""
    value, mean = node.input(0), node.input(1)
    if not isinstance(value, Features) or not isinstance(mean, Features) or TIME not in value.axes or TIME in mean.axes:
        return None
    more = value.ids.ndim - mean.ids.ndim
    if more < 0:
        return None
    axes = (None,) * more + mean.axes
    if any(a is not b and not (a is TIME and b is None) for a, b in zip(value.axes, axes, strict=True)):
        return None
    ids = mean.ids.reshape((1,) * more + mean.ids.shape)
    if np.broadcast_shapes(ids.shape, value.ids.shape) != value.ids.shape:
        return None
    flat = build.computable(node, value.ids)
    averaged = _averaged(build, np.broadcast_to(ids, value.ids.shape).reshape(-1))
    if averaged is None or not np.array_equal(averaged, build.sources(flat)):
        return None
    result = two(node, build, "sub", value, mean)
    parts = build.book.parts(result.ids)
    of = np.empty(parts[0].tensor.features, np.int64)
    of[parts[0].indices] = flat
    build.moments[parts[0].tensor.start] = Moment("centred", of)
    return result


def _averaged(build: Builder, flat: IndexArray) -> IndexArray | None:
    """Return the features of which features are the mean over time; None where they are not."""
    build.budget.spend("looking for means", len(build.layers) * 200)
    made = {layer.output: layer for layer in build.layers if isinstance(layer, (LastStep, Running))}
    starts = {tensor.name: tensor.start for tensor in build.book.tensors}
    found = np.empty_like(flat)
    for part in build.book.parts(flat):
        last = made.get(part.tensor.name)
        mean = made.get(last.input) if isinstance(last, LastStep) else None
        if not isinstance(mean, Running) or (mean.function, mean.count) != ("mean", 1):
            return None
        found[part.positions] = starts[mean.input] + part.indices
    return build.sources(found)


def _squared(node: Node, build: Builder) -> Features | None:
    """Return the squares of differences."""
    value, other = node.input(0), node.input(1)
    moment = _known(build, value, "centred")
    if moment is None:
        return None
    if node.op == "Pow":
        square = isinstance(other, np.ndarray) and not is_shape(other) and other.size == 1 and bool((other == 2).all())
    else:
        square = isinstance(other, Features) and np.array_equal(other.ids, value.ids)
    return _held(node, build, replace(moment, stage="squared"), value) if square else None


def _times(node: Node, build: Builder) -> Features | None:
    """Return squares, or a variance times the number of its steps."""
    if (squares := _squared(node, build)) is not None:
        return squares
    for value, size in (node.inputs, node.inputs[::-1]):
        moment = _known(build, value, "variance")
        if moment is not None and not moment.sample and moment.epsilon == 0.0 and _steps(build, moment, size) == 0:
            return _held(node, build, replace(moment, stage="times steps"), value)
    return None


def _steps(build: Builder, moment: Moment, size: object) -> int | None:
    """Return by how many a size is more than the number of steps of what a moment is of; None for no such size."""
    if not isinstance(size, np.ndarray) or not is_shape(size) or size.size != 1:
        return None
    rule = rule_of(size.reshape(-1)[0])
    own = build.length_rule(Features(moment.ids, (None,)))
    return next((by for by in (0, -1) if rule == longer(own, by)), None)


def _reduced(node: Node, build: Builder) -> Features | None:
    """Return the variance that the mean of squares over time is, or what their sum is."""
    value = node.input(0)
    if (moment := _known(build, value, "squared")) is None:
        return None
    attribute = node.take("axes")
    node.take("noop_with_empty_axes")
    given = node.ints(1, "axes") if node.has_input(1) else list(attribute or ())
    keep = int(node.take("keepdims", 1))
    every = [node.axis(int(axis), value.ids.ndim) for axis in given]
    axes = [k for k in sorted(every) if value.axes[k] is not None or value.ids.shape[k] > 1]
    if axes != [k for k, symbol in enumerate(value.axes) if symbol is TIME]:
        raise node.refuse(
            f"reduces squares of what steps differ from their mean over the axes {axes}; only time is supported"
        )
    symbols = tuple(None if symbol is TIME else symbol for symbol in value.axes)
    like = Features(value.ids, symbols)
    if not keep:
        like = Features(np.squeeze(value.ids, tuple(every)), tuple(s for k, s in enumerate(symbols) if k not in every))
    if node.op == "ReduceSum":
        return _held(node, build, replace(moment, stage="sum"), like)
    return _layer(node, build, moment, like, False)


def _divided(node: Node, build: Builder) -> Features | None:
    """Return the variance that a sum of squares over the number of steps is, or of a sample over one less."""
    value, by = node.input(0), node.input(1)
    if (moment := _known(build, value, "sum", "times steps")) is None:
        return None
    lengths = isinstance(by, Features) and {part.tensor.kind for part in build.book.parts(by.ids)} == {"lengths"}
    steps = 0 if lengths else _steps(build, moment, by)
    if steps is None:
        raise node.refuse(
            "divides the sum of squares over time, but not by the number of steps, or by one less; only these are supported"
        )
    return _layer(node, build, replace(moment, sample=steps == -1), value, False)


def _added(node: Node, build: Builder) -> Features | None:
    """Return a variance and an epsilon."""
    for value, more in (node.inputs, node.inputs[::-1]):
        moment = _known(build, value, "variance")
        if moment is None or not isinstance(more, np.ndarray) or is_shape(more) or more.size != 1:
            continue
        if (epsilon := float(more.reshape(-1)[0])) >= 0.0:
            return _layer(node, build, replace(moment, epsilon=moment.epsilon + epsilon), value, False)
    return None


def _root(node: Node, build: Builder) -> Features | None:
    """Return the square root of a variance."""
    moment = _known(build, node.input(0), "variance")
    if node.op == "Pow":
        power = node.input(1)
        half = isinstance(power, np.ndarray) and not is_shape(power) and power.size == 1 and bool((power == 0.5).all())
        if not half:
            return _squared(node, build)
    return None if moment is None else _layer(node, build, moment, node.features(0, "the variance"), True)


def _layer(node: Node, build: Builder, moment: Moment, like: Features, root: bool) -> Features:
    """Add the layer of a variance, or of its root, and return its last step in the shape of a value."""
    axes: tuple[Symbol | None, ...] = (None,)
    tensor, indices = build.whole_operand(node, Features(moment.ids, axes))
    output = build.result(node, tensor.features, True, part=".running")
    build.layers.append(
        Spread(node.name, tensor.name, output.name, tensor.features, root, moment.sample, moment.epsilon)
    )
    result = build.last_step(node, Features((indices + output.start).reshape(like.ids.shape), like.axes))
    rows = build.sources(moment.ids)[:, None]
    own = (False, True, root, moment.sample, 1.0, moment.epsilon, rows.tobytes())
    record(build, result, rows, True, "mean", Statistic(rows, np.arange(len(rows)), True, *own))
    if not root:
        (part,) = build.book.parts(result.ids)
        ids = np.empty_like(moment.ids)
        ids[part.indices] = moment.ids
        build.moments[part.tensor.start] = replace(moment, stage="variance", ids=ids)
    return result


_HANDLERS: dict[str, Callable[[Node, Builder], Features | None]] = {
    "Sub": _centred,
    "Mul": _times,
    "Pow": _root,
    "ReduceMean": _reduced,
    "ReduceSum": _reduced,
    "Div": _divided,
    "Add": _added,
    "Sqrt": _root,
}
