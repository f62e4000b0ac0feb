"""``steps="last"`` gives the last real step of each sequence of the whole run, however the run is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_import.builders import head

import qrnn
from qrnn.errors import DataError

RNG = np.random.default_rng(6)
X = RNG.normal(size=(20, 5, 4)).astype(np.float32)
LENGTHS = RNG.integers(0, 6, 20)


@pytest.fixture(scope="module")
def model() -> qrnn.QuantModel:
    return qrnn.quantize(qrnn.load_onnx(head("GRU")), {"x": X}, qrnn.Scheme(input="8"))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "ragged"])
@pytest.mark.parametrize("integers", [False, True])
def test_last_steps(backend: str, lengths: Any, integers: bool, model: qrnn.QuantModel) -> None:
    session = qrnn.Session(model, backend, integers=integers)
    x = RNG.integers(-50, 50, X.shape).astype(np.int16) if integers else X
    whole = session.run({"x": x}, lengths)
    counts = np.full(20, 5) if lengths is None else lengths
    want = whole.outputs["logits"][np.arange(20), np.maximum(counts, 1) - 1]
    want[counts < 1] = 0
    seen: list[tuple[int, int]] = []
    for more in ({}, {"progress": lambda *done: seen.append(done)}):
        got = session.run({"x": x}, lengths, steps="last", **more)
        assert got.outputs["logits"].dtype == want.dtype
        np.testing.assert_array_equal(got.outputs["logits"], want)
        for name, arrays in whole.state.layers.items():
            for one, other in zip(arrays, got.state.layers[name], strict=True):
                np.testing.assert_array_equal(one, other)
    assert len(seen) == 20
    if not integers:
        chunks = [
            {"x": x[k : k + 6]} if lengths is None else {"x": x[k : k + 6], "lengths": counts[k : k + 6]}
            for k in (0, 6, 12, 18)
        ]
        parts = [outputs["logits"] for outputs in session.run_chunks(chunks, steps="last")]
        np.testing.assert_array_equal(np.concatenate(parts), want)


def test_other_words_are_refused(model: qrnn.QuantModel) -> None:
    with pytest.raises(DataError, match="steps='first', expected 'all' or 'last'"):
        qrnn.Session(model).run({"x": X}, steps="first")
