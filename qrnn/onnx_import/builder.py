"""The float model under construction, to which operator handlers write: its layers, and what they read of the values of the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from qrnn.errors import UnsupportedError
from qrnn.model.float_model import GraphInput
from qrnn.model.kinds.cell_values import CellValues
from qrnn.model.kinds.concat import Concat
from qrnn.model.kinds.delay import Delay
from qrnn.model.kinds.last_step import LastStep
from qrnn.model.layer import Layer
from qrnn.model.matrix_layer import MatrixLayer
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.time import TIME as AXIS
from qrnn.model.time import Axis, LengthRule
from qrnn.onnx_import.caches import Caches
from qrnn.onnx_import.lengths import INPUTS, Lengths, longer
from qrnn.onnx_import.merging import merged_sizes, refuse_merged
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.tensor_maker import TensorMaker
from qrnn.onnx_import.unreadable import NOT_COMPUTABLE
from qrnn.onnx_import.values import BATCH, TIME, Features, Symbol, Tensor, TensorKind, TimeWeights

LARGE_FILL = 1e4
"""The least magnitude of what a mask puts in the place of steps that a largest or least value, or a softmax, is to leave out."""

RUN_BYTES = 512
"""Memory of one of the pieces that a Concat layer joins, beside its indices."""

RUN_WORK = 4_000
"""Nominal nanoseconds to make one such piece."""


class NodeLengths(NamedTuple):
    """A recurrent node as messages call it, its sequence_lens input, and whether a direction of it runs in reverse."""

    where: str
    lengths: str | None
    reverse: bool
    over: frozenset[str] = frozenset({AXIS})
    """The time axes that the node's steps depend on."""


