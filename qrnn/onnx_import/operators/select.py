"""Slice and Gather: part of the features, the last step, or rows of an embedding table."""

from __future__ import annotations

import numpy as np

from qrnn.errors import UnsupportedError
from qrnn.model.kinds.embedding import Embedding
from qrnn.onnx_import.budget import BudgetError, count
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.cropping import cropped
from qrnn.onnx_import.lengths import more_steps
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.reversal import flipped, reversed_by, unflipped
from qrnn.onnx_import.roles import AxisTensor, Roles
from qrnn.onnx_import.steps import picked, sliced
from qrnn.onnx_import.values import AXIS_NAMES, MOST_AXES, TIME, Array, Features, Symbol, Value, is_shape

_TO_THE_END = (1 << 31) - 1
"""Slice ends from here on mean the end of the axis, however long it is."""

Range = tuple["int | Symbol", "int | Symbol", int]


def _ranges(node: Node, rank: int) -> dict[int, Range]:
    """Return (start, end, step) by axis: attributes before opset 10, inputs since."""
    starts: list[int | Symbol]
    ends: list[int | Symbol]
    if node.opset < 10:
        starts, ends = [int(v) for v in node.take("starts")], [int(v) for v in node.take("ends")]
        axes = node.take("axes")
        steps = None
    else:
        value = node.input(1)
        starts = list(value.reshape(-1)) if is_shape(value) else list(node.ints(1, "starts"))
        value = node.input(2)
        if is_shape(value):
            ends = list(value.reshape(-1))
        else:
            ends = list(node.ints(2, "ends"))
        axes = node.ints(3, "axes") if node.has_input(3) else None
        steps = node.ints(4, "steps") if node.has_input(4) else None
    axes = list(range(len(starts))) if axes is None else [int(a) for a in axes]
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise node.damaged(f"starts={starts}, ends={ends}, axes={axes}, steps={steps} do not fit together")
    places = [node.axis(a, rank) for a in axes]
    return dict(zip(places, zip(starts, ends, steps, strict=True), strict=True))


def _selection(node: Node, size: int, part: Range) -> slice:
    """Return the Python slice of a feature axis.

    On a negative step, ONNX takes an end below -size for 'to the front', and a start below -size for the first element; Python does not.
    """
    start, end, step = part
    if isinstance(end, Symbol):
        raise node.refuse(f"slices a feature axis of size {size} up to {end}; re-export with a fixed size")
    if isinstance(start, Symbol):
        raise node.refuse(f"slices a feature axis of size {size} from {start}; re-export with a fixed size")
    stop: int | None = end
    if step < 0:
        if end >= _TO_THE_END:
            raise node.refuse(
                f"slices backwards from {start} to an end of {end}, which runtimes read differently; give an end below 0"
            )
        start = max(start, -size)
        stop = None if end < -size else end
    return slice(start, stop, step)


def _covers(part: Range, symbol: Symbol, sizes: set[int]) -> str:
    """Return what a slice takes of the batch or time axis: 'all', 'last' or 'part'."""
    start, end, step = part
    to_end = end is symbol or (not isinstance(end, Symbol) and (end >= _TO_THE_END or (end in sizes and end > 0)))
    if step != 1 or not to_end or isinstance(start, Symbol):
        return "part"
    if start == 0 or -start in sizes or start < -_TO_THE_END:
        return "all"
    return "last" if start == -1 or start + 1 in sizes else "part"


