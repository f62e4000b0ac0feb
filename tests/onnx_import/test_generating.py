"""Graphs of whole sequences and graphs of one step per call, with their states as inputs and outputs, generate alike."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import qrnn
from qrnn.errors import DataError
from qrnn.onnx_import import import_model

from .builders import Graph

V, E, H = 9, 4, 6


def language(op: str, one_step: bool) -> onnx.ModelProto:
    """Ids → embedding → cell → logits; with ``one_step`` one token a call, with the states in and out."""
    g = Graph()
    ids = g.input("ids", ["n", 1 if one_step else "t"], TensorProto.INT64)
    states = [g.input(s, [1, "n", H]) for s in ("hc" if op == "LSTM" else "h")] if one_step else []
    x = g.node(
        "Transpose",
        [g.node("Gather", [g.const(3.0 * g.rng.normal(size=(V, E)).astype(np.float32)), ids])],
        perm=[1, 0, 2],
    )
    h, c = [*states, "", ""][:2]
    y, *after = g.recurrent(op, x, E, H, h=h, c=c)
    y = g.node("Transpose", [g.axes_op("Squeeze", y, [1])], perm=[1, 0, 2])
    g.node("MatMul", [y, g.const(6.0 * g.rng.normal(size=(H, V)).astype(np.float32))], ["logits"])
    g.output("logits")
    for name, value in zip(states, after, strict=False):
        g.node("Identity", [value], [f"{name}_after"])
        g.output(f"{name}_after")
    return g.model()


@pytest.mark.parametrize("op", ["GRU", "LSTM"])
def test_both_graphs_generate_alike(op: str) -> None:
    ids = np.random.default_rng(0).integers(0, V, (6, 20))
    whole, step = (
        qrnn.Session(qrnn.quantize(import_model(language(op, one), "m"), {"ids": ids}, qrnn.Scheme(activations=8)))
        for one in (False, True)
    )
    for sampling in (None, qrnn.Sampling(1.5)):
        found = [
            s.generate({"ids": ids[:3, :4]}, [4, 1, 2], steps=12, sampling=sampling, seed=3) for s in (whole, step)
        ]
        np.testing.assert_array_equal(found[0].tokens, found[1].tokens)
        assert len(np.unique(found[0].tokens)) > 2
    # states that are graph inputs begin a sequence
    given = {"h": np.full((1, H), 0.7)} | ({"c": np.full((1, H), -0.4)} if op == "LSTM" else {})
    shapes = {i.name: i.shape for i in step.model.inputs}
    given = {name: v.reshape(1, *shapes[name]) for name, v in given.items()}
    one = step.generate({"ids": ids[:1, :2], **given}, steps=6)
    other = step.generate({"ids": ids[:1, :2]}, steps=6, state=step.initial_state(1, given))
    np.testing.assert_array_equal(one.tokens, other.tokens)
    with pytest.raises(DataError, match="both state= and the graph state input 'h'"):
        step.generate({"ids": ids[:1, :2], **given}, steps=6, state=step.initial_state(1))
