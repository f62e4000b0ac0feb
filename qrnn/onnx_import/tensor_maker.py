"""The tensors of the float model under construction are made here, each with a name of its own; what is padded or masked of them is kept."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

import numpy as np

from qrnn.model.parts import FloatArray, IndexArray
from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.moved_padding import moved_padding
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.values import TIME, Features, Padding, Symbol, Tensor, TensorBook, TensorKind


class Names:
    """The names given out so far."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[tuple[str, bool], int] = {}
        """A name, and whether it was kept apart from others → the last number that it got: the next search starts there."""

    def unique(self, name: str, others: Set[str] = frozenset()) -> str:
        """Return ``name``, with a number when it was given out before or is among ``others``.

        Where ``others`` is given, it is the same set in every call.
        """
        key = (name, bool(others))
        number = self._numbers.get(key, 1)
        unique = name if number == 1 else f"{name}_{number}"
        while unique in self._taken or unique in others:
            number += 1
            unique = f"{name}_{number}"
        self._numbers[key] = number
        self._taken.add(unique)
        return unique


@dataclass(eq=False, kw_only=True)
class TensorMaker:
    """The tensors made so far. ``value_names`` are those of the graph, from which the names of other tensors are kept apart."""

    value_names: frozenset[str]
    budget: Budget
    states: dict[str, Tensor] = field(default_factory=dict)
    """The tensors of state inputs by name."""
    _fills: dict[bytes, float] = field(default_factory=dict)
    """The sorted ids of features that a mask of steps was applied to → what the graph has in the place of steps that pad a sequence."""
    _paddings: dict[int, tuple[Features, Padding]] = field(default_factory=dict)
    """First id of padded features → these, and what they are."""
    _names: Names = field(default_factory=Names)

    def __post_init__(self) -> None:
        self.book = TensorBook(self.budget)
        self._zero: Tensor | None = None

    def new_tensor(self, name: str, generated: bool, features: int, has_time: bool, kind: TensorKind) -> Tensor:
        """Make a tensor; a generated name is kept apart from every value name of the graph."""
        unique = self._names.unique(name, self.value_names if generated else frozenset())
        tensor = self.book.add(unique, features, has_time, kind)
        if kind == "state":
            self.states[unique] = tensor
        return tensor

    def constant(self, values: FloatArray, axes: tuple[Symbol | None, ...]) -> Features:
        """Return constants whose batch or time size is symbolic, as features of a tensor that only initial states may read."""
        name = f"constant_{len(self.book.tensors)}"
        flat = values.reshape(-1)
        tensor = self.book.add(name, flat.size, TIME in axes, "constant", values=flat)
        return Features(tensor.ids.reshape(values.shape), axes)

    @property
    def zero(self) -> int:
        """Return the id of a feature that is always 0."""
        if self._zero is None:
            self._zero = self.book.add(f"zero_{len(self.book.tensors)}", 1, False, "zero")
        return self._zero.start

    def padded(self, node: Node, padding: Padding) -> Features:
        """Return the features of a padded value, which `padding_of` looks behind; zeros around padded zeros are added to them."""
        inner = self.padding_of(padding.value)
        if inner.fill is not None:
            raise node.refuse("pads steps that a convolution makes of padded zeros; re-export with one Pad before both")
        edges = tuple((a + c, b + d) for (a, b), (c, d) in zip(inner.edges, padding.edges, strict=True))
        cache = inner.cache if padding.cache is None else padding.cache
        value, padding = inner.value, Padding(inner.value, edges, cache, padding.fill)
        sizes = [size + sum(edge) for size, edge in zip(value.ids.shape, edges, strict=True)]
        shape = [1 if axis is not None else size for size, axis in zip(sizes, value.axes, strict=True)]
        has_time = any(part.tensor.has_time for part in self.book.parts(value.ids.reshape(-1)))
        kind: TensorKind = "padded" if padding.fill is None else "filled"
        tensor = self.new_tensor(f"{node.name}.padded", True, int(np.prod(shape)), has_time, kind)
        features = Features(tensor.ids.reshape(shape), value.axes)
        self._paddings[tensor.start] = features, padding
        return features

    def mask(self, value: Features, fill: float) -> None:
        """Record that a mask put ``fill`` in the place of the steps of ``value`` that pad a sequence."""
        self._fills[np.sort(value.ids.reshape(-1)).tobytes()] = fill

    def fill_of(self, value: Features) -> float | None:
        """Return what a mask put in the place of the steps that pad a sequence, whatever the order of the axes since; None without a mask."""
        return self._fills.get(np.sort(value.ids.reshape(-1)).tobytes())

    def padding_of(self, value: Features) -> Padding:
        """Return what ``value`` is padded of, and how; where it is not padded, or other features took part since, itself without padding."""
        features, padding = self._paddings.get(int(value.ids.reshape(-1)[0]) if value.ids.size else -1, (None, None))
        moved = None if features is None or padding is None else moved_padding(padding, features, value)
        return Padding(value, ((0, 0),) * value.ids.ndim) if moved is None else moved

    def laid_out(self, node: Node, tensor: Tensor) -> IndexArray | None:
        """Return the ids of a padded tensor with zeros in the padding; None where batch or time is padded."""
        _, padding = self._paddings[tensor.start]
        value = padding.value
        if any(any(edge) for edge, symbol in zip(padding.edges, value.axes, strict=True) if symbol is not None):
            return None
        node.reserve(tensor.features)
        return np.pad(value.ids, padding.edges, constant_values=self.zero).reshape(-1)
