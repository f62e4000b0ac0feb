"""The golden sequences as an example: each prints a line with its class, or its first number, and whether every bit is right."""

from __future__ import annotations

from qrnn.export.boundary import has_argmax
from qrnn.export.ports import Port
from qrnn.export.source import Exported
from qrnn.model.quant_model import QuantModel

LINE_BYTES = 192
"""The bytes of a line that is printed, beside the names of a class, an array and a layer."""

PUT = """/* Put text, or a number, at the end of a line that ends before `end`. */
static char *put(char *at, const char *end, const char *text)
{
    for (; (*text != '\\0') && (at < end); text++) {
        *at = *text;
        at++;
    }
    *at = '\\0';
    return at;
}

static char *put_number(char *at, const char *end, int32_t number)
{
    char digits[12];
    char *first = &digits[11];
    uint32_t rest = (number < 0) ? (0U - (uint32_t)number) : (uint32_t)number;

    *first = '\\0';
    do {
        first--;
        *first = (char)('0' + (int)(rest % 10U));
        rest /= 10U;
    } while (rest != 0U);
    if (number < 0) {
        first--;
        *first = '-';
    }
    return put(at, end, first);
}
"""


_DIFFERENCE = (
    "if (here.what == NULL) {",
    '    at = put(at, end, ", every bit is right");',
    "} else {",
    '    at = put(at, end, ", WRONG: ");',
    "    at = put(at, end, here.what);",
    "    if (here.layer != NULL) {",
    '        at = put(at, end, " of layer ");',
    "        at = put(at, end, here.layer);",
    "    }",
    '    at = put(at, end, ", step ");',
    "    at = put_number(at, end, (int32_t)here.step);",
    '    at = put(at, end, ", unit ");',
    "    at = put_number(at, end, (int32_t)here.unit);",
    '    at = put(at, end, ": ");',
    "    at = put_number(at, end, here.got);",
    '    at = put(at, end, ", expected ");',
    "    at = put_number(at, end, here.expected);",
    "}",
    "(void)at;",
)
"""The statements that put the first difference to the line."""


def told_output(model: QuantModel, exported: Exported) -> Port | None:
    """Return the output that the lines tell of: the first with classes, else the first; None where there is none."""
    return next((p for p in exported.outputs if has_argmax(model, p)), next(iter(exported.outputs), None))


def statements(model: QuantModel, exported: Exported, rows: str, array_bytes: int) -> list[str]:
    """Return the statements that print the line of sequence n, whose first difference is ``here``.

    ``rows`` is how many rows of outputs over time it gave, where they are counted; else that is how many steps their time axis has.
    ``array_bytes`` is the most that the names of an array and its layer take.
    """
    name, port = exported.name, told_output(model, exported)
    names = exported.choices.names.get(port.graph_name) if port is not None else None
    longest = max((len(text.encode()) for text in names or ()), default=0)
    lines = [
        f"char line[{LINE_BYTES + longest + array_bytes}];",
        "const char *const end = &line[sizeof(line) - 1U];",
        'char *at = put(line, end, "sequence ");',
        "",
        "at = put_number(at, end, (int32_t)n);",
        'at = put(at, end, ": steps ");',
        f"at = put_number(at, end, (int32_t){exported.lengths[0]});",
    ]
    for steps in exported.lengths[1:]:
        lines += ['at = put(at, end, " and ");', f"at = put_number(at, end, (int32_t){steps});"]
    if port is not None:
        lines += _result(model, name, port, names, rows or port.steps)
    return [*lines, *_DIFFERENCE, "print(line);"]


def _result(model: QuantModel, name: str, port: Port, names: tuple[str, ...] | None, rows: str) -> list[str]:
    """Return the statements that put the class of the last row to the line."""
    row = f"&got_{port.name}[{port.count}U * ({rows} - 1U)]" if port.has_time else f"got_{port.name}"
    if has_argmax(model, port):
        lines = ['at = put(at, end, ", class ");', f"found = {name}_argmax_{port.name}({row});"]
        lines += ["at = put_number(at, end, (int32_t)found);"]
        if names is not None:
            lines += ['at = put(at, end, " ");', f"at = put(at, end, {name}_name_{port.name}(found));"]
        lines = ["uint32_t found;", "", *lines]
    else:
        value = row.removeprefix("&") if port.has_time else f"got_{port.name}[0]"
        lines = [f'at = put(at, end, ", {port.name} ");', f"at = put_number(at, end, (int32_t){value});"]
    head = f"if ({rows} > 0U) {{" if port.has_time else "{"
    return [head, *(f"    {line}" if line else "" for line in lines), "}"]
