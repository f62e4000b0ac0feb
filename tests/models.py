"""Build small float models for tests, without an importer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from qrnn.model.activation import Activation
from qrnn.model.float_model import FloatModel, GraphInput, GraphOutput, TensorInfo
from qrnn.model.kinds.add import Add
from qrnn.model.kinds.dense import Dense
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.recurrent.definition import CellKind, Direction, Forget, InitialState, Projection, gate_blocks
from qrnn.model.layer import Layer
from qrnn.model.parts import FloatArray

ROLE_ACTIVATIONS = {
    "lstm": {"gate": Activation("sigmoid"), "candidate": Activation("tanh"), "output": Activation("tanh")},
    "gru": {"gate": Activation("sigmoid"), "candidate": Activation("tanh")},
    "rnn": {"candidate": Activation("tanh")},
}


@dataclass(frozen=True)
class Shape:
    """The shape of a test model."""

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
    forget: Forget = "gate"
    peephole: float = 0.0
    """Size of the peephole weights; none for 0."""
    projection: int = 0
    """P; no projection for 0."""
    projected: Activation | Literal["softmax"] | None = None
    clip: float | None = None
    update_keeps: bool = True
    residual: bool = False
    """Each recurrent layer's input is added to its output where the sizes allow it."""

    @property
    def output_size(self) -> int:
        """The size P of what each direction feeds back."""
        return self.projection or self.hidden_size

    @property
    def state_shape(self) -> tuple[int, ...]:
        """The shape of the graph input ``state`` without its batch: h and c, layers, directions, units."""
        return 2, self.layers, len(self.directions), max(self.hidden_size, self.output_size)


def make_model(shape: Shape, rng: np.random.Generator) -> FloatModel:
    """Build a stack of recurrent layers that reads ``x`` [N, T, input_size].

    Its outputs are ``y`` (all steps), and ``h`` and ``c`` of the last layer.
    """
    D = len(shape.directions)
    tensors = {"x": TensorInfo(shape.input_size, True)}
    inputs = [GraphInput("x", "features", (shape.input_size,), True)]
    if shape.states:
        inputs.append(GraphInput("state", "state", shape.state_shape, False))
    layers: list[Layer] = []
    source, width = "x", shape.input_size
    for number in range(shape.layers):
        directions = tuple(_direction(shape, width, number, d, rng) for d in range(D))
        name = f"layer{number}"
        c_n = f"{name}.c_n" if shape.cell == "lstm" else None
        names = (source, f"{name}.y", f"{name}.h_n", c_n)
        more = (shape.linear_before_reset, shape.forget, shape.update_keeps, shape.clip)
        layers.append(Recurrent(name, shape.cell, *names, directions, *more))
        read, source, before, width = source, f"{name}.y", width, D * shape.output_size
        tensors[source] = TensorInfo(width, True)
        tensors[f"{name}.h_n"] = TensorInfo(width, False)
        if c_n is not None:
            tensors[c_n] = TensorInfo(D * shape.hidden_size, False)
        if shape.residual and before == width:
            layers.append(Add(f"add{number}", read, source, f"add{number}.y"))
            source = f"add{number}.y"
            tensors[source] = TensorInfo(width, True)
    last = next(layer for layer in reversed(layers) if isinstance(layer, Recurrent))
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


def _direction(shape: Shape, width: int, layer: int, direction: int, rng: np.random.Generator) -> Direction:
    gates = gate_blocks(shape.cell, shape.forget)
    G, H, P = len(gates), shape.hidden_size, shape.output_size

    def state(kind: int, size: int) -> InitialState:
        if not shape.states:
            return InitialState(np.zeros(size))
        start = int(np.ravel_multi_index((kind, layer, direction, 0), shape.state_shape))
        return InitialState(np.zeros(size), "state", np.arange(start, start + size))

    def drawn(*size: int, scale: float = shape.weight) -> FloatArray:
        return rng.normal(size=size) * scale

    weights = drawn(G * H, width), drawn(G * H, P), drawn(G * H, scale=shape.bias), drawn(G * H, scale=shape.bias)
    peephole = projection = None
    if shape.peephole:
        peephole = drawn(G * H, scale=shape.peephole)
        peephole.reshape(G, H)[gates.index("g")] = 0.0
    if shape.projection:
        projection = Projection(drawn(P, H), drawn(P, scale=shape.bias), shape.projected)
    return Direction(
        shape.directions[direction],
        *weights,
        activations=ROLE_ACTIVATIONS[shape.cell] | (shape.activations or {}),
        h_0=state(0, P),
        c_0=state(1, H) if shape.cell == "lstm" else None,
        peephole=peephole,
        projection=projection,
    )
