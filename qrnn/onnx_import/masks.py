"""Masks of a sequence's own steps, as graphs compare the numbers of the steps to lengths.

Here every operator treats each sequence's own steps alone, so that what a mask multiplies is read as it is, and the input of lengths says
where a sequence ends. The number of a sequence's steps, by which a masked sum is divided, is that input too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.onnx_import.builder import LARGE_FILL, Builder, NodeLengths
from qrnn.onnx_import.lengths import INPUTS, rule_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.reductions import divided_sum
from qrnn.onnx_import.operators.size_logic import counts_up
from qrnn.onnx_import.operators.two_tensors import broadcast
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.roles import STEPS, AxisTensor, Roles
from qrnn.onnx_import.values import TIME, Features, Symbol, TensorKind, Value, as_value, is_shape

VALID = {("Less", 0): True, ("GreaterOrEqual", 0): False, ("Greater", 1): True, ("LessOrEqual", 1): False}
"""A comparison, and which of its operands holds the numbers of the steps → whether it holds for the steps before the length."""

SMALLEST = 1e-3
"""What may be added to a number of steps against a division by 0."""


@dataclass(frozen=True)
class Mask:
    """Whether a mask holds for a sequence's own steps, or for those that only pad it; ``lengths`` is the first id of the input of lengths."""

    valid: bool
    lengths: int


def through(node: Node, build: Builder) -> Any:
    """Return what a node computes of the numbers of steps, of lengths and of masks; None for a node that computes something else."""
    kinds = [_kind(build, value) for value in node.inputs]
    if not {"steps", "lengths", "mask", "fills"} & set(kinds):
        return None
    handler = _HANDLERS.get(node.op)
    return None if handler is None else handler(node, build, kinds)


def _kind(build: Builder, value: object) -> TensorKind | None:
    """Return the kind of the tensors whose features a value holds, where it is one."""
    if not isinstance(value, Features):
        return None
    kinds = {part.tensor.kind for part in build.book.parts(value.ids)}
    return kinds.pop() if len(kinds) == 1 else None


def _is_steps(build: Builder, value: object, kind: TensorKind | None) -> bool:
    """Return whether a value holds the numbers of the steps along its last axis: by a Range, or as constants."""
    if kind == "steps":
        return True
    if not isinstance(value, np.ndarray) or is_shape(value) or not value.ndim:
        return False
    return value.shape[-1] in build.baked[TIME] and counts_up(value)


def _compared(node: Node, build: Builder, kinds: list[TensorKind | None]) -> Features | None:
    """Return the mask that a comparison of the numbers of steps to lengths is."""
    place = next((k for k in (0, 1) if _is_steps(build, node.input(k), kinds[k])), None)
    if place is None or kinds[1 - place] != "lengths" or (node.op, place) not in VALID:
        return None
    steps, lengths = node.input(place), node.features(1 - place, "the lengths")
    if not isinstance(steps, Features):
        own = build.new_tensor(f"{node.name}.steps", True, 1, True, "steps")
        steps = Features(own.ids.reshape((1,) * steps.ndim), (*(None,) * (steps.ndim - 1), TIME))
    rank = max(steps.ids.ndim, lengths.ids.ndim)
    axes: list[Symbol | None] = [None] * rank
    for value in (steps, lengths):
        for back, symbol in enumerate(value.axes[::-1], 1):
            if symbol is not None and axes[-back] is not None:
                raise node.refuse(
                    f"compares {steps.describe()} to {lengths.describe()}; expected steps and lengths on different axes"
                )
            axes[-back] = symbol or axes[-back]
    (part,) = build.book.parts(lengths.ids)
    build.lengths_of.append(NodeLengths(node.where, part.tensor.name, False))
    return _mask(node, build, Mask(VALID[node.op, place], part.tensor.start), tuple(axes))


def _mask(node: Node, build: Builder, mask: Mask, axes: tuple[Symbol | None, ...]) -> Features:
    tensor = build.new_tensor(f"{node.name}.mask", True, 1, True, "mask")
    build.masks[tensor.start] = mask
    return Features(tensor.ids.reshape((1,) * len(axes)), axes)


def _of(build: Builder, value: Features) -> Mask:
    mask: Mask = build.masks[int(value.ids.reshape(-1)[0])]
    return mask


def _turned(node: Node, build: Builder, kinds: list[TensorKind | None]) -> Features | None:
    """Return the mask of the other steps: Not, or 1 less the mask."""
    k = len(kinds) - 1
    if kinds[k] != "mask" or (node.op == "Sub" and not _all(node.input(0), 1.0)):
        return None
    value = node.features(k, "a mask")
    mask = _of(build, value)
    turned = _mask(node, build, Mask(not mask.valid, mask.lengths), value.axes)
    return Features(np.broadcast_to(turned.ids, value.ids.shape), value.axes)


