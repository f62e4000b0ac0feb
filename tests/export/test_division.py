"""Means over time and attention pooling in C on emulated cores: 64-bit divisions are functions of the compiler's library."""

from __future__ import annotations

import numpy as np
import pytest

from export.building import quantized
from export.drawn import check_on_core
from qrnn import layers


@pytest.mark.parametrize("name", ["cortex-m0plus", "rv32imc"])
def test_cores_without_such_an_instruction(name: str) -> None:
    rng = np.random.default_rng(3)
    h = layers.gru(layers.input("x", 3), rng.normal(size=(12, 3)), rng.normal(size=(12, 4))).output
    pool = layers.attention_pool(layers.dense(h, rng.normal(size=(1, 4))), h)
    outputs = {"mean": layers.last_step(layers.running(h, "mean")), "pool": layers.last_step(pool)}
    check_on_core(quantized(layers.model("means", outputs)), name, lengths=(1, 5))
