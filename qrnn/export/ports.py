"""Exported C functions take, give and keep what is declared here, and their tensors have places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from qrnn.export.names import Names
from qrnn.model.float_model import GraphInput, GraphOutput
from qrnn.model.given_lengths import time_axes
from qrnn.model.quant_model import QuantModel
from qrnn.model.time import Axis

Element = Literal["int16_t", "int32_t", "uint16_t", "uint32_t"]
ELEMENT_BYTES: dict[Element, int] = {"int16_t": 2, "int32_t": 4, "uint16_t": 2, "uint32_t": 4}


@dataclass(frozen=True)
class Place:
    """A vector in C, or one for each step: element ``begin + stride · t`` of the array ``base`` and those after it."""

    base: str
    begin: str = ""
    stride: int = 0

    def at(self, step: str = "t", element: int = 0) -> str:
        """Return the C expression of where the vector of a step begins, ``element`` elements further on."""
        terms = [self.begin] if self.begin else []
        terms += [f"{self.stride}U * {step}"] if self.stride else []
        terms += [f"{element}U"] if element else []
        if not terms:
            return self.base
        sums = [f"({term})" if "*" in term and len(terms) > 1 else term for term in terms]
        return f"&{self.base}[{' + '.join(sums)}]"


@dataclass(frozen=True)
class Port:
    """An input or output of the C functions: ``count`` elements of type ``kind`` for each step (``has_time``) or for a sequence."""

    graph_name: str
    name: str
    kind: Element
    count: int
    has_time: bool
    steps: str = "length"
    """The parameter of C that says how many steps there are: ``length``, or of several time axes the one of the port's own."""

    @property
    def over_time(self) -> Place:
        """Return where the port's vectors lie in a function that is given whole sequences."""
        return Place(self.name, stride=self.count if self.has_time else 0)


@dataclass(frozen=True)
class StateField:
    """A member of the state: one of the state arrays that a layer keeps, flat; ``array`` is its number in `QuantLayer.states`.

    ``array`` is None for what C alone keeps. ``part`` is the index on the array's first axis, for a member that holds no more (one
    direction of a recurrent layer); None for all of the array.
    """

    name: str
    kind: Element
    count: int
    layer: str
    array: int | None
    part: int | None = None


def state_bytes(fields: Sequence[StateField]) -> int:
    """Return sizeof of the state: its members in their order, each aligned to its type; an empty state has one byte."""
    size = 0
    for f in fields:
        width = ELEMENT_BYTES[f.kind]
        size = -(-size // width) * width + width * f.count
    most = max((ELEMENT_BYTES[f.kind] for f in fields), default=1)
    return max(-(-size // most) * most, 1)


def length_names(model: QuantModel, names: Names) -> dict[str, str]:
    """Return the parameter of C for the number of steps of each time axis: ``length``, or of several axes ``length_AXIS``."""
    axes = time_axes(model.inputs)
    return {axis: "length" if len(axes) == 1 else names.new(f"length_{axis}") for axis in axes}


def input_port(graph_input: GraphInput, names: Names, lengths: Mapping[str, str]) -> Port:
    """Return the port of a graph input: features are int16_t; tokens are uint16_t where their vocabulary allows."""
    steps = lengths.get(graph_input.axis, "length")
    kind: Element = "int16_t"
    if graph_input.kind == "tokens":
        kind = "uint16_t" if graph_input.vocabulary <= 1 << 16 else "uint32_t"
    name = names.new(graph_input.name)
    return Port(graph_input.name, name, kind, graph_input.features, graph_input.has_time, steps)


def output_port(model: QuantModel, output: GraphOutput, names: Names, lengths: Mapping[str, str]) -> Port:
    """Return the port of a graph output: int16_t, or int32_t where any part is the state of LSTM cells."""
    kind: Element = "int32_t" if any(is_cell_tensor(model, tensor) for tensor, _, _ in output.parts) else "int16_t"
    rule = model.length_rules[output.parts[0][0]] if output.has_time else None
    steps = lengths[rule.name] if isinstance(rule, Axis) else "length"
    return Port(output.name, names.new(output.name), kind, output.features, output.has_time, steps)


def is_cell_tensor(model: QuantModel, tensor: str) -> bool:
    """Return whether a tensor is the state of cells, of 32 bits."""
    return any(tensor in layer.cells for layer in model.layers)
