"""What one direction of a float recurrent layer is made of: weights, functions, initial states, a projection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qrnn.model.activation import Activation
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.system.brief import Brief

Forget = Literal["gate", "one", "coupled"]
"""The LSTM's forget gate: its own ``gate``; ``one``, none at all (the LSTM of 1997); ``coupled`` to the input gate, f = 1 - i."""


@dataclass(frozen=True)
class InitialState(Brief):
    """h_0 or c_0 of one direction, [H]: a constant ``value``, or elements ``indices`` of a flattened graph state input."""

    value: FloatArray
    source: str | None = None
    indices: IndexArray | None = None

    def of(self, size: int, states: Mapping[str, FloatArray]) -> FloatArray:
        """Return the state of each of ``size`` sequences, [N, H], with the graph state inputs that were given, [N, F]."""
        if self.source is not None and self.source in states:
            given: FloatArray = states[self.source][:, self.indices]
            return given
        return np.tile(self.value, (size, 1))


@dataclass(frozen=True)
class Projection(Brief):
    """s_t = function(weight · h_t + bias), fed back in place of h_t; weight [P, H], bias [P].

    The Jordan network's output layer, and the projection of an LSTM (LSTMP). ``function`` None is the identity.
    """

    weight: FloatArray
    bias: FloatArray
    function: Activation | Literal["softmax"] | None = None


@dataclass(frozen=True)
class Norm(Brief):
    """Layer normalization of a row of numbers: each of ``groups`` neighbours has its own mean and variance; gain and bias [Σ groups].

    gain · (v - mean) / sqrt(variance + epsilon) + bias; a group without variance gives the bias, whatever epsilon is.
    """

    gain: FloatArray
    bias: FloatArray
    epsilon: float
    groups: tuple[int, ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        """Return where each group lies in the row."""
        ends = np.cumsum(self.groups).tolist()
        return tuple(slice(end - size, end) for size, end in zip(self.groups, ends, strict=True))

    def of(self, group: int, v: FloatArray) -> FloatArray:
        """Return the numbers of one group, […, F], normalized."""
        distance = v - v.mean(axis=-1, keepdims=True)
        root = np.sqrt((distance**2).mean(axis=-1, keepdims=True) + self.epsilon)
        rows = self.slices[group]
        normal: FloatArray = self.gain[rows] * distance / np.where(root > 0.0, root, 1.0) + self.bias[rows]
        return normal


@dataclass(frozen=True)
class Norms(Brief):
    """What a cell normalizes: the ``sums`` [G·H] of W·x + R·h, or, beside ``recurrent``, of W·x alone; R·h, [G·H]; and c, [H].

    Biases are added before: bias_ih to W·x, bias_hh to R·h.
    """

    sums: Norm
    recurrent: Norm | None = None
    cell: Norm | None = None


@dataclass(frozen=True)
class Direction(Brief):
    """One direction of a recurrent layer: weight_ih [G·H, I], weight_hh [G·H, P], bias_ih and bias_hh [G·H].

    ``activations`` maps a role to its function: LSTM ``gate`` (i, f, o), ``candidate`` (g), ``output`` (of the cell);
    GRU ``gate`` (r, z), ``candidate`` (n); RNN ``candidate``. ``peephole`` [G·H] multiplies the LSTM's cell, c_{t-1} for i and f,
    c_t for o (zero in the rows of g). P, the size of what is fed back, is H without a ``projection``. A cell that reads h through a
    ``diagonal`` [G·H], each row its own unit of h, or through no weights at all has no ``weight_hh``.
    """

    reverse: bool
    weight_ih: FloatArray
    weight_hh: FloatArray | None
    bias_ih: FloatArray
    bias_hh: FloatArray
    activations: Mapping[str, Activation]
    h_0: InitialState
    c_0: InitialState | None = None
    peephole: FloatArray | None = None
    projection: Projection | None = None
    diagonal: FloatArray | None = None
    norms: Norms | None = None

    @property
    def matrix_hh(self) -> FloatArray:
        """Return weight_hh of a cell that has it; raise an AssertionError for one that has not."""
        assert self.weight_hh is not None, "the cell has no matrix of h"
        return self.weight_hh
