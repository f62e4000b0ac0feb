"""Recurrent layers over bands, and for each band, in C: on this machine under sanitizers, and on emulated cores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.building import quantized
from export.drawn import check_on_core, check_on_host
from qrnn import layers
from qrnn.conversion import quantize
from qrnn.export.source import export_source
from qrnn.model.quant_model import QuantModel
from qrnn.onnx_import import load_onnx
from qrnn.quantization.scheme import Scheme

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
CORES = ("cortex-m4", "cortex-m55")
LENGTHS = (1, 2, 9)


def both(cell: str, per: str) -> QuantModel:
    """A layer over bands, from states that are not zero, and one for each band behind it, forward alone or both ways."""
    rng = np.random.default_rng(4)
    rows, built = {"gru": (12, layers.gru), "lstm": (16, layers.lstm), "indrnn": (4, None)}[cell]

    def one(band: layers.Tensor, reverse: bool) -> layers.Recurrent:
        start = {"h_0": rng.uniform(-1, 1, 4), "reverse": reverse}
        if built is None:
            return layers.indrnn(
                band, rng.normal(size=(4, band.features)), rng.uniform(-1, 1, 4), activation="tanh", **start
            )
        return built(
            band, rng.normal(size=(rows, band.features)), rng.normal(size=(rows, 4)), rng.normal(size=rows), **start
        )

    def ways(band: layers.Tensor) -> layers.Recurrent:
        return layers.bidirectional(one(band, False), one(band, True))

    intra = layers.over_bands(layers.input("x", 6), 3, ways)
    inter = layers.per_band(intra, 3, ways if per == "both" else lambda band: one(band, False))
    outputs = {"y": layers.dense(inter.output, rng.normal(size=(2, inter.output.features))), "h": inter.h_n}
    return quantized(layers.model("both", outputs | ({} if inter.c_n is None else {"c": inter.c_n})))


@pytest.mark.wide
@pytest.mark.parametrize("per", ["forward", "both"])
@pytest.mark.parametrize("cell", ["gru", "lstm", "indrnn"])
def test_on_this_machine(cell: str, per: str) -> None:
    check_on_host(both(cell, per), "plain" if cell == "gru" else "dsp", lengths=LENGTHS)


@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_on_cores(cell: str, name: str) -> None:
    check_on_core(both(cell, "forward"), name, lengths=LENGTHS)


def dual_path() -> tuple[QuantModel, dict[str, Any]]:
    """The shared dual path with operands of 16 bits, and clips of it."""
    path, frames = SHARED / "models/whole/fsdd_dualpath.onnx", SHARED / "data/fsdd_logmel.npz"
    if not (path.exists() and frames.exists()):
        pytest.skip("the shared models are not there")
    with np.load(frames) as data:
        x = {"x": data["frames"][:120].reshape(4, 30, 32).astype(np.float32)}
    return quantize(load_onnx(path), x, Scheme(input="16", activations=16)), x


@pytest.mark.filterwarnings("ignore::qrnn.quantization.source_checks.CalibrationWarning")
@pytest.mark.parametrize("name", ["", *CORES])
def test_the_shared_dual_path(name: str) -> None:
    model, data = dual_path()
    assert "void net_step(" in export_source(model, "net", "plain").header
    if name:
        check_on_core(model, name, data, lengths=LENGTHS)
    else:
        check_on_host(model, "plain", lengths=LENGTHS)
