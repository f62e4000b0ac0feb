"""Ordinary Keras models around recurrent layers, small and untrained, for tools/exporters.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

STEPS, FEATURES, UNITS = 12, 5, 8


def sequential(*stack: Any, steps: int | None = STEPS, features: int = FEATURES) -> Any:
    """Return a model of layers one after the other, on sequences [N, steps, features]."""
    return keras.Sequential([keras.Input((steps, features)), *stack])


def _normalization() -> Any:
    """Return a normalization by the means and deviations of data; with such numbers given, exporters forget them."""
    found = layers.Normalization()
    found.adapt(
        np.random.default_rng(0).normal([0.5, -1.0, 2.0, 0.0, 3.0], [1.0, 2.0, 0.5, 1.5, 3.0], (64, STEPS, FEATURES))
    )
    return found


def _one_step() -> Any:
    """Return a model of one step, with its states as inputs and outputs."""
    x, h, c = keras.Input((1, FEATURES)), keras.Input((UNITS,)), keras.Input((UNITS,))
    y, h_n, c_n = layers.LSTM(UNITS, return_state=True)(x, initial_state=[h, c])
    return keras.Model([x, h, c], [layers.Dense(3)(y), h_n, c_n])


def _residual() -> Any:
    x = keras.Input((STEPS, UNITS))
    y = layers.add([x, layers.GRU(UNITS, return_sequences=True)(x)])
    return keras.Model(x, layers.Dense(3)(layers.LayerNormalization()(y)))


def models() -> Mapping[str, Callable[[], Any]]:
    """Return what makes each model, by what is special about it."""
    dense, tagger = layers.Dense, {"return_sequences": True}
    return {
        "LSTM, last step": lambda: sequential(layers.LSTM(UNITS), dense(3)),
        "LSTM, every step, softmax": lambda: sequential(layers.LSTM(UNITS, **tagger), dense(3, activation="softmax")),
        "GRU, reset_after": lambda: sequential(layers.GRU(UNITS, **tagger), dense(3)),
        "GRU, reset before": lambda: sequential(layers.GRU(UNITS, reset_after=False, **tagger), dense(3)),
        "SimpleRNN": lambda: sequential(layers.SimpleRNN(UNITS, **tagger), dense(3)),
        "LSTM, any number of steps": lambda: sequential(layers.LSTM(UNITS, **tagger), dense(3), steps=None),
        "go_backwards": lambda: sequential(layers.LSTM(UNITS, go_backwards=True), dense(3)),
        "Bidirectional LSTM": lambda: sequential(layers.Bidirectional(layers.LSTM(UNITS, **tagger)), dense(3)),
        "Bidirectional GRU, last": lambda: sequential(layers.Bidirectional(layers.GRU(UNITS)), dense(3)),
        "two layers": lambda: sequential(layers.LSTM(UNITS, **tagger), layers.LSTM(UNITS), dense(3)),
        "Dense ReLU, GRU, Dense softmax": lambda: sequential(
            dense(6, activation="relu"), layers.GRU(UNITS, **tagger), dense(3, activation="softmax")
        ),
        "TimeDistributed Dense": lambda: sequential(
            layers.LSTM(UNITS, **tagger), layers.TimeDistributed(dense(3, activation="sigmoid"))
        ),
        "Normalization at the input": lambda: sequential(_normalization(), layers.LSTM(UNITS), dense(3)),
        "Rescaling at the input": lambda: sequential(layers.Rescaling(0.1, -1.0), layers.GRU(UNITS), dense(3)),
        "BatchNormalization at the input": lambda: sequential(
            layers.BatchNormalization(), layers.LSTM(UNITS, **tagger), dense(3)
        ),
        "BatchNormalization behind LSTM": lambda: sequential(
            layers.LSTM(UNITS, **tagger), layers.BatchNormalization(), dense(3)
        ),
        "LayerNormalization and residual": _residual,
        "causal Conv1D, LSTM": lambda: sequential(
            layers.Conv1D(6, 3, padding="causal", activation="relu"), layers.LSTM(UNITS, **tagger), dense(3)
        ),
        "Conv1D same, MaxPooling1D, GRU": lambda: sequential(
            layers.Conv1D(6, 3, padding="same", activation="relu"), layers.MaxPooling1D(2), layers.GRU(UNITS), dense(3)
        ),
        "GlobalAveragePooling1D": lambda: sequential(
            layers.LSTM(UNITS, **tagger), layers.GlobalAveragePooling1D(), dense(3)
        ),
        "GlobalMaxPooling1D": lambda: sequential(layers.GRU(UNITS, **tagger), layers.GlobalMaxPooling1D(), dense(3)),
        "autoencoder, RepeatVector": lambda: sequential(
            layers.LSTM(UNITS), layers.RepeatVector(STEPS), layers.LSTM(UNITS, **tagger), dense(FEATURES)
        ),
        "all steps flattened into a Dense": lambda: sequential(
            layers.LSTM(UNITS, **tagger), layers.Flatten(), dense(3)
        ),
        "one step a call, states in and out": _one_step,
        "Masking": lambda: sequential(layers.Masking(0.0), layers.LSTM(UNITS), dense(3)),
        "hard sigmoid gates": lambda: sequential(
            layers.LSTM(UNITS, recurrent_activation="hard_sigmoid", **tagger), dense(3)
        ),
    }


def _own(model: Any, path: Path) -> None:
    """Write a model by Keras, which asks that it was called before."""
    model([np.zeros((1, *value.shape[1:]), np.float32) for value in model.inputs])
    model.export(str(path), format="onnx", verbose=False)


def _tf2onnx(model: Any, path: Path) -> None:
    """Write a model by tf2onnx from a function of TensorFlow, which works with Keras 3 too."""
    import tensorflow as tf
    import tf2onnx

    signature = [
        tf.TensorSpec((None, *value.shape[1:]), tf.float32, name=f"x{k}") for k, value in enumerate(model.inputs)
    ]
    call = tf.function(lambda *inputs: model(list(inputs) if len(inputs) > 1 else inputs[0]))
    tf2onnx.convert.from_function(call, input_signature=signature, opset=17, output_path=str(path))


def writers() -> Mapping[str, Callable[[Any, Path], None]]:
    """Return the exporters by name and version."""
    import tf2onnx

    return {f"keras {keras.__version__}, export": _own, f"tf2onnx {tf2onnx.__version__}": _tf2onnx}
