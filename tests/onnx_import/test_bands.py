"""Bands that a graph moves into the batch and back around recurrent nodes, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn.equations.oracle import run_oracle
from qrnn.errors import UnsupportedError
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.over_bands import OverBands
from qrnn.model.kinds.per_band import PerBand
from qrnn.onnx_import import import_model, load_onnx

from .builders import Graph
from .running import agree, data, refused_with, runtime
from .test_cropping import ints, steps_of

SHARED = Path(__file__).parents[3] / "shared"
F, C, H = 4, 3, 2
N, T = 2, 6

LAYOUTS: dict[str, str] = {"NTFC": "ntfc", "NCTF": "nctf", "NTCF": "ntcf", "TNFC": "tnfc", "FNTC": "fntc"}
"""The axes of the graph input by the letters of batch, time, bands and channels."""

SIZES = {"n": N, "t": T, "f": F, "c": C}


class Bands:
    """A graph under construction, whose values have axes by the letters of `SIZES`."""

    def __init__(self, layout: str, baked: str, seed: int, batch: int = N) -> None:
        self.g = Graph(opset=17, seed=seed)
        self.sizes = SIZES | {"n": batch}
        self.layout = self.axes = layout
        self.baked = baked
        self.x = self.g.input("x", [self.sizes[a] if a in baked + "fc" else a for a in layout])
        self.value = self.x

    def dims(self, kind: str, letters: list[str]) -> str:
        """Return a target of merged letters, with sizes as numbers, computed by Shape and Mul, or as -1 in the place of the first open one."""
        parts, open_left = [], True
        for group in letters:
            steps = [a for a in group if a in "nt" and a not in self.baked]
            number = int(np.prod([self.sizes[a] for a in group if a not in steps]))
            if not steps:
                parts.append(ints(self.g, number))
            elif kind == "minus" and open_left:
                parts, open_left = [*parts, ints(self.g, -1)], False
            else:
                size = None if number == 1 else ints(self.g, number)
                for a in steps:
                    own = steps_of(self.g, self.x, self.layout.index(a))
                    size = own if size is None else self.g.node("Mul", [size, own])
                parts.append(size)
        return str(self.g.node("Concat", parts, axis=0))

    def move(self, order: str) -> None:
        """Transpose to another order of the axes."""
        if order != self.axes:
            self.value = self.g.node("Transpose", [self.value], perm=[self.axes.index(a) for a in order])
            self.axes = order

    def regroup(self, kind: str, *letters: str) -> None:
        """Reshape to merged letters."""
        self.value = self.g.node("Reshape", [self.value, self.dims(kind, list(letters))])

    def recurrent(self, op: str, features: int, directions: int, name: str, zeros: bool) -> None:
        """A node over axis 0 of [steps, rows, C], and [steps, rows, D·H] after it."""
        h = c = ""
        if zeros:
            rows = steps_of(self.g, self.value, 1)
            shape = self.g.node("Concat", [ints(self.g, directions), rows, ints(self.g, H)], axis=0)
            h = c = self.g.node("ConstantOfShape", [shape])
        y = self.g.recurrent(
            op, self.value, features, H, name, h=h, c=c if op == "LSTM" else "", directions=directions
        )[0]
        y = self.g.node("Transpose", [y], perm=[0, 2, 1, 3])
        self.value = self.g.node("Reshape", [y, ints(self.g, 0, 0, directions * H)])

    def linear(self, inputs: int, outputs: int) -> None:
        """One matrix for each row."""
        product = self.g.node("MatMul", [self.value, self.g.random(inputs, outputs)])
        self.value = self.g.node("Add", [product, self.g.random(outputs)])


def dual_path(
    layout: str,
    kind: str,
    baked: str,
    op: str,
    order: str,
    ways: tuple[int, int],
    zeros: bool,
    seed: int,
    batch: int = N,
) -> onnx.ModelProto:
    """X → a recurrent node over bands, Linear, back, LayerNormalization, Add → one over time for each band, Linear, back, Add → Linear."""
    made = Bands(LAYOUTS[layout], baked, seed, batch)
    g = made.g
    made.move("ntfc")
    residual = made.value
    outer = order[0] + order[1]
    made.move(outer + "fc")
    made.regroup(kind, outer, "f", "c")
    made.value = g.node("Transpose", [made.value], perm=[1, 0, 2])
    made.recurrent(op, C, ways[0], "intra", zeros)
    made.value = g.node("Transpose", [made.value], perm=[1, 0, 2])
    made.linear(ways[0] * H, C)
    made.regroup(kind, outer[0], outer[1], "f", "c")
    made.move("ntfc")
    made.value = g.node("LayerNormalization", [made.value, g.random(F, C), g.random(F, C)], axis=-2)
    made.value = residual = g.node("Add", [made.value, residual])
    rows = order[2] + order[3]
    made.move(f"t{rows}c")
    made.regroup(kind, "t", rows, "c")
    made.recurrent(op, C, ways[1], "inter", zeros)
    made.linear(ways[1] * H, C)
    made.regroup(kind, "t", rows[0], rows[1], "c")
    made.move("ntfc")
    made.value = g.node("Add", [residual, made.value])
    made.regroup(kind, "n", "t", "fc")
    g.node("MatMul", [made.value, g.random(F * C, 3)], ["out"])
    g.output("out", 3)
    return g.model()


def check(proto: onnx.ModelProto, layout: str, batch: int = N) -> Any:
    sizes = SIZES | {"n": batch}
    model = agree(proto, {"x": data(*(sizes[a] for a in LAYOUTS[layout]))})
    kinds = [type(layer) for layer in model.layers]
    assert kinds.count(OverBands) == kinds.count(PerBand) == 1
    assert all(layer.bands == F for layer in model.layers if isinstance(layer, OverBands | PerBand | Conv))
    return model


@settings(deadline=None, max_examples=25)
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    kind=st.sampled_from(["numbers", "minus"]),
    baked=st.sampled_from(["", "n", "t", "nt"]),
    op=st.sampled_from(["GRU", "LSTM", "RNN"]),
    order=st.sampled_from(["ntnf", "tnnf", "ntfn", "tnfn"]),
    ways=st.sampled_from([(1, 1), (2, 1), (2, 2)]),
    zeros=st.booleans(),
    batch=st.sampled_from([1, N]),
    seed=st.integers(0, 9),
)
def test_dual_paths(
    layout: str, kind: str, baked: str, op: str, order: str, ways: tuple[int, int], zeros: bool, batch: int, seed: int
) -> None:
    check(dual_path(layout, kind, baked, op, order, ways, zeros, seed, batch), layout, batch)


def one_step(state: bool) -> onnx.ModelProto:
    """A graph of one step per call: x [1, 1, F, C] → over bands → for each band, with h [1, F, H] given and given back → y."""
    g = Graph(opset=17)
    x = g.input("x", [1, 1, F, C])
    h = g.input("h", [1, F, H]) if state else ""
    over = g.node("Transpose", [g.node("Reshape", [x, ints(g, 1, F, C)])], perm=[1, 0, 2])
    y = g.recurrent("GRU", over, C, H, "intra", directions=2)[0]
    y = g.node("Reshape", [g.node("Transpose", [y], perm=[2, 0, 1, 3]), ints(g, 1, 1, F, 2 * H)])
    rows = g.node("Reshape", [g.node("Transpose", [y], perm=[0, 2, 1, 3]), ints(g, F, 1, 2 * H)])
    y, last = g.recurrent("GRU", g.node("Transpose", [rows], perm=[1, 0, 2]), 2 * H, H, "inter", h=h)
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    y = g.node("Transpose", [g.node("Reshape", [y, ints(g, 1, F, 1, H)])], perm=[0, 2, 1, 3])
    g.node("MatMul", [g.node("Reshape", [y, ints(g, 1, 1, F * H)]), g.random(F * H, 3)], ["y"])
    g.output("y", 3)
    if state:
        g.node("Identity", [last], ["h_out"])
        g.output("h_out", 3)
    return g.model()


def test_one_step_per_call_keeps_the_state_of_each_band() -> None:
    proto = one_step(True)
    model = import_model(proto, "test")
    assert [layer.memory for layer in model.layers if isinstance(layer, PerBand)] == [True]
    x, h, want = data(T, F, C), np.zeros((1, F, H), np.float32), []
    for frame in x:
        given = runtime(proto, {"x": frame[None, None], "h": h})
        want.append(given["y"].reshape(3))
        h = given["h_out"]
    got = run_oracle(model, {"x": x.reshape(1, T, *model.inputs[0].shape)}).outputs
    np.testing.assert_allclose(got["y"].reshape(T, 3), want, atol=1e-5)
    np.testing.assert_allclose(got["h_out"].reshape(F, H), h[0], atol=1e-5)


def test_last_states_of_the_bands_of_a_step_and_of_each_band() -> None:
    g = Graph(opset=17)
    x = g.input("x", ["n", "t", F, C])
    over = g.node("Reshape", [x, ints(g, -1, F, C)])
    _, last = g.recurrent("LSTM", g.node("Transpose", [over], perm=[1, 0, 2]), C, H, "intra", directions=2)[:2]
    n, t = steps_of(g, x, 0), steps_of(g, x, 1)
    last = g.node("Transpose", [last], perm=[1, 0, 2])
    g.node("Reshape", [last, g.node("Concat", [n, t, ints(g, 2 * H)], axis=0)], ["ends"])
    rows = g.node("Transpose", [x], perm=[1, 0, 2, 3])
    rows = g.node("Reshape", [rows, g.node("Concat", [t, g.node("Mul", [n, ints(g, F)]), ints(g, C)], axis=0)])
    _, h, c = g.recurrent("LSTM", rows, C, H, "inter", directions=2)
    for name, value in (("h", h), ("c", c)):
        value = g.node("Reshape", [value, g.node("Concat", [ints(g, 2), n, ints(g, F, H)], axis=0)])
        g.node("Transpose", [value], [name], perm=[1, 0, 2, 3])
        g.output(name, 4)
    g.output("ends", 3)
    agree(g.model(), {"x": data(N, T, F, C)})


def rows_of(build: Callable[[Graph, str], str]) -> onnx.ModelProto:
    """X [n, t, F, C] → a node for each band → what ``build`` makes of its rows [N·F, T, H] → out."""
    g = Graph(opset=17)
    x = g.input("x", ["n", "t", F, C])
    n, t = steps_of(g, x, 0), steps_of(g, x, 1)
    rows = g.node("Transpose", [x], perm=[0, 2, 1, 3])
    rows = g.node("Reshape", [rows, g.node("Concat", [g.node("Mul", [n, ints(g, F)]), t, ints(g, C)], axis=0)])
    y = g.recurrent("GRU", g.node("Transpose", [rows], perm=[1, 0, 2]), C, H)[0]
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    g.node("Identity", [build(g, y)], ["out"])
    g.output("out", 3)
    return g.model()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda g, y: y, "output 'out' [N·4, T, 2] merges the batch and features"),
        (lambda g, y: g.node("ReduceMean", [y], axes=[0]), "an axis of which batch and features are merged to"),
        (lambda g, y: g.slice(y, [1], [3], [0]), "slices the merged N·4 axis 0"),
        (lambda g, y: g.node("Concat", [y, y], axis=0), "concatenates along the merged N·4 axis"),
        (lambda g, y: g.axes_op("Squeeze", y, [0]), "which batch and features are merged to"),
        (lambda g, y: g.node("Add", [y, g.random(F, 1, 1)]), "along the axis N·4"),
        (lambda g, y: g.recurrent("GRU", y, H, H, "second")[0], "is used both as batch and as time"),
    ],
)  # fmt: skip
def test_refused(build: Callable[[Graph, str], str], words: str) -> None:
    refused_with(UnsupportedError, rows_of(build), words)


@pytest.mark.skipif(not (SHARED / "models").is_dir(), reason="the shared models are not here")
def test_the_shared_dual_path() -> None:
    path = SHARED / "models/whole/fsdd_dualpath.onnx"
    model = load_onnx(path)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["Conv", "OverBands", "Conv", "LayerNorm", "Add", "PerBand", "Conv", "Add", "Dense"]
    agree(onnx.load(path), {"x": data(2, 5, 32)})
