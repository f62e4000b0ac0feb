"""The first pass finds which axes of the graph inputs are batch and time, and what each input is for.

The declaration does not say it, but the recurrent nodes do: X is [T, N, F], initial states are [D, N, H], sequence_lens is [N]. So every
axis of every input gets an identity, the identities are carried through the graph by each operator's axis rule, and the places where they
meet a recurrent node name them. This pass refuses nothing by itself: an axis that it loses is simply unnamed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from qrnn.onnx_import.values import Symbol

STEPS = ""
"""Among the sources of an axis tensor: the numbers of the steps, and no graph input."""

InputKind = Literal["features", "tokens", "lengths", "state", "weight"]


@dataclass(frozen=True, eq=False)
class Axis(Symbol):
    """One axis of a graph input (``name`` says which), or one that a node makes."""

    source: str | None = None
    parts: tuple[Axis, ...] = ()
    """The axes that a node merges to this one, in their order."""


@dataclass(frozen=True, eq=False)
class AxisTensor:
    """A tensor as the identities of its axes. ``sources`` are the graph inputs that it only rearranges."""

    axes: tuple[Axis, ...]
    sources: frozenset[str] = frozenset()

    @property
    def rank(self) -> int:
        """Return the number of axes."""
        return len(self.axes)


@dataclass(frozen=True)
class InputRole:
    """What an input is for, and which of its axes are batch and time."""

    kind: InputKind
    batch: int | None
    time: int | None
    used_by: str = ""


@dataclass(frozen=True, eq=False)
class Claim:
    """The axes of X of a recurrent node that it takes for time and batch.

    ``states`` are the axes of its initial states for the batch, where these are graph inputs; ``one_way`` says that it runs in one direction.
    """

    node: str
    sequence: Axis
    rows: Axis
    one_way: bool
    states: tuple[Axis, ...]


def _top(parents: dict[Axis, Axis], axis: Axis) -> Axis:
    """Return the axis above which there is none."""
    while (above := parents.get(axis)) is not None:
        parents[axis] = parents.get(above, above)  # a shorter way for the next search
        axis = above
    return axis


@dataclass(eq=False)
class Roles:
    """Equalities between axes (union-find) and what the recurrent nodes say about them."""

    inputs: dict[str, AxisTensor] = field(default_factory=dict)
    kinds: dict[str, tuple[InputKind, str]] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    folded: dict[Axis, tuple[Axis, ...]] = field(default_factory=dict)
    """An axis that channels and all axes behind them were put together to, in groups → the axes before that (`qrnn.onnx_import.folding`)."""
    caches: frozenset[str] = frozenset()
    """The inputs that hold past steps (`qrnn.onnx_import.caches`)."""
    batch: Axis = field(default_factory=lambda: Axis("N"))
    time: Axis = field(default_factory=lambda: Axis("T"))
    made_time: list[Axis] = field(default_factory=list)
    """Axes made by nodes (not of an input) that are the time axis of a recurrent node."""
    made_batch: list[Axis] = field(default_factory=list)
    """Axes made by nodes that are the batch of a recurrent node."""
    claims: list[Claim] = field(default_factory=list)
    """What recurrent nodes say of axes that only all of them together name (`qrnn.onnx_import.claims`)."""
    one_sequence: bool = False
    """Whether recurrent nodes over bands show that the batch has the size 1, and not which of the axes of that size it is."""
    features: set[Axis] = field(default_factory=set)
    """The axes of features of what recurrent nodes read."""
    used_sizes: dict[Axis, int] = field(default_factory=dict)
    """Axes whose size the file does not declare, and the size that a node needs."""
    taken_sizes: dict[Axis, int] = field(default_factory=dict)
    """Axes whose size the file does not declare, and how many of their elements nodes take one by one or in slices."""
    _parent: dict[Axis, Axis] = field(default_factory=dict)
    _joined: dict[Axis, Axis] = field(default_factory=dict)
    """As ``_parent``, but for that axes are not the same one because all are batch, or all are time."""

    def add_input(self, name: str, dims: list[int | None]) -> AxisTensor:
        """Give every axis of a graph input an identity."""
        axes = tuple(Axis(f"axis {k} of '{name}'", size, name) for k, size in enumerate(dims))
        self.inputs[name] = AxisTensor(axes, frozenset([name]))
        return self.inputs[name]

    def made(self, size: int | None, node: str) -> Axis:
        """Return a new axis that a node makes."""
        return Axis(f"an axis made by node '{node}'", size)

    def root(self, axis: Axis) -> Axis:
        """Return the axis that stands for all axes known to be the same as this one."""
        return _top(self._parent, axis)

    def are_joined(self, a: Axis, b: Axis) -> bool:
        """Return whether nodes show that two axes have one size, and not only that both are steps."""
        return _top(self._joined, a) is _top(self._joined, b)

    def same(self, a: Axis, b: Axis, node: str = "") -> None:
        """Record that two axes are the same one."""
        root_a, root_b = self.root(a), self.root(b)
        if not {a, b} & {self.batch, self.time} and _top(self._joined, a) is not _top(self._joined, b):
            self._joined[_top(self._joined, a)] = _top(self._joined, b)
        if root_a is root_b:
            return
        batch, time = self.root(self.batch), self.root(self.time)
        if {root_a, root_b} == {batch, time}:
            self.conflicts.append(
                f"{a.name} is used both as batch and as time (at node '{node}'); re-export with one layout throughout"
            )
            return
        self._parent[root_a] = root_b
        for part, other in zip(a.parts, b.parts if len(a.parts) == len(b.parts) else (), strict=False):
            if part.size == other.size or None in (part.size, other.size):
                self.same(part, other, node)

    def used_as(self, axis: Axis, size: int) -> None:
        """Record that a node needs an axis of this size."""
        if axis.size is None:
            self.used_sizes.setdefault(axis, size)

    def taken(self, axis: Axis, size: int) -> None:
        """Record that a node takes the elements before ``size`` of an axis, or some of them."""
        if axis.size is None:
            self.taken_sizes[axis] = max(size, self.taken_sizes.get(axis, 0))

    def size_of_use(self, name: str, axis: int) -> int | None:
        """Return the size of an axis of a graph input as nodes use it, where the file does not declare it; None where no node says it.

        How many elements are taken counts for states only, of which a graph takes all.
        """
        own = self.inputs[name].axes[axis]
        taken = self.taken_sizes.get(own) if self.kinds.get(name, ("",))[0] == "state" else None
        return self.used_sizes.get(own, taken)

    def mark(self, value: object, kind: InputKind, node: str) -> None:
        """Record what the inputs behind a value are for."""
        if not isinstance(value, AxisTensor):
            return
        for name in sorted(value.sources - {STEPS}):
            known, where = self.kinds.setdefault(name, (kind, node))
            if known != kind:
                self.conflicts.append(
                    f"input '{name}' is used as {known} by node '{where}' and as {kind} by node '{node}'; "
                    "re-export with separate inputs"
                )

    def is_batch(self, axis: Axis) -> bool:
        """Return whether an axis is known to be the batch."""
        return self.root(axis) is self.root(self.batch)

    def is_time(self, axis: Axis) -> bool:
        """Return whether an axis is known to be time."""
        return self.root(axis) is self.root(self.time)

    def role(self, name: str) -> InputRole:
        """Return the role of a graph input as far as it was found."""
        axes = self.inputs[name].axes
        batch = next((k for k, axis in enumerate(axes) if self.is_batch(axis)), None)
        time = next((k for k, axis in enumerate(axes) if self.is_time(axis)), None)
        kind, node = self.kinds.get(name, ("features", ""))
        if batch is None:
            # [1, F] reshaped to [1, 1, F]: among literal ones the file does not say which is which, and it does not matter
            ones = [k for k, axis in enumerate(axes) if axis.size == 1 and axis not in self.features]
            if kind == "lengths" and len(axes) == 1:
                batch = 0
            elif time in ones and self.one_sequence and ones[0] != time:
                batch = ones[0]
            elif time in ones:
                batch, time = time, None
            elif kind == "state" and len(ones) == 1:
                batch = ones[0]
            elif time is not None and len(first := [k for k in ones if k < 2]) == 1:
                batch = first[0]  # a Reshape of [1, T, F] to [T, F] drops it, and one to [1, T, F] makes another
            elif self.one_sequence and kind == "features" and ones:
                batch = ones[0]
        return InputRole(kind, batch, time, node)

    def without_batch(self) -> bool:
        """Return whether the graph takes one sequence: its nodes make the batch axis, of size 1, and no sequence that it reads has one."""
        made = bool(self.made_batch) and all(axis.size == 1 for axis in self.made_batch)
        kinds = {name: self.kinds.get(name, ("features", ""))[0] for name in self.inputs}
        return made and all(
            self.role(name).batch is None for name, kind in kinds.items() if kind in ("features", "tokens")
        )

    def one_step(self) -> bool:
        """Return whether the graph runs one time step per call.

        It does when no input has a time axis, or only literal ones, so that no call can have more.
        """
        sizes = {
            axis.size
            for name, value in self.inputs.items()
            if name not in self.caches and (time := self.role(name).time) is not None
            for axis in [value.axes[time]]
        }
        made_of_one = bool(self.made_time) and all(axis.size == 1 for axis in self.made_time)
        if (
            not sizes
        ):  # the time axis is made by a node, or it is one of the literal ones that `role` took for the batch
            others = [value for name, value in self.inputs.items() if name not in self.caches]
            return made_of_one or any(a.size == 1 and self.is_time(a) for v in others for a in v.axes)
        return sizes == {1}
