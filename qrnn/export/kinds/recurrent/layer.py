"""The C of a recurrent layer has its states, and a loop over the steps for each of its directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qrnn.export.c_text import CONSTANTS, array, comment, copy, copy_constant, loop
from qrnn.export.code import Code
from qrnn.export.kinds.recurrent.cell import (
    RUNTIME,
    Gives,
    is_bounded,
    is_unit,
    recurrent_direction,
    translated_direction,
)
from qrnn.export.layer_code import LayerCode
from qrnn.export.ports import Element, Place, StateField, is_cell_tensor
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.recurrent.start import QuantStartPart
from qrnn.model.parts import STATE_MAX, QuantInitialState


@dataclass(frozen=True)
class State:
    """The h or c of a direction: its member of the state, what a sequence begins with, and where it lies in C.

    The state of a layer without memory is a variable: it is declared by one line, and set by a statement that begins each step.
    """

    field: StateField
    initial: QuantInitialState | None
    place: str
    declared: str = ""
    begin: str = ""


def note_promises(code: Code, layer: QuantRecurrent) -> None:
    """Record which of the runtime's `PROMISES` the gates of a layer break."""
    translated = layer.declaration.form(layer) not in RUNTIME
    if not (translated or is_unit(layer)):
        code.broken.add("QRNN_UNIT_GATES")
    if not (translated or is_bounded(layer)):
        code.broken.add("QRNN_BOUNDED_STATES")


def direction_ending(layer: QuantRecurrent, number: int) -> str:
    """Return what follows a layer's name in that of one of its directions; nothing where there is one."""
    if len(layer.directions) == 1:
        return ""
    if layer.directions[0].reverse == layer.directions[1].reverse:
        return f"_d{number}"
    return "_reverse" if layer.directions[number].reverse else "_forward"


def direction_function(
    code: Code,
    prefix: str,
    layer: QuantRecurrent,
    number: int,
    name: str,
    states: tuple[str, str] = ("h", "c"),
    parameters: str = "",
    gives: Gives = Gives.NOTHING,
) -> str:
    """Add the step function of a direction and return its name; its ``parameters``, which hold h and c, are pointers where none are given.

    Unless ``gives`` is NOTHING the function has a further argument, which gets the new h unless it is NULL.
    """
    given = parameters or ("int16_t *h, int32_t *c" if layer.c_n is not None else "int16_t *h")
    if layer.declaration.form(layer) not in RUNTIME:
        return translated_direction(code, prefix, layer, number, name, states, given)
    return recurrent_direction(code, layer, number, name, *states, given, gives)


