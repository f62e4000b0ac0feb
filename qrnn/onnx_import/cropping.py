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

LOOKUP_WORK = 200
"""Nominal nanoseconds to note one layer or tensor by its name."""


def cropped(node: Node, build: Builder, value: Features, first: int, last: int) -> Features:
    """Return ``value`` without its ``first`` and its ``last`` steps, where these come of padding; refuse it elsewhere."""
    flat = build.computable(node, value.ids).copy()
    build.budget.spend(node.where, (len(build.layers) + len(build.book.tensors)) * LOOKUP_WORK)
    crop = _Crop(node, build, first, last)
    for part in build.book.parts(flat):
        if part.tensor.kind != "zero":
            flat[part.positions] = crop.of(part.tensor).start + part.indices
    return Features(flat.reshape(value.ids.shape), value.axes)


class _Crop:
    """Tensors without their ``first`` and ``last`` steps, which copies of their layers write; each is made once."""

    def __init__(self, node: Node, build: Builder, first: int, last: int) -> None:
        self._node, self._build, self._first, self._last = node, build, first, last
        self._writers: dict[str, Any] = {name: layer for layer in build.layers for name in layer.outputs}
        self._tensors = {tensor.name: tensor for tensor in build.book.tensors}

    def of(self, tensor: Tensor) -> Tensor:
        """Return the cropped tensor, after those that its layer reads; a chain of layers may be longer than Python's stack."""
        waiting = [tensor]
        while waiting:
            layer = self._layer(waiting[-1])
            before = [] if isinstance(layer, Windowed) else [self._tensors[name] for name in layer.inputs]
            if left := [t for t in before if self._key(t) not in self._build.made]:
                waiting += left
            else:
                self._make(waiting.pop(), layer)
        return self._build.made[self._key(tensor)]

    def _key(self, tensor: Tensor) -> tuple[bytes, bytes]:
        return np.array([tensor.start, self._first, self._last]).tobytes(), b"cropped"

    def _layer(self, tensor: Tensor) -> Any:
        """Return the layer that writes a tensor; refuse one whose last steps are none that padding made."""
        layer = self._writers.get(tensor.name)
        if isinstance(layer, Windowed):
            window = layer.time
            if window.stride != 1 or self._first > window.before or self._last > window.after:
                raise self._node.refuse(
                    f"{self._what} of what layer '{layer.name}' gives, which has padding of {window.before} and {window.after} steps "
                    f"and stride {window.stride}; only steps that padding made can be cut off, with stride 1"
                )
        elif layer is None or layer.keeps_state or not all(_named(layer, name) for name in layer.inputs):
            raise self._node.refuse(
                f"{self._what} of '{tensor.name}'; only steps that the padding of a convolution or pool made can be cut off; run this part "
                "outside the model"
            )
        return layer

    @property
    def _what(self) -> str:
        return f"cuts off {self._first} steps in front and {self._last} behind"

    def _make(self, tensor: Tensor, layer: Any) -> None:
        """Add the copy of a layer that writes a cropped tensor, unless there is one."""
        build, key = self._build, self._key(tensor)
        if key in build.made:
            return
        if isinstance(layer, Windowed):
            window = layer.time
            changes: dict[str, Any] = {
                "time": replace(window, before=window.before - self._first, after=window.after - self._last)
            }
        else:
            inputs = {name: build.made[self._key(self._tensors[name])].name for name in layer.inputs}
            changes = {f.name: inputs[getattr(layer, f.name)] for f in fields(layer) if _reads(layer, f.name)}
        output = build.new_tensor(f"{tensor.name}.cropped", True, tensor.features, True, "layer")
        made: Any = replace(layer, output=output.name, **changes)
        if isinstance(made, MatrixLayer):
            build.add_matrix(made)
        else:
            build.layers.append(made)
        build.made[key] = output


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
