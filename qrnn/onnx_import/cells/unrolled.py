"""Rewrite a graph that is written out over a fixed number of steps: its cells, and the layers of each step, become nodes over time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from qrnn.onnx_import.cells.chains import Chain, chains
from qrnn.onnx_import.cells.elements import Value
from qrnn.onnx_import.cells.evaluate import Evaluation
from qrnn.onnx_import.cells.forms import NotACell
from qrnn.onnx_import.cells.steps import Lifted, Steps
from qrnn.onnx_import.cells.writing import Writer
from qrnn.onnx_import.values import Array


class Unrolled:
    """The nodes over time of a graph that is written out over time."""

    def __init__(self, nodes: Sequence[onnx.NodeProto], steps: Steps) -> None:
        self.steps = steps
        self.evaluation: Evaluation = steps.evaluation
        self.writer = Writer(self.evaluation)
        self._nodes = nodes
        self._made: dict[int, str] = {}
        self._vectors: dict[bytes, str] = {}
        self._finals: dict[int, list[str]] = {}
        self._states = {
            ids.tobytes(): (k, time) for k, c in enumerate(steps.chains) for time, ids in enumerate(c.new_h)
        }
        self._cell_states = {
            ids.tobytes(): (k, time) for k, c in enumerate(steps.chains) for time, ids in enumerate(c.new_c)
        }

    def rewrite(self, outputs: Sequence[str]) -> list[onnx.NodeProto]:
        """Return nodes that compute the outputs, in order; `NotACell` where a part of a cell is read by others."""
        kept: dict[int, None] = {}
        seen: set[str] = set()
        wanted = list(outputs)
        while wanted:
            name = wanted.pop()
            if not name or name in seen:
                continue
            seen.add(name)
            place = self.evaluation.writer.get(name)
            if place is None:
                continue
            if self._replaced(name):
                wanted += self.writer.reads
                self.writer.reads.clear()
                continue
            kept[place] = None
            wanted += self._nodes[place].input
        made = {o for node in self.writer.nodes for o in node.output}
        nodes = [n for k, n in enumerate(self._nodes) if k in kept and not made.intersection(n.output)]
        return _ordered([*nodes, *self.writer.nodes])

    def _replaced(self, name: str) -> bool:
        """Write a value over all steps, or a last state, from nodes over time; return whether it is one."""
        value = self.evaluation.values[name]
        if not isinstance(value, Value) or not self.steps.cells[value.ids].any():
            return False
        flat = value.ids.tobytes()
        if flat in self._states:
            k, time = self._states[flat]
            self._give_state(k, time, name)
            return True
        if flat in self._cell_states:
            k, time = self._cell_states[flat]
            if k in self.steps.inputs and time == self.steps.chains[k].steps - 1:
                self.writer.give(self.finals(k)[2], name)
                return True
            raise NotACell(f"'{name}', its cell state in the middle of the sequence, is read by more than the cell")
        return self._over_time(name, value)

    def _give_state(self, k: int, time: int, name: str) -> None:
        chain = self.steps.chains[k]
        if k not in self.steps.inputs:
            raise NotACell(self.steps.refused.get(chain.cell.home, "one of its layers is no layer over time"))
        y, h, *_ = self.finals(k)
        if time == chain.steps - 1:
            self.writer.give(h, name)
            return
        place = chain.steps - 1 - time if self.steps.reverse[k] else time
        rows = self.writer.axes("Squeeze", y, [1])
        one = self.writer.node("Slice", [rows, *self._bounds(place, place + 1)])
        self.writer.give(one, name)

    def _bounds(self, start: int, end: int) -> list[str]:
        if self.evaluation.opset < 10:
            raise NotACell("a state in the middle of the sequence is read, which is written from opset 10 on only")
        return [self.writer.constant(np.array([v], np.int64), "bound") for v in (start, end, 0)]

    def _over_time(self, name: str, value: Value) -> bool:
        """Write a value one axis of which is time: the same functions at all times in order."""
        ids = value.ids
        for axis, size in enumerate(ids.shape):
            if axis == value.batch or size not in self.steps.lengths:
                continue
            rows = np.moveaxis(ids, axis, 0).reshape(size, -1)
            functions, times = self.steps.function[rows], self.steps.time[rows]
            if (times != np.arange(size)[:, None]).any() or (functions != functions[0]).any() or functions[0, 0] < 0:
                continue
            self._give_rows(self.vector(functions[0]), name, value, axis)
            return True
        return False

    def _give_rows(self, rows: str, name: str, value: Value, axis: int) -> None:
        """Write [T, N, n] as a value whose time axis is ``axis``."""
        shape, batch = list(value.ids.shape), value.batch
        batch = next((k for k, d in enumerate(shape) if d == 1 and k != axis), None) if batch is None else batch
        others = [k for k in range(len(shape)) if k not in (axis, batch)]
        wide = [k for k in others if shape[k] != 1]
        if batch is None or len(wide) > 1:
            raise NotACell(f"'{name}' stacks its steps to a layout that is not supported here")
        last = wide[0] if wide else (others[-1] if others else None)
        order = sorted([axis, batch, *([] if last is None else [last])])
        writer = self.writer
        if last is None:
            rows = writer.axes("Squeeze", rows, [2])
        now = [axis, batch, *([] if last is None else [last])]
        if now != order:
            rows = writer.node("Transpose", [rows], perm=[now.index(k) for k in order])
        writer.axes("Unsqueeze", rows, [k for k in others if k != last], name)

    def vector(self, functions: Array) -> str:
        """Return a value [T, N, n] of functions of a step."""
        for k in self.steps.needed(functions):
            if k not in self._made:
                self._made[k] = self._written(k, self.steps.lifted[k])
        return self._gathered(functions)

    def _gathered(self, functions: Array) -> str:
        key = functions.tobytes()
        if key not in self._vectors:
            owners = self.steps.owners(functions)
            cuts = [0, *(np.flatnonzero(np.diff(owners)) + 1), functions.size]
            parts = []
            for start, end in itertools.pairwise(cuts):
                lifted = self.steps.lifted[int(owners[start])]
                places = functions[start:end] - lifted.start
                part = self._made[int(owners[start])]
                if not np.array_equal(places, np.arange(lifted.size)):
                    part = self.writer.node("Gather", [part, self.writer.constant(places, "places")], axis=2)
                parts.append(part)
            self._vectors[key] = parts[0] if len(parts) == 1 else self.writer.node("Concat", parts, axis=2)
        return self._vectors[key]

    def _written(self, k: int, lifted: Lifted) -> str:
        """Write one function of a step as a value [T, N, n]; those that it reads are written."""
        writer = self.writer
        if lifted.chain >= 0:
            return writer.axes("Squeeze", self.finals(lifted.chain)[0], [1])
        block = lifted.block
        assert block is not None
        if block.kind == "leaf":
            return self._leaf(block.home, lifted.axis)
        if block.kind == "const":
            raise NotACell("a layer of each step joins constants to its input")
        operands = [self._gathered(ids) for ids in lifted.operands]
        if block.kind == "matmul":
            assert block.matrix is not None
            return writer.node("MatMul", [operands[0], writer.constant(block.matrix.T, f"{block.home}/weight")])
        if block.layer is not None:
            writer.reads += block.layer.constants
            attributes: dict[str, Any] = dict(block.layer.attributes)
            return writer.node(block.layer.op, [operands[0], *block.layer.constants], axis=-1, **attributes)
        if block.kind == "product":
            return writer.node("Mul", operands)
        if block.kind == "unary":
            assert block.function is not None
            given = {name: getattr(block.function, name) for name in ("alpha", "beta")}
            return writer.node(
                block.function.name, operands, **{name: value for name, value in given.items() if value is not None}
            )
        terms = []
        for operand, coefficient in zip(operands, lifted.coefficients, strict=True):
            if (coefficient != 1).any():
                operand = writer.node("Mul", [operand, writer.constant(coefficient, f"{block.home}/factor")])
            terms.append(operand)
        total = terms[0]
        for term in terms[1:]:
            total = writer.node("Add", [total, term])
        assert lifted.values is not None
        if lifted.values.any():
            total = writer.node("Add", [total, writer.constant(lifted.values, f"{block.home}/bias")])
        return total

    def _leaf(self, name: str, axis: int) -> str:
        """Return a value of the graph with its axes brought to [T, N, n]."""
        value = self.evaluation.values[name]
        assert isinstance(value, Value)
        rank, batch, writer = value.ids.ndim, value.batch, self.writer
        writer.reads.append(name)
        if batch is None:
            batch = next((k for k, d in enumerate(value.ids.shape) if d == 1 and k != axis), None)
        if batch is None:
            name, rank, batch, axis = writer.axes("Unsqueeze", name, [0]), rank + 1, 0, axis + 1
        order = [axis, batch, *(k for k in range(rank) if k not in (axis, batch))]
        if order != sorted(order):
            name = writer.node("Transpose", [name], perm=order)
        if rank == 2:
            return writer.axes("Unsqueeze", name, [2])
        if rank > 3:
            shape = writer.constant(np.array([0, 0, -1], np.int64), "shape")
            return writer.node("Reshape", [name, shape])
        return name

    @property
    def written(self) -> set[int]:
        """Return the chains whose nodes were written."""
        return set(self._finals)

    def finals(self, k: int) -> list[str]:
        """Return Y, Y_h and Y_c of a chain, whose node is written when it is first asked for."""
        if k not in self._finals:
            chain = self.steps.chains[k]
            x = self.vector(self.steps.inputs[k])
            direction = "reverse" if self.steps.reverse[k] else "forward"
            h, c = self._initial(chain, chain.h), "" if chain.c is None else self._initial(chain, chain.c)
            self._finals[k] = self.writer.recurrent(chain.cell, x, h, c, direction)
        return self._finals[k]

    def _initial(self, chain: Chain, state: Array) -> str:
        """Return an initial state as a value [1, N, H]."""
        if chain.given:
            return self.writer.row(state)
        return self.writer.constant(state.reshape(1, 1, -1), "state") if state.any() else ""


def _ordered(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return nodes in an order in which each comes after those whose results it reads."""
    writer = {o: k for k, node in enumerate(nodes) for o in node.output if o}
    left = [0] * len(nodes)
    followers: list[list[int]] = [[] for _ in nodes]
    for k, node in enumerate(nodes):
        for before in {writer[i] for i in node.input if i in writer}:
            followers[before].append(k)
            left[k] += 1
    ready = [k for k, count in enumerate(left) if not count][::-1]
    order = []
    while ready:
        k = ready.pop()
        order.append(nodes[k])
        for follower in followers[k]:
            left[follower] -= 1
            if not left[follower]:
                ready.append(follower)
    if len(order) < len(nodes):
        raise NotACell("its layers read each other in a circle")
    return order


def unrolled(
    nodes: Sequence[onnx.NodeProto], evaluation: Evaluation, outputs: Sequence[str]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], list[Chain]] | list[str]:
    """Return nodes over time for a graph that is written out over time, with new constants and the layers; or why what looks so is none."""
    found = chains(list(nodes), evaluation)
    refused = [
        f"value '{name}' looks like a layer written out over time, but {why}" for name, why in found.refused.items()
    ]
    if not found.found:
        return refused
    steps = Steps(evaluation, found.found)
    refused += [
        f"value '{name}' looks like a layer written out over time, but {why}" for name, why in steps.refused.items()
    ]
    if not steps.inputs:
        return refused
    made = Unrolled(nodes, steps)
    try:
        rewritten = made.rewrite(outputs)
        return rewritten, made.writer.constants, [steps.chains[k] for k in sorted(made.written)]
    except NotACell as error:
        return [*refused, f"a layer written out over time is recognised, but {error}"]
