"""The same run over and over: a race shows as a result that differs once. Results are compared on the device."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numba import cuda

from backends.cuda.on_device.common import CELLS, SIMULATED, compiled_together, drawn, planned, quantized
from backends.cuda.on_device.test_kinds import every_plan
from qrnn import Session
from qrnn.backends.cuda.device import find_device
from qrnn.backends.cuda.kernel_variants import BLOCK, GRID
from qrnn.backends.cuda.launch import for_each, kernel
from qrnn.backends.cuda.lengths import Lengths
from qrnn.backends.cuda.weights import upload
from qrnn.model.batch import make_batch

REPETITIONS = 2 if SIMULATED else 10_000
PATIENCE_SECONDS = 45.0
"""Then the repetitions end early, and the report says how many there were."""


@kernel(64 if SIMULATED else 256)
def count_differences(want: Any, got: Any, count: Any) -> None:
    i = cuda.grid(1)
    if i < want.shape[0] and want[i] != got[i]:
        cuda.atomic.add(count, 0, 1)


CASES: dict[str, tuple[str, int, str, Callable[[Any], float]]] = {
    "grid": ("gru_before", 16, GRID, lambda plan: plan.unit_blocks * plan.batch_blocks),
    "grid_dp4a": ("lstm", 8, GRID, lambda plan: plan.unit_blocks + 1000 * plan.kind.dp4a_sequences),
    "block": ("gru_before", 8, BLOCK, lambda plan: plan.warps + 100 * plan.kind.resident),
}
"""Cell, bits of operands, barrier, and which plan: the greatest by this. Two barriers a step, or the shortest steps."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=compiled_together("races", name)) for name in CASES])
def test_ten_thousand_times(name: str, record_property: Callable[[str, object], None]) -> None:
    cell, bits, barrier, greatest = CASES[name]
    hidden = 9 if SIMULATED else 8 * find_device().processors if barrier == GRID else 130
    model = quantized(replace(CELLS[cell], hidden_size=hidden, directions=(False,)), bits)
    size = 2 if SIMULATED or name == "grid_dp4a" else 9
    x = drawn(model, size, 2 if SIMULATED else 12)
    want = Session(model, "reference").run(x)
    session = Session(model, "cuda")
    plan = max(every_plan(model, size, barrier), key=greatest)
    (layer,) = model.recurrent_layers
    on_device = session.engine.on_device  # type: ignore[attr-defined]
    own = on_device.layers[layer.name]
    with planned(plan):
        np.testing.assert_array_equal(session.run(x).outputs["y"], want.outputs["y"])
        tensors = session.run_batch(make_batch(model.inputs, x))[1]
        given, lengths = upload(tensors["x"]), Lengths.of(np.full(size, x["x"].shape[1]))
        start = tuple(upload(part) for part in session.initial_state(size).layers[layer.name])
        differences, began, done = cuda.to_device(np.zeros(1, np.int64)), time.monotonic(), 0
        first, _ = own.recurrent(on_device.setting, given, start, lengths, None)
        first_y = first.reshape(first.size)
        np.testing.assert_array_equal(first.copy_to_host(), tensors[layer.output])
        while done < REPETITIONS and time.monotonic() - began < PATIENCE_SECONDS:
            y, _ = own.recurrent(on_device.setting, given, start, lengths, None)
            for_each(count_differences, y.size, first_y, y.reshape(y.size), differences)
            done += 1
            if done % 100 == 0:
                cuda.synchronize()
        found = int(differences.copy_to_host()[0])
    record_property("repetitions", f"{done} of {REPETITIONS} of {plan.name}")
    assert found == 0, f"{found} values differed in {done} repetitions of {plan.name}"
