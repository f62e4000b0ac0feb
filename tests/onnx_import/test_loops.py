"""Loop and Scan that run cells over time are the recurrent nodes that they stand for, bit for bit; other loops are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from qrnn.conversion import quantize
from qrnn.errors import ModelFileError, UnsupportedError
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.onnx_import import import_model
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

from .builders import Graph
from .random_loops import FEATURES, HIDDEN, PLAIN, Drawn, as_loop, as_nodes, networks
from .running import agree, data, oracle, runtime


def arrays(drawn: Drawn, steps: int = 7, batch: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(drawn.seed)
    lead = (batch, steps) if drawn.batch_first else (steps, batch)
    found = {"x": rng.normal(size=(*lead, FEATURES)).astype(np.float32)}
    if drawn.given_state:
        for name in ("h_0", "c_0")[: 1 + (drawn.op == "LSTM")]:
            found[name] = rng.uniform(-0.9, 0.9, (batch, HIDDEN)).astype(np.float32)
    return found


@settings(deadline=None, max_examples=30)
@given(networks())
def test_a_loop_is_the_node_that_it_stands_for(drawn: Drawn) -> None:
    feeds = arrays(drawn)
    model = agree(as_loop(drawn), feeds)
    other = agree(as_nodes(drawn), feeds)
    assert [type(layer) for layer in model.layers] == [type(layer) for layer in other.layers]
    batch_first = {**feeds, "x": feeds["x"] if drawn.batch_first else feeds["x"].transpose(1, 0, 2)}
    results = []
    for imported in (model, other):
        quantized = quantize(imported, batch_first, Scheme(input="8", activations=8))
        results.append(Session(quantized, backend="reference").run(batch_first).outputs)
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        np.testing.assert_array_equal(value, results[1][name], err_msg=name)


@settings(deadline=None, max_examples=30)
@given(networks(), st.sampled_from(["decay", "skip", "old"]))
def test_another_equation_is_refused_by_name(drawn: Drawn, change: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        import_model(as_loop(drawn, change), "test")
    text = str(caught.value)
    assert f"({'Scan' if drawn.scan else 'Loop'}): is not recognised as a recurrent layer" in text
    assert "LSTM, GRU or RNN" in text or "carries no state" in text


def test_the_state_of_the_step_before_is_no_output() -> None:
    with pytest.raises(UnsupportedError, match="reads the state 'h' of the step before, beside its cell"):
        import_model(as_loop(PLAIN, "late"), "test")


def test_what_nothing_reads_is_not_asked_for() -> None:
    """A loop collects what cannot be given, and no output depends on it."""
    model = as_loop(replace(PLAIN, backward=True), "late")
    assert [o.name for o in model.graph.output] == ["h_n"]
    agree(model, arrays(PLAIN))


def loop_of(model: onnx.ModelProto) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.op_type in ("Loop", "Scan"))


def body_of(model: onnx.ModelProto) -> onnx.GraphProto:
    return next(a.g for a in loop_of(model).attribute if a.name == "body")


Change = Callable[[onnx.ModelProto], object]


def count(number: int) -> Change:
    """Give a Loop another number of trips."""

    def change(model: onnx.ModelProto) -> None:
        node = loop_of(model)
        model.graph.node.insert(0, helper.make_node("Constant", [], ["trips"], value_int=number))
        node.input[0] = "trips"

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            count(3),
            "it is not known that it reads every step of 'x' once (fix the size t, which the file leaves free, by --set t=3)",
        ),
        (count(1 << 40), "nothing bounds its number of iterations"),
        (count(-5), ""),
        (lambda m: loop_of(m).input.__setitem__(0, ""), "nothing bounds its number of iterations"),
    ],
)
def test_numbers_of_trips_that_are_not_those_of_the_sequence(change: Change, says: str) -> None:
    model = as_loop(PLAIN)
    change(model)
    with pytest.raises(UnsupportedError) as caught:
        import_model(model, "test")
    assert says in str(caught.value)


def test_a_free_number_of_steps_is_fixed_to_the_number_of_trips() -> None:
    model = as_loop(PLAIN)
    count(7)(model)
    imported = import_model(model, "test", values={"t": 7})
    feeds = arrays(PLAIN)
    want = runtime(model, feeds)
    for name, value in oracle(imported, feeds).items():
        np.testing.assert_allclose(value, want[name], atol=1e-5)


def test_fewer_trips_than_steps_of_a_fixed_number() -> None:
    """The first three of seven steps."""
    model = as_loop(replace(PLAIN, baked=True, behind=False))
    count(3)(model)
    agree(model, {"x": arrays(PLAIN)["x"][:7]})


@pytest.mark.parametrize(
    "change",
    [
        lambda m: loop_of(m).ClearField("attribute"),
        lambda m: loop_of(m).output.append("more_outputs"),
        lambda m: loop_of(m).input.append("x"),
        lambda m: loop_of(m).input.pop(),
        lambda m: body_of(m).input.pop(),
        lambda m: body_of(m).output.pop(),
        lambda m: body_of(m).ClearField("node"),
        lambda m: body_of(m).ClearField("output"),
        lambda m: body_of(m).output.__getitem__(1).__setattr__("name", "nothing"),
        lambda m: body_of(m).node.__getitem__(0).input.__setitem__(0, "nothing"),
        lambda m: body_of(m).node.__getitem__(-1).input.__setitem__(0, "y_out"),
        lambda m: [n.input.__setitem__(0, n.output[0]) for n in body_of(m).node],
        lambda m: [body_of(m).node.append(n) for n in list(body_of(m).node)],
    ],
)
@pytest.mark.parametrize("scan", [False, True])
def test_damaged_loops_give_one_error(change: Change, scan: bool) -> None:
    model = as_loop(replace(PLAIN, scan=scan))
    change(model)
    with pytest.raises((ModelFileError, UnsupportedError)):
        import_model(model, "test")


def nested(depth: int) -> onnx.ModelProto:
    """A loop in a loop in a loop …"""
    model = as_loop(PLAIN)
    for _ in range(depth):
        outer = helper.make_graph(
            [loop_of(model)],
            "outer",
            list(body_of(model).input)[:2],
            [
                helper.make_tensor_value_info("more", onnx.TensorProto.BOOL, []),
                helper.make_tensor_value_info("ys", 1, None),
            ],
        )
        node = helper.make_node("Loop", [*loop_of(model).input[:2]], ["ys"], body=outer, name="outer")
        place = [n.op_type for n in model.graph.node].index("Loop")
        model.graph.node[place].CopyFrom(node)
    return model


@pytest.mark.parametrize("depth", [1, 5])
def test_loops_in_loops_are_refused(depth: int) -> None:
    with pytest.raises((ModelFileError, UnsupportedError)):
        import_model(nested(depth), "test")


def scripted(op: str, backward: bool, stacked: bool, twice: bool) -> onnx.ModelProto:
    """A loop of PyTorch's kind: recurrent nodes of one step in its body, and a list of their results that becomes a tensor behind it."""
    g = Graph(opset=17)
    x, body = g.input("x", ["n", "t", 3]), Graph(opset=17, seed=1)
    shape = g.node("Shape", [x])
    batch, steps = (g.node("Gather", [shape, g.const(np.array(k))]) for k in ([0], 1))
    zeros = g.node("ConstantOfShape", [g.node("Concat", [batch, g.const(np.array([4]))], axis=0)])
    cells = [op, "GRU"] if twice else [op]
    names = [f"h{k}" for k in range(len(cells))] + (["c0"] if op == "LSTM" else [])
    i = body.node("Sub", [g.node("Sub", [steps, g.const(np.int64(1))]), "i"]) if backward else "i"
    value = body.node("Gather", [x, i], axis=1)
    after = {}
    for k, cell in enumerate(cells):
        one = body.axes_op("Unsqueeze", value, [0])
        states = {s: body.axes_op("Unsqueeze", f"{s}{k}", [0]) for s in ("hc" if cell == "LSTM" else "h")}
        outputs = body.recurrent(cell, one, 3 if k == 0 else 4, 4, name=f"cell{k}", **states)
        for s, output in zip("hc", outputs[1:], strict=False):
            after[f"{s}{k}"] = body.axes_op("Squeeze", output, [0])
        value = after[f"h{k}"]
    element = value if stacked else body.axes_op("Unsqueeze", value, [1])
    front = [body.const(np.int64(0))] if backward else []
    listed = body.node("SequenceInsert", ["list", element, *front])
    body.node("Identity", ["more"], ["goes_on"])
    info, float32 = helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(float32, None))
    inner = helper.make_graph(
        body.nodes,
        "body",
        [
            info("i", onnx.TensorProto.INT64, []),
            info("more", onnx.TensorProto.BOOL, []),
            *(info(name, float32, None) for name in names),
            helper.make_value_info("list", sequence),
        ],
        [
            info("goes_on", onnx.TensorProto.BOOL, []),
            *(info(after[name], float32, None) for name in names),
            helper.make_value_info(listed, sequence),
        ],
        body.initializers,
    )
    yes, empty = g.const(np.array(True)), g.node("SequenceEmpty", [])
    last = [f"{name}_n" for name in names]
    g.node("Loop", [steps, yes, *[zeros] * len(names), empty], [*last, "results"], name="loop", body=inner)
    y = g.node("ConcatFromSequence", ["results"], axis=1, new_axis=int(stacked))
    g.node("Tanh", [y], ["y"])
    g.output("y", 3)
    for name in last:
        g.output(name, 2)
    return g.model()


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("stacked", "twice"), [(True, False), (False, True)])
def test_recurrent_nodes_of_one_step_in_a_loop(op: str, backward: bool, stacked: bool, twice: bool) -> None:
    model = agree(scripted(op, backward, stacked, twice), {"x": data(3, 6, 3)})
    layers = [layer for layer in model.layers if isinstance(layer, Recurrent)]
    assert len(layers) == 1 + twice
    assert {d.reverse for layer in layers for d in layer.directions} == {backward}


