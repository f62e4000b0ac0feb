"""Write or check the contract's functions in C: qrnn_contract.h, qrnn_contract_lanes.h and qrnn_contract_wide.h of targets/runtime.

    python tools/make_contract.py            write the files
    python tools/make_contract.py --check    compare them with the contract's Python code; exit status 1 when they differ

The text follows from `qrnn.arithmetic` and from the bounds in tools/contract_functions.py alone.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from contract_dialects import LANES, LONG, NUMBER, SIGNED, UNSIGNED, Lanes, Scalar, Table, Value, literal
from contract_functions import CALLS, SCALARS, VECTORS, Argument, Function, TableArgument
from contract_to_c import Translator, tree_of

from qrnn.arithmetic import CONTRACT, fixedpoint, gates
from qrnn.export.loops.translator import WIDE_HEADER, contract_function
from qrnn.system.atomic import write_atomically
from qrnn.targets import targets_folder

WIDTH = 132
ASCII = {"·": "*", "≥": ">=", "≤": "<=", "…": "...", "±": "+-", "≠": "!=", "→": "->", "–": "-", "’": "'"}

TOP = """\
/* SPDX-License-Identifier: Apache-2.0 */
/* {title}
 *
 * Made by tools/make_contract.py from the Python code of the contract (qrnn/arithmetic), not written by hand. Every value is
 * computed in 32 bits where the bounds of the arguments prove that it fits, and in 64 bits elsewhere. */
#ifndef {guard}
#define {guard}

#include "{include}"
"""


def plain(text: str) -> str:
    """Return a docstring as a comment in C: ASCII, without marks for code."""
    for character, other in ASCII.items():
        text = text.replace(character, other)
    text = re.sub(r"`+", "", text)
    if not text.isascii():
        raise ValueError(f"no ASCII for {[c for c in text if not c.isascii()]}")
    return text


KINDS = ("ODD", "RAMP", "TABLE", "THRESHOLD")
"""Kinds of gate functions, the usual one first."""

OF_BOTH_SIGNS = "SIGNED"
"""A kind of the C alone: ODD, with another table. Its function is written by hand (targets/runtime/qrnn_gates_dsp.h)."""

KEPT = "\x1f"
"""A space at which no line ends."""


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """Return lines of at most ``width`` characters, none of which ends at a `KEPT` space."""
    options = {"subsequent_indent": indent, "break_on_hyphens": False, "break_long_words": False}
    return [line.replace(KEPT, " ") for line in textwrap.wrap(text, width, **options)]  # type: ignore[arg-type]


def wrap_code(text: str, indent: str) -> list[str]:
    """Return a line of C as several where it is long: they end after a comma and before an operator of low precedence."""
    kept = re.sub(r"(?<!,) (?![-+?:] )", KEPT, text)
    return wrap(kept, WIDTH, indent)


def comment(paragraphs: Iterable[str]) -> list[str]:
    """Return a block comment, wrapped."""
    lines = [line for p in paragraphs for line in wrap(" ".join(p.split(" ")), WIDTH - 3)]
    lines = [f"/* {lines[0]}", *(f" * {line}" for line in lines[1:])]
    lines[-1] += " */"
    return lines


def bounds_text(name: str, argument: Argument | TableArgument) -> str:
    """Return what is known of an argument."""
    low, high = power(argument.low), power(argument.high)
    what = f"entries of {name}" if isinstance(argument, TableArgument) else name
    text = f"{what} = {low}" if low == high else f"{what} {low} ... {high}"
    return text.replace(" ", KEPT)


def power(n: int) -> str:
    """Return a number, written by its power of two where it is large."""
    for offset in (0, 1, -1):
        size = abs(n) - offset
        if size >= 1 << 14 and size & (size - 1) == 0:
            tail = {0: "", 1: " + 1", -1: " - 1"}[offset]
            sign = "-" if n < 0 else ""
            text = f"2^{size.bit_length() - 1}{tail}"
            return f"{sign}({text})" if sign and tail else f"{sign}{text}"
    return str(n)


class Arguments(NamedTuple):
    """A function's arguments as the translator takes them, its parameters in C, and the names of those that the code does not need."""

    values: dict[str, Value | Table]
    parameters: list[str]
    unused: list[str]


