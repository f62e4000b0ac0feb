"""Masks of Keras are lengths that the data say: in the oracle, sessions on every path, streams, files and messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qrnn
from qrnn.errors import DataError, UnsupportedError

from .files import keras_bytes, lstm_weights, sequential

LSTM: dict[str, Any] = {"units": 2, "return_sequences": True}
T = 6


def load(tmp_path: Path, *layers: tuple[str, Any], weights: Any = None, **more: Any) -> qrnn.FloatModel:
    path = tmp_path / "m.keras"
    path.write_bytes(keras_bytes(sequential(*layers, **more), lstm_weights() if weights is None else weights))
    return qrnn.load_keras(path)


@pytest.fixture
def masked(tmp_path: Path) -> qrnn.FloatModel:
    return load(tmp_path, ("Masking", {"mask_value": -1.0}), ("LSTM", LSTM))


def data(value: float = -1.0) -> np.ndarray[Any, Any]:
    x = np.random.default_rng(1).normal(size=(4, T, 3)).astype(np.float32)
    for row, length in enumerate((T, 3, 1, 0)):
        x[row, length:] = value
    return x


def test_lengths_come_from_the_data(masked: qrnn.FloatModel, tmp_path: Path) -> None:
    x, lengths = data(), np.array([T, 3, 1, 0])
    assert masked.inputs[0].padding == -1.0
    assert any("steps of -1 at the end" in note for note in masked.notes)
    quantized = qrnn.quantize(masked, {"x": x})
    qrnn.save(quantized, tmp_path / "m.qrnn")
    for session in (qrnn.Session(quantized), qrnn.Session(qrnn.load(tmp_path / "m.qrnn"), "reference")):
        (output,) = quantized.outputs
        alone = session.run({"x": x}).outputs[output.name]
        np.testing.assert_array_equal(alone, session.run({"x": x}, lengths=lengths).outputs[output.name])
        np.testing.assert_array_equal(
            alone, session.run({"x": np.where(x == -1, np.float32(9), x)}, lengths=lengths).outputs[output.name]
        )
        fewer = session.run({"x": x}, lengths=np.array([2, 4, 1, 0]))
        assert fewer.lengths[output.name].tolist() == [2, 3, 1, 0]
    oracle = qrnn.run_oracle(masked, {"x": x}).outputs
    np.testing.assert_array_equal(oracle[output.name][1, 3:], 0)


def test_a_stream_takes_every_step(masked: qrnn.FloatModel) -> None:
    """Each call is a step: a caller leaves padding out, and a step that happens to have the mask's value is one like others."""
    quantized = qrnn.quantize(masked, {"x": data()})
    session = qrnn.Session(quantized, "reference")
    (name,) = (o.name for o in quantized.outputs)
    stream, state, x = session.stream(), None, np.full((1, 3), -1.0)
    first = stream.step({"x": x})[name].copy()
    result = session.step({"x": x}, state)
    np.testing.assert_array_equal(first, result.outputs[name])
    assert np.any(first)
    assert result.lengths[name].tolist() == [1]


def test_padding_before_real_steps_is_refused(masked: qrnn.FloatModel) -> None:
    x = data()
    x[0, 2] = -1
    with pytest.raises(DataError, match=r"input 'x': step 2 of sequence 0 is padding .* step 5 behind it"):
        qrnn.run_oracle(masked, {"x": x})
    x[0, 2:] = -1
    assert not qrnn.run_oracle(masked, {"x": x}).outputs["l1"][0, 2:].any()


def test_integers_do_not_tell_padding(masked: qrnn.FloatModel) -> None:
    quantized = qrnn.quantize(masked, {"x": data()})
    session = qrnn.Session(quantized, "reference")
    q = np.zeros((1, T, 3), np.int16)
    with pytest.raises(DataError, match="integers do not tell it; give lengths"):
        session.run({"x": q}, integers=True)
    session.run({"x": q}, lengths=np.array([2]), integers=True)


REFUSED = {
    "a convolution behind a mask": [("Masking", {}), ("Conv1D", {"filters": 2, "kernel_size": 3})],
    "a maximum behind a mask": [("Masking", {}), ("GlobalMaxPooling1D", {})],
    "a mask of what is computed": [("Dense", {"units": 3}), ("Masking", {}), ("LSTM", LSTM)],
    "turned steps": [("Masking", {}), ("LSTM", {**LSTM, "go_backwards": True})],
    "all steps side by side": [("Masking", {}), ("Flatten", {}), ("Dense", {"units": 1})],
}
WORDS = ["loses the mask", "loses the mask", "masks steps of a computed value", "go_backwards=True", "loses the mask"]


@pytest.mark.parametrize(("name", "words"), list(zip(REFUSED, WORDS, strict=True)))
def test_what_keras_computes_on_padding_is_refused(name: str, words: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {**lstm_weights(), "layers/dense/vars/0": rng.normal(size=(3, 3)), "layers/dense/vars/1": np.zeros(3)}
    weights |= {"layers/conv1d/vars/0": np.zeros((3, 3, 2)), "layers/conv1d/vars/1": np.zeros(2)}
    with pytest.raises(UnsupportedError, match=words):
        load(tmp_path, *REFUSED[name], weights=weights, shape=(None, 5, 3))