@dataclass(eq=False, kw_only=True)
class Builder(TensorMaker):
    """The layers and tensors made so far. ``baked`` holds the literal sizes that the file declares for BATCH and TIME, if any.

    ``one_step`` is true for a graph that runs one time step per call. ``stream`` asks that its states be carried from step to step in any
    case.
    """

    one_step: bool
    stream: bool
    baked: dict[Symbol, set[int]]
    window: int | None = None
    """The steps over which what the graph normalizes over time is normalized instead; 0 for all so far, None for the whole sequence."""
    batch: Symbol | None = BATCH
    """The axis of a recurrent node that is the batch; None in a graph that takes one sequence, where it is an axis of size 1 like any other."""
    layers: list[Layer] = field(default_factory=list)
    named: dict[Symbol, set[str]] = field(default_factory=lambda: {BATCH: set(), TIME: set()})
    """The names that the file gives to the sizes BATCH and TIME of its inputs."""
    declared: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    """A value of the graph → the sizes, or their names, that the file declares for it; 0 where it says neither."""
    other_steps: dict[str, set[int]] = field(default_factory=dict)
    """The sizes that the file declares for each time axis but the first, as ``baked`` has them of the first."""
    first_axis: str = AXIS
    """What the first time axis is called where there are several; while layers are made, it is `qrnn.model.time.TIME`."""
    notes: list[str] = field(default_factory=list)
    vocabulary: dict[str, int] = field(default_factory=dict)
    carries: dict[int, set[int]] = field(default_factory=dict)
    """Id in a state input → ids of the final states that it initialises."""
    lengths_of: list[NodeLengths] = field(default_factory=list)
    """An entry for each recurrent node."""
    inputs: dict[str, GraphInput] = field(default_factory=dict)
    """Graph inputs by name, in order; their vocabulary is filled in at the end."""
    caches: Caches = field(default_factory=Caches)
    terms: dict[int, Any] = field(default_factory=dict)
    """First id of a tensor → what it is of other features (`qrnn.onnx_import.expressions.Term`)."""
    masks: dict[int, Any] = field(default_factory=dict)
    """First id of a mask of steps → the `qrnn.onnx_import.masks.Mask`."""
    statistics: dict[int, Any] = field(default_factory=dict)
    """First id of a tensor → what means, powers or roots of which features it holds (`qrnn.onnx_import.statistics.Statistic`)."""
    normalized: frozenset[str] = frozenset()
    """The values that InstanceNormalization reads."""
    folded: dict[int, Features] = field(default_factory=dict)
    """First id of groups of channels that Reshape put together with time → what they were put together of (`qrnn.onnx_import.folding`)."""
    vectors: dict[int, Tensor] = field(default_factory=dict)
    """First id of a tensor that a Repeat layer writes → the vector that it gives at every step."""
    moments: dict[int, Any] = field(default_factory=dict)
    """First id of a tensor on the way to a variance over time → the `qrnn.onnx_import.moments.Moment`."""
    functions: set[str] = field(default_factory=set)
    """The tensors that layers of kind function write."""
    time_weights: dict[int, TimeWeights] = field(default_factory=dict)
    """First id of features that stand for a softmax over time → the scores, and the values that it weighs."""
    scores: dict[int, Any] = field(default_factory=dict)
    """First id of features that stand for products at pairs of steps → the `qrnn.onnx_import.operators.step_scores.Scores`."""
    fills_of: dict[int, tuple[float, float]] = field(default_factory=dict)
    """First id of numbers made of a mask of steps → the number at a sequence's own steps, and that at the steps that pad it."""
    counts: dict[int, tuple[str, int]] = field(default_factory=dict)
    """First id of numbers of steps → the graph input of lengths, and what was added to it (`qrnn.onnx_import.counted`)."""
    own_last: set[str] = field(default_factory=set)
    """The last steps that the graph takes by the lengths of sequences."""
    twins: dict[int, tuple[Tensor, str]] = field(default_factory=dict)
    """First id of the twin of a tensor whose steps are in reverse → the tensor, and the lengths that it was reversed by."""
    _last_steps: dict[int, Tensor] = field(default_factory=dict)
    _cell_values: dict[int, Tensor] = field(default_factory=dict)
    """First id of the last cell states of a layer → these as int16, once a layer reads them."""
    _matrices: dict[str, MatrixLayer] = field(default_factory=dict)
    _gathered: dict[int, IndexArray] = field(default_factory=dict)
    """First id of a tensor that a Concat layer writes → the ids that it gathers."""
    made: dict[tuple[bytes, bytes], Tensor] = field(default_factory=dict)
    """What a Concat or a Delay layer gathers, or which steps are cut off a tensor → the output."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._lengths = Lengths(self.layers)

    def length_rule(self, value: Features) -> LengthRule:
        """Return how many steps a value has; that of the inputs for one without time, and in a graph of one step per call."""
        padding = self.padding_of(value)
        tensors = (part.tensor for part in self.book.parts(padding.value.ids) if part.tensor.kind != "zero")
        tensors = (self.twins[t.start][0] if t.kind == "reversed" else t for t in tensors)
        first = next((tensor for tensor in tensors if tensor.has_time), None)
        if first is None or self.one_step:
            return INPUTS
        if (weights := self.time_weights.get(first.start)) is not None:
            first = self.book.parts(weights.scores[:1])[0].tensor
        edges = (edge for edge, symbol in zip(padding.edges, value.axes, strict=True) if symbol is TIME)
        return longer(self._lengths.of(first), sum(map(sum, edges)))

    def rule_of(self, tensor: Tensor) -> LengthRule:
        """Return the length rule of a tensor over time."""
        return self._lengths.of(tensor)

    def sizes(self, value: Features) -> dict[Symbol, set[int]]:
        """Return the literal sizes of BATCH, TIME and both as one axis in a value, if the file declares any for the inputs."""
        rule = self.length_rule(value)
        return merged_sizes({**self.baked, TIME: self.baked_steps(rule)})

    def baked_steps(self, rule: LengthRule) -> set[int]:
        """Return the numbers of steps with a length rule that follow from the sizes that the file declares; none where it leaves them free."""
        if len(rule.axes) != 1:
            return set()
        (axis,) = rule.axes
        baked = self.baked.get(TIME, set()) if axis == AXIS else self.other_steps.get(axis, set())
        return {rule.of({axis: size}) for size in baked}

    def declare_steps(self, axis: Axis, steps: int) -> None:
        """Let a time axis be declared to have so many steps."""
        if axis.name == AXIS:
            self.baked[TIME].add(steps)
        else:
            self.other_steps.setdefault(axis.name, set()).add(steps)

    def axis_of_size(self, size: int) -> LengthRule | None:
        """Return the time axis for which the file declares so many steps; None where there is none."""
        axes = (Axis(name) for name in (AXIS, *self.other_steps))
        return next((axis for axis in axes if self.baked_steps(axis) == {size}), None)

    def place(self, tensor: Tensor, axis: str) -> None:
        """Let the tensor of a graph input go over a time axis."""
        self._lengths.place(tensor, axis)

    def add_matrix(self, layer: MatrixLayer) -> None:
        """Append a layer with one matrix of weights, and remember it by its output."""
        self.layers.append(layer)
        self._matrices[layer.output] = layer

    def matrix_that_writes(self, tensor: Tensor) -> MatrixLayer | None:
        """Return the layer of one matrix whose output a tensor is, or None."""
        return self._matrices.get(tensor.name)

    def result(
        self, node: Node, features: int, has_time: bool, output: int = 0, kind: TensorKind = "layer", part: str = ""
    ) -> Tensor:
        """Make the tensor of a node's output, named as in the graph.

        Where several layers write an output, ``part`` is appended to the name.
        """
        name = node.output_names[output] if output < len(node.output_names) else ""
        role = ("Y", "h_n", "c_n")[output]
        made = not name or bool(part)
        return self.new_tensor((name or f"{node.name}.{role}") + part, made, features, has_time, kind)

    def as_read(self, node: Node, flat: IndexArray, cells: bool = True) -> IndexArray:
        """Return flat ids with those of padding, constant zeros, caches and final states replaced by what layers can read.

        Without ``cells``, those of last cell states stay what they are.
        """
        flat = flat.copy()
        left = np.arange(flat.size)
        while left.size:  # what is padded may itself be rearranged padding
            found = []
            for part in self.book.parts(flat[left]):
                tensor, places = part.tensor, left[part.positions]
                laid_out = self.laid_out(node, tensor) if tensor.kind == "padded" else None
                if laid_out is not None:
                    flat[places] = laid_out[part.indices]
                    found.append(places)
                elif tensor.kind == "constant" and tensor.values is not None and not tensor.values[part.indices].any():
                    flat[places] = self.zero
                elif tensor.kind == "h_n" and self.one_step and tensor.steps is not None:
                    flat[places] = part.indices + tensor.steps.start
                elif tensor.kind == "c_n" and cells and not self.one_step:
                    flat[places] = part.indices + self._values_of(tensor).start
            left = np.concatenate(found) if found else left[:0]
        return flat

    def computable(self, node: Node, ids: IndexArray) -> IndexArray:
        """Return ``ids`` as a layer may read them; refuse states, tokens and mixtures of tensors with and without time.

        In a graph of one step per call, h_n is that step's output: over whole sequences it stands for every step; and elements of caches are
        features of earlier steps.
        """
        node.reserve(4 * ids.size)
        flat = ids.reshape(-1)
        delays: IndexArray | None = None
        if self.one_step and any(part.tensor.kind == "cache" for part in self.book.parts(flat)):
            flat, delays = self.caches.resolve(node.where, self.book, flat)
        flat = self.as_read(node, flat)
        if delays is not None:
            flat = self._delayed(node, flat, delays)
        has_time = set()
        for part in self.book.parts(flat):
            tensor = part.tensor
            if tensor.kind in NOT_COMPUTABLE:
                raise node.refuse(
                    f"{NOT_COMPUTABLE[tensor.kind].format(name=tensor.name)}; run this part outside the model"
                )
            if tensor.kind != "zero":
                has_time.add(tensor.has_time)
        if not flat.size:
            raise node.damaged("reads a tensor without elements")
        if not has_time:
            raise node.refuse("reads nothing but zeros; re-export with constants folded")
        if len(has_time) > 1:
            raise node.refuse("joins a tensor with a time axis to one without; run this part outside the model")
        return flat

    def _values_of(self, cells: Tensor) -> Tensor:
        """Return the last cell states of a layer as a tensor that any layer can read."""
        if cells.start not in self._cell_values:
            name = f"{cells.name}/values"
            made = self.new_tensor(name, True, cells.features, False, "layer")
            self.layers.append(CellValues(name, cells.name, made.name))
            self._cell_values[cells.start] = made
        return self._cell_values[cells.start]

    def _delayed(self, node: Node, flat: IndexArray, delays: IndexArray) -> IndexArray:
        """Return ids of the features ``flat``, each as many steps late as ``delays`` says; a Delay layer for each tensor of late ones."""
        result = flat.copy()
        for part in self.book.parts(flat):
            tensor, late = part.tensor, delays[part.positions]
            if not late.any() or tensor.kind == "zero":  # zeros are zeros at any time
                continue
            if tensor.kind in NOT_COMPUTABLE or not tensor.has_time:
                raise node.refuse(
                    f"reads a cache of past steps of '{tensor.name}', which has none; run this part outside the model"
                )
            node.reserve(4 * flat.size)
            key = ((part.indices + tensor.start).tobytes(), late.tobytes())
            if key not in self.made:
                name = f"{node.name}/delay"
                output = self.new_tensor(name, True, late.size, True, "layer")
                self.layers.append(Delay(name, tensor.name, output.name, part.indices.copy(), late.copy()))
                self.made[key] = output
            result[part.positions] = self.made[key].ids
        return result

    def operand(self, node: Node, value: Features) -> tuple[Tensor, IndexArray]:
        """Return one tensor and the indices in it that hold ``value``, row-major; several tensors are concatenated by a layer."""
        flat = self.computable(node, value.ids)
        parts = self.book.parts(flat)
        if len(parts) == 1:
            return parts[0].tensor, parts[0].indices
        return self.gathered(node, flat)

    def whole_operand(self, node: Node, value: Features) -> tuple[Tensor, IndexArray]:
        """Return what `operand` does, with indices that are a permutation of the whole tensor."""
        tensor, indices = self.operand(node, value)
        if indices.size == tensor.features and np.array_equal(np.sort(indices), np.arange(tensor.features)):
            return tensor, indices
        return self.gathered(node, indices + tensor.start)

    def gathered(self, node: Node, flat: IndexArray) -> tuple[Tensor, IndexArray]:
        """Return a tensor that holds ``flat`` ids in this order, with 0 to its size: that of a Concat layer, if none is so already.

        What other Concat layers gather is taken from where they take it.
        """
        flat = flat.copy()
        for part in self.book.parts(flat):
            if part.tensor.start in self._gathered:
                flat[part.positions] = self._gathered[part.tensor.start][part.indices]
        order = np.arange(flat.size, dtype=np.int64)
        parts = self.book.parts(flat)
        if len(parts) == 1 and np.array_equal(parts[0].indices, np.arange(parts[0].tensor.features)):
            return parts[0].tensor, order
        key = (flat.tobytes(), b"")
        if key in self.made:
            return self.made[key], order
        owner = np.empty(flat.size, dtype=np.int64)
        zeros = np.zeros(flat.size, dtype=np.bool_)
        for k, part in enumerate(parts):
            owner[part.positions] = k
            zeros[part.positions] = part.tensor.kind == "zero"
        (real,) = np.nonzero(~zeros)
        # zeros belong to the piece before them, or to the first one
        owner = owner[real[np.maximum(np.searchsorted(real, order, side="right") - 1, 0)]]
        bounds = np.flatnonzero(np.diff(owner)) + 1
        node.reserve(2 * flat.size)  # the layer's indices, and the key
        self.budget.hold(f"{node.where}: its {bounds.size + 1} pieces", (bounds.size + 1) * RUN_BYTES)
        self.budget.spend(f"{node.where}: its {bounds.size + 1} pieces", (bounds.size + 1) * RUN_WORK)
        runs = []
        for run in np.split(order, bounds):
            tensor = parts[owner[run[0]]].tensor
            runs.append((tensor.name, np.where(zeros[run], -1, flat[run] - tensor.start)))
        name = f"{node.name}/concat"
        output = self.new_tensor(name, True, flat.size, parts[owner[0]].tensor.has_time, "layer")
        self.layers.append(Concat(name, output.name, tuple(runs)))
        self._gathered[output.start], self.made[key] = flat, output
        return output, order

    def sources(self, flat: IndexArray) -> IndexArray:
        """Return flat ids with those of what Concat layers gather replaced by the ids that they gather."""
        found = flat.copy()
        for part in self.book.parts(flat):
            if part.tensor.start in self._gathered:
                found[part.positions] = self._gathered[part.tensor.start][part.indices]
        return found

    def spread_columns(self, node: Node, weight: FloatArray, tensor: Tensor, indices: IndexArray) -> FloatArray:
        """Spread the columns of weight [O, len(indices)] to those of a tensor: [O, tensor.features], zero elsewhere."""
        if np.array_equal(indices, np.arange(tensor.features)):
            return weight
        node.reserve(weight.shape[0] * tensor.features)
        full = np.zeros((weight.shape[0], tensor.features))
        np.add.at(full.T, indices, weight.T)  # a feature read twice counts twice
        return full

    def map_tensors(self, node: Node, value: Features, layer: Callable[[str, str, Tensor], Layer]) -> Features:
        """Apply an elementwise layer to ``value``: ``layer(layer name, output name, input tensor)``."""
        tensor, indices = self.whole_operand(node, value)
        output = self.result(node, tensor.features, tensor.has_time)
        self.layers.append(layer(node.name, output.name, tensor))
        return Features((indices + output.start).reshape(value.ids.shape), value.axes)

    def last_step(self, node: Node, value: Features) -> Features:
        """Return ``value`` at its last step: its TIME axis becomes a feature axis of size 1."""
        axes = tuple(None if axis is TIME else axis for axis in value.axes)
        if self.one_step:  # the only step is the last; the axis stays the time axis of whole sequences
            return value
        flat = self.computable(node, value.ids)
        node.reserve(flat.size)
        ids = np.empty_like(flat)
        for part in self.book.parts(flat):
            tensor = part.tensor
            if not tensor.has_time:
                raise UnsupportedError(
                    f"{node.where}: takes the last step of '{tensor.name}', which has no time axis; run this part outside the model"
                )
            if tensor.start not in self._last_steps:
                name = f"{node.name}/last"
                last = self.new_tensor(f"{tensor.name}.last", True, tensor.features, False, "layer")
                self.layers.append(LastStep(name, tensor.name, last.name))
                self._last_steps[tensor.start] = last
            ids[part.positions] = part.indices + self._last_steps[tensor.start].start
        return Features(ids.reshape(value.ids.shape), axes)

    def hide_axis(self, node: Node, value: Features, axis: int) -> None:
        """Check that axis ``axis`` of ``value`` may be dropped: it is a feature axis of size 1, or the time of one step."""
        symbol = value.axes[axis]
        refuse_merged(node, value, axis, "removes")
        if symbol is BATCH:
            raise node.refuse(f"removes the batch axis {axis}; re-export with the batch axis kept to the outputs")
        if symbol is TIME and not self.one_step:
            raise node.refuse(f"removes the time axis {axis}; re-export with a dynamic time axis")
        if symbol is None and value.ids.shape[axis] != 1:
            raise node.damaged(f"removes axis {axis} of size {value.ids.shape[axis]}, expected size 1")
