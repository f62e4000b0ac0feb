"""User arrays become a checked batch here, by checks of names, ranks, types, ranges and lengths that hold for every consumer.

Arrays are batch first: ``[N, T, *shape]`` or ``[N, *shape]`` under the graph input's name; ``lengths`` [N] may stand beside them. A model
without memory is given rows, ``[N, *shape]`` or ``[N, 1, *shape]`` (`with_time_axis`); here they are N sequences of one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.errors import DataError
from qrnn.model.float_model import GraphInput, GraphOutput
from qrnn.model.given_lengths import RESERVED, checked_axes, lengths_by_axis, lengths_in, lengths_names, time_axes
from qrnn.model.pad_values import is_padded, left_out
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.time import TIME, Axis, LengthRule, TimeAxis
from qrnn.model.user_values import as_array, check_mapping, check_type, real_values, token_values
from qrnn.system.brief import Brief

FEW = 64
"""The most sequences for which Python's ``min`` finds the least length sooner than NumPy's does."""


def shortest(lengths: IndexArray) -> int:
    """Return the least of ``lengths`` [N], N of at least 1."""
    return min(lengths.tolist()) if len(lengths) <= FEW else int(lengths.min())


@dataclass(frozen=True)
class Batch(Brief):
    """Checked and flattened arrays: features [N, T, F] or [N, F], tokens [N, T] or [N], states [N, F]; and lengths [N].

    Real values are float64; features are float32 where that is what was given and `make_batch` was told to keep it. ``lengths`` and
    ``steps`` are those of the time axis ``axis``, the first of the model's; ``others`` has its other time axes, if there are any.
    """

    features: Mapping[str, FloatArray]
    tokens: Mapping[str, IndexArray]
    states: Mapping[str, FloatArray]
    lengths: IndexArray
    steps: int
    axis: str = TIME
    others: Mapping[str, TimeAxis] = field(default_factory=dict)

    @property
    def axes(self) -> dict[str, TimeAxis]:
        """Return every time axis by its name."""
        return {self.axis: TimeAxis(self.lengths, self.steps), **self.others}

    def along(self, rule: LengthRule) -> TimeAxis:
        """Return the steps of a tensor whose number of steps follows by ``rule``; its arrays have at least one step."""
        axes = self.axes
        if isinstance(rule, Axis):
            return axes[rule.name]
        lengths = rule.of({name: axis.lengths for name, axis in axes.items()})
        return TimeAxis(lengths, max(1, rule.of({name: axis.steps for name, axis in axes.items()})))

    def paced(self, rule: LengthRule) -> Batch:
        """Return the batch with the steps of a tensor whose number of steps follows by ``rule`` in the place of its own."""
        axis = self.along(rule)
        return replace(self, lengths=axis.lengths, steps=axis.steps)

    @property
    def given_lengths(self) -> IndexArray | dict[str, IndexArray]:
        """Return the lengths as `qrnn.Session.run` takes them: an array, or for several time axes one by the name of each."""
        return {name: axis.lengths for name, axis in self.axes.items()} if self.others else self.lengths

    @property
    def step_count(self) -> int:
        """Return the number of valid steps of all sequences, over all time axes."""
        return sum(int(axis.lengths.sum()) for axis in self.axes.values())

    @property
    def size(self) -> int:
        """Return the number of sequences N."""
        return int(self.lengths.shape[0])

    def take(self, rows: slice | IndexArray) -> Batch:
        """Return the batch of some sequences, with the time axis cut to the longest of them; several time axes are not cut."""
        lengths = self.lengths[rows]
        steps = self.steps if self.others else int(lengths.max(initial=1))
        cut = slice(None) if self.others else slice(steps)
        return Batch(
            {k: v[rows, cut] if v.ndim == 3 else v[rows] for k, v in self.features.items()},
            {k: v[rows, cut] if v.ndim == 2 else v[rows] for k, v in self.tokens.items()},
            {k: v[rows] for k, v in self.states.items()},
            lengths,
            steps,
            self.axis,
            {name: replace(axis, lengths=axis.lengths[rows]) for name, axis in self.others.items()},
        )

    def chunks(self, size: int) -> Iterator[tuple[int, int, Batch]]:
        """Iterate over (start, stop, batch) of runs of at most ``size`` sequences."""
        if size >= self.size and (self.others or self.lengths.max() == self.steps):
            yield 0, self.size, self
            return
        for start in range(0, self.size, size):
            stop = min(start + size, self.size)
            yield start, stop, self.take(slice(start, stop))

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Return which steps are valid, [N, T]."""
        mask: npt.NDArray[np.bool_] = np.arange(self.steps)[None, :] < self.lengths[:, None]
        return mask


