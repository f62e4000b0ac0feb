"""Small float models made for tests, without an importer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qrnn.model.float_model import (
    GATES,
    Activation,
    CellKind,
    Dense,
    Direction,
    FloatModel,
    GraphInput,
    GraphOutput,
    InitialState,
    Layer,
    Recurrent,
    TensorInfo,
)

ROLE_ACTIVATIONS = {
    "lstm": {"gate": Activation("sigmoid"), "candidate": Activation("tanh"), "output": Activation("tanh")},
    "gru": {"gate": Activation("sigmoid"), "candidate": Activation("tanh")},
    "rnn": {"candidate": Activation("tanh")},
}


@dataclass(frozen=True)
class Shape:
    """What a test model looks like."""

    cell: CellKind = "lstm"
    input_size: int = 3
    hidden_size: int = 5
    directions: tuple[bool, ...] = (False,)
    layers: int = 1
    linear_before_reset: bool = True
    head: int = 0
    weight: float = 0.8
    bias: float = 0.3
    activations: dict[str, Activation] | None = None
    states: bool = False


def make_model(shape: Shape, rng: np.random.Generator) -> FloatModel:
    """A stack of recurrent layers reading ``x`` [N, T, input_size], outputs ``y`` (all steps), ``h`` and ``c`` of the last layer."""
    G, H, D = len(GATES[shape.cell]), shape.hidden_size, len(shape.directions)
    activations = ROLE_ACTIVATIONS[shape.cell] | (shape.activations or {})
    tensors = {"x": TensorInfo(shape.input_size, True)}
    inputs = [GraphInput("x", "features", (shape.input_size,), True)]
    if shape.states:
        inputs.append(GraphInput("state", "state", (2, shape.layers, D, H), False))

    def state(kind: int, layer: int, direction: int) -> InitialState:
        if not shape.states:
            return InitialState(np.zeros(H))
        start = ((kind * shape.layers + layer) * D + direction) * H
        return InitialState(np.zeros(H), "state", np.arange(start, start + H))

    layers: list[Layer] = []
    source, width = "x", shape.input_size
    for number in range(shape.layers):
        directions = tuple(
            Direction(
                reverse=reverse,
                weight_ih=rng.normal(size=(G * H, width)) * shape.weight,
                weight_hh=rng.normal(size=(G * H, H)) * shape.weight,
                bias_ih=rng.normal(size=G * H) * shape.bias,
                bias_hh=rng.normal(size=G * H) * shape.bias,
                activations=activations,
                h_0=state(0, number, d),
                c_0=state(1, number, d) if shape.cell == "lstm" else None,
            )
            for d, reverse in enumerate(shape.directions)
        )
        name = f"layer{number}"
        c_n = f"{name}.c_n" if shape.cell == "lstm" else None
        layers.append(
            Recurrent(name, shape.cell, source, f"{name}.y", f"{name}.h_n", c_n, directions, shape.linear_before_reset)
        )
        source, width = f"{name}.y", D * H
        tensors[source] = TensorInfo(width, True)
        tensors[f"{name}.h_n"] = TensorInfo(width, False)
        if c_n is not None:
            tensors[c_n] = TensorInfo(width, False)
    last = layers[-1]
    assert isinstance(last, Recurrent)
    if shape.head:
        weight = rng.normal(size=(shape.head, width)) * shape.weight
        layers.append(Dense("head", source, "logits", weight, rng.normal(size=shape.head) * shape.bias))
        source = "logits"
        tensors[source] = TensorInfo(shape.head, True)

    def whole(name: str, tensor: str) -> GraphOutput:
        info = tensors[tensor]
        every = np.arange(info.features)
        return GraphOutput(name, (info.features,), info.has_time, ((tensor, every, every),))

    outputs = [whole("y", source), whole("h", last.h_n)] + ([whole("c", last.c_n)] if last.c_n is not None else [])
    return FloatModel("test", tuple(inputs), tuple(layers), tuple(outputs), tensors)
