"""Cuts: the parts of a graph together are the whole, in names, layouts and values; what gets around a cut is refused by name."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnx_import.builders import Graph
from onnx_import.running import data, runtime
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import DataError, UnsupportedError
from qrnn.hybrid.cut_data import cut_data
from qrnn.model.axes import from_graph, to_graph
from qrnn.onnx_import import cut_onnx, load_onnx
from qrnn.onnx_import.inspection import inspect_onnx
from qrnn.onnx_import.parts.cut import Cut
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

PLAIN = Scheme(activations=16, weights=8, input="16")
"""One that searches for nothing, which is quick."""


def chain(
    batch: Any = "batch", time: Any = "time", major: bool = False, body: Callable[[Graph, str], str] | None = None
) -> Graph:
    """Build x → front → GRU → logits → y, with the tensors ``front``, ``hidden`` and ``logits``, batch or time first."""
    g = Graph()
    x = g.input("x", [time, batch, 4] if major else [batch, time, 4])
    front = g.node("Tanh", [g.node("MatMul", [x, g.random(4, 6)])], ["front"])
    front = body(g, front) if body is not None else front
    read = front if major else g.node("Transpose", [front], perm=[1, 0, 2])
    y = g.recurrent("GRU", read, 6, 5)[0]
    hidden = g.axes_op("Squeeze", y, [1], "hidden")
    hidden = hidden if major else g.node("Transpose", [hidden], ["turned"], perm=[1, 0, 2])
    g.node("MatMul", [hidden, g.random(5, 3)], ["logits"])
    g.node("Sigmoid", ["logits"], ["y"])
    g.output("y")
    return g


def saved(g: Graph, folder: Path, **more: Any) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(g.model(**more).SerializeToString())
    return path


def run_parts(cut: Cut, feeds: dict[str, Any]) -> dict[str, Any]:
    """Run the three graphs of a cut one after the other by ONNX Runtime."""
    known = dict(feeds)
    for part in (cut.before, cut.model, cut.after):
        if part is not None:
            onnx.checker.check_model(part.model, full_check=True)
            assert [i.name for i in part.model.graph.input if i.name in known] == list(part.inputs)
            known.update(runtime(part.model, {name: known[name] for name in part.inputs}))
    return known


@pytest.mark.parametrize("major", [False, True], ids=["batch first", "time first"])
@pytest.mark.parametrize("ends", [("front", "logits"), ("front", None), (None, "logits"), ("x", "y")])
def test_parts_are_the_whole(major: bool, ends: tuple[str | None, str | None], tmp_path: Path) -> None:
    path = saved(chain(major=major), tmp_path)
    feeds = {"x": data(7, 3, 4) if major else data(3, 7, 4)}
    want = runtime(onnx.load(path), feeds)["y"]
    cut = cut_onnx(path, *([end] if end else [] for end in ends))
    assert set(cut.others) == {
        word for word, end, edge in (("before", ends[0], "x"), ("after", ends[1], "y")) if end not in (None, edge)
    }
    np.testing.assert_array_equal(run_parts(cut, feeds)["y"], want)


def test_before_the_qrnn_after(tmp_path: Path) -> None:
    """The example of docs/onnx_files.md: before.onnx, the .qrnn and after.onnx against the whole graph."""
    path = saved(chain(major=True), tmp_path)
    cut = cut_onnx(path, ["front"], ["logits"])
    x = data(9, 6, 4)  # time first, as the graph has it
    model = load_onnx(path, cut_from=["front"], cut_to=["logits"])
    front = runtime(cut.others["before"], {"x": x})["front"]
    (given,), (made,) = model.inputs, model.outputs
    session = Session(quantize(model, {"front": from_graph(given, front)}, PLAIN))
    logits = session.run({"front": from_graph(given, front)}).outputs["logits"]
    got = runtime(cut.others["after"], {"logits": to_graph(made, logits).astype(np.float32)})["y"]
    want = runtime(onnx.load(path), {"x": x})["y"]
    assert got.shape == want.shape == (9, 6, 3)
    assert np.abs(got - want).max() < 0.02
    assert np.std(want) > 0.05


@pytest.mark.parametrize("major", [False, True])
@pytest.mark.parametrize("fixed", [False, True])
def test_data_of_the_whole_graph(major: bool, fixed: bool, tmp_path: Path) -> None:
    """Cut tensors that are computed from padded sequences of the graph's own inputs equal those of each sequence."""
    path = saved(chain(3 if fixed else "batch", "time", major), tmp_path)
    cut = cut_onnx(path, ["front"])
    model = load_onnx(path, cut_from=["front"])
    x, lengths = data(3, 7, 4), np.array([7, 2, 5])
    found = cut_data(cut, model, {"x": x, "lengths": lengths})
    np.testing.assert_array_equal(found["lengths"], lengths)
    want = runtime(cut.others["before"], {"x": x.transpose(1, 0, 2) if major else x})["front"]
    want = want.transpose(1, 0, 2) if major else want
    for n, length in enumerate(lengths):
        np.testing.assert_allclose(found["front"][n, :length], want[n, :length], atol=1e-6)
        assert not found["front"][n, length:].any()
    quantize(model, found, PLAIN)
    with pytest.raises(DataError, match=r"'x' is missing.*'front'"):
        cut_data(cut, model, {"z": x})
    with pytest.raises(DataError, match="'z' is no input"):
        cut_data(cut, model, {"x": x, "z": x})
    assert cut_data(cut, model, {"front": want}) == {"front": want}


