"""What cannot be generated is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from decoding_models import SCHEME, forecaster, language_model, transducer

import qrnn
from qrnn import layers
from qrnn.errors import DataError
from qrnn.model.quant_model import QuantModel


def two_heads() -> QuantModel:
    rng = np.random.default_rng(0)
    x = layers.embedding(layers.tokens("tokens", 5), rng.normal(size=(5, 4)))
    y = layers.gru(x, rng.normal(size=(12, 4)), rng.normal(size=(12, 4))).output
    a, b = (layers.dense(y, rng.normal(size=(5, 4))) for _ in range(2))
    mixed = layers.concat(layers.softmax(a), b)
    model = layers.model(
        "two",
        {"a": a, "b": b, "mixed": (layers.softmax(a), layers.dense(y, 99.0 * rng.normal(size=(1, 4)))), "all": mixed},
    )
    return qrnn.quantize(model, {"tokens": rng.integers(0, 5, (4, 9))})


def test_a_pair_is_named_where_several_fit() -> None:
    session, given = qrnn.Session(two_heads()), {"tokens": np.array([[1]])}
    with pytest.raises(DataError, match=r"2 pairs of an input and an output fit, \{'tokens': 'a'\}, \{'tokens': 'b'\}"):
        session.generate(given, steps=3)
    assert session.generate(given, steps=3, feed={"tokens": "b"}).tokens.shape == (1, 3)


TOKENS = {"tokens": np.array([[1, 2]])}


@pytest.mark.parametrize(
    ("model", "inputs", "wanted", "message"),
    [
        (language_model, TOKENS, {"steps": 0}, "steps=0, expected a whole number of at least 1"),
        (language_model, TOKENS, {}, "steps=None"),
        (language_model, TOKENS, {"steps": 2, "stop": 11}, "stop: token 11, expected tokens in 0…10"),
        (language_model, TOKENS, {"steps": 2, "lengths": [0]}, "the prompt of sequence 0 is empty"),
        (language_model, TOKENS, {"steps": 2, "lengths": [3]}, "lengths"),
        (language_model, {"tokens": [[11]]}, {"steps": 2}, "value 11"),
        (language_model, {"tokens": [[1]], "x": [[1]]}, {"steps": 2}, "'x' is not an input"),
        (language_model, {}, {"steps": 2}, "input 'tokens' is missing"),
        (language_model, TOKENS, {"steps": 2, "feed": {"tokens": "nothing"}}, "'nothing' is no output"),
        (language_model, TOKENS, {"steps": 2, "feed": {"x": "scores"}}, "'x' is no input"),
        (language_model, TOKENS, {"steps": 2, "feed": {}}, "expected a mapping with one input"),
        (language_model, TOKENS, {"steps": 2, "one_hot": True}, "takes tokens; leave it out"),
        (language_model, TOKENS, {"steps": 2, "seed": -1}, "seed=-1"),
        (language_model, TOKENS, {"steps": 2, "seed": [1, 2]}, r"seed: int64\[2\]"),
        (language_model, TOKENS, {"steps": 2, "drawn": 1.5}, "drawn: float64"),
        (language_model, TOKENS, {"steps": 2, "sampling": 0.7}, "sampling=0.7, expected a qrnn.Sampling"),
        (language_model, TOKENS, {"steps": 2, "blank": 3}, "no input but 'tokens' goes over time"),
        (language_model, TOKENS, {"steps": 2, "blank": 11}, "blank=11"),
        (forecaster, {"x": np.zeros((1, 1, 3))}, {"steps": 2, "stop": 1}, "stop: the values of output 'y' are fed back"),
        (forecaster, {"x": np.zeros((1, 1, 3))}, {"steps": 2, "sampling": qrnn.Sampling()}, "sampling: the values"),
        (forecaster, {"x": np.full((1, 1, 3), np.nan)}, {"steps": 2}, "value nan"),
        (transducer, {"tokens": [[0]], "frames": np.zeros((1, 4, 5))}, {"steps": 2}, "token 6 could be chosen and not fed back"),
        (transducer, {"tokens": [[0, 1]], "frames": np.zeros((1, 4, 5))}, {"blank": 6}, "has 2 steps, expected one"),
        (transducer, {"tokens": [[0]], "frames": np.zeros((1, 4, 5))}, {"blank": 6, "stop": 6}, "token 6 is the blank"),
        (transducer, {"tokens": [[0]], "frames": np.zeros((2, 4, 5))}, {"blank": 6}, "'frames' has 2 sequences"),
        (two_heads, TOKENS, {"steps": 2, "feed": {"tokens": "mixed"}}, "expected one unit"),
    ],
)  # fmt: skip
def test_refused(model: Any, inputs: dict[str, Any], wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        qrnn.Session(model()).generate(inputs, **wanted)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [({"temperature": 0.0}, "temperature=0.0"), ({"top_k": 0}, "top_k=0"), ({"top_p": 1.5}, "top_p=1.5"), ({"temperature": True}, "True")],
)  # fmt: skip
def test_refused_sampling(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        qrnn.Sampling(**wanted)


def test_temperatures_out_of_the_range_of_integers() -> None:
    model = language_model()
    with pytest.raises(DataError, match="expected at least"):
        qrnn.Session(model).generate(TOKENS, steps=1, sampling=qrnn.Sampling(1e-12))
    with pytest.raises(DataError, match="expected at most"):
        qrnn.Session(model).generate(TOKENS, steps=1, sampling=qrnn.Sampling(1e30))


def test_an_argmax_is_not_drawn_from_and_has_no_probabilities() -> None:
    session = qrnn.Session(language_model("argmax"))
    with pytest.raises(DataError, match="nothing can be drawn"):
        session.generate(TOKENS, steps=1, sampling=qrnn.Sampling())
    with pytest.raises(DataError, match="no probabilities"):
        session.generate(TOKENS, steps=1, scores=True)


def test_further_inputs_have_a_row_for_each_step() -> None:
    inputs = {"tokens": np.array([[1, 2]]), "step": np.zeros((1, 4, 3)), "voice": np.zeros((1, 2))}
    session = qrnn.Session(language_model(conditioned=True))
    session.generate(inputs, steps=3)
    with pytest.raises(DataError, match="input 'step' has 4 steps, expected 5"):
        session.generate(inputs, steps=4)


def test_models_that_do_not_step() -> None:
    rng = np.random.default_rng(0)
    x = layers.input("x", 3)
    y = layers.gru(x, rng.normal(size=(12, 3)), rng.normal(size=(12, 4)), reverse=True).output
    backwards = qrnn.quantize(
        layers.model("back", {"y": layers.dense(y, rng.normal(size=(3, 4)))}), {"x": rng.normal(size=(2, 9, 3))}, SCHEME
    )
    with pytest.raises(DataError, match="cannot be streamed"):
        qrnn.Session(backwards).generate({"x": np.zeros((1, 1, 3))}, steps=2)
    strided = layers.conv(
        layers.gru(x, rng.normal(size=(12, 3)), rng.normal(size=(12, 4))).output, rng.normal(size=(3, 4, 2)), stride=2
    )
    skipping = qrnn.quantize(layers.model("strided", {"y": strided}), {"x": rng.normal(size=(2, 9, 3))}, SCHEME)
    with pytest.raises(DataError, match="output 'y' does not come out of every step"):
        qrnn.Session(skipping).generate({"x": np.zeros((1, 1, 3))}, steps=2)
