"""Trained models on real data with accuracy won back: what docs/accuracy.md says of the methods, within 2 dB and a point.

The slowest, the noise suppressor, takes some seconds.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from accuracy.test_shared_models import SHARED, THIRD_PARTY, clips
from qrnn.accuracy.metrics import sqnr_db
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.model.float_model import FloatModel
from qrnn.onnx_import import load_onnx
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

pytestmark = [
    pytest.mark.matrix,  # the default run has the same methods on small models, in tests/refinement
    pytest.mark.fused,  # plain loops take long on so much data
    pytest.mark.skipif(not (SHARED / "models").is_dir(), reason="the shared models are not here"),
]

# Scheme; SQNR without and with the methods; accuracy points that may be lost with them, of 300 clips.
MEASURED: dict[str, list[tuple[dict[str, Any], str, float, float, float]]] = {
    "fsdd_rnn64": [
        ({}, "rounding", 40.7, 44.0, 0.35),
        ({"weights": 4}, "rounding,bias", 19.9, 31.5, 1.0),
        ({"gates": "hard"}, "gates", 13.9, 20.9, 1.0),
    ],
    "fsdd_gru64": [
        ({}, "rounding", 46.6, 48.4, 0.35),
        ({"weights": 4}, "rounding,bias", 28.3, 35.0, 1.0),
        ({"gates": "hard"}, "gates", 16.1, 23.0, 1.0),
    ],
}


@cache
def float_side(name: str) -> tuple[FloatModel, Any]:
    model = load_onnx(SHARED / "models" / f"{name}.onnx")
    x, lengths, _ = clips(test=True)
    return model, run_oracle(model, {"x": x}, lengths).outputs["logits"]


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize("case", range(3))
def test_spoken_digits(name: str, case: int) -> None:
    more, refine, before, after, points = MEASURED[name][case]
    model, want = float_side(name)
    x, lengths, _ = clips(test=False)
    test_x, test_lengths, labels = clips(test=True)
    ends = np.arange(300), test_lengths - 1
    results = [
        Session(quantize(model, {"x": x, "lengths": lengths}, Scheme(input="8", refine=r, **more))).run(
            {"x": test_x}, test_lengths
        )
        for r in ("none", refine)
    ]
    plain, refined = (r.outputs["logits"] for r in results)
    assert sqnr_db(want, plain) == pytest.approx(before, abs=2.0)
    assert sqnr_db(want, refined) >= after - 2.0
    right = [int((v[ends].argmax(axis=1) == labels).sum()) for v in (want, refined)]
    assert 100 * (right[0] - right[1]) / 300 <= points


def test_four_bits_for_the_noise_suppressor() -> None:
    """Plain rounding gives 12.7 dB."""
    model = load_onnx(THIRD_PARTY / "dtln_model_1.onnx")
    with np.load(SHARED / "data" / "dtln_model_1_io.npz") as d:
        magnitude = d["magnitude"][None]
    want = run_oracle(model, {"input_2": magnitude}).outputs["activation_2"]
    scheme = Scheme(input="8-per-feature", weights=4, refine="rounding,bias")
    quantized = quantize(model, {"input_2": magnitude[:, :400]}, scheme)
    got = Session(quantized).run({"input_2": magnitude}).outputs["activation_2"]
    assert sqnr_db(want, got) >= 21.8
    assert ((got > 0.5) == (want > 0.5)).mean() >= 0.965
