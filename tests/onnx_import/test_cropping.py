"""Slices of time behind padding, and sizes of time axes that are not as long as the inputs, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn.errors import UnsupportedError
from qrnn.model.kinds.conv import Conv
from qrnn.onnx_import import import_model

from .builders import Graph
from .running import agree, data, refused_with
from .test_windows import conv

Build = Callable[[Graph, str], str]


def graph(build: Build, channels: int, steps: int | str = "t") -> onnx.ModelProto:
    """X [N, T, 4] as [N, 4, T] → ``build`` → [N, C, T'] → GRU → out."""
    g = Graph(opset=17)
    x = g.node("Transpose", [g.input("x", ["n", steps, 4])], perm=[0, 2, 1])
    y = g.node("Transpose", [build(g, x)], perm=[2, 0, 1])
    g.node("Identity", [g.recurrent("GRU", y, channels, 5)[0]], ["out"])
    g.output("out", 4)
    return g.model()


def ints(g: Graph, *values: int) -> str:
    return str(g.const(np.array(values, dtype=np.int64)))


def sliced(g: Graph, x: str, start: str | int, end: str | int, axis: int = 2) -> str:
    bounds = [ints(g, v) if isinstance(v, int) else v for v in (start, end)]
    return str(g.node("Slice", [x, *bounds, ints(g, axis)]))


def steps_of(g: Graph, x: str, axis: int = 2) -> Any:
    return g.node("Gather", [g.node("Shape", [x]), ints(g, axis)], axis=0)


END = (1 << 63) - 1


@settings(max_examples=30, deadline=None)
@given(
    taps=st.integers(1, 5),
    dilation=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    cut=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    named=st.booleans(),
)
def test_what_padding_made_is_cut_off(
    taps: int, dilation: int, pads: tuple[int, int], cut: tuple[int, int], named: bool
) -> None:
    span = (taps - 1) * dilation + 1
    before, after = (p % span for p in pads)
    first, last = cut[0] % (before + 1), cut[1] % (after + 1)

    def build(g: Graph, x: str) -> str:
        y = g.node("Relu", [conv(g, x, [3, 4, taps], pads=[before, after], dilations=[dilation])])
        end: str | int = -last if last else END
        if named and last:
            end = g.node("Sub", [steps_of(g, y), ints(g, last)])
        return sliced(g, y, first, end)

    model = agree(graph(build, 3), {"x": data(2, 19, 4)})
    (layer,) = (layer for layer in model.layers if isinstance(layer, Conv))
    assert (layer.time.before, layer.time.after) == (before - first, after - last)


@pytest.mark.parametrize("steps", ["t", 12])
def test_as_many_steps_as_the_input_has(steps: str | int) -> None:
    """y[..., :x.shape[-1]] of a convolution that is padded at both ends."""
    model = graph(lambda g, x: sliced(g, conv(g, x, [3, 4, 5], pads=[4, 4]), 0, steps_of(g, x)), 3, steps)
    layer = agree(model, {"x": data(2, 12, 4)}).layers[0]
    assert isinstance(layer, Conv)
    assert (layer.time.before, layer.time.after) == (4, 0)


def test_a_number_of_steps_as_exported() -> None:
    model = graph(lambda g, x: sliced(g, conv(g, x, [3, 4, 5], pads=[4, 4]), 0, 12), 3, 12)
    assert agree(model, {"x": data(2, 12, 4)}).layers[0].time.after == 0  # type: ignore[attr-defined]


def test_a_residual_around_what_is_cut_off() -> None:
    def build(g: Graph, x: str) -> str:
        for dilation in (1, 2, 4):
            pad = 2 * dilation
            y = sliced(g, conv(g, x, [4, 4, 3], pads=[pad, pad], dilations=[dilation]), 0, -pad)
            x = g.node("Add", [g.node("Relu", [y]), x])
        return x

    model = agree(graph(build, 4), {"x": data(2, 9, 4)})
    assert [layer.time.after for layer in model.layers if isinstance(layer, Conv)] == [0, 0, 0]


def test_a_chain_longer_than_pythons_stack() -> None:
    def build(g: Graph, x: str) -> str:
        y = conv(g, x, [4, 4, 3], pads=[1, 1])
        for _ in range(2000):
            y = g.node("Relu", [y])
        return sliced(g, y, 0, -1)

    model = import_model(graph(build, 4), "chain")
    assert [layer.time.after for layer in model.layers if isinstance(layer, Conv)] == [0]


def test_what_reads_all_steps_keeps_them() -> None:
    """The steps that are cut off for one reader are there for another."""
    g = Graph(opset=17)
    x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[0, 2, 1])
    y = conv(g, x, [3, 4, 3], pads=[2, 2])
    g.node("Transpose", [y], ["all"], perm=[0, 2, 1])
    g.output("all", 3)
    g.node(
        "Identity", [g.recurrent("GRU", g.node("Transpose", [sliced(g, y, 0, -2)], perm=[2, 0, 1]), 3, 5)[0]], ["out"]
    )
    g.output("out", 4)
    model = agree(g.model(), {"x": data(2, 9, 4)})
    assert sorted(layer.time.after for layer in model.layers if isinstance(layer, Conv)) == [0, 2]


def test_a_reshape_to_the_steps_of_a_stride() -> None:
    def build(g: Graph, x: str) -> str:
        y = conv(g, x, [4, 4, 3], pads=[1, 1], strides=[2])
        lead = g.node("Concat", [steps_of(g, y, 0), ints(g, 2, 2), steps_of(g, y)], axis=0)
        return str(g.node("Reshape", [g.node("Reshape", [y, lead]), ints(g, 0, 4, -1)]))

    agree(graph(build, 4), {"x": data(2, 9, 4)})


def test_both_directions_behind_a_stride() -> None:
    """The target of the Reshape that joins both directions copies sizes, as PyTorch writes it."""
    g = Graph(opset=17)
    x = g.node("Transpose", [g.input("x", ["n", "t", 4])], perm=[0, 2, 1])
    y = g.node("Transpose", [conv(g, x, [3, 4, 3], strides=[2])], perm=[2, 0, 1])
    h = g.node(
        "Transpose", [g.recurrent("GRU", y, 3, 5, directions=2, direction="bidirectional")[0]], perm=[0, 2, 1, 3]
    )
    g.node("Reshape", [h, ints(g, 0, 0, -1)], ["out"])
    g.output("out", 3)
    agree(g.model(), {"x": data(2, 9, 4)})


@pytest.mark.parametrize(
    "build",
    [
        lambda g, x: sliced(g, x, 1, END),
        lambda g, x: sliced(g, conv(g, x, [4, 4, 3], pads=[1, 1]), 0, -2),
        lambda g, x: sliced(g, conv(g, x, [4, 4, 3], pads=[1, 1], strides=[2]), 0, -1),
        lambda g, x: sliced(g, conv(g, x, [4, 4, 3], pads=[2, 0]), -3, END),
    ],
)
def test_other_steps_than_those_of_padding_are_left_out_by_a_layer(build: Build) -> None:
    model = agree(graph(build, 4), {"x": data(2, 9, 4)})
    assert any(type(layer).__name__ in ("TakeSteps", "LastSteps") for layer in model.layers)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda g, x: g.node("Reshape", [conv(g, x, [4, 4, 3], pads=[2, 2]), g.node("Shape", [x])]),
            ["merges or splits"],
        ),
    ],
)
def test_refused(build: Build, words: list[str]) -> None:
    refused_with(UnsupportedError, graph(build, 4), *words)
