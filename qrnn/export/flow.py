"""The functions NAME_step and NAME_run call a model's layers in their order, and know where their tensors lie.

Here are those of a model of which each step gives a step: NAME_step does one time step, NAME_run is a loop over it.
`qrnn.export.counted_flow` has models of which a step may give no row, or several, and `qrnn.export.whole_flow` those that read whole
sequences.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from qrnn.export.boundary import functions_of
from qrnn.export.c_text import copy
from qrnn.export.code import Code
from qrnn.export.given_states import WORDS, given_states
from qrnn.export.kinds import own_code
from qrnn.export.layer_code import AnyCode
from qrnn.export.names import LOCALS, Names
from qrnn.export.ports import Place, Port, StateField, input_port, is_cell_tensor, length_names, output_port
from qrnn.export.steps_code import StepsCode
from qrnn.export.tensors import Site, Tensors
from qrnn.export.trace import traced_rows
from qrnn.export.translated import RowsCode, steps_code
from qrnn.model.float_model import GraphOutput
from qrnn.model.layer import QuantLayer
from qrnn.model.parts import Int64Array
from qrnn.model.quant_model import QuantModel

PUBLIC = ("state", "scratch", "real", "info", "init", "reset", "step", "run", "finish", "traced")
"""What comes after NAME_ in the names of an exported model's types and functions, beside those of its inputs, outputs and states."""

Statements = tuple[frozenset[str], list[str]]
"""C statements, and the outputs that they are computed for alone; the set is empty for statements that are always executed."""


def code_of(model: QuantModel, layer: QuantLayer) -> type[AnyCode]:
    """Return the class that makes the C of a layer: that of the module of its kind, or one that translates its own definition."""
    if (own := own_code(type(layer))) is not None:
        return own.of(layer)
    if layer.by_rows:
        return RowsCode
    return steps_code(layer, [model.tensors[tensor].features for tensor in (*layer.inputs, layer.output)])


GENERATION_WORDS = ("choice", "draws", "choose", "generate", "transduce")
"""What the names of public things end with that `qrnn.export.generation_code` adds."""