def test_a_mask_is_refused_with_what_to_do() -> None:
    """What Keras writes for Masking: where the mask is false, the state is kept."""
    model = as_loop(replace(PLAIN, scan=True, op="RNN", order=(0,)))
    body = body_of(model)
    g = Graph(opset=17)
    g.node("Where", ["mask_t", "h_out", "h"], ["kept"])
    body.node.extend(g.nodes)
    body.output[0].name = "kept"
    body.input.append(helper.make_tensor_value_info("mask_t", onnx.TensorProto.BOOL, None))
    model.graph.input.append(helper.make_tensor_value_info("mask", onnx.TensorProto.BOOL, ["n", "t", 1]))
    loop = loop_of(model)
    loop.input.append("mask")
    for attribute in loop.attribute:
        if attribute.name == "num_scan_inputs":
            attribute.i = 2
        elif attribute.name in ("scan_input_axes", "scan_input_directions"):
            attribute.ints.append(attribute.ints[0])
    with pytest.raises(
        UnsupportedError, match=r"keeps its state where a mask says so .* give each sequence its own length"
    ):
        import_model(model, "test")


def test_an_index_that_reads_itself_many_times() -> None:
    """An index of 2^60 additions in 60 nodes, and a condition of as many joined ones."""
    model = as_loop(PLAIN)
    body = body_of(model)
    place = next(k for k, n in enumerate(body.node) if n.op_type == "Gather")
    index, goes_on = body.node[place].input[1], "more"
    for k in range(60):
        body.node.insert(place + k, helper.make_node("Add", [index, index], [f"twice{k}"]))
        index = f"twice{k}"
    body.node[place + 60].input[1] = index
    for k in range(80):
        body.node.append(helper.make_node("And", [goes_on, goes_on], [f"joined{k}"]))
        goes_on = f"joined{k}"
    with pytest.raises(UnsupportedError, match="is not recognised as a recurrent layer"):
        import_model(model, "test")
    body.output[0].name = goes_on
    with pytest.raises(UnsupportedError, match="is not recognised as a recurrent layer"):
        import_model(model, "test")


