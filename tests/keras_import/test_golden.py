"""Every golden model of Keras computes in float64 what Keras computed, from a .keras and from an .h5 file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import qrnn
from qrnn.errors import UnsupportedError

from .files import golden, golden_names

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

HALF = {"mixed_float16"}
"""Keras computed these in float16."""

ONLY_KERAS = {"two outputs and operations"}
"""What an .h5 file cannot hold: it does not say that an operation is none of Keras's layers."""


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("name", golden_names())
def test_as_keras_computes(name: str, suffix: str, tmp_path: Path) -> None:
    case = golden(name)
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(case.keras if suffix == "keras" else case.h5)
    if suffix == "h5" and name in ONLY_KERAS:
        with pytest.raises(UnsupportedError, match="GetItem"):
            qrnn.load_keras(path)
        return
    model = qrnn.load_keras(path)
    got = qrnn.run_oracle(model, {i.name: case.inputs[i.name] for i in model.inputs}).outputs
    pairs = (
        [(got[key], case.outputs[key]) for key in got]
        if set(got) == set(case.outputs)
        else list(zip(got.values(), case.outputs.values(), strict=True))
    )
    assert len(pairs) == len(case.outputs)
    for own, want in pairs:
        np.testing.assert_allclose(own, want, rtol=0, atol=1e-3 if name in HALF else 2e-6)


def test_the_golden_cases_are_those_of_the_tool() -> None:
    """The golden cases are those of tools/keras_cases.py."""
    import keras_cases

    assert golden_names() == list(keras_cases.CASES)
