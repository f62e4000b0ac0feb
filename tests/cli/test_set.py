"""``--set NAME=VALUE`` of the commands that read an ONNX file: a branch that an input chooses, a size from the data, what is refused."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_import.builders import Graph

from cli.running import Workplace

SET = ("--set", "sr=16000")


def by_rate() -> onnx.ModelProto:
    """X [N, width] → a GRU for each of two rates, one step per call, with its state as input and output."""
    g = Graph(17)
    x, h = g.input("x", ["n", "width"]), g.input("h", [1, "n", 5])
    g.input("sr", [], TensorProto.INT64)
    steps = g.axes_op("Unsqueeze", x, [0])
    branches = {}
    for branch in ("then_branch", "else_branch"):
        weights = [g.random(1, 15, 4), g.random(1, 15, 5)]
        outputs = [helper.make_tensor_value_info(f"{branch}_{k}", TensorProto.FLOAT, None) for k in range(2)]
        names = [info.name for info in outputs]
        gru = helper.make_node("GRU", [steps, *weights, "", "", h], names, name=f"gru_{branch}", hidden_size=5)
        branches[branch] = helper.make_graph([gru], branch, [], outputs)
    y, h_n = g.node("If", [g.node("Equal", ["sr", g.const(np.int64(16000))])], 2, "rate", **branches)
    g.node("Identity", [y], ["y"])
    g.node("Identity", [h_n], ["h_n"])
    g.output("y", 4)
    g.output("h_n", 3)
    return g.model()


@pytest.fixture
def rates(place: Workplace) -> Workplace:
    """The graph, and data for it."""
    place.path("rates.onnx").write_bytes(by_rate().SerializeToString())
    place.npz("frames.npz", x=np.random.default_rng(0).normal(size=(6, 9, 4)).astype(np.float32))
    return place


def convert(place: Workplace, *options: str) -> tuple[str, ...]:
    return (
        "convert", str(place.path("rates.onnx")), "--calibration", str(place.path("frames.npz")), "-o", str(place.path("r.qrnn")), *options
    )  # fmt: skip


def test_commands_take_a_value_and_remember_it(rates: Workplace) -> None:
    done = rates.cli(*convert(rates, *SET))
    assert (done.status, done.lines) == (0, []), done.err
    files = [rates.path(name) for name in ("rates.onnx", "r.qrnn")]
    data = ("--data", rates.path("frames.npz"))
    figures = []
    for options in ((), SET):
        done = rates.cli("compare", *files, *data, "--json", "-", *options)
        assert done.status == 0, done.err
        report = json.loads(done.out)
        assert report["onnxruntime_note"] == ""
        assert report["onnxruntime_against_float64"]["y"]["max_error"] < 1e-5
        assert report["outputs"]["y"]["sqnr_db"] > 25
        figures.append(report["outputs"])
    assert figures[0] == figures[1]
    done = rates.cli("explain", *files, *data, "--json")
    assert done.status == 0, done.err
    rates.refused("compare", *files, *data, "--set", "x[1]=5", says="5")


def test_tune_and_sweep_take_a_value(rates: Workplace) -> None:
    data = ("--calibration", rates.path("frames.npz"), "--data", rates.path("frames.npz"))
    done = rates.cli("tune", rates.path("rates.onnx"), *data, "--min-sqnr", "5", "--most", "2", "--json", *SET)
    assert done.status == 0, done.err
    assert "--set sr=16000 --set 'x[1]=4' -o best.qrnn" in json.loads(done.out)["command"]
    one = ("--vary", "weights=8", "--no-latency", "-o", rates.path("swept"))
    done = rates.cli("sweep", rates.path("rates.onnx"), *data, *one, *SET)
    assert done.status == 0, done.err
    assert rates.path("swept").is_dir()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "node 'rate' (If): which branch runs depends on input 'sr'; fix it by --set sr=VALUE"),
        (["--set", "sr"], "--set 'sr', expected NAME=VALUE"),
        (["--set", "sr=fast"], "--set 'sr=fast', expected NAME=VALUE"),
        (["--set", "=1"], "--set '=1', expected NAME=VALUE"),
        (["--set", "sr=1", "--set", "sr=2"], "--set gives 'sr' twice, 1 and 2; give one"),
        (["--set", "rate=1"], "the graph has no input and no free size of that name; its inputs are 'x' [n, width]"),
        (["--set", "sr=0.5"], "has the type int64, which does not hold this value"),
    ],
)
def test_what_is_refused(rates: Workplace, options: list[str], says: str) -> None:
    rates.refused(*convert(rates, *options), says=says)
