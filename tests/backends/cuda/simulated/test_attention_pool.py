"""Attention pooling on the device: ragged runs, arrays that lie there, chunks, and streams up to the most steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import qrnn
from backends.cuda.simulated.test_arrays import on_device
from qrnn import DataError, Session, layers
from qrnn.arithmetic.running_softmax import MOST_WEIGHTED
from qrnn.conversion import quantize
from qrnn.model.quant_model import QuantModel


def model_of(heads: int, shared: bool) -> QuantModel:
    """Scores of one input and values of another, the pool of all steps so far, and the last of these."""
    s, v = layers.input("s", heads), layers.input("v", 2 * heads)
    pool = layers.attention_pool(s, v, shared=shared, name="pool")
    rng = np.random.default_rng(0)
    calibration = {"s": rng.normal(0, 9, (3, 9, heads)), "v": rng.normal(size=(3, 9, 2 * heads))}
    model = layers.model("m", {"so_far": pool, "all": layers.last_step(pool)})
    return quantize(model, calibration, qrnn.Scheme(input="16"))


def inputs_of(model: QuantModel, *shape: int, seed: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {i.name: rng.normal(0, 9, (*shape, i.features)) for i in model.inputs}


@pytest.mark.parametrize(("heads", "shared"), [(1, False), (3, False), (2, True)])
def test_runs(heads: int, shared: bool) -> None:
    model = model_of(heads, shared)
    given, lengths = inputs_of(model, 3, 6), np.array([6, 0, 3])
    want = Session(model, "reference").run(given, lengths)
    for own in (given, on_device(given)):
        got = Session(model, "cuda").run(own, lengths)
        for name, values in want.outputs.items():
            np.testing.assert_array_equal(np.asarray(got.outputs[name]), values, err_msg=name)


def test_chunks_and_steps() -> None:
    model = model_of(2, False)
    given = inputs_of(model, 2, 7)
    want = Session(model, "reference").run(given)
    session, state, rows = Session(model, "cuda"), None, []
    for first, last in ((0, 3), (3, 4), (4, 7)):
        part = session.run({k: v[:, first:last] for k, v in given.items()}, state=state, end=last == 7)
        state, rows = part.state, [*rows, np.asarray(part.outputs["so_far"])]
    np.testing.assert_array_equal(np.concatenate(rows, axis=1), want.outputs["so_far"])
    stream = session.stream(2)
    for t in range(7):
        out = stream.step({k: v[:, t] for k, v in given.items()})
        np.testing.assert_array_equal(np.asarray(out["so_far"]), want.outputs["so_far"][:, t])


def test_the_most_steps_on_the_device() -> None:
    model = model_of(1, False)
    session, reference = Session(model, "cuda"), Session(model, "reference")
    full: list[Any] = [array.copy() for array in session.initial_state(1).layers["pool"]]
    full[-1][...] = MOST_WEIGHTED - 2
    state = qrnn.State({"pool": tuple(full)})
    frames = inputs_of(model, 1, 3, seed=2)
    two = {k: v[:, :2] for k, v in frames.items()}
    want, got = reference.run(two, state=state), session.run(on_device(two), state=state)
    np.testing.assert_array_equal(np.asarray(got.outputs["all"]), want.outputs["all"])
    with pytest.raises(DataError, match="layer 'pool' takes at most"):
        session.run(on_device(frames), state=state)
