"""``qrnn inspect MODEL.onnx``: what it foretells is what a conversion finds, and a file that is refused is described as far as it goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_import.builders import Graph, head

from cli.running import Cli, unsupported
from qrnn.examples import digits_model
from qrnn.onnx_import import load_onnx


def step_model() -> onnx.ModelProto:
    """Build one step of an LSTM a call, with h and c as inputs and outputs, behind a cache of two frames and a convolution."""
    g = Graph()
    x, past = g.input("x", ["n", 4, 1]), g.input("past", ["n", 4, 2])
    h, c = g.input("h", [1, "n", 5]), g.input("c", [1, "n", 5])
    joined = g.node("Concat", [past, x], axis=2)
    y = g.node("Transpose", [g.node("Conv", [joined, g.random(3, 4, 3)])], perm=[2, 0, 1])
    outputs = g.recurrent("LSTM", y, 3, 5, h=h, c=c)
    g.node("Squeeze", [outputs[0], g.const(np.array([1]))], ["y"])
    g.node("Identity", [outputs[1]], ["h_out"])
    g.node("Identity", [outputs[2]], ["c_out"])
    g.node("Slice", [joined, g.const(np.array([1])), g.const(np.array([3])), g.const(np.array([2]))], ["past_out"])
    for name in ("y", "h_out", "c_out", "past_out"):
        g.output(name)
    return g.model()


def token_lengths_model() -> onnx.ModelProto:
    """Build an embedding, a bidirectional GRU with lengths, and its last states."""
    g = Graph()
    tokens = g.input("ids", ["t", "n"], TensorProto.INT64)
    lengths = g.input("sizes", ["n"], TensorProto.INT32)
    looked_up = g.node("Gather", [g.random(9, 4), tokens])
    g.node("Identity", [g.recurrent("GRU", looked_up, 4, 5, lengths=lengths, directions=2)[1]], ["y"])
    g.output("y")
    return g.model()


def inspected(cli: Cli, path: Path, *more: str) -> dict[str, Any]:
    done = cli("inspect", path, "--json", *more)
    assert (done.status, done.lines) == (0, [])
    found: dict[str, Any] = json.loads(done.out)
    text = cli("inspect", path, *more)
    assert (text.status, text.lines) == (0, [])
    for entry in found["inputs"] + found["outputs"]:
        assert f"- {entry['name']}:" in text.out
    assert all(
        len(line) <= 80 or " " not in line.strip() or "SHA" in line or "np.savez" in line
        for line in text.out.splitlines()
    )
    return found


def by_name(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in entries}


def converts(cli: Cli, path: Path, calibration: dict[str, Any], required_only: bool) -> None:
    """Write the calibration file that was foretold, from random numbers, and convert with it."""
    rng, sizes, arrays = np.random.default_rng(0), {"N": 6, "T": 9}, {}
    for array in calibration["arrays"]:
        shape = [sizes.get(size, size) for size in array["shape"]]
        if array["dtype"] == "float32":
            values = rng.normal(size=shape).astype(np.float32)
        else:
            values = rng.integers(1, 3, shape)
        if array["required"] or not required_only:
            arrays[array["key"]] = values
    np.savez(path.parent / calibration["file"], **arrays)
    done = cli("convert", path, "--calibration", path.parent / calibration["file"], "-o", path.parent / "out.qrnn")
    assert done.status == 0, done.err


MODELS = {"gru": lambda: head("GRU"), "steps": step_model, "tokens": token_lengths_model}


@pytest.mark.parametrize("required_only", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_the_calibration_file_that_is_foretold_converts(
    name: str, required_only: bool, cli: Cli, tmp_path: Path
) -> None:
    onnx.save(MODELS[name](), tmp_path / "m.onnx")
    found = inspected(cli, tmp_path / "m.onnx")
    assert (found["supported"], found["refused"]) == (True, [])
    converts(cli, tmp_path / "m.onnx", found["calibration"], required_only)


def test_the_line_of_numpy_writes_the_file(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(head("GRU"), tmp_path / "m.onnx")
    found = inspected(cli, tmp_path / "m.onnx")["calibration"]
    monkeypatch.chdir(tmp_path)
    x = np.zeros((2, 3, 4), np.float32)
    exec(found["numpy"], {"np": np, "x": x})  # the line is there to be copied
    with np.load(tmp_path / found["file"]) as written:
        assert [*written] == ["x"]
        np.testing.assert_array_equal(written["x"], x)


def test_states_and_caches_name_what_carries_them(cli: Cli, tmp_path: Path) -> None:
    onnx.save(step_model(), tmp_path / "m.onnx")
    found = inspected(cli, tmp_path / "m.onnx")
    inputs, outputs = by_name(found["inputs"]), by_name(found["outputs"])
    assert {name: (i["kind"], i.get("carried_by")) for name, i in inputs.items()} == {
        "x": ("features", None),
        "past": ("cache", "past_out"),
        "h": ("state", "h_out"),
        "c": ("state", "c_out"),
    }
    assert {name: (o["kind"], o["carries"]) for name, o in outputs.items()} == {
        "y": ("result", None),
        "h_out": ("state", "h"),
        "c_out": ("state", "c"),
        "past_out": ("cache", "past"),
    }
    assert inputs["h"]["axes"] == ["layers", "batch", "features"]
    assert inputs["x"]["declared"] == ["n", 4, 1]
    assert [a["key"] for a in found["calibration"]["arrays"]] == ["x", "h", "c", "lengths"]
    assert found["stream"] == {"possible": True, "steps_late": {"y": 0}}


def test_axes_of_tokens_and_lengths(cli: Cli, tmp_path: Path) -> None:
    onnx.save(token_lengths_model(), tmp_path / "m.onnx")
    found = inspected(cli, tmp_path / "m.onnx")
    inputs = by_name(found["inputs"])
    assert (inputs["ids"]["kind"], inputs["ids"]["axes"], inputs["ids"]["vocabulary"]) == (
        "tokens",
        ["time", "batch"],
        9,
    )
    assert (inputs["sizes"]["kind"], inputs["sizes"]["axes"]) == ("lengths", ["batch"])
    assert not found["stream"]["possible"]
    assert "backwards" in found["stream"]["why"]


def test_layers_have_their_sizes(cli: Cli, tmp_path: Path) -> None:
    onnx.save(step_model(), tmp_path / "m.onnx")
    found = inspected(cli, tmp_path / "m.onnx")
    conv, lstm = found["layers"]
    assert (conv["kind"], conv["features_in"], conv["features_out"]) == ("conv", [4], 3)
    assert (conv["parameters"], conv["multiply_adds"]) == (3 * 4 * 3 + 3, 3 * 4 * 3)
    assert (lstm["kind"], lstm["multiply_adds"]) == ("lstm", 4 * 5 * (3 + 5))
    model = load_onnx(tmp_path / "m.onnx")
    arrays = (a for d in model.recurrent_layers[0].directions for a in (d.weight_ih, d.weight_hh, d.bias_ih, d.bias_hh))
    assert lstm["parameters"] >= sum(a.size for a in arrays if a is not None)
    assert found["multiply_adds_of_a_step"] == 3 * 4 * 3 + 4 * 5 * 8


def test_a_window_that_looks_ahead_comes_late(cli: Cli, tmp_path: Path) -> None:
    g = Graph()
    y = g.node("Conv", [g.input("x", ["n", 4, "t"]), g.random(3, 4, 5)], pads=[2, 2])
    g.node("Identity", [g.recurrent("GRU", g.node("Transpose", [y], perm=[2, 0, 1]), 3, 5)[0]], ["y"])
    g.output("y", 4)
    onnx.save(g.model(), tmp_path / "m.onnx")
    found = inspected(cli, tmp_path / "m.onnx")
    assert found["stream"] == {"possible": True, "steps_late": {"y": 2}}
    assert by_name(found["inputs"])["x"]["axes"] == ["batch", "channels", "time"]


def test_a_refused_file_is_described(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(unsupported())
    found = inspected(cli, tmp_path / "m.onnx")
    refusal = cli("convert", tmp_path / "m.onnx", "--calibration", "random", "-o", tmp_path / "m.qrnn")
    assert refusal.status == 2
    assert not found["supported"]
    for problem in found["refused"]:
        assert problem in refusal.lines[-1]
        assert problem.split()[0] in cli("inspect", tmp_path / "m.onnx").out
    assert found["operators"]["Sin"] == 1


def test_a_refused_graph_keeps_the_roles_of_its_inputs(cli: Cli, tmp_path: Path) -> None:
    g = Graph()
    x = g.node("Transpose", [g.input("x", ["b", "t", 4])], perm=[1, 0, 2])
    y = g.recurrent("GRU", x, 4, 5, h=g.input("h", [1, "b", 5]))[0]
    g.node("Celu", [y], ["y"])
    g.output("y", 4)
    onnx.save(g.model(), tmp_path / "m.onnx")
    found = inspected(cli, tmp_path / "m.onnx")
    assert {i["name"]: (i["kind"], i["axes"]) for i in found["inputs"]} == {
        "x": ("features", ["batch", "time", "features"]),
        "h": ("state", ["layers", "batch", "features"]),
    }
    assert [(a["key"], a["shape"]) for a in found["calibration"]["arrays"]] == [
        ("x", ["N", "T", 4]),
        ("h", ["N", 1, 5]),
        ("lengths", ["N"]),
    ]
    assert len(found["refused"]) == 1
    assert "Celu" in found["refused"][0]


def test_a_file_without_recurrence_is_described(cli: Cli, tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    node = helper.make_node("Sigmoid", ["a\x1b[2J"], ["y"])
    graph = helper.make_graph(
        [node], "g", [info("a\x1b[2J", TensorProto.FLOAT, [1, 4])], [info("y", TensorProto.FLOAT, [1, 4])]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    done = cli("inspect", tmp_path / "m.onnx")
    assert done.status == 0
    assert "\x1b" not in done.out
    assert "no recurrent node" in done.out
    found = json.loads(cli("inspect", tmp_path / "m.onnx", "--json").out)
    assert (found["calibration"]["numpy"], found["inputs"][0]["kind"]) == (None, "?")
    assert found["outputs"] == [{"name": "y", "declared": [1, 4]}]


def test_damaged_files_are_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08")
    done = cli("inspect", tmp_path / "m.onnx")
    assert done.status == 2
    assert len(done.lines) == 1


def test_options_of_onnx_files_are_not_taken_of_others(cli: Cli, good_files: Path) -> None:
    done = cli("inspect", good_files / "gru.qrnn", "--stream")
    assert done.status == 2
    assert "--stream" in done.lines[-1]


def test_an_axis_that_is_named_for_what_it_is_stands_once(cli: Cli) -> None:
    shown = cli("inspect", digits_model()).out
    assert "x: features, float32 [batch, time, 8 features]" in shown