def test_states_stay_with_the_model(tmp_path: Path) -> None:
    """One step per call: an input and an output for the state are none of the cut tensors, and stay with the layer."""
    g = Graph()
    x, h = g.input("x", [1, 4]), g.input("h", [1, 1, 5])
    front = g.node("Sin", [x], ["front"])
    g.recurrent("GRU", g.axes_op("Unsqueeze", front, [0]), 4, 5, h=h, outputs=["", "h_next"])
    g.node("Cos", [g.node("MatMul", [g.axes_op("Squeeze", "h_next", [0]), g.random(5, 2)], ["logits"])], ["y"])
    g.output("y", 2)
    g.output("h_next")
    path = saved(g, tmp_path)
    cut = cut_onnx(path, ["front"], ["logits"])
    assert cut.model.inputs == ("h", "front")
    assert cut.model.outputs == ("logits", "h_next")
    model = load_onnx(path, cut_from=["front"], cut_to=["logits"])
    assert model.one_step
    x_data = data(2, 6, 4)
    found = cut_data(cut, model, {"x": x_data})
    np.testing.assert_allclose(found["front"], np.sin(x_data), atol=1e-6)
    logits = run_oracle(model, found).outputs["logits"]
    state = np.zeros((1, 1, 5), np.float32)
    for t in range(6):
        whole = runtime(onnx.load(path), {"x": x_data[:1, t], "h": state})
        state = whole["h_next"]
        np.testing.assert_allclose(np.cos(logits[:1, t]), whole["y"], atol=1e-5)


def sizes_of_x(g: Graph, front: str) -> str:
    """Zeros of the batch of x, as exporters write initial states, added to what the recurrent layer reads."""
    count = g.node("Gather", [g.node("Shape", ["x"]), g.const(np.array(0, np.int64))])
    shape = g.node("Concat", [g.axes_op("Unsqueeze", count, [0]), g.const(np.array([1, 6], np.int64))], axis=0)
    zeros = g.node("ConstantOfShape", [shape])
    return str(g.node("Add", [front, zeros]))


def test_sizes_are_read_on_this_side(tmp_path: Path) -> None:
    """Sizes of x behind the cut are those of the cut tensor, where both have one name; no path leads around."""
    path = saved(chain(body=sizes_of_x), tmp_path)
    cut = cut_onnx(path, ["front"])
    assert cut.model.inputs == ("front",)
    feeds = {"x": data(3, 5, 4)}
    np.testing.assert_array_equal(run_parts(cut, feeds)["y"], runtime(onnx.load(path), feeds)["y"])
    assert load_onnx(path, cut_from=["front"]).inputs[0].name == "front"


def sizes_of_steps(g: Graph, front: str) -> str:
    """Some steps of the tensor, as many as a value says, beside zeros of all steps of x."""
    most = g.node("Cast", [g.node("ReduceMax", ["x"], keepdims=0)], to=TensorProto.INT64)
    ends = g.axes_op("Unsqueeze", most, [0])
    zero, one = (g.const(np.array([k], np.int64)) for k in (0, 1))
    some = g.node("Slice", [front, zero, ends, one], ["some"])
    count = g.node("Gather", [g.node("Shape", ["x"]), one])
    shape = g.node("Concat", [one, count, g.const(np.array([6], np.int64))], axis=0)
    return str(g.node("Concat", [some, g.node("Expand", [g.const(np.float32(0)), shape])], axis=1))


