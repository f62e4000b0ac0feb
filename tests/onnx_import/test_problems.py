"""All problems of a model are one message of bounded length, whose remedies leave the network what it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from qrnn.errors import UnsupportedError
from qrnn.onnx_import import import_model
from qrnn.onnx_import.problems import MOST_LISTED, MOST_NAMED, Problems

from .builders import Graph
from .test_refusals import body, refused

LONGEST = 1000
"""Characters that a message of a few kinds of problems takes at most, with the names of these tests."""


@pytest.mark.parametrize("count", [1, 2, MOST_NAMED, MOST_NAMED + 1, 195])
def test_an_operator_on_many_nodes_is_named_once(count: int) -> None:
    def build(g: Graph, y: str) -> str:
        for k in range(count):
            y = g.node("Celu", [y], name=f"celu_{k}")
        return y

    message = refused(body(build), "1 node is" if count == 1 else f"{count} nodes are")
    assert message.count("Celu") == 1
    assert len(message) < LONGEST
    assert len(re.findall("'celu_", message)) == min(count, MOST_NAMED)
    assert ("…" in message) == (count > MOST_NAMED)
    assert (f"×{count}" in message) == (count > 1)


@pytest.mark.parametrize("count", [1, 2, 60])
def test_a_problem_on_many_nodes_is_told_once(count: int) -> None:
    def build(g: Graph, y: str) -> str:
        parts = [g.node("LogSoftmax", [y], name=f"soft_{k}", axis=0) for k in range(count)]
        return g.node("Concat", [*parts, g.node("Cast", [y], name="cast", to=TensorProto.INT32)], axis=2)

    message = refused(body(build), "2 problems", "node 'soft_0' (LogSoftmax", "node 'cast' (Cast")
    assert message.count("runs over batch or time") == 1
    assert len(message) < LONGEST
    assert ("more: 'soft_1'" in message) == (count > 1)
    assert (f"so are {count - 1} more" in message) == (count > 2)


def test_inputs_with_one_problem_are_told_once() -> None:
    problems = Problems("m")
    for k in range(30):
        problems.refuse(f"input 'x{k}' [?, {k}] has no fixed size at feature axis {k}")
        problems.refuse(f"input 'x{k}' [?, {k}] has no fixed size at feature axis {k}")
    problems.refuse("output 'y' is a constant; re-export without it")
    first, second = problems.messages()
    assert first == "input 'x0' [?, 0] has no fixed size at feature axis 0 (so are 29 more: 'x1', 'x2', 'x3', …)"
    assert second == "output 'y' is a constant; re-export without it"


def test_many_kinds_of_problems_are_counted() -> None:
    problems = Problems("m")
    for k in range(3 * MOST_LISTED):
        problems.refuse(f"{'a' * (k + 1)} is wrong")
    with pytest.raises(UnsupportedError) as caught:
        problems.raise_if_any()
    assert str(caught.value).startswith(f"{3 * MOST_LISTED} problems: ")
    assert str(caught.value).endswith(f" | and {2 * MOST_LISTED} more")


def loop_model(producer: str) -> onnx.ModelProto:
    """Build a GRU behind a Loop, in whose body, and in a branch there, operators are unknown."""
    value = helper.make_tensor_value_info
    choice = helper.make_graph(
        [helper.make_node("Det", ["o"], ["branch"], name="deep")],
        "branch",
        [],
        [value("branch", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Celu", ["s"], ["c"], name="celu"),
        helper.make_node("Tanh", ["c"], ["o"], name="tanh"),
        helper.make_node("If", ["go"], ["b"], name="choice", then_branch=choice, else_branch=choice),
    ]
    inner = helper.make_graph(
        nodes,
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("s", TensorProto.FLOAT, None)],
        [value("go", TensorProto.BOOL, []), value("o", TensorProto.FLOAT, None)],
    )
    for node in nodes[2:]:
        inner.output.append(value(node.output[0], TensorProto.FLOAT, None))

    def build(g: Graph, y: str) -> str:
        return g.node("Loop", [g.const(np.int64(3)), "", y], 2, name="loop", body=inner)[0]

    proto = body(build)
    proto.producer_name = producer
    return proto


def test_nodes_inside_a_loop_are_listed() -> None:
    message = refused(loop_model(""), "Loop 'loop'", "Celu in Loop 'loop' 'celu'", "Det", "'deep'")
    assert "Tanh" not in message


@pytest.mark.parametrize(
    ("producer", "says", "never"),
    [
        ("pytorch", "torch.onnx.export", "Keras"),
        ("tf2onnx", "unroll=True", "script"),
        ("keras", "unroll=True", "script"),
        ("", "LSTM, GRU or RNN nodes", "script"),
    ],
)
def test_the_remedy_fits_who_wrote_the_file(producer: str, says: str, never: str) -> None:
    message = refused(loop_model(producer), says)
    assert never not in message


def test_operators_of_onnx_runtime_are_undone_not_exported_again() -> None:
    proto = body(lambda g, y: g.node("FastGelu", [y], name="fast", domain="com.microsoft"))
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    refused(proto, "com.microsoft.FastGelu 'fast'", "standard ONNX operators", "before ONNX Runtime's optimizer")


def test_a_graph_without_recurrence_has_its_other_problems_named() -> None:
    g = Graph()
    y = g.node("Conv", [g.input("x", [1, 4, 8]), g.random(4, 4, 1)], name="conv")
    y = g.node("Celu", [g.node("Celu", [y], name="one")], name="two")
    g.node("MatMul", [g.node("Det", [y], name="det"), g.random(8, 8)], ["out"])
    g.output("out", 3)
    message = refused(
        g.model(),
        "2 problems",
        "no recurrent node",
        "Celu ×2, Conv, Det, MatMul",
        "Celu ×2 ('one', 'two')",
        "Det 'det'",
    )
    assert "Conv '" not in message


def test_a_graph_without_recurrence_names_its_operators() -> None:
    g = Graph()
    y = g.node("Erf", [g.node("Conv", [g.input("x", [1, 4, 8]), g.random(4, 4, 1)])])
    g.node("MatMul", [y, g.random(8, 8)], ["out"])
    g.output("out", 3)
    message = refused(g.model(), "no recurrent node", "only Conv, Erf, MatMul")
    assert "problems" not in message


def test_a_terminal_shows_each_problem_on_lines_of_its_width(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")

    def build(g: Graph, y: str) -> str:
        late = g.node("Celu", [g.node("Celu", [y], name="a/rather/long/name/of/one")], name="a/rather/long/name/of/two")
        return g.node("Concat", [late, g.node("LogSoftmax", [y], axis=0)], axis=2)

    proto = body(build)
    onnx.save(proto, tmp_path / "m.onnx")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "qrnn", "convert", "m.onnx", "--calibration", "random", "-o", "m.qrnn"]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=theirs, stdout=subprocess.DEVNULL, env={**os.environ, "COLUMNS": "80"}
    ) as process:
        os.close(theirs)
        shown = b""
        while block := _read(ours):
            shown += block
        assert process.wait() == 2
    os.close(ours)
    with pytest.raises(UnsupportedError) as caught:
        import_model(proto, "m")
    lines = shown.decode().splitlines()
    assert lines[0] == "error: 2 problems:"
    assert max(map(len, lines)) <= 80
    assert [line[:2] for line in lines].count("- ") == 2
    assert " ".join(shown.decode().replace("\n- ", " | ").split()).replace("problems: | ", "problems: ") == (
        f"error: {caught.value}"
    )


def _read(descriptor: int) -> bytes:
    """Return what a terminal has to give; nothing once the other side is closed."""
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:
        return b""
