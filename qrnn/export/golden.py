"""The self-test of an exported model has golden vectors, made by the reference, and C that replays them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from qrnn.export import report
from qrnn.export.boundary import CODE_TYPES
from qrnn.export.c_text import BEGIN_C, END_C, LICENCE, caller_array
from qrnn.export.ports import Port
from qrnn.export.replay import Replayed, Vectors, read_back, sequence_length, sequence_steps
from qrnn.export.source import Exported
from qrnn.model.codes import RANGES
from qrnn.model.quant_model import QuantModel

RANDOM_LENGTHS = (1, 2, 5)
"""The steps of the golden sequences of random numbers."""
LONG = 64
"""The steps of one more golden sequence, for a model of which a step may give no row."""
MOST_STEPS = 16
"""The most steps of a golden sequence from the user's data."""
MOST_SEQUENCES = 2
CODE_ROWS = 4
"""The vectors of codes for each input that takes some."""
SEED = 20


def wants_long(model: Exported) -> bool:
    """Return whether sequences of `RANDOM_LENGTHS` may leave layers without a row."""
    return model.counts_rows or (model.whole is not None and model.whole.filling_steps > min(RANDOM_LENGTHS))


def golden_header(
    model: Exported, sequences: Sequence[Vectors], results: Sequence[Replayed], generated: Sequence[str] = ()
) -> str:
    """Return the header with the inputs, outputs and final states of all sequences, one array each, and the arrays ``generated``."""
    lines = [
        *LICENCE,
        "/* Sequences with the outputs and states that qrnn's reference gives. */",
        "#include <stdint.h>",
        "",
    ]
    for steps in model.lengths:
        counts = np.array([sequence_steps(model, s)[steps] for s in sequences])
        lines.append(caller_array("uint16_t", f"golden_{steps}", counts))
    for port in model.inputs:
        values = np.concatenate([s[port.name].reshape(-1) for s in sequences])
        lines.append(caller_array(port.kind, f"golden_in_{port.name}", values))
    for port, kind, rows, integers in _coded(model):
        lines += [
            caller_array(kind, f"golden_codes_{port.name}", rows),
            caller_array("int16_t", f"golden_coded_{port.name}", integers),
        ]
    for given in model.given:
        port = given.port
        values = np.concatenate([s[port.name].reshape(-1) for s in sequences])
        lines.append(caller_array(port.kind, f"golden_given_{port.name}", values))
        values = np.concatenate([r.state[read_back(given)].reshape(-1) for r in results])
        lines.append(caller_array(port.kind, f"golden_got_{port.name}", values))
    for port in model.outputs:
        values = np.concatenate([r.outputs[port.name].reshape(-1) for r in results])
        lines.append(
            caller_array(port.kind, f"golden_out_{port.name}", values if values.size else np.zeros(1, np.int64))
        )
    if model.counts_rows:
        lines.append(
            caller_array("uint32_t", "golden_rows", np.array([_rows(model, r) for r in results]), "that come out")
        )
    lines += [
        caller_array(f.kind, f"golden_state_{f.name}", np.concatenate([r.state[f.name] for r in results]))
        for f in model.compared_state
    ]
    return "\n".join([*lines, *generated]) + "\n"


def _coded(model: Exported) -> list[tuple[Port, str, npt.NDArray[np.int64], npt.NDArray[np.int16]]]:
    """Return for each input that takes codes the codes' type in C, rows of codes with the ends of their range, and their integers."""
    found = []
    for port in model.inputs:
        if (codes := model.choices.codes.get(port.graph_name)) is not None:
            least, most = RANGES[codes.kind]
            rows = np.random.default_rng(SEED).integers(least, most, (CODE_ROWS, port.count), endpoint=True)
            rows[0], rows[1] = least, most
            found.append((port, CODE_TYPES[codes.kind], rows, codes.integers(rows)))
    return found


def _code_checks(model: Exported) -> list[str]:
    """Return the statements that compare what comes of codes."""
    lines = []
    for port, *_ in _coded(model):
        at = f"[{port.count}U * n]"
        lines += [
            f"for (uint32_t n = 0U; n < {CODE_ROWS}U; n++) {{",
            f"    {model.name}_from_codes_{port.name}(&golden_codes_{port.name}{at}, coded_{port.name});",
            f"    wrong |= differ(coded_{port.name}, &golden_coded_{port.name}{at}, (uint32_t)sizeof(coded_{port.name}));",
            "}",
        ]
    return lines


def _rows(model: Exported, result: Replayed) -> int:
    """Return how many steps of the outputs over time came out; 0 where there is none."""
    return next((len(result.outputs[p.name]) for p in model.outputs if p.has_time), 0)


