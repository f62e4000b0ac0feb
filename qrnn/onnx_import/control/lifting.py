"""Compute for all steps at once what a node computes for one: values get an axis of time in front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from qrnn.onnx_import.control.body import NotRecognised, writers
from qrnn.onnx_import.control.writer import Writer

ELEMENTWISE = frozenset(
    [
        *("Abs", "Add", "Cast", "Ceil", "Clip", "Cos", "Div", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish"),
        *("Identity", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu"),
        *("Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Where"),
    ]
)  # fmt: skip
"""The operators that compute every element from those in its place; operands are aligned by their last axes."""


class Lifting:
    """The values of a step for all steps, [T, …], as far as they were asked for."""

    def __init__(self, flat: Writer, nodes: Sequence[onnx.NodeProto], where: str, inner: set[str]) -> None:
        self._flat = flat
        self.where = where
        self._inner = inner
        self._written = writers(nodes)
        self._lifted: dict[str, str] = {}
        self._refused: dict[str, str] = {}

    def give(self, name: str, lifted: str) -> None:
        """Say which value has the steps of ``name``."""
        self._lifted[name] = lifted

    def forbid(self, name: str, reason: str) -> None:
        """Say why there is no value with the steps of ``name``."""
        self._refused[name] = reason

    def of(self, name: str) -> str:
        """Return the value with the steps of ``name``; `NotRecognised` where a node cannot compute all steps at once."""
        left, opened = [name], set[str]()
        while left:
            at = left[-1]
            if at in self._lifted:
                left.pop()
                continue
            if at in self._refused:
                raise NotRecognised(self._refused[at])
            node = self._written.get(at)
            if node is None:
                raise NotRecognised(f"'{at}' is not computed from a sequence, step by step")
            missing = [i for i in node.input if i in self._inner and i not in self._lifted]
            if missing:
                if at in opened:
                    raise NotRecognised("its nodes depend on one another in a circle")
                opened.add(at)
                left += missing
                continue
            self._lift(node)
        return self._lifted[name]

    def rank(self, name: str) -> int:
        """Return how many axes a value of a step has."""
        dims = self._flat.facts.of(name).dims
        if dims is None:
            raise NotRecognised(f"the number of axes of '{name}' is not known")
        return len(dims)

    def _lift(self, node: onnx.NodeProto) -> None:
        outputs = [self._flat.names.unique(f"{o}_over_time") if o else "" for o in node.output]
        attributes = {
            a.name: helper.get_attribute_value(a) for a in node.attribute if a.type != onnx.AttributeProto.GRAPH
        }
        inputs = [self._lifted.get(i, i) for i in node.input]
        if node.op_type in ELEMENTWISE:
            self._check_aligned(node)
            self._node(node, inputs, outputs, attributes)
        elif node.domain == "" and node.op_type in RULES:
            RULES[node.op_type](self, node, inputs, outputs, attributes)
        else:
            raise NotRecognised(
                f"node '{node.name or node.output[0]}' ({node.op_type}) beside its cell cannot compute all steps at once"
            )
        for output, lifted in zip(node.output, outputs, strict=True):
            self._lifted[output] = lifted

    def _node(
        self, node: onnx.NodeProto, inputs: Sequence[str], outputs: Sequence[str], attributes: dict[str, Any]
    ) -> None:
        self._flat.node(node.op_type, inputs, outputs, node.name or outputs[0], **attributes)

    def _check_aligned(self, node: onnx.NodeProto) -> None:
        """Require that every operand of a step has as many axes as the widest, and others no more."""
        steps = {self.rank(i) for i in node.input if i in self._inner}
        others = [self.rank(i) for i in node.input if i and i not in self._inner]
        if len(steps) > 1 or max(others, default=0) > min(steps, default=0):
            raise NotRecognised(
                f"node '{node.name or node.output[0]}' ({node.op_type}) joins values of different numbers of axes"
            )

    def only_first(self, node: onnx.NodeProto) -> None:
        """Require that a node's further operands are the same in every step."""
        if not self._inner.isdisjoint(node.input[1:]):
            raise NotRecognised(
                f"node '{node.name or node.output[0]}' ({node.op_type}) has several operands that change from step to step"
            )

    def numbers(self, node: onnx.NodeProto, k: int) -> Any:
        """Return an operand of integers, None where it is left out."""
        if k >= len(node.input) or not node.input[k]:
            return None
        value = self._flat.facts.value(node.input[k])
        if value is None or value.dtype != np.int64:
            raise NotRecognised(f"node '{node.name or node.output[0]}' ({node.op_type}) has operands that are computed")
        return value.reshape(-1)

    def constant(self, name: str, numbers: Any) -> str:
        """Make a constant of integers."""
        return self._flat.constant(name, np.asarray(numbers, np.int64))

    def plain(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        """Make a node."""
        self._flat.node(op, inputs, outputs, outputs[0], **attributes)

    @property
    def opset(self) -> int:
        """Return the opset of the graph."""
        return self._flat.opset

    def fresh(self, name: str) -> str:
        """Return a name that is free."""
        return self._flat.names.unique(name)


Rule = Callable[[Lifting, onnx.NodeProto, list[str], list[str], dict[str, Any]], None]


def _matmul(
    lift: Lifting, node: onnx.NodeProto, inputs: list[str], outputs: list[str], attributes: dict[str, Any]
) -> None:
    lift.only_first(node)
    if lift.rank(node.input[0]) < 2 or lift.rank(node.input[1]) != 2:
        raise NotRecognised(f"node '{node.name or node.output[0]}' (MatMul) is no matrix of constants times rows")
    lift.plain("MatMul", inputs, outputs)


def _gemm(
    lift: Lifting, node: onnx.NodeProto, inputs: list[str], outputs: list[str], attributes: dict[str, Any]
) -> None:
    lift.only_first(node)
    if attributes.get("transA") or attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
        raise NotRecognised(f"node '{node.name or node.output[0]}' (Gemm) has alpha, beta or transA")
    weight = inputs[1]
    if attributes.get("transB"):
        weight = lift.fresh(f"{inputs[1]}_transposed")
        lift.plain("Transpose", [inputs[1]], [weight], perm=[1, 0])
    if len(inputs) < 3 or not inputs[2]:
        lift.plain("MatMul", [inputs[0], weight], outputs)
        return
    product = lift.fresh(f"{outputs[0]}_product")
    lift.plain("MatMul", [inputs[0], weight], [product])
    lift.plain("Add", [product, inputs[2]], outputs)


def _axis(default: int) -> Rule:
    """Return a rule for operators with an attribute ``axis``."""

    def rule(
        lift: Lifting, node: onnx.NodeProto, inputs: list[str], outputs: list[str], attributes: dict[str, Any]
    ) -> None:
        if node.op_type != "Concat":
            lift.only_first(node)
        elif not all(name != given for name, given in zip(inputs, node.input, strict=True)):
            raise NotRecognised(
                f"node '{node.name or node.output[0]}' (Concat) joins what changes from step to step with what does not"
            )
        axis = int(attributes.get("axis", default))
        attributes["axis"] = axis + 1 if axis >= 0 else axis
        lift.plain(node.op_type, inputs, outputs, **attributes)

    return rule


def _softmax(
    lift: Lifting, node: onnx.NodeProto, inputs: list[str], outputs: list[str], attributes: dict[str, Any]
) -> None:
    rank = lift.rank(node.input[0])
    axis = int(attributes.get("axis", -1 if lift.opset >= 13 else 1))
    if axis % max(rank, 1) != rank - 1:
        raise NotRecognised(f"node '{node.name or node.output[0]}' ({node.op_type}) is not over the last axis")
    lift.plain(node.op_type, inputs, outputs, axis=rank if lift.opset < 13 else -1)


def _transpose(
    lift: Lifting, node: onnx.NodeProto, inputs: list[str], outputs: list[str], attributes: dict[str, Any]
) -> None:
    perm = attributes.get("perm") or list(range(lift.rank(node.input[0])))[::-1]
    lift.plain("Transpose", inputs, outputs, perm=[0, *(int(p) + 1 for p in perm)])


def _axes(
    lift: Lifting, node: onnx.NodeProto, inputs: list[str], outputs: list[str], attributes: dict[str, Any]
) -> None:
    lift.only_first(node)
    given = lift.numbers(node, 1)
    axes = attributes.get("axes") if given is None else given
    if axes is None:
        raise NotRecognised(f"node '{node.name or node.output[0]}' ({node.op_type}) names no axes")
    axes = [int(a) + 1 if a >= 0 else int(a) for a in axes]
    if given is None:
        lift.plain(node.op_type, inputs, outputs, axes=axes)
    else:
        lift.plain(node.op_type, [inputs[0], lift.constant(f"{outputs[0]}_axes", axes)], outputs)


def _slice(
    lift: Lifting, node: onnx.NodeProto, inputs: list[str], outputs: list[str], attributes: dict[str, Any]
) -> None:
    lift.only_first(node)
    if len(node.input) < 3:
        axes = attributes.get("axes") or list(range(len(attributes.get("starts", []))))
        lift.plain("Slice", inputs, outputs, **{**attributes, "axes": [int(a) + 1 if a >= 0 else int(a) for a in axes]})
        return
    starts, axes = lift.numbers(node, 1), lift.numbers(node, 3)
    axes = range(len(starts)) if axes is None else axes
    moved = lift.constant(f"{outputs[0]}_axes", [int(a) + 1 if a >= 0 else int(a) for a in axes])
    lift.plain("Slice", [*inputs[:3], moved, *inputs[4:]], outputs)


def _gather(
    lift: Lifting, node: onnx.NodeProto, inputs: list[str], outputs: list[str], attributes: dict[str, Any]
) -> None:
    lift.only_first(node)
    axis = int(attributes.get("axis", 0))
    lift.plain("Gather", inputs, outputs, axis=axis + 1 if axis >= 0 else axis)


def _reshape(
    lift: Lifting, node: onnx.NodeProto, inputs: list[str], outputs: list[str], attributes: dict[str, Any]
) -> None:
    lift.only_first(node)
    target = lift.numbers(node, 1)
    if target is None or attributes.get("allowzero"):
        raise NotRecognised(f"node '{node.name or node.output[0]}' (Reshape) has no constant shape")
    lift.plain("Reshape", [inputs[0], lift.constant(f"{outputs[0]}_shape", [0, *target])], outputs)


RULES: dict[str, Rule] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Concat": _axis(0),
    "Split": _axis(0),
    "LayerNormalization": _axis(-1),
    "RMSNormalization": _axis(-1),
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Transpose": _transpose,
    "Squeeze": _axes,
    "Unsqueeze": _axes,
    "Slice": _slice,
    "Gather": _gather,
    "Reshape": _reshape,
}