def _all(value: object, number: float) -> bool:
    return isinstance(value, np.ndarray) and not is_shape(value) and value.size > 0 and bool((value == number).all())


def _cast(node: Node, build: Builder, kinds: list[TensorKind | None]) -> Value | None:
    if kinds[0] not in ("mask", "steps"):
        return None
    for name in ("to", "saturate", "round_mode"):
        node.take(name)
    value: Value = node.input(0)
    return value


def _times(node: Node, build: Builder, kinds: list[TensorKind | None]) -> Features | None:
    """Return features that a mask multiplies, as they are."""
    if "mask" not in kinds:
        return None
    k = 1 - kinds.index("mask")
    if isinstance(other := node.input(k), np.ndarray) and not is_shape(other) and other.size == 1:
        by, mask = float(other.reshape(-1)[0]), node.features(1 - k, "a mask")
        valid = _of(build, mask).valid
        return _numbers(node, build, mask, (by if valid else 0.0, 0.0 if valid else by))
    if not isinstance(node.input(k), Features) or not _of(build, node.features(1 - k, "a mask")).valid:
        raise node.refuse(
            "multiplies by a mask of steps, but not features by that of a sequence's own steps; only that is supported"
        )
    return _masked(node, build, node.features(k, "an operand"), node.features(1 - k, "a mask"), 0.0)


def _chosen(node: Node, build: Builder, kinds: list[TensorKind | None]) -> Features | None:
    """Return features in a Where by a mask, as they are, where the other operand is a constant for the steps that pad."""
    if kinds[0] != "mask":
        return None
    mask = node.features(0, "a mask")
    own, other = (1, 2) if _of(build, mask).valid else (2, 1)
    constants = [node.input(k) for k in (own, other)]
    if all(isinstance(v, np.ndarray) and not is_shape(v) and v.size == 1 for v in constants):
        first, second = (float(node.weights(k, "a constant", fills=True).reshape(-1)[0]) for k in (own, other))
        return _numbers(node, build, mask, (first, second))
    if isinstance(node.input(other), Features) or not isinstance(node.input(own), Features):
        raise node.refuse(
            "chooses by a mask of steps, but not features for a sequence's own steps and a constant for others; only that is supported"
        )
    fill = node.weights(other, "the constant", fills=True)
    if fill.size != 1:
        raise node.refuse(
            f"fills the steps that pad with constants of shape {list(fill.shape)}; only one number is supported"
        )
    return _masked(node, build, node.features(own, "an operand"), mask, float(fill.flat[0]))


def _numbers(node: Node, build: Builder, mask: Features, numbers: tuple[float, float]) -> Features:
    """Return numbers in the place of a mask: the first at a sequence's own steps, the second at those that pad it."""
    tensor = build.new_tensor(f"{node.name}.fills", True, 1, True, "fills")
    build.fills_of[tensor.start] = numbers
    return Features(np.full(mask.ids.shape, tensor.start), mask.axes)


def _with_numbers(node: Node, build: Builder, kinds: list[TensorKind | None]) -> Features | None:
    """Return features as they are, to which large negative numbers are added where steps pad a sequence."""
    k = kinds.index("fills")
    numbers = node.features(k, "numbers for the steps that pad")
    own, other = build.fills_of[int(numbers.ids.reshape(-1)[0])]
    if not isinstance(node.input(1 - k), Features) or own != 0.0 or other > -LARGE_FILL:
        raise node.refuse(
            f"adds {own:g} to a sequence's own steps and {other:g} to those that pad it; expected features, 0, and -{LARGE_FILL:g} or less"
        )
    return _masked(node, build, node.features(1 - k, "an operand"), numbers, other)


def _masked(node: Node, build: Builder, value: Features, mask: Features, fill: float) -> Features:
    """Return a value as it is, where the axes of a mask are those of its batch and time; who reduces it over time looks at the ``fill``."""
    aligned = broadcast(node, build, value, Features(mask.ids, tuple(mask.axes)))
    if aligned is None or aligned[0].ids.shape != (1,) * (aligned[0].ids.ndim - value.ids.ndim) + value.ids.shape:
        raise node.refuse(
            f"masks {value.describe()} by {mask.describe()}; expected the batch and time of both on the same axes"
        )
    if any(part.tensor.kind == "weights" for part in build.book.parts(value.ids)):
        raise node.refuse(
            "masks a softmax over time, whose sum then is not 1; mask the scores before it, with a large negative number"
        )
    build.mask(value, fill)
    return value