def test_sizes_that_the_cut_has_not(tmp_path: Path) -> None:
    path = saved(chain(batch=1, body=sizes_of_steps), tmp_path)
    with pytest.raises(UnsupportedError, match=r"sizes of tensor 'x' are read behind the cut"):
        cut_onnx(path, ["some"])


def residual(g: Graph, front: str) -> str:
    g.node("MatMul", [front, g.random(6, 6)], ["second"])
    return str(g.node("Add", ["second", front], ["sum"]))


@pytest.mark.parametrize(
    ("starts", "ends", "says"),
    [
        (["fron"], [], ("--from 'fron'", "close to it are 'front'")),
        (["nothing like it"], [], ("no tensor of that name", "'x'")),
        ([], ["logit"], ("--to 'logit'", "'logits'")),
        (["rnn1"], [], ("name of a node (GRU)", "'rnn1_Y'")),
        (["rnn1_W"], [], ("is a constant",)),
        (["front", "front"], [], ("twice",)),
        (["logits"], ["front"], ("'logits' is computed from --to 'front'", "wrong order")),
        (["logits"], ["x"], ("wrong order",)),
        (["y"], [], ("nothing",)),
        (["second"], [], ("a path leads around the cut", "tensor 'front'", "--from")),
        ([], ["second"], ("a path leads around the cut", "tensor 'front'", "--to")),
        (["second", "front"], ["sum"], ("no recurrent node",)),
    ],
)
def test_refusals(starts: list[str], ends: list[str], says: tuple[str, ...], tmp_path: Path) -> None:
    path = saved(chain(body=residual), tmp_path)
    with pytest.raises(UnsupportedError) as caught:
        load_onnx(path, cut_from=starts, cut_to=ends)
    for part in says:
        assert part in str(caught.value), str(caught.value)


def test_a_tensor_handed_around(tmp_path: Path) -> None:
    """Named in both, a tensor goes from the graph before to the one behind, and is none of the model's."""
    g = chain()
    g.node("MatMul", ["front", g.random(6, 3)], ["skip"])
    g.node("Add", ["y", "skip"], ["z"])
    g.outputs.clear()
    g.output("z")
    path = saved(g, tmp_path)
    with pytest.raises(
        UnsupportedError, match=r"tensor 'front'.*behind the cut.*--from and in --to|tensor 'front'.*--to"
    ):
        cut_onnx(path, ["front"], ["logits"])
    cut = cut_onnx(path, ["front"], ["logits", "front"])
    assert cut.model.inputs == ("front",)
    assert cut.model.outputs == ("logits",)
    assert cut.after is not None
    assert set(cut.after.inputs) == {"logits", "front"}
    feeds = {"x": data(2, 5, 4)}
    np.testing.assert_array_equal(run_parts(cut, feeds)["z"], runtime(onnx.load(path), feeds)["z"])


def branch(g: Graph, front: str) -> str:
    """An If whose branches read the tensor from outside, and make tensors inside."""

    def graph(name: str, op: str) -> onnx.GraphProto:
        nodes = [
            helper.make_node(op, [front], [f"{name}_in"]),
            helper.make_node("Mul", [f"{name}_in", "scale"], [f"{name}_out"]),
        ]
        return helper.make_graph(
            nodes, name, [], [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)]
        )

    g.const(np.float32(0.5), "scale")
    flag = g.const(np.array(True), "flag")
    return str(g.node("If", [flag], ["branched"], then_branch=graph("yes", "Abs"), else_branch=graph("no", "Neg")))


def test_bodies_read_from_outside(tmp_path: Path) -> None:
    """What a branch reads from outside is an input of its part, and its constants come along."""
    path = saved(chain(body=branch), tmp_path)
    cut = cut_onnx(path, ["front"], ["logits"])
    assert cut.model.inputs == ("front",)
    assert {"scale", "flag"} <= {t.name for t in cut.model.model.graph.initializer}
    feeds = {"x": data(2, 5, 4)}
    np.testing.assert_array_equal(run_parts(cut, feeds)["y"], runtime(onnx.load(path), feeds)["y"])
    with pytest.raises(UnsupportedError, match=r"'yes_in': this tensor lies inside of node 'branched' \(If\)"):
        cut_onnx(path, ["yes_in"])


