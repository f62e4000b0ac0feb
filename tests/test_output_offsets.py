"""Outputs far from 0: y = (q + offset) · 2^-frac, with the same integers and real numbers on every backend."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.building import check
from offset_models import far_data, far_model, far_quantized

from qrnn.accuracy.metrics import sqnr_db
from qrnn.equations.oracle import run_oracle
from qrnn.errors import ModelFileError
from qrnn.model.file import load, save
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

LENGTHS = [3, 0, 7, 1]


def test_the_head_and_its_copies_have_the_offset() -> None:
    model = far_quantized()
    fmt = model.tensors["head"]
    assert len(fmt.offset) == 1
    assert 900 < fmt.zeros[0] < 1100
    assert fmt.scale[0] <= 2.0**-11  # without an offset, 1013 leaves 2^-4
    for name in ("turned", "end", "one"):
        assert set(model.tensors[name].offset) == set(fmt.offset)
        assert model.tensors[name].scale == fmt.scale


@pytest.mark.parametrize("activations", [8, 16])
def test_backends_agree_and_sequences_without_steps_give_0(activations: int) -> None:
    model = far_quantized(Scheme(activations, input="8"))
    data = far_data(2, 4, 7)
    want = Session(model, "reference").run(data, LENGTHS).outputs
    got = Session(model, "cpu").run(data, LENGTHS).outputs
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)
        assert not value[1].any()
        assert (np.abs(value[[0, 2, 3]]).reshape(3, -1).max(1) > 1000.0).all()
    ends = want["y"][[0, 2, 3], np.array([2, 6, 0])]
    np.testing.assert_array_equal(want["last"][[0, 2, 3]], ends)
    np.testing.assert_array_equal(want["turned"], want["y"][..., ::-1])
    np.testing.assert_array_equal(want["one"], want["last"][:, 1:])


def test_the_middle_costs_no_accuracy() -> None:
    """Errors are those of a spread of 1, where the values are about 1013: without an offset a unit is 1/16."""
    data, model = far_data(2, 6, 30), far_quantized(Scheme(16, input="16"))
    want = run_oracle(far_model(), data).outputs["y"]
    got = Session(model, "reference").run(data).outputs["y"]
    assert sqnr_db(want - want.mean(), got - want.mean()) > 30.0


def test_streams_give_the_steps_of_a_run() -> None:
    model, data = far_quantized(), far_data(2, 2, 6)
    want = Session(model, "reference").run(data).outputs
    stream = Session(model, "cpu").stream(2)
    for t in range(6):
        out = stream.step({"x": data["x"][:, t]})
        np.testing.assert_array_equal(out["y"], want["y"][:, t])
    np.testing.assert_array_equal(out["last"], want["last"])


def test_a_file_keeps_the_offset(tmp_path: Path) -> None:
    model = far_quantized()
    save(model, tmp_path / "far.qrnn")
    assert load(tmp_path / "far.qrnn").tensors == model.tensors


def test_c_gives_the_integers(tmp_path: Path) -> None:
    check(far_quantized(), tmp_path, "gcc")


@pytest.mark.parametrize(
    ("tensor", "offset", "message"),
    [
        ("head", (7,), "layer head: 'head' is int16 .* with offset 7, expected int16 .* with offset"),
        ("head", (1 << 53,), "offset beyond"),
        ("head", (1, 2, 3), "3 offsets for 2 features"),
        ("turned", (0,), "layer turned: 'turned' is int16 .*, expected int16 .* with offset 2 values"),
        ("end", (0,), "layer end: 'end' is int16"),
        ("gru", (5,), "layer gru: 'gru' is int16 .* with offset 5, expected int16"),
    ],
)
def test_files_whose_offsets_do_not_fit_are_refused(tensor: str, offset: tuple[int, ...], message: str) -> None:
    model = far_quantized()
    with pytest.raises(ModelFileError, match=message):
        replace(model, tensors={**model.tensors, tensor: replace(model.tensors[tensor], offset=offset)})


def test_layers_whose_offsets_do_not_fit_are_refused() -> None:
    """The offset of a layer's output is an int32, and a concat rounds none."""
    model = far_quantized()
    for layer, message in (
        (replace(by_name(model, "head"), out_offset=1 << 31), "the offset of 'head' is beyond ±2147483647"),
        (replace(by_name(model, "turned"), out_frac=0), "layer turned: rounds the offset of 'head'"),
    ):
        layers = tuple(layer if layer.name == other.name else other for other in model.layers)
        with pytest.raises(ModelFileError, match=message):
            replace(model, layers=layers)


def by_name(model: QuantModel, name: str) -> Any:
    """The layer of that name."""
    return next(layer for layer in model.layers if layer.name == name)
