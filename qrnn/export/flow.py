"""The functions NAME_step and NAME_run: a model's layers in their order, and where their tensors lie.

A model whose layers all run forward streams: NAME_step does one time step, NAME_run is a loop over it. One with a reverse direction
reads whole sequences: NAME_run goes through the layers one after the other, each over all steps, with room for what lies between them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qrnn.export import layers as emit
from qrnn.export.c_text import array
from qrnn.export.layers import Code
from qrnn.export.names import LOCALS, Names
from qrnn.export.ports import Place, Port, StateField, input_port, is_cell_tensor, output_port
from qrnn.model.float_model import GraphOutput
from qrnn.model.kinds.add import QuantAdd
from qrnn.model.kinds.concat import QuantConcat
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.kinds.embedding import QuantEmbedding
from qrnn.model.kinds.last_step import QuantLastStep
from qrnn.model.kinds.pointwise import QuantPointwise
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.softmax import QuantSoftmax
from qrnn.model.layer import QuantLayer
from qrnn.model.parts import Int64Array
from qrnn.model.quant_model import QuantModel


@dataclass(frozen=True)
class State:
    """Where h or c of a direction lies in C; and of one without memory how it is declared and what each step begins with."""

    place: str
    declared: str = ""
    begin: str = ""


Statements = tuple[frozenset[str], list[str]]
"""C statements, and the outputs that are all they are for (none: they are always done)."""


def streams(model: QuantModel) -> bool:
    """Whether a model's layers all run forward, in one direction."""
    return all(len(r.directions) == 1 and not r.directions[0].reverse for r in model.recurrent_layers)


def room(model: QuantModel, elsewhere: Container[str]) -> dict[str, int]:
    """Tensor over time that a layer writes → where its features begin in the room for a step; what lives at one time lies apart.

    ``elsewhere``: tensors that need no room.
    """
    last = {tensor: len(model.layers) for output in model.outputs for tensor, _, _ in output.parts}
    for position, layer in reversed(list(enumerate(model.layers))):
        for tensor in layer.inputs:
            last.setdefault(tensor, position)
    places: dict[str, int] = {}
    for position, layer in enumerate(model.layers):
        fmt = model.tensors[layer.output]
        if fmt.has_time and layer.output not in elsewhere:
            alive = [(at, at + model.tensors[t].features) for t, at in places.items() if last.get(t, -1) >= position]
            starts = sorted({0, *(stop for _, stop in alive)})
            free = (s for s in starts if all(s + fmt.features <= start or s >= stop for start, stop in alive))
            places[layer.output] = next(free)
    return places


