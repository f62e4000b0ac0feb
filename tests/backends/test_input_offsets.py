"""Padded steps, initial states and sequences without steps are real zeros whatever integer a real zero of the input is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.building import check
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Shape
from shifted_inputs import with_offset

from backends.generators import Case, assert_equal, cases, fewest, integers, quantized_or_refused
from qrnn import layers
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.errors import ModelFileError
from qrnn.model.batch import Batch, make_batch
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

MOST = 60
"""The largest offset drawn: of integers up to 127, half are left for the data."""

BOTH = (False, True)
CASES = {
    "lstm": Case(Shape("lstm", 3, 7, BOTH, states=True), "dense", sequences=4, lengths=(5, 0, 2, 1)),
    "gru": Case(Shape("gru", 3, 9, (True,), layers=2), "softmax", True, sequences=4, lengths=(5, 0, 2, 1)),
    "rnn": Case(Shape("rnn", 3, 6, BOTH), "none", True, concat=True, sequences=4, lengths=(5, 0, 2, 1)),
}


def small_batch(case: Case, model: QuantModel) -> Batch:
    """The case's data, so small that no integer of the input is clamped, with or without an offset."""
    data, fmt = case.data(), model.tensors["x"]
    share = data["x"] / np.abs(data["x"]).max()
    return make_batch(model.inputs, data | {"x": share * (fmt.limit - MOST - 1) * fmt.scales}, np.asarray(case.lengths))


def shifted(model: QuantModel, offset: tuple[int, ...]) -> QuantModel | None:
    """The model with an offset on its input; None where its input can have none, or has one from its conversion."""
    folded = all(layer.folds_offset for layer in model.layers if "x" in layer.inputs)
    return with_offset(model, "x", offset) if folded and not model.tensors["x"].has_offset else None


def check_the_same(case: Case, offset: tuple[int, ...], backend: str) -> bool:
    """The tensors, states and traces of a model with an offset on ``backend`` are the reference's of the model without; whether they exist."""
    plain = quantized_or_refused(case)
    model = None if plain is None else shifted(plain, offset)
    if plain is None or model is None:
        return False
    want, _ = integers(Session(plain, "reference"), small_batch(case, plain), traced=True)
    got, _ = integers(Session(model, backend), small_batch(case, model), traced=True)
    for found in (want, got):
        found.pop("x", None)
    assert_equal(want, got)
    return True


offsets = st.lists(st.integers(-MOST, MOST), min_size=9, max_size=9)


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("backend", available_backends())
@fewest
@given(case=cases(usual=True, most_hidden=12), offset=offsets)
def test_an_offset_changes_no_integer_behind_the_input(backend: str, case: Case, offset: list[int]) -> None:
    check_the_same(case, tuple(offset[: case.shape.input_size]), backend)


@pytest.mark.matrix
@pytest.mark.parametrize("backend", available_backends())
@settings(fewest, max_examples=40)
@given(case=cases(usual=True), offset=offsets)
def test_an_offset_changes_no_integer_behind_the_input_of_larger_models(
    backend: str, case: Case, offset: list[int]
) -> None:
    check_the_same(case, tuple(offset[: case.shape.input_size]), backend)


def test_many_draws_have_an_offset() -> None:
    """What the test above leaves out: inputs that an Add reads too, biases that leave the overflow proof, and offsets of few data.

    A conversion of a few values gives a third of the draws an offset of their own.
    """
    held: list[bool] = []

    @settings(fewest, max_examples=40)
    @given(case=cases(usual=True, most_hidden=12))
    def draw(case: Case) -> None:
        plain = quantized_or_refused(case)
        held.append(plain is not None and shifted(plain, (MOST,) * case.shape.input_size) is not None)

    draw()
    assert sum(held) > len(held) / 4


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("backend", available_backends())
@pytest.mark.parametrize("name", CASES)
def test_ragged_batches(name: str, backend: str) -> None:
    """The cases that the test above may not draw, and which it must not leave out."""
    assert check_the_same(CASES[name], (60, -31, 7), backend)


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("name", CASES)
def test_c(name: str, tmp_path: Path) -> None:
    model = with_offset(replace(CASES[name], lengths=(5, 4, 2, 1)).quantized(), "x", (60, -31, 7))
    assert model is not None
    check(model, tmp_path, "gcc")


def test_what_pads_its_input_may_not_read_an_offset() -> None:
    """A convolution takes zeros for the steps before the first; a file in which its input has an offset is refused by name."""
    rng = np.random.default_rng(0)
    x = layers.input("x", 3)
    y = layers.conv(x, rng.normal(size=(4, 3, 2)))
    gru = layers.gru(y, rng.normal(size=(15, 4)), rng.normal(size=(15, 5)))
    data: dict[str, Any] = {"x": rng.normal(size=(4, 9, 3))}
    model = quantize(layers.model("padded", {"y": gru.output}), data, Scheme(input="8"))
    fmt = replace(model.tensors["x"], offset=(3,))
    with pytest.raises(
        ModelFileError, match=r"layer conv: reads 'x', which is int.* with offset 3, expected no offset"
    ):
        replace(model, tensors={**model.tensors, "x": fmt})
