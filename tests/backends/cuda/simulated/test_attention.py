"""Attention over steps on the device: ragged runs, arrays that lie there, chunks, streams, and the steps of another sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import qrnn
from backends.cuda.simulated.test_arrays import on_device
from qrnn import DataError, Session, layers
from qrnn.conversion import quantize
from qrnn.model.quant_model import QuantModel


def model_of(axis: str = "time", **options: Any) -> QuantModel:
    """Attention of two heads, of queries over one axis, and of keys and values over ``axis``; and the largest query so far."""
    q, k, v = layers.input("q", 4), layers.input("k", 4, axis=axis), layers.input("v", 6, axis=axis)
    y = layers.attention(q, k, v, heads=2, name="attention", **options)
    model = layers.model("m", {"y": y, "most": layers.running(q, "max")})
    rng = np.random.default_rng(0)
    return quantize(
        model, {i.name: rng.normal(0, 2, (3, 4, i.features)) for i in model.inputs}, qrnn.Scheme(input="16")
    )


def inputs_of(model: QuantModel, size: int, steps: int, seed: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {i.name: rng.normal(0, 2, (size, steps, i.features)) for i in model.inputs}


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"causal": True, "window": 2}], ids=str)
def test_runs(options: dict[str, Any]) -> None:
    model = model_of(**options)
    given, lengths = inputs_of(model, 3, 4), np.array([4, 0, 2])
    want = Session(model, "reference").run(given, lengths)
    for own in (given, on_device(given)):
        got = Session(model, "cuda").run(own, lengths)
        for name, values in want.outputs.items():
            np.testing.assert_array_equal(np.asarray(got.outputs[name]), values, err_msg=name)


def test_another_sequence() -> None:
    model = model_of("other")
    given = {**inputs_of(model, 3, 5), "q": np.random.default_rng(3).normal(size=(3, 4, 4))}
    lengths = {"time": np.array([4, 2, 3]), "other": np.array([5, 0, 3])}
    want, got = (Session(model, name).run(given, lengths).outputs["y"] for name in ("reference", "cuda"))
    np.testing.assert_array_equal(np.asarray(got), want)


def test_chunks_and_steps() -> None:
    model = model_of(causal=True, most_steps=5)
    given = inputs_of(model, 2, 5)
    want = Session(model, "reference").run(given).outputs["y"]
    session, state, rows = Session(model, "cuda"), None, []
    for first, last in ((0, 3), (3, 4), (4, 5)):
        part = session.run({k: v[:, first:last] for k, v in given.items()}, state=state, end=last == 5)
        state, rows = part.state, [*rows, np.asarray(part.outputs["y"])]
    np.testing.assert_array_equal(np.concatenate(rows, axis=1), want)
    stream = session.stream(2)
    for t in range(5):
        np.testing.assert_array_equal(np.asarray(stream.step({k: v[:, t] for k, v in given.items()})["y"]), want[:, t])
    with pytest.raises(DataError, match="layer 'attention' takes at most 5 steps"):
        stream.step({k: v[:, 0] for k, v in given.items()})
