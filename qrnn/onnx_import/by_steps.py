"""What a graph computes of the number of steps alone, such as a mask of earlier steps: it is known for any number of them.

The nodes that compute it are kept, and run by ONNX's own evaluator for the numbers of steps that somebody asks for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper

from qrnn.model.time import TIME as AXIS
from qrnn.onnx_import.budget import count
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.constants import EVALUATOR_WORK, FOLD_WORK, FOLDABLE, canonical
from qrnn.onnx_import.lengths import rule_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.roles import Axis
from qrnn.onnx_import.values import BATCH, TIME, Array, Features, Product, Symbol, is_shape

LARGEST = 1 << 22
"""The most elements of a value that is computed of a number of steps."""

OPERATORS = frozenset(
    name for name in FOLDABLE if not name.startswith("Reduce")
) | {  # nothing here makes more elements than `_elements` says
    *("Add", "And", "Cast", "CastLike", "ConstantOfShape", "Expand", "Identity", "Mul", "Or", "Range", "Reshape", "Slice", "Squeeze"),
    *("Transpose", "Trilu", "Unsqueeze", "Where"),
}  # fmt: skip

LONGEST_CHAIN = 1000
"""The most nodes that are run one after the other for a value."""


class BySteps:
    """A value for each number of steps; ``make`` computes it of one. ``depth`` counts the nodes behind each other that it takes."""

    def __init__(self, make: Callable[[int], Array], depth: int) -> None:
        self._make, self._last, self.depth = make, (-1, np.zeros(0)), depth

    def at(self, steps: int) -> Array:
        """Return the value for a number of steps."""
        if self._last[0] != steps:
            self._last = steps, self._make(steps)
        return self._last[1]


def through(proto: onnx.NodeProto, opset: int, node: Node, build: Builder) -> BySteps | None:
    """Return what a node computes of the number of steps alone; None for another node."""
    values = node.inputs
    counted = [_is_counted(build, value) for value in values]
    symbols = [value for value in values if is_shape(value)]
    if any(isinstance(d, Axis) for value in symbols for d in value.reshape(-1)):
        return None  # the first pass
    made = any(isinstance(value, BySteps) for value in values) or sum(counted) > 1
    if not made and not (node.op in ("ConstantOfShape", "Expand") and _is_square(values[-1])):
        constant = isinstance(values[0] if values else None, np.ndarray) and not is_shape(values[0])
        if node.op != "Slice" or not constant or not symbols:
            return None
    if node.op in ("And", "Or") and (mask := _beside_padding(node, build)) is not None:
        return mask
    known = (
        value is None or isinstance(value, np.ndarray | BySteps) or own
        for value, own in zip(values, counted, strict=True)
    )
    if node.op not in OPERATORS or not all(known):
        if any(isinstance(value, BySteps) for value in values):
            raise node.refuse(
                "computes with numbers that follow from the place of a step, such as positional encodings; only masks of the scores of an "
                "attention over steps may; run this part outside the model"
            )
        return None
    depth = 1 + max((value.depth for value in values if isinstance(value, BySteps)), default=0)
    if depth > LONGEST_CHAIN:
        raise node.refuse(
            f"is the last of more than {LONGEST_CHAIN} nodes that compute a mask; re-export with constants folded"
        )
    for name in node.leftovers():
        node.take(name)
    return BySteps(lambda steps: _evaluated(proto, opset, node, [_at(value, steps) for value in values]), depth)


def _beside_padding(node: Node, build: Builder) -> BySteps | None:
    """Return a mask of earlier steps that is joined to one of the steps that pad, as it is: padding takes no part here. None for others."""
    for mask, padding in (node.inputs, node.inputs[::-1]):
        if isinstance(mask, BySteps) and isinstance(padding, Features) and TIME in padding.axes[-2:]:
            found = [build.masks.get(part.tensor.start) for part in build.book.parts(padding.ids)]
            if all(own is not None and own.valid == (node.op == "And") for own in found):
                return mask
    return None


def _is_counted(build: Builder, value: object) -> bool:
    """Return whether a value holds the numbers of the steps, along its time axis."""
    if not isinstance(value, Features) or value.ids.size != 1 or value.axes.count(TIME) != 1:
        return False
    return all(part.tensor.kind == "steps" for part in build.book.parts(value.ids))


def _is_square(value: object) -> bool:
    """Return whether sizes hold those of two time axes."""
    return (
        isinstance(value, np.ndarray) and is_shape(value) and sum(rule_of(d) is not None for d in value.reshape(-1)) > 1
    )


def _at(value: Any, steps: int) -> Array | None:
    """Return a value for a number of steps, and for a batch of one sequence."""
    if isinstance(value, BySteps):
        return value.at(steps)
    if isinstance(value, Features):
        shape = [steps if axis is TIME else 1 for axis in value.axes]
        return np.arange(steps, dtype=np.int64).reshape(shape)
    if not is_shape(value):
        return value  # type: ignore[no-any-return]
    return np.array([_size(d, steps) for d in value.reshape(-1)], np.int64).reshape(value.shape)


def _size(size: Any, steps: int) -> int:
    if isinstance(size, Product):
        return size.count * int(np.prod([_size(factor, steps) for factor in size.factors]))
    if (rule := rule_of(size)) is not None:
        return int(rule.of({AXIS: steps}))
    if size is BATCH:
        return 1
    if isinstance(size, Symbol):
        raise TypeError(f"the size {size} does not follow from the number of steps")
    return int(size)


def _elements(node: Node, inputs: list[Array | None]) -> int:
    """Return the most elements that a node makes of its inputs."""
    shapes = [value.shape for value in inputs if value is not None]
    if node.op in ("ConstantOfShape", "Expand"):
        target = inputs[-1]
        assert target is not None
        sizes = [max(int(size), 1) for size in target.reshape(-1)]
        return count(sizes) * (count(shapes[0]) if node.op == "Expand" else 1)
    if node.op == "Range":
        first, last, by = (int(np.asarray(value).reshape(-1)[0]) for value in inputs if value is not None)
        return abs(last - first) // max(1, abs(by)) + 1
    if node.op in ("Reshape", "Slice", "Squeeze", "Unsqueeze", "Transpose", "Trilu"):
        return count(shapes[0])
    return count(np.broadcast_shapes(*shapes))


def _evaluated(proto: onnx.NodeProto, opset: int, node: Node, inputs: list[Array | None]) -> Array:
    """Run one node on arrays."""
    from onnx.reference import ReferenceEvaluator  # slow to import, and few models need it

    elements = _elements(node, inputs)
    if elements > LARGEST:
        raise node.refuse(f"makes {elements} elements of a number of steps, at most {LARGEST} are supported")
    node.budget.spend(node.where, EVALUATOR_WORK + elements * FOLD_WORK * max(len(inputs), 1))
    node.budget.value(f"{node.where}: its result", elements, scratch=2 * elements, cost=0)
    given = {name: value for name, value in zip(proto.input, inputs, strict=True) if name and value is not None}
    graph = helper.make_graph(
        [proto],
        "steps",
        [helper.make_value_info(name, onnx.TypeProto()) for name in given],
        [helper.make_value_info(name, onnx.TypeProto()) for name in proto.output if name],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = ReferenceEvaluator(model).run(None, given)
    return canonical(np.asarray(results[0]), f"the result of {node.where}")
