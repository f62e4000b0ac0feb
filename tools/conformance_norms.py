"""The cases of docs/conformance.md that are ONNX's own node tests of normalizations.

The installed onnx package makes them. The importer takes no model without a recurrent node, and finds by such a node which axes are batch
and time; so each test's node stands here beside an RNN that reads the same X, and only the node's own output Y is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from conformance_cases import Case
from onnx import TensorProto, helper, numpy_helper
from onnx_node_tests import tests_of

OPERATORS = (
    "LayerNormalization",
    "RMSNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "MeanVarianceNormalization",
    "LpNormalization",
)
CHANNELS_FIRST = ("InstanceNormalization", "GroupNormalization")
"""The operators that read [N, C, …], of which the third axis is time here."""

HIDDEN = 2
"""Hidden units of the RNN that stands beside the node."""


def norm_cases() -> Iterator[Case]:
    """Yield the tests of one node, in ONNX's order; none of an operator that the installed package has no tests of."""
    for test in tests_of(OPERATORS):
        given, wanted = test.data_sets[0]
        arrays = {i.name: array for i, array in zip(test.model.graph.input, given, strict=True)}
        first, result = test.model.graph.input[0].name, test.model.graph.output[0].name
        if arrays[first].ndim < 2:
            continue  # numbers alone have no axis beside the batch
        model = beside_an_rnn(test.model, arrays[first].shape)
        operator = model.graph.node[0].op_type
        yield Case(operator, test.name, test.name, model, arrays, {result: wanted[0]}, compared=(result,))


def beside_an_rnn(model: onnx.ModelProto, shape: tuple[int, ...]) -> onnx.ModelProto:
    """Return the model with an RNN on the same X, whose first axes are time and batch, or batch alone where there are two axes.

    Of operators that read channels first, the axes are batch, channels and time.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    first = graph.input[0].name
    del graph.output[1:], graph.node[0].output[1:]  # Mean and InvStdDev, which a float network needs for training alone
    turned = graph.node[0].op_type in CHANNELS_FIRST
    names = {0: "N"} if len(shape) == 2 else {0: "N", 2: "T"} if turned else {0: "T", 1: "N"}
    for value in (graph.input[0], graph.output[0]):
        for axis, name in names.items():
            value.type.tensor_type.shape.dim[axis].dim_param = name
    features = int(np.prod([size for axis, size in enumerate(shape) if axis not in names]))
    constants: dict[str, Any] = {
        "rnn_W": np.full((1, HIDDEN, features), 0.1, np.float32),
        "rnn_R": np.full((1, HIDDEN, HIDDEN), 0.1, np.float32),
    }
    read = first
    if turned:
        read = "turned_X"
        graph.node.append(
            helper.make_node("Transpose", [first], [read], name="turned", perm=[2, 0, 1, *range(3, len(shape))])
        )
    if len(shape) != 3:
        constants["rnn_shape"] = np.array([0] if len(shape) == 2 else [0, 0, features], np.int64)
        operator = "Unsqueeze" if len(shape) == 2 else "Reshape"
        graph.node.append(helper.make_node(operator, [read, "rnn_shape"], ["rnn_X"], name="rnn_input"))
        read = "rnn_X"
    graph.node.append(helper.make_node("RNN", [read, "rnn_W", "rnn_R"], ["", "rnn_h"], name="rnn", hidden_size=HIDDEN))
    graph.output.append(helper.make_tensor_value_info("rnn_h", TensorProto.FLOAT, [1, "N", HIDDEN]))
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return result
