"""The float model: what an importer hands over, in one canonical form.

Every tensor between layers is batch first: ``[N, T, F]`` (``has_time``) or ``[N, F]``. Layers are in execution order and name the
tensors they read and write. Gate rows are in the canonical order of `GATES`; importers reorder, nobody else does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]

CellKind = Literal["lstm", "gru", "rnn"]

GATES: Mapping[CellKind, tuple[str, ...]] = {
    "lstm": ("i", "f", "g", "o"),  # input, forget, candidate, output
    "gru": ("r", "z", "n"),  # reset, update, candidate
    "rnn": ("h",),
}
"""Canonical order of the gate blocks in the rows of weight_ih, weight_hh and the biases."""

ActivationKind = Literal["sigmoid", "tanh", "relu", "hard_sigmoid"]


@dataclass(frozen=True)
class Activation:
    """A scalar function. ``hard_sigmoid`` is max(0, min(1, alpha·x + beta)); the others ignore alpha and beta."""

    kind: ActivationKind
    alpha: float = 0.2
    beta: float = 0.5

    def __str__(self) -> str:
        return f"hard_sigmoid({self.alpha:g}, {self.beta:g})" if self.kind == "hard_sigmoid" else self.kind


@dataclass(frozen=True)
class GraphInput:
    """One graph input. ``shape`` is the feature shape of one sequence (or one step), without batch and time.

    ``kind``: ``features`` real values [N, T, *shape] or [N, *shape]; ``tokens`` integers in [0, vocabulary), [N, T] or [N];
    ``lengths`` integers [N], one per sequence; ``state`` initial states [N, *shape], zeros when not given.
    """

    name: str
    kind: Literal["features", "tokens", "lengths", "state"]
    shape: tuple[int, ...]
    has_time: bool
    vocabulary: int = 0
    batch_axis: int = 0
    """Where the graph's own tensor has its batch axis; ``time_axis`` likewise, None where the graph has none."""
    time_axis: int | None = None

    @property
    def features(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class InitialState:
    """h_0 or c_0 of one direction, [H]: a constant ``value``, or elements ``indices`` of a flattened graph state input."""

    value: FloatArray
    source: str | None = None
    indices: IndexArray | None = None


@dataclass(frozen=True)
class Direction:
    """One direction of a recurrent layer: weight_ih [G·H, I], weight_hh [G·H, H], bias_ih and bias_hh [G·H].

    ``activations`` maps a role to its function: LSTM ``gate`` (i, f, o), ``candidate`` (g), ``output`` (of the cell);
    GRU ``gate`` (r, z), ``candidate`` (n); RNN ``candidate``.
    """

    reverse: bool
    weight_ih: FloatArray
    weight_hh: FloatArray
    bias_ih: FloatArray
    bias_hh: FloatArray
    activations: Mapping[str, Activation]
    h_0: InitialState
    c_0: InitialState | None = None


@dataclass(frozen=True)
class Recurrent:
    """An LSTM, GRU or RNN layer, one or two directions.

    Writes ``output`` [N, T, D·H] (zero on padding), ``h_n`` [N, D·H] and, for LSTM, ``c_n`` [N, D·H]; direction d owns the features
    d·H … (d+1)·H - 1. A reverse direction starts at each sequence's own last valid step.
    """

    name: str
    cell: CellKind
    input: str
    output: str
    h_n: str
    c_n: str | None
    directions: tuple[Direction, ...]
    linear_before_reset: bool = False

    @property
    def hidden_size(self) -> int:
        return int(self.directions[0].weight_hh.shape[1])

    @property
    def input_size(self) -> int:
        return int(self.directions[0].weight_ih.shape[1])

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True)
class Dense:
    """y = weight · x + bias; weight [O, I], bias [O]; over the last axis."""

    name: str
    input: str
    output: str
    weight: FloatArray
    bias: FloatArray

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True)
class Pointwise:
    """y = activation(x), element by element."""

    name: str
    input: str
    output: str
    activation: Activation

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True)
class Softmax:
    """Softmax over all features of each step."""

    name: str
    input: str
    output: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True)
class Embedding:
    """y = table[token]; table [V, F]; the input is a graph input of kind ``tokens``."""

    name: str
    input: str
    output: str
    table: FloatArray

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True)
class LastStep:
    """[N, T, F] → [N, F]: each sequence's own last valid step."""

    name: str
    input: str
    output: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True)
class Concat:
    """Features gathered from several tensors, in order: out = concat(tensor[..., indices] for tensor, indices in parts)."""

    name: str
    output: str
    parts: tuple[tuple[str, IndexArray], ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(tensor for tensor, _ in self.parts)


Layer = Recurrent | Dense | Pointwise | Softmax | Embedding | LastStep | Concat


@dataclass(frozen=True)
class GraphOutput:
    """One graph output, [N, T, *shape] or [N, *shape]: flat feature ``positions`` filled from ``tensor[..., indices]``."""

    name: str
    shape: tuple[int, ...]
    has_time: bool
    parts: tuple[tuple[str, IndexArray, IndexArray], ...]
    batch_axis: int = 0
    """As for `GraphInput`."""
    time_axis: int | None = None

    @property
    def features(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class TensorInfo:
    """Shape of a tensor between layers: ``[N, T, features]`` when ``has_time``, else ``[N, features]``."""

    features: int
    has_time: bool


@dataclass(frozen=True)
class FloatModel:
    """A whole imported model. ``tensors`` gives the shape of every graph input (features, tokens) and layer output."""

    name: str
    inputs: tuple[GraphInput, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[GraphOutput, ...]
    tensors: Mapping[str, TensorInfo]
    source_sha256: str = ""
    opset: int = 0
    one_step: bool = False
    """True when the graph itself runs one time step per call; here it runs whole sequences all the same."""
    notes: tuple[str, ...] = field(default=())
    """What the importer decided that a reader of the graph could not see (baked sizes, zero states…)."""
