"""Sweeps: the same records whoever measures them, nothing lost and nothing done twice, and folders that are left alone."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qrnn
from lab.conftest import VARY
from qrnn.devices import find_toolchain
from qrnn.errors import DataError, DeviceError, QuantizationError
from qrnn.lab.executors import process_pool
from qrnn.lab.outputs import write_outputs
from qrnn.lab.pareto import csv_text
from qrnn.lab.sweep import sweep
from qrnn.lab.sweep_result import SweepResult
from qrnn.targets import Target, load_target

SHARED = Path(__file__).parents[3] / "shared"


def test_records_are_what_compare_measures(
    swept: SweepResult, files: Path, calibration: Any, data: Any, board: Target
) -> None:
    assert [r["scheme"]["weights"] for r in swept.records] == [8, 8, 4, 4]
    assert swept.fresh == 4
    model = qrnn.load_onnx(files / "model.onnx")
    r = swept.records[3]
    quantized = qrnn.quantize(model, calibration, qrnn.Scheme(**r["scheme"]), board.name)
    report = qrnn.compare(model, quantized, data, onnx_path=files / "model.onnx")
    assert report.decisions is not None
    figures = r["figures"]
    assert figures["sqnr_db"] == report.outputs["logits"].sqnr_db
    assert figures["agreement"] == report.decisions.agreement.percent
    assert figures["accuracy"] == report.decisions.correct["quantized"].percent
    assert figures["accuracy_drop"] == report.decisions.accuracy_drop
    assert r["judgement"] == report.to_dict()["decisions"]
    assert figures["saturated"] == sum(s.saturated for s in report.saturation)
    assert {n: e["sqnr_db"] for n, e in r["layers"].items()} == {n: e.sqnr_db for n, e in report.layers.items()}
    assert qrnn.load(swept.folder / "models" / f"{r['key']}.qrnn").provenance.scheme == quantized.provenance.scheme


def test_drift_and_worst_sequences(swept: SweepResult, data: Any) -> None:
    r = swept.records[0]
    windows = r["drift"]["logits"]
    assert windows[0][0] == 1
    assert windows[-1][1] == data["x"].shape[1]
    assert all(a[1] + 1 == b[0] for a, b in itertools.pairwise(windows))
    worst = r["worst"]
    assert [w["sqnr_db"] for w in worst] == sorted(w["sqnr_db"] for w in worst)
    assert all(w["label"] == data["labels"][w["sequence"]] for w in worst)
    assert {"float", "quantized"} <= set(worst[0])
    model = qrnn.load(swept.folder / "models" / f"{r['key']}.qrnn")
    x = data["x"][worst[0]["sequence"]][None]
    decided = qrnn.Session(model).run({"x": x}).outputs["logits"][0, -1].argmax()
    assert decided == worst[0]["quantized"]


def test_cost_model_is_marked(swept: SweepResult) -> None:
    for r in swept.records:
        assert (r["cost"]["counted"], r["cost"]["linked"]) == (False, False)
        assert r["cost"]["problem"]
        assert r["figures"]["instructions"] > 0
    sizes = [r["figures"]["model_bytes"] for r in swept.records]
    assert sizes[2] < sizes[0]
    assert swept.records[0]["latency"]["us"] > 0


def test_a_sweep_says_what_it_found(swept: SweepResult, tmp_path: Path) -> None:
    text, best = repr(swept), swept.front_records[0]
    assert len(text.split("\n")) <= 10
    assert best["label"] in text
    assert "Front of" in str(swept)
    assert best["label"].split(",")[0] in str(swept)
    pytest.importorskip("matplotlib")
    assert swept.plot("sqnr", "flash", tmp_path / "front.png").png == (tmp_path / "front.png").read_bytes()
    with pytest.raises(DataError, match="expected"):
        swept.plot("beauty", "flash")


def test_again_measures_nothing(swept: SweepResult, files: Path, board: Target, calibration: Any, data: Any) -> None:
    """Latencies, too, are those that were measured first."""
    before = {p: p.stat().st_mtime_ns for p in (swept.folder / "results").iterdir()}
    again = sweep(files / "model.onnx", calibration, data, swept.folder, target=board, vary=VARY)
    assert again.fresh == 0
    assert again.records == swept.records
    assert {p: p.stat().st_mtime_ns for p in (swept.folder / "results").iterdir()} == before
    other = sweep(
        files / "model.onnx", calibration, data, swept.folder, target=board, vary={"gates": ("hard", "pwl:16")}
    )
    assert (other.fresh, len(other.records)) == (1, 2)
    assert other.records[0] == swept.records[1]


def test_keys_depend_on_all_that_figures_depend_on(
    swept: SweepResult, files: Path, board: Target, calibration: Any, data: Any, tmp_path: Path
) -> None:
    from dataclasses import replace

    def key(calibration: Any, data: Any, target: Target) -> str:
        from qrnn.lab.evaluate import Setting
        from qrnn.lab.results import Results

        model = qrnn.load_onnx(files / "model.onnx")
        return Results(tmp_path / "keys", Setting(model, calibration, data, target)).key(qrnn.Scheme())

    keys = {
        key(calibration, data, board),
        key({"x": calibration["x"][:-1]}, data, board),
        key(calibration, {**data, "labels": data["labels"][::-1]}, board),
        key(calibration, data, replace(board, note="another")),
    }
    assert len(keys) == 4
    assert key(calibration, data, board) in keys


@pytest.fixture(
    params=[
        pytest.param("threads", marks=pytest.mark.matrix),
        "processes",
        pytest.param("dask", marks=pytest.mark.matrix),
    ]
)
def executor(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "threads":
        with ThreadPoolExecutor(2) as pool:
            yield pool
    elif request.param == "processes":
        with process_pool(2) as chosen:
            assert isinstance(chosen, ProcessPoolExecutor)
            yield chosen
    else:
        distributed = pytest.importorskip("distributed")
        with (
            distributed.LocalCluster(
                n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client


def test_every_executor_gives_the_same(
    swept: SweepResult,
    executor: Executor | Any,
    files: Path,
    board: Target,
    calibration: Any,
    data: Any,
    tmp_path: Path,
) -> None:
    found = sweep(
        files / "model.onnx",
        calibration,
        data,
        tmp_path / "out",
        target=board,
        vary=VARY,
        executor=executor,
        latency=False,
    )
    plain = [{**r, "figures": {k: v for k, v in r["figures"].items() if k != "latency_us"}} for r in swept.records]
    assert found.records == [{k: v for k, v in r.items() if k != "latency"} for r in plain]


@pytest.mark.matrix
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed_and_resumed_gives_the_same_table(
    files: Path, board: Target, calibration: Any, data: Any, tmp_path: Path
) -> None:
    """A sweep in two processes is killed half way; what was done stays as it is, and the table is that of a sweep left alone."""
    gates, weights = ("pwl:128", "pwl:64", "pwl:32", "pwl:16", "hard"), (8, 4)
    arguments = ["sweep", "model.onnx", "--calibration", "calibration.npz", "--data", "test.npz", "--no-latency"]
    arguments += ["--target", "board.toml", "--vary", f"gates={','.join(gates)}", "--vary", "weights=8,4"]
    start = [
        sys.executable,
        "-c",
        "from qrnn.cli import main; main()",
        *arguments,
        "--jobs",
        "2",
        "-o",
        tmp_path / "out",
    ]
    process = subprocess.Popen(start, cwd=files, start_new_session=True, stdout=subprocess.DEVNULL)
    folder, done = tmp_path / "out", []
    end = time.monotonic() + 120
    while len(done) < 4 and time.monotonic() < end:
        assert process.poll() is None, "the sweep ended before it could be killed"
        done = list(folder.glob("results/*.json"))
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)  # the parent alone: its workers must end by themselves
    process.wait()
    kept = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("results/*.json")}
    assert 4 <= len(kept) < 10
    assert not (folder / "table.csv").exists()
    resumed = subprocess.run(start, cwd=files, capture_output=True, text=True, timeout=240)
    assert resumed.returncode == 0, resumed.stderr
    assert f"{len(kept)} of them before" in resumed.stdout
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in kept} == kept
    vary = {"gates": gates, "weights": weights}
    alone = sweep(files / "model.onnx", calibration, data, tmp_path / "alone", target=board, vary=vary, latency=False)
    assert alone.fresh == 10
    assert (folder / "table.csv").read_text() == csv_text(alone.records, alone.front)
    end = time.monotonic() + 30
    while alive(process.pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(process.pid)


def alive(group: int) -> bool:
    """Return whether any process of the killed sweep's own group is left."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = entry.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state != "Z":
            return True
    return False