@operator("Slice")
def slice_(node: Node, build: Builder) -> Value:
    """Import Slice of features, of a constant, or of the last step."""
    value = node.input(0)
    ids: Array = value.ids if isinstance(value, Features) else value
    selection = [slice(None)] * ids.ndim
    last = False
    ranges = _ranges(node, ids.ndim)
    if isinstance(value, Features) and (tail := _tail(node, build, value, ranges)) is not None:
        return tail
    for axis, part in ranges.items():
        symbol = value.axes[axis] if isinstance(value, Features) else None
        if symbol is None:
            if build.one_step and isinstance(value, Features):  # the time axis has size 1
                start, end, step = part
                part = 1 if start is TIME else start, 1 if end is TIME else end, step
            selection[axis] = _selection(node, ids.shape[axis], part)
            continue
        given, part = part, _of_axis(part, symbol, build, value)
        covers = _covers(part, symbol, build.sizes(value).get(symbol, set()))
        start, end, step = part
        if covers == "last" and symbol is TIME and reversed_by(build, value) is None:
            last = True
        elif symbol is TIME and covers != "all" and (found := _steps(node, build, value, part, given)) is not None:
            value = found
            ids = value.ids
        elif covers != "all":
            raise node.refuse(
                f"slices the {AXIS_NAMES[symbol]} axis {axis} [{start}:{end}:{step}]; "
                "only whole numbers of steps from both ends, and all of them in reverse, are supported; run this part outside the model"
            )
    taken = ids[tuple(selection)]
    if not isinstance(value, Features):
        return taken
    result = Features(taken, value.axes)
    return build.last_step(node, result) if last else result


def _of_axis(part: Range, symbol: Symbol, build: Builder, value: Features) -> Range:
    """Return a slice of the time axis of ``value`` whose ends are ``symbol``, or numbers of steps from an end, as far as these are known."""
    start, end, step = part
    if symbol is not TIME:
        return part
    rule = build.length_rule(value)
    more = more_steps(end, rule)
    sizes = build.sizes(value)[TIME]
    if more is None and len(sizes) == 1 and not isinstance(end, Symbol) and 0 < end < min(sizes):
        more = end - min(sizes)
    if more is not None:
        end = symbol if more >= 0 else more
    if (more := more_steps(start, rule)) is not None and more < 0:
        start = more
    return start, end, step


def _steps(node: Node, build: Builder, value: Features, part: Range, given: Range) -> Features | None:
    """Return the steps that a slice of the time axis takes, or all of them in reverse; None for ends that are no numbers of steps.

    Where the number of steps is declared, ``part`` counts an end from there, which the slice ``given`` counts from the beginning.
    """
    start, end, step = part
    if not isinstance(given[1], Symbol) and given[1] >= 0:
        end = given[1]
    sizes = build.sizes(value)[TIME]
    size = next(iter(sizes)) if len(sizes) == 1 else None
    if step < 0:
        from_last = start == -1 or (not isinstance(start, Symbol) and (start >= _TO_THE_END or start + 1 in sizes))
        to_first = not isinstance(end, Symbol) and (end < -_TO_THE_END or (size is not None and end < -size))
        if step != -1 or not from_last or not to_first:
            return None
        return value if build.one_step else flipped(node, build, value, reversed_by(build, value) or "")
    last = None if isinstance(end, Symbol) and end is TIME else end
    if isinstance(start, Symbol) or isinstance(last, Symbol):
        return None
    if last is not None and (last >= _TO_THE_END or (size is not None and last >= size)):
        last = None
    if start < -_TO_THE_END or (size is not None and start < 0 and -start >= size):
        start = 0
    if build.one_step:
        return None
    if size is not None and start < 0 <= (-1 if last is None else last):  # of a declared number either end may count
        start += size
    if (lengths := reversed_by(build, value)) is not None:
        return _of_reversed(node, build, value, (start, last, step), lengths)
    if (cut := _cut_off(part)) is not None:
        try:
            return cropped(node, build, value, *cut)
        except BudgetError:
            raise
        except UnsupportedError:
            pass  # other steps than those that padding made
    return sliced(node, build, value, start, last, step)


