"""The handlers of ONNX operators, one function each; importing a module registers its functions. A new operator is a new function here."""

from qrnn.onnx_import.operators import (
    affine,
    convolution,
    dense,
    elementwise,
    normalization,
    padding,
    pointwise,
    pooling,
    quantized,
    quantized_layers,
    recurrent,
    reductions,
    reshape,
    select,
    shapes,
    structural,
)

__all__ = [
    "affine",
    "convolution",
    "dense",
    "elementwise",
    "normalization",
    "padding",
    "pointwise",
    "pooling",
    "quantized",
    "quantized_layers",
    "recurrent",
    "reductions",
    "reshape",
    "select",
    "shapes",
    "structural",
]
