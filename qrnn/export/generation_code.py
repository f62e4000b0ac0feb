"""The C that chooses tokens and feeds outputs back: NAME_choose and NAME_generate, or NAME_transduce of a transducer."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.export.c_text import array, comment
from qrnn.export.code import Code
from qrnn.export.flow import Flow
from qrnn.export.generation import PlannedGeneration
from qrnn.export.loops.expressions import Surroundings
from qrnn.export.loops.source import Absent, Named, made, parameter_names, row_statements
from qrnn.export.loops.translator import WIDE_HEADER, Translator
from qrnn.export.loops.values import INT32, Array, number, wide
from qrnn.export.names import LOCALS, Names
from qrnn.export.ports import Port
from qrnn.model.choosing import choice_loop
from qrnn.model.kinds.argmax import argmax_rows
from qrnn.model.layer_facts import RowLoop
from qrnn.model.parts import Int64Array


class GenerationCode:
    """The functions of generation of one model, whose layers ``flow`` has."""

    def __init__(self, flow: Flow, code: Code, plan: PlannedGeneration) -> None:
        self.name, self.flow, self.code, self.plan = flow.name, flow, code, plan
        feedback = plan.feedback
        self.fed = next(p for p in flow.inputs if p.graph_name == feedback.input.name)
        self.read = next(p for p in flow.outputs if p.graph_name == feedback.output.name)
        self.others = [p for p in flow.inputs if p is not self.fed]
        self.kind, self.draws = feedback.kind, plan.generation.sampling is not None
        ports = [p.name for p in (*flow.inputs, *flow.outputs, *(s.port for s in flow.given))]
        names = Names([*LOCALS, *ports], (f"{self.name}_", "qrnn_"))
        local = "prompt choice draws steps stop stops generated count chosen next token most room places given before"
        self.local = {word: names.new(word) for word in local.split()}
        self.prototypes: list[tuple[str, list[str]]] = []
        """The declarations of the public functions, with what is said of each."""

    def functions(self) -> list[str]:
        """Return the definitions of the public functions."""
        found = [] if self.kind == "values" else [self._choose()]
        return [*found, self._transduce() if self.plan.blank is not None else self._generate()]

    def header(self) -> list[str]:
        """Return the types, macros and declarations of the public header; call `functions` before."""
        name, lines = self.name, [""]
        if self.draws:
            n = self.plan.numbers
            lines += [
                "/* How a token is chosen. A multiplier of 0 takes the largest score, of equal ones the first. With another, a token is",
                f" * drawn by weights of e^(-d / temperature), d its distance from the largest score: {self._multiplier()}.",
                " * top_k keeps so many of the largest scores, and top_p the likeliest whose probabilities add up to top_p / 65536;",
                " * 0 keeps all. */",
                f"typedef struct {{ int32_t multiplier; int32_t shift; int32_t top_k; int32_t top_p; }} {name}_choice;",
                f"#define {name.upper()}_LARGEST {{0, 0, 0, 0}}",
                f"#define {name.upper()}_CHOICE {{{n.multiplier}, {n.shift}, {n.top_k}, {n.top_p}}}",
                "",
                "/* The draws of a sequence: its seed, and how many it has had; the lower 32 bits come first. */",
                f"typedef struct {{ uint32_t seed[2]; uint32_t drawn[2]; }} {name}_draws;",
                "",
            ]
        for prototype, said in self.prototypes:
            first, *rest = said
            lines += [f"/* {first}", *(f" * {line}" for line in rest)]
            lines[-1] += " */"
            lines += [f"{prototype};", ""]
        return lines[:-1]

    def _multiplier(self) -> str:
        scored = self.plan.feedback.scored
        assert scored is not None
        unit = "2^-24" if scored.kind == "probabilities" else repr(scored.unit)
        return f"{unit} * log2(e) / temperature = multiplier / 2^(20 + shift)"

    # --- choosing -------------------------------------------------------------------------------------------------------------------------

    def _choose(self) -> str:
        name, own, scored = self.name, self.local, self.plan.feedback.scored
        assert scored is not None
        parameters = [f"const {name}_choice *{own['choice']}", f"{name}_draws *{own['draws']}"] if self.draws else []
        parameters.append(f"const {self.read.kind} *{self.read.name}")
        head = f"uint32_t {name}_choose({', '.join(parameters)})"
        said = [
            f"The token that {scored.count} scores of output {self.read.name} choose: the largest, of equal ones the first."
        ]
        if self.draws:
            said = [
                f"The token that {scored.count} scores of output {self.read.name} choose. One that is drawn counts in draws."
            ]
        self.prototypes.append((head, said))
        if scored.kind == "index":
            return "\n".join([head, "{", f"    return (uint32_t){self.read.name}[0];", "}"])
        body, source, kind = [], self.read.name, self.read.kind
        if (offsets := self.plan.level_offsets) is not None:
            table = self.code.shared_array("int32_t", f"{name}_levels", offsets.astype(np.int32))
            body += [f"    int32_t level[{scored.count}];", ""]
            body += [
                f"    for (uint32_t k = 0U; k < {scored.count}U; k++) {{",
                f"        level[k] = {source}[k] + {table}[k];",
                "    }",
            ]
            source, kind = "level", "int32_t"
        row = self._row(kind)
        body.append("    int32_t token[1];")
        if not self.draws:
            body += ["", f"    {row}({source}, token);"]
        else:
            c, d = own["choice"], own["draws"]
            body.append(f"    const uint32_t words[4] = {{{d}->seed[0], {d}->seed[1], {d}->drawn[0], {d}->drawn[1]}};")
            body += ["", f"    {row}({source}, words, {c}->multiplier, {c}->shift, {c}->top_k, {c}->top_p, token);"]
            body += [f"    if ({c}->multiplier > 0) {{", f"        {d}->drawn[0]++;"]
            body += [f"        {d}->drawn[1] += ({d}->drawn[0] == 0U) ? 1U : 0U;", "    }"]
        return "\n".join([head, "{", *body, "    return (uint32_t)token[0];", "}"])

    def _row(self, kind: str) -> str:
        """Add the function that chooses by one row of scores, translated from its definition, and return its name."""
        scored = self.plan.feedback.scored
        assert scored is not None
        loop = RowLoop(argmax_rows, (0,), ("scores",))
        if self.draws:
            loop = choice_loop(self.plan.numbers, scored.kind == "probabilities")
        function = made(loop.make)
        first, last, *others, out = parameter_names(function)
        lead, statements = row_statements(function, first, last)
        name = self.code.names.new(f"{self.name}_choose_row")
        named: dict[str, Named] = {key: Absent("the row") for key in (first, last, lead)}
        words = Array("words", "uint32_t", (4,), (lead,), 0, (1 << 32) - 1)
        arrays = (Array("scores", kind, (scored.count,), (lead,)), words)
        named |= dict(zip(others[len(loop.parameters) :], arrays, strict=False))
        named[out] = Array("token", "int32_t", (1,), (lead,), writable=True)
        heads = [f"const {kind} *scores", *(["const uint32_t *words"] if self.draws else [])]
        tables: dict[str, Any] = {}
        for key, value in zip(others, loop.parameters, strict=False):
            if isinstance(value, np.ndarray):
                tables[key] = value
            elif key in vars(self.plan.numbers):
                named[key] = wide(key)
                heads.append(f"int64_t {key}")
            else:
                named[key] = number(int(value))

        def table(key: str) -> Array | None:
            if key not in tables:
                return None
            text = self.code.shared_array("int32_t", f"{self.name}_{key}", tables[key])
            return Array(text, "int32_t", tables[key].shape, (), *INT32, constant=True)

        taken = ["scores", "words", "token", *vars(self.plan.numbers)]
        body = Translator(function, named, Surroundings(Names(taken, (f"{self.name}_", "qrnn_")), array=table)).body(
            statements
        )
        self.code.headers.add(WIDE_HEADER)
        said = comment("Choose a token by its scores.")
        head = f"static void {name}({', '.join([*heads, 'int32_t *token'])})"
        self.code.functions.append("\n".join([said, head, "{", *body.lines, "}"]))
        return name

    # --- generating -----------------------------------------------------------------------------------------------------------------------

    def _call(self, fed: str, step: str, scores: str) -> str:
        """Return the call of a step: what is fed, the other inputs of a step, and where the output goes that is fed back."""
        arguments = ["state"]
        arguments += [fed if port is self.fed else port.over_time.at(step) for port in self.flow.inputs]
        arguments += [scores if port is self.read else "NULL" for port in self.flow.outputs]
        return f"{self.name}_step({', '.join(arguments)});"

    def _chosen(self) -> str:
        chosen = [self.local["choice"], self.local["draws"]] if self.draws else []
        return f"{self.name}_choose({', '.join([*chosen, self.read.name])})"

    def _choice_parameters(self) -> list[str]:
        if not self.draws:
            return []
        return [f"const {self.name}_choice *{self.local['choice']}", f"{self.name}_draws *{self.local['draws']}"]

    def _stop(self, indent: str) -> list[str]:
        own = self.local
        return [
            f"{indent}for (uint32_t k = 0U; k < {own['stops']}; k++) {{",
            f"{indent}    if ({own['stop']}[k] == {own['chosen']}) {{",
            f"{indent}        return {own['count']};",
            f"{indent}    }}",
            f"{indent}}}",
        ]

    def _one_hot(self, indent: str, place: str) -> list[str]:
        """Return statements that set what is fed to 1 at the place of the chosen token, and to 0 elsewhere."""
        zero, one = (
            self._constants(f"{self.name}_fed_{word}", v, "int16_t")
            for word, v in zip(("zero", "one"), self.plan.one_hot_integers, strict=True)
        )
        value = f"({place} == k) ? {one} : {zero}"
        return [
            f"{indent}for (uint32_t k = 0U; k < {self.fed.count}U; k++) {{",
            f"{indent}    {self.local['next']}[k] = (int16_t)({value});",
            f"{indent}}}",
        ]

    def _constants(self, name: str, values: Int64Array, kind: str) -> str:
        """Return the expression of element k of constants: one number where all are equal, else an array's element."""
        if (values == values[0]).all():
            return f"INT64_C({values[0]})" if kind == "int64_t" else str(values[0])
        text = self.code.names.new(name)
        self.code.define(array(kind, text, values))
        return f"{text}[k]"

    def _generate(self) -> str:
        name, own = self.name, self.local
        values = self.kind == "values"
        result = own["generated"]
        parameters = [f"{name}_state *state", *self._choice_parameters(), f"const {self.fed.kind} *{own['prompt']}"]
        parameters += [f"const {p.kind} *{p.name}" for p in self.others]
        parameters += ["uint32_t length", f"uint32_t {own['steps']}"]
        parameters += (
            [f"int16_t *{result}"]
            if values
            else [f"const uint16_t *{own['stop']}", f"uint32_t {own['stops']}", f"uint16_t *{result}"]
        )
        head = f"uint32_t {name}_generate({', '.join(parameters)})"
        more = "The other inputs over time have a row for each step of both but the last."
        rows = [more] if any(p.has_time for p in self.others) else []
        what = f"{self.fed.name}, of which there is at least one"
        if values:
            said = [f"`{own['steps']}` steps of {self.read.name}, each fed back, that follow `length` steps of {what}."]
        else:
            said = [
                f"Up to `{own['steps']}` tokens that follow `length` steps of {what}.",
                f"One of `{own['stops']}` tokens `{own['stop']}` is the last.",
            ]
        said += [*rows, "The state is carried on: it is that before the last one is fed. Returns how many there are."]
        self.prototypes.append((head, said))
        room = self.fed.count if self.kind != "tokens" else 1
        prompt = Port("", own["prompt"], self.fed.kind, self.fed.count, True).over_time.at()
        scores = "NULL" if values else self.read.name
        body = [] if values else [f"    int16_t {self.read.name}[{self.read.count}];"]
        body += [f"    {self.fed.kind} {own['next']}[{room}];", f"    uint32_t {own['count']} = 0U;", ""]
        fed = f"(t < length) ? {prompt} : {own['next']}"
        target = f"&{result}[{self.read.count}U * {own['count']}]" if values else scores
        wanted = f"((t + 1U) < length) ? NULL : {target}"
        body += [
            f"    for (uint32_t t = 0U; (length > 0U) && ({own['count']} < {own['steps']}); t++) {{",
            f"        {self._call(fed, 't', wanted)}",
        ]
        body += ["        if ((t + 1U) < length) {", "            continue;", "        }"]
        if values:
            body += self._feed_values(target)
            body += [f"        {own['count']}++;"]
        else:
            body += [f"        const uint32_t {own['chosen']} = {self._chosen()};", ""]
            body += (
                self._one_hot("        ", own["chosen"])
                if self.kind == "one_hot"
                else [f"        {own['next']}[0] = ({self.fed.kind}){own['chosen']};"]
            )
            body += [
                f"        {result}[{own['count']}] = (uint16_t){own['chosen']};",
                f"        {own['count']}++;",
                *self._stop("        "),
            ]
        return "\n".join([head, "{", *body, "    }", f"    return {own['count']};", "}"])

    def _feed_values(self, source: str) -> list[str]:
        fed, count = self.plan.fed, self.fed.count
        m, b, s = (
            self._constants(f"{self.name}_fed_{word}", values, kind)
            for word, values, kind in (
                ("multiplier", fed.multiplier, "int64_t"),
                ("bias", fed.bias, "int64_t"),
                ("shift", fed.shift, "uint8_t"),
            )
        )
        value = f"qrnn_fed_value(given[k], {m}, {b}, {s}, {fed.limit})"
        return [
            "        {",
            f"            const int16_t *given = {source};",
            "",
            f"            for (uint32_t k = 0U; k < {count}U; k++) {{",
            f"                {self.local['next']}[k] = (int16_t){value};",
            "            }",
            "        }",
        ]

    def _transduce(self) -> str:
        name, own = self.name, self.local
        token = self.fed.kind if self.kind == "tokens" else "uint16_t"
        parameters = [f"{name}_state *state", *self._choice_parameters(), f"{token} *{own['token']}"]
        parameters += [f"const {p.kind} *{p.name}" for p in self.others]
        parameters += [
            "uint32_t length",
            f"uint32_t {own['most']}",
            f"const uint16_t *{own['stop']}",
            f"uint32_t {own['stops']}",
        ]
        parameters += [f"uint32_t {own['room']}", f"uint16_t *{own['generated']}", f"uint32_t *{own['places']}"]
        head = f"uint32_t {name}_transduce({', '.join(parameters)})"
        room, most, before = own["room"], own["most"], f"`{own['token']}`"
        said = [
            f"The tokens of a transducer in `length` frames, at most `{room}`. In each frame tokens are chosen until one is the",
            f"blank, {self.plan.blank}, at which the state stays what it was, or until there are `{most}`. {before} is the token before",
            f"the first, and then the last. One of `{own['stops']}` tokens `{own['stop']}` ends it. `{own['places']}`, which may be NULL,",
            "gets the frame of each token. Returns how many there are.",
        ]
        self.prototypes.append((head, said))
        body = [f"    int16_t {self.read.name}[{self.read.count}];"]
        fed = own["token"]
        if self.kind == "one_hot":
            body.append(f"    int16_t {own['next']}[{self.fed.count}];")
            fed = own["next"]
        body += [f"    uint32_t {own['count']} = 0U;", ""]
        body += [f"    for (uint32_t t = 0U; (t < length) && ({own['count']} < {own['room']}); t++) {{"]
        given, going_on = own["given"], f"({own['count']} < {room})"
        body += [f"        for (uint32_t {given} = 0U; ({given} < {most}) && {going_on}; {given}++) {{"]
        body += [f"            const {name}_state {own['before']} = *state;", ""]
        body += self._one_hot("            ", f"*{own['token']}") if self.kind == "one_hot" else []
        body += [f"            {self._call(fed, 't', self.read.name)}"]
        body += [
            f"            const uint32_t {own['chosen']} = {self._chosen()};",
            "",
            f"            if ({own['chosen']} == {self.plan.blank}U) {{",
        ]
        body += [f"                *state = {own['before']};", "                break;", "            }"]
        body += [
            f"            *{own['token']} = ({token}){own['chosen']};",
            f"            {own['generated']}[{own['count']}] = (uint16_t){own['chosen']};",
        ]
        body += [
            f"            if ({own['places']} != NULL) {{",
            f"                {own['places']}[{own['count']}] = t;",
            "            }",
        ]
        body += [f"            {own['count']}++;", *self._stop("            "), "        }"]
        return "\n".join([head, "{", *body, "    }", f"    return {own['count']};", "}"])
