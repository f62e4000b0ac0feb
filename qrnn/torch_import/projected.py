"""A torch.nn.LSTM with proj_size as a whole module, which ONNX cannot write: it is built by `qrnn.layers`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from qrnn import layers
from qrnn.errors import UnsupportedError
from qrnn.model.float_model import FloatModel, GraphInput
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.recurrent.definition import InitialState
from qrnn.model.layer import Layer


def projected(module: Any, name: str, inputs: dict[str, Any]) -> FloatModel:
    """Build a torch.nn.LSTM with proj_size, which ONNX cannot write, by `qrnn.layers`."""
    if inputs["input"].dim() != 3:
        raise UnsupportedError(f"module '{name}' reads {inputs['input'].dim()} axes; give the example a batch axis")
    L, D, H, P = module.num_layers, 2 if module.bidirectional else 1, module.hidden_size, module.proj_size
    x = layers.input("input", module.input_size)
    stack: list[layers.Recurrent] = []
    for level in range(L):
        source = stack[-1].output if stack else x
        forward, *backward = [_projected_direction(module, source, level, reverse) for reverse in (False, True)[:D]]
        stack.append(layers.bidirectional(forward, *backward) if backward else forward)
    cells = tuple(layer.c_n for layer in stack if layer.c_n is not None)
    model = layers.model(name, {"output": stack[-1].output, "h_n": tuple(layer.h_n for layer in stack), "c_n": cells})
    # PyTorch's own layout: [L·D, N, P] for states, time first unless batch_first.
    batch, time = (0, 1) if module.batch_first else (1, 0)
    graph_inputs = [replace(model.inputs[0], batch_axis=batch, time_axis=time)]
    recurrent = list(model.layers)
    for key, size in (("h_0", P), ("c_0", H)):
        if key in inputs:
            graph_inputs.append(GraphInput(key, "state", (L * D, size), False, batch_axis=1))
            recurrent = [_started(layer, level * D, key, size) for level, layer in enumerate(recurrent)]
    y, *states = model.outputs
    states = [replace(o, shape=(L * D, o.features // (L * D)), batch_axis=1) for o in states]
    outputs = (replace(y, batch_axis=batch, time_axis=time), *states)
    return replace(model, inputs=tuple(graph_inputs), layers=tuple(recurrent), outputs=outputs)


def _projected_direction(module: Any, source: layers.Tensor, level: int, reverse: bool) -> layers.Recurrent:
    def weight(key: str) -> Any:
        parameter = getattr(module, f"{key}_l{level}{'_reverse' if reverse else ''}", None)
        return None if parameter is None else parameter.detach().cpu().double().numpy()

    arrays = [weight(key) for key in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    return layers.lstm(source, *arrays, projection=weight("weight_hr"), reverse=reverse)


def _started(layer: Layer, first: int, key: str, size: int) -> Layer:
    """Return the layer with each direction's initial state from its own rows, ``first`` and following, of a state input [L·D, N, size]."""
    assert isinstance(layer, Recurrent)
    states = [
        InitialState(np.zeros(size), key, np.arange((first + d) * size, (first + d + 1) * size))
        for d in range(len(layer.directions))
    ]
    both = zip(layer.directions, states, strict=True)
    return replace(layer, directions=tuple(replace(d, h_0=s) if key == "h_0" else replace(d, c_0=s) for d, s in both))
