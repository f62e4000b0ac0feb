"""Kilobytes of ONNX do not take minutes or gigabytes: what a file of up to 50 MB may cost, and that large models stay within."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from qrnn import onnx_backend
from qrnn.errors import QrnnError, UnsupportedError
from qrnn.onnx_import import budget, import_model
from qrnn.onnx_import.budget import Budget, BudgetError
from qrnn.onnx_import.external import LARGEST_FILE
from qrnn.onnx_import.graph import Constants, find_roles, live_nodes
from qrnn.onnx_import.inputs import declared_inputs

from .builders import Graph, head
from .hostile import LOADED, REFUSED, body, call, functions, nested

CPU_SECONDS = 5.0
MEMORY = 1 << 30

Outcome = tuple[Any, float, int]


SLOW = {
    *(
        "many constants of 64 MiB",
        "Casts",
        "copies by Reshape",
        "features gathered again and again",
        "many folded nodes",
    ),
    *("many operators that are not supported", "a chain of Adds", "one name for all", "a chain of Identities"),
    *("one feature each", "states carried", "a chain of recurrent layers"),
}
"""Files that take the importer most of a second or more; the default run loads those that are like them and smaller."""


def names(table: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.matrix if name in SLOW else ()) for name in table]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Return what became of each file of this run, its CPU time, and the peak so far of the one process that loaded them all."""
    folder = tmp_path_factory.mktemp("hostile")
    asked = {item.callspec.params["name"] for item in request.session.items if "outcomes" in item.fixturenames}  # type: ignore[attr-defined]
    every = {**{name: make for name, (make, _) in REFUSED.items()}, **LOADED}
    makers = {name: make for name, make in every.items() if name in asked}
    paths = []
    for k, make in enumerate(makers.values()):
        paths.append(folder / f"case{k}.onnx")
        paths[-1].write_bytes(make().SerializeToString())
    command = [sys.executable, "-m", "onnx_import.hostile", *map(str, paths)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[1], timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(makers, (json.loads(line) for line in done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", names(REFUSED))
def test_what_asks_for_too_much_is_refused(outcomes: dict[str, Outcome], name: str) -> None:
    message, seconds, peak = outcomes[name]
    assert isinstance(message, str)
    assert any(part in message for part in REFUSED[name][1].split("|")), message
    assert "\n" not in message
    assert len(message) < 10_000
    assert seconds < CPU_SECONDS
    assert peak < MEMORY


@pytest.mark.parametrize("name", names(LOADED))
def test_what_is_large_but_linear_is_loaded(outcomes: dict[str, Outcome], name: str) -> None:
    layers, seconds, peak = outcomes[name]
    assert isinstance(layers, int), layers
    assert seconds < CPU_SECONDS
    assert peak < MEMORY


@pytest.mark.parametrize("depth", [40, pytest.param(100_000, marks=pytest.mark.matrix)])
def test_graphs_in_graphs(depth: int) -> None:
    """Such a model exists in memory only, since its file does not parse; protobuf and onnx would run out of stack."""
    for load in (lambda m: import_model(m, "deep"), onnx_backend.prepare):
        with pytest.raises(UnsupportedError, match="nested more than 32 deep"):
            load(nested(depth))


def test_types_in_types() -> None:
    model = head("GRU")
    kind = model.graph.value_info.add(name="deep").type
    for _ in range(100):
        kind = kind.sequence_type.elem_type
    kind.tensor_type.elem_type = TensorProto.FLOAT
    with pytest.raises(UnsupportedError, match="types nested"):
        import_model(model, "deep")


@pytest.mark.parametrize(
    "name", ["constants of 1 GiB", "functions that double", "Pow again and again", "a name of megabytes"]
)
def test_the_backend_has_the_same_budget(name: str) -> None:
    make, text = REFUSED[name]
    with pytest.raises(UnsupportedError, match=text):
        onnx_backend.prepare(make())


def test_the_backend_builds_no_zeros_for_huge_weights() -> None:
    g = Graph(17)
    x = g.input("X", ["t", "n", 1 << 20])
    w, r = g.input("W", [1, 3 << 16, 1 << 20]), g.input("R", [1, 3 << 16, 1 << 16])
    g.node("GRU", [x, w, r], [g.output("Y", 4)], hidden_size=1 << 16)
    tracemalloc.start()
    try:
        onnx_backend.prepare(g.model())
        assert tracemalloc.get_traced_memory()[1] < 1 << 26
    finally:
        tracemalloc.stop()


def test_a_budget_grows_with_the_file() -> None:
    small, large = Budget(0), Budget(1 << 30)
    with pytest.raises(BudgetError, match="at most"):
        small.hold("a value", 1 << 32)
    large.hold("a value", 1 << 32)
    with pytest.raises(BudgetError, match="more work"):
        small.spend("a node", 10_000_000_000)
    large.spend("a node", 10_000_000_000)


def test_a_refused_value_is_not_counted() -> None:
    small = Budget(0)
    with pytest.raises(BudgetError):
        small.value("a value", 1 << 40)
    small.value("a value", 1 << 10)
    assert small.memory == 8 << 10


def test_memory_of_the_largest_file_of_50_megabytes_is_within_a_gigabyte() -> None:
    """The file, its message and its values take what docs/onnx_files.md says."""
    size = 50_000_000
    assert 2 * size + Budget(size).memory_limit < MEMORY
    assert LARGEST_FILE == 2**31 - 1


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float16, marks=pytest.mark.matrix)])
def test_large_models_are_loaded(dtype: type) -> None:
    """Weights of 50 MB and an embedding of 50 MB, which take no more than the documented multiple."""
    g = Graph(17)
    tokens = g.input("x", ["t", "n"], TensorProto.INT64)
    width = 1024
    rows = 50_000_000 // width // np.dtype(dtype).itemsize
    table = g.const(np.ones((rows, width), dtype))
    y = g.node("Gather", [table, tokens])
    hidden = 1024 if dtype is np.float32 else 1448
    weights = [g.const(np.ones((1, 4 * hidden, n), dtype)) for n in (width, hidden)]
    y = g.node("LSTM", [y, *weights], hidden_size=hidden)
    g.node("Squeeze", [y, g.const(np.array([1]))], [g.output("out")])
    model = g.model()
    size = model.ByteSize()
    tracemalloc.start()
    try:
        loaded = import_model(model, "large")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [type(layer).__name__ for layer in loaded.layers] == ["Embedding", "Recurrent"]
    assert peak < Budget(size).memory_limit