def arguments(function: Function) -> Arguments:
    """Return the arguments of a function of the contract."""
    values: dict[str, Value | Table] = {}
    parameters, unused = [], []
    for name in (a.arg for a in tree_of(function.function).args.args):
        argument = function.arguments[name]
        if isinstance(argument, TableArgument):
            values[name] = Table(name, argument.low, argument.high, argument.entry)
            parameters.append(f"const QRNN_FLASH {argument.kind} *{name}")
            continue
        if argument.low == argument.high:
            values[name] = Value(str(argument.low), NUMBER, argument.low, argument.low)
            if not argument.fixed:
                unused.append(name)
        else:
            values[name] = Value(name, argument.kind, argument.low, argument.high)
        if not argument.fixed:
            parameters.append(f"{argument.kind} {name}")
    return Arguments(values, parameters, unused)


def definition(function: Function, dialect: type[Scalar], brief: bool = False) -> list[str]:
    """Return the lines of one function in C; with ``brief``, only the first paragraph of its docstring is kept."""
    values, parameters, unused = arguments(function)
    wide = dialect is Lanes and function.only_if == "!defined(QRNN_UNIT_GATES)"
    if wide:  # one lane, an int32_t, and what needs 64 bits
        dialect = Scalar
        values = {k: as_scalar(v) for k, v in values.items()}
    if function.function in columns():
        places = {n: column(text, function.arguments[n]) for n, text in columns()[function.function].items()}
        parameters = ["const QRNN_FLASH qrnn_gate *gate", f"{LANES} x"]
        body = [
            f"const {kind_of(function.arguments[n])}{n} = {place};"
            for n, place in places.items()
            if n != "x" and n not in unused
        ]
    else:
        body = [f"(void){name};" for name in unused]
    for name in function.saturated:
        old = values[name]
        assert isinstance(old, Value)
        body.append(f"const {LANES} {name}16 = qrnn_lanes_saturate16({name});")
        values[name] = Value(f"{name}16", LANES, -32768, 32767)
    translator = Translator(dialect(), CALLS[dialect], function.leave)
    lines, value = translator.function(function.function, values, function.facts)
    body += lines
    body.append(f"return {returned(value, function, dialect)};")
    said = [" ".join(p.split()) for p in plain(inspect.getdoc(function.function) or "").split("\n\n")]
    if brief:
        said = said[:1]
    known = [
        bounds_text(n, function.arguments[n])
        for n in function.arguments
        if not getattr(function.arguments[n], "fixed", False)
    ]
    notes = [
        f"Section {function.section} of docs/arithmetic.md. Here "
        + ", ".join(known)
        + "."
        + (f" {function.note}" if function.note else "")
    ]
    if function.leave:
        notes.append(f"{function.leave} is left to the gate function, which saturates its argument itself.")
    if function.saturated:
        notes.append("Saturates its argument to int16 itself.")
    head = f"static inline {function.result} {function.c_name}({', '.join(parameters)})"
    lines = [line for text in body for line in wrap_code(f"    {text}", " " * 8)]
    return [*comment([*said, *notes]), *wrap_code(head, " " * (head.index("(") + 1)), "{", *lines, "}"]


def kind_of(argument: Argument | TableArgument) -> str:
    """Return the type of a variable that holds an argument, up to its name."""
    return f"QRNN_FLASH {argument.kind} *" if isinstance(argument, TableArgument) else f"{argument.kind} "


def as_scalar(v: Value | Table) -> Value | Table:
    """Return a lane as an int32_t."""
    return Value(v.text, SIGNED, v.low, v.high) if isinstance(v, Value) and v.kind == LANES else v


def returned(value: Value, function: Function, dialect: type[Scalar]) -> str:
    """Return the value as the function's result, which it is proved to fit."""
    kind = SIGNED if function.result == LANES and dialect is Scalar else function.result
    limits = {SIGNED: (-(1 << 31), (1 << 31) - 1), UNSIGNED: (0, (1 << 32) - 1), LONG: (-(1 << 63), (1 << 63) - 1)}
    if not value.within(limits.get(kind, limits[SIGNED])):
        raise ValueError(f"{function.c_name}: [{value.low}, {value.high}] does not fit {kind}")
    if kind == LANES:
        return value.text if value.kind == LANES else f"qrnn_lanes_all({value.text})"
    return literal(value.low, kind) if value.kind == NUMBER else dialect().as_kind(value, kind).text


