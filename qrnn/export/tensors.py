"""A model's tensors have places in the exported functions, and the C of a layer is made within a `Site`."""

from __future__ import annotations

from dataclasses import dataclass, field

from qrnn.export.code import Code
from qrnn.export.names import Names
from qrnn.export.ports import Place, StateField
from qrnn.model.given_lengths import time_axes
from qrnn.model.quant_model import QuantModel


@dataclass
class Tensors:
    """The tensors of ``model``. ``places`` has those that have a place; ``declared`` the variables of the function that is being written."""

    model: QuantModel
    names: Names
    """The names of variables."""
    places: dict[str, Place] = field(default_factory=dict)
    declared: list[str] = field(default_factory=list)
    rows: dict[str, str] = field(default_factory=dict)
    """The variables that count the rows of tensors, where these are not the steps of the inputs, in a function that goes layer by layer."""

    def rows_of(self, tensor: str) -> str:
        """Return the C expression of how many rows a tensor over time has, in a function that goes layer by layer."""
        return self.rows.get(tensor, "length")

    def place(self, tensor: str, name: str = "", kind: str = "int16_t", initial: str = "") -> Place:
        """Return where a tensor lies: in a new variable, with an initializer, if it has no place yet."""
        if tensor not in self.places:
            local = self.names.new(name or "t_" + tensor)
            self.declare(f"{kind} {local}[{self.model.tensors[tensor].features}]{initial};")
            self.places[tensor] = Place(local)
        return self.places[tensor]

    def declare(self, line: str) -> None:
        """Declare a variable in the function that is being written, once."""
        if line not in self.declared:
            self.declared.append(line)


@dataclass
class Site:
    """What the C of a layer is made within: the model, whose public names begin with ``name``, its constants, tensors and state."""

    model: QuantModel
    name: str
    code: Code
    tensors: Tensors
    state: list[StateField] = field(default_factory=list)
    """The members of the model's state so far."""
    counts_rows: bool = False
    """Whether the model has a step function of which a call may give no row, or several."""
    streams: bool = True
    """Whether the model has a step function; otherwise every layer goes through all steps before the next layer begins."""

    def may_be_empty(self, tensor: str) -> bool:
        """Return whether a tensor over time may have no row, in a sequence that has a step."""
        rule = self.model.length_rules[tensor]
        if len(time_axes(self.model.inputs)) > 1:
            return True  # a step of one axis alone makes a sequence
        return rule.of(dict.fromkeys(rule.axes, 1)) == 0

    def is_read(self, tensor: str) -> bool:
        """Return whether a layer or an output reads a tensor."""
        return any(tensor in layer.inputs for layer in self.model.layers) or any(
            tensor == part for output in self.model.outputs for part, _, _ in output.parts
        )
