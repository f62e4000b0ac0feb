"""Models, data and comparisons for tests that run on a GPU. Importing this skips a module where there is none.

`python tools/gpu_check --dry-run` runs some of the tests in Numba's simulator, whose sizes are smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import pytest
from models import Shape, make_model

from backends.generators import assert_equal, integers
from qrnn.backends import available_backends

if "cuda" not in available_backends():
    pytest.skip("no NVIDIA GPU that backend cuda can use", allow_module_level=True)

from qrnn import Scheme, Session, quantize
from qrnn.backends.cuda.choice import Choice
from qrnn.backends.cuda.intrinsics import SIMULATED
from qrnn.backends.cuda.kinds import recurrent
from qrnn.backends.cuda.plan import StepPlan
from qrnn.backends.cuda.tuning import Tuning
from qrnn.errors import QuantizationError
from qrnn.model.batch import Batch, make_batch
from qrnn.model.float_model import FloatModel
from qrnn.model.quant_model import QuantModel

BOTH = (False, True)
CELLS = {
    "lstm": Shape("lstm", 5, directions=BOTH),
    "coupled": Shape("lstm", 5, directions=BOTH, forget="coupled", peephole=0.5),
    "gru_after": Shape("gru", 5, directions=BOTH),
    "gru_before": Shape("gru", 5, directions=BOTH, linear_before_reset=False),
    "rnn": Shape("rnn", 5, directions=BOTH),
}
"""The cells that have fused steps, by the number of gates that a kernel is made for."""


def compiled_together(*names: object) -> pytest.MarkDecorator:
    """Tests of one such group run in one process, since each process compiles the kernels that it uses; so does backend cpu."""
    return pytest.mark.xdist_group(" ".join(map(str, names)))


def drawn(model: FloatModel | QuantModel, size: int, steps: int) -> dict[str, Any]:
    """Inputs for ``size`` sequences of ``steps`` steps, without the model's states."""
    rng, data = np.random.default_rng(size), {}
    for graph_input in model.inputs:
        lead = (size, steps) if graph_input.has_time else (size,)
        if graph_input.kind == "tokens":
            data[graph_input.name] = rng.integers(0, graph_input.vocabulary, lead)
        elif graph_input.kind == "features":
            data[graph_input.name] = rng.normal(size=(*lead, *graph_input.shape)).astype(np.float32)
    return data


@cache
def quantized(shape: Shape, activations: int = 8, weights: int = 8, operand: str = "8") -> QuantModel:
    """A model of this shape, whose recurrent weights shrink with its size; the test is skipped where a range has no 16-bit format."""
    scaled = replace(shape, weight=shape.hidden_size**-0.5)
    model = make_model(scaled, np.random.default_rng(shape.hidden_size))
    try:
        return quantize(model, drawn(model, 2, 6), Scheme(activations, input=operand, weights=weights))
    except QuantizationError as error:
        pytest.skip(f"has no 16-bit format: {error}"[:80])


def ragged(model: QuantModel, size: int, steps: int) -> Batch:
    """A batch of lengths 0 … ``steps``, of which one is ``steps``."""
    lengths = np.random.default_rng(size + 1).integers(0, steps + 1, size)
    lengths[-1] = steps
    return make_batch(model.inputs, drawn(model, size, steps), lengths if size > 1 else None)


_KEPT: dict[Any, tuple[QuantModel, dict[str, Any]]] = {}
"""What `expected` has found, by the model's identity, which stays its own as long as the model is kept here."""


def expected(model: QuantModel, size: int, steps: int, backend: str = "reference") -> dict[str, Any]:
    """Every tensor and final state, by the reference, or for the largest sizes by backend cpu, which other tests hold to it."""
    key = id(model), size, steps, backend
    if key not in _KEPT:
        _KEPT[key] = model, integers(Session(model, backend, threads=1), ragged(model, size, steps))[0]
    return _KEPT[key][1]


def assert_same(
    model: QuantModel, size: int, steps: int, backend: str = "reference", tuning: Tuning | None = None
) -> None:
    """Backend cuda gives every tensor and state of ``backend``."""
    session = Session(model, "cuda", tuning=tuning)
    assert_equal(expected(model, size, steps, backend), integers(session, ragged(model, size, steps))[0])


@contextmanager
def planned(plan: StepPlan) -> Iterator[None]:
    """Directions run by this plan, whatever is the best."""
    with mock.patch.object(recurrent, "choose_plan", return_value=Choice(plan, "asked for")):
        yield


__all__ = [
    "BOTH", "CELLS", "SIMULATED", "assert_same", "compiled_together", "drawn", "expected", "planned", "quantized", "ragged",
]  # fmt: skip
