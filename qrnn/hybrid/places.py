"""Find where batch and time lie in the tensors of a float part, whose axes the importer knows only where integers begin or end.

Names of sizes, the importer's first pass over the whole graph and the shape of a user's array say where the axes of an input are; how shapes
change with the number of sequences and steps says it of an output. Whether a part computes each step by itself is tried on data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from qrnn.errors import DataError, UnsupportedError
from qrnn.hybrid.carried import Carried
from qrnn.hybrid.runtime import Runtime
from qrnn.model.axes import Place
from qrnn.model.float_model import GraphOutput
from qrnn.onnx_import.roles import InputRole

TRIED_STEPS = 7
"""The number of steps on which it is tried whether a part computes each step by itself; fewer where data have no more."""

CLOSE = 1e-4
"""The largest difference between a step alone and in its sequence, of the largest value: sums of float32 in another order differ by less."""


@dataclass
class Known:
    """What is known of the axes of a graph's tensors before any of it runs."""

    types: Mapping[str, onnx.ValueInfoProto]
    one_step: bool
    without_batch: bool
    roles: Mapping[str, InputRole] = field(default_factory=dict)
    batch: set[int | str] = field(default_factory=set)
    """Names of batch sizes, and numbers where the file fixes them."""
    time: set[int | str] = field(default_factory=set)

    def learn(self, places: Iterable[Place]) -> None:
        """Take over the names of sizes of tensors whose axes the importer found."""
        for place in places:
            dims = declared_dims(self.types.get(place.name))
            for axis, known in ((place.batch_axis, self.batch), (place.time_axis, self.time)):
                if axis is not None and dims is not None and axis < len(dims) and dims[axis] not in ("", 1):
                    known.add(dims[axis])


def declared_dims(info: onnx.ValueInfoProto | None) -> list[int | str] | None:
    """Return the sizes of a tensor: numbers, names of free ones, and an empty name for one of which nothing is known."""
    if info is None or not info.type.HasField("tensor_type") or not info.type.tensor_type.HasField("shape"):
        return None
    return [int(d.dim_value) if d.dim_value > 0 else d.dim_param for d in info.type.tensor_type.shape.dim]


def input_place(name: str, known: Known, given: Sequence[int] | None = None) -> GraphOutput:
    """Return where batch and time lie in an input of the graph; ``given`` is the shape of an array for it, batch first.

    Raises UnsupportedError for an input of unknown rank, or with a free size of features that no array gives a number.
    """
    dims = declared_dims(known.types.get(name))
    if dims is None:
        raise UnsupportedError(f"input '{name}' is not a tensor of declared shape; re-export with its shape declared")
    batch, time = _axes(dims, known, known.roles.get(name))
    if known.one_step:  # the one step of a call may have an axis of its own, as data of as many axes show
        ones = [k for k, size in enumerate(dims) if size == 1 and k != batch]
        time = time if time in ones else next(iter(ones), None)
        time = time if given is not None and len(given) == len(dims) else None
    has_time = known.one_step or time is not None
    shape = [size for k, size in enumerate(dims) if k not in (batch, time)]
    lead = 1 + has_time
    if given is not None and len(given) == lead + len(shape):
        shape = [g if isinstance(size, str) else size for size, g in zip(shape, given[lead:], strict=True)]
    free = [size for size in shape if isinstance(size, str)]
    if free:
        raise UnsupportedError(
            f"input '{name}' {dims} has no fixed size of features at {free}; give data of {lead + len(shape)} axes, batch first, or export the "
            "model again with a fixed number of features"
        )
    if given is not None and tuple(given[lead:]) != tuple(shape):
        expected = ", ".join(map(str, ["N", *(["T"] if has_time else []), *shape]))
        raise DataError(
            f"input {name!r}: shape {list(given)}, expected [{expected}] (batch first, whatever the graph's own layout is)"
        )
    return GraphOutput(name, tuple(int(size) for size in shape), has_time, (), batch, time)


def _axes(dims: list[int | str], known: Known, role: InputRole | None) -> tuple[int | None, int | None]:
    """Return the batch axis and the time axis of a tensor of these declared sizes, each None where it has none."""
    batch = role.batch if role is not None else None
    time = role.time if role is not None else None
    if known.without_batch:
        batch = None
    elif batch is None:
        named = [k for k, size in enumerate(dims) if size in known.batch and size not in known.time]
        others = [k for k, size in enumerate(dims) if size not in known.time and k != time]
        open_ = [k for k in others if dims[k] == 1 or isinstance(dims[k], str)]
        batch = next(iter([*named, *open_, *others]), None)
    if time is None:
        named = [k for k, size in enumerate(dims) if size in known.time and k != batch]
        free = [k for k, size in enumerate(dims) if isinstance(size, str) and k != batch]
        time = named[0] if named else free[0] if free else None
    return batch, time


