"""Models, of floats or of integers, are described in a few lines here; `qrnn.model.describe` has everything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from qrnn.model.byte_counts import byte_counts
from qrnn.model.lateness import stream_facts, stream_text
from qrnn.model.parts import QuantMatrix4
from qrnn.system.sizes import size_text

PORTS = 2
"""The most inputs, and the most outputs, that are named one by one."""

LAYERS = 3
"""The most layers that are named one by one."""


def float_model_lines(model: Any) -> Iterator[str]:
    """Yield what a `FloatModel` is: its weights, inputs, layers, outputs, and whether it can be streamed."""
    count = sum(int(w.values.size) for layer in model.layers for w in layer.weights())
    yield f"FloatModel {model.name!r}: {counted(len(model.layers), 'layer')}, {count:,} weights"
    yield from _named("input", [f"{i.name} {_shape(i)} {i.kind}" for i in model.inputs], PORTS)
    layers = [f"{layer.name}: {layer.title} → {_tensors(model, layer)}" for layer in model.layers]
    yield from _named("layer", layers, LAYERS)
    yield from _named("output", [f"{o.name} {_shape(o)}" for o in model.outputs], PORTS)
    yield f"  streams: {stream_text(stream_facts(model))}"


def quant_model_lines(model: Any) -> Iterator[str]:
    """Yield what a `QuantModel` is: its bytes, the formats of its inputs, layers and outputs, and what it was calibrated on."""
    p, count = model.provenance, byte_counts(model)
    yield (
        f"QuantModel {model.name!r}: contract {model.contract}, target {p.target}, "
        f"{size_text(count['weights'] + count['rows'] + count['tables'])}, {size_text(count['state'])} of state a stream"
    )
    inputs = [f"{i.name} {_shape(i)} {_format(model, i.name) or i.kind}" for i in model.inputs]
    yield from _named("input", inputs, PORTS)
    yield from _named("layer", [f"{layer.name}: {_layer(model, layer)}" for layer in model.layers], LAYERS)
    outputs = []
    for o in model.outputs:
        formats = dict.fromkeys(_format(model, name) for name, _, _ in o.parts)
        outputs.append(f"{o.name} {_shape(o)} {' and '.join(formats)}")
    yield from _named("output", outputs, PORTS)
    data = "random numbers, not for real use" if p.random_calibration else counted(p.calibration_sequences, "sequence")
    yield f"  calibrated on {data}; streams: {stream_text(stream_facts(model))}"


def port_lines(model: Any) -> Iterator[str]:
    """Yield the inputs and outputs of a model."""
    yield from _named("input", [f"{i.name} {_shape(i)}" for i in model.inputs], PORTS)
    yield from _named("output", [f"{o.name} {_shape(o)}" for o in model.outputs], PORTS)


def counted(count: int, what: str) -> str:
    """Return a number with what it counts, as in "1 layer" and "2 layers"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _named(what: str, texts: Sequence[str], most: int) -> Iterator[str]:
    """Yield a line for each of ``texts``; where there are more than ``most``, for the first ones, and one that counts the rest."""
    shown = texts if len(texts) <= most else texts[: most - 1]
    for text in shown:
        yield f"  {what:<6} {text}"
    if len(shown) < len(texts):
        yield f"  … and {counted(len(texts) - len(shown), f'more {what}')}"


def _shape(port: Any) -> str:
    timed = port.has_time and not getattr(port, "rows", False)
    return f"[{', '.join(['N', *(['T'] if timed else []), *map(str, port.shape)])}]"


def _tensors(model: Any, layer: Any) -> str:
    info = model.tensors[layer.outputs[0]]
    return f"[N, {'T, ' if info.has_time else ''}{info.features}]"


def _layer(model: Any, layer: Any) -> str:
    widths = sorted({4 if isinstance(m.matrix, QuantMatrix4) else 8 for m in layer.matrices()})
    weights = f", weights of {' and '.join(map(str, widths))} bits" if widths else ""
    return f"{layer.title}{weights} → {_tensors(model, layer)} {_format(model, layer.outputs[0])}"


def _format(model: Any, tensor: str) -> str:
    """Return the format of a tensor in words; an empty text where it has none, as tokens have."""
    return model.tensors[tensor].form if tensor in model.tensors else ""
