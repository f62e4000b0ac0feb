"""Layers, settings and files that are not supported are refused by name; nothing is passed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qrnn
from qrnn.errors import ModelFileError, UnsupportedError

from .files import h5_bytes, keras_bytes, lstm_weights, sequential

LSTM = {"units": 2}


def refused(
    tmp_path: Path, config: Any, words: str, error: type[Exception] = UnsupportedError, weights: Any = None
) -> str:
    path = tmp_path / "m.keras"
    path.write_bytes(keras_bytes(config, lstm_weights() if weights is None else weights))
    with pytest.raises(error, match=words) as found:
        qrnn.load_keras(path)
    return str(found.value)


SETTINGS = {
    "activation": ({"activation": "gelu"}, "activation=gelu of a recurrent layer"),
    "unknown activation": ({"activation": "mine"}, "the activation 'mine' is not supported"),
    "activation of a file": (
        {"activation": {"class_name": "function", "module": "__main__", "config": "mine", "registered_name": "mine"}},
        "is no activation of Keras; qrnn runs no code",
    ),
    "unknown setting": ({"kernal": 3}, "its setting kernal=3 is not known"),
    "time_major": ({"time_major": True}, "time_major=True is not supported"),
    "int8": (
        {"dtype": {"class_name": "QuantizedDTypePolicy", "config": {"name": "int8_from_float32"}}},
        "before it is quantized",
    ),
    "lora": ({"lora_rank": 4}, "lora_rank=4 is not supported"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name: str, tmp_path: Path) -> None:
    more, words = SETTINGS[name]
    message = refused(tmp_path, sequential(("LSTM", {**LSTM, **more})), words)
    assert "layer 'l0' (LSTM)" in message


@pytest.mark.parametrize("harmless", [
    {"kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.1}}, "kernel_initializer": "x", "bias_constraint": {"class_name": "Mine"}},
    {"dropout": 0.5, "recurrent_dropout": 0.5, "seed": 3, "unit_forget_bias": False, "implementation": 1, "unroll": True},
    {"dtype": "mixed_float16"}, {"time_major": False}, {"zero_output_for_mask": True}])  # fmt: skip
def test_harmless_settings(harmless: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(keras_bytes(sequential(("LSTM", {**LSTM, **harmless})), lstm_weights()))
    assert len(qrnn.load_keras(path).layers) == 1


def test_all_problems_are_in_one_message(tmp_path: Path) -> None:
    config = sequential(("LSTM", {**LSTM, "activation": "gelu"}))
    config["config"]["layers"].append({"class_name": "Lambda", "config": {"name": "f", "function": "…"}})
    message = refused(tmp_path, config, "gelu")
    assert "layer 'l0' (LSTM)" in message
    config = sequential(("Lambda", {"function": {"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}}))
    message = refused(tmp_path, config, r"layer 'l0' \(Lambda\)")
    assert "qrnn runs no code of a file" in message


@pytest.mark.parametrize(("entry", "words"), [
    ({"class_name": "Mine", "module": "mine.layers", "config": {"name": "m"}}, "class Mine, which is not of Keras"),
    ({"class_name": "Custom>Mine", "config": {"name": "m"}}, "which is not of Keras"),
    ({"class_name": "Dense", "module": "mine", "registered_name": "p>Dense", "config": {"name": "m"}}, "which is not of Keras"),
    ({"class_name": "ConvLSTM1D", "module": "keras.layers", "config": {"name": "m"}}, r"\(ConvLSTM1D\): this layer of Keras is not supported"),
    ({"class_name": "CuDNNLSTM", "config": {"name": "m"}}, "save the model with LSTM")])  # fmt: skip
def test_other_layers(entry: Any, words: str, tmp_path: Path) -> None:
    config = sequential(("LSTM", LSTM))
    config["config"]["layers"].append(entry)
    refused(tmp_path, config, words)


def test_a_model_of_a_class_of_its_own(tmp_path: Path) -> None:
    refused(
        tmp_path, {"class_name": "MyModel", "module": "keras", "config": {}}, "save a Sequential or a functional model"
    )


WEIGHTS = {
    "another shape": (
        {**lstm_weights(), "layers/lstm/cell/vars/0": np.zeros((4, 8))},
        r"'kernel' has the shape \[4, 8\], expected \[3, 8\]",
    ),
    "too few": ({"layers/lstm/cell/vars/0": np.zeros((3, 8))}, "has 1 weights at 'layers/lstm/cell/vars', expected 3"),
    "none": ({}, "has 0 weights at"),
    "not finite": ({**lstm_weights(), "layers/lstm/cell/vars/2": np.full(8, np.nan)}, "not finite"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(name: str, tmp_path: Path) -> None:
    weights, words = WEIGHTS[name]
    refused(tmp_path, sequential(("LSTM", LSTM)), words, ModelFileError, weights)


def test_weights_alone_and_other_files(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(h5_bytes("{}", {}).replace(b"model_config", b"other_config"))
    with pytest.raises(UnsupportedError, match="without the config of a Keras model"):
        qrnn.load_keras(path)
    path.write_bytes(b"hello")
    with pytest.raises(ModelFileError, match=r"neither a \.keras nor an HDF5 file"):
        qrnn.load_keras(path)
    with pytest.raises(ModelFileError, match="no such file"):
        qrnn.load_keras(tmp_path / "none.keras")


def test_hard_sigmoid_is_that_of_the_version(tmp_path: Path) -> None:
    config = sequential(("LSTM", {**LSTM, "recurrent_activation": "hard_sigmoid"}))
    slopes = []
    for version in ("2.13.1", "3.4.0"):
        path = tmp_path / "m.keras"
        path.write_bytes(keras_bytes(config, lstm_weights(), version))
        (layer,) = qrnn.load_keras(path).recurrent_layers
        slopes.append(layer.directions[0].activations["gate"].alpha)
    assert slopes == pytest.approx([0.2, 1 / 6])
    path.write_bytes(keras_bytes(config, lstm_weights(), ""))
    with pytest.raises(UnsupportedError, match="hard_sigmoid differs between Keras 2 and 3"):
        qrnn.load_keras(path)


def test_a_functional_config_of_keras_2(tmp_path: Path) -> None:
    """As tf.keras 2 writes it: inbound_nodes of lists, batch_input_shape, and names with ``:0``."""
    layers = [
        {"class_name": "InputLayer", "name": "x", "config": {"batch_input_shape": [None, None, 3], "dtype": "float32", "sparse": False,
                                                             "ragged": False, "name": "x"}, "inbound_nodes": []},
        {"class_name": "LSTM", "name": "lstm", "config": {"name": "lstm", "units": 2, "return_state": True, "time_major": False},
         "inbound_nodes": [[["x", 0, 0, {}]]]},
        {"class_name": "Add", "name": "add", "config": {"name": "add"}, "inbound_nodes": [[["lstm", 0, 1, {}], ["lstm", 0, 0, {}]]]},
    ]  # fmt: skip
    config = {"class_name": "Functional", "config": {"name": "m", "layers": layers, "input_layers": [["x", 0, 0]],
                                                     "output_layers": [["add", 0, 0], ["lstm", 0, 0]]}}  # fmt: skip
    names = ("kernel", "recurrent_kernel", "bias")
    arrays = dict(zip((f"lstm/lstm_cell_7/{name}:0" for name in names), lstm_weights().values(), strict=True))
    path = tmp_path / "m.h5"
    path.write_bytes(h5_bytes(config, {"lstm": arrays, "add": {}, "x": {}}, "2.13.1"))
    other = tmp_path / "m.keras"
    other.write_bytes(
        keras_bytes(json.dumps(sequential(("LSTM", {**LSTM, "return_sequences": False}))), lstm_weights())
    )
    x = np.random.default_rng(3).normal(size=(2, 5, 3))
    got = qrnn.run_oracle(qrnn.load_keras(path), {"x": x}).outputs
    want = qrnn.run_oracle(qrnn.load_keras(other), {"x": x}).outputs
    np.testing.assert_allclose(got["lstm"], want["l0"], atol=1e-12)
    np.testing.assert_allclose(got["add"], 2 * want["l0"], atol=1e-12)


def test_a_stateful_layer_of_one_step_carries_its_state(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(keras_bytes(sequential(("LSTM", {**LSTM, "stateful": True}), shape=(1, 1, 3)), lstm_weights()))
    model = qrnn.load_keras(path)
    assert model.one_step
    assert not model.rows
    assert any("stateful layers (l0)" in note for note in model.notes)
    path.write_bytes(keras_bytes(sequential(("LSTM", LSTM), shape=(1, 1, 3)), lstm_weights()))
    assert qrnn.load_keras(path).rows
