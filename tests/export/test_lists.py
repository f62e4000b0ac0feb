"""Exported C with lists of tiles has the reference's integers, and says how its matrices are stored."""

from __future__ import annotations

from pathlib import Path

import pytest
from pruned import network

from export.building import check, compiler, quantized
from qrnn import Scheme
from qrnn.export.source import export_source
from qrnn.targets import Kernels

KERNELS: tuple[Kernels, ...] = ("plain", "mla", "dsp", "mve")
BLOCKS = {"tiles": (8, 4), "rows": (1, 8)}


@pytest.mark.wide
@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("kind", "cell", "bits"),
    [("tiles", "lstm", 8), ("rows", "gru", 8), ("tiles", "gru_before", 16), ("rows", "rnn", 16)],
)
def test_exported_c(kernels: Kernels, kind: str, cell: str, bits: int, tmp_path: Path) -> None:
    float_model = network(3, cell, features=37, hidden=45, block=BLOCKS[kind], density=0.2)
    model = quantized(float_model, Scheme(input="8", activations=bits))
    source = export_source(model, "net", kernels).source
    assert f"#define QRNN_USE_LISTS_OF_{kind.upper()}" in source
    check(model, tmp_path, compiler("gcc"), kernels)
