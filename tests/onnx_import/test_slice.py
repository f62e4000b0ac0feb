"""Slice of a feature axis with every start, end and step: the elements that ONNX Runtime takes."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from qrnn.errors import UnsupportedError
from qrnn.onnx_import.operators.select import _selection

from .builders import Graph
from .running import agree, data, runtime

SIZE = 3
REFUSING: Any = SimpleNamespace(refuse=UnsupportedError)
"""In place of a node: what is asked of it is to make a refusal."""

ENDS = (*range(-SIZE - 2, SIZE + 3), 2**63 - 1, -(2**63) + 1)


def test_every_range() -> None:
    names = ("starts", "ends", "steps")
    given = [helper.make_tensor_value_info(name, TensorProto.INT64, [1]) for name in names]
    axes = onnx.numpy_helper.from_array(np.array([0]), "axes")
    x = onnx.numpy_helper.from_array(np.arange(SIZE), "x")
    node = helper.make_node("Slice", ["x", "starts", "ends", "axes", "steps"], ["y"])
    output = helper.make_tensor_value_info("y", TensorProto.INT64, ["k"])
    graph = helper.make_graph([node], "g", given, [output], [x, axes])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for part in itertools.product(ENDS, ENDS, (-2, -1, 1, 2)):
        if part[1] > SIZE + 2 and part[2] < 0:  # the specification has nothing to take, ONNX Runtime takes all
            with pytest.raises(UnsupportedError, match="slices backwards"):
                _selection(REFUSING, SIZE, part)
            continue
        feeds = {name: np.array([value]) for name, value in zip(names, part, strict=True)}
        taken = np.arange(SIZE)[_selection(REFUSING, SIZE, part)]
        assert taken.tolist() == session.run(None, feeds)[0].tolist(), part


def test_a_start_before_the_first_element_on_a_negative_step() -> None:
    g = Graph()
    y = g.recurrent("RNN", g.input("x", ["t", "n", 4]), 4, SIZE)[0]
    starts, axes, steps = (g.const(np.array([v])) for v in (-9, 2, -1))
    turned = g.node("Slice", [g.node("Squeeze", [y, g.const(np.array([1]))]), starts, starts, axes, steps])
    g.node("Identity", [turned], ["y"])
    g.output("y")
    feeds = {"x": data(5, 2, 4)}
    assert runtime(g.model(), feeds)["y"].shape == (5, 2, 1)
    agree(g.model(), feeds)
