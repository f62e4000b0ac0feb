"""Every mixture of widths gives the reference's integers in the exported C."""

from __future__ import annotations

from pathlib import Path

import pytest
from backends.mixed_widths import FIRST, MODELS, mixed_model

from export.building import check, compiler
from qrnn.export.matrices import stays_four_bit
from qrnn.model.parts import QuantMatrix4
from qrnn.targets import Kernels

KERNELS: tuple[Kernels, ...] = ("plain", "dsp", "mve")
USUAL: dict[int, Kernels] = {FIRST[2]: "mve"}
"""What the default run builds: a mix, with the kernels that read every width in a way of its own."""


@pytest.mark.parametrize(
    ("number", "kernels"),
    [
        pytest.param(number, kernels, marks=() if USUAL.get(number) == kernels else pytest.mark.matrix)
        for number in MODELS
        for kernels in KERNELS
    ],
)
def test_exported_c(number: int, kernels: Kernels, tmp_path: Path) -> None:
    model = mixed_model(number, features=20, hidden=22)
    four = [m.matrix for m in model.matrices if isinstance(m.matrix, QuantMatrix4)]
    assert four
    assert all(stays_four_bit(matrix, kernels) for matrix in four), "rows long enough that C keeps four bits"
    check(model, tmp_path, compiler("gcc"), kernels, number)
