"""NAME_float.h has functions that make an exported model's integers of real numbers, and real numbers of its integers.

It is a header of its own, which a program includes that has real numbers, so that the model's own header and source have none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from qrnn.export.boundary import constants
from qrnn.export.c_text import BEGIN_C, END_C, LICENCE, comment
from qrnn.export.given_states import StatePort
from qrnn.export.ports import Port
from qrnn.export.real_values import RealValues, c_integer, port_values
from qrnn.model.parts import INT32_MAX
from qrnn.model.quant_model import QuantModel

EXACT_IN_FLOAT = 1 << 22
"""The largest limit + |offset| of an input with which `quantize` in float is within one unit: three roundings of 2^-24 each are below 1."""


def float_header(
    name: str, model: QuantModel, inputs: Sequence[Port], outputs: Sequence[Port], states: Sequence[StatePort]
) -> str:
    """Return the text of NAME_float.h."""
    upper = name.upper()
    lines = [
        *LICENCE,
        f"#ifndef {upper}_FLOAT_H",
        f"#define {upper}_FLOAT_H",
        "",
        "#include <float.h>",
        "#include <stdint.h>",
        f'#include "{name}.h"',
        "",
        "#if !defined(QRNN_CAST)",
        "#if defined(__cplusplus)",
        "#define QRNN_CAST(type, x) static_cast<type>(x)",
        "#else",
        "#define QRNN_CAST(type, x) ((type)(x))",
        "#endif",
        "#endif",
        "",
        "/* Real numbers are double, or float where QRNN_FLOAT is defined. In double the integers are those that qrnn gives, bit for bit, and",
        " * real values too: QRNN_REAL_EXACT is 1 where this compiler's double is that of IEEE 754 and is rounded at each operation. In float",
        " * an integer is at most one unit beside that one, and a real value is off by at most 2^-22 of itself. */",
        "#if !defined(QRNN_REAL)",
        "#if defined(QRNN_FLOAT)",
        "#define QRNN_REAL float",
        "#define QRNN_REAL_C(x) x##f",
        "#else",
        "#define QRNN_REAL double",
        "#define QRNN_REAL_C(x) x",
        "#endif",
        "#if !defined(QRNN_FLOAT) && (DBL_MANT_DIG == 53) && defined(FLT_EVAL_METHOD) && !defined(__FAST_MATH__)",
        "#if (FLT_EVAL_METHOD == 0) || (FLT_EVAL_METHOD == 1)",
        "#define QRNN_REAL_EXACT 1",
        "#endif",
        "#endif",
        "#if !defined(QRNN_REAL_EXACT)",
        "#define QRNN_REAL_EXACT 0",
        "#endif",
        "#endif",
        "",
        f"typedef QRNN_REAL {name}_real;",
        "",
        *BEGIN_C,
    ]
    for port in inputs:
        if (values := port_values(model, port)) is not None:
            lines += _quantize(name, port, values)
    for port in outputs:
        if (values := port_values(model, port)) is not None:
            lines += _dequantize(name, port, values)
    for state in states:
        lines += [*_quantize(name, state.port, state.values()), *_dequantize(name, state.port, state.values())]
    return "\n".join([*lines, *END_C, "#endif", ""])


def in_float(values: RealValues) -> bool:
    """Return whether `quantize` in float is within one unit of that in double."""
    powers = all(math.frexp(s)[0] == 0.5 for s in values.scales) and not any(values.offsets)
    within = max(abs(o) for o in values.offsets) + values.limit <= EXACT_IN_FLOAT
    return (powers or within) and all(2.0**-100 <= s <= 2.0**100 for s in values.scales)


class _Numbers:
    """The scales and offsets of a port as expressions of C, and the lines that declare them."""

    def __init__(self, values: RealValues, kind: str, literal: str) -> None:
        self._declared: dict[str, list[str]] = {}
        self.wide = max(abs(o) for o in values.offsets) + values.limit > INT32_MAX
        self.integer = "int64_t" if self.wide else "int32_t"
        self.scale = self._of(kind, "scale", [literal.format(c_real(s)) for s in values.scales])
        offsets = [c_integer(o) if not self.wide else f"INT64_C({o})" for o in values.offsets]
        self.offset = self._of(self.integer, "offset", offsets)
        limits = [f"INT64_C({v})" if self.wide else str(v) for v in values.limits]
        self.limit = self._of(self.integer, "limit", limits)

    def _of(self, kind: str, name: str, texts: Sequence[str]) -> str:
        if len(texts) == 1:
            self._declared[name] = [f"const {kind} {name} = {texts[0]};"]
            return name
        self._declared[name] = constants(kind, name, texts)
        return f"{name}[k]"

    def declared(self, *names: str) -> list[str]:
        """Return the lines that declare the numbers of these names."""
        return [line for name in names for line in self._declared[name]]


def cast(kind: str, value: str) -> str:
    """Return a conversion, of C or of C++."""
    return f"QRNN_CAST({kind}, {value})"


def c_real(value: float) -> str:
    """Return a positive real number as digits of C that have a point or an exponent."""
    text = repr(value)
    return text if any(c in text for c in ".e") else f"{text}.0"


def _quantize(name: str, port: Port, values: RealValues) -> list[str]:
    """Return the inline function that makes integers of real numbers."""
    narrow = in_float(values)
    kind, literal = (f"{name}_real", "QRNN_REAL_C({})") if narrow else ("double", "{}")
    half = literal.format("0.5")
    numbers = _Numbers(values, kind, literal)
    integer = numbers.integer
    note = "" if narrow else " It computes in double, since float has too few bits for its numbers."
    body = [
        *numbers.declared("scale", "offset", "limit"),
        "",
        f"for (uint32_t k = 0U; k < {port.count}U; k++) {{",
        f"    const {kind} place = (real[k] / {numbers.scale}) + {half};",
        f"    const {integer} low = {numbers.offset} - {numbers.limit};",
        f"    const {integer} high = {numbers.offset} + {numbers.limit};",
        f"    {integer} whole = low;",
        "",
        f"    if (place >= {cast(kind, 'high')}) {{",
        "        whole = high;",
        f"    }} else if (place > {cast(kind, 'low')}) {{",
        f"        whole = {cast(integer, 'place')};",
        f"        whole -= ({cast(kind, 'whole')} > place) ? 1 : 0;",
        "    } else {",
        "        /* the lowest */",
        "    }",
        f"    q[k] = {cast(port.kind, f'whole - {numbers.offset}')};",
        "}",
    ]
    what = f"{port.name} for real numbers: floor(real / scale + 1/2) - offset, within the limit; what is not a number is the lowest.{note}"
    head = f"static inline void {name}_quantize_{port.name}(const {name}_real *real, {port.kind} *q)"
    return [comment(what), head, "{", *(f"    {line}" if line else "" for line in body), "}", ""]


def _dequantize(name: str, port: Port, values: RealValues) -> list[str]:
    """Return the inline function that makes real numbers of integers."""
    fits = all(2.0**-100 <= s <= 2.0**100 for s in values.scales)
    kind, literal = (f"{name}_real", "QRNN_REAL_C({})") if fits else ("double", "{}")
    numbers = _Numbers(values, kind, literal)
    whole, names = "q[k]", ["scale"]
    if any(values.offsets):
        whole, names = f"{cast(numbers.integer, whole)} + {numbers.offset}", ["scale", "offset"]
    product = f"{cast(kind, whole)} * {numbers.scale}"
    body = [
        *numbers.declared(*names),
        "",
        f"for (uint32_t k = 0U; k < {port.count}U; k++) {{",
        f"    real[k] = {product};" if fits else f"    real[k] = {cast(f'{name}_real', product)};",
        "}",
    ]
    head = f"static inline void {name}_dequantize_{port.name}(const {port.kind} *q, {name}_real *real)"
    what = f"The real numbers of {port.name}: (q + offset) * scale."
    return [comment(what), head, "{", *(f"    {line}" if line else "" for line in body), "}", ""]
