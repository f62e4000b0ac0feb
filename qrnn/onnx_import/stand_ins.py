"""What a node computes of values that stand for something else than their features: reversed steps, masks, numbers of steps, parts of a group.

Each rule returns None for a node that reads none of its values. The first that returns something counts; without one, the operator's own
handler is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx

from qrnn.onnx_import import banding, by_steps, counted, filled, masks, moments, repeated, reversal, vectors
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators import step_attention
from qrnn.onnx_import.registry import HANDLERS, registered_name


@dataclass(frozen=True)
class Reading:
    """A node, its operands and the handler of its operator."""

    proto: onnx.NodeProto
    opset: int
    node: Node
    build: Builder

    @property
    def handler(self) -> Callable[[Node, Builder], Any]:
        """Return the handler of the node's operator."""
        return HANDLERS[registered_name(self.proto)]


RULES: tuple[Callable[[Reading], Any], ...] = (
    lambda of: step_attention.through(of.node, of.build),
    lambda of: by_steps.through(of.proto, of.opset, of.node, of.build),
    lambda of: vectors.through(of.node, of.build),
    lambda of: reversal.through(of.node, of.build, of.handler),
    lambda of: counted.through(of.node, of.build),
    lambda of: filled.through(of.proto, of.opset, of.node, of.build, of.handler),
    lambda of: repeated.through(of.proto, of.opset, of.node, of.build, of.handler),
    lambda of: masks.through(of.node, of.build),
    lambda of: moments.through(of.node, of.build),
)


def computed(proto: onnx.NodeProto, opset: int, node: Node, build: Builder) -> Any:
    """Return what a node makes of its operands. Operands whose bands lie in the batch come first, as every other rule takes their parts."""

    def by_rules(node: Node, build: Builder) -> Any:
        reading = Reading(proto, opset, node, build)
        for rule in RULES:
            if (result := rule(reading)) is not None:
                return result
        return reading.handler(node, build)

    result = banding.through(node, build, by_rules)
    return by_rules(node, build) if result is None else result
