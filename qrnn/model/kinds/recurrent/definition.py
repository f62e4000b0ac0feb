"""The definition of recurrent layers: LSTM, GRU and RNN, one or two directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from qrnn.model.activation import Activation
from qrnn.model.layer import Layer
from qrnn.model.parts import FloatArray, IndexArray

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


@dataclass(frozen=True)
class InitialState:
    """h_0 or c_0 of one direction, [H]: a constant ``value``, or elements ``indices`` of a flattened graph state input."""

    value: FloatArray
    source: str | None = None
    indices: IndexArray | None = None

    def of(self, size: int, states: Mapping[str, FloatArray]) -> FloatArray:
        """The state of each of ``size`` sequences, [N, H], with the graph state inputs that were given, [N, F]."""
        if self.source is not None and self.source in states:
            given: FloatArray = states[self.source][:, self.indices]
            return given
        return np.tile(self.value, (size, 1))


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


class RecurrentNames:
    """What the float and the integer layer are called alike: gates, roles, tensors and directions."""

    if TYPE_CHECKING:  # dataclasses' fields

        @property
        def name(self) -> str: ...
        @property
        def cell(self) -> CellKind: ...
        @property
        def forget(self) -> Forget: ...
        @property
        def output(self) -> str: ...
        @property
        def h_n(self) -> str: ...
        @property
        def c_n(self) -> str | None: ...
        @property
        def directions(self) -> tuple[Any, ...]: ...

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates that have rows, in the rows' order."""
        return gate_blocks(self.cell, self.forget)

    @property
    def roles(self) -> tuple[str, ...]:
        """What a direction's functions are for; see `gate_roles`."""
        return gate_roles(self.cell, self.forget)

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.output, self.h_n) if self.c_n is None else (self.output, self.h_n, self.c_n)

    @property
    def keys(self) -> tuple[str, ...]:
        """What the quantities of each direction are called by: ``name[0]``, ``name[1]``."""
        return tuple(f"{self.name}[{number}]" for number in range(len(self.directions)))


@dataclass(frozen=True)
class RecurrentDefinition(RecurrentNames, Layer):
    """An LSTM, GRU or RNN layer, one or two directions. `Recurrent` is this with its equation and its rule.

    Writes ``output`` [N, T, D·P] (zero on padding), ``h_n`` [N, D·P] and, for LSTM, ``c_n`` [N, D·H]; direction d owns the features
    d·P … (d+1)·P - 1. A reverse direction starts at each sequence's own last valid step. h_n and c_n of a sequence of no steps are
    zero, as in ONNX Runtime. ``clip``: the arguments of all gates and candidates are clamped to ±clip, but not the cell on its
    way to the output activation (so ONNX Runtime). ``update_keeps``: the GRU's h' = z·h + (1 - z)·n (Cho et al. 2014, ONNX,
    PyTorch); False is h' = (1 - z)·h + z·n (Chung et al. 2014). ``memory`` False: every time step begins with h_0 and c_0, not with the
    states that the step before it ended with.
    """

    keeps_state: ClassVar[bool] = True

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
    def hidden_size(self) -> int:
        return int(self.directions[0].weight_hh.shape[0]) // len(self.gates)

    @property
    def output_size(self) -> int:
        """P: of what is fed back and written, per direction."""
        return int(self.directions[0].weight_hh.shape[1])

    @property
    def input_size(self) -> int:
        return int(self.directions[0].weight_ih.shape[1])