SIZES = st.sampled_from([0, 1, 2, 5, 64, 1 << 10, 1 << 14, 1 << 20, 1 << 31])
SHAPES = st.lists(SIZES, min_size=1, max_size=3)
OPERATORS = [
    "ConstantOfShape",
    "Expand",
    "Concat",
    "Gather",
    "Slice",
    "Transpose",
    "Reshape",
    "Cast",
    "Mul",
    "Add",
    "Sub",
    "MatMul",
]
OPERATORS += [
    "Pow",
    "Max",
    "Where",
    "ReduceSum",
    "Tile",
    "Range",
    "Unsqueeze",
    "Split",
    "Size",
    "Shape",
    "Flatten",
    "Squeeze",
]


@st.composite
def chains(draw: st.DrawFn) -> onnx.ModelProto:
    """Operators on constants, each of any of the values before it, with sizes from nothing to far too much."""

    def build(g: Graph, y: str) -> str:
        values = [g.random(1), g.random(3, 4), y]
        for _ in range(draw(st.integers(1, 12))):
            op = draw(st.sampled_from(OPERATORS))
            a, b = (draw(st.sampled_from(values)) for _ in range(2))
            shape = g.const(np.array(draw(SHAPES), np.int64))
            picks = g.const(np.zeros(draw(st.sampled_from([1, 100, 1 << 14])), np.int64))
            axis = draw(st.integers(-1, 2))
            outputs = 2 if op == "Split" else 1
            given: dict[str, tuple[list[str], dict[str, Any]]] = {
                "ConstantOfShape": ([shape], {}),
                "Concat": ([a, b] * draw(st.sampled_from([1, 50])), {"axis": axis}),
                "Gather": ([a, picks], {"axis": axis}),
                "Slice": ([a, *(g.const(np.array([v])) for v in (0, draw(SIZES), axis))], {}),
                "Cast": ([a], {"to": draw(st.sampled_from([1, 7]))}),
                "Unsqueeze": ([a, g.const(np.array([0]))], {}),
                "ReduceSum": ([a, g.const(np.array([axis]))], {}),
                "Where": ([g.node("Cast", [a], to=9), a, b], {}),
                "Range": ([g.const(np.int64(0)), g.const(np.int64(draw(SIZES))), g.const(np.int64(1))], {}),
                "Split": ([a], {"axis": axis}),
            }
            given |= {op: ([a, shape], {}) for op in ("Expand", "Reshape", "Tile")}
            given |= {op: ([a], {}) for op in ("Transpose", "Size", "Shape", "Flatten", "Squeeze")}
            operands, attributes = given.get(op, ([a, b], {}))
            results = g.node(op, operands, outputs, **attributes)
            values.extend(results if outputs > 1 else [results])
        # every value is alive: the output depends on all
        return str(g.node("Add", [y, g.node("Sum", [g.node("ReduceMax", [v], keepdims=0) for v in values if v != y])]))

    return body(build)


