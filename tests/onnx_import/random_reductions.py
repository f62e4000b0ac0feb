"""Draw one reduction or pool at random, over axes of a step and over time, in any order of the axes, with data for it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx
from hypothesis import strategies as st

from qrnn.onnx_import.operators.reductions import FUNCTIONS

from .builders import Graph
from .running import Arrays

REDUCE = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")
OPSETS = (11, 13, 18)
"""Axes are an attribute of all four, an input of ReduceSum, and an input of all four."""

CHANNELS, BANDS = 3, 4


class RandomNode(NamedTuple):
    """A model, its input x [N, T, C · B], and what was drawn."""

    model: onnx.ModelProto
    inputs: Arrays
    description: str


def started(opset: int, ordered: list[int]) -> tuple[Graph, str]:
    """Return a graph of x [N, T, C · B] with a GRU, which says what its axes are, and x as [N, T, C, B] with its axes in another order."""
    g = Graph(opset)
    x = g.input("x", ["n", "t", CHANNELS * BANDS])
    by_time = g.node("Transpose", [x], perm=[1, 0, 2])
    g.node("Identity", [g.recurrent("GRU", by_time, CHANNELS * BANDS, 2)[0]], ["h"])
    g.output("h", 4)
    image = g.node("Reshape", [x, g.const(np.array([0, 0, CHANNELS, BANDS]))])
    return g, g.node("Transpose", [image], perm=ordered)


def finished(draw: st.DrawFn, g: Graph, rank: int, description: str, least: int = 1) -> RandomNode:
    g.output("y", rank)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
    size, steps = draw(st.integers(1, 3), label="batch"), draw(st.integers(least, 7), label="steps")
    x = rng.uniform(-3, 3, (size, steps, CHANNELS * BANDS)).astype(np.float32)
    return RandomNode(g.model(), {"x": x}, f"{description}, N={size}, T={steps}")


@st.composite
def random_reductions(draw: st.DrawFn) -> RandomNode:
    op, opset = draw(st.sampled_from([*FUNCTIONS]), label="operator"), draw(st.sampled_from(OPSETS), label="opset")
    ordered = draw(st.permutations(range(4)), label="axes in the order")
    if op not in REDUCE:
        ordered = [0, *(axis for axis in ordered if axis)]
    g, image = started(opset, list(ordered))
    if op not in REDUCE:
        g.node(op, [image], ["y"], name="node")
        return finished(draw, g, 4, f"{op}-{opset} of {ordered}")
    batch = ordered.index(0)
    axes = draw(st.sets(st.sampled_from([k for k in range(4) if k != batch])), label="axes")
    given = [k - 4 * draw(st.booleans(), label="negative") for k in draw(st.permutations(sorted(axes)), label="order")]
    attributes: dict[str, Any] = {}
    keep = draw(st.sampled_from([None, 0, 1]), label="keepdims")
    if keep is not None:
        attributes["keepdims"] = keep
    inputs = [image]
    as_input = opset >= (13 if op == "ReduceSum" else 18)
    if as_input and not given:
        attributes["noop_with_empty_axes"] = 1
        inputs += [""] if draw(st.booleans(), label="no axes") else [g.const(np.array([], np.int64))]
    elif as_input:
        inputs.append(g.const(np.array(given, np.int64)))
        if draw(st.booleans(), label="noop given"):
            attributes["noop_with_empty_axes"] = draw(st.integers(0, 1), label="noop")
    elif given:
        attributes["axes"] = given
    else:
        given = [k for k in range(4) if k != batch][:1]
        attributes["axes"] = given
    g.node(op, inputs, ["y"], name="node", **attributes)
    kept = 4 if keep != 0 else 4 - len(given)
    return finished(draw, g, kept, f"{op}-{opset} of {ordered}, {given}, {attributes}")


@st.composite
def random_pools(draw: st.DrawFn) -> RandomNode:
    """AveragePool over time, or bands, or both; or over channels as if they were an axis behind the time."""
    opset = draw(st.sampled_from([11, 19]), label="opset")
    ordered = draw(st.sampled_from([[0, 2, 1, 3], [0, 2, 3, 1], [0, 3, 1, 2]]), label="axes in the order")
    g, image = started(opset, ordered)
    sizes = [{1: None, 2: CHANNELS, 3: BANDS}[axis] for axis in ordered[2:]]
    kernel = [draw(st.integers(1, 3), label="taps") for _ in sizes]
    attributes: dict[str, Any] = {"kernel_shape": kernel}
    strides = [draw(st.integers(1, 3), label="stride") for _ in sizes]
    dilations = [1, 1] if opset < 19 else [draw(st.integers(1, 2), label="dilation") for _ in sizes]
    spans = [(taps - 1) * dilation + 1 for taps, dilation in zip(kernel, dilations, strict=True)]
    auto = draw(st.sampled_from([None, "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]), label="auto_pad")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        strides = [1 if size is None else min(pair) for size, *pair in zip(sizes, strides, kernel, strict=True)]
        dilations, spans = [1, 1], kernel
    before = [draw(st.integers(0, taps - 1), label="before") for taps in kernel]  # ONNX Runtime takes no more
    after = [draw(st.integers(0, taps - 1), label="after") for taps in kernel]
    for k, size in enumerate(sizes):
        if size is not None and size + before[k] + after[k] < spans[k]:
            before[k] = after[k] = kernel[k] - 1
    counts = draw(st.integers(0, 1), label="count_include_pad")
    if auto in (None, "NOTSET") and draw(st.booleans(), label="ceil_mode"):
        attributes["ceil_mode"] = 1
        dilations, spans, after = [1, 1], kernel, [0, 0]
        strides = [min(pair) for pair in zip(strides, spans, strict=True)]  # no window lies past the end
        if counts:  # what ceil_mode adds is no padding
            before = [0, 0]
    if auto is not None:
        attributes["auto_pad"] = auto
    if auto == "VALID":
        for k, size in enumerate(sizes):
            if size is not None:
                kernel[k] = min(kernel[k], (size - 1) // dilations[k] + 1)
    if auto in (None, "NOTSET"):
        attributes["pads"] = [*before, *after]
    attributes["strides"] = strides
    if opset >= 19:
        attributes["dilations"] = dilations
    attributes["count_include_pad"] = counts
    g.node("AveragePool", [image], ["y"], name="node", **attributes)
    least = max(
        span for span, size in zip(spans, sizes, strict=True) if size is None
    )  # ONNX Runtime makes an output of fewer, too
    return finished(draw, g, 4, f"AveragePool-{opset} of {ordered}, {attributes}", least)