def definitions(functions: Sequence[Function], dialect: type[Scalar]) -> list[str]:
    """Return all functions of a file, those under a condition within it."""
    lines: list[str] = []
    before = None
    for function in functions:
        again = before is not None and before.function is function.function
        text = definition(function, dialect, brief=again)
        if again and before is not None and function.only_if == f"!{before.only_if}":
            lines[-1:] = ["#else", *text, "#endif"]
        else:
            lines += ["", *([f"#if {function.only_if}", *text, "#endif"] if function.only_if else text)]
        before = function
    return lines


def wrap_body(text: str) -> list[str]:
    """An indented line of C, as several where it is long."""
    indent = text[: len(text) - len(text.lstrip())]
    return [f"{indent}{line}" for line in wrap_code(text.lstrip(), "    ")]


HELPERS = """\
static inline int64_t qrnn_wide_max(int64_t a, int64_t b)
{
    return (a > b) ? a : b;
}

static inline int64_t qrnn_wide_min(int64_t a, int64_t b)
{
    return (a < b) ? a : b;
}

static inline int64_t qrnn_wide_abs(int64_t a)
{
    return (a < 0) ? (-a) : a;
}

/* a / b, rounded down; b is not 0. C rounds towards 0. Small numbers are divided in 32 bits, for which many cores have an instruction. */
static inline int64_t qrnn_wide_floor_divide(int64_t a, int64_t b)
{
    if (((a | b) >> 31) == 0) {
        return (int64_t)((uint32_t)a / (uint32_t)b);
    }
    const int64_t quotient = a / b;
    return (((a % b) != 0) && ((a < 0) != (b < 0))) ? (quotient - 1) : quotient;
}

/* What a / b, rounded down, leaves: its sign is that of b. */
static inline int64_t qrnn_wide_floor_modulo(int64_t a, int64_t b)
{
    const int64_t rest = a % b;
    return ((rest != 0) && ((rest < 0) != (b < 0))) ? (rest + b) : rest;
}"""
"""What else the loops of layers call (`qrnn.export.loops`)."""


def wide_definitions() -> list[str]:
    """Every function of the contract on int64_t, but for the one that is an operator of C."""
    lines = ["", *HELPERS.split("\n")]
    for function in CONTRACT:
        if function is not fixedpoint.choose:
            said = plain(inspect.getdoc(function) or "").split("\n\n")[0]
            head, body = contract_function(function)
            wrapped = [line for text in body for line in wrap_body(text)]
            lines += ["", *comment([said]), *wrap_code(head, " " * (head.index("(") + 1)), "{", *wrapped, "}"]
    return lines


def kinds() -> list[str]:
    """Return the codes of the kinds of gate functions."""
    codes = {name: getattr(gates, name) for name in KINDS} | {OF_BOTH_SIGNS: len(KINDS)}
    each = ", ".join(f"QRNN_{name} = {number}" for name, number in codes.items())
    return [
        "",
        "/* The kinds of gate functions, section 3 of docs/arithmetic.md. SIGNED is ODD with a table for both signs: qrnn_gates_dsp.h. */",
        f"typedef enum {{ {each} }} qrnn_gate_kind;",
    ]


@cache
def columns() -> dict[Callable[..., Any], dict[str, str]]:
    """Return where `gates.evaluate` takes each gate function's arguments from, in the order of the kinds' branches."""
    found = {}
    for node in ast.walk(tree_of(gates.evaluate)):
        if isinstance(node, ast.Return):
            name, texts = called(node)
            function = getattr(gates, name)
            found[function] = dict(zip(inspect.signature(function).parameters, texts, strict=True))
    return found