def selftest_source(
    model: Exported,
    sequences: Sequence[Vectors],
    include: str = "../",
    quantized: QuantModel | None = None,
    generating: Sequence[str] = (),
) -> str:
    """Return the source of ``int NAME_selftest(void)``.

    ``include`` is where NAME.h lies, seen from there. With the model itself, ``quantized``, there is also ``int NAME_golden(print)``, which
    does the same and prints what came of each sequence. ``generating`` is the definition of ``generate_again``, if there is one.
    """
    name, lengths = model.name, [sequence_length(model, s) for s in sequences]
    steps = max(lengths)
    rows = model.rows_of(steps)
    out = [f"static {p.kind} got_{p.name}[{max(1, p.count * (rows if p.has_time else 1))}];" for p in model.outputs]
    out += [f"static int16_t coded_{port.name}[{port.count}];" for port, *_ in _coded(model)]
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
    checks, ends = [], [f"{_first(steps)} += {steps};" for steps in model.lengths]
    if model.counts_rows:
        calls = [f"{'rows = ' if counted else '(void)'}{calls[0]}"]
        calls += [f"{'rows += ' if counted else '(void)'}{_finish(model)}"] if model.finishes else []
    if counted:
        checks, ends = ["wrong |= (rows != golden_rows[n]) ? 1 : 0;"], [*ends, "first_row += golden_rows[n];"]
    checks += [
        f"wrong |= differ(got_{p.name}, {_golden('out', p, counted)}, {_count(p, counted)} * (uint32_t)sizeof(*got_{p.name}));"
        for p in model.outputs
    ]
    checks += [
        f"wrong |= differ(state.{f.name}, &golden_state_{f.name}[{f.count}U * n], (uint32_t)sizeof(state.{f.name}));"
        for f in model.compared_state
    ]
    sets = []
    for s in model.given:
        port, at = s.port.name, f"[{s.port.count}U * n]"
        sets.append(f"wrong |= {name}_set_{port}(&state, &golden_given_{port}{at});")
        checks.append(f"{name}_get_{port}(&state, read_{port});")
        checks.append(f"wrong |= differ(read_{port}, &golden_got_{port}{at}, (uint32_t)sizeof(read_{port}));")
    head, told, begin, end = [f"int {name}_selftest(void)"], [], [], []
    if quantized is not None:
        head = [report.PUT, f"int {name}_golden(void (*print)(const char *line))"]
        begin = ["const int before = wrong;"]
        printed = report.statements(quantized, model, "rows" if counted else "")
        told = ["if (print != NULL) {", *(f"    {line}" if line else "" for line in printed), "}", "wrong |= before;"]
        end = ["", f"int {name}_selftest(void)", "{", f"    return {name}_golden(NULL);", "}"]
        sets = ["wrong = 0;", *sets]
    return "\n".join(
        [
            *LICENCE,
            *(["#include <stddef.h>"] if quantized is not None else []),
            f'#include "{name}_selftest.h"',
            f'#include "{include}{name}.h"',
            f'#include "{name}_golden.h"',
            "",
            "static int differ(const void *a, const void *b, uint32_t bytes)",
            "{",
            "    const uint8_t *left = (const uint8_t *)a;",
            "    const uint8_t *right = (const uint8_t *)b;",
            "    int found = 0;",
            "",
            "    for (uint32_t k = 0U; k < bytes; k++) {",
            "        found |= (left[k] != right[k]) ? 1 : 0;",
            "    }",
            "    return found;",
            "}",
            "",
            *generating,
            *head,
            "{",
            *(f"    {line}" for line in (*out, *room, *model.scratch_variable, f"static {name}_state state;")),
            *(f"    uint32_t {_first(steps)} = 0U; /* the sequence's first step */" for steps in model.lengths),
            *(["    uint32_t first_row = 0U; /* and its first row of outputs */"] if counted else []),
            "    int wrong = 0;",
            "",
            *(f"    {line}" for line in _code_checks(model)),
            f"    {name}_init(&state);",
            f"    for (uint32_t n = 0U; n < {len(lengths)}U; n++) {{",
            *(f"        const uint32_t {steps} = golden_{steps}[n];" for steps in model.lengths),
            *(f"        {line}" for line in begin),
            *(["        uint32_t rows;"] if counted else []),
            "",
            f"        {name}_reset(&state);",
            *(f"        {line}" for line in (*sets, *calls, *checks, *told, *ends)),
            "    }",
            *(["    wrong |= generate_again();"] if generating else []),
            "    return (wrong == 0) ? 0 : 1;",
            "}",
            *end,
            "",
        ]
    )


def selftest_header(name: str, prints: bool = False) -> str:
    """Return the declaration of ``int NAME_selftest(void)``, and where it ``prints`` that of NAME_golden."""
    guard = f"{name.upper()}_SELFTEST_H"
    what = "/* 0 where every output and state of every golden sequence has the bits that it should, else 1. */"
    lines = [*LICENCE, f"#ifndef {guard}", f"#define {guard}", "", *BEGIN_C, what, f"int {name}_selftest(void);", ""]
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
    return "first" if steps == "length" else f"first_{steps}"


def _golden(way: str, port: Port, counted: bool = False) -> str:
    """Return where the sequence's values begin; ``counted`` for those of outputs whose rows are counted."""
    first = ("first_row" if counted else _first(port.steps)) if port.has_time else "n"
    return f"&golden_{way}_{port.name}[{port.count}U * {first}]"


def _count(port: Port, counted: bool = False) -> str:
    rows = "golden_rows[n]" if counted else port.steps
    return f"{port.count}U * {rows}" if port.has_time else f"{port.count}U"
