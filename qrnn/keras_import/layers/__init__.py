"""The layers of Keras, by what they do; importing this package registers all of them (`qrnn.keras_import.registry`)."""

from qrnn.keras_import.layers import (
    attention,
    convolution,
    dense,
    elementwise,
    merging,
    normalization,
    operations,
    pooling,
    recurrent,
    reshaping,
    wrappers,
)

__all__ = [
    "attention",
    "convolution",
    "dense",
    "elementwise",
    "merging",
    "normalization",
    "operations",
    "pooling",
    "recurrent",
    "reshaping",
    "wrappers",
]
