"""A model with strides, delays or repetition has a layer that may give no row of its output for a step, or several; its functions are here.

Every tensor over time has a clock: the graph's inputs, or the layer that counts the rows from which it is computed. NAME_step does what the
inputs' clock drives; for each row that comes out of a counting layer it calls a function, which does what that layer's clock drives. All
outputs over time have one clock, whose rows NAME_step counts. NAME_finish drives layers with a delay past the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from qrnn.errors import UnsupportedError
from qrnn.export.c_text import reads
from qrnn.export.code import Code
from qrnn.export.flow import Flow, Statements, code_of
from qrnn.export.following import FollowingCode, clocks
from qrnn.export.layer_code import AnyCode
from qrnn.export.ports import Place, Port
from qrnn.export.trace import traced_rows
from qrnn.model.float_model import GraphOutput
from qrnn.model.layer import QuantLayer
from qrnn.model.quant_model import QuantModel

Clock = AnyCode | None
"""The layer that counts rows; None for the inputs."""


class CountedFlow(Flow):
    """The `Flow` of a model whose steps may give no row, or several."""

    def __init__(self, model: QuantModel, name: str, code: Code) -> None:
        counting = {layer.name for layer in model.layers if code_of(model, layer).counts_rows}
        self._names = clocks(model, counting)
        super().__init__(model, name, code)
        self._followers = [c for c in self.layers if isinstance(c, FollowingCode)]
        self._twin_rows = {name: self.tensors.names.new("row") for name in self._names.twins}
        self._clocks = self._tensor_clocks()
        self._parents: dict[str, Clock] = {
            c.layer.name: self._clocks[c.layer.inputs[0]] for c in self.layers if c.counts_rows
        }
        self._counted = self._output_clock()
        names = self.tensors.names
        self._row, self._rows, self._count, self._index = (names.new(n) for n in ("row", "rows", "count", "r"))
        self._stages: list[str] = []
        self._check_places()

    def code_of(self, layer: QuantLayer) -> type[AnyCode]:
        """Return the class that makes the C of a layer: another one for a layer of kind align that follows one."""
        return FollowingCode if layer.name in self._names.follows else super().code_of(layer)

    def functions(self) -> list[str]:
        """Return the functions that layers' rows drive, NAME_step, NAME_finish where a layer has a delay, and NAME_run."""
        found = [self._counted_step(), self._counted_run()]
        found += [self._finish()] if self._delayed() else []
        return [*self._stages, *found]

    def prototypes(self) -> list[str]:
        """Return the declarations of the public ones among `functions`."""
        step = f"uint32_t {self.name}_step({self.parameters()})"
        run = f"uint32_t {self.name}_run({self.parameters(run=True)})"
        finish = [f"uint32_t {self.name}_finish({self._finish_parameters()})"] if self._delayed() else []
        return [step, run, *finish]

    @property
    def counts_rows(self) -> bool:
        """Return True."""
        return True

    @property
    def step_rows(self) -> int:
        """Return the most rows that a step may give."""
        return self._rows_below(self._counted, None)

    @property
    def finish_rows(self) -> int:
        """Return the most rows that the end of a sequence may give."""
        return sum(
            code.layer.steps_past_end * code.most_rows * self._rows_below(self._counted, code)
            for code in self._delayed()
            if self._leads(code, self._counted)
        )

    def _rows_below(self, clock: Clock, top: Clock) -> int:
        """Return the most rows of ``clock`` for one row of ``top``."""
        found = 1
        while clock is not None and clock is not top:
            found *= clock.most_rows
            clock = self._parents[clock.layer.name]
        return found

    def _delayed(self) -> list[AnyCode]:
        return [code for code in self.layers if code.steps_past_end > 0]

    # Clocks

    def _tensor_clocks(self) -> dict[str, Clock]:
        """Return the clock of each tensor over time."""
        found: dict[str, Clock] = {i.name: None for i in self.model.inputs if i.has_time}
        by_name = {code.layer.name: code for code in self.layers}
        for code in self.layers:
            if code.layer.name in self._names.follows:
                found[code.layer.output] = by_name[self._names.follows[code.layer.name]]
                continue
            given = [
                t for t in code.layer.inputs if t in found
            ]  # all of one clock: see `qrnn.export.whole_flow.why_whole`
            for tensor in code.layer.outputs if given else ():
                if self.model.tensors[tensor].has_time:
                    own = by_name[self._names.twins.get(code.layer.name, code.layer.name)]
                    found[tensor] = own if code.counts_rows else found[given[0]]
        return found

    def _output_clock(self) -> Clock:
        """Return the clock of the outputs over time; where there are none, that of the last layer over time."""
        found: dict[int, tuple[str, Clock]] = {}
        for output in self.model.outputs:
            for tensor, _, _ in output.parts if output.has_time else ():
                found.setdefault(id(self._clocks[tensor]), (output.name, self._clocks[tensor]))
        if len(found) > 1:
            (a, _), (b, _) = list(found.values())[:2]
            raise UnsupportedError(
                f"outputs {a} and {b} go over time at different rates, and a step in C counts the rows of one; export a model for each"
            )
        if found:
            return next(iter(found.values()))[1]
        return self._clocks[next(c.layer for c in reversed(self.layers) if c.layer.inputs[0] in self._clocks).inputs[0]]

    def _leads(self, top: Clock, clock: Clock) -> bool:
        """Return whether rows of ``clock`` follow from rows of ``top``."""
        while clock is not None and clock is not top:
            clock = self._parents[clock.layer.name]
        return clock is top

    def _clock_of(self, code: AnyCode) -> tuple[bool, Clock]:
        """Return whether a layer is computed over time, and the clock that drives it."""
        for tensor in code.layer.inputs:
            if tensor in self._clocks:
                return True, self._clocks[tensor]
        return False, None

    def _check_places(self) -> None:
        """Raise UnsupportedError for a value without a time axis that is gone when the step is over."""
        timed = {t for code in self.layers if self._clock_of(code)[0] for t in code.layer.outputs}
        for tensor in timed:
            place = self.tensors.places.get(tensor)
            kept = place is not None and place.base.startswith("state->")
            if not self.model.tensors[tensor].has_time and not kept and self._site.is_read(tensor):
                raise UnsupportedError(
                    f"tensor {tensor} is the end of a layer without memory, in a model that does not give a row for each step: "
                    "it is not kept in C; leave it out of the outputs"
                )
        for code in self.layers:
            begins = [start for state in code.layer.states() for start in state.starts if start.value.any()]
            read = [t for t in code.layer.last_steps if self._site.is_read(t)]
            if begins and read and self._clock_of(code)[1] is not None:
                raise UnsupportedError(
                    f"tensor {read[0]} is the state of layer {code.layer.name}, which does not begin at 0, after steps that may give no row: "
                    "C has no zeros for a sequence without rows; leave it out of the outputs, or begin at 0"
                )

    # Statements

    def _driven(self, clock: Clock) -> list[Statements]:
        """Return what a row of a clock drives: layers, layers that count, and outputs."""
        found: list[Statements] = [
            (frozenset(), [*code.taken(), *self.traced(code)])
            for code in self._followers
            if self._clocks[code.layer.output] is clock
        ]
        for code in self.layers:
            if self._clock_of(code) != (True, clock):
                continue
            if code.counts_rows:
                found.append((frozenset(), self._counting(code)))
            else:
                found.append((code.outputs, code.step() if code in self._followers else self.stepped(code)))
        if clock is self._counted:
            for output, port in self._timed():
                found.append((frozenset({output.name}), self.output(output, port)))
        return found

    def _twins(self, code: AnyCode) -> list[AnyCode]:
        """Return the layers whose rows come in the same calls as those of a layer, which drives what they would."""
        return [c for c in self.layers if self._names.twins.get(c.layer.name) == code.layer.name]

    def _counting(self, code: AnyCode) -> list[str]:
        """Return a step of a layer that counts rows, and what its rows drive: nothing, where another layer does that for it."""
        call = code.call()
        if code.layer.name in self._names.twins:
            return [f"(void){call}"]
        stage = self._stage(code)
        if stage is None:
            return [f"(void){call}"]
        self.tensors.declare(f"uint32_t {self._count};")
        return [f"{self._count} = {call}", *self._came(code), *self._each_row(code, stage)]

    def _came(self, code: AnyCode) -> list[str]:
        """Return the statements that trace the rows that came out of a layer, and out of those that have theirs in the same calls."""
        found = []
        for own in (*self._twins(code), code):
            rows = replace(own.own_place(), stride=own.features)
            found.append(traced_rows(self.model, self.name, own.layer.output, rows, self._count))
        return found

    def _each_row(self, code: AnyCode, stage: str) -> list[str]:
        """Return the loop over the rows that came out of a layer."""
        r, leads = self._index, self._leads(code, self._counted)
        row = self._row_at(code, r)
        others = [self._row_at(twin, r) for twin in self._twins(code)]
        arguments = ["state", row, *others, *(self._further(port) for _, port in self._timed() if leads)]
        call = f"{stage}({', '.join(arguments)});"
        if leads:
            self.tensors.declare(f"uint32_t {self._rows} = 0U;")
            call = f"{self._rows} += {call}"
        return [f"for (uint32_t {r} = 0U; {r} < {self._count}; {r}++) {{", f"    {call}", "}"]

    def _row_at(self, code: AnyCode, r: str) -> str:
        """Return where row ``r`` of those that came out of a layer lies."""
        rows = code.own_place()
        return rows.base if code.most_rows == 1 else f"&{rows.base}[{code.features}U * {r}]"

    def _further(self, port: Port) -> str:
        """Return where the next row of an output lies, behind those that came out."""
        return f"({port.name} == NULL) ? NULL : &{port.name}[{port.count}U * {self._rows}]"

    def _timed(self) -> list[tuple[GraphOutput, Port]]:
        return [(o, p) for o, p in zip(self.model.outputs, self.outputs, strict=True) if p.has_time]

    def _stage(self, code: AnyCode) -> str | None:
        """Write the function that does what a row of a counting layer drives, and return its name; None where the row drives nothing.

        The function returns how many rows of the outputs came out.
        """
        name = f"{code.name}_row"
        leads = self._leads(code, self._counted)
        if not leads and not any(self._clock_of(c) == (True, code) for c in self.layers):
            return None
        if any(f" {name}(" in text for text in self._stages):
            return name
        outer, self.tensors.declared = self.tensors.declared, []
        rows = {code.layer.output: self._row}
        rows |= {twin.layer.output: self._twin_rows[twin.layer.name] for twin in self._twins(code)}
        places = {tensor: self.tensors.places[tensor] for tensor in rows}
        self.tensors.places |= {tensor: Place(row) for tensor, row in rows.items()}
        body = self.conditioned(self._driven(code))
        self.tensors.places |= places
        parameters = [f"{self.name}_state *state", *(f"const int16_t *{row}" for row in rows.values())]
        parameters += [f"{p.kind} *{p.name}" for _, p in self._timed() if leads]
        body += [self._returned(code)] if leads else []
        text = "\n".join([*self.tensors.declared, *body])
        used = [p.split()[-1].lstrip("*") for p in parameters]
        unused = [f"(void){p};" for p in used if not reads(text, p)]
        kind = "uint32_t" if leads else "void"
        self._stages.append(self._text(f"static {kind} {name}({', '.join(parameters)})", [*unused, *body]))
        self.tensors.declared = outer
        return name

    def _returned(self, clock: Clock) -> str:
        return "return 1U;" if clock is self._counted else f"return {self._rows};"

    def _before(self) -> list[Statements]:
        """Return what no step changes: layers of inputs without a time axis, which layers over time may repeat."""
        return [(code.outputs, self.stepped(code)) for code in self._without_steps()]

    def _without_steps(self) -> list[AnyCode]:
        """Return the layers that are computed of inputs without a time axis alone."""
        known = {i.name for i in self.model.inputs if not i.has_time}
        found = []
        for code in self.layers:
            if known.issuperset(code.layer.inputs):
                known.update(code.layer.outputs)
                found.append(code)
        return found

    def _after(self) -> list[Statements]:
        """Return what follows the steps: layers without a time axis, and outputs without one."""
        before = self._without_steps()
        found = [
            (code.outputs, self.stepped(code))
            for code in self.layers
            if not self._clock_of(code)[0] and code not in before
        ]
        for output, port in zip(self.model.outputs, self.outputs, strict=True):
            if not port.has_time:
                found.append((frozenset({output.name}), self.output(output, port)))
        return found

    # Functions

    def _counted_step(self) -> str:
        body = self.conditioned([*self._before(), *self._driven(None), *self._after()])
        return self._whole("step", self.parameters(), [*body, self._returned(None)])

    def _counted_run(self) -> str:
        arguments = ["state", *(p.over_time.at() for p in self.inputs)]
        arguments += [
            self._further(p) if p.has_time else f"((t + 1U) < length) ? NULL : {p.name}" for p in self.outputs
        ]
        call = ",\n                ".join(arguments)
        self.tensors.declare(f"uint32_t {self._rows} = 0U;")
        head = "for (uint32_t t = 0U; t < length; t++) {"
        body = [head, f"    {self._rows} += {self.name}_step({call});", "}", f"return {self._rows};"]
        return self._whole("run", self.parameters(run=True), body)

    def _finish_parameters(self) -> str:
        found = [f"{self.name}_state *state", *(f"const {p.kind} *{p.name}" for p in self.inputs if not p.has_time)]
        return ", ".join([*found, *(f"{p.kind} *{p.name}" for p in self.outputs)])

    def _finish(self) -> str:
        body: list[str] = []
        beside: dict[int, list[AnyCode]] = {}  # layers with one clock take their steps past the end by turns
        for code in self._delayed():
            self.tensors.places.pop(code.layer.output, None)  # a variable of another function
            beside.setdefault(id(self._parents[code.layer.name]), []).append(code)
        for group in beside.values():
            most = max(code.steps_past_end for code in group)
            body.append(f"for (uint32_t t = 0U; t < {most}U; t++) {{")
            for code in group:
                lines = self._past(code)
                if code.steps_past_end < most:
                    lines = [f"if (t < {code.steps_past_end}U) {{", *(f"    {line}" for line in lines), "}"]
                body += [f"    {line}" for line in lines]
            body.append("}")
        body += [line for code in self._followers for line in code.ended()]
        self.tensors.declare(f"uint32_t {self._rows} = 0U;")
        body += self.conditioned([*self._before(), *self._after()])
        text = "\n".join([*self.tensors.declared, *body])
        unused = [p.name for p in (*self.inputs, *self.outputs) if (not p.has_time or p in self.outputs)]
        lines = [f"(void){p};" for p in unused if not reads(text, p)]
        return self._whole("finish", self._finish_parameters(), [*lines, *body, f"return {self._rows};"])

    def _past(self, code: AnyCode) -> list[str]:
        """Return a step past the end of a layer with a delay, and what its rows drive."""
        place = code.own_place()
        nothing = ", ".join("NULL" for _ in code.layer.inputs)
        call = f"{code.name}(state, {nothing}, {place.at()});"
        stage = None if code.layer.name in self._names.twins else self._stage(code)
        if stage is None:
            return [f"(void){call}"]
        self.tensors.declare(f"uint32_t {self._count};")
        return [f"{self._count} = {call}", *self._came(code), *self._each_row(code, stage)]

    def _of_after(self) -> Iterable[str]:
        """Yield tensors of layers without a time axis that lie in variables of the function that is being written."""
        ports = {p.name for p in self.outputs}
        for code in self.layers:
            place = self.tensors.places.get(code.layer.output)
            if not self._clock_of(code)[0] and place is not None and place.base not in ports:
                yield code.layer.output

    def _whole(self, verb: str, parameters: str, body: list[str]) -> str:
        text = self._text(f"uint32_t {self.name}_{verb}({parameters})", body)
        self.tensors.declared = []
        for tensor in list(self._of_after()):
            self.tensors.places.pop(tensor)
        return text

    def _text(self, head: str, body: list[str]) -> str:
        declared = self.tensors.declared
        lines = [*declared, *([""] if declared else []), *body]
        return "\n".join([head, "{", *(f"    {s}" if s else "" for s in lines), "}"])
