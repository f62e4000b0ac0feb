"""Dense and Embedding layers, and the layers that say which steps take part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnx import TensorProto

from qrnn.keras_import.activations import activate
from qrnn.keras_import.graph import Graph
from qrnn.keras_import.registry import Call, layer
from qrnn.keras_import.tensors import Mask, Value


def product(graph: Graph, x: Value, matrix: object, bias: object, features: int) -> Value:
    """Return x · matrix + bias over the last axis; ``bias`` may be None."""
    y = graph.apply("MatMul", x, graph.constant(matrix, "kernel"), shape=(*x.shape[:-1], features))
    return y if bias is None else graph.apply("Add", y, graph.constant(bias, "bias"))


@layer("Dense", keeps_mask=True, by_step=True)
def dense(graph: Graph, call: Call) -> Sequence[Value]:
    """Write activation(x · kernel + bias) over the last axis."""
    call.only()
    x, units, bias = call.x, call.settings.size("units"), call.settings.flag("use_bias", True)
    if x.features is None:
        call.settings.refuse(f"it reads {x.text()}, whose last size is open; give the input a fixed number of features")
    wanted = [("kernel", (x.features, units)), *([("bias", (units,))] if bias else [])]
    arrays = call.weights.take(call.layer.where, wanted)
    return [activate(graph, product(graph, x, arrays[0], arrays[1] if bias else None, units), call.settings)]


@layer("Embedding", by_step=True)
def embedding(graph: Graph, call: Call) -> Sequence[Value]:
    """Write a look-up of rows by tokens; with mask_zero, token 0 is padding."""
    call.only()
    x, settings = call.x, call.settings
    rows, columns = settings.size("input_dim"), settings.size("output_dim")
    (table,) = call.weights.take(call.layer.where, [("embeddings", (rows, columns))])
    index = x.name
    if any(info.name == index for info in graph.inputs):
        graph.tokens.add(index)
    else:
        index = graph.op("Cast", [index], to=TensorProto.INT64)
    name = graph.op("Gather", [graph.constant(table, "embeddings"), index], axis=0)
    mask = None
    if settings.flag("mask_zero", False):
        mask = input_mask(graph, call, x, 0.0)
    return [Value(name, (*x.shape, columns), mask, x.sources)]


@layer("Masking", keeps_mask=True)
def masking(graph: Graph, call: Call) -> Sequence[Value]:
    """Mark the steps whose features all have one value; they are left out by the lengths of sequences, so that nothing is written."""
    call.only()
    return [call.x.with_mask(input_mask(graph, call, call.x, call.settings.number("mask_value", 0.0)))]


def input_mask(graph: Graph, call: Call, x: Value, value: float) -> Mask:
    """Return the mask of a graph input; of a computed value it would follow from numbers that qrnn rounds, and is refused."""
    names = {info.name for info in graph.inputs}
    if x.name not in names:
        call.settings.refuse("it masks steps of a computed value; let it read an input of the model")
    if x.rank < 2 or (call.layer.kind == "Masking" and x.rank != 3):
        call.settings.refuse(f"it masks {x.text()}; expected [N, T, features], or [N, T] of tokens")
    if x.mask is not None and x.mask.value != value:
        call.settings.refuse(
            f"it masks steps of {value:g}, and '{x.mask.layer}' before it those of {x.mask.value:g}; use one of them"
        )
    return Mask(x.name, value, call.layer.name)


@layer("Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization",
       "Identity", keeps_mask=True, by_step=True)  # fmt: skip
def nothing(graph: Graph, call: Call) -> Sequence[Value]:
    """Give the value on: these layers do nothing at inference."""
    call.only()
    for key in ("l1", "l2", "data_format"):
        call.settings.take(key)
    return [replace(call.x)]
