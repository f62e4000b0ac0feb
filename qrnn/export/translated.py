"""The C of layers whose kind has none of its own is their definition (`row_loops`, `step_loop`), translated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from qrnn.errors import UnsupportedError
from qrnn.export.c_text import array, comment, reads
from qrnn.export.code import Code
from qrnn.export.layer_code import LayerCode
from qrnn.export.loops.expressions import Surroundings, Translation
from qrnn.export.loops.source import Absent, Named, Step, given_to_contract, made, parameter_names, row_statements
from qrnn.export.loops.translator import WIDE_HEADER, Translator
from qrnn.export.loops.values import Array, LoopError, number, type_of, type_of_dtype
from qrnn.export.names import Names
from qrnn.export.ports import Element
from qrnn.export.steps_code import StepsCode
from qrnn.model.layer import QuantLayer
from qrnn.model.layer_facts import RowLoop, StepLoop

ROWS = -1
"""The length of an axis that C does not know."""


@contextmanager
def refusals(layer: QuantLayer, what: str) -> Iterator[None]:
    """Raise UnsupportedError for a loop that is not translated."""
    try:
        yield
    except LoopError as error:
        raise UnsupportedError(
            f"layer {layer.name}, of kind {type(layer).__name__}: its {what} is not translated to C: {error}; "
            "write it in the language that qrnn.model.layer_facts.StepLoop describes"
        ) from None


def dot_function(code: Code, prefix: str, weight: str, x: str) -> str:
    """Return the name of the function that multiplies a row of weights of a type by an array of another."""
    kind = weight.removeprefix("QRNN_FLASH ")
    constant = "" if kind == weight else "constant_"
    key = f"{prefix}_dot_{constant}{kind.removesuffix('_t')}_{x.removesuffix('_t')}"
    if key not in code.helpers:
        name = code.helpers[key] = code.names.new(key)
        narrow = {kind, x} <= {"int8_t", "uint8_t", "int16_t"}
        total = "int32_t" if narrow else "int64_t"
        result = "total" if narrow else "(int32_t)total"
        lines = [
            "/* The sum of weight * x over a row, within 32 bits. */",
            f"static int32_t {name}(const {weight} *weight, const {x} *x, uint32_t count)",
            "{",
            f"    {total} total = 0;",
            "",
            "    for (uint32_t k = 0U; k < count; k++) {",
            f"        total += ({total})weight[k] * x[k];",
            "    }",
            f"    return {result};",
            "}",
        ]
        code.functions.append("\n".join(lines))
    return code.helpers[key]


class Parameters:
    """The parameters of a loop: numbers, and constant arrays that are in C if the loop uses them."""

    def __init__(
        self, code: Code, name: str, function: Callable[..., Any], names: Sequence[str], values: Sequence[Any]
    ) -> None:
        self._code, self._name = code, name
        self._arrays: dict[str, Any] = {}
        self.numbers: dict[str, Named] = {}
        axes = {key: value.ndim for key, value in zip(names, values, strict=True) if isinstance(value, np.ndarray)}
        whole = given_to_contract(function, axes)
        for key, value in zip(names, values, strict=True):
            if isinstance(value, np.ndarray) and value.ndim:
                if value.dtype.kind not in "iu" and value.dtype != np.bool_:
                    raise LoopError(f"the parameter {key} is an array of {value.dtype}")
                kind = "int32_t" if key in whole else type_of(value)
                self._arrays[key] = value.astype(np.int64), kind
            elif isinstance(value, int | np.integer | np.bool_) or (
                isinstance(value, np.ndarray) and value.dtype.kind in "iu"
            ):
                self.numbers[key] = number(int(value))
            else:
                raise LoopError(f"the parameter {key} is a {type(value).__name__}")

    def array(self, key: str) -> Array | None:
        """Return the array of a name, and put it into the code."""
        if key not in self._arrays:
            return None
        values, kind = self._arrays[key]
        low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
        if kind == "int32_t" and not -(1 << 31) <= low <= high < 1 << 31:
            raise LoopError(f"the parameter {key}, which the contract reads, does not fit 32 bits")
        text = self._code.names.new(f"{self._name}_{key}")
        self._code.define(array(kind, text, values if values.size else np.zeros(1, np.int64)))
        self._code.weight_bytes += values.size * int(kind.removeprefix("int").removesuffix("_t")) // 8
        return Array(text, kind, values.shape, (), low, high, constant=True)


def translate_rows(
    code: Code, prefix: str, layer: QuantLayer, found: RowLoop, name: str, features: dict[str, int], tokens: int
) -> None:
    """Add the function ``name`` (inputs…, y) of one row.

    ``features`` has those of the inputs and of the output; ``tokens`` is the vocabulary of inputs that are tokens, or 0.
    """
    with refusals(layer, "loop over rows"):
        function = made(found.make)
        names = parameter_names(function)
        if len(names) != 3 + len(found.parameters) + len(found.inputs):
            raise LoopError(
                f"it has {len(names)} parameters for {len(found.parameters)} numbers and {len(found.inputs)} inputs"
            )
        first, last, *others, out = names
        numbers, inputs = others[: len(found.parameters)], others[len(found.parameters) :]
        lead, statements = row_statements(function, first, last)
        parameters = Parameters(code, name, function, numbers, found.parameters)
        own = Names(["y", "state"], (f"{prefix}_", "qrnn_"))
        named: dict[str, Named] = dict(parameters.numbers)
        for key in (first, last, lead):
            named[key] = Absent("the row that is computed")
        heads, begin = [], []
        for key, tensor in zip(inputs, found.inputs, strict=True):
            text = own.new(key)
            if tokens:
                heads.append(f"uint32_t {text}")
                token = own.new(f"{key}_value")
                begin.append(
                    f"    const int64_t {token} = ({text} < {tokens}U) ? {text} : {tokens - 1}U; /* nothing beyond a table is read */"
                )
                named[key] = Array(token, "int64_t", (), (lead,), 0, tokens - 1)
            else:
                kind: Element = "int32_t" if tensor in layer.reads_cells else "int16_t"
                heads.append(f"const {kind} *{text}")
                named[key] = Array(text, kind, (features[tensor],), (lead,))
        named[out] = Array("y", "int16_t", (features[layer.output],), (lead,), writable=True)
        around = Surroundings(own, array=parameters.array, dot=lambda weight, x: dot_function(code, prefix, weight, x))
        body = Translator(function, named, around).body(statements)
    heads.append("int16_t *y")
    _function(code, f"static void {name}", heads, [*begin, *body.lines], f"A row of {layer.name}.")


def translate_step(
    code: Code,
    prefix: str,
    layer: QuantLayer,
    found: StepLoop,
    name: str,
    head: str,
    states: Sequence[Array],
    sizes: Sequence[int],
) -> tuple[int, int]:
    """Add the function ``name`` (``head``, inputs…, y) of one step, which returns how many rows it wrote; return the least and most of them.

    ``head`` has the parameters of C that hold the states; ``states`` the array in C of each of the loop's; ``sizes`` the features of each
    input and of y.
    """
    with refusals(layer, "step"):
        function = made(found.make)
        names = parameter_names(function)
        *inputs, rows = sizes
        n, t, k, *given, out = names[: 4 + len(inputs)]
        others, texts = names[4 + len(inputs) :], ["x"] if len(inputs) == 1 else [f"x{i}" for i in range(len(inputs))]
        if len(others) != len(states) + len(found.parameters) + len(found.scratch):
            raise LoopError(
                f"it has {len(others)} parameters after out for {len(states)} states, {len(found.parameters)} numbers "
                f"and {len(found.scratch)} scratch arrays"
            )
        kept, numbers = others[: len(states)], others[len(states) : len(states) + len(found.parameters)]
        parameters = Parameters(code, name, function, numbers, found.parameters)
        own = Names(["y", *texts, "state", "scratch", *(a.text for a in states)], (f"{prefix}_", "qrnn_"))
        named: dict[str, Named] = {
            **parameters.numbers,
            n: Absent("the sequence, the first index of every array"),
            t: Step(texts[0]),
            k: Absent("the first row that is written"),
            **{x: Array(text, "int16_t", (size,), (n, t)) for x, text, size in zip(given, texts, inputs, strict=True)},
            out: Array("y", "int16_t", (ROWS, rows), (n,), writable=True),
        }
        for key, state in zip(kept, states, strict=True):
            named[key] = Array(state.text, state.kind, state.shape, (n,), writable=ROWS not in state.shape)
        room = []
        for key, scratch in zip(others[len(states) + len(found.parameters) :], found.scratch, strict=True):
            text, kind = own.new(key), type_of_dtype(scratch.dtype)
            room.append((text, f"    {kind} {text}[{max(1, int(np.prod(scratch.shape)))}];"))
            named[key] = Array(text if scratch.shape else f"{text}[0]", kind, tuple(scratch.shape), (n,), writable=True)
        around = Surroundings(
            own, "uint32_t", parameters.array, lambda weight, operand: dot_function(code, prefix, weight, operand)
        )
        body = Translator(function, named, around, k).body()
        most = _most_rows(body)
        written = "\n".join(body.lines)
        begin = []
        for text, line in room:
            if reads(written, text):
                begin += [line] if text in body.arrays_read else [line, f"    (void){text};"]
    heads = [*head.split(", "), *(f"const int16_t *{text}" for text in texts), "int16_t *y"]
    past = (
        f"{' and '.join(texts)} {'is' if len(texts) == 1 else 'are'} NULL past the end of the input, where it is zero."
    )
    what = f"A step of {layer.name}: how many rows of y came out. {past}"
    _function(code, f"static uint32_t {name}", heads, [*begin, *body.lines], what)
    return body.least_returned, most


def _most_rows(body: Translation) -> int:
    """Return the most rows that a step may write."""
    if body.last_row >= body.most_returned:
        raise LoopError(f"it writes row {body.last_row} and returns {body.most_returned} at most")
    return body.most_returned


def _function(code: Code, head: str, parameters: Sequence[str], body: Sequence[str], what: str) -> None:
    """Add a function; what it does not read is said to be unused."""
    text = "\n".join(body)
    unused = [p.split()[-1].lstrip("*") for p in parameters]
    unused = [name for name in unused if not reads(text, name)]
    code.headers.add(WIDE_HEADER)
    lines = [*(f"    (void){name};" for name in unused), *body]
    code.functions.append("\n".join([comment(what), f"{head}({', '.join(parameters)})", "{", *lines, "}"]))


class RowsCode(LayerCode[QuantLayer]):
    """The C of a layer whose time steps are computed by themselves."""

    def emit(self) -> None:
        """Add the function of one row, translated from each of the layer's loops."""
        model, layer = self.site.model, self.layer
        self._calls: list[tuple[str, tuple[str, ...]]] = []
        features = {
            tensor: model.tensors[tensor].features
            for tensor in (*layer.inputs, layer.output)
            if tensor in model.tensors
        }
        tokens = 0
        if layer.reads_tokens:
            tokens = next(i.vocabulary for i in model.inputs if i.name == layer.inputs[0])
        loops = layer.row_loops()
        for number_, found in enumerate(loops):
            name = self.name if len(loops) == 1 else self.code.names.new(f"{self.name}_loop{number_}")
            translate_rows(self.code, self.site.name, layer, found, name, features, tokens)
            self._calls.append((name, found.inputs))

    def step(self) -> list[str]:
        """Return the call for one row."""
        y, star = self.own_place().at(), "*" if self.layer.reads_tokens else ""
        place = self.site.tensors.place
        return [f"{name}({', '.join([*(star + place(i).at() for i in inputs), y])});" for name, inputs in self._calls]

    def run(self) -> list[str]:
        """Return the loop that calls the function for every row."""
        return self.each_row(self.step())