def _of_reversed(
    node: Node, build: Builder, value: Features, part: tuple[int, int | None, int], lengths: str
) -> Features | None:
    """Return a slice of steps in reverse: the mirrored slice, reversed; None for one with a stride."""
    start, end, step = part
    if step != 1:
        return None
    first = 0 if end is None else -end
    last = None if start == 0 else -start
    taken = sliced(node, build, flipped(node, build, value, lengths), first, last, 1)
    return flipped(node, build, taken, lengths) if TIME in taken.axes else taken


def _cut_off(part: Range) -> tuple[int, int] | None:
    """Return how many steps a slice of the time axis leaves out in front and behind; None for one that leaves out others."""
    start, end, step = part
    if step != 1 or isinstance(start, Symbol) or start < 0:
        return None
    if isinstance(end, Symbol) or end >= _TO_THE_END:
        return int(start), 0
    return (int(start), -int(end)) if end < 0 else None


def _tail(node: Node, build: Builder, value: Features, ranges: dict[int, Range]) -> Features | None:
    """Return as many of the last steps of new steps behind a cache as the cache holds; None for a slice that is not of these."""
    padding = build.padding_of(value)
    if padding.cache is None or len(ranges) != 1:
        return None
    ((axis, (start, end, step)),) = ranges.items()
    if value.axes[axis] is not TIME:
        return None
    past = padding.edges[axis][0]
    steps = build.baked.get(TIME, set())
    lengths: set[object] = {TIME, *steps}  # what is skipped are as many steps as are new
    ends = {size + past for size in steps}
    to_end = not isinstance(end, Symbol) and (end >= _TO_THE_END or end in ends)
    to_end = to_end or more_steps(end, build.length_rule(value)) == 0
    if step != 1 or not to_end or not (start == -past or start in lengths):
        raise node.refuse(
            f"slices [{start}:{end}:{step}] of {past} past steps and the new ones; only the last {past} are supported, which the next call "
            "takes as its past"
        )
    tensor = build.new_tensor(f"{node.name}.tail", True, padding.cache.size, True, "tail")
    build.caches.tails[tensor.start] = padding.cache.reshape(-1)
    axes = tuple(None if k == axis else symbol for k, symbol in enumerate(value.axes))
    return Features(tensor.ids.reshape(padding.cache.shape), axes)


