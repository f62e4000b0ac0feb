"""Steps that a graph reads from the last to the first: flips, which become the direction of the recurrent layers between two of them.

A value whose steps are reversed has the ids of twins: a twin stands for a tensor with each sequence's own steps in reverse. What treats each
step by itself is computed of the tensors themselves, and its result is reversed; a recurrent layer runs in the other direction. Two flips
give the tensor again. What else reads a reversed value is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.repeat import Repeat
from qrnn.model.kinds.running import Running
from qrnn.model.kinds.sequence_norm import SequenceNorm
from qrnn.model.kinds.take_steps import TakeSteps
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.steps import WRITER_WORK
from qrnn.onnx_import.values import TIME, Features, Tensor

OWN = frozenset(["Slice", "Split", "Gather", "GatherElements", "GatherND", "ReverseSequence"])
"""The operators that take steps, whose handlers take reversed values themselves or refuse them."""


def flipped(node: Node, build: Builder, value: Features, lengths: str = "") -> Features:
    """Return ``value`` with its steps in reverse; ``lengths`` names the graph input that says how many each sequence has, if one does."""
    node.reserve(2 * value.ids.size)
    flat = value.ids.reshape(-1).copy()
    repeats = _repeats(build)
    for part in build.book.parts(flat):
        tensor = part.tensor
        if tensor.kind == "zero" or not tensor.has_time or tensor.name in repeats:
            continue  # the same at every step
        flat[part.positions] = part.indices + _twin(node, build, tensor, lengths).start
    return Features(flat.reshape(value.ids.shape), value.axes)


def _repeats(build: Builder) -> set[str]:
    """Return the tensors that are one vector at every step."""
    build.budget.spend("looking up a layer", len(build.layers) * WRITER_WORK)
    return {layer.output for layer in build.layers if isinstance(layer, Repeat)}


def _twin(node: Node, build: Builder, tensor: Tensor, lengths: str) -> Tensor:
    """Return the tensor that a twin stands for, or the twin of a tensor."""
    if tensor.kind == "reversed":
        original, by = build.twins[tensor.start]
        if by != lengths:
            raise node.refuse(
                f"reverses '{original.name}' by {_by(lengths)}, which was reversed by {_by(by)}; re-export with the same lengths for both"
            )
        return original
    key = tensor.name.encode(), f"reversed by {lengths}".encode()
    if key not in build.made:
        twin = build.new_tensor(f"{tensor.name}.reversed", True, tensor.features, True, "reversed")
        build.twins[twin.start], build.made[key] = (tensor, lengths), twin
    return build.made[key]


def _by(lengths: str) -> str:
    return f"the lengths '{lengths}'" if lengths else "the whole time axis"


def reversed_by(build: Builder, value: Any) -> str | None:
    """Return the lengths by which a value is reversed, "" for the whole time axis; None for a value that is not reversed."""
    if not isinstance(value, Features):
        return None
    return next(
        (build.twins[p.tensor.start][1] for p in build.book.parts(value.ids) if p.tensor.kind == "reversed"), None
    )


def unflipped(node: Node, build: Builder, value: Features) -> Features:
    """Return a reversed value as it was before, and another one as it is."""
    lengths = reversed_by(build, value)
    return value if lengths is None else flipped(node, build, value, lengths)


def through(node: Node, build: Builder, handler: Callable[[Node, Builder], Any]) -> Any:
    """Return what an operator makes of reversed values; None where it reads none, or its handler takes them itself."""
    if not build.twins:
        return None
    by = [reversed_by(build, value) for value in node.inputs]
    found = {lengths for lengths in by if lengths is not None}
    if not found or node.op in OWN:
        return None
    if len(found) > 1:
        raise node.refuse("joins tensors that were reversed by different lengths; re-export with the same for all")
    (lengths,) = found
    for name, value, own in zip(node.input_names, node.inputs, by, strict=True):
        if own is None and isinstance(value, Features) and TIME in value.axes and not _same_at_all(build, value):
            other = node.input_names[by.index(lengths)]
            raise node.refuse(
                f"joins '{name}' and '{other}', whose steps are in reverse; reverse it back before they are joined, or run this part outside "
                "the model"
            )
    operands = [
        value if own is None else unflipped(node, build, value) for value, own in zip(node.inputs, by, strict=True)
    ]
    first = len(build.layers)
    turned = node.as_operator(node.op, operands, node.input_names)
    turned.backwards, turned.lengths = True, lengths
    results = handler(turned, build)
    for layer in build.layers[first:]:
        whole = (
            isinstance(layer, TakeSteps) and layer.exact
        )  # which `qrnn.onnx_import.steps.unrolled` reads from its end
        if layer.keeps_state and not whole and not isinstance(layer, Recurrent | Running | SequenceNorm):
            raise node.refuse(
                "reads several steps of a tensor whose steps are in reverse; only recurrent layers, and what computes each step by itself, "
                "can; run this part outside the model"
            )
    listed = results if isinstance(results, tuple) else (results,)
    return tuple(flipped(node, build, r, lengths) if isinstance(r, Features) and TIME in r.axes else r for r in listed)


def _same_at_all(build: Builder, value: Features) -> bool:
    """Return whether a value over time is the same at every step."""
    repeats = _repeats(build)
    return all(p.tensor.name in repeats or not p.tensor.has_time for p in build.book.parts(value.ids))
