"""Steps that a graph cuts off again: those that the padding of a convolution made.

Exporters write a causal convolution as one that is padded at both ends of time, and a Slice without the last steps. What is cut off need not
be computed: the convolution gets less padding, and the layers between it and the Slice are made again on that.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from qrnn.model.layer import Layer
from qrnn.model.matrix_layer import MatrixLayer
from qrnn.model.windowed import Windowed
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.values import Features, Tensor


def cropped(node: Node, build: Builder, value: Features, first: int, last: int) -> Features:
    """Return ``value`` without its ``first`` and its ``last`` steps, where these come of padding; refuse it elsewhere."""
    flat = build.computable(node, value.ids).copy()
    for part in build.book.parts(flat):
        if part.tensor.kind != "zero":
            flat[part.positions] = _cropped(node, build, part.tensor, first, last).start + part.indices
    return Features(flat.reshape(value.ids.shape), value.axes)


def _cropped(node: Node, build: Builder, tensor: Tensor, first: int, last: int) -> Tensor:
    """Return the tensor without steps that a copy of its layer writes, made once for a tensor."""
    key = (np.array([tensor.start, first, last]).tobytes(), b"cropped")
    if (known := build.made.get(key)) is not None:
        return known
    layer: Any = next((layer for layer in build.layers if tensor.name in layer.outputs), None)
    changes: dict[str, Any]
    if isinstance(layer, Windowed):
        window = layer.time
        if window.stride != 1 or first > window.before or last > window.after:
            raise node.refuse(
                f"cuts off {first} steps in front and {last} behind of what layer '{layer.name}' gives, which has padding of {window.before} "
                f"and {window.after} steps and stride {window.stride}; only steps that padding made can be cut off, with stride 1"
            )
        changes = {"time": replace(window, before=window.before - first, after=window.after - last)}
    elif layer is not None and not layer.keeps_state and all(_named(layer, name) for name in layer.inputs):
        inputs = {
            t.name: _cropped(node, build, t, first, last).name for t in build.book.tensors if t.name in layer.inputs
        }
        changes = {f.name: inputs[getattr(layer, f.name)] for f in fields(layer) if _reads(layer, f.name)}
    else:
        raise node.refuse(
            f"cuts off {first} steps in front and {last} behind of '{tensor.name}'; only steps that the padding of a convolution or pool made "
            "can be cut off; run this part outside the model"
        )
    output = build.new_tensor(f"{tensor.name}.cropped", True, tensor.features, True, "layer")
    made = replace(layer, output=output.name, **changes)
    if isinstance(made, MatrixLayer):
        build.add_matrix(made)
    else:
        build.layers.append(made)
    build.made[key] = output
    return output


def _reads(layer: Layer, field: str) -> bool:
    """Return whether a field of a layer is the name of a tensor that it reads."""
    return (
        field not in ("name", "output")
        and isinstance(getattr(layer, field), str)
        and getattr(layer, field) in layer.inputs
    )


def _named(layer: Layer, tensor: str) -> bool:
    """Return whether a field of a layer is the name of a tensor, so that another can take its place."""
    return any(_reads(layer, f.name) and getattr(layer, f.name) == tensor for f in fields(layer))  # type: ignore[arg-type]