def steps_code(layer: QuantLayer, features: Sequence[int]) -> type[TranslatedSteps | WholeCode]:
    """Return the class that makes the C of a layer with a `step_loop`; ``features`` are those of its inputs and of its output.

    Only the translation of the loop says whether it gives a row in each step. One that may give none gives one all the same where the layer
    says that its output has as many steps as its input.
    """
    if layer.read_whole:
        return WholeCode
    arrays = [Array("kept", type_of_dtype(s.dtype), tuple(s.shape)) for s in layer.states()]
    rows = translate_step(Code("plain"), "m", layer, layer.step_loop(), "m_step", "void *kept", arrays, features)
    each = layer.steps_past_end == 0 and rows == (1, 1)
    return TranslatedSteps if each or (layer.step_for_step and rows == (0, 1)) else CountingCode


class TranslatedSteps(StepsCode[QuantLayer]):
    """The C of a layer with a `step_loop`, translated from it."""

    def add_function(self, head: str, states: Sequence[Array]) -> int:
        """Add the translated function, and return the most rows that it writes."""
        layer, tensors = self.layer, self.site.model.tensors
        sizes = [tensors[tensor].features for tensor in (*layer.inputs, layer.output)]
        loop = layer.step_loop()
        self._before = ""
        if loop.before is not None:
            self._before = self.code.names.new(f"{self.name}_before")
            first = replace(loop, make=loop.before)
            translate_step(self.code, self.site.name, layer, first, self._before, head, states, sizes)
        return translate_step(self.code, self.site.name, layer, loop, self.name, head, states, sizes)[1]

    def run(self) -> list[str]:
        """Return the loop over all steps; where a sequence is gone through twice, its sums begin anew, and a loop before it makes them."""
        if not self._before:
            return super().run()
        clear = [f"QRNN_CLEAR(state->{f.name}, {f.count}U * sizeof({f.kind}));" for f in self.fields]
        arguments = ", ".join([*self.arguments(), self.own_place().at()])
        return [*clear, *self.each_row([f"(void){self._before}({arguments});"]), *super().run()]


