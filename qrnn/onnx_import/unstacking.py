"""Several steps for each step: phases of a transposed convolution over time, and steps that are repeated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qrnn.model.kinds.unstack import Unstack
from qrnn.model.window import LARGEST_WINDOW
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.values import Features


def unstacked(node: Node, build: Builder, steps: Sequence[Features], cut: int = 0) -> Features:
    """Return values of the same axes over time one after the other at each step, without the last ``cut`` steps of a sequence."""
    first, count = steps[0], len(steps)
    if build.one_step:
        raise node.refuse(
            f"gives {count} steps for one in a graph of one step per call; re-export with a dynamic time axis"
        )
    if node.backwards:
        raise node.refuse(f"gives {count} steps for one of steps that are in reverse; reverse them back before")
    if count > LARGEST_WINDOW:
        raise node.refuse(f"gives {count} steps for one; at most {LARGEST_WINDOW} are supported")
    node.reserve_features(count * first.ids.size)
    flat = build.computable(node, np.stack([step.ids.reshape(-1) for step in steps]))
    each = flat.reshape(count, -1)
    # a feature whose steps are zeros beside features is read from a copy that has the zeros
    tensor, indices = build.operand(node, Features(each, (None, None)))
    if not tensor.has_time:
        raise node.refuse(f"gives several steps for one of '{tensor.name}', which has no time axis")
    output = build.new_tensor(f"{node.name}.unstacked", True, each.shape[1], True, "layer")
    node.reserve(2 * indices.size)
    build.layers.append(Unstack(f"{node.name}/unstack", tensor.name, output.name, indices.reshape(count, -1), cut))
    return Features(output.ids.reshape(first.ids.shape), first.axes)
