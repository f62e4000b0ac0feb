"""ConvTranspose over time, over bands and over both, against ONNX Runtime; U-Nets that crop, join and repeat; what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from schemes import SHORTS

from qrnn.conversion import quantize
from qrnn.errors import QrnnError, UnsupportedError
from qrnn.model.kinds.affine import Affine
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.take_steps import TakeSteps
from qrnn.model.kinds.unstack import Unstack
from qrnn.onnx_import import import_model
from qrnn.running.session import Session

from .builders import Graph
from .running import agree, data, oracle, refused_with, runtime
from .upsampled import features, whole

Build = Callable[[Graph, str], str]


def attributes_of(draw: st.DrawFn, order: str, kernel: list[int], bands: int) -> dict[str, Any]:
    """Any attributes of a node with this kernel: what is not drawn is left out."""
    rank, found = len(kernel), dict[str, Any]()
    several = st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
    strides = draw(st.none() | several) or [1] * rank
    dilations = draw(st.none() | st.lists(st.integers(1, 2), min_size=rank, max_size=rank)) or [1] * rank
    more = [draw(st.integers(0, max(s, d) - 1)) for s, d in zip(strides, dilations, strict=True)]
    found |= {"strides": strides} if strides != [1] * rank or draw(st.booleans()) else {}
    found |= {"dilations": dilations} if dilations != [1] * rank or draw(st.booleans()) else {}
    found |= {"output_padding": more} if any(more) else {}
    found |= {"kernel_shape": kernel} if draw(st.booleans()) else {}
    kind = draw(st.sampled_from(["", "pads", "auto", "shape"]))
    if kind == "pads":
        found["pads"] = draw(st.lists(st.integers(0, 2), min_size=2 * rank, max_size=2 * rank))
    elif kind == "auto":
        found["auto_pad"] = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"]))
    elif kind == "shape" and order == "f":
        full = strides[0] * (bands - 1) + (kernel[0] - 1) * dilations[0] + 1 + more[0]
        found["output_shape"] = [draw(st.integers(max(1, full - 3), full + 2))]
        found |= {"auto_pad": draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))} if draw(st.booleans()) else {}
    return found


def drawn(draw: st.DrawFn) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A graph with one ConvTranspose that ONNX Runtime takes."""
    order = draw(st.sampled_from(["t", "f", "tf", "ft"]))
    groups, channels = draw(st.sampled_from([(1, 1), (1, 3), (2, 2), (2, 4), (3, 3)]))
    rows, bands = draw(st.integers(1, 3)), 1 if order == "t" else draw(st.integers(1, 5))
    kernel = draw(st.lists(st.integers(1, 4), min_size=len(order), max_size=len(order)))
    attributes = attributes_of(draw, order, kernel, bands) | ({"group": groups} if groups > 1 else {})
    g = Graph(opset=draw(st.sampled_from([11, 17, 21])))
    inputs = [g.random(channels, rows, *kernel), *([g.random(rows * groups)] if draw(st.booleans()) else [])]
    feeds = {"x": data(2, draw(st.integers(1, 6)), 3)}
    try:
        proto = whole(
            g, order, features(g, order, channels, bands), "ConvTranspose", inputs, channels, bands, feeds, **attributes
        )
        runtime(proto, feeds)
    except Exception:  # noqa: BLE001  # what ONNX Runtime refuses, such as pads that leave nothing
        assume(False)
    return proto, feeds


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_attributes(data: st.DataObject) -> None:
    proto, feeds = data.draw(st.composite(drawn)())
    try:
        agree(proto, feeds)
    except UnsupportedError:
        refused_with(UnsupportedError, proto, "no tap reaches")


def decoder(build: Build, channels: int = 4, bands: int = 9, order: str = "tf") -> onnx.ModelProto:
    """[N, C, T, B] of a GRU → ``build`` → out."""
    g = Graph(opset=17)
    g.node("Identity", [build(g, features(g, order, channels, bands))], ["out"])
    g.output("out", 4)
    return g.model()


def cut(g: Graph, y: str, steps: int, axis: int = 2) -> str:
    """Cut off the last steps of y, as causal layers do."""
    return str(g.node("Slice", [y, g.const(np.array([0])), g.const(np.array([-steps])), g.const(np.array([axis]))]))


def norm(g: Graph, y: str, channels: int) -> str:
    scale = g.const(np.linspace(0.5, 2, channels, dtype=np.float32))
    return str(g.node("BatchNormalization", [y, *(g.random(channels) for _ in range(3)), scale]))