def test_only_the_weights_that_are_needed(tmp_path: Path) -> None:
    """Each part has its own constants, external ones too, and the functions that it calls."""
    g = chain()
    model = g.model()
    body = [helper.make_node("Sigmoid", ["a"], ["b"])]
    model.functions.append(helper.make_function("local", "Ending", ["a"], ["b"], body, model.opset_import))
    model.opset_import.append(helper.make_opsetid("local", 1))
    last = model.graph.node[-1]
    last.op_type, last.domain = "Ending", "local"
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    cut = cut_onnx(path, ["front"], ["logits"])
    assert cut.before is not None
    assert cut.after is not None
    names = [{t.name for t in part.model.graph.initializer} for part in (cut.before, cut.model, cut.after)]
    assert not any(a & b for a, b in itertools.combinations(names, 2))
    assert {"rnn1_W", "rnn1_R", "rnn1_B"} <= names[1]
    assert [len(part.model.functions) for part in (cut.before, cut.model, cut.after)] == [0, 0, 1]
    tensors = [t for part in (cut.before, cut.model) for t in part.model.graph.initializer]
    assert all(t.data_location == TensorProto.DEFAULT and numpy_helper.to_array(t).size for t in tensors)
    for part in (cut.before, cut.model, cut.after):
        assert part.model.ir_version == model.ir_version
        assert part.model.opset_import == model.opset_import
    feeds = {"x": data(2, 5, 4)}
    np.testing.assert_array_equal(run_parts(cut, feeds)["y"], runtime(g.model(), feeds)["y"])


def test_shapes_are_declared(tmp_path: Path) -> None:
    """Sizes that the file does not declare come from shape inference, also behind sizes that nodes compute."""

    def padded(g: Graph, front: str) -> str:
        pads = g.node(
            "Cast",
            [g.node("Concat", [g.const(np.zeros(3, np.int64)), g.const(np.array([0, 0, 2], np.int64))], axis=0)],
            to=7,
        )
        whole = g.node("Pad", [front, pads], ["padded"])
        return str(g.slice(whole, [0], [6], [2]))

    path = saved(chain(body=padded), tmp_path)
    cut = cut_onnx(path, ["padded"])
    (info,) = cut.model.model.graph.input
    dims = info.type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims][2] == 8
    assert load_onnx(path, cut_from=["padded"]).inputs[0].shape == (8,)


def test_inspection_tells_both_layouts(tmp_path: Path) -> None:
    path = saved(chain(major=True), tmp_path)
    found = inspect_onnx(path, cut_from=["front"], cut_to=["logits"])
    assert found["supported"]
    assert found["cut"]["data"] == {"front": ["N", "T", 6], "logits": ["N", "T", 3]}
    assert found["inputs"][0]["axes"] == ["time", "batch", "features"]
    assert found["cut"]["others"]["before"]["outputs"] == [{"name": "front", "declared": ["time", "batch", 6]}]
    assert found["cut"]["others"]["after"]["inputs"] == [{"name": "logits", "declared": ["time", "batch", 3]}]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_random_graphs(seed: int, tmp_path: Path) -> None:
    """Whatever a cut does not refuse is the whole again when its parts run one after the other."""
    rng = np.random.default_rng(seed)
    g = Graph(seed=seed)
    known = [g.input("x0", ["n", "t", 3]), g.input("x1", ["n", "t", 3])]
    for k in range(int(rng.integers(4, 12))):
        picked = [known[i] for i in rng.integers(0, len(known), 2)]
        op = str(rng.choice(["Add", "Tanh", "Mul", "Abs"]))
        g.node(op, picked if op in ("Add", "Mul") else picked[:1], [f"t{k}"])
        known.append(f"t{k}")
    for name in dict.fromkeys([known[-1], *rng.choice(known[2:], 2)]):
        g.output(str(name))
    path = saved(g, tmp_path)
    starts = [str(n) for n in dict.fromkeys(rng.choice(known, int(rng.integers(0, 3))))]
    ends = [str(n) for n in dict.fromkeys(rng.choice(known[2:], int(rng.integers(0 if starts else 1, 3))))]
    try:
        cut = cut_onnx(path, starts, ends)
    except UnsupportedError:
        return
    feeds = {"x0": data(2, 3, 3), "x1": data(2, 3, 3, seed=6)}
    found = run_parts(cut, feeds)
    for name, value in runtime(onnx.load(path), {i: feeds[i] for i in feeds}).items():
        np.testing.assert_array_equal(found[name], value)
