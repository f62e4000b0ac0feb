"""Outputs with an offset on the device: real numbers, last steps, and sequences without steps."""

from __future__ import annotations

import numpy as np
from offset_models import far_data, far_quantized

from backends.cuda.simulated.test_arrays import assert_same, on_device
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
