"""Count the multiply-adds and the bytes of weights of an ONNX graph, by the shapes of its tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.node import DAMAGE
from qrnn.onnx_import.parts.flow import graphs_of
from qrnn.onnx_import.parts.shapes import inferred_types

Shape = Sequence[int]


def multiply_adds(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> int:
    """Return the multiply-adds of the products of a graph whose inputs have these shapes.

    Products are those of matrices, convolutions, recurrent cells and transforms (DFT and STFT as fast ones, N·log2 N for N points); what a
    body of control flow computes is counted once.
    """
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for info in sized.graph.input:
        if info.name in shapes:
            dims = info.type.tensor_type.shape.dim
            for dim, size in zip(dims, shapes[info.name], strict=False):
                dim.dim_value = int(size)
    for info in sized.graph.output:
        for dim in info.type.tensor_type.shape.dim:
            dim.Clear()
    del sized.graph.value_info[:]
    infos = inferred_types(sized, Budget(sized.ByteSize())).values()
    graph = sized.graph
    known = {
        i.name: [d.dim_value or 1 for d in i.type.tensor_type.shape.dim]
        for i in infos
        if i.type.HasField("tensor_type")
    }
    known.update({t.name: list(t.dims) for t in graph.initializer})
    return sum(_of_node(node, known) for node in _nodes(graph))


def weight_bytes(model: onnx.ModelProto) -> int:
    """Return the bytes of the constants of a graph that are real numbers."""
    total = 0
    for node in _nodes(model.graph):
        total += sum(_bytes(a.t) for a in node.attribute if a.HasField("t"))
        total += sum(_bytes(t) for graph in graphs_of(node) for t in graph.initializer)
    return total + sum(_bytes(t) for t in model.graph.initializer)


def _bytes(tensor: onnx.TensorProto) -> int:
    try:
        array = numpy_helper.to_array(tensor)
    except DAMAGE:
        return 0
    return int(array.nbytes) if array.dtype.kind == "f" or array.dtype.itemsize == 1 else 0


def _nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    found = []
    for node in graph.node:
        found.append(node)
        for inner in graphs_of(node):
            found += _nodes(inner)
    return found


def _of_node(node: onnx.NodeProto, known: Mapping[str, Shape]) -> int:
    rule = _RULES.get(node.op_type)
    shapes = [known.get(name) for name in node.input]
    made = known.get(node.output[0]) if node.output else None
    if rule is None or made is None or not shapes or shapes[0] is None:
        return 0
    return rule(node, [s or () for s in shapes], made)


def _matmul(_: onnx.NodeProto, given: list[Shape], made: Shape) -> int:
    return math.prod(made) * (given[0][-1] if given[0] else 1)


def _gemm(node: onnx.NodeProto, given: list[Shape], made: Shape) -> int:
    turned = any(a.name == "transA" and a.i for a in node.attribute)
    return math.prod(made) * given[0][0 if turned else -1]


def _conv(node: onnx.NodeProto, given: list[Shape], made: Shape) -> int:
    weight = given[1] if len(given) > 1 else ()
    if node.op_type == "ConvTranspose":
        return math.prod(given[0]) * math.prod(weight[1:])
    return math.prod(made) * math.prod(weight[1:])


def _cell(node: onnx.NodeProto, given: list[Shape], made: Shape) -> int:
    steps, batch = given[0][0], given[0][1]
    return steps * batch * (math.prod(given[1]) + math.prod(given[2]))


def _einsum(node: onnx.NodeProto, given: list[Shape], made: Shape) -> int:
    equation = next((a.s.decode() for a in node.attribute if a.name == "equation"), "")
    sizes: dict[str, int] = {}
    for term, shape in zip(equation.split("->")[0].replace(" ", "").split(","), given, strict=False):
        sizes.update(dict(zip(term, shape, strict=False)))
    return math.prod(sizes.values()) if len(given) > 1 else 0


def _transform(node: onnx.NodeProto, given: list[Shape], made: Shape) -> int:
    points = max(made[-2] if len(made) > 1 else 1, 1)
    return int(math.prod(made) * max(np.log2(points), 1))


_RULES: Mapping[str, Callable[[onnx.NodeProto, list[Shape], Shape], int]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Einsum": _einsum,
    "DFT": _transform,
    "STFT": _transform,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _cell),
}
