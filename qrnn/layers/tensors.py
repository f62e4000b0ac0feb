"""The handles that the functions of `qrnn.layers` take and return.

Handles are immutable. A model consists of the layers that its outputs depend on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from qrnn.errors import DataError, UnsupportedError
from qrnn.layers.checks import count, place
from qrnn.model.float_model import GraphInput, TensorInfo
from qrnn.model.given_lengths import RESERVED
from qrnn.model.kinds.cell_values import CellValues
from qrnn.model.kinds.recurrent import Recurrent as RecurrentLayer
from qrnn.model.layer import Layer
from qrnn.model.time import TIME

Slot = Literal["", "h_n", "c_n"]
"""Which tensor of its layer: the output, or a recurrent layer's last state."""


@dataclass(frozen=True, eq=False)
class Node:
    """A layer that is not built yet: ``make(name, names of its inputs)`` returns it once the names are known.

    ``writes`` gives the shapes of its tensors, and ``states`` are its graph state inputs.
    """

    kind: str
    name: str | None
    inputs: tuple[Tensor | Tokens, ...]
    make: Callable[[str, tuple[str, ...]], Layer]
    writes: Mapping[Slot, TensorInfo]
    states: tuple[State, ...] = ()

    def tensor(self, slot: Slot = "") -> Tensor:
        """Return the handle of a tensor that this layer writes."""
        return Tensor(self.writes[slot].features, self.writes[slot].has_time, self, slot)


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of real values, a graph input or what a layer writes: ``[N, T, features]`` when ``has_time``, else ``[N, features]``."""

    features: int
    has_time: bool
    source: GraphInput | Node = field(repr=False)
    slot: Slot = ""

    @property
    def name(self) -> str:
        """Return the tensor's name in the model; `qrnn.layers.model` numbers layers that were given no name (lstm, lstm_2, …)."""
        if isinstance(self.source, GraphInput):
            return self.source.name
        return tensor_name(self.source.name or self.source.kind, self.slot)


@dataclass(frozen=True, eq=False)
class Tokens:
    """A graph input of integers in [0, vocabulary), ``[N, T]`` when ``has_time``, else ``[N]``; `embedding` reads it."""

    source: GraphInput

    @property
    def name(self) -> str:
        """Return the name of the graph input."""
        return self.source.name

    @property
    def vocabulary(self) -> int:
        """Return the number of different tokens; each token is in [0, vocabulary)."""
        return self.source.vocabulary

    @property
    def has_time(self) -> bool:
        """Return whether the input has a time axis."""
        return self.source.has_time


@dataclass(frozen=True, eq=False)
class State:
    """A graph state input ``[N, size]`` for h_0 or c_0 of a layer; it is zero where it is not given at run time."""

    source: GraphInput

    @property
    def name(self) -> str:
        """Return the name of the graph input."""
        return self.source.name

    @property
    def size(self) -> int:
        """Return the number of features of the state."""
        return self.source.features


@dataclass(frozen=True, eq=False)
class Recurrent:
    """The handle of a recurrent layer.

    ``output`` [N, T, D·P] holds every step; ``h_n`` [N, D·P] and, for an LSTM, ``c_n`` [N, D·H] hold the states after each sequence's last
    valid step.
    """

    output: Tensor
    h_n: Tensor
    c_n: Tensor | None
    layer: RecurrentLayer = field(repr=False)
    input: Tensor = field(repr=False)


@dataclass(frozen=True, eq=False)
class Network:
    """The handle of Elman's or Jordan's network, a recurrent layer with an output layer.

    ``output`` [N, T, O] holds y of every step, ``last`` [N, O] holds y after each sequence's last valid step, and ``recurrent`` is the
    layer inside.
    """

    output: Tensor
    last: Tensor
    recurrent: Recurrent


def tensor_name(layer: str, slot: Slot) -> str:
    """Return the name of a layer's tensor in the model."""
    return f"{layer}.{slot}" if slot else layer


def simple_layer(
    kind: str,
    name: str | None,
    inputs: tuple[Tensor | Tokens, ...],
    shape: tuple[int, bool],
    make: Callable[[str, tuple[str, ...]], Layer],
) -> Tensor:
    """Return the one tensor of a layer without a state; ``shape`` is (features, has_time)."""
    return Node(kind, name, inputs, make, {"": TensorInfo(*shape)}).tensor()


def readable(where: str, value: Any, what: str = "its input") -> Tensor:
    """Return ``value`` as a `Tensor` that a layer may read; the errors say what to give instead."""
    if isinstance(value, (Recurrent, Network)):
        raise DataError(f"{where}: {what} is a whole layer; give one of its tensors, as .output")
    if isinstance(value, Tokens):
        raise DataError(f"{where}: {what} is the token input {value.name!r}; look it up with embedding first")
    if not isinstance(value, Tensor):
        raise DataError(f"{where}: {what} is {type(value).__name__}, expected a Tensor of qrnn.layers")
    return cell_values(value) if value.slot == "c_n" else value


def cell_values(cells: Tensor) -> Tensor:
    """Return the last cell states of a layer, int32, as a tensor of int16 that any layer may read."""

    def make(own: str, names: tuple[str, ...]) -> Layer:
        return CellValues(own, names[0], own)

    return simple_layer("cell_values", None, (cells,), (cells.features, False), make)


def sequence(where: str, value: Any) -> Tensor:
    """Return ``value`` as a `readable` tensor with a time axis."""
    tensor = readable(where, value)
    if not tensor.has_time:
        raise DataError(f"{where}: its input {tensor.name!r} is [N, {tensor.features}], expected a sequence [N, T, F]")
    return tensor


def _input_name(kind: str, name: Any) -> str:
    where = place(kind, name)
    if name is None:
        raise DataError(f"{where}: name is None, expected a text")
    if name in RESERVED:
        raise UnsupportedError(
            f"{where}: {' and '.join(RESERVED)} are reserved for arrays beside the inputs; choose another name"
        )
    return str(name)


def input(name: str, features: int, *, has_time: bool = True, axis: str = TIME) -> Tensor:
    """Declare a graph input of real values, [N, T, features], or [N, features] without ``has_time``.

    ``axis`` names its time axis: inputs of one axis have equal lengths, those of several have lengths of their own.
    """
    name = _input_name("input", name)
    features = count(place("input", name), "features", features)
    place("input", axis)  # refuses what is no name
    source = GraphInput(name, "features", (features,), has_time, time_axis=1 if has_time else None, axis=axis)
    return Tensor(features, has_time, source)


def tokens(name: str, vocabulary: int, *, has_time: bool = True, axis: str = TIME) -> Tokens:
    """Declare a graph input of integers in [0, vocabulary), [N, T], or [N] without ``has_time``; ``axis`` as for `input`."""
    name = _input_name("tokens", name)
    vocabulary = count(place("tokens", name), "vocabulary", vocabulary)
    place("tokens", axis)  # refuses what is no name
    return Tokens(GraphInput(name, "tokens", (), has_time, vocabulary, time_axis=1 if has_time else None, axis=axis))


def state(name: str, size: int) -> State:
    """Declare a graph state input [N, size].

    Give it to a layer as h_0 or c_0, and carry the layer's h_n or c_n back to it from call to call.
    """
    name = _input_name("state", name)
    return State(GraphInput(name, "state", (count(place("state", name), "size", size),), False))
