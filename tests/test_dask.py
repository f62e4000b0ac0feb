"""Dask arrays give the bits of one run, by threads of this process and on a cluster of processes."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from onnx_import.builders import head

import qrnn
from qrnn.errors import DataError, MissingLibraryError

da = pytest.importorskip("dask.array")

RNG = np.random.default_rng(5)
X = RNG.normal(size=(20, 5, 4)).astype(np.float32)
LENGTHS = RNG.integers(0, 6, 20)


@pytest.fixture(scope="module")
def model() -> qrnn.QuantModel:
    return qrnn.quantize(qrnn.load_onnx(head("GRU")), {"x": X}, qrnn.Scheme(input="8"))


def expected(model: qrnn.QuantModel, **more: Any) -> Any:
    return qrnn.Session(model).run({"x": X}, **more).outputs["logits"]


@pytest.mark.parametrize("chunks", [(20, 5, 4), (7, 5, 4), (1, 5, 4), (6, 2, 3)])
def test_blocks_of_any_size(chunks: tuple[int, ...], model: qrnn.QuantModel) -> None:
    found = qrnn.run_dask(model, da.from_array(X, chunks))
    assert found.keys() == {"logits"}
    want = expected(model)
    lazy = found["logits"]
    assert (lazy.shape, lazy.dtype) == (want.shape, want.dtype)
    np.testing.assert_array_equal(lazy.compute(scheduler="threads"), want)
    np.testing.assert_array_equal(lazy[3:9].compute(scheduler="synchronous"), want[3:9])
    exact = qrnn.run_dask(model, da.from_array(X, chunks), real="float64")["logits"]
    assert exact.dtype == np.float64
    np.testing.assert_array_equal(exact.compute(scheduler="synchronous"), expected(model, real="float64"))


def test_lengths_and_names(model: qrnn.QuantModel) -> None:
    x, want = da.from_array(X, (6, 5, 4)), expected(model, lengths=LENGTHS)
    for found in (
        qrnn.run_dask(model, x, LENGTHS),
        qrnn.run_dask(model, {"x": x, "lengths": da.from_array(LENGTHS, 3)}, threads=2),
    ):
        np.testing.assert_array_equal(found["logits"].compute(scheduler="threads"), want)


def test_a_cluster_of_processes(model: qrnn.QuantModel) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        np.testing.assert_array_equal(
            qrnn.run_dask(model, da.from_array(X, (6, 5, 4)))["logits"].compute(), expected(model)
        )


def test_what_does_not_fit(model: qrnn.QuantModel, monkeypatch: pytest.MonkeyPatch) -> None:
    x = da.from_array(X, (6, 5, 4))
    for inputs, says in (
        (x[:, :, :3], "expected"),
        ({"z": x}, "'z' is not an input"),
        ({"x": x, "lengths": da.from_array(LENGTHS[:3])}, "the same N first"),
        (x[x[:, 0, 0] > 0], "compute_chunk_sizes"),
    ):
        with pytest.raises(DataError, match=says):
            qrnn.run_dask(model, inputs)
    bad = X.copy()
    bad[13, 1, 2] = np.inf
    with pytest.raises(DataError, match=r"inf at \[13, 1, 2\]"):
        qrnn.run_dask(model, da.from_array(bad, (6, 5, 4)))["logits"].compute(scheduler="threads")
    monkeypatch.setitem(sys.modules, "dask", None)
    with pytest.raises(MissingLibraryError, match=r"dask.*qrnn\[dask\]"):
        qrnn.run_dask(model, x)
