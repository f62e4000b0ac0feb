"""Files with baked batch sizes and numbers of steps: they are taken as files with these axes free, by ONNX Runtime's own results."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn.errors import UnsupportedError
from qrnn.onnx_import import import_model
from tests.onnx_import.builders import Graph, head
from tests.onnx_import.running import agree, data, refused_with

INT = np.int64


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_any_baked_batch(batch: int) -> None:
    model = agree(head("GRU", batch=batch), {"x": data(batch, 7, 4)})
    assert f"input 'x' declares batch size {batch}; any batch size runs" in model.notes


def test_different_batch_sizes_are_refused() -> None:
    g = Graph()
    x, z = g.input("x", [2, "t", 4]), g.input("z", [3, "t", 4])
    for name, value in (("a", x), ("b", z)):
        g.recurrent("GRU", g.node("Transpose", [value], perm=[1, 0, 2]), 4, 5, name=name, outputs=[f"y{name}", ""])
        g.output(f"y{name}", 4)
    refused_with(UnsupportedError, g.model(), "different batch sizes [2, 3]", "dynamic batch")


def stack(batch: int, steps: int, layers: int, both: bool, hidden: int, states: str, features: int) -> onnx.ModelProto:
    """Layers of recurrence as exporters write them with every size fixed: x [N, T, F] → y [N, T, O], and a dense layer over N·T."""
    g, count = Graph(), 2 if both else 1
    y = g.node("Transpose", [g.input("x", [batch, steps, features])], perm=[1, 0, 2])
    width, finals = features, []
    given = g.input("h", [layers * count, batch, hidden]) if states == "input" else ""
    for k in range(layers):
        h = ""
        if states == "zeros":
            h = g.const(np.zeros((count, batch, hidden), np.float32))
        elif states == "learned":
            h = g.const(np.repeat(g.rng.normal(size=(count, 1, hidden)), batch, axis=1).astype(np.float32))
        elif states == "input":
            h = g.slice(given, [k * count], [(k + 1) * count], [0])
        y, last = g.recurrent("GRU", y, width, hidden, name=f"l{k}", h=h, directions=count)
        finals.append(last)
        y = g.node("Transpose", [y], perm=[0, 2, 1, 3])
        width = hidden * count
        y = g.node("Reshape", [y, g.const(np.array([steps, batch, width], INT))])
    y = g.node("Transpose", [y], perm=[1, 0, 2])
    flat = g.node("Reshape", [y, g.const(np.array([-1, width], INT))])
    logits = g.node("Gemm", [flat, g.random(width, features)])
    g.node("Reshape", [logits, g.const(np.array([batch, steps, -1], INT))], ["out"])
    g.output("out")
    g.node("Concat", finals, ["h_n"], axis=0) if layers > 1 else g.node("Identity", finals, ["h_n"])
    g.output("h_n")
    return g.model()


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 5),
    steps=st.integers(2, 6),
    layers=st.integers(1, 3),
    both=st.booleans(),
    hidden=st.integers(1, 5),
    states=st.sampled_from(["none", "zeros", "learned", "input"]),
    features=st.integers(1, 5),
)
def test_sizes_that_may_be_equal(
    batch: int, steps: int, layers: int, both: bool, hidden: int, states: str, features: int
) -> None:
    """Every size is drawn from the same few numbers, so that the batch often equals the layers, the steps or the features."""
    feeds = {"x": data(batch, steps, features)}
    if states == "input":
        feeds["h"] = data(layers * (2 if both else 1), batch, hidden, seed=6)
    agree(stack(batch, steps, layers, both, hidden, states, features), feeds)


@pytest.mark.parametrize("op", ["Add", "Mul", "Sub"])
def test_constants_repeated_over_the_batch(op: str) -> None:
    g = Graph()
    x = g.input("x", [3, 6, 4])
    row = g.rng.uniform(0.5, 1.5, size=(1, 1, 4)).astype(np.float32)
    moved = g.node(op, [x, g.const(np.broadcast_to(row, (3, 6, 4)))])
    g.recurrent("GRU", g.node("Transpose", [moved], perm=[1, 0, 2]), 4, 5, outputs=["y", ""])
    g.output("y", 4)
    agree(g.model(), {"x": data(3, 6, 4)})


def test_constants_that_differ_over_the_batch_are_refused() -> None:
    g = Graph()
    moved = g.node("Add", [g.input("x", [3, 6, 4]), g.random(3, 1, 4)], name="shift")
    g.recurrent("GRU", g.node("Transpose", [moved], perm=[1, 0, 2]), 4, 5, outputs=["y", ""])
    g.output("y", 4)
    refused_with(UnsupportedError, g.model(), "'shift' (Add", "differ along the batch axis", "size 3")


def test_states_that_differ_over_the_batch_are_refused() -> None:
    g = Graph()
    x = g.node("Transpose", [g.input("x", [3, 6, 4])], perm=[1, 0, 2])
    g.recurrent("GRU", x, 4, 5, h=g.random(1, 3, 5), outputs=["y", ""])
    g.output("y", 4)
    refused_with(UnsupportedError, g.model(), "other constants for each of 3 sequences")


def exported_at(steps: int, names: list[str | int], declared: list[str | int]) -> onnx.ModelProto:
    """Build x [t, n, 4] → GRU → Reshape to [steps, -1, 5] → dense, with the shape that the file declares for the Reshape's result."""
    g = Graph()
    y = g.recurrent("GRU", g.input("x", names), 4, 5)[0]
    y = g.node("Transpose", [y], perm=[0, 2, 1, 3])
    y = g.node("Reshape", [y, g.const(np.array([steps, -1, 5], INT))], name="cut")
    g.node("MatMul", [y, g.random(5, 3)], ["out"])
    g.output("out")
    model = g.model()
    info = onnx.helper.make_tensor_value_info(y, onnx.TensorProto.FLOAT, declared)
    model.graph.value_info.append(info)
    return model


def test_steps_that_only_a_reshape_fixes() -> None:
    model = agree(exported_at(7, ["t", "n", 4], [7, "n", 5]), {"x": data(7, 2, 4)})
    assert any("'cut'" in note and "fixes the time axis to 7" in note for note in model.notes)
    agree(exported_at(7, ["t", 2, 4], [7, 2, 5]), {"x": data(7, 2, 4)})


def test_windows_that_a_reshape_cuts_are_refused() -> None:
    """[8, n, 5] taken as [4, 2·n, 5]: the file does not say that the second size is the batch."""
    for declared in (["a", "b", 5], [4, "b", 5]):
        refused_with(UnsupportedError, exported_at(4, ["t", "n", 4], declared), "'cut'", "merges or splits the batch")


def test_a_batch_that_is_cut_is_refused() -> None:
    """[6, 20, 4] taken as [2, 3·20, 4]: the first size is a part of the batch."""
    g = Graph()
    x = g.node("Reshape", [g.input("x", [6, 20, 4]), g.const(np.array([2, 60, 4], INT))], name="cut")
    g.recurrent("GRU", g.node("Transpose", [x], perm=[1, 0, 2]), 4, 5, outputs=["y", ""])
    g.output("y", 4)
    with pytest.raises(UnsupportedError):
        import_model(g.model(), "test")
