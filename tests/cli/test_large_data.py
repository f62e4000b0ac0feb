"""The commands on data in pieces: every format in and out, what is said about all pieces together, and nothing where a late piece is bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.running import Workplace
from qrnn.data_files import opening
from qrnn.data_files.archive import npz_bytes

N = 300


@pytest.fixture
def large(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """A folder with data of many pieces, of which single values lie beyond the calibrated range."""
    monkeypatch.setattr(opening, "PIECE_BYTES", 1000)
    monkeypatch.setattr(opening, "WHOLE_BYTES", 1000)
    rng = np.random.default_rng(3)
    x = rng.normal(size=(N, 5, 4)).astype(np.float32)
    x[::7, 0, 0] = 90.0
    arrays = {"x": x, "lengths": rng.integers(1, 6, N), "labels": rng.integers(0, 3, N)}
    place.path("large.npz").write_bytes(npz_bytes(arrays))
    return place


def run(place: Workplace, data: str, out: str, *more: str) -> Any:
    done = place.cli("run", place.path("gru.qrnn"), "--input", place.path(data), "-o", place.path(out), *more)
    assert done.status == 0, done
    return done


def test_run_says_what_all_pieces_have_together(large: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = json.loads(run(large, "large.npz", "out.npz", "--json").out)
    monkeypatch.setattr(opening, "PIECE_BYTES", 1 << 30)
    whole = json.loads(run(large, "large.npz", "whole.npz", "--json").out)
    for found in (pieces, whole):
        del found["seconds"], found["output"]
    assert pieces == whole
    assert pieces["sequences"] == N
    assert pieces["outputs"] == {"logits": [N, 5, 3]}
    assert pieces["beyond_calibrated_range"]["x"] >= N // 7
    with np.load(large.path("out.npz")) as got, np.load(large.path("whole.npz")) as want:
        np.testing.assert_array_equal(got["logits"], want["logits"])


def test_last_steps(large: Workplace) -> None:
    run(large, "large.npz", "all.npz")
    run(large, "large.npz", "last.npz", "--steps", "last")
    with np.load(large.path("large.npz")) as arrays, np.load(large.path("all.npz")) as every:
        want = every["logits"][np.arange(N), arrays["lengths"] - 1]
    with np.load(large.path("last.npz")) as found:
        np.testing.assert_array_equal(found["logits"], want)
    large.refused(*arguments(large, "large.npz", "out.npz"), "--steps", "first", says="expected 'all' or 'last'")


def test_formats_of_data_and_outputs(large: Workplace) -> None:
    run(large, "large.npz", "want.npz")
    with np.load(large.path("want.npz")) as found:
        want = found["logits"]
    run(large, "large.npz", "out.npy")
    np.testing.assert_array_equal(np.load(large.path("out.npy")), want)
    folder = large.path("folder")
    folder.mkdir()
    with np.load(large.path("large.npz")) as arrays:
        for name in ("x", "lengths"):
            np.save(folder / f"{name}.npy", arrays[name])
    run(large, "folder", "again.npy")
    np.testing.assert_array_equal(np.load(large.path("again.npy")), want)
    zarr = pytest.importorskip("zarr")
    run(large, "folder", "out.zarr")
    np.testing.assert_array_equal(zarr.open_group(str(large.path("out.zarr")), mode="r")["logits"][...], want)
    large.refused(*arguments(large, "large.npz", "out.zarr"), says=("out.zarr", "is there already"))


def arguments(place: Workplace, data: str, out: str) -> tuple[Any, ...]:
    return ("run", place.path("gru.qrnn"), "--input", place.path(data), "-o", place.path(out))


@pytest.mark.parametrize("out", ["out.npz", "out.npy", "out.zarr"])
def test_a_bad_value_in_the_last_piece_leaves_nothing(large: Workplace, out: str) -> None:
    if out.endswith(".zarr"):
        pytest.importorskip("zarr")
    with np.load(large.path("large.npz")) as arrays:
        x = arrays["x"].copy()
    x[N - 1, 4, 3] = np.inf
    large.path("bad.npz").write_bytes(npz_bytes({"x": x}))
    large.refused(*arguments(large, "bad.npz", out), says=f"inf at [{N - 1}, 4, 3]")


def test_compare_reads_pieces(large: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    def report(name: str) -> Any:
        how = ("--data", large.path("large.npz"), "--json", large.path(name), "--quiet")
        done = large.cli("compare", large.path("gru.onnx"), large.path("gru.qrnn"), *how)
        assert (done.status, done.out) == (0, "")
        return json.loads(Path(large.path(name)).read_text(encoding="utf-8"))

    pieces = report("pieces.json")
    monkeypatch.setattr(opening, "WHOLE_BYTES", 1 << 30)
    whole = report("whole.json")
    assert pieces["decisions"] == whole["decisions"]
    assert pieces["outputs"]["logits"]["sqnr_db"] == pytest.approx(whole["outputs"]["logits"]["sqnr_db"], rel=1e-9)


def test_quiet_prints_nothing(large: Workplace) -> None:
    done = run(large, "large.npz", "out.npz", "--quiet")
    assert (done.out, done.err) == ("", "")
