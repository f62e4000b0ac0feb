"""The cases of docs/conformance.md that are ONNX's own node tests of LayerNormalization and RMSNormalization.

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

OPERATORS = ("LayerNormalization", "RMSNormalization")
HIDDEN = 2
"""Hidden units of the RNN that stands beside the node."""


def norm_cases() -> Iterator[Case]:
    """Yield the tests of one node, in ONNX's order; none of an operator that the installed package has no tests of."""
    for test in tests_of(OPERATORS):
        given, wanted = test.data_sets[0]
        arrays = {i.name: array for i, array in zip(test.model.graph.input, given, strict=True)}
        model = beside_an_rnn(test.model, arrays["X"].shape)
        operator = model.graph.node[0].op_type
        yield Case(operator, test.name, test.name, model, arrays, {"Y": wanted[0]}, compared=("Y",))


def beside_an_rnn(model: onnx.ModelProto, shape: tuple[int, ...]) -> onnx.ModelProto:
    """Return the model with an RNN on the same X, whose first axes are time and batch, or batch alone where there are two axes."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    del graph.output[1:], graph.node[0].output[1:]  # Mean and InvStdDev, which a float network needs for training alone
    names = ("N",) if len(shape) == 2 else ("T", "N")
    for value in (graph.input[0], graph.output[0]):
        for dim, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
            dim.dim_param = name
    features = int(np.prod(shape[len(names) :]))
    constants: dict[str, Any] = {
        "rnn_W": np.full((1, HIDDEN, features), 0.1, np.float32),
        "rnn_R": np.full((1, HIDDEN, HIDDEN), 0.1, np.float32),
    }
    read = "X"
    if len(shape) != 3:
        constants["rnn_shape"] = np.array([0] if len(shape) == 2 else [0, 0, features], np.int64)
        operator, read = "Unsqueeze" if len(shape) == 2 else "Reshape", "rnn_X"
        graph.node.append(helper.make_node(operator, ["X", "rnn_shape"], [read], name="rnn_input"))
    graph.node.append(helper.make_node("RNN", [read, "rnn_W", "rnn_R"], ["", "rnn_h"], name="rnn", hidden_size=HIDDEN))
    graph.output.append(helper.make_tensor_value_info("rnn_h", TensorProto.FLOAT, [1, "N", HIDDEN]))
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return result
