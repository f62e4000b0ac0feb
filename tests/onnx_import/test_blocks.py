"""DepthToSpace, SpaceToDepth and Reshape that make steps or bands of channels, against ONNX Runtime and in streams; what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from qrnn.errors import QrnnError
from qrnn.model.kinds.unstack import Unstack
from qrnn.onnx_import import import_model

from .builders import Graph
from .running import agree, data, refused_with
from .test_transposed import decoder, streams_agree
from .upsampled import features


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("order", ["tf", "ft"])
def test_blocks_of_steps_and_bands(order: str, mode: str) -> None:
    """Each step gives two, of twice as many bands."""
    proto = decoder(lambda g, x: g.node("DepthToSpace", [x], blocksize=2, mode=mode), 8, 3, order)
    model = agree(proto, {"x": data(2, 5, 3)})
    assert any(isinstance(layer, Unstack) for layer in model.layers)
    if order == "tf":
        g = Graph(opset=17)
        y = g.node("DepthToSpace", [features(g, order, 8, 3)], blocksize=2, mode=mode)
        g.node("Transpose", [y], ["out"], perm=[0, 2, 1, 3])
        g.output("out", 4)
        streams_agree(g.model(), 4)


def apart(g: Graph, op: str, blocks: int, **attributes: str) -> onnx.ModelProto:
    """[N, T, 8, 4] as [N·T, 8, 2, 2] → ``op`` → [N, T, 32]."""
    x = features(g, "f", 8, 4)
    y = g.node("Reshape", [x, g.const(np.array([-1, 8, 2, 2]))])
    y = g.node(op, [y], blocksize=blocks, **attributes)
    lead = g.node("Slice", [g.node("Shape", [x]), g.const(np.array([0])), g.const(np.array([2]))])
    g.node("Reshape", [y, g.node("Concat", [lead, g.const(np.array([-1]))], axis=0)], ["out"])
    g.output("out", 3)
    return g.model()


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_blocks_within_a_step(mode: str) -> None:
    agree(apart(Graph(opset=17), "DepthToSpace", 2, mode=mode), {"x": data(2, 5, 3)})
    agree(apart(Graph(opset=17), "SpaceToDepth", 2), {"x": data(2, 5, 3)})


@pytest.mark.parametrize("form", ["time last", "time first", "samples"])
def test_channels_that_become_steps(form: str) -> None:
    """A sub-pixel convolution over time: [N, C, T, s] to [N, C, s · T], and [N, T, s · C] to [N, s · T, C]."""
    g = Graph(opset=17)
    x = features(g, "t", 6, 1)  # [N, 6, T]
    if form == "time last":
        y = g.node("Reshape", [g.node("Conv", [x, g.random(6, 6, 2)], pads=[1, 0]), g.const(np.array([0, 3, 2, -1]))])
        y = g.node("Transpose", [y], perm=[0, 1, 3, 2])
        y = g.node("Reshape", [y, g.const(np.array([0, 3, -1]))])
        g.node("Transpose", [g.node("Conv", [y, g.random(2, 3, 3)], pads=[1, 1])], ["out"], perm=[0, 2, 1])
    else:
        y = g.node("Transpose", [x], perm=[0, 2, 1])
        inner = 2 if form == "time first" else 1
        g.node("Reshape", [y, g.const(np.array([0, -1, inner]))], ["out"])
    g.output("out", 3)
    streams_agree(g.model(), 5)
    (layer,) = (layer for layer in import_model(g.model(), "test").layers if isinstance(layer, Unstack))
    assert layer.count == {"time last": 2, "time first": 3, "samples": 6}[form]


@pytest.mark.parametrize(
    ("op", "size", "says"),
    [
        ("DepthToSpace", 3, "blocksize=3 does not fit the 8 channels"),
        ("SpaceToDepth", 2, "puts every 2 steps"),
        ("DepthToSpace", 0, "blocksize=0"),
    ],
)
def test_refusals(op: str, size: int, says: str) -> None:
    refused_with(QrnnError, decoder(lambda g, x: g.node(op, [x], blocksize=size), 8, 4), says)