def _shape_text(graph_input: GraphInput) -> str:
    timed = graph_input.has_time and not graph_input.rows
    axes = ["N"] + (["T"] if timed else []) + [str(s) for s in graph_input.shape]
    return "[" + ", ".join(axes) + "]"


def _is_row(graph_input: GraphInput, shape: tuple[int, ...]) -> bool:
    """Return whether rows are without the time axis of one step; of two readings, the graph input's own shape comes before F alone."""
    own, whole = graph_input.shape, (graph_input.features,)
    for lead, features in ((1, own), (2, own), (1, whole), (2, whole)):
        if len(shape) == lead + len(features) and shape[lead:] == features and (lead == 1 or shape[1] == 1):
            return lead == 1
    remedy = "one row for each call (batch first, whatever the graph's own layout is)"
    if len(shape) > 1 and shape[2:] in (own, whole):
        rows = [shape[0] * shape[1], *shape[2:]]
        remedy = f"the model keeps nothing from step to step: give its rows as {rows}, or convert with --stream for a model that remembers"
    raise DataError(
        f"input {graph_input.name!r}: shape {list(shape)}, expected {_shape_text(graph_input)} (or [N, 1, …]); {remedy}"
    )


def with_time_axis(
    graph_inputs: tuple[GraphInput, ...], data: Mapping[str, Any], arrays: Callable[[str, Any], Any] | None = None
) -> tuple[dict[str, Any], bool]:
    """Return ``data`` with the rows [N, …] of a model without memory as [N, 1, …], and whether no time axis was given.

    ``arrays`` makes an array of a value, given the place that an error names; without it NumPy does. Data of models with memory is returned
    as it is, with False. Raises DataError for arrays of more than one step, and where some inputs have the axis and others do not.
    """
    found, without, having = dict(data), "", ""
    for graph_input in graph_inputs:
        name = graph_input.name
        if not graph_input.rows or name not in data:
            continue
        array = (arrays or as_array)(f"input {name!r}", data[name])
        shape = tuple(int(size) for size in array.shape)
        if _is_row(graph_input, shape):
            array, without = array.reshape(shape[0], 1, *shape[1:]), name
        else:
            having = name
        found[name] = array
    if without and having:
        raise DataError(
            f"input {having!r} has the axis of one step and input {without!r} has not; give both as [N, …] or both as [N, 1, …]"
        )
    return found, bool(without)


