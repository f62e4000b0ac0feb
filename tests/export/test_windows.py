"""Convolutions and pools in C: the reference's outputs and states on this machine under sanitizers, and on emulated cores."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from backends.generators import few, many
from hypothesis import given, settings

from export.building import COMPILERS, check, compiler
from export.test_devices import usable
from export.windows import models
from qrnn.devices.verify import verify
from qrnn.export.expected import random_sequences
from qrnn.export.folder import export_model, read_folder
from qrnn.model.quant_model import QuantModel
from qrnn.targets import Kernels

LENGTHS = (1, 5, 24)
KERNELS: tuple[Kernels, ...] = ("plain", "dsp", "mve")
CORES = ("cortex-m4", "cortex-m55")
MORE_CORES = ("cortex-m0plus", "cortex-m3", "cortex-m7", "cortex-m33", "rv32imc")


def check_on_host(model: QuantModel, kernels: Kernels, cc: str = "gcc") -> None:
    with tempfile.TemporaryDirectory(prefix="qrnn-") as folder:
        check(model, Path(folder), compiler(cc), kernels, lengths=LENGTHS)


@pytest.mark.parametrize("kernels", KERNELS)
@settings(few, max_examples=4)
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


def check_on_core(model: QuantModel, name: str) -> None:
    target = usable(name)
    with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
        export_model(model, target, Path(temporary) / "net", "net")
        folder = read_folder(Path(temporary) / "net")
        done = verify(folder, target, random_sequences(model, folder.exported, LENGTHS, seed=4))
    assert done.difference is None
    assert done.steps == sum(LENGTHS)


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
