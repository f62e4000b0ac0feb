"""The cases of docs/conformance.md that are ONNX's own node tests of elementwise operators.

As those of normalizations (tools/conformance_norms.py), each test's node stands beside an RNN that reads the same first input, so that the axes
have their roles. Further inputs with as many axes are computed features too; others, and what has to be constant, are constants of the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from conformance_cases import Case
from conformance_norms import beside_an_rnn
from onnx import numpy_helper
from onnx_node_tests import tests_of

ELEMENTWISE = (
    "Abs", "Add", "ArgMax", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "LogSoftmax", "Max",
    "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Sigmoid", "Softmax", "Softplus", "Softsign", "Sqrt", "Sub", "Swish",
    "Tanh", "ThresholdedRelu",
)  # fmt: skip
"""Operators whose tests are looked for."""

CONSTANT = ("Clip", "Max", "Min", "PRelu", "Pow")
"""Operators of which only the first input is computed."""


def elementwise_cases() -> Iterator[Case]:
    """Yield the tests of one node whose first input is [T, N, F] as an RNN reads it, or [N, F], in ONNX's order."""
    for test in tests_of(ELEMENTWISE):
        given, wanted = test.data_sets[0]
        first = np.asarray(given[0])
        if first.ndim in (2, 3) and first.dtype == np.float32:
            yield _case(test.name, test.model, given, wanted[0])


def _case(name: str, made: onnx.ModelProto, given: Any, wanted: Any) -> Case:
    """Return a test with its constants as initializers, and its computed inputs by name."""
    model = onnx.ModelProto()
    model.CopyFrom(made)
    node, graph = model.graph.node[0], model.graph
    computed: dict[str, Any] = {}
    for place, (declared, array) in enumerate(zip(list(graph.input), given, strict=True)):
        if place and (node.op_type in CONSTANT or array.ndim != given[0].ndim):
            graph.input.remove(declared)
            graph.initializer.append(numpy_helper.from_array(np.asarray(array), declared.name))
        else:
            computed[declared.name] = array
    old = {graph.input[0].name: "X", graph.output[0].name: "Y"}
    for names in (node.input, node.output):
        names[:] = [old.get(name, name) for name in names]
    graph.input[0].name, graph.output[0].name = "X", "Y"
    arrays = {old.get(key, key): array for key, array in computed.items()}
    model = beside_an_rnn(model, arrays["X"].shape)
    axes = ("T", "N")[-(arrays["X"].ndim - 1) :]
    for value in model.graph.input[1:]:
        for dim, size in zip(value.type.tensor_type.shape.dim, axes, strict=False):
            dim.dim_param = size
    return Case(node.op_type, name, name, model, arrays, {"Y": wanted}, compared=("Y",))
