"""Pools over time and over axes within a step."""

from __future__ import annotations

from qrnn.model.kinds.average_pool import AveragePool
from qrnn.model.kinds.max_pool import MaxPool
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.windows import geometry
from qrnn.onnx_import.registry import operator
from qrnn.onnx_import.values import TIME, Features


@operator("MaxPool")
def max_pool(node: Node, build: Builder) -> Features:
    """Import MaxPool over time and over one or two axes within a step; X [N, C, …]."""
    if (each := _steps_as_channels(node)) is not None:
        return _without_channels(max_pool(each, build))
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
    if (each := _steps_as_channels(node)) is not None:
        return _without_channels(average_pool(each, build))
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


def _steps_as_channels(node: Node) -> Node | None:
    """Return the pool of [N, 1, T, …] for one of [N, T, …], whose channels are steps, each pooled by itself; None for another pool."""
    value = node.features(0, "X")
    kernel = node.peek("kernel_shape", ())
    if value.axes[1:2] != (TIME,) or value.ids.ndim != len(kernel) + 2:
        return None
    axes = len(kernel)
    alone = {name: [1, *node.take(name, [1] * axes)] for name in ("kernel_shape", "strides", "dilations")}
    edges = node.take("pads", [0] * (2 * axes))
    others = {
        name: node.take(name)
        for name in ("auto_pad", "ceil_mode", "count_include_pad", "storage_order")
        if node.peek(name, None) is not None
    }
    pads = {} if others.get("auto_pad", "NOTSET") != "NOTSET" else {"pads": [0, *edges[:axes], 0, *edges[axes:]]}
    shape = (*value.ids.shape[:1], 1, *value.ids.shape[1:])
    made = Features(value.ids.reshape(shape), (value.axes[0], None, *value.axes[1:]))
    return node.as_operator(node.op, [made], node.input_names[:1], alone | pads | others)


def _without_channels(pooled: Features) -> Features:
    """Return [N, 1, T, …] as [N, T, …]."""
    return Features(pooled.ids.reshape(pooled.ids.shape[:1] + pooled.ids.shape[2:]), (pooled.axes[0], *pooled.axes[2:]))
