"""The comparison of the bundled model, which several files of tests look at."""

from __future__ import annotations

import numpy as np
import pytest

from qrnn.accuracy.compare import compare
from qrnn.accuracy.comparison import Comparison
from qrnn.conversion import quantize
from qrnn.examples import digits_calibration, digits_model, digits_test
from qrnn.onnx_import import load_onnx


@pytest.fixture(scope="module")
def digits() -> Comparison:
    with np.load(digits_calibration()) as data:
        calibration = {"x": data["x"]}
    with np.load(digits_test()) as data:
        test = {"x": data["x"], "labels": data["labels"]}
    model = load_onnx(digits_model())
    return compare(model, quantize(model, calibration), test, onnx_path=digits_model())
