"""The self-test of an exported model is C that replays the golden vectors of `qrnn.export.golden` and tells the first value that differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qrnn.export import report
from qrnn.export.bench import sequence_macro
from qrnn.export.boundary import c_string
from qrnn.export.c_text import BEGIN_C, END_C, LICENCE
from qrnn.export.golden import CODE_ROWS, coded
from qrnn.export.ports import ELEMENT_BYTES, Element, Port
from qrnn.export.replay import Vectors, sequence_length
from qrnn.export.source import Exported
from qrnn.model.float_model import GraphOutput
from qrnn.model.quant_model import QuantModel

GENERATED = "generated"
"""What tokens and values are called that a model has fed back."""

_COMPARE = """/* What is compared: elements of `size` bytes, of which `each` are a step's; 0 where the array is not over time. */
typedef struct {
    const char *what;
    const char *layer;
    uint32_t size;
    uint32_t each;
    int is_unsigned;
} compared_array;

static int32_t element(const compared_array *array, const void *values, uint32_t k)
{
    if (array->size == 4U) {
        return ((const int32_t *)values)[k];
    }
    return (array->is_unsigned != 0) ? (int32_t)((const uint16_t *)values)[k] : (int32_t)((const int16_t *)values)[k];
}

static void no_difference(@NAME@_difference *first)
{
    first->what = NULL;
    first->layer = NULL;
    first->sequence = 0U;
    first->step = 0U;
    first->unit = 0U;
    first->got = 0;
    first->expected = 0;
}

/* Keep a difference where there is none before it. */
static void differs(@NAME@_difference *first, const compared_array *array, uint32_t n, uint32_t k, int32_t got, int32_t expected)
{
    if (first->what == NULL) {
        first->what = array->what;
        first->layer = array->layer;
        first->sequence = n;
        first->step = (array->each == 0U) ? 0U : (k / array->each);
        first->unit = (array->each == 0U) ? k : (k % array->each);
        first->got = got;
        first->expected = expected;
    }
}