def with_lengths(drawn: Drawn, swapped: bool) -> onnx.ModelProto:
    """A loop that keeps its states where the iteration is not below a sequence's length."""
    model = as_loop(replace(drawn, behind=False))
    body, g = body_of(model), Graph(opset=17)
    below = g.node("Greater", ["lengths", "i"]) if swapped else g.node("Less", ["i", "lengths"])
    mask = g.axes_op("Unsqueeze", below, [1])
    names = ("h", "c")[: 1 + (drawn.op == "LSTM")]
    for name in names:
        g.node("Where", [mask, f"{name}_out", name], [f"{name}_kept"])
    for info in body.output:
        if info.name.removesuffix("_out") in names:
            info.name = f"{info.name.removesuffix('_out')}_kept"
    body.node.extend(g.nodes)
    body.initializer.extend(g.initializers)
    model.graph.input.append(helper.make_tensor_value_info("lengths", onnx.TensorProto.INT64, ["n"]))
    steps = [o for o in model.graph.output if o.name == "y"]
    for output in steps:
        model.graph.output.remove(output)
    return model


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("swapped", [False, True])
def test_lengths_that_a_mask_is_made_of(op: str, swapped: bool) -> None:
    drawn = replace(PLAIN, op=op, order=tuple(range({"LSTM": 4, "GRU": 3, "RNN": 1}[op])), counter=swapped)
    feeds = {**arrays(drawn, batch=4), "lengths": np.array([7, 1, 4, 6])}
    model = agree(with_lengths(drawn, swapped), feeds)
    assert {i.name: i.kind for i in model.inputs} == {"x": "features", "lengths": "lengths"}


