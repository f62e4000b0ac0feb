"""Products of matrices within a step, and softmax by groups, on the device: ragged runs, and arrays that lie there."""

from __future__ import annotations

import numpy as np
import pytest
from schemes import BYTES

from backends.cuda.simulated.test_arrays import on_device
from qrnn import Session, layers
from qrnn.conversion import quantize


@pytest.mark.parametrize("sizes", [(1, 3, 2, 4), (3, 2, 4, 2)])
def test_runs(sizes: tuple[int, int, int, int]) -> None:
    groups, rows, inner, columns = sizes
    a, b = layers.input("a", groups * rows * inner), layers.input("b", groups * inner * columns)
    product = layers.matmul(a, b, rows, columns, groups=groups)
    shares = layers.group_softmax(product, groups * rows)
    mean = layers.last_step(layers.running(shares, "mean"))
    rng = np.random.default_rng(0)
    calibration = {i.name: rng.normal(size=(3, 9, i.features)) for i in (a, b)}
    made = quantize(layers.model("m", {"product": product, "shares": shares, "mean": mean}), calibration, BYTES)
    given, lengths = {key: 3 * value[:, :6] for key, value in calibration.items()}, np.array([6, 0, 3])
    want = Session(made, "reference").run(given, lengths)
    for own in (given, on_device(given)):
        got = Session(made, "cuda").run(own, lengths)
        for name, values in want.outputs.items():
            np.testing.assert_array_equal(np.asarray(got.outputs[name]), values, err_msg=name)