static void compare(@NAME@_difference *first, const compared_array *array, uint32_t n, const void *got, const void *want, uint32_t count)
{
    for (uint32_t k = 0U; k < count; k++) {
        const int32_t is = element(array, got, k);
        const int32_t expected = element(array, want, k);

        if (is != expected) {
            differs(first, array, n, k, is, expected);
        }
    }
}
"""


@dataclass(frozen=True)
class _Compared:
    """An array that is compared: what it is, the layer that gives it or keeps it, its type, and how many elements a step has, if any."""

    what: str
    layer: str | None
    kind: Element
    each: int = 0

    @property
    def line(self) -> str:
        layer = "NULL" if self.layer is None else c_string(self.layer)
        size = ELEMENT_BYTES[self.kind]
        return (
            f"    {{{c_string(self.what)}, {layer}, {size}U, {self.each}U, {1 if self.kind.startswith('u') else 0}}},"
        )


class _Table:
    """The arrays that are compared, in a constant array of C."""

    def __init__(self) -> None:
        self.rows: list[_Compared] = []

    def entry(self, what: str, layer: str | None, kind: Element, each: int = 0) -> str:
        """Add an array and return the C expression of it."""
        self.rows.append(_Compared(what, layer, kind, each))
        return f"&arrays[{len(self.rows) - 1}]"

    @property
    def lines(self) -> list[str]:
        return ["static const compared_array arrays[] = {", *(row.line for row in self.rows), "};", ""]

    @property
    def longest(self) -> int:
        """Return the most bytes of the names of an array."""
        return max((len(f"{row.what} of layer {row.layer}".encode()) for row in self.rows), default=0)


def selftest_source(
    quantized: QuantModel,
    model: Exported,
    sequences: Sequence[Vectors],
    include: str = "../",
    prints: bool = False,
    generating: Sequence[str] = (),
    bench: bool = False,
) -> str:
    """Return the source of ``int NAME_selftest(void)`` and of ``int NAME_compare(first)``, which tells the first value that differs.

    ``include`` is where NAME.h lies, seen from there. Where it ``prints``, there is also ``int NAME_golden(print)``, which does the same and
    prints what came of each sequence. ``generating`` is the definition of ``generate_again``, if there is one. With ``bench``, C that is
    traced tells NAME_bench which sequence begins.
    """
    name, lengths, table = model.name, [sequence_length(model, s) for s in sequences], _Table()
    steps = max(lengths)
    rows = model.rows_of(steps)
    out = [f"static {p.kind} got_{p.name}[{max(1, p.count * (rows if p.has_time else 1))}];" for p in model.outputs]
    out += [f"static int16_t coded_{port.name}[{port.count}];" for port, *_ in coded(model)]
    out += [f"static {s.port.kind} read_{s.port.name}[{s.port.count}];" for s in model.given]
    room = [] if model.streams else [f"static int16_t work[{name.upper()}_WORK({steps}U)];"]
    arguments = [
        "&state",
        *(_golden("in", p) for p in model.inputs),
        *model.lengths,
        *(f"got_{p.name}" for p in model.outputs),
    ]
    calls = [f"{name}_run({', '.join([*arguments, *(['work'] if room else []), *model.last_arguments])});"]
    counted = model.counts_rows and any(p.has_time for p in model.outputs)
    codes, ends = _code_checks(model, table), [f"{_first(steps)} += {steps};" for steps in model.lengths]
    if model.counts_rows:
        calls = [f"{'rows = ' if counted else '(void)'}{calls[0]}"]
        calls += [f"{'rows += ' if counted else '(void)'}{_finish(model)}"] if model.finishes else []
    sets, checks = _checks(quantized, model, table, counted)
    ends += ["first_row += golden_rows[n];"] if counted else []
    told = []
    if prints:
        printed = report.statements(quantized, model, "rows" if counted else "", table.longest)
        told = ["if (print != NULL) {", *(f"    {line}" if line else "" for line in printed), "}"]
    again = []
    if generating:
        values = model.generates is not None and model.generates.kind == "values"
        entry = table.entry(GENERATED, None, "int16_t" if values else "uint16_t")
        again = [f"generate_again({entry}, first);"]
    print_ = "void (*print)(const char *line), " if prints else ""
    return "\n".join(
        [
            *LICENCE,
            "#include <stddef.h>",
            f'#include "{name}_selftest.h"',
            f'#include "{include}{name}.h"',
            f'#include "{name}_golden.h"',
            "",
            _COMPARE.replace("@NAME@", name),
            *table.lines,
            *(sequence_macro(name) if bench else []),
            *generating,
            *([report.PUT] if prints else []),
            f"static int replay({print_}{name}_difference *first)",
            "{",
            *(f"    {line}" for line in (*out, *room, *model.scratch_variable, f"static {name}_state state;")),
            *(f"    uint32_t {_first(steps)} = 0U; /* the sequence's first step */" for steps in model.lengths),
            *(["    uint32_t first_row = 0U; /* and its first row of outputs */"] if counted else []),
            "",
            "    no_difference(first);",
            *(f"    {line}" for line in codes),
            f"    {name}_init(&state);",
            f"    for (uint32_t n = 0U; n < {len(lengths)}U; n++) {{",
            *(f"        const uint32_t {steps} = golden_{steps}[n];" for steps in model.lengths),
            f"        {name}_difference here;",
            *(["        uint32_t rows;"] if counted else []),
            "",
            "        no_difference(&here);",
            *([f"        {name.upper()}_SEQUENCE(n);"] if bench else []),
            f"        {name}_reset(&state);",
            *(f"        {line}" if line else "" for line in (*sets, *calls, *checks, *told, *ends)),
            "        if (first->what == NULL) {",
            "            *first = here;",
            "        }",
            "    }",
            *(f"    {line}" for line in again),
            "    return (first->what == NULL) ? 0 : 1;",
            "}",
            "",
            f"int {name}_compare({name}_difference *first)",
            "{",
            f"    return replay({'NULL, ' if prints else ''}first);",
            "}",
            "",
            *_printing(name, prints),
            f"int {name}_selftest(void)",
            "{",
            f"    {name}_difference first;",
            "",
            f"    return {name}_compare(&first);",
            "}",
            "",
        ]
    )


def _printing(name: str, prints: bool) -> list[str]:
    if not prints:
        return []
    lines = [f"int {name}_golden(void (*print)(const char *line))", "{", f"    {name}_difference first;", ""]
    return [*lines, "    return replay(print, &first);", "}", ""]


def _code_checks(model: Exported, table: _Table) -> list[str]:
    """Return the statements that compare what comes of codes."""
    lines = []
    for port, *_ in coded(model):
        entry, at = table.entry(f"codes of {port.name}", None, "int16_t", port.count), f"[{port.count}U * n]"
        lines += [
            f"for (uint32_t n = 0U; n < {CODE_ROWS}U; n++) {{",
            f"    {model.name}_from_codes_{port.name}(&golden_codes_{port.name}{at}, coded_{port.name});",
            f"    compare(first, {entry}, n, coded_{port.name}, &golden_coded_{port.name}{at}, {port.count}U);",
            "}",
        ]
    return lines


def _checks(quantized: QuantModel, model: Exported, table: _Table, counted: bool) -> tuple[list[str], list[str]]:
    """Return the statements that set states before a sequence, and those that compare what came of it."""
    name, sets, checks = model.name, [], []
    if counted:
        entry = table.entry("number of rows", None, "uint32_t")
        checks += ["if (rows != golden_rows[n]) {"]
        checks += [f"    differs(&here, {entry}, n, 0U, (int32_t)rows, (int32_t)golden_rows[n]);", "}"]
    for output, p in zip(quantized.outputs, model.outputs, strict=True):
        entry = table.entry(f"output {p.name}", _layer_of(quantized, output), p.kind, p.count if p.has_time else 0)
        checks.append(f"compare(&here, {entry}, n, got_{p.name}, {_golden('out', p, counted)}, {_count(p, counted)});")
    for f in model.compared_state:
        entry = table.entry(f"state {f.name}", f.layer, f.kind)
        checks.append(
            f"compare(&here, {entry}, n, state.{f.name}, &golden_state_{f.name}[{f.count}U * n], {f.count}U);"
        )
    for s in model.given:
        port, at = s.port.name, f"[{s.port.count}U * n]"
        refused, read = (table.entry(f"state {port}, {what}", None, s.port.kind) for what in ("refused", "read back"))
        sets += [
            f"if ({name}_set_{port}(&state, &golden_given_{port}{at}) != 0) {{",
            f"    differs(&here, {refused}, n, 0U, 1, 0);",
            "}",
        ]
        checks.append(f"{name}_get_{port}(&state, read_{port});")
        checks.append(f"compare(&here, {read}, n, read_{port}, &golden_got_{port}{at}, {s.port.count}U);")
    return sets, checks


def _layer_of(model: QuantModel, output: GraphOutput) -> str | None:
    """Return the layer that gives an output; None where several do, or where it is an input."""
    tensors = {tensor for tensor, _, _ in output.parts}
    layers = [layer.name for layer in model.layers if tensors & set(layer.outputs)]
    return layers[0] if len(layers) == 1 else None


def selftest_header(name: str, prints: bool = False) -> str:
    """Return the declarations of the self-test's functions; where it ``prints``, that of NAME_golden too."""
    guard = f"{name.upper()}_SELFTEST_H"
    lines = [*LICENCE, f"#ifndef {guard}", f"#define {guard}", "", "#include <stdint.h>", "", *BEGIN_C]
    lines += [
        "/* The first value of the golden sequences that differs: of an output or a state, which `layer` gives or keeps (NULL: of several). */",
        "typedef struct {",
        "    const char *what; /* NULL: every bit is right */",
        "    const char *layer;",
        "    uint32_t sequence;",
        "    uint32_t step; /* of the output; 0 where it is not over time */",
        "    uint32_t unit;",
        "    int32_t got;",
        "    int32_t expected;",
        f"}} {name}_difference;",
        "",
        "/* 0 where every output and state of every golden sequence has the bits that it should, else 1. */",
        f"int {name}_selftest(void);",
        "",
        "/* The same; `first` becomes the first value that differs. */",
        f"int {name}_compare({name}_difference *first);",
        "",
    ]
    if prints:
        lines.append(
            "/* The same; `print` is given a line for each sequence, which says what came of it, where it is not NULL. */"
        )
        lines += [f"int {name}_golden(void (*print)(const char *line));", ""]
    return "\n".join([*lines, *END_C, "#endif", ""])