def block(g: Graph, x: str, taps: int = 2, dilation: int = 2, groups: int = 2, before: bool = False) -> str:
    """Causal over time, strided over bands, and normalized; 9 bands become 17."""
    y = g.node(
        "ConvTranspose", [x, g.random(4, 6 // groups, taps, 5), g.random(6)], strides=[1, 2], pads=[0, 2, 0, 2], group=groups,
        dilations=[dilation, 1],
    )  # fmt: skip
    y = norm(g, y, 6) if before else y
    y = cut(g, y, dilation * (taps - 1))
    return str(g.node("PRelu", [y if before else norm(g, y, 6), g.random(6, 1, 1)]))


def steps_of(session: Session, x: Any) -> Any:
    """The rows of the output that a stream gives for one sequence."""
    stream, rows = session.stream(), []
    for frame in x:
        out = stream.step({"x": frame[None]})["out"][0]
        many = out if session.model.step_rows["out"] > 1 else out[None]
        rows.extend(many[: stream.lengths["out"][0]])
    rest = stream.finish()
    return np.array([*rows, *rest.outputs["out"][0, : rest.lengths["out"][0]]])


def streams_agree(proto: onnx.ModelProto, steps: int = 9) -> None:
    feeds = {"x": data(2, steps, 3)}
    model = agree(proto, feeds)
    made = quantize(model, feeds, SHORTS)
    for backend in ("reference", "cpu"):
        session = Session(made, backend)
        want = session.run(feeds).outputs["out"]
        np.testing.assert_array_equal(steps_of(session, feeds["x"][0]), want[0])
    np.testing.assert_array_equal(Session(made, "reference").run(feeds).outputs["out"], want)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("before", [False, True])
def test_a_causal_block_is_one_convolution(before: bool, groups: int) -> None:
    """The crop takes padding away, and the normalization becomes a part of the weights, though a band is cut off."""
    proto = decoder(lambda g, x: block(g, x, groups=groups, before=before))
    model = agree(proto, {"x": data(2, 7, 3)})
    convs = [layer for layer in model.layers if isinstance(layer, Conv)]
    assert len(convs) == 1
    assert (convs[0].time.before, convs[0].time.after) == (2, 0)
    assert not any(isinstance(layer, (Affine, TakeSteps)) for layer in model.layers)
    assert model.length_rules[model.outputs[0].parts[0][0]] == model.length_rules["x"]
    streams_agree(proto)


def unet(g: Graph, x: str) -> str:
    """Two levels of strided convolutions over bands, with skip connections that are added and joined by channel."""
    down = g.node("Conv", [x, g.random(6, 4, 2, 3)], strides=[1, 2], pads=[1, 1, 0, 1])  # 9 → 5
    deep = g.node("Conv", [down, g.random(6, 1, 2, 3)], strides=[1, 2], pads=[1, 1, 0, 1], group=6)  # 5 → 3
    up = cut(g, g.node("ConvTranspose", [deep, g.random(6, 1, 2, 3)], strides=[1, 2], pads=[0, 1, 0, 1], group=6), 1)
    up = g.node("Add", [norm(g, up, 6), down])
    both = g.node("Concat", [up, down], axis=1)
    y = g.node("ConvTranspose", [both, g.random(12, 4, 3, 3)], strides=[1, 2], pads=[1, 1, 1, 1])
    return str(g.node("Add", [y, x]))


def test_a_u_net_over_bands() -> None:
    streams_agree(decoder(unet))


def test_the_order_of_the_axes_does_not_matter() -> None:
    def build(g: Graph, x: str) -> str:
        y = g.node(
            "ConvTranspose", [x, g.random(4, 2, 3, 2), g.random(2)], strides=[2, 1], dilations=[1, 3], pads=[1, 0, 0, 0]
        )
        return cut(g, y, 3, axis=3)

    streams_agree(decoder(build, order="ft"))


def over_time(build: Build) -> onnx.ModelProto:
    g = Graph(opset=17)
    g.node("Transpose", [build(g, features(g, "t", 4, 1))], ["out"], perm=[0, 2, 1])
    g.output("out", 3)
    return g.model()


def masked(g: Graph, x: str) -> str:
    """An encoder of stride 2, a mask, and a decoder that adds overlapping frames of 4 samples, as Conv-TasNet has them."""
    frames = g.node("Conv", [x, g.random(6, 4, 4)], strides=[2], pads=[2, 2])
    mask = g.node("Sigmoid", [g.node("Conv", [frames, g.random(6, 6, 3)], pads=[2, 0])])
    return str(g.node("ConvTranspose", [g.node("Mul", [frames, mask]), g.random(6, 1, 4)], strides=[2], pads=[1, 1]))


def vocoder(g: Graph, x: str) -> str:
    """Strides of 3 and 2 over time, with a residual around a convolution at the rate in between."""
    y = g.node("LeakyRelu", [g.node("ConvTranspose", [x, g.random(4, 4, 6), g.random(4)], strides=[3], pads=[1, 2])])
    y = g.node("Add", [y, g.node("Conv", [y, g.random(4, 4, 3)], pads=[1, 1])])
    return str(g.node("ConvTranspose", [y, g.random(4, 2, 3)], strides=[2], output_padding=[1]))


def cut_by_slices(g: Graph, x: str) -> str:
    return cut(g, g.node("ConvTranspose", [x, g.random(4, 2, 5)], strides=[3]), 2)


@pytest.mark.parametrize("build", [masked, vocoder, cut_by_slices])
def test_strides_over_time(build: Build) -> None:
    proto = over_time(build)
    streams_agree(proto)
    assert any(isinstance(layer, Unstack) for layer in import_model(proto, "test").layers)


def test_a_ragged_batch_has_the_steps_of_each_sequence() -> None:
    proto = over_time(vocoder)
    model, x = import_model(proto, "test"), data(2, 7, 3)
    made, lengths = quantize(model, {"x": x}, SHORTS), np.array([7, 3])
    session = Session(made, "cpu")
    found = session.run({"x": x}, lengths)
    for n, length in enumerate(lengths):
        alone = session.run({"x": x[n : n + 1, :length]})
        assert (
            found.lengths["out"][n]
            == alone.lengths["out"][0]
            == runtime(proto, {"x": x[n : n + 1, :length]})["out"].shape[1]
        )
        np.testing.assert_array_equal(found.outputs["out"][n, : found.lengths["out"][n]], alone.outputs["out"][0])
    assert oracle(model, {"x": x})["out"].shape == runtime(proto, {"x": x})["out"].shape


def shuffled(g: Graph, x: str, form: str) -> str:
    """A convolution whose channels become bands: two for each."""
    y = g.node("Conv", [x, g.random(6, 4, 1, 3)], pads=[0, 1, 0, 1])
    shape = {"inner": [0, 3, 2, -1, 9], "outer": [0, 2, 3, -1, 9]}[form]
    y = g.node("Reshape", [y, g.const(np.array(shape))])
    y = g.node("Transpose", [y], perm=[0, 1, 3, 4, 2] if form == "inner" else [0, 2, 3, 4, 1])
    return str(g.node("Reshape", [y, g.const(np.array([0, 3, -1, 18]))]))


@pytest.mark.parametrize("form", ["inner", "outer"])
def test_channels_that_become_bands(form: str) -> None:
    """A sub-pixel convolution over frequency moves features alone."""
    streams_agree(decoder(lambda g, x: shuffled(g, x, form)))


@pytest.mark.parametrize("time", [False, True])
def test_two_axes_within_a_step(time: bool) -> None:
    """Images [N · T, C, H, W], or [N, C, T, H, W] with a kernel over time too, of which the last band of each axis is cut off."""
    g = Graph(opset=17)
    x = features(g, "f", 4, 6)
    if time:
        x = g.node("Transpose", [g.node("Reshape", [x, g.const(np.array([0, 0, 4, 2, 3]))])], perm=[0, 2, 1, 3, 4])
        y = g.node(
            "ConvTranspose",
            [x, g.random(4, 2, 2, 3, 3), g.random(4)],
            strides=[1, 2, 2],
            pads=[0, 1, 1, 0, 1, 1],
            group=2,
        )
        y = norm(g, cut(g, y, 1), 4)
        g.node("Reshape", [g.node("Transpose", [y], perm=[0, 2, 1, 3, 4]), g.const(np.array([0, 0, -1]))], ["out"])
    else:
        images = g.node("Reshape", [x, g.const(np.array([-1, 4, 2, 3]))])
        y = g.node(
            "ConvTranspose", [images, g.random(4, 2, 3, 2)], strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 2]
        )
        lead = g.node("Slice", [g.node("Shape", [x]), g.const(np.array([0])), g.const(np.array([2]))])
        g.node("Reshape", [y, g.node("Concat", [lead, g.const(np.array([-1]))], axis=0)], ["out"])
    g.output("out", 3)
    streams_agree(g.model(), 5)


@pytest.mark.parametrize(
    ("order", "shape", "attributes", "says"),
    [
        ("tf", [4, 2, 1, 1], {"strides": [1, 2], "auto_pad": "SAME_UPPER"}, "no tap reaches"),
        ("tf", [4, 2, 1, 3], {"strides": [1, 0]}, "strides holds 0"),
        ("tf", [4, 2, 1, 3], {"pads": [0, -1, 0, 0]}, "pads holds -1"),
        ("tf", [4, 2, 1, 3], {"pads": [0, 9, 0, 12]}, "leave nothing of axis 3"),
        ("tf", [4, 2, 1, 3], {"output_padding": [0, 1]}, "expected less than the stride"),
        ("tf", [4, 2, 1, 3], {"output_shape": [7, 20]}, "fixes how many steps come out"),
        ("tf", [4, 2, 1, 3], {"kernel_shape": [1, 2]}, "W has the kernel"),
        ("tf", [4, 2, 1, 3], {"group": 3}, "does not fit group=3"),
        ("tf", [3, 2, 1, 3], {}, "does not fit"),
        ("tf", [4, 2, 1, 3], {"auto_pad": "SAME"}, "auto_pad='SAME'"),
        ("tf", [4, 2, 1, 3], {"strides": [1, 2, 2]}, "lists 3 numbers"),
        ("tf", [4, 2, 3], {}, "does not fit its input"),
        ("tf", [4, 2, 1, 3], {"dilations": [1, 65536]}, "reads inputs too far from each other: window"),
        ("tf", [4, 2, 1, 1], {"strides": [65536, 65536]}, "bytes"),
    ],
)
def test_refusals(order: str, shape: list[int], attributes: dict[str, Any], says: str) -> None:
    proto = decoder(lambda g, x: g.node("ConvTranspose", [x, g.random(*shape)], **attributes), order=order)
    refused_with(QrnnError, proto, says)
