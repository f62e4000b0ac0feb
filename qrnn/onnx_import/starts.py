"""Initial states that a graph computes: of another layer's last states, of features without time, and of what layers make of both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qrnn.model.kinds.recurrent.definition import InitialState
from qrnn.model.kinds.recurrent.start import StartPart
from qrnn.model.parts import IndexArray
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.values import Tensor

READABLE = ("layer", "h_n", "c_n", "features")
"""The kinds of tensors that an initial state may be computed from."""


class Start(NamedTuple):
    """The initial state of one direction: constants or elements of a state input, and the elements that are computed in the place of these."""

    state: InitialState
    parts: tuple[StartPart, ...] = ()


def start_of(node: Node, build: Builder, what: str, given: str, ids: IndexArray) -> Start:
    """Return the initial state of a direction, [H], whose elements have these ids; ``what`` and ``given`` name the state and the value.

    A state input is all of it; else some elements may be constants, and all others are features of tensors without time.
    """
    hidden = ids.size
    parts = build.book.parts(ids)
    tensor = parts[0].tensor
    if len(parts) == 1 and tensor.kind == "state":
        return Start(InitialState(np.zeros(hidden), tensor.name, parts[0].indices))
    value, computed = np.zeros(hidden), []
    for part in build.book.parts(build.as_read(node, ids, cells=False)):
        tensor = part.tensor
        if tensor.values is not None:
            value[part.positions] = tensor.values[part.indices]
        elif tensor.kind != "zero":
            _check(node, what, given, tensor)
            computed.append(StartPart(tensor.name, part.indices.astype(np.int64), part.positions.astype(np.int64)))
    return Start(InitialState(value), tuple(computed))


def _check(node: Node, what: str, given: str, tensor: Tensor) -> None:
    """Refuse to compute an initial state from a tensor that no layer can read before the first step."""
    if tensor.has_time:
        raise node.refuse(
            f"{what} '{given}' is computed from '{tensor.name}', which is over time; expected values without time, such as the last state of a "
            "layer or a graph input [N, features]"
        )
    if tensor.kind not in READABLE:
        raise node.refuse(
            f"{what} '{given}' is made of the {tensor.kind} input '{tensor.name}' and of other values; expected a state input alone, or what "
            "is computed from features"
        )


def joined_parts(starts: list[Start], hidden: int) -> tuple[StartPart, ...]:
    """Return the computed elements of all directions of a layer, with one part for each tensor."""
    found: dict[str, list[tuple[IndexArray, IndexArray]]] = {}
    for number, start in enumerate(starts):
        for part in start.parts:
            found.setdefault(part.tensor, []).append((part.indices, part.positions + number * hidden))
    return tuple(
        StartPart(name, *(np.concatenate(arrays) for arrays in zip(*pieces, strict=True)))
        for name, pieces in found.items()
    )