class Flow:
    """The C functions of a model: layers are emitted into ``code``, then the functions that call them; ``name`` begins all public names."""

    streams: ClassVar[bool] = True
    """Whether there is a function of a time step; otherwise there is one of whole sequences alone."""

    def __init__(self, model: QuantModel, name: str, code: Code) -> None:
        self.model, self.name, self.code = model, name, code
        public = [f"{name}_{word}" for word in (*PUBLIC, *GENERATION_WORDS)]
        ports = Names(LOCALS, (f"{name}_", "qrnn_"))
        self.lengths = length_names(model, ports)
        """The parameters that say how many steps each time axis has, by the axis."""
        given = [i for i in model.inputs if i.kind in ("features", "tokens")]
        self.inputs = tuple(input_port(i, ports, self.lengths) for i in given)
        self.outputs = tuple(output_port(model, o, ports, self.lengths) for o in model.outputs)
        self.given = given_states(model, ports, model.rows and self.streams)
        public += [f"{name}_{word}_{s.port.name}" for s in self.given for word in WORDS]
        public += [f"{name}_{function}" for p in (*self.inputs, *self.outputs) for function in functions_of(p)]
        named = [p.name for p in (*self.inputs, *self.outputs, *(s.port for s in self.given))]
        named += [name for name in self.lengths.values() if name not in LOCALS]
        code.names.take([*public, *named])  # parameters would hide what has their names
        self.tensors = Tensors(model, Names([*LOCALS, *named], (f"{name}_", "qrnn_")))
        kinds = [self.code_of(layer) for layer in model.layers]
        counts = self.streams and any(kind.counts_rows for kind in kinds)
        self._site = Site(model, name, code, self.tensors, counts_rows=counts, streams=self.streams)
        names = code.names.layers([layer.name for layer in model.layers], f"{name}_")
        self.layers: list[AnyCode] = [
            kind(layer, names[layer.name], self._site) for kind, layer in zip(kinds, model.layers, strict=True)
        ]
        self._set_outputs()
        self._written = self._written_outputs()
        self._passed = self._passed_outputs()
        self._given = self._given_outputs()
        self._find_places()

    def code_of(self, layer: QuantLayer) -> type[AnyCode]:
        """Return the class that makes the C of a layer."""
        return code_of(self.model, layer)

    @property
    def counts_rows(self) -> bool:
        """Return whether functions return how many rows of the outputs over time came out."""
        return False

    @property
    def step_rows(self) -> int:
        """Return the most rows that a step gives."""
        return 1

    @property
    def finish_rows(self) -> int:
        """Return the most rows that the end of a sequence gives."""
        return 0

    @property
    def fields(self) -> list[StateField]:
        """Return the members of the state."""
        return self._site.state

    def functions(self) -> list[str]:
        """Return the public functions that compute."""
        return [self._step(), self._run_of_steps()]

    def prototypes(self) -> list[str]:
        """Return the declarations of `functions`."""
        return [f"void {self.name}_step({self.parameters()})", f"void {self.name}_run({self.parameters(run=True)})"]

    def initial(self) -> list[str]:
        """Return statements that set a state of zeros to the model's own initial one."""
        return [line for layer in self.layers for line in layer.initial()]

    # Places

    def _written_outputs(self) -> dict[str, Port]:
        """Return the tensors that layers write straight into an output: those that are a whole output, and that nothing else reads."""
        return self._outputs_of({code.layer.output for code in self.layers if code.writes_anywhere})

    def _passed_outputs(self) -> dict[str, Port]:
        """Return the tensors that layers with a state write into an output where it is asked for, and else into a variable."""
        if not self.streams or self.counts_rows:
            return {}
        return self._outputs_of({code.layer.output for code in self.layers if isinstance(code, StepsCode)})

    def _given_outputs(self) -> set[str]:
        """Return the outputs of the model that layers put there themselves, and tell these layers which."""
        given = set()
        for code in self.layers:
            for output, port in zip(self.model.outputs, self.outputs, strict=True):
                if code.gives_output and not code.result and self.model.whole_tensor(output) == code.layer.output:
                    code.result = port.name
                    given.add(output.name)
        return given

    def _outputs_of(self, written: Collection[str]) -> dict[str, Port]:
        """Return those tensors of ``written`` that are a whole output, and that nothing else reads, with the outputs."""
        reads = [tensor for layer in self.model.layers for tensor in layer.inputs]
        reads += [tensor for output in self.model.outputs for tensor, _, _ in output.parts]
        wholes = {self.model.whole_tensor(o): port for o, port in zip(self.model.outputs, self.outputs, strict=True)}
        return {t: port for t, port in wholes.items() if t is not None and t in written and reads.count(t) == 1}

    def _find_places(self) -> None:
        """Find where tensors lie that need no variable of their own."""
        places = self.tensors.places
        places |= {p.graph_name: Place(p.name) if self.streams else p.over_time for p in self.inputs}
        for tensor, port in self._written.items():
            places[tensor] = Place(port.name) if self.streams else port.over_time
        for tensor, port in self._passed.items():
            room = self.tensors.place(tensor).at()
            to = self.tensors.names.new(f"to_{tensor}")
            self.tensors.declare(f"{port.kind} *const {to} = ({port.name} == NULL) ? {room} : {port.name};")
            places[tensor] = Place(to)
        places |= self._room_places()
        for layer in self.layers:
            places |= layer.places()

    def _room_places(self) -> Mapping[str, Place]:
        """Return where tensors lie in the room that the caller gives."""
        return {}

    # Statements

    def _set_outputs(self) -> None:
        """Tell every layer for which outputs alone it is computed; none for a layer that a state depends on."""
        readers: dict[str, set[str]] = {}
        for output in self.model.outputs:
            for tensor, _, _ in output.parts:
                readers.setdefault(tensor, set()).add(output.name)
        for_states: set[str] = set()
        for code in reversed(self.layers):
            layer = code.layer
            stateful = code.keeps_state or layer.output in for_states
            code.outputs = frozenset() if stateful else frozenset(readers.get(layer.output, ()))
            for tensor in layer.inputs:
                readers.setdefault(tensor, set()).update(code.outputs)
            for_states.update(layer.inputs if stateful else ())

    def output(self, output: GraphOutput, port: Port) -> list[str]:
        """Return statements that fill an output, of a step where it is over time, from its tensors."""
        to = Place(port.name) if self.streams else port.over_time
        whole = self.model.whole_tensor(output)
        if whole in self._written or whole in self._passed or output.name in self._given:
            return []
        if whole is not None:
            return [copy(to.at(), self.tensors.place(whole).at(), port.count, port.kind)]
        return [self._gather(part, port, to) for part in output.parts]

    def _gather(self, part: tuple[str, Int64Array, Int64Array], port: Port, to: Place) -> str:
        """Return the statement that fills positions of an output with features of a tensor."""
        tensor, indices, positions = part
        read, write = (
            self.code.shared_array("uint16_t", f"{word}_{port.name}", values.astype(np.int32))
            for word, values in (("from", indices), ("to", positions))
        )
        source = "cells" if is_cell_tensor(self.model, tensor) else "values"
        function = "qrnn_gather" if port.kind == "int16_t" else f"qrnn_gather_{source}_32"
        self.code.features.add(f"QRNN_USE_{function[5:].upper()}")
        self.code.headers.add("qrnn_vectors.h")
        return f"{function}({self.tensors.place(tensor).at()}, {read}, {write}, {len(indices)}U, {to.at()});"

    def conditioned(self, statements: Iterable[Statements]) -> list[str]:
        """Return the statements, with a condition around those that are for outputs alone: that one of these outputs is asked for."""
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

    def stepped(self, code: AnyCode) -> list[str]:
        """Return the statements of a layer's time step, and those that trace it."""
        return [*code.step(), *self.traced(code)]

    def traced(self, code: AnyCode) -> list[str]:
        """Return the statements that trace what a layer has just written; see `qrnn.export.trace`."""
        found = []
        for tensor in code.layer.outputs:
            wanted = self._site.is_read(tensor) or (self.streams and tensor == code.layer.output)
            if wanted and tensor in self.tensors.places:
                one = self.streams or not self.model.tensors[tensor].has_time
                rows = "1U" if one else self.tensors.rows_of(tensor)
                found.append(traced_rows(self.model, self.name, tensor, self.tensors.places[tensor], rows))
        return found

    def _step(self) -> str:
        statements: list[Statements] = [(layer.outputs, self.stepped(layer)) for layer in self.layers]
        for output, port in zip(self.model.outputs, self.outputs, strict=True):
            statements.append((frozenset({output.name}), self.output(output, port)))
        return self.function("step", self.parameters(), self.conditioned(statements))

    def _run_of_steps(self) -> str:
        arguments = ["state", *(p.over_time.at() for p in self.inputs)]
        for port in self.outputs:
            condition = f"{port.name} == NULL" if port.has_time else "(t + 1U) < length"
            arguments.append(f"({condition}) ? NULL : {port.over_time.at()}")
        call = ",\n                ".join(arguments)
        body = ["for (uint32_t t = 0U; t < length; t++) {", f"    {self.name}_step({call});", "}"]
        self.tensors.declared = []
        return self.function("run", self.parameters(run=True), body)

    def parameters(self, run: bool = False) -> str:
        """Return the parameters of a public function, which take whole sequences with ``run``, else one step."""
        found = [f"{self.name}_state *state", *(f"const {p.kind} *{p.name}" for p in self.inputs)]
        found += [f"uint32_t {name}" for name in self.lengths.values()] if run else []
        found += [f"{p.kind} *{p.name}" for p in self.outputs]
        return ", ".join(found + (["int16_t *work"] if run and not self.streams else []))

    def function(self, verb: str, parameters: str, body: Sequence[str], kind: str = "void") -> str:
        """Return the text of the public function ``NAME_verb``, which returns a ``kind``."""
        declared = self.tensors.declared
        unused = ["(void)state;"] if not self.fields and not (self.streams and verb == "run") else []
        lines = [*declared, *([""] if declared else []), *unused, *body]
        return "\n".join(
            [f"{kind} {self.name}_{verb}({parameters})", "{", *(f"    {s}" if s else "" for s in lines), "}"]
        )
