"""Mistakes in Python end in one error of the package, whose message says what was given, what was expected, and how to get it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accuracy.pairs import pair
from models import Shape

import qrnn
from qrnn.errors import DataError

X = np.random.default_rng(0).normal(size=(3, 4, 3))
DATA = {"x": X}
REAL, INTEGERS = pair(Shape("gru"), X)

MISTAKES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str]] = {
    "a path is quantized": (
        qrnn.quantize,
        ("model.onnx", DATA),
        "quantize: str, expected a FloatModel, as qrnn.load_onnx",
    ),
    "a converted model is quantized": (qrnn.quantize, (INTEGERS, DATA), "quantize: QuantModel, expected a FloatModel"),
    "an array alone": (qrnn.quantize, (REAL, X), "expected a mapping from the names of graph inputs to arrays"),
    "a scheme in words": (qrnn.quantize, (REAL, DATA, "8"), "scheme='8', expected a qrnn.Scheme"),
    "a path is compared": (qrnn.compare, ("model.onnx", INTEGERS, DATA), "compare: str, expected a FloatModel"),
    "models the wrong way round": (qrnn.compare, (INTEGERS, REAL, DATA), "compare: FloatModel, expected a QuantModel"),
    "a path is explained": (qrnn.explain, ("model.onnx", INTEGERS, DATA), "explain: str, expected a FloatModel"),
    "a float model is saved": (qrnn.save, (REAL, "model.qrnn"), "save: FloatModel, expected a QuantModel"),
    "a path is saved": (qrnn.save, ("model.qrnn", INTEGERS), "save: str, expected a QuantModel"),
    "a converted model is swept": (
        qrnn.sweep,
        (INTEGERS, DATA, DATA, "out"),
        "sweep: QuantModel, expected a FloatModel",
    ),
    "a converted model is tuned": (
        qrnn.tune,
        (INTEGERS, DATA, DATA, qrnn.Budgets(min_sqnr=1.0)),
        "tune: QuantModel, expected",
    ),
    "budgets as a dictionary": (qrnn.tune, (REAL, DATA, DATA, {"min_sqnr": 1.0}), "expected qrnn.Budgets, such as"),
    "a budget in words": (qrnn.Budgets, (None, "high"), "--min-sqnr='high', expected a number"),
    "progress in words": (qrnn.quantize, (REAL, DATA, None, "generic", "yes"), "progress='yes', expected a function"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call, arguments, says = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        call(*arguments)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
