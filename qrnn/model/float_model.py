"""The float model: what an importer hands over, in one canonical form.

Every tensor between layers is batch first: ``[N, T, F]`` (``has_time``) or ``[N, F]``. Layers are in execution order and name the
tensors they read and write (`qrnn.model.kinds`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from qrnn.model.layer import Layer
from qrnn.model.parts import LEFT_OUT, IndexArray
from qrnn.model.time import TIME, LengthRule, length_rules


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
    batch_axis: int = 0
    """Where the graph's own tensor has its batch axis; ``time_axis`` likewise, None where the graph has none."""
    time_axis: int | None = None
    rows: bool = field(default=False, metadata=LEFT_OUT)
    """Whether, for an input with ``has_time``, every call is one time step and nothing is kept between calls, so that T is 1. Users give rows,
    [N, *shape] or [N, 1, *shape]."""
    axis: str = field(default=TIME, metadata=LEFT_OUT)
    """The name of its time axis, for an input with ``has_time``; for one of kind ``lengths``, the name of the axis whose lengths it holds."""

    @property
    def features(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class GraphOutput:
    """One graph output, [N, T, *shape] or [N, *shape]: flat feature ``positions`` filled from ``tensor[..., indices]``."""

    name: str
    shape: tuple[int, ...]
    has_time: bool
    parts: tuple[tuple[str, IndexArray, IndexArray], ...]
    batch_axis: int = 0
    """As for `GraphInput`."""
    time_axis: int | None = None

    @property
    def features(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class TensorInfo:
    """Shape of a tensor between layers: ``[N, T, features]`` when ``has_time``, else ``[N, features]``."""

    features: int
    has_time: bool


@dataclass(frozen=True)
class FloatModel:
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
    """What the importer decided that a reader of the graph could not see (baked sizes, zero states…)."""

    @cached_property
    def length_rules(self) -> Mapping[str, LengthRule]:
        """How many steps each tensor over time has, from the lengths of the model's time axes."""
        return length_rules(self.inputs, self.layers, lambda name: self.tensors[name].has_time)

    @property
    def rows(self) -> bool:
        """Whether every call is one time step by itself; see `GraphInput.rows`. Else sequences of any length run."""
        return any(i.rows for i in self.inputs)