def without_time_axis(graph_outputs: tuple[GraphOutput, ...], outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs of rows without the time axis: those over time, [N, 1, …], become [N, …]."""
    timed = {o.name for o in graph_outputs if o.has_time}
    return {k: v.reshape(v.shape[0], *v.shape[2:]) if k in timed else v for k, v in outputs.items()}


def check_fits(graph_input: GraphInput, array: Any, expected: type) -> tuple[int, ...]:
    """Return the sizes [N] or [N, T] of an array of the host or a device; DataError where it does not have the graph input's shape and type.

    ``expected`` is the kind of its numbers, np.floating or np.integer; integers serve as both.
    """
    lead = 2 if graph_input.has_time else 1
    where, shape = f"input {graph_input.name!r}", tuple(array.shape)

    def shape_error(more: str) -> DataError:
        return DataError(f"{where}: shape {list(shape)}, expected {_shape_text(graph_input)} {more}")

    if len(shape) != lead + len(graph_input.shape) or shape[lead:] != graph_input.shape:
        flat_ok = graph_input.kind != "tokens" and len(shape) == lead + 1 and shape[lead:] == (graph_input.features,)
        if not flat_ok:
            raise shape_error("(batch first, whatever the graph's own layout is)")
    if 0 in shape:
        raise shape_error("with N and T of at least 1")
    check_type(where, array.dtype, expected)
    return shape[:lead]


def _checked(graph_input: GraphInput, value: object, expected: type) -> npt.NDArray[Any]:
    array = as_array(f"input {graph_input.name!r}", value)
    check_fits(graph_input, array, expected)
    return array


def check_names(graph_inputs: tuple[GraphInput, ...], data: Mapping[str, Any]) -> None:
    """Raise DataError where an array is no input of the model, or where a required input is missing."""
    check_mapping(data)
    known = {i.name for i in graph_inputs}
    beside = [*lengths_names(graph_inputs), "labels"]
    if unknown := sorted(data.keys() - known - {*beside, *RESERVED}):
        inputs = ", ".join(map(repr, sorted(known)))
        raise DataError(
            f"array {unknown[0]!r} is not an input of the model; expected {inputs} and optionally {', '.join(beside)}"
        )
    held = ", ".join(map(repr, sorted(data))) or "no arrays"
    for graph_input in graph_inputs:
        if graph_input.name not in data and graph_input.kind in ("features", "tokens"):
            raise DataError(
                f"input {graph_input.name!r} is missing; expected an array {_shape_text(graph_input)} (the data has {held})"
            )


def make_batch(
    graph_inputs: tuple[GraphInput, ...],
    data: Mapping[str, Any],
    lengths: Any = None,
    keep_float32: bool = False,
    first: int = 0,
) -> Batch:
    """Check ``data`` against the graph inputs, and return it as a batch; DataError names the array that does not fit.

    States may be left out; they then start at zero or at the model's own values. ``lengths`` [N] counts the valid steps of each sequence;
    for a model with several time axes it maps their names to such arrays. Where an input has a value of steps that pad it
    (`GraphInput.padding`), such steps at the end of a sequence are left out as well. With ``keep_float32``, features that are float32 are
    not copied into float64, for consumers whose arithmetic is float64 by itself. Where the data are a piece of more, ``first`` is the number
    of their first sequence, from which errors count.
    """
    check_names(graph_inputs, data)
    data, _ = with_time_axis(graph_inputs, data)
    features: dict[str, FloatArray] = {}
    tokens: dict[str, IndexArray] = {}
    states: dict[str, FloatArray] = {}
    sizes: dict[str, tuple[int, ...]] = {}
    counts = lengths_by_axis(time_axes(graph_inputs), lengths_in(graph_inputs, data) if lengths is None else lengths)
    for graph_input in graph_inputs:
        name = graph_input.name
        where = f"input {name!r}"
        if graph_input.kind == "lengths":
            if name in data:
                counts[graph_input.axis] = data[name]
            continue
        if name not in data:
            continue  # a state
        if graph_input.kind == "tokens":
            given = _checked(graph_input, data[name], np.integer)
            tokens[name] = token_values(where, given, graph_input.vocabulary, first)
            lead = tokens[name].shape
        else:
            array = _checked(graph_input, data[name], np.floating)
            lead = array.shape[: 2 if graph_input.has_time else 1]
            real = real_values(where, array, keep_float32 and graph_input.kind == "features", first)
            store = features if graph_input.kind == "features" else states
            store[name] = real.reshape(*lead, graph_input.features)
        sizes[name] = lead
    axes = checked_axes(graph_inputs, sizes, counts, first)
    if is_padded(graph_inputs):
        axes = left_out(graph_inputs, {**features, **tokens}, axes)
    (name, axis), *others = axes.items()
    return Batch(features, tokens, states, axis.lengths, axis.steps, name, dict(others))


def evenly(batch: Batch, steps: int) -> Batch:
    """Return sequences at even distances, as many as have about ``steps`` steps together, and at least one."""
    total = int(batch.lengths.sum())
    batch = batch.take(np.flatnonzero(batch.lengths))
    if total <= steps:
        return batch
    count = max(1, batch.size * steps // total)
    return batch.take(np.arange(count) * batch.size // count)
