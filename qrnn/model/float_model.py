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

LEFT_OUT: Mapping[str, bool] = {"left_out": True}
"""Metadata of a dataclass's field that a file leaves out where it has its default: files without it stay what they were."""

CellKind = Literal["lstm", "gru", "rnn"]

Forget = Literal["gate", "one", "coupled"]
"""The LSTM's forget gate: its own ``gate``; ``one``, none at all (the LSTM of 1997); ``coupled`` to the input gate, f = 1 - i."""

GATES: Mapping[CellKind, tuple[str, ...]] = {
    "lstm": ("i", "f", "g", "o"),  # input, forget, candidate, output
    "gru": ("r", "z", "n"),  # reset, update, candidate
    "rnn": ("h",),
}
"""Canonical order of the gate blocks in the rows of weight_ih, weight_hh and the biases."""


def gate_blocks(cell: CellKind, forget: Forget = "gate") -> tuple[str, ...]:
    """The gates that have rows: `GATES`, without f where the forget gate is not one of its own."""
    return GATES[cell] if forget == "gate" else tuple(gate for gate in GATES[cell] if gate != "f")


def gate_roles(cell: CellKind, forget: Forget = "gate") -> tuple[str, ...]:
    """What a direction's gate functions are for: the gates that have rows, and for LSTM the activation of the cell on its way to h."""
    blocks = gate_blocks(cell, forget)
    return (*blocks, "output") if cell == "lstm" else blocks


GATE_ROLE: Mapping[str, str] = {
    **dict.fromkeys(("i", "f", "o", "r", "z"), "gate"),
    **dict.fromkeys(("g", "n", "h"), "candidate"),
    "output": "output",
}
"""Gate → its key in `Direction.activations`."""


ActivationKind = Literal[
    "sigmoid",
    "tanh",
    "relu",
    "hard_sigmoid",
    "hard_tanh",
    "step",
    "affine",
    "leaky_relu",
    "thresholded_relu",
    "scaled_tanh",
    "elu",
    "softsign",
    "softplus",
]

ACTIVATION_PARAMETERS: Mapping[ActivationKind, tuple[str, ...]] = {
    "sigmoid": (),
    "tanh": (),
    "relu": (),
    "hard_sigmoid": ("alpha", "beta"),
    "hard_tanh": (),
    "step": (),
    "affine": ("alpha", "beta"),
    "leaky_relu": ("alpha",),
    "thresholded_relu": ("alpha",),
    "scaled_tanh": ("alpha", "beta"),
    "elu": ("alpha",),
    "softsign": (),
    "softplus": (),
}
"""Which parameters each function takes."""


@dataclass(frozen=True)
class Activation:
    """A scalar function f(x).

    sigmoid 1/(1 + e^-x); tanh; relu max(0, x); hard_sigmoid max(0, min(1, alpha·x + beta)); hard_tanh max(-1, min(1, x)); step 1 for
    x ≥ 0, else 0; affine alpha·x + beta; leaky_relu x for x ≥ 0, else alpha·x; thresholded_relu x for x > alpha, else 0; scaled_tanh
    alpha·tanh(beta·x); elu x for x ≥ 0, else alpha·(e^x - 1); softsign x/(1 + |x|); softplus ln(1 + e^x).

    The names and equations are those of the ONNX operators LSTM, GRU and RNN, and ``step`` and ``hard_tanh``, which ONNX lacks.
    Parameters that a function does not take (`ACTIVATION_PARAMETERS`) are ignored.
    """

    kind: ActivationKind
    alpha: float = 0.2
    beta: float = 0.5

    def __str__(self) -> str:
        values = ", ".join(f"{getattr(self, name):g}" for name in ACTIVATION_PARAMETERS[self.kind])
        return f"{self.kind}({values})" if values else self.kind


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
    rows: bool = field(default=False, metadata=LEFT_OUT)
    """Whether, for an input with ``has_time``, every call is one time step and nothing is kept between calls, so that T is 1. Users give rows,
    [N, *shape] or [N, 1, *shape]."""

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
class Projection:
    """s_t = function(weight · h_t + bias), fed back in place of h_t; weight [P, H], bias [P].

    The Jordan network's output layer, and the projection of an LSTM (LSTMP). ``function`` None is the identity.
    """

    weight: FloatArray
    bias: FloatArray
    function: Activation | Literal["softmax"] | None = None


@dataclass(frozen=True)
class Direction:
    """One direction of a recurrent layer: weight_ih [G·H, I], weight_hh [G·H, P], bias_ih and bias_hh [G·H].

    ``activations`` maps a role to its function: LSTM ``gate`` (i, f, o), ``candidate`` (g), ``output`` (of the cell);
    GRU ``gate`` (r, z), ``candidate`` (n); RNN ``candidate``. ``peephole`` [G·H] multiplies the LSTM's cell, c_{t-1} for i and f,
    c_t for o (zero in the rows of g). P, the size of what is fed back, is H without a ``projection``.
    """

    reverse: bool
    weight_ih: FloatArray
    weight_hh: FloatArray
    bias_ih: FloatArray
    bias_hh: FloatArray
    activations: Mapping[str, Activation]
    h_0: InitialState
    c_0: InitialState | None = None
    peephole: FloatArray | None = None
    projection: Projection | None = None


@dataclass(frozen=True)
class Recurrent:
    """An LSTM, GRU or RNN layer, one or two directions.

    Writes ``output`` [N, T, D·P] (zero on padding), ``h_n`` [N, D·P] and, for LSTM, ``c_n`` [N, D·H]; direction d owns the features
    d·P … (d+1)·P - 1. A reverse direction starts at each sequence's own last valid step. h_n and c_n of a sequence of no steps are
    zero, as in ONNX Runtime. ``clip``: the arguments of all gates and candidates are clamped to ±clip, but not the cell on its
    way to the output activation (so ONNX Runtime). ``update_keeps``: the GRU's h' = z·h + (1 - z)·n (Cho et al. 2014, ONNX,
    PyTorch); False is h' = (1 - z)·h + z·n (Chung et al. 2014). ``memory`` False: every time step begins with h_0 and c_0, not with the
    states that the step before it ended with.
    """

    name: str
    cell: CellKind
    input: str
    output: str
    h_n: str
    c_n: str | None
    directions: tuple[Direction, ...]
    linear_before_reset: bool = False
    forget: Forget = "gate"
    update_keeps: bool = True
    clip: float | None = None
    memory: bool = True

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates that have rows, in the rows' order."""
        return gate_blocks(self.cell, self.forget)

    @property
    def roles(self) -> tuple[str, ...]:
        """What a direction's functions are for; see `gate_roles`."""
        return gate_roles(self.cell, self.forget)

    @property
    def hidden_size(self) -> int:
        return int(self.directions[0].weight_hh.shape[0]) // len(self.gates)

    @property
    def output_size(self) -> int:
        """P: of what is fed back and written, per direction."""
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


@dataclass(frozen=True)
class Add:
    """out = left + right, element by element: residual connections."""

    name: str
    left: str
    right: str
    output: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.left, self.right)


Layer = Recurrent | Dense | Pointwise | Softmax | Embedding | LastStep | Concat | Add


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
    """True when the graph itself runs one time step per call."""
    notes: tuple[str, ...] = field(default=())
    """What the importer decided that a reader of the graph could not see (baked sizes, zero states…)."""

    @property
    def rows(self) -> bool:
        """Whether every call is one time step by itself; see `GraphInput.rows`. Else sequences of any length run."""
        return any(i.rows for i in self.inputs)
