"""Constants that a file holds once for each sequence or step, because the exporter baked in how many there are."""

from __future__ import annotations

from typing import Any

from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.values import AXIS_NAMES, Array, Features


def without_repeats(node: Node, build: Builder, constant: Array, value: Features) -> Array:
    """Return ``constant`` with size 1 along the batch and time axes of ``value``, to which it broadcasts, where it is equal along them.

    UnsupportedError where it differs from sequence to sequence or from step to step.
    """
    sizes = build.sizes(value)
    for back in range(1, min(constant.ndim, value.ids.ndim) + 1):
        symbol, size = value.axes[-back], constant.shape[-back]
        if symbol is None or size == 1 or size not in sizes.get(symbol, set()):
            continue
        index: Any = (..., slice(0, 1), *(slice(None),) * (back - 1))
        node.reserve(constant.size)
        if (constant != constant[index]).any():
            raise node.refuse(
                f"computes with constants that differ along the {AXIS_NAMES[symbol]} axis, which binds the graph to its size {size}; only "
                "constants that are equal along it are supported; run this part outside the model"
            )
        constant = constant[index]
    return constant
