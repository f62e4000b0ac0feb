"""An exported model has functions at its boundary that take no real numbers: codes of a converter in, and the largest of an output's features.

`qrnn.export.real_functions` has those of real numbers, which are in a header of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qrnn.export.c_text import WIDTH, comment
from qrnn.export.choices import Choices
from qrnn.export.ports import Port
from qrnn.export.real_values import RealValues, port_values
from qrnn.model.codes import CodeFormat, CodeKind
from qrnn.model.quant_model import QuantModel

CODE_TYPES: dict[CodeKind, str] = {"int16": "int16_t", "uint16": "uint16_t", "int32": "int32_t"}


def functions_of(port: Port) -> tuple[str, ...]:
    """Return what comes after NAME_ in the names of a port's functions."""
    return tuple(f"{word}_{port.name}" for word in ("from_codes", "argmax", "name", "quantize", "dequantize"))


# names


def name_lines(name: str, ports: Sequence[Port], choices: Choices) -> list[str]:
    """Return the inline functions that give the names of features, for the header."""
    lines = []
    for port in ports:
        if (names := choices.names.get(port.graph_name)) is None:
            continue
        lines += [
            f"/* The name of feature k of {port.name}, in UTF-8; empty where there is no such feature. */",
            f"static inline const char *{name}_name_{port.name}(uint32_t k)",
            "{",
            *(f"    {line}" for line in constants("char *const", "names", [c_string(text) for text in names])),
            "",
            f'    return (k < {port.count}U) ? names[k] : "";',
            "}",
            "",
        ]
    return lines


def c_string(text: str) -> str:
    """Return a string literal of C, in UTF-8, whatever the text is."""
    found = []
    for byte in text.encode("utf-8", errors="replace"):
        plain = 32 <= byte < 127 and chr(byte) not in '"\\?'
        found.append(chr(byte) if plain else f"\\{byte:03o}")
    return f'"{"".join(found)}"'


# codes


def code_prototype(name: str, port: Port, codes: CodeFormat) -> str:
    """Return the declaration of the function that takes codes."""
    return f"void {name}_from_codes_{port.name}(const {CODE_TYPES[codes.kind]} *codes, int16_t *q)"


def code_lines(name: str, inputs: Sequence[Port], choices: Choices) -> list[str]:
    """Return the declarations of the functions that take codes, for the header."""
    given = [(port, choices.codes[port.graph_name]) for port in inputs if port.graph_name in choices.codes]
    lines = []
    for port, codes in given:
        what = f"real value = {_one(codes.scale, 'its scale')} * code"
        what += f" + {_one(codes.offset, 'its offset')}" if any(codes.offset) else ""
        lines.append(comment(f"The {port.count} integers of {port.name} for codes of a converter: {what}."))
        lines += [f"{code_prototype(name, port, codes)};", ""]
    return lines


def _one(values: Sequence[float], several: str) -> str:
    return repr(values[0]) if len(values) == 1 else several


def code_functions(name: str, inputs: Sequence[Port], choices: Choices) -> list[str]:
    """Return the definitions of the functions that take codes."""
    found = []
    for port in inputs:
        if (codes := choices.codes.get(port.graph_name)) is None:
            continue
        rules = codes.rules
        columns = {
            "multiplier": ("int32_t", [str(r.multiplier) for r in rules]),
            "bias": ("int64_t", [f"INT64_C({r.bias})" for r in rules]),
            "shift": ("uint8_t", [f"{r.shift}U" for r in rules]),
        }
        declared, arguments = [], ["codes[k]"]
        for word, (kind, texts) in columns.items():
            shared = len(set(texts)) == 1
            if not shared:
                declared += constants(f"QRNN_FLASH {kind}", word, texts)
            arguments.append(texts[0] if shared else f"{word}[k]")
        call = f"qrnn_from_code({', '.join([*arguments, str(codes.limit)])})"
        body = [
            *declared,
            f"for (uint32_t k = 0U; k < {port.count}U; k++) {{",
            f"    q[k] = (int16_t){call};",
            "}",
        ]
        found.append("\n".join([code_prototype(name, port, codes), "{", *(f"    {line}" for line in body), "}"]))
    return found


def constants(kind: str, name: str, texts: Sequence[str]) -> list[str]:
    """Return the lines of a constant array within a function."""
    lines, line = [], "   "
    for text in texts:
        if len(line) + len(text) + 2 > WIDTH - 8:
            lines.append(line)
            line = "   "
        line += f" {text},"
    return [f"static const {kind} {name}[{len(texts)}] = {{", *lines, line, "};"]


# the largest


def argmax_lines(name: str, model: QuantModel, outputs: Sequence[Port]) -> list[str]:
    """Return the inline functions that say which feature of an output is largest, for the header."""
    lines = []
    for port in outputs:
        values = port_values(model, port)
        if port.count < 2 or values is None:
            continue
        if (compared := _comparable(values)) is None:
            lines += [
                comment(f"There is no {name}_argmax_{port.name}: no integers say which of its features is larger."),
                "",
            ]
            continue
        this, largest = (compared.form.format(k=k) for k in ("k", "found"))
        body = [
            *(f"    {line}" for line in compared.declared),
            "    uint32_t found = 0U;",
            "",
            f"    for (uint32_t k = 1U; k < {port.count}U; k++) {{",
            f"        if ({this} > {largest}) {{",
            "            found = k;",
            "        }",
            "    }",
            "    return found;",
        ]
        lines += [
            f"/* The feature of {port.name} whose real value is largest, the first of several: the class, where features are classes. */",
            f"static inline uint32_t {name}_argmax_{port.name}(const {port.kind} *q)",
            "{",
            *body,
            "}",
            "",
        ]
    return lines


def has_argmax(model: QuantModel, port: Port) -> bool:
    """Return whether an output has a function that says which of its features is largest."""
    values = port_values(model, port)
    return port.count > 1 and values is not None and _comparable(values) is not None


@dataclass(frozen=True)
class _Compared:
    """How features are compared: what is declared for it, and the expression of feature {k}."""

    declared: tuple[str, ...]
    form: str


def _comparable(values: RealValues) -> _Compared | None:
    """Return how the real values of features are compared as integers; None where they cannot be."""
    if len(values.scales) == 1 and len(values.offsets) == 1:
        return _Compared((), "q[{k}]")
    exponents = [math.frexp(s) for s in values.scales]
    if any(mantissa != 0.5 for mantissa, _ in exponents):
        if len(values.scales) > 1:
            return None
        exponents = [(0.5, 0)]
    least = min(e for _, e in exponents)
    shifts = [e - least for _, e in exponents]
    largest = max(abs(o) for o in values.offsets) + values.limit
    if largest << max(shifts) >= 1 << 62:
        return None
    declared, form = [], "q[{k}]"
    if any(values.offsets):
        several = len(values.offsets) > 1
        declared += constants("int64_t", "offset", [f"INT64_C({o})" for o in values.offsets]) if several else []
        form = f"({form} + {'offset[{k}]' if several else f'INT64_C({values.offsets[0]})'})"
    if any(shifts):
        declared += constants("int64_t", "scale", [f"INT64_C({1 << s})" for s in shifts])
        form = f"({form} * scale[{{k}}])"
    return _Compared(tuple(declared), form)
