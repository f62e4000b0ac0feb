"""Pools over time and over an axis within a step."""

from __future__ import annotations

from qrnn.model.kinds.max_pool import MaxPool
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.windows import geometry
from qrnn.onnx_import.registry import operator
from qrnn.onnx_import.values import Features


@operator("MaxPool")
def max_pool(node: Node, build: Builder) -> Features:
    """Import MaxPool over time, over one axis within a step, or over both; X [N, C, …]."""
    kernel = tuple(int(taps) for taps in node.take("kernel_shape", ()))
    if extra := [name for name in node.output_names[1:] if name]:
        raise node.refuse(f"output {extra[0]!r} (Indices) is not supported; only the values are")
    node.take("storage_order")  # it orders Indices alone
    found = geometry(node, build, kernel)
    tensor = found.operand(node, build)
    output = build.result(node, found.band.count(found.bands) * found.channels, True)
    build.layers.append(
        MaxPool(node.name, tensor.name, output.name, found.channels, found.time, found.band, found.bands)
    )
    return found.result(output, found.channels)
