"""Convolutions and pools in C: the reference's outputs and states on this machine under sanitizers, and on emulated cores."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from backends.generators import few, many
from hypothesis import given, settings

from export import drawn
from export.building import COMPILERS, quantized
from export.test_devices import usable
from export.windows import models
from qrnn import layers
from qrnn.devices.measure import measure
from qrnn.export.folder import export_model, read_folder
from qrnn.export.kinds.conv import joined_groups, joined_weight
from qrnn.export.matrices import MOST_COLUMNS
from qrnn.export.source import export_source
from qrnn.model.kinds.conv import QuantConv
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme
from qrnn.targets import Kernels

LENGTHS = (1, 5, 24)
check_on_host = functools.partial(drawn.check_on_host, lengths=LENGTHS)
check_on_core = functools.partial(drawn.check_on_core, lengths=LENGTHS)
KERNELS: tuple[Kernels, ...] = ("plain", "mla", "dsp", "mve")
CORES = ("cortex-m4", "cortex-m55")
MORE_CORES = ("cortex-m0plus", "cortex-m3", "cortex-m7", "cortex-m33", "rv32imc")


@pytest.mark.parametrize("kernels", KERNELS)
@settings(few, max_examples=2)
@given(model=models())
def test_few_random_windows(kernels: Kernels, model: QuantModel) -> None:
    check_on_host(model, kernels)


@pytest.mark.matrix
@pytest.mark.parametrize("cc", COMPILERS)
@pytest.mark.parametrize("kernels", KERNELS)
@settings(few, max_examples=30)
@given(model=models())
def test_random_windows(kernels: Kernels, cc: str, model: QuantModel) -> None:
    check_on_host(model, kernels, cc)


@pytest.mark.long
@pytest.mark.parametrize("cc", COMPILERS)
@pytest.mark.parametrize("kernels", KERNELS)
@settings(many, max_examples=400)
@given(model=models())
def test_random_windows_long(kernels: Kernels, cc: str, model: QuantModel) -> None:
    check_on_host(model, kernels, cc)


@pytest.mark.parametrize("name", CORES)
@settings(few, max_examples=2)
@given(model=models())
def test_few_random_windows_on_cores(name: str, model: QuantModel) -> None:
    check_on_core(model, name)


@pytest.mark.matrix
@pytest.mark.parametrize("name", [*CORES, *MORE_CORES])
@settings(few, max_examples=15)
@given(model=models())
def test_random_windows_on_cores(name: str, model: QuantModel) -> None:
    check_on_core(model, name)


def test_long_rows_are_translated(tmp_path: Path) -> None:
    """A block of a matrix has at most `MOST_COLUMNS` columns; longer rows have the C of the definition."""
    x = layers.input("x", 4096)
    weight = np.random.default_rng(0).normal(size=(1, 4096, 4))
    model = quantized(layers.model("long", {"y": layers.conv(x, weight)}))
    (layer,) = model.layers
    assert isinstance(layer, QuantConv)
    assert layer.matrix.weight.shape[1] > MOST_COLUMNS
    assert "qrnn_conv.h" not in export_source(model, "net", "plain").runtime
    check_on_host(model, "plain")


@pytest.mark.parametrize(
    ("groups", "rows", "joined"), [(8, 1, 4), (8, 2, 2), (8, 3, 1), (8, 4, 1), (7, 1, 7), (1, 1, 1)]
)
def test_groups_of_few_rows_are_joined(groups: int, rows: int, joined: int) -> None:
    """Weights of zero between groups change no sum: the rows are those of a matrix of all channels, cut to the groups that are joined."""
    x = layers.input("x", 2 * groups)
    weight = np.random.default_rng(1).normal(size=(groups * rows, 2, 3))
    (layer,) = quantized(layers.model("groups", {"y": layers.conv(x, weight, groups=groups)})).layers
    assert isinstance(layer, QuantConv)
    assert joined_groups(layer, "dsp") == joined
    found = joined_weight(layer, joined).reshape(groups * rows, 3, 2 * joined)
    own = layer.matrix.weight.reshape(groups * rows, 3, 2)
    for row in range(groups * rows):
        place = 2 * (row // rows % joined)
        np.testing.assert_array_equal(found[row, :, place : place + 2], own[row])
        assert np.count_nonzero(found[row]) == np.count_nonzero(own[row])


@pytest.mark.wide
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", CORES)
def test_whole_blocks_on_cores(name: str, bits: int) -> None:
    """Rows of 8 to 120 columns, of which some end a block early, in windows of one step and of several; the last one skips steps."""
    rng = np.random.default_rng(3)
    t = layers.input("x", 40)
    outputs = {}
    for number, (rows, taps) in enumerate(
        [(12, 1), (9, 1), (8, 3), (16, 1), (13, 1), (32, 1), (32, 1), (4, 3), (5, 1)]
    ):
        stride = 2 if (rows, taps) == (5, 1) else 1
        weight = rng.normal(size=(rows, t.features, taps)) / np.sqrt(t.features * taps)
        t = layers.conv(t, weight, 0.1 * rng.normal(size=rows), stride=stride)
        outputs[f"y{number}"] = t if stride == 1 else layers.conv(t, rng.normal(size=(3, rows, 1)))
    steps = {key: value for key, value in outputs.items() if key != "y8"}
    check_on_core(quantized(layers.model("blocks", steps), Scheme(bits, input=str(bits))), name)
    check_on_core(quantized(layers.model("skips", {"y": outputs["y8"]}), Scheme(bits, input=str(bits))), name)


@pytest.mark.wide
@pytest.mark.parametrize(("name", "most"), [("cortex-m4", 1.3), ("cortex-m55", 0.3)])
@pytest.mark.parametrize("taps", [1, 3])
def test_instructions_of_a_multiply_add(name: str, most: float, taps: int, tmp_path: Path) -> None:
    """A convolution of 32 channels to 32."""
    target, rng = usable(name), np.random.default_rng(2)
    weight = rng.normal(size=(32, 32, taps))
    model = quantized(layers.model("conv", {"y": layers.conv(layers.input("x", 32), weight)}))
    export_model(model, target, tmp_path / "net", "net")
    needs = measure(read_folder(tmp_path / "net"), target, 1)
    assert needs.instructions is not None
    assert needs.phases is not None
    assert needs.instructions < most * 32 * 32 * taps
    assert needs.phases["windows"] > 0.8 * needs.instructions
