"""Say what decides a condition that is not known, and how the user can fix it."""

from __future__ import annotations

from collections.abc import Container

import onnx

from qrnn.onnx_import.control.facts import UNNAMED, Facts
from qrnn.onnx_import.values import Symbol

MOST_LOOKED_AT = 10_000
"""The most values that are looked at for a message."""


def cause(facts: Facts, condition: str, graph: onnx.GraphProto, left: Container[str]) -> tuple[str, str]:
    """Return what a condition depends on, and the remedy, for a message that begins with the node's name.

    For a condition that depends on one of the values ``left``, for which another message stands, there is none; this value comes second.
    """
    inputs = {i.name: i for i in graph.input if facts.tensor(i.name) is None}
    values, sizes, follows = _leaves(facts, condition, inputs, left)
    if follows:
        return "", follows
    return _message(values, sizes, inputs), ""


def _message(values: list[str], sizes: list[str], inputs: dict[str, onnx.ValueInfoProto]) -> str:
    scalars = [name for name in values if _elements(inputs[name]) == 1]
    if values and len(scalars) == len(values):
        listed = " and ".join(f"input '{name}'" for name in scalars)
        options = " ".join(f"--set {name}=VALUE" for name in scalars)
        entries = ", ".join(f"'{name}': VALUE" for name in scalars)
        return f"which branch runs depends on {listed}; fix it by {options} (load_onnx(path, values={{{entries}}}))"
    if values:
        return f"which branch runs is computed from the values of input '{values[0]}', at run time; re-export the branch that is wanted alone"
    if sizes:
        return (
            f"which branch runs depends on the size {sizes[0]}, which the file leaves free; fix it by --set {sizes[0]}=SIZE "
            f"(load_onnx(path, values={{'{sizes[0]}': SIZE}}))"
        )
    return "which branch runs cannot be decided from its constants; re-export the branch that is wanted alone"


def _elements(info: onnx.ValueInfoProto) -> int:
    """Return how many elements an input has, with a free size counted as many."""
    count = 1
    for dim in info.type.tensor_type.shape.dim:
        count *= dim.dim_value if dim.dim_value > 0 else 2
    return count


def _leaves(
    facts: Facts, condition: str, inputs: dict[str, onnx.ValueInfoProto], outputs: Container[str]
) -> tuple[list[str], list[str], str]:
    """Return the inputs whose values a condition depends on, the free sizes, and the one of ``outputs`` that it depends on.

    The size of an input's first axis, which mostly is the batch, is left out where others are free.
    """
    values: dict[str, None] = {}
    sizes: dict[str, None] = {}
    seen: set[tuple[str, bool]] = set()
    left = [(condition, False)]
    while left and len(seen) < MOST_LOOKED_AT:
        name, by_size = left.pop()
        if (name, by_size) in seen:
            continue
        seen.add((name, by_size))
        facts.spend()
        if name in outputs:
            return [], [], name
        if name in inputs:
            if by_size:
                dims = facts.of(name).dims or ()
                free = [d for d in dims[1:] if isinstance(d, Symbol)] or [d for d in dims if isinstance(d, Symbol)]
                sizes.update(dict.fromkeys(d.name for d in free))
            else:
                values[name] = None
            continue
        node = facts.writer.get(name)
        value = facts.of(name).value
        named = [d.name for d in value.reshape(-1) if isinstance(d, Symbol)] if value is not None else []
        if named and not any(name.startswith(UNNAMED) for name in named):
            sizes.update(dict.fromkeys(named))
        elif node is not None:
            left += [(i, by_size or node.op_type in ("Shape", "Size")) for i in node.input if i]
    return list(values), list(sizes), ""