def dispatch() -> list[str]:
    """Return `gates.evaluate` in C, a gate function of the model by its kind."""
    branches = [node for node in tree_of(gates.evaluate).body if isinstance(node, ast.If)]
    kinds_of = {}
    for branch in branches:
        assert isinstance(branch.test, ast.Compare)
        assert isinstance(branch.body[0], ast.Return)
        kinds_of[ast.unparse(branch.test.comparators[0])] = called(branch.body[0])[0]
    last = tree_of(gates.evaluate).body[-1]
    assert isinstance(last, ast.Return)
    (rest,) = set(KINDS) - set(kinds_of)
    kinds_of[rest] = called(last)[0]
    lines = [
        "",
        *comment([plain("The gate function at x, by its kind; those that the model uses are compiled in. x is any number with |x| < 2^31:"
                        " every kind saturates it to int16, ODD and TABLE by what they clamp their arguments to.")]),
        "static inline qrnn_lanes qrnn_evaluate(const QRNN_FLASH qrnn_gate *gate, qrnn_lanes x)",
        "{",
        "    switch (gate->kind) {",
    ]  # fmt: skip
    kinds_of[OF_BOTH_SIGNS] = "evaluate_signed"
    for kind in (*KINDS[1:], OF_BOTH_SIGNS, KINDS[0]):
        call = f"        return qrnn_{kinds_of[kind]}(gate, x);"
        if kind != KINDS[0]:
            lines += [f"#if defined(QRNN_GATE_{kind})", f"    case QRNN_{kind}:", call, "#endif"]
        else:
            none = ["        (void)x;", "        return qrnn_lanes_all(0); /* the exporter writes no other kind */"]
            lines += ["    default:", f"#if defined(QRNN_GATE_{kind})", call, "#else", *none, "#endif"]
    return [*lines, "    }", "}"]


def called(node: ast.Return) -> tuple[str, list[str]]:
    """Return the function that a return statement calls, and its arguments' texts."""
    assert isinstance(node.value, ast.Call)
    return ast.unparse(node.value.func), [ast.unparse(a) for a in node.value.args]


def column(text: str, argument: Argument | TableArgument) -> str:
    """Return an argument of `gates.evaluate` in C: a column of ``params`` is a parameter of the gate, a row of ``tables`` its table."""
    if isinstance(argument, TableArgument):
        return "gate->table" if argument.kind == "int16_t" else "gate->wide_table"
    if (found := re.fullmatch(r"p\[(\w+)\]", text)) is None:
        return text
    place = getattr(gates, found[1]) - gates.OUT_FRAC - 1
    return f"(uint32_t)gate->value[{place}]" if argument.kind == UNSIGNED else f"gate->value[{place}]"


def files() -> dict[str, str]:
    """Return the text of each file by its name."""
    scalars = TOP.format(
        title="The contract's scalar functions: the one rounding, saturations, requantization and softmax.",
        guard="QRNN_CONTRACT_H",
        include="qrnn_arithmetic.h",
    )
    lanes = TOP.format(
        title="The contract's gate functions and cells, each lane a unit.",
        guard="QRNN_CONTRACT_LANES_H",
        include="qrnn_lanes.h",
    )
    every = TOP.format(
        title="Every function of the contract on int64_t, for layers that are translated from their Python.",
        guard="QRNN_CONTRACT_WIDE_H",
        include="qrnn_types.h",
    ).replace(
        "Every value is\n * computed in 32 bits where the bounds of the arguments prove that it fits, and in 64 bits elsewhere.",
        "Tables are\n * read by the address of their row. Values need at most 64 bits, as the contract says.",
    )
    return {
        WIDE_HEADER: "\n".join([every.rstrip(), *wide_definitions(), "", "#endif", ""]),
        "qrnn_contract.h": "\n".join([scalars.rstrip(), *kinds(), *definitions(SCALARS, Scalar), "", "#endif", ""]),
        "qrnn_contract_lanes.h": "\n".join(
            [lanes.rstrip(), *definitions(VECTORS, Lanes), *dispatch(), "", "#endif", ""]
        ),
    }


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare the files, write nothing")
    arguments_ = parser.parse_args()
    folder = targets_folder() / "runtime"
    stale = []
    for name, text in files().items():
        path: Path = folder / name
        if arguments_.check:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            write_atomically(path, text.encode())
    if stale:
        raise SystemExit(f"{', '.join(stale)}: not what qrnn/arithmetic says; run python tools/make_contract.py")


if __name__ == "__main__":
    main()
