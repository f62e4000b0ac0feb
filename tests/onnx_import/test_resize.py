"""Resize and Upsample over bands and over time, against ONNX Runtime and in streams; what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qrnn.accuracy.metrics import sqnr_db
from qrnn.conversion import quantize
from qrnn.errors import QrnnError, UnsupportedError
from qrnn.model.kinds.conv import Conv
from qrnn.onnx_import import import_model
from qrnn.onnx_import.operators.resize import COORDINATES, ROUNDINGS
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

from .builders import Graph
from .running import agree, data, oracle, refused_with, runtime
from .test_transposed import decoder, streams_agree
from .upsampled import features, whole


def resized(g: Graph, x: str, scales: list[float], opset: int, **attributes: Any) -> str:
    """Add Resize, or before opset 10 Upsample, by scales."""
    if opset < 9:
        return str(g.node("Upsample", [x], scales=scales, **attributes))
    given = g.const(np.array(scales, dtype=np.float32))
    if opset < 11:
        return str(g.node("Upsample" if opset == 9 else "Resize", [x, given], **attributes))
    roi = g.const(np.zeros(0, dtype=np.float32)) if opset < 13 else ""  # an input that no mode but one reads
    return str(g.node("Resize", [x, roi, given], **attributes))


def drawn(draw: st.DrawFn) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A graph with one Resize over bands, by scales or by sizes, that ONNX Runtime takes."""
    opset, bands = draw(st.sampled_from([11, 13, 18, 19, 21])), draw(st.integers(1, 7))
    mode = draw(st.sampled_from(["nearest", "nearest", "linear"]))
    coordinates, rounding = draw(st.sampled_from(COORDINATES)), draw(st.sampled_from(ROUNDINGS))
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    attributes |= {"nearest_mode": rounding} if mode == "nearest" else {}
    g = Graph(opset=opset)
    feeds = {"x": data(2, 3, 3)}
    target, none = draw(st.integers(1, 15)), g.const(np.zeros(0, dtype=np.float32)) if opset < 13 else ""
    scale = draw(st.sampled_from([1.0, 2.0, 3.0, 0.5, 1.5, target / bands]))
    if draw(st.booleans()):
        inputs = [none, g.const(np.array([1, 1, scale], dtype=np.float32))]
    else:
        inputs = [none, none, g.const(np.array([6, 2, target]))]
    if opset >= 18 and draw(st.booleans()):  # the last axis alone
        attributes["axes"] = [2]
        last = np.array([scale], dtype=np.float32) if len(inputs) == 2 else np.array([target])
        inputs[-1] = g.const(last)
    try:
        proto = whole(g, "f", features(g, "f", 2, bands), "Resize", inputs, 2, bands, feeds, **attributes)
        runtime(proto, feeds)
    except Exception:  # noqa: BLE001  # what ONNX Runtime refuses
        assume(False)
    return proto, feeds


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_any_attributes(data: st.DataObject) -> None:
    """Sizes of merged batch and time are numbers, 6 for 2 sequences of 3 steps: those are refused, and made to be left out by ``axes``."""
    proto, feeds = data.draw(st.composite(drawn)())
    node = next(n for n in proto.graph.node if n.op_type == "Resize")
    if len(node.input) == 4 and not any(a.name == "axes" for a in node.attribute):
        refused_with(QrnnError, proto, "re-export with scales")
        return
    try:
        agree(proto, feeds)
    except UnsupportedError:
        refused_with(UnsupportedError, proto, "no whole number of elements")


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 13, 18, 19])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scale", [2.0, 3.0, 1.5, 0.5])
def test_scales_of_every_opset(opset: int, mode: str, scale: float) -> None:
    g = Graph(opset=opset)
    if opset < 10 and scale < 1:
        g.node("Identity", [resized(g, features(g, "tf", 3, 4), [1.0, 1.0, 1.0, scale], opset, mode=mode)], ["out"])
        g.output("out", 4)
        refused_with(QrnnError, g.model(), "expected numbers of at least 1")
        return
    x = features(g, "tf", 3, 4)
    g.node("Identity", [resized(g, x, [1.0, 1.0, 1.0, scale], opset, mode=mode)], ["out"])
    g.output("out", 4)
    model = agree(g.model(), {"x": data(2, 5, 3)})
    assert any(isinstance(layer, Conv) for layer in model.layers) == (mode == "linear")


