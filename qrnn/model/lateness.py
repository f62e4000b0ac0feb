"""When the steps of tensors come out of a stream: windows that look ahead give them late, and what joins tensors needs them at one time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from qrnn.model.layer import NEVER, GraphLayer


class Times(NamedTuple):
    """When the steps of a tensor come: step j with step stride·floor((skip·j + shift) / rows) + late of the graph inputs.

    Where layers give several steps for one, ``rows`` of them come at once, of which windows may ``skip`` some. Numbers are reduced, so that
    times are equal where all steps come at one time: 0 ≤ shift < rows, and ``skip`` and ``rows`` have no common factor. ``unlike`` is the
    name of a layer behind which times have no such form; they then are like those of no other layer.
    """

    stride: int = 1
    late: int = 0
    rows: int = 1
    shift: int = 0
    skip: int = 1
    unlike: str = ""

    def behind(self, layer: GraphLayer) -> Times:
        """Return the times of what a layer writes that reads a tensor with these times."""
        (every, later), (rows, cut) = layer.comes_late, layer.gives_steps
        skip, shift = self.skip * every, self.skip * later + self.shift
        if self.unlike or (rows > 1 and skip > 1 and self.rows > 1):
            return self._replace(rows=self.rows * rows, shift=0, skip=1, unlike=layer.name)
        if self.rows == 1:
            return _reduced(self.stride * skip, self.late + self.stride * shift, rows, cut, 1)
        return _reduced(self.stride, self.late, rows * self.rows, cut + rows * shift, skip)

    def held(self, steps: int) -> Times:
        """Return the times of a tensor that is held for so many of its own steps."""
        if self.rows == 1:
            return self._replace(late=self.late + self.stride * steps)
        return _reduced(self.stride, self.late, self.rows, self.shift + self.skip * steps, self.skip)

    @property
    def most_rows(self) -> int:
        """Return how many steps may come at once; no fewer than that where times are `unlike` others."""
        return -(-self.rows // self.skip)


def _reduced(stride: int, late: int, rows: int, shift: int, skip: int) -> Times:
    """Return times by their numbers, reduced."""
    common = math.gcd(rows, skip)
    rows, skip, shift = rows // common, skip // common, shift // common
    whole, shift = divmod(shift, rows)
    late += stride * whole
    return Times(stride * skip, late) if rows == 1 else Times(stride, late, rows, shift, skip)


AT_ONCE = Times()
"""The times of a graph input."""


class RecurrentLike(Protocol):
    """A recurrent layer, of a float model or of integers."""

    @property
    def name(self) -> str:
        """Return the layer's name."""

    @property
    def backward(self) -> bool:
        """Return whether a direction of the layer reads the sequence from its end."""


class Streamed(Protocol):
    """A model, of floats or of integers."""

    @property
    def uneven(self) -> str | None:
        """Return which layer or output joins tensors whose steps come out at different times; None for none."""

    @property
    def waits(self) -> str | None:
        """Return which layer gives at every step what only the end of a sequence tells; None for none."""

    @property
    def recurrent_layers(self) -> Sequence[RecurrentLike]:
        """Return the recurrent layers, in order."""


def needs_whole(model: Streamed) -> str | None:
    """Return why the steps of a model that remembers cannot be computed one after the other; None where they can."""
    if model.uneven is not None:
        return f"{model.uneven} joins tensors of which one comes later, since a window before it looks ahead"
    if model.waits is not None:
        return f"{model.waits} gives at every step what only the end of a sequence tells"
    return next((f"layer {r.name!r} reads the sequence backwards" for r in model.recurrent_layers if r.backward), None)


def times_of(layers: Iterable[GraphLayer], over_time: Callable[[str], bool]) -> tuple[dict[str, Times], str | None]:
    """Return the times of every tensor over time that a layer writes, and the first layer that joins tensors with different ones.

    Times are those of the first tensor that such a layer reads. Tensors that are in no layer's outputs are graph inputs, which come `AT_ONCE`.
    """
    times: dict[str, Times] = {}
    uneven = None
    for layer in layers:
        found = [times.get(name, AT_ONCE) for name in layer.joined[0] if over_time(name)]
        if len(set(found)) > 1 and uneven is None:
            uneven = layer.name
        if found:
            times.update(dict.fromkeys(layer.outputs, found[0].behind(layer)))
    return times, uneven


def uneven_join(layers: Iterable[GraphLayer], outputs: Iterable[Any], over_time: Callable[[str], bool]) -> str | None:
    """Return which layer or graph output (`qrnn.model.float_model.GraphOutput`) joins tensors that come at different times; None for none."""
    times, layer = times_of(layers, over_time)
    if layer is not None:
        return f"layer {layer!r}"
    for output in outputs:
        if len({times.get(name, AT_ONCE) for name, _, _ in output.parts if over_time(name)}) > 1:
            return f"output {output.name!r}"
    return None


def waiting(
    layers: Iterable[GraphLayer], over_time: Callable[[str], bool], late: Callable[[GraphLayer], bool]
) -> str | None:
    """Return which layer gives at every step what only the end of a sequence tells; None for none.

    A vector that comes of a graph input without time is known at every step, but not past the end, where a layer that is ``late`` gives its
    last steps.
    """
    ends, behind = set[str](), set[str]()
    for layer in layers:
        if layer.read_whole or layer.needs_end:
            return f"layer {layer.name!r}"
        if ends.intersection(layer.begins_with):
            return f"layer {layer.name!r}, whose initial state is computed from a sequence,"
        vector = layer.repeated
        if vector is not None and (vector in ends or layer.repeats or behind.intersection(layer.inputs)):
            return f"layer {layer.name!r}"
        timed = any(over_time(name) or name in ends for name in layer.inputs)
        ends.update(name for name in layer.outputs if timed and not over_time(name))
        if late(layer) or behind.intersection(layer.inputs):
            behind.update(layer.outputs)
    return None


def stream_facts(model: Any) -> dict[str, Any]:
    """Return whether a model, of floats or of integers, can be streamed, and why not, as plain values for JSON.

    Where it can, ``steps_late`` says by how many steps of the graph inputs each output over time comes late.
    """
    why = "it keeps nothing from step to step: every row is computed by itself" if model.rows else needs_whole(model)
    if why is not None:
        return {"possible": False, "why": why}
    times, _ = times_of(model.layers, lambda name: name in model.length_rules)
    late = {o.name: max(times.get(name, AT_ONCE).late for name, _, _ in o.parts) for o in model.outputs if o.has_time}
    return {"possible": True, "steps_late": late}


def _late_text(steps: int) -> str:
    if steps >= NEVER:
        return "at the end of the sequence"
    return "1 step" if steps == 1 else f"{steps} steps"


def stream_text(facts: dict[str, Any]) -> str:
    """Return `stream_facts` in words."""
    if not facts["possible"]:
        return f"no: {facts['why']}"
    late = {name: steps for name, steps in facts["steps_late"].items() if steps}
    if not late:
        return "yes, step by step"
    each = ", ".join(f"{name} {_late_text(steps)}" for name, steps in late.items())
    return f"yes, step by step; what comes late, since windows look ahead: {each}"
