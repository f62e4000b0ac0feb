"""Cells that a graph writes out by hand: recognised in every spelling, equal to the node in every bit, refused where an equation differs."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import UnsupportedError
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.onnx_import import import_model
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

from .running import agree, refused_with, runtime
from .written_cells import Spelling, spellings
from .written_graphs import Over, one_step, one_step_node, overs, unrolled, unrolled_node

Arrays = dict[str, np.ndarray[Any, Any]]


def layer_of(model: FloatModel) -> Recurrent:
    [layer] = [layer for layer in model.layers if isinstance(layer, Recurrent)]
    return layer


def assert_same_bits(one: FloatModel, other: FloatModel, inputs: Arrays) -> None:
    """Both have the same weights, and give the same integers for any data."""
    a, b = layer_of(one).directions[0], layer_of(other).directions[0]
    np.testing.assert_array_equal(a.weight_ih, b.weight_ih)
    np.testing.assert_array_equal(a.weight_hh, b.weight_hh)
    np.testing.assert_array_equal(a.bias_ih + a.bias_hh, b.bias_ih + b.bias_hh)
    assert a.activations == b.activations
    # fixed widths: a search for them says nothing about the import
    results = [
        Session(quantize(model, inputs, scheme=Scheme(activations=8, input="8")), "reference").run(inputs)
        for model in (one, other)
    ]
    for name, value in results[0].outputs.items():
        np.testing.assert_array_equal(value, results[1].outputs[name])


@settings(deadline=None, max_examples=25)
@given(spellings(), st.integers(0, 100))
def test_one_step_is_the_node(spelling: Spelling, seed: int) -> None:
    written = one_step(spelling)
    model = import_model(written, "written")
    node = import_model(one_step_node(spelling), "node")
    assert layer_of(model).cell == layer_of(node).cell
    assert model.one_step
    one_step_agrees(written, model, spelling, seed)
    rng = np.random.default_rng(seed)
    assert_same_bits(model, node, {"x": rng.normal(size=(2, 6, spelling.features)).astype(np.float32)})


def one_step_agrees(written: onnx.ModelProto, model: FloatModel, spelling: Spelling, seed: int = 1) -> None:
    """Assert that one step from drawn states is that of ONNX Runtime."""
    rng = np.random.default_rng(seed)
    sizes = {"x": spelling.features, "h": spelling.hidden, "c": spelling.hidden}
    feeds = {i.name: rng.normal(size=(2, sizes[i.name])).astype(np.float32) for i in model.inputs}
    want = runtime(written, feeds)
    got = run_oracle(model, {name: v[:, None] if name == "x" else v for name, v in feeds.items()}).outputs
    assert set(got) == set(want)
    for name, value in want.items():
        np.testing.assert_allclose(got[name].reshape(value.shape), value, atol=1e-4, rtol=1e-4)


@settings(deadline=None, max_examples=25)
@given(spellings(), overs, st.integers(0, 100))
def test_unrolled_is_the_node(spelling: Spelling, over: Over, seed: int) -> None:
    written = unrolled(spelling, over)
    rng = np.random.default_rng(seed)
    feeds = {
        i.name: rng.normal(size=[2 if d.dim_param else d.dim_value for d in i.type.tensor_type.shape.dim]).astype(
            np.float32
        )
        for i in written.graph.input
    }
    model = agree(written, feeds)
    node = import_model(unrolled_node(spelling, over), "node")
    assert layer_of(model).directions[0].reverse == over.reverse
    assert_same_bits(model, node, feeds)


@settings(deadline=None, max_examples=20)
@given(spellings(("LSTM", "GRU")), st.sampled_from(["function", "sign", "missing", "order", "gate"]))
def test_another_equation_is_no_cell(spelling: Spelling, changed: str) -> None:
    """A changed equation is refused, or it is another cell (with Relu, or f = i), and that computes what ONNX Runtime does."""
    written = one_step(spelling, changed)
    if changed in ("function", "order"):
        with contextlib.suppress(UnsupportedError):
            one_step_agrees(written, import_model(written, "changed"), spelling)
    else:
        refused_with(UnsupportedError, written, "no recurrent node")