def test_lengths_of_a_loop_that_runs_backward_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="reads padded sequences from their last step to their first"):
        import_model(with_lengths(replace(PLAIN, backward=True), False), "test")


def test_sizes_of_what_changes_from_step_to_step() -> None:
    """PyTorch's chunk writes bounds by the size of what it cuts, before the cell."""
    model = as_loop(replace(PLAIN, behind=False))
    body = body_of(model)
    place = next(k for k, n in enumerate(body.node) if n.op_type == "Relu")
    g, x = Graph(opset=17), body.node[place].output[0]
    body.node[place].output[0] = "before_cut"
    size = g.node("Gather", [g.node("Shape", ["before_cut"]), g.const(np.array([1]))])
    half = g.node("Div", [g.node("Add", [size, g.const(np.array([1]))]), g.const(np.array([2]))])
    one = g.const(np.array([1]))
    first = g.node("Slice", ["before_cut", g.const(np.array([0])), half, one])
    rest = g.node("Slice", ["before_cut", half, size, one])
    g.node("Concat", [rest, first], [x], axis=1)
    for k, node in enumerate(g.nodes):
        body.node.insert(place + 1 + k, node)
    body.initializer.extend(g.initializers)
    agree(model, arrays(PLAIN))


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("by_slice", [False, True])
def test_what_a_loop_gives_backward_and_the_graph_turns_round(scan: bool, by_slice: bool) -> None:
    """Keras' Bidirectional: the steps of the loop in reverse come from the last to the first, and are reversed behind it."""
    model = as_loop(replace(PLAIN, scan=scan, backward=True))
    g = Graph(opset=17)
    if by_slice:
        operands = [g.const(np.array([k])) for k in (-1, -(1 << 40), 1, -1)]
        g.node("Slice", ["y", *operands], ["turned"])
    else:
        shape = g.node("Shape", ["y"])
        steps, batch = (g.node("Gather", [shape, g.const(np.array([k]))]) for k in (1, 0))
        g.node("ReverseSequence", ["y", g.node("Expand", [steps, batch])], ["turned"], batch_axis=0, time_axis=1)
    model.graph.node.extend(g.nodes)
    model.graph.initializer.extend(g.initializers)
    model.graph.output.append(helper.make_tensor_value_info("turned", onnx.TensorProto.FLOAT, ["a", "b", "c"]))
    agree(model, arrays(PLAIN))