def check_chain(model: onnx.ModelProto) -> None:
    with mock.patch.object(budget, "MEMORY", 8 << 20):  # so that many chains reach it
        limit = Budget(model.ByteSize()).memory_limit
        tracemalloc.start()
        try:
            import_model(model, "chain")
        except QrnnError as error:
            assert "\n" not in str(error)  # noqa: PT017
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert peak < limit + (4 << 20)  # and what Python itself takes for a few nodes


@settings(max_examples=25, deadline=None)
@given(chains())
def test_no_chain_takes_more_than_its_budget(model: onnx.ModelProto) -> None:
    check_chain(model)


@pytest.mark.matrix
@settings(max_examples=150, deadline=None)
@given(chains())
def test_no_chain_of_many_takes_more_than_its_budget(model: onnx.ModelProto) -> None:
    check_chain(model)


def test_function_calls_are_counted_by_what_they_hold() -> None:
    """Calls in graphs inside a function count too."""
    inner = helper.make_graph(
        [helper.make_node("f0", ["a"], ["c"], domain="local")],
        "g",
        [],
        [helper.make_tensor_value_info("c", 1, ["t", "n", 5])],
    )
    branch = helper.make_node("If", ["a"], ["b"], then_branch=inner, else_branch=inner)
    bodies = [[helper.make_node("Tanh", ["a"], ["b"])], [branch]]
    bodies += [[call(k, "a", "c"), call(k, "c", "b")] for k in range(1, 24)]
    with pytest.raises(BudgetError, match="writing out every call"):
        import_model(functions(bodies), "ifs")


def test_only_what_depends_on_constants_alone_is_shared_by_both_passes() -> None:
    """An axis that a node makes is a number in the first pass, and may be batch or time in the second."""
    g = Graph(17)
    made = g.node("Unsqueeze", [g.input("x", ["n", 4]), g.const(np.array([0]))])
    size = g.node("Slice", [g.node("Shape", [made]), *(g.const(np.array([v])) for v in (0, 1, 0))])
    sizes = g.node("Concat", [size, g.const(np.array([-1, 5]))], axis=0)
    y = g.node("Reshape", [g.node("Squeeze", [g.recurrent("GRU", made, 4, 5)[0], g.const(np.array([1]))]), sizes])
    offset = g.node("Mul", [g.random(5), g.node("Constant", [], value_float=2.0)])
    g.node("Add", [y, offset], [g.output("out")])
    graph = g.model().graph
    constants = Constants(graph, Budget(0))
    nodes = live_nodes(graph)
    find_roles(nodes, 17, constants, declared_inputs(graph, constants.names))
    assert {nodes[place].op_type for place in constants.computed} == {"Constant", "Mul"}
