"""Exported C can be traced: built with NAME_TRACE defined, it shows the rows that each layer has just written to a function NAME_traced.

Built without, the statements are nothing, and the code is the same to the byte. `qrnn.export.trace_replay` has the function, and
compares the rows with the host's.
"""

from __future__ import annotations

from qrnn.export.ports import Place
from qrnn.model.layer import QuantLayer
from qrnn.model.quant_model import QuantModel


def traced_tensors(model: QuantModel) -> list[tuple[QuantLayer, str]]:
    """Return all tensors that layers write, each with its layer; a traced row has a tensor's place in this list."""
    return [(layer, tensor) for layer in model.layers for tensor in layer.outputs]


def traced_rows(model: QuantModel, name: str, tensor: str, place: Place, rows: str) -> str:
    """Return the statement that shows so many ``rows`` of a tensor, of which the first begins at ``place``; ``rows`` is an expression of C."""
    number = next(k for k, (_, own) in enumerate(traced_tensors(model)) if own == tensor)
    features = model.tensors[tensor].features
    first = Place(place.base, place.begin).at()
    return f"{name.upper()}_TRACED({number}U, {first}, {features}U, {place.stride or features}U, {rows});"


def trace_declaration(name: str) -> str:
    """Return the declaration of the function that is shown rows: elements of ``size`` bytes, ``stride`` of them from row to row."""
    return f"void {name}_traced(uint32_t tensor, const void *values, uint32_t size, uint32_t count, uint32_t stride, uint32_t rows);"


def trace_macro(name: str) -> list[str]:
    """Return the lines of C that define the macro of `traced_rows`."""
    macro = f"{name.upper()}_TRACED(tensor, values, count, stride, rows)"
    size = "(uint32_t)sizeof(*(values))"
    return [
        f"/* With {name.upper()}_TRACE defined, a function of the program is shown what each layer has just written. */",
        f"#if defined({name.upper()}_TRACE)",
        trace_declaration(name),
        f"#define {macro} \\",
        f"    {name}_traced((tensor), (values), {size}, (count), (stride), (rows))",
        "#else",
        f"#define {macro} ((void)0)",
        "#endif",
        "",
    ]