class RecurrentCode(LayerCode[QuantRecurrent]):
    """The C of a recurrent layer: a function for each direction, which does one step of it."""

    writes_anywhere = False

    result: str = ""
    """The parameter of the step function that gets the new h, where `gives_output`."""

    by_pointers: ClassVar[bool] = False
    """Whether the step functions take h and c by their addresses, and not the state that they are members of."""

    def emit(self) -> None:
        """Add the states and the step function of each direction, and record which of the runtime's `PROMISES` the gates break."""
        note_promises(self.code, self.layer)
        self._first_field = len(self.site.state)
        self.states: list[list[State]] = []
        """h and, of an LSTM, c of each direction."""
        self.functions = [self._direction(number) for number in range(len(self.layer.directions))]
        self._begin = self._begin_function() if self.layer.is_started else ""

    @classmethod
    def streams(cls, layer: QuantRecurrent) -> bool:
        """Return whether all directions run forward."""
        return len(layer.directions) == 1 and not layer.directions[0].reverse

    @property
    def keeps_state(self) -> bool:
        """Return True: the state depends on every step."""
        return True

    @property
    def gives_output(self) -> bool:
        """Return whether h is an output of the model, of each step, and begins where a word does: its function puts it there."""
        layer, site = self.layer, self.site
        known = layer.memory and layer.declaration.form(layer) in RUNTIME and site.streams and not site.counts_rows
        before = sum(f.count for f in site.state[: self._first_field] if f.kind == "int16_t")
        whole = any(site.model.whole_tensor(output) == layer.output for output in site.model.outputs)
        return known and not self.by_pointers and len(layer.directions) == 1 and whole and before % 2 == 0

    def places(self) -> Mapping[str, Place]:
        """Return where the outputs lie that are members of the state."""
        if len(self.states) > 1 or self._may_be_empty:
            return {}
        found = {t: Place(s.place) for t, s in zip(self.layer.outputs[1:], self.states[0], strict=True)}
        return found | {self.layer.output: found[self.layer.h_n]} if self.site.streams else found

    def initial(self) -> list[str]:
        """Return the statements that set the states to what a sequence begins with."""
        found = []
        for state in (s for states in self.states for s in states):
            field = state.field
            if state.initial is not None and state.initial.value.any() and field in self.site.state:
                name = self.code.names.new(f"initial_{field.name}")
                self.code.define(array(field.kind, name, state.initial.value, place=CONSTANTS))
                found.append(copy_constant(f"state->{field.name}", name, field.count, field.kind))
        return found

    def step(self) -> list[str]:
        """Return the statements that take the one direction a step further, from a computed start where the sequence has not begun."""
        return [*self._begin_call(), *self._step_of(0)]

    def run(self) -> list[str]:
        """Return the loops that take each direction through the steps in its own order, and write its states to y."""
        found = self._begin_call()
        if found:
            rows = self.site.tensors.rows_of(self.layer.input)
            found = [f"if ({rows} != 0U) {{", *(f"    {line}" for line in found), "}"]
        read = self.site.is_read(self.layer.output)
        for number, (d, states) in enumerate(zip(self.layer.directions, self.states, strict=True)):
            lines = self._step_of(number)
            if read:
                lines += self.written(self.site.tensors.place(self.layer.output), number, states[0])
            found += loop(lines, self.site.tensors.rows_of(self.layer.input), d.reverse)
        return [*found, *self._last_states()]

    def written(self, y: Place, number: int, h: State) -> list[str]:
        """Return the statements that write what a direction gives at step t to y."""
        P = self.layer.output_size
        return [copy(y.at("t", number * P), h.place, P, "int16_t")]

    @property
    def _may_be_empty(self) -> bool:
        """Return whether the layer may read no step of a sequence: h_n and c_n are then 0, while the states stay as they are."""
        return not self.site.streams and self.site.may_be_empty(self.layer.input)

    def _direction(self, number: int) -> str:
        """Return the step function of a direction, with its members of the state."""
        layer, d, name = self.layer, self.layer.directions[number], self.name
        member = name.removeprefix(f"{self.site.name}_")
        ending = direction_ending(layer, number)
        name, member = name + ending, member + ending
        h_size, c_size = (state.shape[1] for state in layer.states()[:2])
        fields: list[tuple[StateField, QuantInitialState | None]] = []
        fields += [(StateField(f"h_{member}", "int16_t", h_size, layer.name, 0, number), d.h_0)]
        if layer.c_n is not None:
            fields.append((StateField(f"c_{member}", "int32_t", c_size, layer.name, 1, number), d.c_0))
        self.states.append([self._state(*field) for field in fields])
        if not layer.memory or self.by_pointers:
            return direction_function(self.code, self.site.name, layer, number, name)
        states = f"state->h_{member}", f"state->c_{member}"
        head = f"{self.site.name}_state *state"
        given = any(i.name == layer.input and i.kind == "features" for i in self.site.model.inputs)
        limit = self.site.model.tensors[layer.input].limit <= layer.x_operand.limit
        gives = Gives.NOTHING if not self.gives_output else Gives.H_OF_INPUT if given and limit else Gives.H
        return direction_function(self.code, self.site.name, layer, number, name, states, head, gives)

    def _begin_function(self) -> str:
        """Add the function that sets computed initial states before the first step of a sequence, and return its name."""
        layer, prefix = self.layer, self.site.name
        member = f"begun_{self.name.removeprefix(f'{prefix}_')}"
        self.site.state.append(StateField(member, "int16_t", 1, layer.name, 2))
        name = self.code.names.new(f"{self.name}_begin")
        texts = {tensor: f"x{k}" for k, tensor in enumerate(layer.begins_with)}
        lines: list[str] = []
        for which, parts in enumerate((layer.h_start, layer.c_start)):
            for part in parts:
                for number, states in enumerate(self.states):
                    lines += self._begin_loop(part, states[which].field, number, texts[part.tensor])
        heads = [f"{prefix}_state *state"]
        heads += [f"const {self._kind_of(tensor)} *{text}" for tensor, text in texts.items()]
        body = [
            f"if (state->{member}[0] == 0) {{",
            *(f"    {line}" for line in lines),
            f"    state->{member}[0] = 1;",
            "}",
        ]
        what = comment(f"Before the first step of {layer.name}: what a sequence begins with.")
        head = f"static void {name}({', '.join(heads)})"
        self.code.functions.append("\n".join([what, head, "{", *(f"    {line}" for line in body), "}"]))
        return name

    def _begin_loop(self, part: QuantStartPart, field: StateField, number: int, x: str) -> list[str]:
        """Return the loop that sets those elements of a direction's h or c that a part says."""
        inside = part.positions // field.count == number
        if not inside.any():
            return []
        read, write = (
            self.code.shared_array("uint16_t", f"{word}_{field.name}", values.astype(np.int32))
            for word, values in (("from", part.indices[inside]), ("to", part.positions[inside] % field.count))
        )
        low, high = ("INT32_MIN", "INT32_MAX") if field.kind == "int32_t" else (f"-{STATE_MAX}", f"{STATE_MAX}")
        value = f"qrnn_begin_state({x}[{read}[k]], {part.left_shift}U, {part.right_shift}U, {low}, {high})"
        cast = "" if field.kind == "int32_t" else "(int16_t)"
        return [
            f"for (uint32_t k = 0U; k < {int(inside.sum())}U; k++) {{",
            f"    state->{field.name}[{write}[k]] = {cast}{value};",
            "}",
        ]

    def _kind_of(self, tensor: str) -> Element:
        return "int32_t" if is_cell_tensor(self.site.model, tensor) else "int16_t"

    def _begin_call(self) -> list[str]:
        """Return the call that sets computed initial states; nothing where there are none."""
        if not self._begin:
            return []
        given = ", ".join(
            self.site.tensors.place(tensor, "", self._kind_of(tensor)).at() for tensor in self.layer.begins_with
        )
        return [f"{self._begin}(state, {given});"]

    def _state(self, field: StateField, initial: QuantInitialState | None) -> State:
        """Return where a state lies.

        A state without memory is a local variable, which each step begins with a constant, or with the member of the state that stands for
        a graph state input.
        """
        if self.layer.memory:
            self.site.state.append(field)
            return State(field, initial, f"state->{field.name}")
        local = self.site.tensors.names.new(field.name)
        declared, size = f"{field.kind} {local}[{field.count}];", f"{field.count}U * sizeof({field.kind})"
        assert initial is not None
        if initial.source is not None:
            self.site.state.append(field)
            return State(field, initial, local, declared, f"QRNN_COPY({local}, state->{field.name}, {size});")
        if not initial.value.any():
            return State(field, initial, local, declared, f"QRNN_CLEAR({local}, {size});")
        constant = self.code.shared_array(field.kind, f"initial_{field.name}", initial.value)
        return State(field, initial, local, declared, f"QRNN_COPY_CONSTANT({local}, {constant}, {size});")

    def _step_of(self, number: int) -> list[str]:
        """Return statements that take a direction one step further, from the state before it, or from its start where it has no memory."""
        states, tensors = self.states[number], self.site.tensors
        for state in states:
            if state.declared:
                tensors.declare(state.declared)
        return [*(s.begin for s in states if s.begin), *self.calls(number, tensors.place(self.layer.input).at())]

    def calls(self, number: int, x: str) -> list[str]:
        """Return the statements that call the step function of a direction for the vector ``x``."""
        given = "state" if self.layer.memory else ", ".join(s.place for s in self.states[number])
        result = f", {self.result or 'NULL'}" if self.gives_output and not self.by_pointers else ""
        return [f"{self.functions[number]}({given}, {x}{result});"]

    def _last_states(self) -> list[str]:
        """Return statements that make h_n and c_n, where anything reads them that are not the states themselves."""
        found: list[str] = []
        for number, tensor in enumerate(self.layer.outputs[1:]):
            if self.site.is_read(tensor) and (len(self.states) > 1 or self._may_be_empty):
                states = [states[number] for states in self.states]
                kind, size = states[0].field.kind, states[0].field.count
                to = self.site.tensors.place(tensor, "", kind)
                copies = [copy(to.at(element=k * size), s.place, size, kind) for k, s in enumerate(states)]
                if self._may_be_empty:
                    none = f"    QRNN_CLEAR({to.at()}, {len(states) * size}U * sizeof({kind}));"
                    rows = self.site.tensors.rows_of(self.layer.input)
                    copies = [f"if ({rows} == 0U) {{", none, "} else {", *(f"    {line}" for line in copies), "}"]
                found += copies
        return found