def main_source(name: str) -> str:
    """Return a ``main`` that returns the self-test's result.

    It is left out for Arduino, whose builds compile whatever lies in a sketch's folders.
    """
    lines = [*LICENCE, f'#include "{name}_selftest.h"', "", "#if !defined(ARDUINO)"]
    return "\n".join([*lines, "int main(void)", "{", f"    return {name}_selftest();", "}", "#endif", ""])


def _finish(model: Exported) -> str:
    """Return the call that writes what comes out past the end, behind the rows of the sequence."""
    arguments = ["&state", *(_golden("in", p) for p in model.inputs if not p.has_time)]
    arguments += [f"&got_{p.name}[{p.count}U * rows]" if p.has_time else f"got_{p.name}" for p in model.outputs]
    return f"{model.name}_finish({', '.join([*arguments, *model.last_arguments])});"


def _first(steps: str) -> str:
    """Return the variable that counts the steps of the sequences so far, of the axis with this parameter."""
    return "first_step" if steps == "length" else f"first_{steps}"


def _golden(way: str, port: Port, counted: bool = False) -> str:
    """Return where the sequence's values begin; ``counted`` for those of outputs whose rows are counted."""
    first = ("first_row" if counted else _first(port.steps)) if port.has_time else "n"
    return f"&golden_{way}_{port.name}[{port.count}U * {first}]"


def _count(port: Port, counted: bool = False) -> str:
    rows = "golden_rows[n]" if counted else port.steps
    return f"{port.count}U * {rows}" if port.has_time else f"{port.count}U"