class CountingCode(TranslatedSteps):
    """The C of a translated layer, which may write no row in a step, or several, or some past the end of a sequence."""

    counts_rows = True

    @property
    def spare_rows(self) -> int:
        """Return the rows of a step: it may write them and say that none came out."""
        return self.most_rows


class WholeCode(LayerCode[QuantLayer]):
    """The C of a layer with a `step_loop` each of whose steps reads whole sequences."""

    writes_anywhere = False

    def emit(self) -> None:
        """Add the function of one step, which is given where the sequences begin and the number of their steps."""
        layer, tensors = self.layer, self.site.model.tensors
        *whole, steps, _ = layer.step_arrays()
        names = [f"all_{state.name}" for state in whole]
        arrays = [
            Array(name, type_of_dtype(state.dtype), tuple(state.shape))
            for name, state in zip(names, whole, strict=True)
        ]
        count = Array("count", type_of_dtype(steps.dtype), tuple(steps.shape))
        head = ", ".join([*(f"const {a.kind} *{a.text}" for a in arrays), f"const {count.kind} *count"])
        sizes = [tensors[layer.inputs[0]].features] * len(layer.inputs)
        sizes.append(tensors[layer.output].features)
        loop = layer.step_loop()
        translate_step(self.code, self.site.name, layer, loop, self.name, head, [*arrays, count, count], sizes)

    def arguments(self) -> list[str]:
        """Return the sequences that are read as a whole, their number of steps, and the input of this step in the place of every input."""
        layer, place = self.layer, self.site.tensors.place
        return [
            *(place(name).at("0U") for name in layer.read_whole),
            self._count,
            *[place(layer.inputs[0]).at()] * len(layer.inputs),
        ]

    def call(self) -> str:
        """Return the call of the step, whose result is always one row."""
        return f"(void){super().call()}"

    def run(self) -> list[str]:
        """Return the loop over all steps, behind the number of those that each of them reads."""
        tensors = self.site.tensors
        self._count = tensors.names.new(self.name.replace(f"{self.site.name}_", "count_", 1))
        tensors.declare(f"int32_t {self._count}[1];")
        rows = tensors.rows_of(self.layer.read_whole[0])
        return [f"{self._count}[0] = (int32_t){rows};", *self.each_row([self.call()])]
