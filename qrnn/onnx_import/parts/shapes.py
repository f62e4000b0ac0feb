"""Find the types and shapes of a graph's tensors: ONNX's shape inference, after the arithmetic of sizes that it does not follow."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import checker, helper, inliner, numpy_helper, shape_inference

from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.constants import EVALUATOR_WORK, FOLDABLE
from qrnn.onnx_import.node import DAMAGE
from qrnn.onnx_import.problems import DEFAULT_DOMAINS

MOVES = frozenset(
    ["Cast", "Concat", "ConstantOfShape", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"]
)
"""The operators beside `FOLDABLE` that exporters compute sizes with; their results are small where their operands are."""

MOST_ELEMENTS = 1 << 10
"""The most elements of a constant that is computed here: shapes, pads and axes have few."""


def inferred_types(model: onnx.ModelProto, budget: Budget) -> dict[str, onnx.ValueInfoProto]:
    """Return the type of each tensor of a checked model by name; tensors of which nothing is known are left out."""
    graph = model.graph
    found = [*graph.value_info, *graph.output]
    try:
        flat = inliner.inline_local_functions(model) if model.functions else model
        inferred = shape_inference.infer_shapes(_with_sizes(flat, budget), data_prop=True).graph
        found += [*inferred.value_info, *inferred.output]
    except (shape_inference.InferenceError, checker.ValidationError, *DAMAGE):
        pass  # shapes that contradict each other: those that the file declares are all that is known
    for info in graph.input:
        named = onnx.ValueInfoProto()
        named.CopyFrom(info)
        _name_sizes(named)
        found.append(named)
    return {info.name: info for info in found if info.type.WhichOneof("value") is not None}


def _with_sizes(model: onnx.ModelProto, budget: Budget) -> onnx.ModelProto:
    """Return the model with small constants computed that nodes compute from constants."""
    opset = next((int(o.version) for o in model.opset_import if o.domain in DEFAULT_DOMAINS), 1)
    values = {
        t.name: numpy_helper.to_array(t)
        for t in model.graph.initializer
        if np.prod(t.dims, dtype=object) <= MOST_ELEMENTS
    }
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    for node in model.graph.node:
        result = _computed(node, opset, values, budget)
        if result is None:
            nodes.append(node)
            continue
        name = node.output[0]
        values[name] = result
        constants.append(numpy_helper.from_array(result, name))
    made = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    made.graph.CopyFrom(model.graph)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    for info in made.graph.input:
        _name_sizes(info)
    made.graph.initializer.extend(constants)  # from nodes of kind Constant, shape inference takes no pads
    return made


def _name_sizes(info: onnx.ValueInfoProto) -> None:
    """Give each size of an input that the file leaves free a name, by which it is known again in other tensors."""
    for axis, dim in enumerate(info.type.tensor_type.shape.dim):
        if dim.dim_value <= 0 and not dim.dim_param:
            dim.dim_param = f"{info.name}[{axis}]"


def _computed(node: onnx.NodeProto, opset: int, values: Mapping[str, np.ndarray], budget: Budget) -> np.ndarray | None:
    """Return what a node computes from small constants; None for any other node."""
    if node.domain not in DEFAULT_DOMAINS or len(node.output) != 1:
        return None
    if node.op_type == "Constant":
        tensor = next((a.t for a in node.attribute if a.name == "value"), None)
        small = tensor is not None and np.prod(tensor.dims, dtype=object) <= MOST_ELEMENTS
        return numpy_helper.to_array(tensor) if small else None
    given = {name: values.get(name) for name in node.input if name}
    if node.op_type not in MOVES | FOLDABLE or not given or any(v is None for v in given.values()):
        return None
    known = {name: value for name, value in given.items() if value is not None}
    if node.op_type == "ConstantOfShape" and np.prod(np.abs(next(iter(known.values()))), dtype=object) > MOST_ELEMENTS:
        return None
    from onnx.reference import ReferenceEvaluator  # slow to import

    budget.spend(f"the sizes of node '{node.name}' ({node.op_type})", EVALUATOR_WORK)
    graph = helper.make_graph(
        [node],
        "sizes",
        [helper.make_value_info(name, onnx.TypeProto()) for name in known],
        [helper.make_value_info(node.output[0], onnx.TypeProto())],
    )
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (result,) = ReferenceEvaluator(
                helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
            ).run(None, known)
    except (checker.ValidationError, *DAMAGE):
        return None  # the importer says what is wrong with it
    found = np.asarray(result)
    return found if found.size <= MOST_ELEMENTS and found.dtype.kind in "biuf" else None
