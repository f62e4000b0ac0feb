"""A source that matrices and other layers read: the copy of it that matrices read, with a scale and an offset for each feature."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.building import check
from hypothesis import given, settings
from hypothesis import strategies as st

import qrnn
from qrnn import layers
from qrnn.backends import available_backends
from qrnn.model.kinds.rescale import QuantRescale
from qrnn.model.quant_model import QuantModel

SIZES = np.array([0.2, 1.0, 3.0, 0.5])
MIDDLES = np.array([2.0, -4.0, 8.0, 0.0])


def model() -> qrnn.FloatModel:
    """A mask: x · sigmoid(dense(gru(x))), so that a matrix and a product read x; weights suit the sizes of the features."""
    rng = np.random.default_rng(0)
    x = layers.input("x", 4)
    h = layers.gru(x, rng.normal(0, 0.5, (36, 4)) / SIZES, rng.normal(0, 0.3, (36, 12)), rng.normal(size=36))
    mask = layers.activation(layers.dense(h.output, rng.normal(0, 0.5, (4, 12))), "sigmoid")
    return layers.model("mask", {"y": layers.multiply(mask, x)})


def data(seed: int, *size: int) -> Any:
    return {"x": np.random.default_rng(seed).normal(size=(*size, 4)) * SIZES + MIDDLES}


@cache
def quantized(width: str) -> QuantModel:
    return qrnn.quantize(model(), data(1, 12, 30), qrnn.Scheme(activations=16, input=width))


@pytest.mark.parametrize("width", ["8-per-feature", "16-per-feature"])
def test_the_copy_has_the_width_that_is_asked_for(width: str) -> None:
    (copy,) = (layer for layer in quantized(width).layers if isinstance(layer, QuantRescale))
    assert (copy.limit > 127) == (width == "16-per-feature")
    assert any(copy.offset) == (width == "16-per-feature")
    assert copy.output in quantized(width).recurrent_layers[0].inputs


def test_wide_copies_come_near_the_floor() -> None:
    """One scale for all features leaves the weights of small ones few steps; and so do features far from 0."""
    found = {}
    for width in ("16", "16-per-feature"):
        report = qrnn.compare(model(), quantized(width), data(2, 8, 30))
        found[width] = report.floor["y"].about_mean_db - report.outputs["y"].about_mean_db
    assert found["16-per-feature"] < 1.5
    assert found["16"] > found["16-per-feature"] + 3


@pytest.mark.parametrize("size", [1e-12, 1e-3, 1e6])
def test_copies_of_features_of_any_size(size: float) -> None:
    """A copy of a feature that is tiny beside the tensor's unit is no finer than its multiplier can be."""
    small = {"x": data(3, 4, 9)["x"] * np.array([size, 1.0, 1.0, 1.0])}
    made = qrnn.quantize(model(), small, qrnn.Scheme(activations=16, input="16-per-feature"))
    (copy,) = (layer for layer in made.layers if isinstance(layer, QuantRescale))
    assert copy.left_shift.max() <= 15


@pytest.mark.parametrize("width", ["8-per-feature", "16-per-feature"])
@pytest.mark.parametrize("backend", [name for name in available_backends() if name != "reference"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1 << 30), steps=st.integers(1, 6), times=st.sampled_from([1.0, 30.0]))
def test_backends_agree(backend: str, width: str, seed: int, steps: int, times: float) -> None:
    x = {"x": data(seed, 3, steps)["x"] * times}
    want, got = (qrnn.Session(quantized(width), name).run(x).outputs["y"] for name in ("reference", backend))
    np.testing.assert_array_equal(got, want)


def test_c(tmp_path: Path) -> None:
    check(quantized("16-per-feature"), tmp_path, "gcc")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"limit": 40000}, "limit 40000"),
        ({"limit": 1}, "limit 1 "),
        ({"offset": (0, 1)}, "2 offsets"),
        ({"offset": (1 << 31,)}, "beyond"),
    ],
)
def test_wrong_copies_are_refused(changes: dict[str, Any], says: str) -> None:
    (copy,) = (layer for layer in quantized("16-per-feature").layers if isinstance(layer, QuantRescale))
    with pytest.raises(qrnn.ModelFileError, match=says):
        replace(copy, **changes)
