"""The cases of docs/conformance.md that are ONNX's own node tests of operators that only move data, and of those that upsample.

The installed onnx package makes them. As with reductions (tools/conformance_reductions.py), each test's node stands beside an RNN that reads
the same first input, and so says which of its axes are batch and time: the first two axes, in any order, with which the node is imported;
or batch alone, of one step. Where no axes will do, the case is the one with the first two, and its refusal is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import numpy as np
import onnx
from conformance_cases import Case
from conformance_reductions import beside_an_rnn
from onnx import numpy_helper
from onnx_node_tests import tests_of

from qrnn.errors import QrnnError
from qrnn.onnx_backend import prepare, weight_inputs

MOVES = (
    *("Slice", "Split", "Gather", "Pad", "Tile", "Concat", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"),
    *("Expand", "DepthToSpace", "SpaceToDepth", "Identity"),
)  # fmt: skip
"""Operators that only move data, whose tests are looked for."""

UPSAMPLING = ("ConvTranspose", "Resize", "Upsample")
"""Operators that give more steps or features than they read."""


def move_cases() -> Iterator[Case]:
    """Yield the tests of operators that move data."""
    yield from _cases(MOVES)


def upsampling_cases() -> Iterator[Case]:
    """Yield the tests of operators that give more steps or features than they read."""
    yield from _cases(UPSAMPLING)


def _cases(operators: tuple[str, ...]) -> Iterator[Case]:
    """Yield the tests of one node on real numbers with at least two axes, in ONNX's order."""
    for test in tests_of(operators):
        given, wanted = test.data_sets[0]
        x = given[0]
        if isinstance(x, np.ndarray) and x.dtype == np.float32 and x.ndim > 1 and x.size and wanted[0].size:
            yield _importable(test.name, test.model, given, wanted)


def _importable(name: str, made: onnx.ModelProto, given: Any, wanted: Any) -> Case:
    """Return the test with the first two axes as batch and time with which it is imported."""
    axes = range(given[0].ndim)
    pairs: list[tuple[int, int | None]] = [*permutations(axes, 2), *((axis, None) for axis in axes)]
    for batch, time in pairs:
        case = _case(name, made, given, wanted, batch, time)
        try:
            prepare(case.model).bind(case.inputs)
        except QrnnError:
            continue
        return case
    return _case(name, made, given, wanted, *pairs[0])


def _case(name: str, made: onnx.ModelProto, given: Any, wanted: Any, batch: int, time: int | None) -> Case:
    """Return a test whose inputs with as many axes as the first one are computed, unless they are weights, and whose others are constants."""
    constants = weight_inputs(made.graph) if made.graph.node[0].op_type in UPSAMPLING else frozenset()
    model = beside_an_rnn(made, given[0].ndim, batch, time)
    graph, computed = model.graph, dict[str, Any]()
    for declared, array in zip(list(graph.input), given, strict=True):
        if array.dtype == np.float32 and array.ndim == given[0].ndim and declared.name not in constants:
            computed[declared.name] = array
            dims = declared.type.tensor_type.shape.dim
            dims[batch].dim_param = "N"
            if time is not None:
                dims[time].dim_param = "T"
        else:
            graph.input.remove(declared)
            graph.initializer.append(numpy_helper.from_array(np.asarray(array), declared.name))
    outputs = [o.name for o in made.graph.output]
    for output, own in zip(graph.output, made.graph.output, strict=False):  # the RNN's is behind those of the test
        output.CopyFrom(own)
    expected = dict(zip(outputs, wanted, strict=True))
    return Case(made.graph.node[0].op_type, name, name, model, computed, expected, compared=tuple(outputs))
