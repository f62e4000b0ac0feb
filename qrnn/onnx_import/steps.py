"""Steps of the time axis as a graph takes them: slices, single steps, all of a fixed number side by side, and vectors at every step.

A slice of time has another number of steps, by a length rule. A single step is a value without time, its TIME axis an axis of size 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from qrnn.errors import UnsupportedError
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.last_step import LastStep
from qrnn.model.kinds.last_steps import LastSteps
from qrnn.model.kinds.nth_step import NthStep
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.repeat import Repeat
from qrnn.model.kinds.take_steps import LONGEST_SPAN, TakeSteps
from qrnn.model.parts import IndexArray
from qrnn.model.time import LengthRule
from qrnn.model.window import LARGEST_WINDOW
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.lengths import INPUTS
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.values import TIME, Features, Tensor

ANY_STEPS = "time steps; any number runs"
"""The end of the note of a graph input that declares how many steps there are."""

WRITER_WORK = 100
"""Nominal nanoseconds to look at one layer or tensor."""

Make = Callable[[str, Tensor, str], Any]
"""Makes a layer of its name, the tensor that it reads, and the name of its output."""


def sliced(node: Node, build: Builder, value: Features, start: int, end: int | None, step: int) -> Features:
    """Return the steps [start:end:step] of ``value``, which count from the end where they are negative; None for an end is that of time.

    ``step`` is at least 1. A slice that is one step whatever the number of steps gives a value without time.
    """
    text = f"slices the time axis [{start}:{'' if end is None else end}:{step}]"
    far = max(abs(start), abs(end or 0), step)
    if far > (LONGEST_SPAN if start >= 0 else LARGEST_WINDOW):
        raise node.refuse(f"{text}, more than {LARGEST_WINDOW} steps from an end; run this part outside the model")
    if start < 0 and end is not None and end >= 0:
        raise node.refuse(
            f"{text}, from a step that counts from the end to one that counts from the beginning; re-export with both counted from one side"
        )
    if end is not None and (end >= 0) == (start >= 0):
        if end <= start:
            raise node.refuse(f"{text}, which is no step; re-export without it")
        if end - start <= step:
            return step_at(node, build, value, start)
    elif end is None and start < 0 and -start <= step:
        return step_at(node, build, value, start)
    if (start, end, step) == (0, None, 1):
        return value
    if start < 0:
        count, without = -start, 0 if end is None else -end

        def last(name: str, source: Tensor, output: str) -> LastSteps:
            return LastSteps(name, source.name, output, source.features, count, without)

        taken = _each(node, build, value, f"last {count} {without}", last)
        return taken if step == 1 else sliced(node, build, taken, 0, None, step)
    until = end if end is not None and end > 0 else 0
    span = start + 1 - (end if end is not None and end < 0 else 0)

    def take(name: str, source: Tensor, output: str) -> TakeSteps:
        every = np.arange(source.features)
        return TakeSteps(name, source.name, output, every, np.full(source.features, start, np.int64), span, step, until)

    return _each(node, build, value, f"steps {start} {span} {step} {until}", take)


def _each(node: Node, build: Builder, value: Features, what: str, make: Make) -> Features:
    """Return ``value`` with the output of a layer over time in the place of each tensor; ``what`` tells such layers apart."""
    flat = build.computable(node, value.ids).copy()
    node.reserve(2 * flat.size)
    for part in build.book.parts(flat):
        if part.tensor.kind == "zero":
            continue
        if not part.tensor.has_time:
            raise node.refuse(
                f"takes steps of '{part.tensor.name}', which has no time axis; run this part outside the model"
            )
        flat[part.positions] = part.indices + _made(node, build, part.tensor, what, True, make).start
    return Features(flat.reshape(value.ids.shape), value.axes)


def _made(node: Node, build: Builder, source: Tensor, what: str, has_time: bool, make: Make) -> Tensor:
    """Return the output of a layer of a tensor that was made before, or is made now."""
    key = np.array([source.start]).tobytes(), what.encode()
    if key not in build.made:
        node.reserve(2 * source.features)
        output = build.new_tensor(f"{source.name}.steps", True, source.features, has_time, "layer")
        build.layers.append(make(f"{node.name}/steps", source, output.name))
        build.made[key] = output
    return build.made[key]


def step_at(node: Node, build: Builder, value: Features, step: int) -> Features:
    """Return one step of ``value``, counted from the beginning, or from -1 at the end: its TIME axis becomes an axis of size 1.

    The first step of a layer that runs backwards is the one that it ends with.
    """
    if build.one_step:
        if step not in (0, -1):
            raise node.refuse(
                f"takes step {step} of a graph that runs one step per call, which has no other than step 0"
            )
        return value
    if abs(step) > LONGEST_SPAN:
        raise node.refuse(
            f"takes step {step} of the time axis, more than {LONGEST_SPAN} from an end; run this part outside the model"
        )
    if step == -1:
        return build.last_step(node, value)
    if step < 0:
        return build.last_step(node, sliced(node, build, value, 0, step + 1, 1))
    flat = build.computable(node, value.ids).copy()
    left = np.ones(flat.size, np.bool_)
    if step == 0:
        for part in build.book.parts(flat):
            found = _ends(build, part.tensor, part.indices)
            flat[part.positions] = np.where(found >= 0, found, flat[part.positions])
            left[part.positions] = found < 0
    if left.any():

        def hold(name: str, source: Tensor, output: str) -> NthStep:
            return NthStep(name, source.name, output, source.features, step)

        rest = Features(flat[left].reshape(1, -1), (TIME, None))
        held = build.last_step(node, _each(node, build, rest, f"hold {step}", hold))
        flat[left] = held.ids.reshape(-1)
    axes = tuple(None if axis is TIME else axis for axis in value.axes)
    return Features(flat.reshape(value.ids.shape), axes)


def _ends(build: Builder, tensor: Tensor, indices: IndexArray) -> IndexArray:
    """Return the ids of the final states that the first step of features of a recurrent layer's output is, -1 where it is none."""
    found = np.full(indices.size, -1, np.int64)
    layer = writer(build, tensor)
    if isinstance(layer, Recurrent) and layer.output == tensor.name and layer.h_n is not None:
        final = next((t for t in build.book.tensors if t.name == layer.h_n), None)
        if final is not None:
            backwards = np.array([direction.reverse for direction in layer.directions])
            width = tensor.features // len(backwards)
            found = np.where(backwards[indices // width], indices + final.start, -1)
    return found


def writer(build: Builder, tensor: Tensor) -> Any:
    """Return the layer that writes a tensor; None for a graph input."""
    build.budget.spend("looking up a layer", len(build.layers) * WRITER_WORK)
    return next((layer for layer in reversed(build.layers) if tensor.name in layer.outputs), None)


def picked(node: Node, build: Builder, value: Features, axis: int, picks: Any) -> Features:
    """Return ``value`` at the steps ``picks``, an array of integers, whose axes take the place of the time axis."""
    chosen = {int(step): step_at(node, build, value, int(step)) for step in np.unique(picks)}
    node.reserve_features(value.ids.size * picks.size)
    taken = [chosen[int(step)].ids for step in picks.reshape(-1)]
    ids = np.concatenate(taken, axis=axis)
    axes = (*value.axes[:axis], *((None,) * picks.ndim), *value.axes[axis + 1 :])
    return Features(ids.reshape(*ids.shape[:axis], *picks.shape, *ids.shape[axis + 1 :]), axes)


def unrolled(node: Node, build: Builder, value: Features) -> Features | None:
    """Return ``value`` with all its steps as features, where the file declares how many there are: TIME becomes an axis of that size.

    The number of steps is then fixed: the layer refuses another one. None where it is not declared.
    """
    sizes = build.sizes(value).get(TIME, set())
    if build.one_step or len(sizes) != 1 or value.axes.count(TIME) != 1:
        return None
    steps, axis = next(iter(sizes)), value.axes.index(TIME)
    if not 1 <= steps <= LARGEST_WINDOW:
        return None
    node.reserve_features(steps * value.ids.size)
    flat = build.computable(node, value.ids)
    columns = _columns(build, flat, steps, lambda tensor: _side_by_side(node, build, tensor, steps))
    columns = columns[::-1] if node.backwards else columns
    ids = np.moveaxis(columns.reshape(steps, *value.ids.shape), 0, axis)
    shape = [steps if k == axis else size for k, size in enumerate(value.ids.shape)]
    return Features(ids.reshape(shape), tuple(None if k == axis else a for k, a in enumerate(value.axes)))


def _side_by_side(node: Node, build: Builder, source: Tensor, steps: int) -> Tensor:
    """Return the vector of all steps of a tensor, step after step."""
    key = np.array([source.start, steps]).tobytes(), b"side by side"
    if key not in build.made:
        features = source.features
        node.reserve(4 * steps * features)
        row = build.new_tensor(f"{source.name}.side_by_side", True, steps * features, True, "layer")
        indices, offsets = np.tile(np.arange(features), steps), np.repeat(np.arange(steps), features)
        name = f"{node.name}/side_by_side"
        build.layers.append(TakeSteps(name, source.name, row.name, indices, offsets, steps, 1, steps, True))
        build.notes[:] = [note for note in build.notes if not note.endswith(ANY_STEPS)]
        build.notes.append(
            f"{node.where}: reads all {steps} steps that the file declares at once, and takes no other number of them"
        )
        ids = build.last_step(node, Features(row.ids.reshape(1, -1), (TIME, None))).ids
        build.made[key] = build.book.parts(ids)[0].tensor
    return build.made[key]


def _columns(build: Builder, flat: IndexArray, steps: int, row_of: Callable[[Tensor], Tensor]) -> IndexArray:
    """Return the ids [steps, K] of features at each of ``steps`` steps, which ``row_of`` a tensor holds step after step."""
    columns = np.zeros((steps, flat.size), np.int64)
    for part in build.book.parts(flat):
        if part.tensor.kind == "zero":
            columns[:, part.positions] = flat[part.positions]
            continue
        row = row_of(part.tensor)
        columns[:, part.positions] = row.start + np.arange(steps)[:, None] * part.tensor.features + part.indices
    return columns


def _stacked(node: Node, build: Builder, tensor: Tensor, count: int) -> Tensor:
    """Return the tensor that has every ``count`` steps of one side by side."""
    if not tensor.has_time:
        raise node.refuse(f"takes steps of '{tensor.name}', which has no time axis; run this part outside the model")
    key = np.array([tensor.start, count]).tobytes(), b"stacked"
    if key not in build.made:
        features = tensor.features
        node.reserve(4 * count * features)
        output = build.new_tensor(f"{tensor.name}.stacked", True, count * features, True, "layer")
        indices, offsets = np.tile(np.arange(features), count), np.repeat(np.arange(count), features)
        name = f"{node.name}/stacked"
        build.layers.append(TakeSteps(name, tensor.name, output.name, indices, offsets, count, count))
        build.made[key] = output
    return build.made[key]


def stacked(node: Node, build: Builder, value: Features, count: int, sizes: list[int]) -> Features:
    """Return [N, T, …] with every ``count`` steps side by side, as features of the given sizes; what is left at the end is dropped."""
    if node.backwards:
        raise node.refuse(f"puts every {count} steps side by side that are in reverse; reverse them back before")
    node.reserve_features(count * value.ids.size)
    flat = build.computable(node, value.ids)
    columns = _columns(build, flat, count, lambda tensor: _stacked(node, build, tensor, count))
    return Features(columns.reshape(1, 1, *sizes), (*value.axes[:2], *(None,) * len(sizes)))


def split_steps(node: Node, build: Builder, value: Features, pieces: list[int]) -> tuple[Features, ...]:
    """Return pieces of the steps of a value whose number of steps is declared, one after the other."""
    if any(part.tensor.kind == "reversed" for part in build.book.parts(value.ids)):
        raise node.refuse(
            "splits steps that are in reverse; reverse them back before, or run this part outside the model"
        )
    bounds = np.cumsum([0, *pieces]).tolist()
    return tuple(
        sliced(node, build, value, first, None if last == bounds[-1] else last, 1)
        if last - first > 1 or last < bounds[-1]
        else step_at(node, build, value, -1)
        for first, last in itertools.pairwise(bounds)
    )


def repeated(node: Node, build: Builder, value: Features, axis: int, rule: LengthRule, count: int = 0) -> Features:
    """Return a value without time at every step: ``axis``, of size 1, becomes TIME, of as many steps as ``rule`` or ``count`` says.

    In a graph of one step per call it stays as it is.
    """
    if build.one_step:
        return value
    flat = build.computable(node, value.ids)
    node.reserve(2 * flat.size)
    parts = build.book.parts(flat)
    if any(part.tensor.has_time for part in parts):
        raise node.refuse(
            f"repeats {value.describe()} over time, which has time already; run this part outside the model"
        )
    like = _like(build, [part.tensor for part in parts], rule)
    ids = flat.copy()
    for part in parts:
        if part.tensor.kind == "zero":
            continue
        if count == 0 and (held := _held(build, part.tensor, rule)) is not None:
            ids[part.positions] = part.indices + held.start
            continue
        if like is None:
            raise node.refuse(
                f"repeats a vector for {rule} steps, and no tensor over time has so many; re-export with the length taken from a graph input"
            )
        key = np.array([part.tensor.start, like.start, count]).tobytes(), b"repeated"
        if key not in build.made:
            output = build.new_tensor(f"{part.tensor.name}.repeated", True, part.tensor.features, True, "layer")
            build.layers.append(Repeat(f"{node.name}/repeat", like.name, part.tensor.name, output.name, count))
            build.made[key], build.vectors[output.start] = output, part.tensor
        ids[part.positions] = part.indices + build.made[key].start
    return Features(ids.reshape(value.ids.shape), tuple(TIME if k == axis else a for k, a in enumerate(value.axes)))


def _held(build: Builder, vector: Tensor, rule: LengthRule) -> Tensor | None:
    """Return the first step of a sequence at each of its steps, where ``vector`` is that step; such a tensor streams, unlike one repeated."""
    last = writer(build, vector)
    if not isinstance(last, LastStep):
        return None
    held = next((tensor for tensor in build.book.tensors if tensor.name == last.input), None)
    layer = None if held is None else writer(build, held)
    return held if isinstance(layer, NthStep) and held is not None and build.rule_of(held) == rule else None


def _like(build: Builder, vectors: list[Tensor], rule: LengthRule) -> Tensor | None:
    """Return a tensor over time with a length rule: one that the vectors are made of, else a layer's output, else a graph input.

    A graph input that something else than a matrix reads has less fine a format, so that it comes last.
    """
    build.budget.spend("looking up a layer", (len(build.layers) + len(build.book.tensors)) * WRITER_WORK)
    writers = {name: layer for layer in build.layers for name in layer.outputs}
    by_name = {tensor.name: tensor for tensor in build.book.tensors}
    waiting, seen = [tensor.name for tensor in vectors], set[str]()
    while waiting:
        name = waiting.pop()
        layer = writers.get(name)
        if layer is None or name in seen:
            continue
        seen.add(name)
        for other in layer.outputs:
            if by_name[other].has_time and build.rule_of(by_name[other]) == rule:
                return by_name[other]
        waiting.extend(layer.inputs)
    for kind in ("layer", "features"):
        for tensor in build.book.tensors:
            if tensor.kind == kind and tensor.has_time and build.rule_of(tensor) == rule:
                return tensor
    return None


def as_steps(node: Node, build: Builder, value: Features, axis: int, rule: LengthRule | None) -> Features | None:
    """Return a value whose ``axis`` of features holds one vector again and again with that axis as time; None for one that is not such.

    ``rule`` is how many steps it should have, where that is known: an axis of size 1 is repeated for as many.
    """
    size = value.ids.shape[axis]
    if value.axes[axis] is not None or TIME in value.axes or build.one_step:
        return None
    first = np.take(value.ids, [0], axis=axis)
    if size == 0 or (value.ids != first).any():
        return None
    if any(part.tensor.has_time for part in build.book.parts(first.reshape(-1))):
        return None
    one = Features(first, value.axes)
    if rule is not None:
        return repeated(node, build, one, axis, rule) if size == 1 or build.baked_steps(rule) == {size} else None
    if (own := build.axis_of_size(size)) is not None:
        return repeated(node, build, one, axis, own)
    return repeated(node, build, one, axis, INPUTS, size)


def check_joined(model: FloatModel) -> None:
    """Raise UnsupportedError where a layer or an output joins tensors of different numbers of steps."""
    joined = [(f"layer '{layer.name}'", names) for layer in model.layers for names in layer.joined]
    joined += [(f"output '{o.name}'", tuple(name for name, _, _ in o.parts)) for o in model.outputs]
    for what, names in joined:
        rules = {name: model.length_rules[name] for name in names if name in model.length_rules}
        if len(set(rules.values())) > 1:
            lengths = ", ".join(f"'{name}' has {rule} steps" for name, rule in rules.items())
            raise UnsupportedError(
                f"{what} joins tensors of different lengths: {lengths}; re-export with both cut to one length by slices of the same ends"
            )
