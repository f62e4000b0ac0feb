"""Inputs and outputs with an offset on the device: real numbers, padded steps, last steps, and sequences without steps."""

from __future__ import annotations

import numpy as np
import pytest
from offset_models import far_data, far_quantized

from backends.cuda.simulated.test_arrays import assert_same, on_device
from backends.test_input_offsets import CASES, check_the_same
from qrnn.running.session import Session


def test_runs_and_steps() -> None:
    model = far_quantized()
    data, lengths = far_data(2, 4, 7), [3, 0, 7, 1]
    want = Session(model, "reference").run(data, lengths).outputs
    session = Session(model, "cuda")
    got = session.run(data, lengths).outputs
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)
    assert_same(session.run(on_device(data), lengths).outputs, want)
    step = {"x": data["x"][:, 0]}
    assert_same(session.step(on_device(step)).outputs, Session(model, "reference").step(step).outputs)


@pytest.mark.parametrize("name", CASES)
def test_ragged_batches_with_offsets_of_the_input(name: str) -> None:
    assert check_the_same(CASES[name], (60, -31, 7), "cuda")
