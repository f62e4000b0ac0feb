"""What is known of a graph's values before it is imported: sizes, and the values of constants and of what is computed from sizes.

Conditions, numbers of iterations and indices are decided by it. A value is looked at only when one of these depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import checker, defs, helper, shape_inference

from qrnn.errors import QrnnError
from qrnn.onnx_import.budget import ITEM_WORK, Budget, BudgetError, count
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.constants import FOLDABLE, fold, stored_bytes, to_numpy
from qrnn.onnx_import.node import DAMAGE, Node
from qrnn.onnx_import.problems import DEFAULT_DOMAINS
from qrnn.onnx_import.registry import HANDLERS
from qrnn.onnx_import.values import BATCH, MOST_AXES, TIME, Array, Dim, Symbol, as_shape, as_value, is_shape

UNNAMED = "?"
"""The beginning of the names of symbols for sizes that no input has."""

LARGEST = 4096
"""The most elements of a value that is computed here: conditions, indices and lists of sizes have few."""

INFER_WORK = 100_000
"""Nominal nanoseconds in which ONNX infers the shapes of one node's outputs."""

INFERRED = frozenset(
    [
        *("Abs", "Add", "And", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat", "Conv", "ConvTranspose", "Cos", "Div"),
        *("Dropout", "Elu", "Equal", "Erf", "Exp", "Flatten", "Floor", "GRU", "Gather", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool"),
        *("Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LSTM", "LayerNormalization"),
        *("LeakyRelu", "Less", "LpNormalization", "LessOrEqual", "Log", "LogSoftmax", "MatMul", "Max", "MaxPool", "Min", "Mish", "Mod"),
        *("Mul", "Neg", "Not", "Or", "PRelu", "Pad", "Pow", "RNN", "Reciprocal", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin"),
        *("ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Slice", "Softmax"),
        *("Softplus", "Softsign", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Tile", "Transpose", "Unsqueeze"),
        *("Where", "Xor"),
    ]
)  # fmt: skip
"""The operators whose outputs' shapes ONNX may infer: it looks at sizes only, and makes nothing as large as they are."""

INTEGERS = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)

DIVISORS = frozenset(["strides", "dilations", "kernel_shape", "group", "num_outputs"])
"""The attributes by which sizes are divided or multiplied; a node with one below 1 is not looked at."""


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a value: ``dims``, of which None is not known, its element type, and the value itself where it is a small one.

    ``dims`` is None where the number of axes is not known. A ``value`` may be a list of sizes with symbols in it.
    """

    dims: tuple[Dim | None, ...] | None = None
    value: Array | None = None
    element_type: int = 0

    def size(self, axis: int) -> Dim | None:
        """Return the size of an axis, None where it is not known."""
        return self.dims[axis] if self.dims is not None and -len(self.dims) <= axis < len(self.dims) else None


NOTHING = Known()


class Facts:
    """What is known of the values of a graph, and of the graphs inside it that were written out or are looked at."""

    def __init__(self, opset: int, budget: Budget) -> None:
        self._opset = opset
        self._budget = budget
        self._known: dict[str, Known] = {}
        self._symbols: dict[str, Symbol] = {}
        self._tensors: dict[str, onnx.TensorProto] = {}
        self.writer: dict[str, onnx.NodeProto] = {}
        """The node that writes a value."""

    def declare(self, info: onnx.ValueInfoProto) -> None:
        """Take the shape of a graph input from the file; each free size becomes a symbol of its own or of its name."""
        kind = info.type.tensor_type
        if not info.type.HasField("tensor_type") or not kind.HasField("shape") or len(kind.shape.dim) > MOST_AXES:
            self._known[info.name] = NOTHING
            return
        dims: list[Dim | None] = []
        for k, dim in enumerate(kind.shape.dim):
            free = not dim.HasField("dim_value") or dim.dim_value <= 0
            # a name that looks like one of those given here could be taken for another size
            named = "" if "[" in dim.dim_param or dim.dim_param.startswith(UNNAMED) else dim.dim_param
            dims.append(self.symbol(named or f"{info.name}[{k}]") if free else int(dim.dim_value))
        self.give(info.name, Known(tuple(dims), element_type=int(kind.elem_type)))

    def symbol(self, name: str) -> Symbol:
        """Return the free size of that name."""
        return self._symbols.setdefault(name, Symbol(name))

    def give(self, name: str, known: Known) -> None:
        """Record what is known of a value."""
        self._known[name] = known

    def forget(self, name: str) -> None:
        """Drop the node that writes a value, and what was known of it."""
        self.writer.pop(name, None)
        self._known.pop(name, None)

    def renew(self, name: str) -> None:
        """Drop what was known of a value, which its writer then says anew."""
        self._known.pop(name, None)

    def constant(self, name: str, tensor: onnx.TensorProto) -> None:
        """Record a constant, which is read when something depends on it."""
        self._tensors[name] = tensor

    def wrote(self, node: onnx.NodeProto) -> None:
        """Record a node, whose results are looked at when something depends on them."""
        for name in node.output:
            if name:
                self.writer[name] = node

    def of(self, name: str) -> Known:
        """Return what is known of a value."""
        left, opened = [name], set[str]()
        while left:
            at = left[-1]
            if at in self._known:
                left.pop()
                continue
            node = self.writer.get(at)
            if at in self._tensors or node is None:
                self._known[at] = self._read(at)
                continue
            missing = [i for i in node.input if i and i not in self._known]
            if missing and at not in opened:
                opened.add(at)
                left += missing
                continue
            results = [] if missing else self._results(node)  # what is missing now depends on itself
            for k, output in enumerate(node.output):
                self._known[output] = results[k] if k < len(results) else NOTHING
        return self._known[name]

    def spend(self) -> None:
        """Count one value that was looked at."""
        self._budget.spend("looking for what conditions depend on", ITEM_WORK)

    def value(self, name: str) -> Array | None:
        """Return a value that is known in full."""
        value = self.of(name).value if name else None
        return None if value is None or is_shape(value) else value

    def number(self, name: str) -> Any:
        """Return the only element of a value: a number, a bool, a `Symbol`; None where it is not known."""
        value = self.of(name).value if name else None
        return value.reshape(-1)[0] if value is not None and value.size == 1 else None

    def tensor(self, name: str) -> onnx.TensorProto | None:
        """Return the constant of that name."""
        return self._tensors.get(name)

    def _read(self, name: str) -> Known:
        tensor = self._tensors.get(name)
        if tensor is None:
            return NOTHING
        dims: tuple[Dim | None, ...] = tuple(int(d) for d in tensor.dims)
        if len(dims) > MOST_AXES:
            return NOTHING
        value = None
        if tensor.data_type != onnx.TensorProto.STRING and count(tensor.dims) <= LARGEST:
            try:
                stored_bytes(tensor, f"tensor '{name}'")
                value = to_numpy(tensor, f"tensor '{name}'", self._budget)
            except BudgetError:
                raise
            except QrnnError:
                value = None  # who reads it as a layer says what is wrong with it
        return Known(dims, value, int(tensor.data_type))

    def _results(self, node: onnx.NodeProto) -> list[Known]:
        if node.domain not in DEFAULT_DOMAINS:
            return []
        operands = [self._known[i] if i else None for i in node.input]
        try:
            results = self._sized(node, operands)
            values = self._values(node, operands)
        except BudgetError:
            raise
        except (QrnnError, *DAMAGE, shape_inference.InferenceError, checker.ValidationError):
            return []
        if values:
            kinds = [*(r.element_type for r in results), *[0] * len(values)]
            return [Known(value.shape, value, kind) for value, kind in zip(values, kinds, strict=False)]
        return results

    def _values(self, node: onnx.NodeProto, operands: list[Known | None]) -> list[Array]:
        """Return a node's outputs where they follow from small constants, or from sizes."""
        op = node.op_type
        first = operands[0] if operands else None
        if op in ("Shape", "Size"):
            if first is None or first.dims is None:
                return []
            dims: list[Dim] = [Symbol(UNNAMED) if d is None else d for d in first.dims]
            if op == "Size":
                known = [d for d in dims if not isinstance(d, Symbol)]
                return [np.array(int(np.prod(known, dtype=object)))] if len(known) == len(dims) else []
            ends = {a.name: int(a.i) for a in node.attribute}
            return [as_shape(dims[ends.get("start", 0) : ends.get("end")])]
        arrays = [None if o is None else o.value for o in operands]
        if any(a is None and o is not None for a, o in zip(arrays, operands, strict=True)):
            return []
        if sum(a.size for a in arrays if a is not None) > LARGEST or self._makes(node, arrays) > LARGEST:
            return []
        shapes = any(is_shape(a) for a in arrays)
        if op in FOLDABLE and not shapes:
            return fold(node, self._opset, arrays, self._budget)
        if op not in HANDLERS or (shapes and op not in MOVING):
            return []
        scratch = Builder(
            one_step=False,
            stream=False,
            baked={BATCH: set(), TIME: set()},
            value_names=frozenset(),
            budget=self._budget,
        )
        with np.errstate(all="ignore"):
            result = HANDLERS[op](Node(node, self._opset, arrays, self._budget), scratch)
        values = [as_value(r) for r in (result if isinstance(result, tuple) else (result,))]
        return values if all(isinstance(v, np.ndarray) for v in values) else []

    def _makes(self, node: onnx.NodeProto, arrays: list[Array | None]) -> int:
        """Return how many elements a node makes, which its operand lists."""
        if node.op_type == "Constant":
            return max((count(a.t.dims) + len(a.floats) + len(a.ints) for a in node.attribute), default=0)
        k = {"ConstantOfShape": 0, "Expand": 1}.get(node.op_type)
        listed = arrays[k] if k is not None and k < len(arrays) else None
        if listed is None:
            return 0
        return LARGEST + 1 if is_shape(listed) else count(int(d) for d in listed.reshape(-1))

    def _sized(self, node: onnx.NodeProto, operands: list[Known | None]) -> list[Known]:
        """Return the dims of a node's outputs."""
        op = node.op_type
        if op == "Constant":
            return [Known(_constant_dims(node), element_type=_constant_type(node))]
        if op == "ReverseSequence":
            first = operands[0] or NOTHING
            return [Known(first.dims, None, first.element_type)]
        if op in ("Shape", "Size"):
            return [Known(element_type=onnx.TensorProto.INT64)]
        if op in ("Reshape", "ConstantOfShape", "Expand") and operands and (listed := operands[-1]) is not None:
            first = operands[0] or NOTHING
            if (made := _made(op, first, listed.value)) is not None:
                return [
                    Known(made, element_type=_constant_type(node) if op == "ConstantOfShape" else first.element_type)
                ]
        if op not in INFERRED or any(min([*a.ints, a.i or 1]) < 1 for a in node.attribute if a.name in DIVISORS):
            return []
        self._budget.spend("looking for the sizes of values that conditions depend on", INFER_WORK)
        types, data = {}, {}
        for name, known in zip(node.input, operands, strict=True):
            if known is None:
                continue
            if known.dims is None or not known.element_type:
                return []
            dims = [d.name if isinstance(d, Symbol) else d for d in known.dims]
            types[name] = helper.make_tensor_type_proto(known.element_type, dims)
            value = None if known.value is None or is_shape(known.value) else known.value
            if value is not None and known.element_type in INTEGERS and value.size <= MOST_AXES:
                data[name] = helper.make_tensor(name, known.element_type, value.shape, value.reshape(-1))
        made = shape_inference.infer_node_outputs(
            defs.get_schema(op, self._opset, ""),
            node,
            types,
            data,
            opset_imports=[helper.make_opsetid("", self._opset)],
        )
        return [self._inferred(name, made.get(name)) for name in node.output]

    def _inferred(self, name: str, kind: onnx.TypeProto | None) -> Known:
        if kind is None or not kind.HasField("tensor_type"):
            return NOTHING
        tensor = kind.tensor_type
        if not tensor.HasField("shape"):
            return Known(element_type=int(tensor.elem_type))
        dims = [
            int(d.dim_value) if d.HasField("dim_value") else self.symbol(d.dim_param or f"{UNNAMED}{name}[{k}]")
            for k, d in enumerate(tensor.shape.dim)
        ]
        return Known(tuple(dims), element_type=int(tensor.elem_type))


MOVING = frozenset(["Cast", "Concat", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze"])
"""The operators that move the elements of a list of sizes."""


def _constant_type(node: onnx.NodeProto) -> int:
    """Return the element type that Constant or ConstantOfShape makes."""
    for attribute in node.attribute:
        if attribute.name == "value":
            return int(attribute.t.data_type)
        if attribute.name in ("value_int", "value_ints"):
            return int(onnx.TensorProto.INT64)
    return int(onnx.TensorProto.FLOAT)


def _constant_dims(node: onnx.NodeProto) -> tuple[Dim | None, ...] | None:
    """Return the shape of the tensor that a Constant holds."""
    tensor = next((a.t for a in node.attribute if a.name == "value"), None)
    return None if tensor is None or len(tensor.dims) > MOST_AXES else tuple(int(d) for d in tensor.dims)


def _made(op: str, first: Known, listed: Array | None) -> tuple[Dim | None, ...] | None:
    """Return the dims that Reshape, Expand or ConstantOfShape makes of a list of sizes, None where they are not known."""
    if listed is None or listed.ndim != 1 or listed.size > MOST_AXES:
        return None
    dims: list[Dim | None] = [d if isinstance(d, Symbol) else int(d) for d in listed]
    if op == "ConstantOfShape":
        return tuple(dims)
    if first.dims is None:
        return tuple(None if d in (0, -1) else d for d in dims) if op == "Reshape" else None
    if op == "Expand":
        return broadcast(first.dims, dims)
    dims = [first.size(k) if d == 0 else d for k, d in enumerate(dims)]
    if -1 in dims:
        dims[dims.index(-1)] = _rest(list(first.dims), [d for d in dims if not isinstance(d, int) or d != -1])
    return tuple(dims)


def _rest(dims: list[Dim | None], others: list[Dim | None]) -> Dim | None:
    """Return the size that is left of ``dims`` when ``others`` are taken, None where it is not known."""
    for other in others:
        if isinstance(other, Symbol) and other in dims:
            dims.remove(other)
        elif not isinstance(other, int):
            return None
    symbols = [d for d in dims if not isinstance(d, int)]
    number = int(np.prod([d for d in dims if isinstance(d, int)], dtype=object))
    taken = int(np.prod([d for d in others if isinstance(d, int)], dtype=object))
    if taken < 1 or number % taken:
        return None
    if symbols:
        return symbols[0] if len(symbols) == 1 and number == taken else None
    return number // taken


def broadcast(a: Iterable[Dim | None], b: Iterable[Dim | None]) -> tuple[Dim | None, ...]:
    """Return the dims of two values broadcast together."""
    a, b = list(a), list(b)
    axes = max(len(a), len(b))
    pairs = zip([1] * (axes - len(a)) + a, [1] * (axes - len(b)) + b, strict=True)
    return tuple(y if x == 1 else x if y == 1 or x is y or x == y else None for x, y in pairs)
