"""TimeDistributed: a layer, or a whole model, that computes each step by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qrnn.keras_import.config import LayerConfig, layer_config
from qrnn.keras_import.graph import Graph
from qrnn.keras_import.models import MODELS, write_model
from qrnn.keras_import.registry import BY_STEP, Call, layer, written
from qrnn.keras_import.settings import Settings
from qrnn.keras_import.tensors import Value


@layer("TimeDistributed", keeps_mask=True)
def time_distributed(graph: Graph, call: Call) -> Sequence[Value]:
    """Write the layer inside, over all steps at once where it reads the last axis, else with batch and time as one axis."""
    call.only()
    x, inner = call.x, layer_config(call.settings.child("layer"), call.layer.where)
    where = f"{call.layer.where}: its layer '{inner.name}' ({inner.kind})"
    weights = call.weights.child("layer", inner.name)
    if inner.kind in BY_STEP:
        own = LayerConfig(inner.kind, inner.name, _shifted(inner.config), None)
        return written(graph, Call(own, Settings(where, own.config), weights, [x]))
    merged = graph.reshape(x, [-1, *(int(s) if s is not None else -1 for s in x.shape[2:])], (None, *x.shape[2:]))
    if any(s is None for s in x.shape[2:]):
        call.settings.refuse(f"it reads {x.text()}, of which an axis behind time is open; give the input fixed sizes")
    merged = Value(merged.name, merged.shape)
    if inner.kind in MODELS:
        results = write_model(graph, inner, weights, [merged])
    else:
        results = written(graph, Call(inner, Settings(where, inner.config), weights, [merged]))
    if len(results) != 1 or any(s is None for s in results[0].shape[1:]):
        call.settings.refuse("the layer inside gives several values, or some of an open size; give it fixed sizes")
    y, steps = results[0], x.shape[1]
    sizes = [int(s or 0) for s in y.shape[1:]]
    if steps is not None:
        return [Value(graph.reshape(y, [-1, steps, *sizes], ()).name, (None, steps, *sizes), x.mask, x.sources)]
    lead = graph.op("Slice", [graph.op("Shape", [x.name]), graph.ints(0), graph.ints(2)])
    target = graph.op("Concat", [lead, graph.ints(*sizes)], axis=0)
    return [Value(graph.op("Reshape", [y.name, target]), (None, None, *sizes), x.mask, x.sources)]


def _shifted(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config whose axes count the axis of steps too."""
    axis = config.get("axis")
    if isinstance(axis, int) and not isinstance(axis, bool) and axis > 0:
        return {**config, "axis": axis + 1}
    if isinstance(axis, list):
        return {**config, "axis": [k + 1 if isinstance(k, int) and k > 0 else k for k in axis]}
    return dict(config)
