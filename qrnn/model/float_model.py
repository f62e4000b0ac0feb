"""The float model is what an importer hands over, in one canonical form.

Every tensor between layers is batch first: ``[N, T, F]`` (``has_time``) or ``[N, F]``. Layers are in execution order and name the tensors
they read and write (`qrnn.model.kinds`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from qrnn.errors import DataError
from qrnn.model.in_words import float_model_lines
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.lateness import uneven_join, waiting
from qrnn.model.layer import Layer
from qrnn.model.parts import LEFT_OUT, IndexArray
from qrnn.model.time import TIME, LengthRule, length_rules
from qrnn.system.brief import Brief, Described


@dataclass(frozen=True)
class GraphInput:
    """One graph input. ``shape`` is the feature shape of one sequence (or one step), without batch and time.

    ``kind``: ``features`` real values [N, T, *shape] or [N, *shape]; ``tokens`` integers in [0, vocabulary), [N, T] or [N];
    ``lengths`` integers [N], one per sequence; ``state`` initial states [N, *shape], zeros when not given.
    """

    name: str
    kind: Literal["features", "tokens", "lengths", "state"]
    shape: tuple[int, ...]
    has_time: bool
    vocabulary: int = 0
    batch_axis: int | None = 0
    """Where the graph's own tensor has its batch axis; ``time_axis`` is where it has its time axis. None where it has none: a graph without a
    batch axis takes one sequence in a call."""
    time_axis: int | None = None
    rows: bool = field(default=False, metadata=LEFT_OUT)
    """Whether, for an input with ``has_time``, every call is one time step and nothing is kept between calls, so that T is 1. Users give rows,
    [N, *shape] or [N, 1, *shape]."""
    axis: str = field(default=TIME, metadata=LEFT_OUT)
    """The name of the time axis of an input with ``has_time``; for one of kind ``lengths``, the name of the axis whose lengths it holds."""
    padding: float | None = field(default=None, metadata=LEFT_OUT)
    """The value of steps that only pad a sequence, for an input with ``has_time``: steps all of whose features have it, at the end of a
    sequence, take no part, as if lengths said so (`qrnn.model.pad_values`). None where only given lengths say which steps these are."""

    @property
    def features(self) -> int:
        """Return the number of features of one step or sequence, which is the product of ``shape``."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class GraphOutput(Brief):
    """One graph output, [N, T, *shape] or [N, *shape]; its flat feature ``positions`` are filled from ``tensor[..., indices]``."""

    name: str
    shape: tuple[int, ...]
    has_time: bool
    parts: tuple[tuple[str, IndexArray, IndexArray], ...]
    batch_axis: int | None = 0
    """Where the graph's own tensor has its batch axis, as for `GraphInput`."""
    time_axis: int | None = None
    merged: bool = field(default=False, metadata=LEFT_OUT)
    """Whether the graph's own tensor has batch and time as one axis; ``batch_axis`` and ``time_axis`` are those of both apart, side by side."""

    @property
    def features(self) -> int:
        """Return the number of features of one step or sequence, which is the product of ``shape``."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Cache:
    """A graph input that holds past steps, and the graph output that gives it on to the next call.

    Both are inside of layers here. ``shape`` is that of the graph's own tensor, with 1 at ``batch_axis``; a cache begins with zeros.
    """

    input: str
    output: str
    shape: tuple[int, ...]
    batch_axis: int


@dataclass(frozen=True)
class Section:
    """The part of a graph that a model is: it begins with the tensors ``cut_from`` and ends with ``cut_to`` (`qrnn.cut_onnx`)."""

    cut_from: tuple[str, ...]
    cut_to: tuple[str, ...]

    def __str__(self) -> str:
        """Return it in words."""
        ends = (("from", self.cut_from), ("to", self.cut_to))
        return " ".join(f"{word} {', '.join(map(repr, names))}" for word, names in ends if names)


@dataclass(frozen=True)
class TensorInfo:
    """The shape of a tensor between layers: ``[N, T, features]`` when ``has_time``, else ``[N, features]``."""

    features: int
    has_time: bool


@dataclass(frozen=True)
class FloatModel(Described):
    """A whole imported model. ``tensors`` gives the shape of every graph input (features, tokens) and layer output."""

    name: str
    inputs: tuple[GraphInput, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[GraphOutput, ...]
    tensors: Mapping[str, TensorInfo]
    source_sha256: str = ""
    opset: int = 0
    one_step: bool = False
    """True when the graph itself runs one time step per call."""
    notes: tuple[str, ...] = field(default=())
    """What the importer decided that a reader of the graph could not see, such as baked sizes and zero states."""
    caches: tuple[Cache, ...] = field(default=())
    """The graph's inputs and outputs for past steps that became a part of the model's state."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """What the user fixed when the model was imported: numbers by the name of an input, or of a free size, of the graph."""
    section: Section | None = None
    """The part of the graph that the model is; None for the whole graph."""

    def describe_lines(self) -> Iterator[str]:
        """Return what the model is, in a few lines: its inputs, layers and outputs, and whether it can be streamed."""
        return float_model_lines(self)

    @cached_property
    def length_rules(self) -> Mapping[str, LengthRule]:
        """Return the length rule of each tensor over time: its number of steps, as it follows from the lengths of the model's time axes."""
        return length_rules(self.inputs, self.layers, lambda name: self.tensors[name].has_time)

    @property
    def rows(self) -> bool:
        """Return whether every call is one time step by itself (see `GraphInput.rows`); otherwise sequences of any length run."""
        return any(i.rows for i in self.inputs)

    @property
    def recurrent_layers(self) -> tuple[Recurrent, ...]:
        """Return the recurrent layers, in order."""
        return tuple(layer for layer in self.layers if isinstance(layer, Recurrent))

    @cached_property
    def uneven(self) -> str | None:
        """Return which layer or output joins tensors whose steps come out at different times in a stream; None for none."""
        return uneven_join(self.layers, self.outputs, lambda name: name in self.length_rules)

    @cached_property
    def waits(self) -> str | None:
        """Return which layer gives at every step what only the end of a sequence tells; None for none."""
        return waiting(self.layers, lambda name: name in self.length_rules, lambda layer: layer.comes_late[1] > 0)


def check_float(model: object, what: str) -> None:
    """Raise DataError for what is no float model; ``what`` names the caller."""
    if not isinstance(model, FloatModel):
        raise DataError(
            f"{what}: {type(model).__name__}, expected a FloatModel, as qrnn.load_onnx, qrnn.load_keras and qrnn.from_torch give it"
        )
