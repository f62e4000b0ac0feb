"""Branches that are known when a graph is imported: by a constant, an input that is fixed, or sizes; sequences; what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qrnn.errors import ModelFileError, QrnnError, UnsupportedError
from qrnn.model.float_model import FloatModel
from qrnn.onnx_import import import_model

from .builders import Graph
from .running import batch_first, data, oracle, runtime

Values = dict[str, Any]


def body(nodes: list[onnx.NodeProto], output: str, constants: dict[str, Any] | None = None) -> onnx.GraphProto:
    """A branch with one output."""
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    info = helper.make_value_info(output, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    return helper.make_graph(nodes, f"branch_{output}", [], [info], tensors)


def scaled(x: str, by: float, tag: str) -> onnx.GraphProto:
    """A branch that multiplies a value of the graph outside."""
    return body([helper.make_node("Mul", [x, "by"], ["scaled"], name=f"scale_{tag}")], "scaled", {"by": np.float32(by)})


def choice(g: Graph, condition: str, x: str, then: float, otherwise: float) -> str:
    """An If that multiplies by one of two numbers; its branches use the same names."""
    return str(g.node("If", [condition], then_branch=scaled(x, then, "a"), else_branch=scaled(x, otherwise, "b")))


def chosen(build: Callable[[Graph, str], str], *inputs: tuple[str, list[Any], int], opset: int = 17) -> onnx.ModelProto:
    """X [T, N, 4] → ``build`` → GRU → out, with further inputs."""
    g = Graph(opset=opset)
    x = g.input("x", ["t", "n", 4])
    for name, dims, kind in inputs:
        g.input(name, dims, kind)
    g.node("Identity", [g.recurrent("GRU", build(g, x), 4, 5)[0]], ["out"])
    g.output("out", 4)
    return g.model()


def same(model: onnx.ModelProto, feeds: dict[str, Any], values: Values) -> FloatModel:
    """Assert that the graph with inputs fixed gives what ONNX Runtime gives with them fed."""
    imported = import_model(model, "test", values=values)
    assert dict(imported.values) == values
    fixed = {i.name: i for i in model.graph.input if i.name in values}
    types = {name: helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type) for name, i in fixed.items()}
    fed = {name: np.asarray(values[name], types[name]) for name in fixed}
    want = runtime(model, {**feeds, **fed})["out"]
    got = oracle(imported, feeds)["out"]
    np.testing.assert_allclose(got, batch_first(imported.outputs[0], want), atol=1e-5)
    return imported


@settings(deadline=None)
@given(
    st.sampled_from(["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"]),
    st.integers(-3, 3),
    st.integers(-3, 3),
    st.data(),
)
def test_a_fixed_input_chooses(op: str, fixed: int, limit: int, draw: st.DataObject) -> None:
    kind = draw.draw(st.sampled_from([TensorProto.INT64, TensorProto.FLOAT]))
    more = draw.draw(st.sampled_from(["", "Not", "And", "Or", "Xor", "Cast"]))

    def build(g: Graph, x: str) -> str:
        limits = g.const(np.asarray(limit, helper.tensor_dtype_to_np_dtype(kind)))
        condition = g.node(op, ["sr", limits])
        if more == "Not":
            condition = g.node("Not", [condition])
        elif more == "Cast":
            condition = g.node("Cast", [g.node("Cast", [condition], to=TensorProto.INT32)], to=TensorProto.BOOL)
        elif more:
            condition = g.node(more, [condition, g.node("Greater", ["sr", limits])])
        return choice(g, condition, x, 1.5, -0.5)

    model = chosen(build, ("sr", [], kind))
    same(model, {"x": data(6, 2, 4)}, {"sr": fixed})


def test_a_constant_chooses_and_names_stay_apart() -> None:
    def build(g: Graph, x: str) -> str:
        yes = g.const(np.array(True))
        return choice(g, yes, choice(g, g.const(np.array([False])), x, 3.0, -0.7), 2.0, 9.0)

    model = chosen(build)
    imported = same(model, {"x": data(6, 2, 4)}, {})
    assert not imported.values


def test_branches_inside_of_branches() -> None:
    def build(g: Graph, x: str) -> str:
        inner = helper.make_node(
            "If",
            ["deep"],
            ["picked"],
            name="inner",
            then_branch=scaled("outer", 0.5, "c"),
            else_branch=scaled("outer", 4.0, "d"),
        )
        first = helper.make_node("Neg", [x], ["outer"])
        compare = helper.make_node("Less", ["sr", "limit"], ["deep"])
        branch = body([first, compare, inner], "picked", {"limit": np.int64(9000)})
        is16 = g.node("Equal", ["sr", g.const(np.int64(16000))])
        return str(g.node("If", [is16], then_branch=scaled(x, 1.0, "e"), else_branch=branch))

    model = chosen(build, ("sr", [1], TensorProto.INT64))
    for rate in (16000, 8000, 11025):
        same(model, {"x": data(6, 2, 4)}, {"sr": [rate]})


def test_a_branch_hands_on_a_value_of_the_graph_outside() -> None:
    def build(g: Graph, x: str) -> str:
        double = g.node("Add", [x, x])
        return str(g.node("If", ["sr"], then_branch=body([], double), else_branch=body([], x)))

    # ONNX allows no branch whose output is a value of the graph outside, but for an Identity of it
    with pytest.raises(QrnnError):
        import_model(chosen(build, ("sr", [], TensorProto.BOOL)), "test", values={"sr": True})

    def allowed(g: Graph, x: str) -> str:
        then = body([helper.make_node("Identity", [x], ["same"])], "same")
        return str(g.node("If", ["sr"], then_branch=then, else_branch=scaled(x, 2.0, "f")))

    for flag in (True, False):
        same(chosen(allowed, ("sr", [], TensorProto.BOOL)), {"x": data(6, 2, 4)}, {"sr": flag})


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("size", [1, 3])
def test_sizes_choose(opset: int, size: int) -> None:
    """What `x.squeeze(2)` is exported as where the exporter does not know the size."""

    def build(g: Graph, x: str) -> str:
        four = g.node("Reshape", [x, g.const(np.array([0, 0, 1, 4] if size == 1 else [0, 0, -1, 4], np.int64))])
        dim = g.node("Gather", [g.node("Shape", [four]), g.const(np.int64(2))])
        one = g.node("Equal", [dim, g.const(np.int64(1))])
        attributes = {"axes": [2]} if opset < 13 else {}
        operands = [four] if opset < 13 else [four, g.const(np.array([2], np.int64))]
        then = body([helper.make_node("Squeeze", operands, ["squeezed"], **attributes)], "squeezed")
        picked = g.node(
            "If", [one], then_branch=then, else_branch=body([helper.make_node("Identity", [four], ["kept"])], "kept")
        )
        rank = g.node("Size", [g.node("Shape", [picked])])
        return choice(g, g.node("Equal", [rank, g.const(np.int64(3))]), picked, 0.5, 2.0)

    same(chosen(build, opset=opset), {"x": data(6, 2, 4)}, {})


def test_a_free_size_is_fixed_by_its_name_or_its_axis() -> None:
    g = Graph()
    x = g.input("x", ["n", "width"])
    size = g.node("Gather", [g.node("Shape", [x]), g.const(np.int64(1))])
    picked = choice(g, g.node("Less", [size, g.const(np.int64(10))]), x, 0.5, 2.0)
    steps = g.axes_op("Unsqueeze", picked, [0])
    y, *_ = g.recurrent("GRU", steps, 4, 5, h=g.input("h", [1, "n", 5]))
    g.node("Identity", [y], ["out"])
    g.output("out", 4)
    model = g.model()
    with pytest.raises(
        UnsupportedError, match="depends on the size width, which the file leaves free; fix it by --set width=SIZE"
    ):
        import_model(model, "test")
    named = import_model(model, "test", values={"width": 4})
    by_axis = import_model(model, "test", values={"x[1]": 4})
    assert named.inputs == by_axis.inputs
    assert named.inputs[0].shape == (4,)
    with pytest.raises(ModelFileError, match="X has 12 features"):
        import_model(model, "test", values={"width": 12})


def sequence_model(kind: str) -> onnx.ModelProto:
    def build(g: Graph, x: str) -> str:
        if kind == "construct":
            made = g.node("SequenceConstruct", [x, g.node("Neg", [x])])
        elif kind == "insert":
            made = g.node("SequenceInsert", [g.node("SequenceEmpty", []), x])
            made = g.node("SequenceInsert", [made, g.node("Neg", [x]), g.const(np.int64(0))])
        elif kind == "split":
            made = g.node("SplitToSequence", [x, g.const(np.array([1, 3], np.int64))], axis=2)
            return str(g.node("ConcatFromSequence", [made], axis=-1))
        else:
            made = g.node("SplitToSequence", [x], axis=2, keepdims=0)
            made = g.node("SequenceErase", [made, g.const(np.int64(-1))])
            made = g.node("SequenceInsert", [made, g.node("SequenceAt", [made, g.const(np.int64(0))])])
            return str(g.node("ConcatFromSequence", [made], axis=2, new_axis=1))
        at = [g.node("SequenceAt", [made, g.const(np.int64(k))]) for k in (0, -1)]
        is_two = g.node("Equal", [g.node("SequenceLength", [made]), g.const(np.int64(2))])
        return choice(g, is_two, g.node("Sub", [at[0], g.node("Mul", [at[1], g.const(np.float32(0.5))])]), 0.7, 5.0)

    return chosen(build)


@pytest.mark.parametrize("kind", ["construct", "insert", "split", "squeezed"])
def test_sequences_of_known_length(kind: str) -> None:
    same(sequence_model(kind), {"x": data(6, 2, 4)}, {})


def unknown(kind: str) -> onnx.ModelProto:
    """A graph whose branch depends on something that is not known."""

    def build(g: Graph, x: str) -> str:
        if kind == "scalar":
            condition = g.node("Equal", ["sr", g.const(np.int64(1))])
        elif kind == "features":
            condition = g.node("Greater", [g.node("ReduceMax", [x], keepdims=0), g.const(np.float32(0))])
        else:
            size = g.node("Gather", [g.node("Shape", [x]), g.const(np.int64(0))])
            condition = g.node("Less", [size, g.const(np.int64(1))])
        return choice(g, condition, choice(g, condition, x, 1.0, 2.0), 1.0, 2.0)

    return chosen(build, ("sr", [], TensorProto.INT64))


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("scalar", "depends on input 'sr'; fix it by --set sr=VALUE (load_onnx(path, values={'sr': VALUE}))"),
        ("features", "is computed from the values of input 'x', at run time"),
        ("size", "depends on the size t, which the file leaves free; fix it by --set t=SIZE"),
    ],
)
def test_what_is_not_known_is_refused_with_its_remedy(kind: str, says: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        import_model(unknown(kind), "test")
    assert says in str(caught.value)
    assert "Equal" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"rate": 1}, "the graph has no input and no free size of that name; its inputs are 'x' [t, n, 4], 'sr' []"),
        ({"sr": 0.5}, "has the type int64, which does not hold this value"),
        ({"sr": 1 << 70}, "expected finite numbers"),
        ({"sr": float("nan")}, "expected finite numbers"),
        ({"sr": [1, 2]}, "expected one number or as many as it has elements"),
        ({"sr": "16k"}, "expected finite numbers"),
        ({"t": 0}, "is a size, expected a whole number of at least 1"),
        ({"t": True}, "is a size, expected a whole number of at least 1"),
        ({"x[3]": 1}, "has no input and no free size of that name"),
        ({"x[2]": 5}, "has no input and no free size of that name"),
    ],
)
def test_values_that_do_not_fit(values: Values, says: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        import_model(unknown("scalar"), "test", values=values)
    assert says in str(caught.value)


def test_the_graph_that_is_given_is_left_as_it_is() -> None:
    model = unknown("scalar")
    before = model.SerializeToString()
    import_model(model, "test", values={"sr": 1})
    assert model.SerializeToString() == before


def damaged(change: Callable[[onnx.NodeProto], object]) -> onnx.ModelProto:
    model = unknown("scalar")
    change(next(n for n in model.graph.node if n.op_type == "If"))
    return model


@pytest.mark.parametrize(
    "change",
    [
        lambda n: n.attribute.pop(),
        lambda n: n.output.append("more"),
        lambda n: n.input.pop(),
        lambda n: [a.g.ClearField("output") for a in n.attribute],
        lambda n: [a.g.output[0].ClearField("name") for a in n.attribute],
        lambda n: [a.ClearField("g") for a in n.attribute],
    ],
    ids=["no branch", "outputs", "no condition", "no output", "no name", "no graph"],
)
def test_damaged_branches(change: Callable[[onnx.NodeProto], object]) -> None:
    with pytest.raises((ModelFileError, UnsupportedError)):
        import_model(damaged(change), "test", values={"sr": 1})