@pytest.mark.parametrize("opset", [7, 9, 10, 13])
@pytest.mark.parametrize("order", ["tf", "ft"])
def test_steps_that_are_repeated(opset: int, order: str) -> None:
    """Over time and over bands at once, by whole scales; streams give the steps of one together."""
    time, bands = (3.0, 2.0) if order == "tf" else (2.0, 3.0)
    g = Graph(opset=opset)
    attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"} if opset > 10 else {}
    y = resized(g, features(g, order, 2, 3), [1.0, 1.0, time, bands], opset, mode="nearest", **attributes)
    y = g.node("Transpose", [y], perm=[0, 2, 1, 3] if order == "tf" else [0, 3, 1, 2])
    g.node("Conv", [g.node("Transpose", [y], perm=[0, 2, 1, 3]), g.random(2, 2, 2, 1)], ["out"], pads=[1, 0, 0, 0])
    g.output("out", 4)
    streams_agree(g.model(), 5)


def half_pixel(g: Graph, x: str) -> str:
    """Resize as PyTorch's nearest of today writes it: floor of asymmetric coordinates, and half pixels for linear."""
    y = resized(g, x, [1.0, 1.0, 1.0, 2.0], 17, mode="nearest", coordinate_transformation_mode="half_pixel")
    return str(g.node("Conv", [y, g.random(4, 4, 2, 3)], pads=[1, 1, 0, 1], strides=[1, 2]))


def test_a_nearest_neighbour_before_a_convolution() -> None:
    streams_agree(decoder(half_pixel))


def test_linear_weights_are_exact_enough() -> None:
    proto = decoder(lambda g, x: resized(g, x, [1.0, 1.0, 1.0, 2.0], 17, mode="linear"))
    feeds = {"x": data(4, 20, 3)}
    model = import_model(proto, "test")
    made = quantize(model, feeds, Scheme(16, input="16"))
    assert sqnr_db(oracle(model, feeds)["out"], Session(made, "reference").run(feeds).outputs["out"]) > 35


def test_sizes_that_follow_the_steps() -> None:
    """Resize to the shape of another tensor, as interpolate(size=...) is exported."""
    g = Graph(opset=17)
    x = features(g, "tf", 2, 3)
    lead = g.node("Slice", [g.node("Shape", [x]), g.const(np.array([0])), g.const(np.array([3]))])
    sizes = g.node("Concat", [lead, g.const(np.array([8]))], axis=0)
    g.node("Resize", [x, "", "", sizes], ["out"], mode="nearest")
    g.output("out", 4)
    agree(g.model(), {"x": data(2, 5, 3)})


@pytest.mark.parametrize(
    ("scales", "attributes", "says"),
    [
        ([1.0, 1.0, 2.0, 1.0], {"mode": "linear"}, "only whole scales that repeat each step"),
        ([1.0, 1.0, 1.5, 1.0], {}, "only whole scales that repeat each step"),
        ([1.0, 1.0, 0.5, 1.0], {}, "only whole scales that repeat each step"),
        ([1.0, 1.0, 2.0, 1.0], {"coordinate_transformation_mode": "align_corners"}, "repeat each step"),
        ([1.0, 1.0, 3.0, 1.0], {"coordinate_transformation_mode": "asymmetric"}, "repeat each step"),
        ([2.0, 1.0, 1.0, 1.0], {}, "resizes the batch axis 0"),
        ([1.0, 1.0, 1.0, 2.0], {"mode": "cubic"}, "mode='cubic'"),
        ([1.0, 1.0, 1.0, 2.0], {"coordinate_transformation_mode": "tf_crop_and_resize"}, "tf_crop_and_resize"),
        ([1.0, 1.0, 1.0, 2.0], {"nearest_mode": "up"}, "nearest_mode='up'"),
        ([1.0, 1.0, 1.0, 0.1], {}, "to 0"),
        ([1.0, 1.0, 1.0, 1.5], {"coordinate_transformation_mode": "align_corners"}, "no whole number of elements"),
        ([1.0, 1.0, 1.0, -1.0], {}, "expected numbers above 0"),
        ([1.0, 1.0, 1.0], {}, "lists 3 numbers for 4 axes"),
        ([1.0, 1.0, 1.0, 1e12], {}, "elements; at most"),
        ([1.0, 1.0, 1e5, 1.0], {}, "only whole scales"),
    ],
)
def test_refusals(scales: list[float], attributes: dict[str, Any], says: str) -> None:
    refused_with(QrnnError, decoder(lambda g, x: resized(g, x, scales, 17, **attributes)), says)


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"antialias": 1, "mode": "linear"}, "antialias=1"),
        ({"keep_aspect_ratio_policy": "not_larger"}, "keep_aspect_ratio_policy='not_larger'"),
    ],
)
def test_refusals_of_later_opsets(attributes: dict[str, Any], says: str) -> None:
    g = Graph(opset=18)
    g.node("Identity", [resized(g, features(g, "tf", 2, 3), [1.0, 1.0, 1.0, 2.0], 18, **attributes)], ["out"])
    g.output("out", 4)
    refused_with(QrnnError, g.model(), says)