def output_places(
    runtime: Runtime, names: Sequence[str], given: Mapping[str, Carried], known: Known, places: Mapping[str, Place]
) -> tuple[GraphOutput, ...]:
    """Return where batch and time lie in the tensors that a float part gives; ``places`` are those that the parts behind it know.

    The part's graph is run on sequences of ``given`` data: axes whose size changes with the number of sequences are the batch, and those that
    change with their steps are time.
    """
    base = _shapes(runtime, names, given, runtime.rows, 1 if known.one_step else None)
    if base is None:
        raise DataError(
            f"float part {runtime.part.name!r} could not be run on the calibration data; see that they are what the graph takes"
        )
    counts = [int(c.lengths[0]) for c in given.values() if c.lengths is not None]
    batched = all(place.batch_axis is not None for place in runtime.part.inputs)
    more = (_shapes(runtime, names, given, 2 * runtime.rows, 1 if known.one_step else None) if batched else None) or {}
    fewer: dict[str, tuple[int, ...]] = {}
    if counts and min(counts) > 1 and not known.one_step:
        tried = (_shapes(runtime, names, given, runtime.rows, n) for n in (min(counts) - 1, min(counts) // 2))
        fewer = next((found for found in tried if found is not None and found != base), {})
    places_found = []
    for name in names:
        if name in places:
            place = places[name]
            if place.batch_axis is not None and base[name][place.batch_axis] != runtime.rows:
                raise UnsupportedError(
                    f"of the axes of {', '.join(repr(i.name) for i in runtime.part.inputs)} the file does not say which one is the batch; "
                    f"export the model again with names for the free sizes of its inputs, or leave tensor '{name}' in another part"
                )
            places_found.append(GraphOutput(name, place.shape, place.has_time, (), place.batch_axis, place.time_axis))
            continue
        shape = base[name]
        batch, time = _changed(shape, more.get(name)), _changed(shape, fewer.get(name))
        dims = declared_dims(known.types.get(name)) or list(shape)
        if batch is None and not known.without_batch:
            named = [k for k, size in enumerate(dims) if size in known.batch and k != time]
            named += [k for k, size in enumerate(shape) if size == runtime.rows and k != time]
            batch = next(iter(named), None)
        if time is None and not known.one_step and counts and not fewer:
            time = next((k for k, size in enumerate(dims) if size in known.time and k != batch), None)
        rest = tuple(size for k, size in enumerate(shape) if k not in (batch, time))
        places_found.append(GraphOutput(name, rest, known.one_step or time is not None, (), batch, time))
    return tuple(places_found)


def _changed(shape: Sequence[int], other: Sequence[int] | None) -> int | None:
    """Return the one axis whose size is another one; None where no axis is, or the ranks differ."""
    if other is None or len(shape) != len(other):
        return None
    return next((k for k, (a, b) in enumerate(zip(shape, other, strict=True)) if a != b), None)


def _shapes(
    runtime: Runtime, names: Sequence[str], given: Mapping[str, Carried], rows: int, steps: int | None
) -> dict[str, tuple[int, ...]] | None:
    """Return the shapes of a part's outputs for a batch of ``rows`` times the first sequence; None where ONNX Runtime refuses that."""
    arrays: dict[str, Any] = {}
    for place in runtime.part.inputs:
        one = given[place.name].few(1, steps).one(0)
        arrays[place.name] = np.repeat(one, rows, axis=0)
    try:
        return runtime.raw_shapes(names, arrays)
    except DataError:
        return None


def computes_by_steps(runtime: Runtime, given: Mapping[str, Carried], outputs: Sequence[GraphOutput]) -> bool:
    """Return whether each step that the part gives depends on the same step of what it reads, and on nothing else.

    Steps of the data are run alone, in their order and in another one, and compared with the same steps in a sequence.
    """
    timed = [name for name, c in given.items() if c.lengths is not None]
    if not timed:
        return all(not o.has_time for o in outputs)
    counts = np.min([c.lengths for c in given.values() if c.lengths is not None], axis=0)
    for n in np.argsort(-counts, kind="stable")[:2]:
        arrays = {name: c.one(int(n)) for name, c in given.items()}
        steps = int(counts[n])
        if steps < 2 or any(arrays[name].shape[1] != steps for name in timed):
            return False
        order = np.random.default_rng(0).permutation(steps)
        try:
            whole = runtime.call(arrays)
            mixed = runtime.call({name: a[:, order] if name in timed else a for name, a in arrays.items()})
            for t in np.linspace(0, steps - 1, min(steps, TRIED_STEPS)).astype(int):
                alone = runtime.call({name: a[:, t : t + 1] if name in timed else a for name, a in arrays.items()})
                place = int(np.nonzero(order == t)[0][0])
                for o in outputs:
                    own, other = whole[o.name], mixed[o.name]
                    if not o.has_time:  # it must not depend on the steps
                        if not (np.array_equal(own, other) and np.allclose(own, alone[o.name], rtol=CLOSE, atol=1e-6)):
                            return False
                        continue
                    if own.shape[1] != steps or alone[o.name].shape[1] != 1 or other.shape[1] != steps:
                        return False
                    bound = CLOSE * max(float(np.abs(own).max()), 1e-6)
                    one = alone[o.name][:, 0]
                    if not (np.abs(own[:, t] - one).max() <= bound and np.abs(other[:, place] - one).max() <= bound):
                        return False
        except DataError:
            return False
    return True
