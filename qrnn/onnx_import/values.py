"""What a graph value is while the graph is interpreted.

* a constant: a NumPy array (float64, int64 or bool);
* a shape: a NumPy object array of ints and symbols (`BATCH`, `TIME`, and a `Product` of these);
* `Features`: one int64 id per scalar feature, so that Transpose, Reshape, Slice, Gather and Concat act on the ids as NumPy does
  and a layer that reads them later can look up which tensors they belong to;
* `POISON`: the result of a refused node; what reads it is skipped, because the refusal is already listed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from qrnn.errors import UnsupportedError
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.time import Axis, LengthRule
from qrnn.onnx_import.budget import ELEMENT_WORK, Budget

Array = npt.NDArray[Any]

LARGEST_FEATURES = 1 << 20
"""Most features of one step or one state."""

SORT_WORK = 100
"""Nominal nanoseconds to sort one of many features by its tensor."""

LARGEST_SHAPE = 1 << 12
"""Most elements of a value that holds symbols: a list of sizes."""

MOST_AXES = 32
"""Most axes of a value; NumPy before version 2 has no more."""


@dataclass(frozen=True, eq=False)
class Symbol:
    """A size that is not a number. ``size`` is the size that the file declares for it, if it does."""

    name: str
    size: int | None = None

    def __repr__(self) -> str:
        return self.name


_INPUTS = Axis()


@dataclass(frozen=True, eq=False, repr=False)
class Steps(Symbol):
    """The size of a time axis that is not as long as that of the graph inputs, by its length ``rule``."""

    rule: LengthRule = _INPUTS

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False, repr=False)
class Product(Symbol):
    """The product of sizes that are no numbers, ``factors``, and of a number, ``count``."""

    factors: tuple[Symbol, ...] = ()
    count: int = 1

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False, repr=False)
class Banded(Product):
    """The axis that batch, features and perhaps time are merged to: ``parts``, in their order (`qrnn.onnx_import.banding`)."""

    parts: tuple[int | Symbol, ...] = ()


BATCH = Symbol("N")
TIME = Symbol("T")

BATCH_TIME = Symbol("N·T")
"""The axis that batch and time are merged to, with all steps of a sequence one after the other."""

TIME_BATCH = Symbol("T·N")
"""The axis that time and batch are merged to, with a step of every sequence one after the other."""

MERGED = {BATCH_TIME: (BATCH, TIME), TIME_BATCH: (TIME, BATCH)}
"""A merged axis → the axes it is made of, in their order."""


class AxisNames(dict[Symbol, str]):
    """The names of axes; that of one which features are merged to says its parts."""

    def __missing__(self, axis: Symbol) -> str:
        return f"merged {axis}"


AXIS_NAMES = AxisNames({BATCH: "batch", TIME: "time", BATCH_TIME: "merged N·T", TIME_BATCH: "merged T·N"})
"""What messages call an axis that holds no features."""

Dim = int | Symbol


@dataclass(frozen=True, eq=False)
class Features:
    """The ids of a tensor; ``axes[k]`` is BATCH, TIME or one that both are `MERGED` to (then ``ids`` has size 1 there), or None for features.

    It may also be `Banded`, which features are merged to too; then ``ids`` has their number there.

    In a graph that runs one step per call, a tensor that has time may be without its TIME axis, which is then hidden.
    """

    ids: IndexArray
    axes: tuple[Symbol | None, ...]

    @property
    def shape(self) -> tuple[Dim, ...]:
        """Return the sizes, with symbols for batch and time."""
        return tuple(size if axis is None else axis for size, axis in zip(self.ids.shape, self.axes, strict=True))

    def describe(self) -> str:
        """Return the shape, for messages."""
        return "[" + ", ".join(str(d) for d in self.shape) + "]"


@dataclass(frozen=True, eq=False)
class Padding:
    """``value`` with ``edges`` zeros (before, after) at the ends of each axis.

    Where there is a ``cache``, the zeros before the time axis stand for the elements of caches in that place, of these ids. Where there is a
    ``fill``, one number for each of the ids, these stand at the ends of the time axis and no zeros (`qrnn.onnx_import.filled`).
    """

    value: Features
    edges: tuple[tuple[int, int], ...]
    cache: IndexArray | None = None
    fill: FloatArray | None = None


class TimeWeights(NamedTuple):
    """What features of kind "weights" stand for: a softmax of ``scores`` over time, alone or times ``values``; ids, row-major."""

    scores: IndexArray
    values: IndexArray | None


class Poison:
    """The result of a refused node."""


POISON = Poison()

Value = Array | Features | Poison

TensorKind = Literal[
    "features",
    "tokens",
    "lengths",
    "steps",
    "mask",
    "moment",
    "folded",
    "state",
    "constant",
    "padded",
    "filled",
    "cache",
    "tail",
    "zero",
    "layer",
    "reversed",
    "index",
    "h_n",
    "c_n",
    "integers",
    "weights",
    "scores",
    "fills",
]


@dataclass(frozen=True, eq=False)
class Integers:
    """What a tensor of integers in the graph, or a scale of them, stands for; see `qrnn.onnx_import.operators.quantized`."""


@dataclass(eq=False)
class Tensor:
    """A tensor of the float model: ids ``start`` … ``start + features - 1`` are its scalar features."""

    name: str
    start: int
    features: int
    has_time: bool
    kind: TensorKind
    values: FloatArray | None = None
    steps: Tensor | None = None
    """For h_n: the layer's output, of which it is the last step."""
    integers: Integers | None = None
    """For a tensor of integers: what they stand for."""

    @property
    def ids(self) -> IndexArray:
        """Return the ids of all features."""
        return np.arange(self.start, self.start + self.features, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Part:
    """The ids of one tensor among many: ``indices`` into the tensor, ``positions`` into the flat ids."""

    tensor: Tensor
    indices: IndexArray
    positions: IndexArray


@dataclass
class TensorBook:
    """All tensors, by their id ranges."""

    budget: Budget
    tensors: list[Tensor] = field(default_factory=list)
    _starts: IndexArray = field(default_factory=lambda: np.empty(16, dtype=np.int64))
    """The tensors' ``start``, with room for more."""

    def add(
        self,
        name: str,
        features: int,
        has_time: bool,
        kind: TensorKind,
        values: FloatArray | None = None,
        steps: Tensor | None = None,
    ) -> Tensor:
        """Make a tensor and give it the next ids."""
        check_size(features, f"tensor '{name}'", LARGEST_FEATURES)
        start = self.tensors[-1].start + self.tensors[-1].features if self.tensors else 0
        self.budget.value(f"tensor '{name}'", features)
        tensor = Tensor(name, start, features, has_time, kind, values, steps)
        if len(self.tensors) == self._starts.size:
            self._starts = np.concatenate([self._starts, np.empty_like(self._starts)])
        self._starts[len(self.tensors)] = start
        self.tensors.append(tensor)
        return tensor

    def parts(self, ids: IndexArray) -> list[Part]:
        """Return the tensors that ``ids`` (any shape, read row-major) belong to, by first appearance."""
        flat = ids.reshape(-1)
        if not flat.size:
            return []
        first, last = (self._owner(np.array([end]))[0] for end in (flat.min(), flat.max()))
        if first == last:
            self.budget.spend("looking up features", flat.size * ELEMENT_WORK)
            tensor = self.tensors[first]
            return [Part(tensor, flat - tensor.start, np.arange(flat.size, dtype=np.int64))]
        self.budget.spend("looking up features", flat.size * SORT_WORK)
        owner = self._owner(flat)
        order = np.argsort(owner, kind="stable").astype(np.int64, copy=False)
        groups = np.split(order, np.flatnonzero(np.diff(owner[order])) + 1)
        groups.sort(key=lambda positions: int(positions[0]))
        found = []
        for positions in groups:
            tensor = self.tensors[owner[positions[0]]]
            found.append(Part(tensor, flat[positions] - tensor.start, positions))
        return found

    def _owner(self, flat: IndexArray) -> IndexArray:
        """Return the index, among all tensors, of the tensor of each id."""
        starts = self._starts[: len(self.tensors)]
        return np.searchsorted(starts, flat, side="right").astype(np.int64, copy=False) - 1


def check_size(elements: int, what: str, largest: int) -> None:
    """Refuse to build a value of more elements than ``largest``."""
    if elements > largest:
        raise UnsupportedError(f"{what} would have {elements} elements; at most {largest} are supported")


def product(dims: Iterable[Dim]) -> int:
    """Return the number of elements of dims without symbols."""
    result = 1
    for dim in dims:
        if isinstance(dim, Symbol):
            raise TypeError(f"the size {dim} is not a number")
        result *= int(dim)
    return result


def as_value(result: Any) -> Any:
    """Return a NumPy result as a value: scalars as arrays without axes, shapes without symbols as integers."""
    if isinstance(result, Symbol):
        scalar = np.empty((), dtype=object)
        scalar[()] = result
        return scalar
    if isinstance(result, np.generic | int):
        return np.asarray(result)
    return as_shape(result) if isinstance(result, np.ndarray) else result


def is_shape(value: object) -> bool:
    """Return whether a value is a shape that holds at least one symbol."""
    return isinstance(value, np.ndarray) and value.dtype == object


def as_shape(dims: list[Dim] | tuple[Dim, ...] | Array) -> Array:
    """Return a shape value from dims; a plain int64 constant when no symbol is in it."""
    array = np.empty(len(dims), dtype=object) if not isinstance(dims, np.ndarray) else dims
    if not isinstance(dims, np.ndarray):
        for k, dim in enumerate(dims):
            array[k] = dim
    if array.dtype == object and not any(isinstance(d, Symbol) for d in array.reshape(-1)):
        return array.astype(np.int64)
    return array