def _summed(node: Node, build: Builder, kinds: list[TensorKind | None]) -> Value | None:
    """Return the lengths that a sum of a mask over time is, and the most of lengths as the number of steps."""
    value = node.features(0, "data")
    if kinds[0] == "lengths" and node.op == "ReduceMax":
        node.take("axes"), node.take("keepdims"), node.take("noop_with_empty_axes")
        return as_value(TIME)  # type: ignore[no-any-return]
    if kinds[0] != "mask" or node.op != "ReduceSum" or not _of(build, value).valid:
        return None
    given = node.ints(1, "axes") if node.has_input(1) else list(node.take("axes") or ())
    keep = int(node.take("keepdims", 1))
    axes = [node.axis(int(axis), value.ids.ndim) for axis in given]
    if sorted(axes) != [k for k, symbol in enumerate(value.axes) if symbol is TIME]:
        raise node.refuse(f"sums the mask {value.describe()} over the axes {axes}; only over time is supported")
    ids = np.full(value.ids.shape, _of(build, value).lengths)
    symbols = [None if symbol is TIME else symbol for symbol in value.axes]
    if not keep:
        ids, symbols = np.squeeze(ids, axes[0]), [s for k, s in enumerate(symbols) if k != axes[0]]
    return Features(ids, tuple(symbols))


def _bounded(node: Node, build: Builder, kinds: list[TensorKind | None]) -> Value | None:
    """Return lengths as they are behind what keeps them from 0: Clip and Max of at most 1, and a small number added."""
    if node.op == "Add" and "fills" in kinds:
        return _with_numbers(node, build, kinds)
    if "lengths" not in kinds:
        return None
    k = kinds.index("lengths")
    value = node.features(k, "lengths")
    others = [node.weights(j, "a bound") for j in range(len(kinds)) if j != k and node.has_input(j)]
    if node.op == "Clip":
        low = others[0] if node.opset >= 11 and node.has_input(1) else np.array(node.take("min", 1.0))
        if node.opset < 11:
            node.take("max")
        fits = not node.has_input(2) and bool((low <= 1.0).all())
    elif node.op == "Max":
        fits = all(bool((other <= 1.0).all()) for other in others)
    else:
        fits = all(bool((np.abs(other) <= SMALLEST).all()) for other in others)
    return value if fits else None


def _divided(node: Node, build: Builder, kinds: list[TensorKind | None]) -> Features | None:
    """Return the mean of a sum over time that is divided by lengths."""
    if kinds[1] != "lengths" or not isinstance(node.input(0), Features):
        return None
    value, lengths = node.features(0, "the sum"), node.features(1, "the lengths")
    aligned = broadcast(node, build, value, lengths)
    if aligned is None or aligned[0].ids.shape != value.ids.shape:
        raise node.refuse(f"divides {value.describe()} by lengths {lengths.describe()}; expected a sum over time")
    if (mean := divided_sum(node, build, value)) is None:
        raise node.refuse("divides by lengths what is no sum over time; run this part outside the model")
    return mean


_HANDLERS: dict[str, Callable[[Node, Builder, list[TensorKind | None]], Any]] = {
    **dict.fromkeys(("Less", "LessOrEqual", "Greater", "GreaterOrEqual"), _compared),
    **dict.fromkeys(("Not", "Sub"), _turned),
    "Cast": _cast,
    "Mul": _times,
    "Where": _chosen,
    **dict.fromkeys(("ReduceSum", "ReduceMax"), _summed),
    **dict.fromkeys(("Clip", "Max", "Add"), _bounded),
    "Div": _divided,
}


@operator("Range")
def range_(node: Node, build: Builder) -> Value:
    """Import Range: of constants, and from 0 to the number of steps, which only comparisons with lengths may read."""
    start, limit, delta = node.input(0), node.input(1), node.input(2)
    if not is_shape(limit):
        numbers = [node.constant(k, what).reshape(-1) for k, what in enumerate(("start", "limit", "delta"))]
        if any(number.size != 1 for number in numbers) or not numbers[2].all():
            raise node.damaged("start, limit and delta must be one number each, and delta not 0")
        first, last, by = (float(number[0]) for number in numbers)
        node.reserve(max(0, int(np.ceil((last - first) / by))))
        return np.arange(*(number[0] for number in numbers))
    if not _all(start, 0) or not _all(delta, 1) or limit.size != 1 or rule_of(limit.reshape(-1)[0]) != INPUTS:
        raise node.refuse(f"counts from {start} to {limit} by {delta}; only 0 to the number of steps by 1 is supported")
    tensor = build.new_tensor(f"{node.name}.steps", True, 1, True, "steps")
    return Features(tensor.ids, (TIME,))


@axis_rule("Range")
def range_axes(node: Node, roles: Roles) -> AxisTensor:
    """Give the one axis the size up to which is counted."""
    limit = node.input(1)
    size = limit.reshape(-1)[0] if isinstance(limit, np.ndarray) and limit.size == 1 else None
    axis = size if isinstance(size, Symbol) else roles.made(None, node.name)
    return AxisTensor((axis,), frozenset([STEPS]))  # type: ignore[arg-type]
