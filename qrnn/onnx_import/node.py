"""One ONNX node as its handler sees it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from qrnn.errors import ModelFileError, UnsupportedError
from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.constants import LOWEST, to_numpy
from qrnn.onnx_import.problems import DEFAULT_DOMAINS
from qrnn.onnx_import.values import LARGEST_FEATURES, LARGEST_SHAPE, Array, Features, check_size, is_shape

DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""The exceptions of NumPy, onnx and protobuf on malformed operands (AxisError and UnicodeError are among them)."""

LONGEST_MESSAGE = 2000

MOST_LISTED = 1 << 16
"""Most numbers that an attribute or an operand may list one by one: axes, sizes, lengths of sequences."""


def shortened(message: str) -> str:
    """Return a message without the middle of a very long list in it."""
    if len(message) <= LONGEST_MESSAGE:
        return message
    return f"{message[: LONGEST_MESSAGE - 500]} … {message[-500:]}"


def first_line(error: BaseException) -> str:
    """Return the first line of a foreign error's message, to quote it."""
    lines = str(error).strip().splitlines()
    return shortened(lines[0]) if lines else type(error).__name__


class Node:
    """A node with the values of its inputs. Handlers take its attributes one by one; `leftovers` are those that no handler took."""

    def __init__(
        self,
        proto: onnx.NodeProto,
        opset: int,
        inputs: list[Any],
        budget: Budget,
        types: Mapping[str, int] | None = None,
    ) -> None:
        self.op: str = proto.op_type
        self.backwards, self.lengths = False, ""
        """Whether its inputs over time are in reverse, and the graph input of lengths by which they are, if one is (`reversal.through`)."""
        self._written = self.op if proto.domain in DEFAULT_DOMAINS else f"{proto.domain}.{self.op}"
        self._types = types or {}
        self.opset = opset
        self.inputs = inputs
        self.budget = budget
        self.input_names: list[str] = list(proto.input)
        self.output_names: list[str] = list(proto.output)
        first_output = next((name for name in self.output_names if name), "?")
        self.name: str = proto.name or f"{self.op}_{first_output}"
        self._attributes = {attribute.name: attribute for attribute in proto.attribute}

    @property
    def where(self) -> str:
        """Return the node's name, operator and opset, as messages begin with them."""
        return f"node '{self.name}' ({self._written}, opset {self.opset})"

    def as_operator(
        self, op: str, inputs: list[Any], names: list[str], attributes: Mapping[str, Any] | None = None
    ) -> Node:
        """Return this node as one of another operator, which takes the attributes that are left, or has ``attributes`` of its own.

        None stands for an absent input.
        """
        other = copy.copy(self)
        other.op, other.inputs = op, inputs
        if attributes is not None:
            other._attributes = {name: helper.make_attribute(name, value) for name, value in attributes.items()}
        other.input_names = ["" if value is None else name for name, value in zip(names, inputs, strict=True)]
        return other

    def element_type(self, k: int) -> int | None:
        """Return the element type that the file has for constant input ``k``; None where it does not say one."""
        return self._types.get(self.input_names[k]) if self.has_input(k) else None

    def refuse(self, message: str) -> UnsupportedError:
        """Return the error that refuses this node as not supported."""
        return UnsupportedError(f"{self.where}: {shortened(message)}")

    def damaged(self, message: str) -> ModelFileError:
        """Return the error that refuses this node as malformed."""
        return ModelFileError(f"{self.where}: {shortened(message)}")

    def reserve(self, elements: int, scratch: int = 0) -> None:
        """Count an array of ``elements`` that the node is about to make, and ``scratch`` more that it needs meanwhile."""
        if elements > LARGEST_SHAPE and any(is_shape(value) for value in self.inputs):
            raise self.refuse(f"makes a list of {elements} sizes; at most {LARGEST_SHAPE} are supported")
        self.budget.value(f"{self.where}: its result", elements, scratch)

    def reserve_features(self, elements: int) -> None:
        """Count features that the node is about to bring together."""
        check_size(elements, f"the result of {self.where}", LARGEST_FEATURES)
        self.reserve(elements)

    def take(self, name: str, default: Any = None) -> Any:
        """Return the value of an attribute, which counts as handled from then on; text as str, tensors as NumPy arrays."""
        attribute = self._attributes.pop(name, None)
        if attribute is None:
            return default
        if attribute.ref_attr_name:
            raise self.damaged(
                f"attribute {name} refers to a function attribute outside a function; re-export the model"
            )
        listed = len(attribute.ints) + len(attribute.floats) + len(attribute.strings)
        if listed > MOST_LISTED and name not in ("value_ints", "value_floats"):
            raise self.damaged(f"attribute {name} lists {listed} values, at most {MOST_LISTED} are supported")
        # a number of a list in Python takes five times its place in an array
        self.budget.value(f"{self.where}: attribute {name}", 0 if listed <= MOST_LISTED else listed, scratch=5 * listed)
        value = helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto):
            return to_numpy(value, f"attribute {name} of node '{self.name}'", self.budget)
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, list) and value and isinstance(value[0], bytes):
            return [text.decode() for text in value]
        return value

    def peek(self, name: str, default: Any = None) -> Any:
        """Return the value of an attribute, as `take` does, and leave it to be taken."""
        attribute = self._attributes.get(name)
        value = self.take(name, default)
        if attribute is not None:
            self._attributes[name] = attribute
        return value

    def leftovers(self) -> list[str]:
        """Return the names of the attributes that nothing has taken."""
        return sorted(self._attributes)

    def has_input(self, k: int) -> bool:
        """Return whether input ``k`` is present."""
        return k < len(self.input_names) and self.input_names[k] != ""

    def input(self, k: int) -> Any:
        """Return the value of input ``k``, or None when it is absent."""
        return self.inputs[k] if self.has_input(k) else None

    def constant(self, k: int, what: str) -> Array:
        """Return input ``k`` as a constant array, or refuse it with what it had to be."""
        value = self.input(k)
        if value is None:
            raise self.damaged(f"input {k} ({what}) is missing")
        if not isinstance(value, np.ndarray) or is_shape(value):
            raise self.refuse(
                f"{what} '{self.input_names[k]}' is not a constant but computed from the graph's inputs; "
                "re-export the model with this value constant"
            )
        return value

    def weights(self, k: int, what: str, fills: bool = False) -> Array:
        """Return input ``k`` as finite float64 numbers, not to be written to; with ``fills`` one may stand for -inf, as in a mask."""
        value = self.constant(k, what)
        if value.dtype != np.float64:
            self.reserve(value.size)
        value = value.astype(np.float64, copy=False)
        if not np.isfinite(value).all() or (not fills and (value == LOWEST).any()):
            raise self.damaged(f"{what} '{self.input_names[k]}' holds NaN or infinity; check the trained weights")
        return value

    def ints(self, k: int, what: str) -> list[int]:
        """Return input ``k`` as a list of Python ints."""
        value = self.constant(k, what)
        if value.dtype != np.int64:
            raise self.damaged(f"{what} '{self.input_names[k]}' has type {value.dtype}, expected integers")
        if value.size > MOST_LISTED:
            raise self.refuse(
                f"{what} '{self.input_names[k]}' lists {value.size} values, at most {MOST_LISTED} are supported"
            )
        return [int(v) for v in value.reshape(-1)]

    def axis(self, axis: int, rank: int) -> int:
        """Return an axis number counted from the front, checked against the rank."""
        if not -rank <= axis < rank:
            raise self.damaged(f"axis {axis} is outside the {rank} axes of its input")
        return axis % rank

    def features(self, k: int, what: str) -> Features:
        """Return input ``k`` as computed features."""
        value = self.input(k)
        if value is None:
            raise self.damaged(f"input {k} ({what}) is missing")
        if not isinstance(value, Features):
            raise self.refuse(f"{what} '{self.input_names[k]}' is a constant; re-export with constants folded")
        return value
