"""ONNX's recurrent nodes of Keras's cells: weights in ONNX's order, one direction or both in a node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.keras_import.activations import Recurrent, recurrent_activation
from qrnn.keras_import.graph import Graph
from qrnn.keras_import.settings import Settings
from qrnn.keras_import.tensors import Value
from qrnn.keras_import.weights import Weights

GATES = {"LSTM": (0, 3, 1, 2), "GRU": (0, 1, 2), "RNN": (0,)}
"""The place in Keras's kernels of each gate of ONNX: Keras has i, f, c, o and z, r, h."""


@dataclass(frozen=True)
class Cell:
    """A cell with its weights as ONNX has them: W [G·H, I], R [G·H, H], B [2·G·H]."""

    op: str
    units: int
    W: np.ndarray[Any, Any]
    R: np.ndarray[Any, Any]
    B: np.ndarray[Any, Any]
    functions: tuple[Recurrent, ...]
    reset_after: bool


def state_count(cell: Cell) -> int:
    """Return how many states a cell has."""
    return 2 if cell.op == "LSTM" else 1


def read_cell(op: str, settings: Settings, weights: Weights, features: int, version: str) -> Cell:
    """Return a cell of ONNX's operator ``op`` by the settings of Keras's layer or cell."""
    units, bias = settings.size("units"), settings.flag("use_bias", True)
    inner = recurrent_activation(settings, "activation", "tanh", version)
    functions: tuple[Recurrent, ...] = (inner,)
    if op != "RNN":
        gate = recurrent_activation(
            settings, "recurrent_activation", "hard_sigmoid" if version[:1] == "1" else "sigmoid", version
        )
        functions = (gate, inner, inner) if op == "LSTM" else (gate, inner)
    reset_after = settings.flag("reset_after", False) if op == "GRU" else False
    gates = len(GATES[op])
    wide = gates * units
    wanted: list[tuple[str, tuple[int, ...] | None]] = [
        ("kernel", (features, wide)),
        ("recurrent_kernel", (units, wide)),
    ]
    if bias:
        wanted.append(("bias", (2, wide) if reset_after else (wide,)))
    kernel, recurrent, *biases = weights.take(settings.where, wanted)
    order = np.concatenate([np.arange(g * units, (g + 1) * units) for g in GATES[op]])
    B = np.zeros(2 * wide)
    if biases:
        own = biases[0].reshape(-1, wide)[:, order]
        B[: own.size] = own.reshape(-1)
    return Cell(op, units, kernel[:, order].T, recurrent[:, order].T, B, functions, reset_after)


@dataclass(frozen=True)
class Run:
    """A cell run over a sequence in one direction, from given states [N, H] or zeros."""

    cell: Cell
    reverse: bool
    initial: Sequence[Value] | None

    def fits(self, other: Run) -> bool:
        """Return whether both can be the two directions of one node."""
        a, b = self.cell, other.cell
        return (a.op, a.units, a.reset_after) == (b.op, b.units, b.reset_after) and (self.initial is None) == (
            other.initial is None
        )


@dataclass(frozen=True)
class Found:
    """The results of a node: all steps of each direction, in the order of the input, and the final states of each."""

    graph: Graph
    x: Value
    steps: str
    h: str
    units: int
    states: list[list[Value]]

    def sequence(self, direction: int) -> Value:
        """Return the steps of one direction, [N, T, H]."""
        one = self.graph.op("Squeeze", [self.steps, self.graph.ints(1)])
        if len(self.states) > 1:
            index = self.graph.constant(np.array(direction, np.int64), "direction")
            one = self.graph.op("Gather", [self.steps, index], axis=1)
        return self._value(self.graph.op("Transpose", [one], perm=[1, 0, 2]), self.units)

    def joined(self) -> Value:
        """Return the steps of both directions side by side, [N, T, 2·H]."""
        first = self.graph.op("Transpose", [self.steps], perm=[2, 0, 1, 3])
        return self._value(self.graph.op("Reshape", [first, self.graph.ints(0, 0, 2 * self.units)]), 2 * self.units)

    def joined_last(self) -> Value:
        """Return the final h of both directions side by side, [N, 2·H]."""
        first = self.graph.op("Transpose", [self.h], perm=[1, 0, 2])
        return Value(self.graph.op("Reshape", [first, self.graph.ints(0, 2 * self.units)]), (None, 2 * self.units))

    def _value(self, name: str, features: int) -> Value:
        return Value(name, (None, self.x.shape[1], features), None, self.x.sources)


def run(graph: Graph, x: Value, runs: Sequence[Run]) -> Found:
    """Write one recurrent node over ``x`` [N, T, features], in one direction or both."""
    cells = [r.cell for r in runs]
    cell, count = cells[0], len(runs)
    time_first = graph.op("Transpose", [x.name], perm=[1, 0, 2])
    operands = [
        time_first,
        *(graph.constant(np.stack([getattr(c, key) for c in cells]), key) for key in ("W", "R", "B")),
    ]
    if runs[0].initial is not None:
        operands.append("")
        for place in range(state_count(cell)):
            rows = [
                graph.op("Unsqueeze", [r.initial[place].name, graph.ints(0)]) for r in runs if r.initial is not None
            ]
            operands.append(rows[0] if count == 1 else graph.op("Concat", rows, axis=0))
    functions = [f for c in cells for f in c.functions]
    attributes: dict[str, Any] = {
        "hidden_size": cell.units,
        "activations": [name for name, _, _ in functions],
        "direction": "bidirectional" if count > 1 else "reverse" if runs[0].reverse else "forward",
    }
    for key, place in (("activation_alpha", 1), ("activation_beta", 2)):
        if numbers := [f[place] for f in functions if f[place] is not None]:
            attributes[key] = numbers
    if cell.reset_after:
        attributes["linear_before_reset"] = 1
    steps, *finals = graph.names(cell.op, operands, 1 + state_count(cell), **attributes)
    states: list[list[Value]] = []
    for direction in range(count):
        own = []
        for name in finals:
            index = graph.constant(np.array(direction, np.int64), "direction")
            last = (
                graph.op("Gather", [name, index], axis=0) if count > 1 else graph.op("Squeeze", [name, graph.ints(0)])
            )
            own.append(Value(last, (None, cell.units)))
        states.append(own)
    return Found(graph, x, steps, finals[0], cell.units, states)
