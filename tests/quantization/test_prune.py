"""Pruned weights are blocks of zeros, and stay so in the integer model, whatever is done to the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import qrnn
from qrnn import layers
from qrnn.conversion.prune import pruned, pruning_named
from qrnn.errors import QuantizationError


def network() -> Any:
    rng = np.random.default_rng(5)
    x = layers.input("x", features=11)
    y = layers.lstm(x, rng.normal(size=(80, 11)), rng.normal(size=(80, 20)), name="rnn").output
    return layers.model("net", outputs={"z": layers.dense(y, rng.normal(size=(6, 20)), name="head")})


def kept(weight: Any, block: tuple[int, int], gates: int) -> Any:
    """Return which blocks have a weight that is not 0."""
    rows = len(weight) // gates
    split = weight.reshape(gates, rows, -1)
    padded = np.pad(split, ((0, 0), (0, -rows % block[0]), (0, -split.shape[2] % block[1])))
    shape = (gates, padded.shape[1] // block[0], block[0], padded.shape[2] // block[1], block[1])
    return padded.reshape(shape).any(axis=(2, 4))


def test_the_largest_blocks_are_kept() -> None:
    weight = np.arange(1.0, 1 + 6 * 10).reshape(6, 10)
    found = pruned(weight, 0.3, (4, 4), gates=1)
    assert kept(found, (4, 4), 1)[0].tolist() == [[False, False, False], [True, True, False]]
    assert np.array_equal(found[found != 0], weight[found != 0])
    assert np.array_equal(pruned(weight, 1, (4, 4)), weight)
    assert kept(pruned(weight, 0.01, (2, 2), gates=3), (2, 2), 3).sum() == 1


@pytest.mark.parametrize("block", [(8, 4), (1, 8), (16, 8)])
def test_matrices_have_the_density(block: tuple[int, int]) -> None:
    model = qrnn.prune(network(), 0.25, block)
    for layer, gates in zip(model.layers, (4, 1), strict=True):
        for found in layer.weights():
            blocks = kept(found.values, block, gates)
            assert blocks.sum() == np.ceil(0.25 * blocks.size)


def test_parts_are_chosen_by_name() -> None:
    whole, model = network(), qrnn.prune(network(), 0.5, parts=["rnn.R"])
    ih, hh = (w.values for w in model.layers[0].weights())
    assert np.array_equal(ih, whole.layers[0].weights()[0].values)
    assert (hh == 0).any()
    assert np.array_equal(model.layers[1].weights()[0].values, whole.layers[1].weights()[0].values)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"density": 0}, "density = 0, expected a number above 0 and at most 1"),
        ({"block": (0, 4)}, r"block = \(0, 4\), expected two whole numbers"),
        ({"parts": ["rnn.Q"]}, "parts: rnn.Q not found, expected some of the layers with weights: rnn, head"),
    ],
)
def test_refusals(given: dict[str, Any], said: str) -> None:
    with pytest.raises(QuantizationError, match=said):
        qrnn.prune(network(), **given)


def test_the_command_line_s_words() -> None:
    assert pruning_named("0.25") == (0.25, (8, 4))
    assert pruning_named("0.5,16x8") == (0.5, (16, 8))
    for text in ("", "half", "0.5,8", "0.5,8x4x2", "0.5,axb"):
        with pytest.raises(QuantizationError, match="expected DENSITY or DENSITY,RxC"):
            pruning_named(text)


@pytest.mark.parametrize(
    "scheme",
    [
        qrnn.Scheme(input="8", refine="all"),
        qrnn.Scheme(input="8", weights=4),
        qrnn.Scheme(input="16", weights=16),
        qrnn.Scheme(input="8", activations=16, refine="rounding"),
    ],
    ids=["refined", "four bits", "sixteen bits", "rounding"],
)
def test_zeros_stay_zeros(scheme: qrnn.Scheme) -> None:
    model = qrnn.prune(network(), 0.25)
    data = {"x": np.random.default_rng(6).normal(size=(4, 20, 11))}
    quantized = qrnn.quantize(model, data, scheme)
    zeros = {
        "rnn": [w.values == 0 for w in model.layers[0].weights()],
        "head": [w.values == 0 for w in model.layers[1].weights()],
    }
    seen = 0
    for layer in quantized.layers:
        for matrix, zero in zip(layer.matrices(), zeros.get(layer.name, []), strict=False):
            columns = zero if matrix.matrix.weight.shape == zero.shape else np.tile(zero, (1, 2))
            assert not matrix.matrix.weight[columns].any(), matrix.name
            seen += 1
    assert seen == 3
