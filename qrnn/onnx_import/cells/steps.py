"""Say of every element of a graph that is written out over time which function of one step it is, and of which step.

What is computed in the same way from x[:, 0] and from x[:, 1] is one function of a step, at two times; so a layer that stands in each step
is one layer over time. The hidden state of a recognised layer is such a function too, which makes layers of several cells a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qrnn.onnx_import.cells.chains import Chain
from qrnn.onnx_import.cells.elements import WHAT, Block, Value
from qrnn.onnx_import.cells.evaluate import Evaluation
from qrnn.onnx_import.values import Array

ALWAYS = -1
"""The time of what is the same in every step: constants."""

NO_TIME = -2
"""The time of what mixes steps, or is no function of one."""


@dataclass
class Lifted:
    """A function of one step: a block whose operands are functions of the same step, counted from ``start`` on; or a chain's hidden state."""

    block: Block | None
    start: int
    size: int
    operands: tuple[Array, ...] = ()
    values: Array | None = None
    coefficients: tuple[Array, ...] = ()
    chain: int = -1
    axis: int = -1
    """The time axis of a leaf's value."""
    places: Array | None = None
    """The places, in a leaf's value at one time, of its elements; or the rows of a matrix."""


@dataclass
class Steps:
    """The function and the time of each element."""

    evaluation: Evaluation
    chains: Sequence[Chain]
    refused: dict[str, str] = field(default_factory=dict)
    lifted: list[Lifted] = field(default_factory=list)
    reverse: dict[int, bool] = field(default_factory=dict)
    """By chain: whether its first step is the last time. A chain that is missing is no layer over time."""
    inputs: dict[int, Array] = field(default_factory=dict)
    """By chain: the functions of a step that are its input."""
    count: int = 0

    def __post_init__(self) -> None:
        elements = self.evaluation.elements
        elements.budget.value(WHAT, 3 * elements.count)
        self.function = np.full(elements.count, -1, np.int64)
        self.time = np.full(elements.count, NO_TIME, np.int64)
        self.cells = np.zeros(elements.count, bool)
        """Which elements depend on a cell's state."""
        self._made: dict[Any, Lifted] = {}
        self.lengths = {chain.steps for chain in self.chains}
        ends = {int(chain.new_h[-1][0]): k for k, chain in enumerate(self.chains)}
        states = {int(ids[0]) for chain in self.chains for ids in chain.new_h}
        for block in elements.blocks:
            own = slice(block.start, block.start + block.size)
            self.cells[own] = block.start in states or any(self.cells[ids].any() for ids in block.operands)
            if block.start not in states:
                self._lift(block)
        # a chain's own steps need the functions of its inputs, which may be those of chains before it
        self._place(ends)

    def _place(self, ends: dict[int, int]) -> None:
        """Give chains their times, in an order in which their inputs come first, and lift again what reads them."""
        elements = self.evaluation.elements
        for last in sorted(ends):
            k = ends[last]
            chain = self.chains[k]
            reason = self._times(k, chain)
            if reason:
                self.refused[chain.cell.home] = f"{chain.cell.op} of {chain.steps} steps: {reason}"
                continue
            lifted = self._add(None, Lifted(None, 0, chain.cell.hidden, (self.inputs[k],), chain=k))
            times = range(chain.steps)[:: -1 if self.reverse[k] else 1]
            for time, ids in zip(times, chain.new_h, strict=True):
                self.function[ids] = lifted.start + np.arange(ids.size)
                self.time[ids] = time
            states = {int(ids[0]) for c in self.chains for ids in c.new_h}
            for block in elements.blocks[int(elements.owners(chain.new_h[0])[0]) :]:
                if self.cells[block.start] and block.start not in states:
                    self._lift(block)

    def _times(self, k: int, chain: Chain) -> str:
        """Find the direction of a chain; return why it has none."""
        first = self.function[chain.x[0]]
        if (first < 0).any():
            return "what it reads in a step is no function of that step of an input"
        times = []
        for ids in chain.x:
            if not np.array_equal(self.function[ids], first):
                return "what it reads is computed differently from step to step"
            found = np.unique(self.time[ids])
            if found.size != 1 or found[0] < 0:
                return "what it reads in a step is not of that step alone"
            times.append(int(found[0]))
        forward = list(range(chain.steps))
        if times not in (forward, forward[::-1]):
            return f"it reads the steps {_shortly(times)}, expected 0 to {chain.steps - 1} or these in reverse"
        if any(size != chain.steps for size in self._sizes(first)):
            return "it runs over a part of its input's steps; give it all of them"
        self.reverse[k] = times != forward
        self.inputs[k] = first
        return ""

    def _sizes(self, functions: Array) -> set[int]:
        """Return the lengths of the inputs of functions of a step."""
        sizes = set()
        for k in self.needed(functions):
            lifted = self.lifted[k]
            if lifted.chain >= 0:
                sizes.add(self.chains[lifted.chain].steps)
            elif lifted.axis >= 0 and lifted.block is not None:
                sizes.add(int(self._value(lifted.block).ids.shape[lifted.axis]))
        return sizes

    def owners(self, functions: Array) -> Array:
        """Return the place of the lifted block of each function."""
        starts = np.array([lifted.start for lifted in self.lifted])
        return np.searchsorted(starts, functions, side="right") - 1

    def needed(self, functions: Array) -> list[int]:
        """Return the lifted blocks that functions are computed from, in order."""
        seen: set[int] = set()
        left = [functions]
        while left:
            at = left.pop()
            for k in np.unique(self.owners(at)):
                if int(k) not in seen:
                    seen.add(int(k))
                    left += self.lifted[int(k)].operands
            self.evaluation.elements.budget.spend(WHAT, 100 * at.size + 1000)
        return sorted(seen)

    def _value(self, block: Block) -> Value:
        value = self.evaluation.values[block.home]
        assert isinstance(value, Value)
        return value

    def _lift(self, block: Block) -> None:
        """Give a block's elements their function and their time."""
        own = np.arange(block.start, block.start + block.size)
        self.evaluation.elements.budget.spend(WHAT, 8_000 + 40 * block.size)
        if block.kind == "leaf":
            self._lift_leaf(block)
        elif block.kind == "const":
            lifted = self._add(("const", block.start), Lifted(block, 0, block.size))
            self.function[own], self.time[own] = lifted.start + np.arange(block.size), ALWAYS
        elif block.kind in ("matmul", "layer"):
            time = self._one_time([block.operands[0]])
            if time is not None:
                functions = self.function[block.operands[0]]
                key = (block.kind, id(block.matrix), block.layer, functions.tobytes())
                lifted = self._add(key, Lifted(block, 0, block.size, (functions,)))
                self.function[own], self.time[own] = lifted.start + np.arange(block.size), time
        else:
            latest = self.time[block.operands[0]]
            for ids in block.operands[1:]:
                latest = np.maximum(latest, self.time[ids])
            if (latest == latest[0]).all():
                self._lift_elementwise(block, np.arange(block.size), int(latest[0]))
                return
            for time in np.unique(latest):
                self._lift_elementwise(block, np.flatnonzero(latest == time), int(time))

    def _one_time(self, operands: Sequence[Array]) -> int | None:
        times = np.concatenate([self.time[ids] for ids in operands])
        latest = int(times.max(initial=NO_TIME))
        return latest if latest >= 0 and ((times == latest) | (times == ALWAYS)).all() else None

    def _lift_elementwise(self, block: Block, here: Array, time: int) -> None:
        operands = [ids[here] for ids in block.operands]
        if time < 0 or not all(((self.time[ids] == time) | (self.time[ids] == ALWAYS)).all() for ids in operands):
            return
        functions = tuple(np.ascontiguousarray(self.function[ids]) for ids in operands)
        values = None if block.values is None else block.values[here]
        coefficients = tuple(c[here] for c in block.coefficients)
        key = (
            block.kind,
            block.function,
            None if values is None else values.tobytes(),
            *[c.tobytes() for c in coefficients],
            *[f.tobytes() for f in functions],
        )
        lifted = self._add(key, Lifted(block, 0, here.size, functions, values, coefficients))
        self.function[block.start + here] = lifted.start + np.arange(here.size)
        self.time[block.start + here] = time

    def _lift_leaf(self, block: Block) -> None:
        """Take an axis that is as long as a chain for time: not the last one, where another is as long."""
        value = self._value(block)
        shape = value.ids.shape
        axes = [k for k, d in enumerate(shape) if k != value.batch and d in self.lengths]
        if not axes:
            return
        axis = axes[0]
        ids = np.moveaxis(value.ids, axis, 0).reshape(shape[axis], -1)
        lifted = self._add(("leaf", block.start), Lifted(block, 0, ids.shape[1], axis=axis))
        self.function[ids] = lifted.start + np.arange(ids.shape[1])
        self.time[ids] = np.arange(shape[axis])[:, None]

    def _add(self, key: Any, lifted: Lifted) -> Lifted:
        made = None if key is None else self._made.get(key)
        if made is not None:
            return made
        self.evaluation.elements.budget.value(WHAT, lifted.size * (2 + 2 * len(lifted.operands)))
        lifted.start = self.count
        self.count += lifted.size
        self.lifted.append(lifted)
        if key is not None:
            self._made[key] = lifted
        return lifted


def _shortly(numbers: Sequence[int]) -> str:
    return ", ".join(str(n) for n in numbers[:6]) + (", …" if len(numbers) > 6 else "")
