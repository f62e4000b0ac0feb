"""Backends agree on recurrent layers of integers of every size, far beyond those of a conversion."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from backends.generators import assert_equal, eager
from backends.raw_layers import ends, raw_model
from qrnn.backends import available_backends, create_engine
from qrnn.backends.base import Trace
from qrnn.backends.cpu.tuning import Tuning
from qrnn.model.quant_model import QuantModel
from qrnn.running.session import Session

OTHERS = tuple(name for name in available_backends() if name != "reference")


def results(model: QuantModel, backend: str, x: Any, lengths: Any, tuning: Tuning | None = None) -> dict[str, Any]:
    """Tensors, trace and final state of a run from the model's own initial state."""
    trace = Trace()
    start = Session(model, "reference").initial_state(len(x)).layers
    tensors, final, _ = create_engine(backend, model, 1 if tuning is None else tuning.cores, tuning=tuning).run(
        {"x": x}, start, lengths, trace
    )
    return {**tensors, **{f"trace {k}": v for k, v in trace.arrays.items()}, "h": final["rnn"][0], "c": final["rnn"][1]}


def check_raw(seed: int, backend: str) -> QuantModel:
    rng = np.random.default_rng(seed)
    model = raw_model(rng)
    sequences, steps = int(rng.integers(1, 4)), int(rng.integers(1, 7))
    x = ends(rng, -32768, 32767, sequences, steps, model.tensors["x"].features).astype(np.int16)
    lengths = rng.integers(0, steps + 1, sequences)
    want = results(model, "reference", x, lengths)
    assert_equal(want, results(model, backend, x, lengths))
    if backend == "cpu" and seed % 4 == 0:
        assert_equal(want, results(model, backend, x, lengths, eager(2)))
    return model


@pytest.mark.parametrize(("count", "least"), [(120, 4), pytest.param(400, 20, marks=pytest.mark.matrix)])
@pytest.mark.parametrize("backend", OTHERS)
def test_random_integers(backend: str, count: int, least: int) -> None:
    seen: Counter[Any] = Counter()
    for seed in range(count):
        layer = check_raw(seed, backend).recurrent_layers[0]
        d = layer.directions[0]
        kind = "none" if d.projection is None else "softmax" if d.projection.table is not None else "other"
        seen.update([layer.cell, layer.forget, kind, d.peephole is not None, *(int(f.params[0]) for f in d.gates)])
    kinds = ("lstm", "gru", "rnn", "one", "coupled", "softmax", "other", True, 0, 1, 2, 3)
    assert min(seen[kind] for kind in kinds) > least


@pytest.mark.long
@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("block", range(10))
def test_random_integers_long(block: int, backend: str) -> None:
    for seed in range(1000 + 1000 * block, 2000 + 1000 * block):
        check_raw(seed, backend)