def test_a_choice_that_the_model_cannot_have_is_recorded(board: Target, data: Any, tmp_path: Path) -> None:
    from qrnn import layers

    rng = np.random.default_rng(0)
    x = layers.input("x", features=3)
    w = rng.normal(size=(4, 3)), rng.normal(size=(4, 4))
    model = layers.model("plain", outputs={"y": layers.rnn(x, *w, activation="relu").output})
    arrays = {"x": rng.normal(size=(4, 5, 3))}
    vary = {"gates": ("pwl:64", "candidate=hard")}
    found = sweep(model, arrays, arrays, tmp_path / "out", target=board, vary=vary, latency=False)
    assert "refused" not in found.records[0]
    assert "candidate=hard" in found.records[1]["refused"]
    assert found.front == [0]
    assert sweep(model, arrays, arrays, tmp_path / "out", target=board, vary=vary, latency=False).fresh == 0
    write_outputs(found, "plain", "c.npz", "d.npz")
    assert "candidate=hard" in (tmp_path / "out" / "table.csv").read_text()


def test_counted_on_a_target(files: Path, calibration: Any, data: Any, tmp_path: Path) -> None:
    """With a compiler and an emulator, figures are those of `qrnn fit`."""
    target = load_target("cortex-m4")
    try:
        find_toolchain(target)
    except DeviceError as error:
        pytest.skip(str(error))
    found = sweep(files / "model.onnx", calibration, data, tmp_path / "out", target=target, vary={}, latency=False)
    if not found.records[0]["cost"]["counted"]:
        pytest.skip(str(found.records[0]["cost"]["problem"]))
    from qrnn.devices.fit import fit

    model = qrnn.load(tmp_path / "out" / "models" / f"{found.records[0]['key']}.qrnn")
    needs = fit(model, [target], 8, 0.01)[0].needs
    figures = found.records[0]["figures"]
    assert (figures["flash_bytes"], figures["ram_bytes"], figures["instructions"]) == (
        needs.flash_bytes,
        needs.ram_bytes,
        needs.instructions,
    )


