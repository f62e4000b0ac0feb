"""The C of layers that keep something from one time step to the next has their states in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from qrnn.export.c_text import CONSTANTS, array, copy_constant, loop
from qrnn.export.layer_code import AnyLayer, LayerCode
from qrnn.export.loops.values import Array, type_of_dtype
from qrnn.export.ports import Place, StateField


class StepsCode(LayerCode[AnyLayer]):
    """The C of a layer with a state of its own, which writes a row in each step."""

    writes_anywhere = False

    def emit(self) -> None:
        """Add the state and the function of one step."""
        layer = self.layer
        member = self.name.removeprefix(f"{self.site.name}_")
        self._initial: list[tuple[StateField, Any]] = []
        self.fields: list[StateField] = []
        states = []
        for position, state in enumerate(layer.states()):
            kind, count = type_of_dtype(state.dtype), max(1, int(np.prod(state.shape)))
            field = StateField(f"{state.name}_{member}", kind, count, layer.name, position)  # type: ignore[arg-type]
            self.site.state.append(field)
            self.fields.append(field)
            if state.starts:
                values = np.concatenate([start.value.reshape(-1) for start in state.starts])
                self._initial.append((field, values))
            place = f"state->{field.name}" if state.shape else f"state->{field.name}[0]"
            states.append(Array(place, kind, tuple(state.shape)))
        self.most_rows = self.add_function(f"{self.site.name}_state *state", states)

    @abstractmethod
    def add_function(self, head: str, states: Sequence[Array]) -> int:
        """Add the function (``head``, x, y) of one step, which returns how many rows it wrote; return the most of them.

        ``states`` are the layer's states in C.
        """

    @property
    def keeps_state(self) -> bool:
        """Return True: the state depends on every step."""
        return True

    @property
    def steps_past_end(self) -> int:
        """Return the delay of the layer."""
        return self.layer.steps_past_end

    def own_place(self) -> Place:
        """Return room for the most rows of a step."""
        tensors, tensor = self.site.tensors, self.layer.output
        if tensor not in tensors.places:
            local = tensors.names.new(self.name.replace(f"{self.site.name}_", "t_", 1))
            tensors.declare(f"int16_t {local}[{self.features * max(1, self.most_rows)}];")
            tensors.places[tensor] = Place(local)
        return tensors.places[tensor]

    def arguments(self) -> list[str]:
        """Return the state and the inputs."""
        return ["state", *super().arguments()]

    def call(self) -> str:
        """Return the call of the step, whose result is not used."""
        return super().call() if self.counts_rows else f"(void){super().call()}"

    def run(self) -> list[str]:
        """Return the loops over all steps, and past the end of the sequence, which count the rows where these are not the steps."""
        if not self.counts_rows:
            return super().run()
        tensors = self.site.tensors
        rows, y = tensors.rows_of(self.layer.output), self.own_place()
        tensors.declare(f"uint32_t {rows} = 0U;")
        found: list[str] = []
        ends = [(self.arguments(), tensors.rows_of(self.layer.inputs[0]))]
        ends += (
            [(["state", *("NULL" for _ in self.layer.inputs)], f"{self.steps_past_end}U")]
            if self.steps_past_end
            else []
        )
        for arguments, steps in ends:
            found += loop([f"{rows} += {self.name}({', '.join([*arguments, y.at(rows)])});"], steps)
        return found

    def initial(self) -> list[str]:
        """Return the statements that set the states to what a sequence begins with."""
        found = []
        for field, values in self._initial:
            if values.any():
                name = self.code.names.new(f"initial_{field.name}")
                self.code.define(array(field.kind, name, values, place=CONSTANTS))
                found.append(copy_constant(f"state->{field.name}", name, field.count, field.kind))
        return found