@axis_rule("Slice")
def slice_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes that are taken whole; a sliced axis is new."""
    value: AxisTensor = node.input(0)
    axes = list(value.axes)
    for axis, given in _ranges(node, value.rank).items():
        known = axes[axis].size
        start, end, step = given
        if known is not None:  # of an axis of known size, other such sizes are numbers
            start, end = ((d.size or d) if isinstance(d, Symbol) and d is not axes[axis] else d for d in (start, end))
        part = start, end, step
        if _covers(part, axes[axis], set() if known is None else {known}) == "all":
            continue
        if not isinstance(end, Symbol) and step == 1 and 0 < end < _TO_THE_END:
            roles.taken(axes[axis], int(end))
        if known is not None:
            size = len(range(known)[_selection(node, known, part)])
        else:
            size = 1 if part[0] == -1 and part[2] == 1 else None  # type: ignore[assignment]
        sliced, axes[axis] = axes[axis], roles.made(size, node.name)
        if value.sources & roles.caches or size != 1:  # past steps and new ones are steps, and so is a part of them
            roles.same(axes[axis], sliced, node.name)
    return AxisTensor(tuple(axes), value.sources)


@operator("Gather")
def gather(node: Node, build: Builder) -> Value:
    """Import Gather: of an embedding table, of features, of a constant, or of the last step."""
    data, indices = node.input(0), node.input(1)
    if isinstance(indices, Features):
        return _embedding(node, build)
    picks = node.constant(1, "indices")
    if picks.dtype != np.int64:
        raise node.damaged(f"indices '{node.input_names[1]}' have type {picks.dtype}, expected integers")
    ids: Array = data.ids if isinstance(data, Features) else data
    axis = node.axis(int(node.take("axis", 0)), ids.ndim)
    taken = count((*ids.shape[:axis], *picks.shape, *ids.shape[axis + 1 :]))
    if not isinstance(data, Features):
        node.reserve(taken)
        return np.take(ids, picks, axis=axis)
    symbol = data.axes[axis]
    if symbol is None:
        node.reserve_features(taken)
        new = (None,) * picks.ndim
        return Features(np.take(ids, picks, axis=axis), (*data.axes[:axis], *new, *data.axes[axis + 1 :]))
    sizes = build.sizes(data).get(symbol, set())
    few = np.unique(picks).tolist()
    if symbol is not TIME or not 1 <= len(few) <= MOST_AXES:
        named = picks.tolist() if picks.size <= MOST_AXES else f"{picks.size} indices"
        raise node.refuse(
            f"takes {named} of the {AXIS_NAMES[symbol]} axis {axis}; "
            f"only up to {MOST_AXES} steps of the time axis are supported; run this part outside the model"
        )
    if build.one_step:
        if few not in ([-1], [0]):
            raise node.refuse(f"takes the steps {few} of a graph that runs one step per call, which has step 0 alone")
        axes = (*data.axes[:axis], *((None,) * picks.ndim), *data.axes[axis + 1 :])
        return Features(ids.reshape([*ids.shape[:axis], *picks.shape, *ids.shape[axis + 1 :]]), axes)
    if len(sizes) == 1:  # of a fixed number of steps, the last one may be counted from the beginning
        picks = np.where(picks == next(iter(sizes)) - 1, -1, picks)
    if reversed_by(build, data) is not None:
        data, picks = unflipped(node, build, data), -1 - picks
    return picked(node, build, data, axis, picks)


def _embedding(node: Node, build: Builder) -> Features:
    tokens = node.features(1, "indices")
    table = node.weights(0, "the embedding table")
    axis = int(node.take("axis", 0))
    parts = build.book.parts(tokens.ids)
    if len(parts) != 1 or parts[0].tensor.kind != "tokens":
        raise node.refuse("its indices are not a graph input of tokens; re-export with the token input read directly")
    if table.ndim != 2 or axis not in (0, -2) or 0 in table.shape:
        raise node.refuse(
            f"looks up axis {axis} of a table {list(table.shape)}; only rows (axis 0) of [V, F] are supported"
        )
    source = parts[0].tensor
    known = build.vocabulary.setdefault(source.name, table.shape[0])
    if known != table.shape[0]:
        raise node.refuse(
            f"token input '{source.name}' indexes tables of {known} and {table.shape[0]} rows; re-export with one input for each table"
        )
    output = build.result(node, table.shape[1], source.has_time)
    node.reserve(table.size)
    build.layers.append(Embedding(node.name, source.name, output.name, table.copy()))
    return Features(output.ids.reshape((*tokens.ids.shape, table.shape[1])), (*tokens.axes, None))


@axis_rule("Gather")
def gather_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes except the gathered one, and mark computed indices as tokens."""
    data, indices = node.input(0), node.input(1)
    axis = int(node.take("axis", 0))
    if isinstance(indices, AxisTensor):
        if isinstance(data, AxisTensor):
            raise node.refuse("indexes computed features by computed indices; run this part outside the model")
        roles.mark(indices, "tokens", node.name)
        if data.ndim != 2 or axis not in (0, -2):
            raise node.refuse(
                f"looks up axis {axis} of a table {list(data.shape)}; only rows (axis 0) of [V, F] are supported"
            )
        return AxisTensor((*indices.axes, roles.made(int(data.shape[1]), node.name)))
    value: AxisTensor = data
    axis = node.axis(axis, value.rank)
    picks = node.constant(1, "indices")
    if picks.size and picks.min() >= 0:
        roles.taken(value.axes[axis], int(picks.max()) + 1)
    made = tuple(roles.made(int(s), node.name) for s in picks.shape)
    return AxisTensor((*value.axes[:axis], *made, *value.axes[axis + 1 :]), value.sources)
