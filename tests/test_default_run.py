"""The default run has every cell of the catalogue and every kind of layer on every backend, whatever is marked ``matrix``."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.building import check
from hypothesis import given, settings
from hypothesis import strategies as st
from installed import compiler
from layers.test_quantized import TOOL

import qrnn
from qrnn import layers
from qrnn.backends import available_backends
from qrnn.layers.tensors import simple_layer
from qrnn.model.kinds import quantized_kinds
from qrnn.model.kinds.cell_values import QuantCellValues
from qrnn.model.kinds.function import Function
from qrnn.model.kinds.recurrent.quantized import QuantRecurrentDefinition
from qrnn.model.kinds.sequence_norm import QuantSequenceNorm
from qrnn.model.kinds.unstack import QuantUnstack
from qrnn.model.quant_model import QuantModel
from qrnn.model.scalar_function import ScalarFunction, X
from qrnn.model.window import Window, causal

TESTS = Path(__file__).parent
SIMULATED = ("test_contract.py", "test_loops.py", "test_memory.py", "test_steps.py")


def data(seed: int, size: int, steps: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x, fixed = rng.normal(size=(size, steps, 3)), rng.normal(size=(size, 2))
    return {"ids": rng.integers(0, 7, (size, steps)), "x": x, "fixed": fixed}


@cache
def everything(seed: int = 0, *left_out: str) -> QuantModel:
    """Return a model with a layer of every kind, whose outputs are those of all layers, or of all that are not left out."""
    rng = np.random.default_rng(seed)
    tokens, x = layers.tokens("ids", 7), layers.input("x", 3)
    embedded = layers.embedding(tokens, rng.normal(size=(7, 3)))
    added = layers.add(embedded, x)
    joined = layers.concat(added, x)
    conv = layers.conv(joined, rng.normal(size=(4, 6, 2)), rng.normal(size=4))
    pooled = layers.max_pool(conv, causal(2), band=Window(2, 1, 1, 1), bands=2)
    h = layers.gru(pooled, rng.normal(size=(15, 4)), 0.4 * rng.normal(size=(15, 5))).output
    bands = layers.over_bands(h, 5, lambda band: layers.rnn(band, np.ones((1, 1)), np.full((1, 1), 0.5), reverse=True))
    each = layers.per_band(bands, 5, lambda band: layers.rnn(band, np.ones((1, 1)), np.full((1, 1), -0.5))).output
    normal = layers.layer_norm(layers.add(each, h), gain=rng.uniform(1, 2, 5), bias=rng.normal(size=5))
    dense = layers.dense(normal, rng.normal(size=(4, 5)), name="head")  # reads a copy by rescale
    bent = layers.activation(dense, "tanh")
    product = layers.multiply(bent, layers.activation(dense, "gelu"))
    averaged = layers.average_pool(product, causal(2), band=Window(2), bands=2)
    mean = layers.running(layers.reduce(layers.concat(averaged, product), "sum", 2), "mean")
    last = layers.last_step(mean)
    late = layers.delay(product, 1)
    ahead = layers.add(
        product, layers.conv(product, rng.normal(size=(4, 4, 2)), padding=(0, 1))
    )  # of two times, aligned
    weighted = layers.attention_pool(dense, product)
    attended = layers.attention(product, dense, product, heads=2, causal=True, window=3)
    inner = layers.matmul(product, dense, 2, 2, groups=1)
    groups = layers.group_softmax(inner, 2)
    fixed = layers.dense(layers.input("fixed", 2, has_time=False), rng.normal(size=(3, 2)))
    taken = layers.last_step(layers.time_slice(product, 1, -1, 2))
    final = layers.last_step(layers.time_slice(product, -3, -1))
    power = simple_layer(
        "power",
        None,
        (product,),
        (4, True),
        lambda own, names: Function(own, names[0], own, ScalarFunction("exp", (X,))),
    )
    share = layers.divide(layers.prelu(late, rng.uniform(-1, 1, 4)), layers.activation(product, "sigmoid"))
    size = layers.magnitude(share, bands=2, epsilon=0.1)
    loud = layers.log_power(share, bands=2, epsilon=0.1)
    odds = layers.log_softmax(layers.concat(size, loud))
    moved = layers.affine(late, rng.uniform(-1, 1, 4), rng.normal(size=4))
    every = {"embedding": embedded, "add": added, "concat": joined, "conv": conv, "max_pool": pooled, "recurrent": h,
             "over_bands": bands, "per_band": each, "layer_norm": normal,
             "dense": dense, "pointwise": bent, "multiply": product, "average_pool": averaged, "running": mean, "last_step": last,
             "softmax": layers.softmax(last), "delay": late, "combine": share, "magnitude": size, "log_power": loud, "log_softmax": odds,
             "argmax": layers.argmax(odds), "function": power, "attention_pool": weighted, "attention": attended, "matmul": inner,
             "group_softmax": groups, "affine": moved, "spread": layers.spread(moved), "take_steps": taken, "last_steps": final,
             "nth_step": layers.step_at(product, 0), "align": ahead, "group_norm": layers.group_norm(moved, 2, inner=2),
             "running_norm": layers.running_norm(moved, steps=3), "moment": layers.moment(moved, 2),
             "repeat": layers.repeat(fixed, product)}  # fmt: skip
    shown = {name: tensor for name, tensor in every.items() if name not in left_out}
    scheme = qrnn.Scheme(input="8", widths={"head.x": "8-per-feature"})
    return qrnn.quantize(layers.model("everything", shown), data(seed + 1, 8, 12), scheme)


def test_the_model_has_every_kind_of_layer() -> None:
    """The model has every kind that streams step for step; test_normalizations.py, test_transposed.py and test_starts.py have the others."""
    elsewhere = {QuantRecurrentDefinition, QuantSequenceNorm, QuantUnstack, QuantCellValues}
    kinds = set(quantized_kinds().values()) - elsewhere
    assert {type(layer) for layer in everything().layers} == kinds


@pytest.mark.parametrize("backend", [name for name in available_backends() if name != "reference"])
@settings(max_examples=25, deadline=None)
@given(
    model=st.integers(0, 4), seed=st.integers(0, 1 << 30), lengths=st.lists(st.integers(0, 6), min_size=1, max_size=3)
)
def test_every_kind_of_layer(backend: str, model: int, seed: int, lengths: list[int]) -> None:
    quantized, inputs = everything(model), data(seed, len(lengths), 6)
    want, got = (qrnn.Session(quantized, name).run(inputs, np.array(lengths)) for name in ("reference", backend))
    assert want.outputs.keys() == {output.name for output in quantized.outputs}
    for name, value in want.outputs.items():
        np.testing.assert_array_equal(got.outputs[name], value, err_msg=name)


def test_every_kind_of_layer_in_c(tmp_path: Path) -> None:
    """Outputs before the convolution are left out: exported C has outputs of one clock."""
    model = everything(0, "embedding", "add", "concat")
    assert {type(layer) for layer in model.layers} == {type(layer) for layer in everything().layers}
    check(model, tmp_path, compiler("gcc"))


def test_it_has_every_cell_and_what_runs_in_the_simulator() -> None:
    files = [TESTS / "layers" / "test_quantized.py", TESTS / "backends" / "cuda" / "test_simulated.py", __file__]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *map(str, files)]
    done = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    taken = done.stdout.splitlines()
    ran = {line.partition("[")[2][:-1] for line in taken if "::test_backends_agree[" in line}
    missing = [name for name in TOOL.CELLS if not any(name in case.split("-") for case in ran)]
    assert missing == []
    for name in SIMULATED:
        assert any("::test_in_the_simulator[" in line and name in line for line in taken), name
    for backend in available_backends():
        assert backend == "reference" or any(f"::test_every_kind_of_layer[{backend}]" in line for line in taken), (
            backend
        )
