"""Operators that move, repeat, pad and join features, alone and one after the other, against ONNX Runtime and in integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schemes import SHORTS

from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.errors import QrnnError, UnsupportedError
from qrnn.model.kinds.concat import Concat
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.dense import Dense
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.onnx_import import import_model
from qrnn.running.session import Session

from .builders import Graph
from .running import agree, data, oracle, refused_with

Build = Callable[[Graph, str], str]
SHAPE = (4, 6)
"""Channels and bands of the value that is moved."""


def moved(build: Build, size: int, opset: int = 17) -> onnx.ModelProto:
    """X [N, T, 24] as [N, 4, T, 6] → ``build`` → as many features as ``size`` of each step → GRU → out, and the moved features, doubled."""
    g = Graph(opset)
    x = g.node("Reshape", [g.input("x", ["n", "t", 24]), g.const(np.array([0, 0, *SHAPE]))])
    y = build(g, g.node("Transpose", [x], perm=[0, 2, 1, 3]))
    y = g.node("Transpose", [y], perm=[2, 0, 1, 3])
    y = g.node("Reshape", [y, g.const(np.array([0, 0, size]))])
    g.node("Mul", [y, g.const(np.float32(2))], ["moved"])
    g.node("Identity", [g.recurrent("GRU", y, size, 5)[0]], ["out"])
    g.output("moved")
    g.output("out", 4)
    return g.model()


def ints(g: Graph, *values: int) -> str:
    return g.const(np.array(values, dtype=np.int64))


def shuffled(g: Graph, x: str) -> str:
    """Channel shuffle in two groups: [N, 4, T, 6] → [N, 2, 2, T, 6] → [N, 2', 2, T, 6] → [N, 4, T, 6]."""
    y = g.node("Reshape", [x, ints(g, 0, 2, 2, -1, 6)])
    y = g.node("Transpose", [y], perm=[0, 2, 1, 3, 4])
    return str(g.node("Reshape", [y, ints(g, 0, 4, -1, 6)]))


def halves_swapped(g: Graph, x: str) -> str:
    a, b = g.node("Split", [x], 2, axis=1)
    return str(g.node("Concat", [b, a], axis=1))


def split_unevenly(g: Graph, x: str) -> str:
    a, _, c = g.node("Split", [x, ints(g, 1, 3, 2)], 3, axis=3)
    return str(g.node("Concat", [c, a], axis=-1))


def sliced(g: Graph, x: str, *parts: tuple[int, int, int, int]) -> str:
    starts, ends, axes, steps = (ints(g, *column) for column in zip(*parts, strict=True))
    return str(g.node("Slice", [x, starts, ends, axes, steps]))


def padded(g: Graph, x: str, pads: list[int], fill: float = 0.0, mode: str = "constant") -> str:
    return str(g.node("Pad", [x, ints(g, *pads), g.const(np.float32(fill))], mode=mode))


def tiled(g: Graph, x: str) -> str:
    y = g.node("Slice", [x, ints(g, 2), ints(g, 3), ints(g, 3)])
    return str(g.node("Tile", [y, ints(g, 1, 1, 1, 3)]))


def expanded(g: Graph, x: str) -> str:
    y = g.node("Slice", [x, ints(g, 2), ints(g, 3), ints(g, 1)])
    return str(g.node("Expand", [y, ints(g, 1, 5, 1, 1)]))


def expanded_by_an_axis(g: Graph, x: str) -> str:
    y = g.node("Slice", [x, ints(g, 2), ints(g, 3), ints(g, 1)])
    y = g.node("Expand", [g.axes_op("Squeeze", y, [1]), ints(g, 2, 1, 1, 1)])
    return str(g.node("Transpose", [y], perm=[1, 0, 2, 3]))


MOVES: dict[str, tuple[Build, int]] = {
    "channel shuffle": (shuffled, 24),
    "halves swapped": (halves_swapped, 24),
    "uneven split": (split_unevenly, 12),
    "slice with a step": (lambda g, x: sliced(g, x, (0, 6, 3, 2)), 12),
    "slice backwards": (lambda g, x: sliced(g, x, (-1, -7, 3, -1)), 24),
    "slices of two axes": (lambda g, x: sliced(g, x, (-3, 1 << 40, 1, 2), (4, 0, 3, -2)), 4),
    "channels picked": (lambda g, x: str(g.node("Gather", [x, ints(g, 3, 0, 0, -1)], axis=1)), 24),
    "bands picked": (lambda g, x: str(g.node("Gather", [x, ints(g, 5, 1)], axis=-1)), 8),
    "zeros around bands": (lambda g, x: padded(g, x, [0, 0, 0, 2, 0, 0, 0, 1]), 36),
    "zeros around channels": (lambda g, x: padded(g, x, [0, 1, 0, 0, 0, 2, 0, 0]), 42),
    "a number around bands": (lambda g, x: padded(g, x, [0, 0, 0, 1, 0, 0, 0, 0], 0.75), 28),
    "bands reflected": (lambda g, x: padded(g, x, [0, 0, 0, 3, 0, 0, 0, 2], mode="reflect"), 44),
    "channels repeated at the edge": (lambda g, x: padded(g, x, [0, 2, 0, 0, 0, 1, 0, 0], mode="edge"), 42),
    "bands dropped and padded": (lambda g, x: padded(g, x, [0, 0, 0, -2, 0, 0, 0, 1]), 20),
    "expanded": (expanded, 30),
    "tiled": (tiled, 12),
    "padded twice": (lambda g, x: padded(g, padded(g, x, [0, 1, 0, 0, 0, 0, 0, 0]), [0, 0, 0, 1, 0, 0, 0, 1]), 40),
    "padded and turned": (lambda g, x: shuffled(g, padded(g, sliced(g, x, (0, 3, 1, 1)), [0, 0, 0, 0, 0, 1, 0, 0])), 24),
    "padded and pooled": (
        lambda g, x: str(g.node("MaxPool", [padded(g, x, [0, 0, 0, 1, 0, 0, 0, 1])], kernel_shape=[1, 2], strides=[1, 2])), 16,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVES)
def test_what_moves_is_what_onnx_runtime_moves(name: str) -> None:
    build, size = MOVES[name]
    agree(moved(build, size), {"x": data(2, 5, 24)})


@pytest.mark.parametrize("first", MOVES)
def test_moves_one_after_the_other_are_one_layer(first: str) -> None:
    """A shuffle behind any move: no second copy of the features, and none at all where a matrix can read the first tensor."""
    build, size = MOVES[first]

    def both(g: Graph, x: str) -> str:
        y = g.node("Reshape", [g.node("Transpose", [build(g, x)], perm=[0, 2, 1, 3]), ints(g, 0, 0, size)])
        y = g.node("Gather", [y, ints(g, *range(size - 1, -1, -1))], axis=2)
        return str(g.axes_op("Unsqueeze", y, [1]))

    model = agree(moved(both, size), {"x": data(2, 5, 24)})
    assert sum(isinstance(layer, Concat) for layer in model.layers) <= 2


def test_identities_make_no_layer() -> None:
    """Split and joined again, shuffled there and back, reversed twice: the matrices read the input itself."""

    def build(g: Graph, x: str) -> str:
        a, b = g.node("Split", [x], 2, axis=3)
        y = shuffled(g, shuffled(g, g.node("Concat", [a, b], axis=3)))
        for _ in range(2):
            y = sliced(g, y, (-1, -7, 3, -1))
        return y

    g = Graph()
    x = g.node("Reshape", [g.input("x", ["n", "t", 24]), ints(g, 0, 0, *SHAPE)])
    y = build(g, g.node("Transpose", [x], perm=[0, 2, 1, 3]))
    y = g.node("Reshape", [g.node("Transpose", [y], perm=[2, 0, 1, 3]), ints(g, 0, 0, 24)])
    g.node("Identity", [g.recurrent("GRU", y, 24, 5)[0]], ["out"])
    g.output("out", 4)
    assert [type(layer) for layer in agree(g.model(), {"x": data(2, 5, 24)}).layers] == [Recurrent]


def test_a_permutation_of_a_permutation_is_one_layer() -> None:
    """Conv reads a shuffle of what another Conv reads shuffled: each gather takes from the input."""

    def build(g: Graph, x: str) -> str:
        once = shuffled(g, x)
        twice = g.node("Gather", [once, ints(g, 2, 0, 3, 1)], axis=1)
        convs = [g.node("Conv", [v, g.random(2, 4, 1, 3)], pads=[0, 1, 0, 1]) for v in (once, twice, once)]
        return str(g.node("Concat", convs, axis=1))

    model = agree(moved(build, 36), {"x": data(2, 5, 24)})
    gathers = [layer for layer in model.layers if isinstance(layer, Concat)]
    assert sum(isinstance(layer, Conv) for layer in model.layers) == 3
    assert [layer.inputs for layer in gathers[:2]] == [("x",), ("x",)]
    assert len(gathers) == 3  # two for the convolutions, one that joins their outputs


@pytest.mark.parametrize("backend", available_backends())
@pytest.mark.parametrize("name", ["zeros around channels", "padded and turned", "slices of two axes"])
def test_backends_move_alike(name: str, backend: str) -> None:
    build, size = MOVES[name]
    x = {"x": data(2, 4, 24)}
    made = quantize(import_model(moved(build, size), "m"), x, SHORTS)
    want = Session(made, "reference").run(x).outputs
    got = Session(made, backend).run(x).outputs
    for output in want:
        np.testing.assert_array_equal(got[output], want[output])


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_random_chains_of_moves(draw: st.DataObject) -> None:
    """Up to five moves of features [N, T, C, B] of drawn sizes; ``kept`` [C, B] says which of the results are no zeros of a padding."""
    g, kept = Graph(), np.ones([draw.draw(st.integers(1, 4)), draw.draw(st.integers(1, 5))], dtype=bool)
    features = kept.size
    y = g.node("Reshape", [g.input("x", ["n", "t", features]), ints(g, 0, 0, *kept.shape)])
    moves = st.sampled_from(["slice", "gather", "pad", "reflect", "edge", "swap", "join", "shuffle", "tile"])
    for _ in range(draw.draw(st.integers(1, 5))):
        axis, move = draw.draw(st.sampled_from([0, 1])), draw.draw(moves)
        at, size = axis + 2, kept.shape[axis]
        if move == "slice":
            start, step = draw.draw(st.integers(-size, size - 1)), draw.draw(st.sampled_from([1, 2, -1, -2]))
            y = sliced(g, y, (start, 1 << 40 if step > 0 else -(1 << 40), at, step))
            kept = np.take(kept, np.arange(size)[start::step], axis)
        elif move == "gather":
            picks = draw.draw(st.lists(st.integers(-size, size - 1), min_size=1, max_size=6))
            y, kept = g.node("Gather", [y, ints(g, *picks)], axis=at), np.take(kept, picks, axis)
        elif move in ("pad", "reflect", "edge"):
            edges = [(0, 0), (0, 0)]
            most = size - 1 if move == "reflect" else 2
            edges[axis] = draw.draw(st.integers(0, most)), draw.draw(st.integers(0, most))
            (a, b), (c, d) = edges
            y = padded(g, y, [0, 0, a, c, 0, 0, b, d], mode="constant" if move == "pad" else move)
            kept = np.pad(kept, edges) if move == "pad" else np.pad(kept, edges, mode=move)  # type: ignore[call-overload]
        elif move == "swap":
            y, kept = g.node("Transpose", [y], perm=[0, 1, 3, 2]), kept.T
        elif move == "join":
            y, kept = g.node("Concat", [y, y], axis=at), np.concatenate([kept, kept], axis)
        elif move == "tile":
            y, kept = g.node("Tile", [y, ints(g, 1, 1, 2 - axis, 1 + axis)]), np.tile(kept, (2 - axis, 1 + axis))
        else:
            kept = kept.reshape(kept.shape[::-1])
            y = g.node("Reshape", [g.node("Reshape", [y, ints(g, 0, 0, -1)]), ints(g, 0, 0, *kept.shape)])
        if kept.size > 400:
            break
    y = g.node("Transpose", [g.node("Reshape", [y, ints(g, 0, 0, kept.size)])], perm=[1, 0, 2])
    g.node("Identity", [g.recurrent("GRU", y, kept.size, 3)[0]], ["out"])
    g.output("out", 4)
    proto, x = g.model(), data(2, 3, features)
    if not kept.any():
        refused_with(UnsupportedError, proto, "nothing but zeros")
        return
    model = agree(proto, {"x": x})
    assert sum(isinstance(layer, Concat) for layer in model.layers) <= 1
    made = quantize(model, {"x": x}, SHORTS)
    want = Session(made, "reference").run({"x": x}).outputs["out"]
    np.testing.assert_array_equal(Session(made, "cpu").run({"x": x}).outputs["out"], want)


def test_constant_zeros_join_features_of_one_step() -> None:
    g = Graph()
    x = g.node("Concat", [g.input("x", [1, 1, 6]), g.const(np.zeros((1, 1, 2), np.float32))], axis=2)
    g.node("Identity", [g.recurrent("GRU", x, 8, 5)[0]], ["out"])
    g.output("out", 4)
    agree(g.model(), {"x": data(1, 1, 6)})


def test_a_number_around_features_folds_into_the_matrix_behind() -> None:
    model = agree(moved(lambda g, x: padded(g, x, [0, 0, 0, 1, 0, 0, 0, 0], -1.5), 28), {"x": data(2, 5, 24)})
    assert not any(
        isinstance(layer, Dense) and layer.weight.shape == (28, 28) and layer.output == "out" for layer in model.layers
    )
    assert np.isfinite(oracle(model, {"x": data(2, 5, 24)})["out"]).all()


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (lambda g, x: str(g.node("Tile", [x, ints(g, 1, 1, 2, 1)])), UnsupportedError, "repeats the time axis 2"),
        (lambda g, x: str(g.node("Tile", [x, ints(g, 2, 1, 1, 1)])), UnsupportedError, "repeats the batch axis 0"),
        (lambda g, x: str(g.node("Concat", [x, x], axis=2)), UnsupportedError, "concatenates along the time axis"),
        (lambda g, x: str(g.node("Split", [x], 2, axis=2)[0]), UnsupportedError, "splits the T axis"),
        (lambda g, x: padded(g, x, [0, 0, 1, 0, 0, 0, 1, 0], mode="reflect"), UnsupportedError, "mode=reflect over batch or time"),
        (lambda g, x: str(g.node("Relu", [sliced(g, padded(g, x, [0, 6, 0, 0, 0, 0, 0, 0]), (0, 4, 1, 1))])), UnsupportedError,
         "reads nothing but zeros"),
    ],
)  # fmt: skip
def test_what_is_refused(build: Build, error: type[QrnnError], says: str) -> None:
    refused_with(error, moved(build, 24), says)


