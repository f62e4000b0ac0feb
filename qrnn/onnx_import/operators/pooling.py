"""Pools over time and over axes within a step."""

from __future__ import annotations

from qrnn.model.kinds.average_pool import AveragePool
from qrnn.model.kinds.max_pool import MaxPool
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.windows import geometry
from qrnn.onnx_import.registry import operator
from qrnn.onnx_import.values import Features


@operator("MaxPool")
def max_pool(node: Node, build: Builder) -> Features:
    """Import MaxPool over time and over one or two axes within a step; X [N, C, …]."""
    kernel = _kernel(node)
    if extra := [name for name in node.output_names[1:] if name]:
        raise node.refuse(f"output {extra[0]!r} (Indices) is not supported; only the values are")
    node.take("storage_order")  # it orders Indices alone
    found = geometry(node, build, kernel, zeros=False)
    tensor = found.operand(node, build)
    channels = found.apart * found.channels
    output = build.result(node, found.places * channels, True)
    over = found.time, found.band, found.bands, found.line, found.lines
    build.layers.append(MaxPool(node.name, tensor.name, output.name, channels, *over))
    return found.result(output, found.channels)


@operator("AveragePool")
def average_pool(node: Node, build: Builder) -> Features:
    """Import AveragePool over time and over one or two axes within a step; X [N, C, …].

    Zeros that a Pad puts before a pool without padding of its own count, as its own do where count_include_pad is 1: exporters write them so.
    """
    kernel, counts = _kernel(node), bool(node.take("count_include_pad", 0))
    own = any(node.peek("pads", ())) or node.peek("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    before = any(map(any, build.padding_of(node.features(0, "X")).edges))
    zeros = (own or before) and (counts or not own)  # without padding, what ceil_mode adds takes no part either way
    found = geometry(node, build, kernel, zeros)
    tensor = found.operand(node, build)
    channels = found.apart * found.channels
    output = build.result(node, found.places * channels, True)
    geometric = channels, found.time, found.band, found.bands, zeros, found.line, found.lines
    build.layers.append(AveragePool(node.name, tensor.name, output.name, *geometric))
    return found.result(output, found.channels)


def _kernel(node: Node) -> tuple[int, ...]:
    return tuple(int(taps) for taps in node.take("kernel_shape", ()))