def test_folders_that_are_not_a_sweeps_are_left_alone(
    files: Path, board: Target, calibration: Any, data: Any, tmp_path: Path
) -> None:
    def run(folder: Path, **more: Any) -> SweepResult:
        return sweep(files / "model.onnx", calibration, data, folder, target=board, **more)

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("")
    for folder, says in (("mine", "not empty"), ("file", "is a file"), ("no/where", "no folder")):
        with pytest.raises(DataError, match=says):
            run(tmp_path / folder)
    with pytest.raises(DataError, match="no configuration is left"):
        run(tmp_path / "out", only_with={"weights": (8,)}, vary={"weights": (4,)})
    with pytest.raises(QuantizationError, match="axis 'width'"):
        run(tmp_path / "out", vary={"width": (4,)})
    with pytest.raises(DataError, match="limit=0"):
        run(tmp_path / "out", limit=0)
    with pytest.raises(DataError, match="jobs=0"):
        run(tmp_path / "out", jobs=0)
    with pytest.raises(DataError, match="figure 'speed'"):
        run(tmp_path / "out", front_of=("speed",))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine"]


def test_a_damaged_record_is_named(
    swept: SweepResult, files: Path, board: Target, calibration: Any, data: Any, tmp_path: Path
) -> None:
    first = sweep(files / "model.onnx", calibration, data, tmp_path / "out", target=board, vary={}, latency=False)
    path = tmp_path / "out" / "results" / f"{first.records[0]['key']}.json"
    for content in ("", "[]", "{}", '{"key": "other"}'):
        path.write_text(content)
        with pytest.raises(DataError, match=r"not a record of qrnn sweep or tune; delete it"):
            sweep(files / "model.onnx", calibration, data, tmp_path / "out", target=board, vary={}, latency=False)


@pytest.mark.long
@pytest.mark.skipif(not (SHARED / "models").is_dir(), reason="the shared models are not here")
def test_the_default_grid_on_spoken_digits(board: Target, tmp_path: Path) -> None:
    """80 configurations of a trained GRU: none refused, and a front that begins where docs/accuracy.md says."""
    with np.load(SHARED / "data" / "fsdd_logmel.npz") as d:
        frames, lengths, labels, test = d["frames"], d["lengths"], d["labels"], d["test"]
    x = np.zeros((len(lengths), int(lengths.max()), frames.shape[1]), np.float32)
    for row, end, length in zip(x, np.cumsum(lengths), lengths, strict=True):
        row[:length] = frames[end - length : end]
    fitted, held = np.flatnonzero(~test)[::10], np.flatnonzero(test)
    calibration = {"x": x[fitted], "lengths": lengths[fitted]}
    data = {"x": x[held], "lengths": lengths[held], "labels": labels[held]}
    path = SHARED / "models" / "fsdd_gru64.onnx"
    found = sweep(path, calibration, data, tmp_path / "out", target=board, jobs=2, latency=False)
    assert len(found.records) == found.fresh == 80
    assert all("figures" in r for r in found.records)
    best = max(r["figures"]["sqnr_db"] for r in found.front_records)
    assert best > 48.0
    assert max(r["figures"]["accuracy"] for r in found.front_records) > 95.0
    write_outputs(found, "fsdd_gru64.onnx", "calibration.npz", "test.npz")
    assert (tmp_path / "out" / "report.html").stat().st_size < 2_000_000
