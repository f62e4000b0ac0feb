"""The registry of the handlers of ONNX operators and of their axis rules, by the operator's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import onnx

from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.problems import DEFAULT_DOMAINS
from qrnn.onnx_import.roles import AxisTensor, Roles
from qrnn.onnx_import.values import Array, Value

Handler = Callable[[Node, Builder], Value | tuple[Value, ...]]
AxisRule = Callable[[Node, Roles], AxisTensor | Array | tuple[AxisTensor | None, ...]]

HANDLERS: dict[str, Handler] = {}
AXIS_RULES: dict[str, AxisRule] = {}

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators, which are registered with it in front of their names: ``com.microsoft.QGemm``."""


def registered_name(proto: onnx.NodeProto) -> str:
    """Return the name under which the handler of a node would be registered."""
    return proto.op_type if proto.domain in DEFAULT_DOMAINS else f"{proto.domain}.{proto.op_type}"


H = TypeVar("H", bound=Handler)
R = TypeVar("R", bound=AxisRule)


def operator(*ops: str) -> Callable[[H], H]:
    """Register the handler of ONNX operators, which turns a node's input values into its output values."""

    def register(handler: H) -> H:
        HANDLERS.update(dict.fromkeys(ops, handler))
        return handler

    return register


def axis_rule(*ops: str) -> Callable[[R], R]:
    """Register how operators carry axes from input to output, for finding which axes are batch and time (`roles.py`)."""

    def register(rule: R) -> R:
        AXIS_RULES.update(dict.fromkeys(ops, rule))
        return rule

    return register
