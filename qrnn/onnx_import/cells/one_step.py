"""Rewrite a graph of one step a call: its cells become recurrent nodes whose states are the graph's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from qrnn.onnx_import.cells.elements import Value
from qrnn.onnx_import.cells.evaluate import Evaluation
from qrnn.onnx_import.cells.forms import NotACell
from qrnn.onnx_import.cells.match import Cell
from qrnn.onnx_import.cells.patterns import Pattern
from qrnn.onnx_import.cells.step import Found, carried, leaves, search
from qrnn.onnx_import.cells.writing import Writer
from qrnn.onnx_import.values import Array

MOST_PAIRS = 256
"""The most pairs of an input and an output that may hold a state before and after a step."""


@dataclass
class States:
    """Which inputs of a graph may hold a state, and which outputs hold it after the step."""

    evaluation: Evaluation
    inputs: Sequence[str]
    outputs: Sequence[str]
    simple: bool
    """Whether nothing else is recurrent: then an RNN is looked for, whose equation alone is that of a dense layer."""
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pairs: list[tuple[str, str, Array]] = []
        sizes = {name: v.ids.size for name, v in self.evaluation.values.items() if isinstance(v, Value)}
        for old in self.inputs:
            for new in self.outputs:
                if sizes.get(old, -1) == sizes.get(new, -2) and len(self._pairs) < MOST_PAIRS:
                    self._pairs.append((old, new, carried(self.evaluation, old, new)))
        self._given = np.zeros(self.evaluation.elements.count, bool)
        for name in self.inputs:
            value = self.evaluation.values.get(name)
            if isinstance(value, Value):
                self._given[value.ids] = True

    def of(self, pattern: Pattern) -> Array | None:
        """Return the hidden state of a pattern before the step: elements of an input."""
        if pattern.op == "GRU":
            return pattern.old_h if self._is_state(pattern.old_h, pattern.new_h) else None
        if pattern.op == "LSTM":
            if not self._is_state(pattern.old_c, pattern.new_c):
                return None
            return self._chosen(pattern, self._candidates(pattern))
        if not self.simple:
            return None
        candidates = self._candidates(pattern)
        return self._chosen(pattern, candidates) if candidates else None

    def _is_state(self, old: Array | None, new: Array | None) -> bool:
        """Return whether elements are of an input, and an output gives the new ones on: it need not where nothing else is recurrent."""
        if old is None or new is None or not self._given[old].all():
            return False
        return self.simple or any(np.array_equal(before[new], old) for _, _, before in self._pairs)

    def _candidates(self, pattern: Pattern) -> list[tuple[str, str, Array]]:
        """Return the states that an output gives on as the new one and that the gates read, with the names of input and output."""
        elements = self.evaluation.elements
        read = np.zeros(elements.count, bool)
        for ids in leaves(elements, pattern):
            read[ids] = True
        found = []
        for old, new, before in self._pairs:
            state = before[pattern.new_h]
            if (state >= 0).all() and read[state].all():
                found.append((old, new, state))
        return found

    def _chosen(self, pattern: Pattern, candidates: list[tuple[str, str, Array]]) -> Array:
        """Return the one state among candidates."""
        if not candidates and pattern.op == "LSTM":
            return self._only_input(pattern)
        if len({state.tobytes() for _, _, state in candidates}) > 1 and pattern.old_c is not None:
            candidates = self._beside(pattern, candidates) or candidates
        # names tell, such as h and h_out; without any likeness the last one, since states come behind the input
        old, _, state = max(candidates, key=lambda c: (_alike(c[0], c[1]), self.inputs.index(c[0])))
        if len({s.tobytes() for _, _, s in candidates}) > 1:
            others = sorted({name for name, _, _ in candidates} - {old})
            self.notes.append(
                f"cell '{pattern.home}': its hidden state is taken to be input '{old}'; {', '.join(others)} would have the same shape"
            )
        return state

    def _beside(self, pattern: Pattern, candidates: list[tuple[str, str, Array]]) -> list[tuple[str, str, Array]]:
        """Return the candidates that stand to the cell state among the inputs as their outputs stand among the outputs."""
        assert pattern.new_c is not None
        assert pattern.old_c is not None
        found = []
        for old_c, new_c, before in self._pairs:
            if not np.array_equal(before[pattern.new_c], pattern.old_c):
                continue
            for old, new, state in candidates:
                apart = self.inputs.index(old) - self.inputs.index(old_c)
                if apart == self.outputs.index(new) - self.outputs.index(new_c):
                    found.append((old, new, state))
        return found

    def _projected(self, pattern: Pattern) -> bool:
        """Return whether an output that may be a state is a matrix times the new hidden state."""
        elements = self.evaluation.elements
        for _, new, _ in self._pairs:
            value = self.evaluation.values[new]
            assert isinstance(value, Value)
            for k, _ in elements.places_of(value.ids.reshape(-1)):
                block = elements.blocks[k]
                if block.kind == "matmul" and np.isin(block.operands[0], pattern.new_h).all():
                    return True
        return False

    def _only_input(self, pattern: Pattern) -> Array:
        """Return the hidden state that no output gives on: the one group of elements of an input that has its size."""
        elements = self.evaluation.elements
        groups: dict[bytes, Array] = {}
        for name in self.inputs:
            value = self.evaluation.values.get(name)
            if not isinstance(value, Value):
                continue
            for ids in leaves(elements, pattern):
                own = ids[np.isin(ids, value.ids)]
                if own.size == pattern.new_h.size:
                    groups[own.tobytes()] = own
        if not groups and self._projected(pattern):
            raise NotACell(
                "its hidden state is projected before it is given on, and the projected one is an input; write the steps out over time, where "
                "both matrices become one, or give the hidden state itself"
            )
        if len(groups) != 1:
            raise NotACell("which input is its hidden state is not clear; give its new state as an output of the graph")
        return next(iter(groups.values()))


def _alike(a: str, b: str) -> int:
    """Return how many characters two names begin with in common."""
    return next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def one_step_cells(nodes: Sequence[onnx.NodeProto], states: States) -> Found:
    """Find the cells of a graph whose states are its inputs."""
    return search(nodes, states.evaluation, states.of)


def rewritten(nodes: Sequence[onnx.NodeProto], found: Found, writer: Writer) -> list[onnx.NodeProto]:
    """Return the nodes with those that compute the states of cells replaced; the others of a cell are no longer read."""
    before: dict[int, list[onnx.NodeProto]] = {}
    gone: set[int] = set()
    for cell in found.cells:
        places = _replaced(nodes, found.evaluation, cell)
        writer.nodes = []
        state = writer.row(cell.h), "" if cell.c is None else writer.row(cell.c)
        _, *finals = writer.recurrent(cell, writer.row(cell.x), *state)
        for row, names in zip(finals, places, strict=False):
            for name in names:
                writer.give(row, name)
        own = [found.evaluation.writer[name] for names in places for name in names]
        gone.update(own)
        before.setdefault(min(own), []).extend(writer.nodes)
    made: list[onnx.NodeProto] = []
    for place, node in enumerate(nodes):
        made += before.get(place, [])
        if place not in gone:
            made.append(node)
    return made


def _replaced(nodes: Sequence[onnx.NodeProto], evaluation: Evaluation, cell: Cell) -> list[list[str]]:
    """Return the values that are computed, not moved, to be the new hidden state and the new cell state."""
    found = []
    for ids in [cell.new_h] + ([] if cell.new_c is None else [cell.new_c]):
        wanted = np.ascontiguousarray(ids).tobytes()
        names = []
        for name, place in evaluation.writer.items():
            value = evaluation.values[name]
            if not isinstance(value, Value) or value.ids.size != ids.size or value.ids.tobytes() != wanted:
                continue
            operands = [evaluation.values.get(i) for i in nodes[place].input]
            if not any(isinstance(v, Value) and v.ids.tobytes() == wanted for v in operands):
                names.append(name)
        found.append(names)
    return found
