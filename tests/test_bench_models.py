"""tools/bench_models.py with tiny networks: rows, verification, pages. Times are not tested; peers that are absent are skipped."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qrnn.model.axes import from_graph, to_graph

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

import bench_model_page
import bench_model_runtimes
import bench_models
from bench_model_rows import ModelResult, ModelRow, measure
from bench_rows import Settings
from bench_runtimes import LeftOutError, Runner, Runtime

SETTINGS = Settings((1,), 2, 1e-4, 1.0)


def write_model(path: Path, operator: str = "Relu") -> Path:
    """A Conv1d over [N, 4, T], an operator, and a GRU of 5 units over [T, N, 6], whose last state is of no use."""
    rng = np.random.default_rng(0)
    shapes = {"cw": (6, 4, 3), "cb": (6,), "w": (1, 15, 6), "r": (1, 15, 5), "b": (1, 30)}
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.4, shape).astype(np.float32), name) for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "cw", "cb"], ["c"], name="conv", pads=[2, 0]),
        helper.make_node(operator, ["c"], ["a"], name="after"),
        helper.make_node("Transpose", ["a"], ["t"], name="turn", perm=[2, 0, 1]),
        helper.make_node("GRU", ["t", "w", "r", "b"], ["y4", ""], name="gru", hidden_size=5, linear_before_reset=1),
        helper.make_node("Squeeze", ["y4", "axis"], ["y"], name="squeeze"),
    ]
    weights.append(numpy_helper.from_array(np.array([1]), "axis"))
    graph = helper.make_graph(
        nodes, "tiny", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, "T"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", "N", 5])], weights,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_the_work_has_the_axes_of_the_file(tmp_path: Path) -> None:
    work = bench_model_runtimes.make_work(write_model(tmp_path / "tiny.onnx"), 3, 7)
    assert work.given["x"].shape == (3, 7, 4)
    assert work.want.shape == (3, 7, 5)
    feeds = bench_model_runtimes._feeds(work, work.given, 3)
    np.testing.assert_array_equal(feeds["x"], work.given["x"].transpose(0, 2, 1))
    (output,) = work.model.outputs
    turned = to_graph(output, work.want)
    assert turned.shape == (7, 3, 5)
    np.testing.assert_array_equal(from_graph(output, turned, 3), work.want)


def test_inputs_of_a_folder(tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(2, 9, 4)).astype(np.float32)
    np.savez(tmp_path / "tiny.npz", x=x)
    work = bench_model_runtimes.make_work(write_model(tmp_path / "tiny.onnx"), 3, 7, tmp_path)
    np.testing.assert_array_equal(work.given["x"], x[[0, 1, 0], :7])
    np.testing.assert_array_equal(work.calibration["x"], x)
    assert bench_model_runtimes.make_work(work.path, 1, 50, tmp_path).steps == 9
    assert bench_model_runtimes.make_work(work.path, 1, 8, tmp_path / "none").given["x"].shape == (1, 8, 4)


def test_a_wrong_runtime_is_left_out_with_its_figure(tmp_path: Path) -> None:
    work = bench_model_runtimes.make_work(write_model(tmp_path / "tiny.onnx"), 2, 6)
    ours = bench_model_runtimes.runtimes()[0]
    wrong = Runtime("wrong", "numpy", 60.0, lambda work, threads: Runner(lambda: None, lambda: 1.1 * work.want))

    def refuses(work: Any, threads: int) -> Runner:
        raise LeftOutError("it does not want to")

    row = measure(work, (ours, wrong, Runtime("no", "numpy", 60.0, refuses)), SETTINGS)
    assert set(row.us) == {"qrnn"}
    assert "SQNR 20.0 dB, expected at least 60 dB" in row.left_out["wrong"]
    assert row.left_out["no"] == "it does not want to"
    assert row.ratio() is None
    broken = replace(ours, make=lambda work, threads: Runner(lambda: None, lambda: 0 * work.want))
    with pytest.raises(SystemExit, match=r"tiny: qrnn is not timed, its output is wrong: SQNR 0\.0 dB"):
        measure(work, (broken,), SETTINGS)


def test_wrong_bits_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "tiny.onnx")

    class Session(bench_model_runtimes.qrnn.Session):
        def run(self, *arguments: Any, **options: Any) -> Any:
            found = super().run(*arguments, **options)
            return replace(found, outputs={k: v + (self.engine.name == "cpu") for k, v in found.outputs.items()})

    monkeypatch.setattr(bench_model_runtimes.qrnn, "Session", Session)
    with pytest.raises(AssertionError, match="output y"):
        bench_model_runtimes.make_work(path, 1, 5)


def test_ratios_and_summary() -> None:
    times = [{"qrnn": 4.0, "A": 8.0, "B": 6.0}, {"qrnn": 4.0, "A": 2.0}, {"qrnn": 4.0}]
    rows = [
        ModelRow(f"m{k}", 1, 9, us, dict.fromkeys(us, 40.0), {"C": "of no use"}, 3, 0.5) for k, us in enumerate(times)
    ]
    assert [row.ratio() for row in rows] == [1.5, 0.5, None]
    assert [row.ratio("A") for row in rows] == [2.0, 0.5, None]
    assert bench_model_page.said(rows) == "geometric mean **0.87**, worst 0.50 (m1, against A), 1 of 2 rows below 1"
    assert bench_model_page.said(rows[2:]) is None
    text = bench_model_page.page(
        ModelResult(tuple(rows), {"bad": "says\nwhy"}, ("openvino",), SETTINGS, "python tool", 0.5), "name"
    )
    for part in (
        "| m0 | 9 | 4.0 | 8.0 | 6.0 | B | **1.50** | 2.00 | 1.50 |",
        "| m2 | 9 | 4.0 | – | – | – | **–** | – | – |",
        "- bad: says why",
        "not installed, left out: openvino",
        "C: of no use (m0, batch 1; m1, batch 1; m2, batch 1)",
        "(name.json)",
        "other processes used 0.50 cores",
    ):
        assert part in text, part


@pytest.mark.parametrize("number", range(len(bench_model_runtimes.runtimes())))
def test_every_runtime_gives_the_oracles_answer(number: int, tmp_path: Path) -> None:
    runtime = bench_model_runtimes.runtimes()[number]
    if not runtime.installed:
        pytest.skip(f"{runtime.package} is not installed")
    work = bench_model_runtimes.make_work(write_model(tmp_path / "tiny.onnx"), 2, 9)
    row = measure(work, (bench_model_runtimes.runtimes()[0], runtime), SETTINGS)
    assert row.left_out == {}
    assert row.sqnr[runtime.name] >= runtime.least_db
    if "int8" in runtime.name:
        assert row.sqnr[runtime.name] < 60.0, "it is quantized"


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    write_model(tmp_path / "tiny.onnx")
    write_model(tmp_path / "unknown.onnx", "Sin")
    out = tmp_path / "models.md"
    bench_models.main(
        [
            str(tmp_path),
            "--quick",
            "--steps",
            "6",
            "--batches",
            "1",
            "2",
            "--peers",
            "onnxruntime",
            "--output",
            str(out),
        ]
    )
    found = json.loads(out.with_suffix(".json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert [(row["model"], row["batch"], row["steps"]) for row in found["rows"]] == [("tiny", 1, 6), ("tiny", 2, 6)]
    assert list(found["refused"]) == ["unknown"]
    for row in found["rows"]:
        assert set(row["us"]) == {"qrnn", "ONNX Runtime f32", "ONNX Runtime int8"}
        assert row["ratio"] == row["us"][row["best_peer"]] / row["us"]["qrnn"]
    text = out.read_text()
    assert text in capsys.readouterr().out
    assert "## Batch 2" in text
    assert "- unknown: " in text


def test_models_one_at_a_time(tmp_path: Path) -> None:
    """Rows of other models are kept, of the same command alone; converted models are read again."""
    write_model(tmp_path / "one.onnx")
    write_model(tmp_path / "two.onnx", "Tanh")
    out, kept = tmp_path / "models.md", tmp_path / "converted"
    common = [str(tmp_path), "--quick", "--peers", "--keep", "--converted", str(kept), "--output", str(out)]
    for models in (["two"], ["one"], ["two"]):
        bench_models.main([*common, "--steps", "6", "--batches", "1", "2", "--models", *models])
    found = json.loads(out.with_suffix(".json").read_text())
    assert [(row["model"], row["batch"]) for row in found["rows"]] == [("one", 1), ("one", 2), ("two", 1), ("two", 2)]
    assert sorted(path.name for path in kept.iterdir()) == ["one.qrnn", "two.qrnn"]
    assert "--steps 6 --batches 1 2 --threads 1 --peers --rounds 9 --quick --models one two`" in out.read_text()
    with pytest.raises(SystemExit, match=r"command is .*--steps 6.*expected the same with --keep"):
        bench_models.main([*common, "--steps", "7", "--batches", "1", "--models", "one"])


def test_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(tmp_path / "tiny.onnx")
    options = bench_models.parse([str(tmp_path)])
    assert (options.batches, options.threads, [path.stem for path in options.paths]) == ([1, 16], 1, ["tiny"])
    for wrong in (
        [str(tmp_path), "--models", "x"],
        [str(tmp_path / "none")],
        [str(tmp_path), "--threads", "100000"],
        [str(tmp_path), "--steps", "0"],
    ):
        with pytest.raises(SystemExit) as end:
            bench_models.parse(wrong)
        assert end.value.code == 2
    assert "x is not there" in capsys.readouterr().err