class Flow:
    """Emits layers into ``code`` and then the functions that call them; ``name`` begins the names of all that is public."""

    def __init__(self, model: QuantModel, name: str, code: Code) -> None:
        self.model, self.name, self.code = model, name, code
        self.streams = streams(model)
        public = [f"{name}_{word}" for word in ("state", "init", "reset", "step", "run")]
        ports = Names(LOCALS, (f"{name}_", "qrnn_"))
        self.inputs = tuple(input_port(i, ports) for i in model.inputs if i.kind in ("features", "tokens"))
        self.outputs = tuple(output_port(model, o, ports) for o in model.outputs)
        named = [p.name for p in (*self.inputs, *self.outputs)]
        code.names.take([*public, *named])  # parameters would hide what has their names
        self._locals = Names([*LOCALS, *named], (f"{name}_", "qrnn_"))
        self.fields: list[StateField] = []
        self._states: dict[tuple[str, int, bool], State] = {}
        self._names = code.names.layers([layer.name for layer in model.layers], f"{name}_")
        self._functions = {layer.name: self._emit(layer) for layer in model.layers}
        self._needed = self._needed_for()
        self._written = self._written_outputs()
        self._room = {} if self.streams else room(model, tuple(self._written))
        self.work_per_step = max((at + model.tensors[t].features for t, at in self._room.items()), default=0)
        self._places = self._tensor_places()
        self._declared: list[str] = []

    def functions(self) -> list[str]:
        """The public functions that compute."""
        return [self._step(), self._run_of_steps()] if self.streams else [self._run_of_layers()]

    def prototypes(self) -> list[str]:
        """Of `functions`."""
        run = f"void {self.name}_run({self._parameters(run=True)})"
        return [f"void {self.name}_step({self._parameters()})", run] if self.streams else [run]

    # Layers

    def _emit(self, layer: QuantLayer) -> list[str]:
        """The C functions of a layer: one, or one for each direction."""
        code, name, features = self.code, self._names[layer.name], self.model.tensors[layer.output].features
        match layer:
            case QuantRecurrent():
                return [self._direction(layer, number, name) for number in range(len(layer.directions))]
            case QuantDense():
                return [emit.dense(code, layer, name)]
            case QuantPointwise():
                return [emit.pointwise(code, layer, name, features)]
            case QuantSoftmax():
                return [emit.softmax(code, layer, name, features)]
            case QuantEmbedding():
                return [emit.embedding(code, layer, name)]
            case QuantAdd():
                return [emit.add(code, layer, name, features)]
            case QuantConcat():
                return [emit.concat(code, layer, name)]
            case QuantLastStep():
                return []
        raise AssertionError(f"a layer of kind {type(layer).__name__} has no C")

    def _direction(self, layer: QuantRecurrent, number: int, name: str) -> str:
        d = layer.directions[number]
        member = name.removeprefix(f"{self.name}_")
        if len(layer.directions) > 1:
            ending = f"_{'reverse' if d.reverse else 'forward'}"
            ending = ending if layer.directions[0].reverse != layer.directions[1].reverse else f"_d{number}"
            name, member = name + ending, member + ending
        fields = [StateField(f"h_{member}", "int16_t", layer.output_size, layer.name, number, False)]
        if layer.has_cell_state:
            fields.append(StateField(f"c_{member}", "int32_t", layer.hidden_size, layer.name, number, True))
        for field in fields:
            self._states[layer.name, number, field.is_cell] = self._state(layer, field)
        if layer.memory:
            return emit.recurrent_direction(
                self.code, layer, number, name, f"state->h_{member}", f"state->c_{member}", f"{self.name}_state *state"
            )
        states = "int16_t *h, int32_t *c" if layer.has_cell_state else "int16_t *h"
        return emit.recurrent_direction(self.code, layer, number, name, "h", "c", states)

    def _state(self, layer: QuantRecurrent, field: StateField) -> State:
        """Where a state lies. One without memory is a local, which each step begins with a constant, or with the member of the state that
        stands for a graph state input."""
        if layer.memory:
            self.fields.append(field)
            return State(f"state->{field.name}")
        local = self._locals.new(field.name)
        declared, size = f"{field.kind} {local}[{field.count}];", f"sizeof({local})"
        d = layer.directions[field.direction]
        initial = d.c_0 if field.is_cell else d.h_0
        assert initial is not None
        if initial.source is not None:
            self.fields.append(field)
            return State(local, declared, f"QRNN_COPY({local}, state->{field.name}, {size});")
        if not initial.value.any():
            return State(local, declared, f"QRNN_CLEAR({local}, {size});")
        constant = self.code.shared_array(field.kind, f"initial_{field.name}", initial.value)
        return State(local, declared, f"QRNN_COPY({local}, {constant}, {size});")

    def _at(self, layer: QuantRecurrent, number: int, is_cell: bool) -> str:
        """The C expression of a direction's h or c."""
        return self._states[layer.name, number, is_cell].place

    def _step_of(self, layer: QuantRecurrent, number: int) -> list[str]:
        """Statements that take a direction one step further, from the state before it, or from its start where it has no memory."""
        states = [s for k in (False, True) if (s := self._states.get((layer.name, number, k))) is not None]
        begin = [s.begin for s in states if s.begin]
        self._declared += [s.declared for s in states if s.declared and s.declared not in self._declared]
        given = "state" if layer.memory else ", ".join(s.place for s in states)
        return [*begin, f"{self._functions[layer.name][number]}({given}, {self._place(layer.input).at()});"]

    # Places

    def _written_outputs(self) -> dict[str, Port]:
        """Tensors that layers write straight into an output: those that are one, whole, and that nothing else reads."""
        reads = [tensor for layer in self.model.layers for tensor in layer.inputs]
        reads += [tensor for output in self.model.outputs for tensor, _, _ in output.parts]
        states = (QuantRecurrent, QuantLastStep)
        by_layers = {layer.output for layer in self.model.layers if not isinstance(layer, states)}
        wholes = {self.model.whole_tensor(o): port for o, port in zip(self.model.outputs, self.outputs, strict=True)}
        return {t: port for t, port in wholes.items() if t is not None and t in by_layers and reads.count(t) == 1}

    def _tensor_places(self) -> dict[str, Place]:
        """Where tensors lie that need no variable of their own."""
        places = {p.graph_name: Place(p.name) if self.streams else p.over_time for p in self.inputs}
        for tensor, port in self._written.items():
            places[tensor] = Place(port.name) if self.streams else port.over_time
        for tensor, begin in self._room.items():
            stride = self.model.tensors[tensor].features
            places[tensor] = Place("work", f"{begin}U * length" if begin else "", stride)
        for layer in self.model.recurrent_layers:
            if len(layer.directions) == 1:
                places[layer.h_n] = Place(self._at(layer, 0, False))
                if layer.c_n is not None:
                    places[layer.c_n] = Place(self._at(layer, 0, True))
                if self.streams:
                    places[layer.output] = places[layer.h_n]  # y of a step is the state after it
        return places

    def _place(self, tensor: str, name: str = "", kind: str = "int16_t", initial: str = "") -> Place:
        """Where a tensor lies; a new variable, with an initializer, for one that has no place yet."""
        if tensor not in self._places:
            local = self._locals.new(name or "t_" + tensor)
            self._declared.append(f"{kind} {local}[{self.model.tensors[tensor].features}]{initial};")
            self._places[tensor] = Place(local)
        return self._places[tensor]

    # Statements

    def _needed_for(self) -> dict[str, frozenset[str]]:
        """Layer → the outputs that are all it is for; none for a layer that a state depends on."""
        readers: dict[str, set[str]] = {}
        for output in self.model.outputs:
            for tensor, _, _ in output.parts:
                readers.setdefault(tensor, set()).add(output.name)
        found: dict[str, frozenset[str]] = {}
        for_states: set[str] = set()
        for layer in reversed(self.model.layers):
            stateful = isinstance(layer, QuantRecurrent) or layer.output in for_states
            found[layer.name] = frozenset() if stateful else frozenset(readers.get(layer.output, ()))
            for tensor in layer.inputs:
                readers.setdefault(tensor, set()).update(found[layer.name])
            for_states.update(layer.inputs if stateful else ())
        return found

    def _call(self, layer: QuantLayer) -> str:
        """One time step of a layer, or what follows the last one."""
        name = self._names[layer.name].replace(f"{self.name}_", "t_", 1)
        # Written where either of two outputs is asked for, read where one is: compilers do not see that this is enough.
        initial = " = {0}" if len(self._needed[layer.name]) > 1 else ""
        y = self._place(layer.output, name, initial=initial).at()
        if isinstance(layer, QuantLastStep):
            x, count = self._place(layer.input), self.model.tensors[layer.output].features
            return _copy(y, x.at("(length - 1U)"), count, "int16_t")
        (function,) = self._functions[layer.name]
        star = "*" if isinstance(layer, QuantEmbedding) else ""
        arguments = [star + self._place(tensor).at() for tensor in layer.inputs]
        return f"{function}({', '.join([*arguments, y])});"

    def _output(self, output: GraphOutput, port: Port) -> list[str]:
        """Fill an output, of a step where it is over time, from its tensors."""
        to = Place(port.name) if self.streams else port.over_time
        whole = self.model.whole_tensor(output)
        if whole in self._written:
            return []
        if whole is not None:
            return [_copy(to.at(), self._place(whole).at(), port.count, port.kind)]
        return [self._gather(part, port, to) for part in output.parts]

    def _gather(self, part: tuple[str, Int64Array, Int64Array], port: Port, to: Place) -> str:
        """Fill positions of an output with features of a tensor."""
        tensor, indices, positions = part
        read, write = (
            self.code.shared_array("uint16_t", f"{word}_{port.name}", values.astype(np.int32))
            for word, values in (("from", indices), ("to", positions))
        )
        source = "cells" if is_cell_tensor(self.model, tensor) else "values"
        function = "qrnn_gather" if port.kind == "int16_t" else f"qrnn_gather_{source}_32"
        self.code.features.add(f"QRNN_USE_{function[5:].upper()}")
        self.code.headers.add("qrnn_vectors.h")
        return f"{function}({self._place(tensor).at()}, {read}, {write}, {len(indices)}U, {to.at()});"

    def _conditioned(self, statements: Iterable[Statements]) -> list[str]:
        """Statements, those that are for outputs alone within a condition that one of these is asked for."""
        names = {port.graph_name: port.name for port in self.outputs}
        found: list[str] = []
        current: frozenset[str] = frozenset()
        for outputs, lines in statements:
            if lines and outputs != current:
                found += ["}"] if current else []
                asked = " || ".join(f"({names[o]} != NULL)" for o in sorted(outputs))
                found += (
                    [f"if ({asked.removeprefix('(').removesuffix(')') if len(outputs) == 1 else asked}) {{"]
                    if outputs
                    else []
                )
                current = outputs
            found += [f"    {line}" if outputs else line for line in lines]
        return [*found, "}"] if current else found

    # Functions

    def _step(self) -> str:
        statements: list[Statements] = []
        for layer in self.model.layers:
            if isinstance(layer, QuantRecurrent):
                statements.append((frozenset[str](), self._step_of(layer, 0)))
            elif isinstance(layer, QuantLastStep):
                self._places[layer.output] = self._place(layer.input)  # this step is the last one so far
            else:
                statements.append((self._needed[layer.name], [self._call(layer)]))
        for output, port in zip(self.model.outputs, self.outputs, strict=True):
            statements.append((frozenset({output.name}), self._output(output, port)))
        return self._function("step", self._parameters(), self._conditioned(statements))

    def _run_of_steps(self) -> str:
        arguments = ["state", *(p.over_time.at() for p in self.inputs)]
        for port in self.outputs:
            condition = f"{port.name} == NULL" if port.has_time else "(t + 1U) < length"
            arguments.append(f"({condition}) ? NULL : {port.over_time.at()}")
        call = ",\n                ".join(arguments)
        body = ["for (uint32_t t = 0U; t < length; t++) {", f"    {self.name}_step({call});", "}"]
        self._declared = []
        return self._function("run", self._parameters(run=True), body)

    def _run_of_layers(self) -> str:
        statements: list[Statements] = []
        for layer in self.model.layers:
            if isinstance(layer, QuantRecurrent):
                statements.append((frozenset[str](), [*self._all_steps(layer), *self._join_states(layer)]))
                continue
            call = self._call(layer)
            over_time = self.model.tensors[layer.output].has_time
            statements.append((self._needed[layer.name], _loop([call]) if over_time else [call]))
        for output, port in zip(self.model.outputs, self.outputs, strict=True):
            lines = self._output(output, port)
            statements.append((frozenset({output.name}), _loop(lines) if output.has_time and lines else lines))
        body = ["if (length == 0U) {", "    return;", "}", *self._conditioned(statements)]
        return self._function("run", self._parameters(run=True), body)

    def _all_steps(self, layer: QuantRecurrent) -> list[str]:
        """Each direction in its own order; the states that it goes through are y."""
        found: list[str] = []
        y, P = self._place(layer.output), layer.output_size
        for number, d in enumerate(layer.directions):
            h = self._at(layer, number, False)
            lines = [*self._step_of(layer, number), _copy(y.at("t", number * P), h, P, "int16_t")]
            found += _loop(lines, d.reverse)
        return found

    def _join_states(self, layer: QuantRecurrent) -> list[str]:
        """h_n and c_n of two directions, where anything reads them."""
        read = {tensor for other in self.model.layers for tensor in other.inputs}
        read |= {tensor for output in self.model.outputs for tensor, _, _ in output.parts}
        found: list[str] = []
        for tensor, kind, size, is_cell in (
            (layer.h_n, "int16_t", layer.output_size, False),
            (layer.c_n, "int32_t", layer.hidden_size, True),
        ):
            if tensor is not None and tensor in read and len(layer.directions) > 1:
                to = self._place(tensor, "", kind)
                states = [self._at(layer, k, is_cell) for k in range(2)]
                found += [_copy(to.at(element=k * size), s, size, kind) for k, s in enumerate(states)]
        return found

    def _parameters(self, run: bool = False) -> str:
        found = [f"{self.name}_state *state", *(f"const {p.kind} *{p.name}" for p in self.inputs)]
        found += ["uint32_t length"] if run else []
        found += [f"{p.kind} *{p.name}" for p in self.outputs]
        return ", ".join(found + (["int16_t *work"] if run and not self.streams else []))

    def _function(self, verb: str, parameters: str, body: Sequence[str]) -> str:
        unused = ["(void)state;"] if not self.fields and not (self.streams and verb == "run") else []
        lines = [*self._declared, *([""] if self._declared else []), *unused, *body]
        return "\n".join(
            [f"void {self.name}_{verb}({parameters})", "{", *(f"    {s}" if s else "" for s in lines), "}"]
        )


def initial_states(model: QuantModel, fields: Sequence[StateField], code: Code) -> list[str]:
    """Statements that set a state of zeros to the model's own initial one."""
    found = []
    layers: Mapping[str, QuantRecurrent] = {layer.name: layer for layer in model.recurrent_layers}
    for f in fields:
        d = layers[f.layer].directions[f.direction]
        initial = d.c_0 if f.is_cell else d.h_0
        if initial is not None and initial.value.any():
            name = code.names.new(f"initial_{f.name}")
            code.define(array(f.kind, name, initial.value))
            found.append(_copy(f"state->{f.name}", name, f.count, f.kind))
    return found


def _copy(to: str, source: str, count: int, kind: str) -> str:
    return f"QRNN_COPY({to}, {source}, {count}U * sizeof({kind}));"


def _loop(lines: Sequence[str], back: bool = False) -> list[str]:
    """Statements for every step t, from the last to the first with ``back``."""
    inner = [f"    {line}" for line in lines]
    if back:
        return ["for (uint32_t t = length; t-- > 0U;) {", *inner, "}"]
    return ["for (uint32_t t = 0U; t < length; t++) {", *inner, "}"]
