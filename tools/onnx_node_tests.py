"""ONNX's own node tests, which the installed onnx package makes."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Collection, Iterator

import numpy as np
from onnx.backend.test.case import node as node_tests
from onnx.backend.test.case.test_case import TestCase

MODULES = {"InstanceNormalization": "instancenorm", "MeanVarianceNormalization": "meanvariancenormalization"}
"""The modules of ONNX whose names are not those of the operators."""


def tests_of(operators: Collection[str]) -> Iterator[TestCase]:
    """Yield the tests of one node of ``operators``, in ONNX's order; none of an operator that the installed package has no tests of."""
    for operator in operators:
        module = f"{node_tests.__name__}.{MODULES.get(operator, operator.lower())}"
        if importlib.util.find_spec(module) is not None:
            with np.errstate(divide="ignore", invalid="ignore"):  # of a test without elements
                importlib.import_module(module)  # which appends its tests to the list below
    seen = set()
    for test in node_tests._NodeTestCases:
        nodes = test.model.graph.node  # a test named expanded has the function's body in place of the node
        if len(nodes) == 1 and nodes[0].op_type in operators and test.name not in seen:
            seen.add(test.name)
            yield test
