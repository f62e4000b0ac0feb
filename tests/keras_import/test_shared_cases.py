"""Keras models of others with their own outputs: imported, converted with default settings, and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qrnn

CASES = Path(__file__).parents[3] / "shared" / "cases" / "keras"

pytestmark = pytest.mark.skipif(not (CASES / "io.npz").is_file(), reason="the shared cases are not here")


def case(file: str) -> tuple[qrnn.FloatModel, str, str, Any, Any, Any]:
    """Return the model, the names of its input and output, data, calibration data and what Keras gave."""
    with np.load(CASES / "io.npz") as io:
        x, calibration, want = io["x"], io["calibration"], io[file.split(".")[0]]
    model = qrnn.load_keras(CASES / file)
    (given,), (output,) = model.inputs, model.outputs
    return model, given.name, output.name, x, calibration, want


FILES = ["bilstm_tagger.keras", "gru_classifier.keras", "lstm_regressor.h5"]


@pytest.mark.parametrize("file", FILES)
def test_float_outputs(file: str) -> None:
    model, name, output, x, _, want = case(file)
    np.testing.assert_allclose(qrnn.run_oracle(model, {name: x}).outputs[output], want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("file", [*(pytest.param(file, marks=pytest.mark.matrix) for file in FILES[:2]), FILES[2]])
def test_integer_outputs(file: str) -> None:
    model, name, output, x, calibration, want = case(file)
    quantized = qrnn.quantize(model, {name: calibration})
    result = qrnn.Session(quantized, "reference").run({name: x}).outputs[output]
    error = result - want
    sqnr = 10 * np.log10(((want - want.mean()) ** 2).sum() / ((error - error.mean()) ** 2).sum())
    same = (result > 0) == (want > 0) if want.shape[-1] == 1 else result.argmax(-1) == want.argmax(-1)
    assert sqnr >= 40 or same.mean() >= 0.99
