"""Pooling: windows of steps or bands, and whole sequences."""

from __future__ import annotations

from collections.abc import Sequence

from qrnn.keras_import.graph import Graph
from qrnn.keras_import.layers.convolution import Windows, channels_are_last, channels_first, channels_last
from qrnn.keras_import.registry import Call, layer, refuse_lost_mask
from qrnn.keras_import.tensors import Value


@layer(
    "MaxPooling1D",
    "MaxPool1D",
    "MaxPooling2D",
    "MaxPool2D",
    "AveragePooling1D",
    "AvgPool1D",
    "AveragePooling2D",
    "AvgPool2D",
)
def pool(graph: Graph, call: Call) -> Sequence[Value]:
    """Write the largest or the mean of each window; padding takes no part in a mean."""
    call.only()
    axes = 2 if "2D" in call.layer.kind else 1
    x, last = call.x, channels_are_last(call.settings)
    if x.rank != axes + 2:
        call.settings.damaged(f"it reads {x.text()}, expected {axes + 2} axes")
    windows = Windows.of(call, axes, "pool_size")
    graph.mixes_steps(x)
    first = channels_first(graph, x, last)
    shape = (None, first.shape[1], *windows.shape(first.shape[2:]))
    op = "MaxPool" if call.layer.kind.startswith("Max") else "AveragePool"
    return [
        channels_last(
            graph, graph.apply(op, first, shape=shape, **windows.attributes(call.settings, first.shape[2:])), last
        )
    ]


@layer("GlobalMaxPooling1D", "GlobalMaxPool1D", "GlobalAveragePooling1D", "GlobalAvgPool1D", "GlobalMaxPooling2D", "GlobalMaxPool2D",
       "GlobalAveragePooling2D", "GlobalAvgPool2D", keeps_mask=True)  # fmt: skip
def global_pool(graph: Graph, call: Call) -> Sequence[Value]:
    """Write the largest or the mean of all steps, or of all rows and columns.

    A mean leaves masked steps out. A maximum of Keras takes them in, which changes nothing where they repeat the last real step.
    """
    call.only()
    axes = 2 if "2D" in call.layer.kind else 1
    x, last = call.x, channels_are_last(call.settings)
    keep = call.settings.flag("keepdims", False)
    if x.rank != axes + 2:
        call.settings.damaged(f"it reads {x.text()}, expected {axes + 2} axes")
    largest = "Max" in call.layer.kind
    if x.mask is not None and (axes == 2 or not last or (largest and not x.mask.repeats)):
        refuse_lost_mask(call, x)
    graph.mixes_steps(x)
    over = list(range(1, axes + 1)) if last else list(range(2, axes + 2))
    shape = tuple(1 if k in over else size for k, size in enumerate(x.shape) if keep or k not in over)
    y = graph.op("ReduceMax" if largest else "ReduceMean", [x.name], axes=over, keepdims=int(keep))
    return [Value(y, shape)]
