"""Accuracy of the trained model that comes with the package: needs neither shared models nor a network.

Of the 360 test images 355 are answered right in float and with 8-bit weights, 354 with four bits, 353 with refined four bits. The bounds
are an image or two below that, and about 1 dB below the SQNR that was measured.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from qrnn.accuracy.metrics import sqnr_db
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.examples import digits_calibration, digits_model, digits_test
from qrnn.model.float_model import FloatModel
from qrnn.model.quant_model import QuantModel
from qrnn.onnx_import import load_onnx
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

SCHEMES = {
    "8 bits": (Scheme(), 354, 39.0),
    "16 bits": (Scheme(activations=16, input="16"), 354, 41.0),
    "percentile": (Scheme(calibrator="percentile"), 354, 39.0),
    "mse": (Scheme(calibrator="mse"), 354, 39.0),
    "short tables": (Scheme(gates="pwl:32"), 354, 39.0),
    "four bits": (Scheme(weights=4), 352, 19.0),
    "four bits, refined": (Scheme(weights=4, refine="rounding,bias"), 351, 22.5),
}
"""Name → the scheme, the least number of right answers, the least SQNR of the last step's logits in dB."""

USUAL = ("8 bits", "four bits")
"""What the default run converts to."""


@cache
def images() -> tuple[Any, Any]:
    """The test images [360, 8, 8] and their labels [360]."""
    with np.load(digits_test()) as data:
        return data["x"], data["labels"]


@cache
def trained() -> FloatModel:
    return load_onnx(digits_model())


@cache
def quantized(name: str) -> QuantModel:
    with np.load(digits_calibration()) as data:
        return quantize(trained(), {"x": data["x"]}, SCHEMES[name][0])


@cache
def wanted() -> Any:
    """The last step's logits [360, 10] of the float model."""
    return run_oracle(trained(), {"x": images()[0]}).outputs["logits"][:, -1]


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in USUAL else pytest.mark.matrix) for n in SCHEMES])
def test_right_answers(name: str) -> None:
    x, labels = images()
    _, least, decibels = SCHEMES[name]
    assert np.sum(wanted().argmax(axis=1) == labels) == 355
    logits = Session(quantized(name), "cpu").run({"x": x}).outputs["logits"][:, -1]
    assert np.sum(logits.argmax(axis=1) == labels) >= least
    assert sqnr_db(wanted(), logits) >= decibels


@pytest.mark.parametrize("backend", [name for name in available_backends() if name != "reference"])
@pytest.mark.parametrize("name", ["8 bits", pytest.param("four bits", marks=pytest.mark.matrix)])
def test_every_backend_gives_the_references_logits(name: str, backend: str) -> None:
    x, _ = images()
    want, got = (Session(quantized(name), each).run({"x": x}).outputs["logits"] for each in ("reference", backend))
    np.testing.assert_array_equal(want, got)
