"""The cases of docs/conformance.md that are ONNX's own node tests of Reduce…, AveragePool and global pools.

The installed onnx package makes them. As with normalizations (tools/conformance_norms.py), each test's node stands beside an RNN that reads the
same input, and so says which of its axes are batch and time: of a pool the first and the third; of a reduction the first axis that it keeps
is the batch, and the first of the others is time. Where all axes are reduced, the first is the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from conformance_cases import Case
from conformance_norms import HIDDEN
from onnx import TensorProto, helper, numpy_helper
from onnx_node_tests import tests_of

REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")
POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool")


def reduction_cases() -> Iterator[Case]:
    """Yield the tests of one node on real numbers, in ONNX's order; none of an operator that the installed package has no tests of."""
    for test in tests_of(REDUCTIONS + POOLS):
        node = test.model.graph.node[0]
        given, wanted = test.data_sets[0]
        arrays = {i.name: array for i, array in zip(test.model.graph.input, given, strict=True)}
        x = given[0]
        if x.dtype != np.float32 or not x.size:
            continue  # booleans, and axes without elements, are no features
        model = beside_an_rnn(test.model, x.ndim, *_roles(node, arrays, x.ndim))
        for axes in model.graph.input[1:]:  # constants, as exporters write them
            model.graph.initializer.append(numpy_helper.from_array(arrays.pop(axes.name), axes.name))
        del model.graph.input[1:]
        output = model.graph.output[0].name
        yield Case(node.op_type, test.name, test.name, model, arrays, {output: wanted[0]}, compared=(output,))


def _roles(node: onnx.NodeProto, arrays: dict[str, Any], rank: int) -> tuple[int, int]:
    """Return which axes of the input are batch and time."""
    if node.op_type in POOLS:
        return 0, 2
    given = next((list(a.ints) for a in node.attribute if a.name == "axes"), None)
    if len(node.input) > 1 and node.input[1]:
        given = arrays[node.input[1]].tolist()
    noop = any(a.name == "noop_with_empty_axes" and a.i for a in node.attribute)
    reduced = {axis % rank for axis in given} if given else set() if noop else set(range(rank))
    batch = next((axis for axis in range(rank) if axis not in reduced), 0)
    return batch, next(axis for axis in range(rank) if axis != batch)


def beside_an_rnn(model: onnx.ModelProto, rank: int, batch: int, time: int | None) -> onnx.ModelProto:
    """Return the model with an RNN on the same input, whose axes ``batch`` and ``time`` are of any size; None for one step without an axis."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    x = graph.input[0]
    dims = x.type.tensor_type.shape.dim
    sizes = [dim.dim_value for dim in dims]
    dims[batch].dim_param = "N"
    if time is not None:
        dims[time].dim_param = "T"
    output = graph.output[0].type.tensor_type.shape.dim
    for k, dim in enumerate(output):
        dim.dim_param = f"y_{k}"
    inner = [axis for axis in range(rank) if axis not in (batch, time)]
    features = int(np.prod([sizes[axis] for axis in inner]))
    constants: dict[str, Any] = {
        "rnn_W": np.full((1, HIDDEN, features), 0.1, np.float32),
        "rnn_R": np.full((1, HIDDEN, HIDDEN), 0.1, np.float32),
        "rnn_shape": np.array([0, features] if time is None else [0, 0, features], np.int64),
    }
    lead, shaped = ([batch], "rnn_F") if time is None else ([time, batch], "rnn_X")
    graph.node.append(helper.make_node("Transpose", [x.name], ["rnn_T"], name="rnn_order", perm=[*lead, *inner]))
    graph.node.append(helper.make_node("Reshape", ["rnn_T", "rnn_shape"], [shaped], name="rnn_input"))
    if time is None:
        constants["rnn_first"] = np.array([0], np.int64)
        graph.node.append(helper.make_node("Unsqueeze", [shaped, "rnn_first"], ["rnn_X"], name="rnn_step"))
    graph.node.append(
        helper.make_node("RNN", ["rnn_X", "rnn_W", "rnn_R"], ["", "rnn_h"], name="rnn", hidden_size=HIDDEN)
    )
    graph.output.append(helper.make_tensor_value_info("rnn_h", TensorProto.FLOAT, [1, "N", HIDDEN]))
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return result