def layout(perm_in: list[int], dims: list[Any], steps: Build, perm_out: list[int]) -> onnx.ModelProto:
    g = Graph()
    x = g.node("Transpose", [g.input("x", dims)], perm=perm_in)
    y = steps(g, x)
    y = g.node("Transpose", [y], perm=perm_out)
    g.node("Identity", [g.recurrent("GRU", y, 6, 5)[0]], ["out"])
    g.output("out", 4)
    return g.model()


LAYOUTS: dict[str, tuple[list[Any], tuple[int, ...], list[int]]] = {
    "[N, T, C]": (["n", "t", 6], (2, 5, 6), [1, 0, 2]),
    "[N, C, T]": (["n", 6, "t"], (2, 6, 5), [2, 0, 1]),
    "[T, N, C]": (["t", "n", 6], (5, 2, 6), [0, 1, 2]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_three_axes(name: str) -> None:
    dims, shape, perm = LAYOUTS[name]
    g = Graph()
    y = g.node("Transpose", [g.input("x", dims)], perm=perm)
    y = g.axes_op("Squeeze", g.axes_op("Unsqueeze", y, [1]), [1])
    g.node("Identity", [g.recurrent("GRU", y, 6, 5)[0]], ["out"])
    g.output("out", 4)
    agree(g.model(), {"x": data(*shape)})


@pytest.mark.parametrize(
    ("dims", "shape", "perm"),
    [
        (["n", 1, "t", 6], (2, 1, 5, 6), [2, 0, 1, 3]),
        (["n", 2, "t", 3], (2, 2, 5, 3), [2, 0, 1, 3]),
        (["n", 2, 3, "w"], (2, 2, 3, 5), [3, 0, 1, 2]),
        (["n", "t", 2, 3], (2, 5, 2, 3), [1, 0, 2, 3]),
        (["t", "n", 3, 2], (5, 2, 3, 2), [0, 1, 3, 2]),
    ],
)
@pytest.mark.parametrize("flat", ["Reshape", "Flatten"])
def test_layouts_of_four_axes(dims: list[Any], shape: tuple[int, ...], perm: list[int], flat: str) -> None:
    g = Graph()
    y = g.node("Transpose", [g.input("x", dims)], perm=perm)
    if flat == "Flatten":  # of the features alone, which stand behind axes of size 1 of their own
        y = g.node("Reshape", [y, ints(g, 0, 0, -1, 1)])
        y = g.axes_op("Squeeze", y, [3])
    else:
        y = g.node("Reshape", [y, ints(g, 0, 0, -1)])
    g.node("Identity", [g.recurrent("GRU", y, 6, 5)[0]], ["out"])
    g.output("out", 4)
    agree(g.model(), {"x": data(*shape)})
