"""Gradients of recurrent layers: backpropagation through time (Werbos 1990, https://doi.org/10.1109/5.58337).

The derivative of a step is that of the cell's own equation (`qrnn.model.kinds.recurrent.cell.Cell.equation`), taken at the states that the
forward pass had before it. Most cells go through a compiled loop (`qrnn.qat.fast`), which gives the same numbers sooner.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qrnn.model.activation import Activation, activate, softmax
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.recurrent.cell import CellRun
from qrnn.model.kinds.recurrent.grouping import EachStep
from qrnn.model.parts import FloatArray
from qrnn.model.time import TimeAxis
from qrnn.qat.arrays import layer_arrays, with_arrays
from qrnn.qat.equation_run import EquationRun, scattered, summed
from qrnn.qat.fast import fast_of
from qrnn.qat.passes import DirectionGradients, DirectionPass
from qrnn.qat.tape_rules import new_tape
from qrnn.qat.values import Values


def recurrent_gradients(
    values: Values, layer: Recurrent, outputs: Mapping[str, FloatArray], states: dict[str, FloatArray]
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Return the gradients of a layer's arrays and of its inputs; those of graph state inputs are added to ``states``."""
    group, given = layer.grouping, values.batch.along(values.model.length_rules[layer.input])
    raw: FloatArray = np.asarray(values.tensor(layer, 0), values.real)
    axis = group.axis(given)
    x, passed = values.operand(f"{layer.name}.x", raw)
    x, N = group.apart(x), len(group.apart(raw))
    steps, P, H, D = np.arange(axis.steps), layer.output_size, layer.hidden_size, len(layer.directions)
    backwards = np.where(axis.mask, axis.lengths[:, None] - 1 - steps, steps)
    rows = np.arange(N)[:, None]
    of_y = outputs.get(layer.output)
    of_y = np.zeros((N, axis.steps, D * P), values.real) if of_y is None else group.apart(of_y)
    of_last = _last(layer, outputs.get(layer.h_n), (N, D, P), axis)
    of_cell = _last(layer, outputs.get(layer.c_n or ""), (N, D, H if layer.has_cell_state else 0), axis)
    wanted = values.wants(layer.input)
    arrays, of_x, begun = dict[str, FloatArray](), list[FloatArray](), []
    for number, (d, before) in enumerate(zip(layer.directions, values.starts(layer), strict=True)):
        order = backwards if d.reverse else None
        seen = values.steps(layer, number)
        made = DirectionPass(
            values, layer, number, x, seen, before, axis.lengths, of_y[:, :, number * P : (number + 1) * P],
            of_last[:, number], of_cell[:, number], wanted,
        )  # fmt: skip
        if order is not None:  # the reversal is its own inverse
            made.x, made.of_h = x[rows, order], made.of_h[rows, order]
            made.steps = seen.ordered(rows, order)
        fast = fast_of(layer, d)
        found = steps_back(made) if fast is None else fast(made)
        arrays |= {f"directions.{number}.{path}": np.asarray(g, np.float64) for path, g in found.arrays.items()}
        if found.x is not None:
            of_x.append(found.x if order is None else found.x[rows, order])
        begun.append((found.h, found.c))
    inputs: dict[str, FloatArray] = {}
    if wanted:
        inputs[layer.input] = group.together(sum(of_x), values.batch.size) * passed * values.reads(layer, 0)
    for name, gradient in _start_gradients(values, layer, begun, given, arrays, states).items():
        inputs[name] = inputs[name] + gradient if name in inputs else gradient
    return arrays, inputs


def _last(layer: Recurrent, gradient: FloatArray | None, shape: tuple[int, int, int], axis: TimeAxis) -> FloatArray:
    """Return the gradient of a layer's last h or c, [N', D, W], for the sequences that its cell takes; those without steps have none."""
    if gradient is None:
        return np.zeros(shape)
    whole: FloatArray = layer.grouping.states_apart(gradient.reshape(len(gradient), shape[1], -1))
    return np.where(axis.lengths[:, None, None] > 0, whole, 0.0)


def _start_gradients(
    values: Values,
    layer: Recurrent,
    begun: list[tuple[FloatArray, FloatArray]],
    axis: TimeAxis,
    arrays: dict[str, FloatArray],
    states: dict[str, FloatArray],
) -> dict[str, FloatArray]:
    """Give the gradients of initial states to the constants and graph state inputs that they are made of; return those of tensors."""
    size, of_tensors = values.batch.size, dict[str, FloatArray]()
    for which, parts in enumerate((layer.h_start, layer.c_start)):
        if which and not layer.has_cell_state:
            continue
        own = [_ungrouped(layer, gradients[which].astype(np.float64), axis, size) for gradients in begun]
        whole = np.concatenate(own, axis=1)
        for part in parts:
            found = scattered(whole[:, part.positions], part.indices, values.model.tensors[part.tensor].features)
            whole[:, part.positions] = 0.0
            of_tensors[part.tensor] = of_tensors.get(part.tensor, 0.0) + found
        for number, gradient in enumerate(np.split(whole, len(own), axis=1)):
            name = "c_0" if which else "h_0"
            state = getattr(layer.directions[number], name)
            if state.source is not None and state.source in values.batch.states:
                found = scattered(gradient, state.indices, values.batch.states[state.source].shape[1])
                states[state.source] = summed(states.get(state.source), found)
            else:
                arrays[f"directions.{number}.{name}.value"] = gradient.sum(axis=0)
    return of_tensors


def _ungrouped(layer: Recurrent, gradient: FloatArray, axis: TimeAxis, size: int) -> FloatArray:
    """Return the gradient of what the model's N sequences begin with, of that of the sequences that the cell takes."""
    width = gradient.shape[1] if isinstance(layer.grouping, EachStep) else gradient.size // size
    numbers = layer.grouping.starts(np.arange(size * width).reshape(size, width), axis)
    sums: FloatArray = np.zeros(size * width)
    np.add.at(sums, numbers.ravel(), gradient.ravel())
    return sums.reshape(size, width)


def steps_back(made: DirectionPass) -> DirectionGradients:
    """Go back through time step by step, by the derivative of the cell's own equation: any cell, with or without a projection."""
    layer, d, (h_0, c_0), T = made.layer, made.d, made.before, made.x.shape[1]
    all_h, all_c = made.steps.h * made.steps.h_unit, made.steps.c * made.steps.c_unit
    wx = made.x @ d.weight_ih.T + d.bias_ih
    seen = layer_arrays(d)  # type: ignore[arg-type]  # a part of a layer
    paths = [path for path in seen if path not in ("weight_ih", "bias_ih") and not path.endswith("_0.value")]
    arrays = {path: np.zeros_like(seen[path]) for path in paths}
    sums, of_h, of_c = np.zeros_like(wx), made.of_last.copy(), made.of_cell.copy()
    begun_h, begun_c = np.zeros_like(of_h), np.zeros_like(of_c)
    for t in range(T - 1, -1, -1):
        active = np.asarray(t < made.lengths)[:, None]
        if not active.any():
            continue
        first = t == 0 or not layer.memory
        h = h_0 if first else all_h[:, t - 1]
        c = c_0 if first else all_c[:, t - 1]
        step = _Step(made, wx[:, t], h, c, paths)
        step.back((of_h + made.of_h[:, t]) * active, of_c * active)
        sums[:, t] = step.tape.gradient(step.sums)
        for path, variable in step.arrays.items():
            arrays[path] += step.tape.gradient(variable)
        by_h, by_c = step.tape.gradient(step.h), step.tape.gradient(step.c)
        if layer.memory:
            of_h, of_c = np.where(active, by_h, of_h), np.where(active, by_c, of_c)
        else:
            begun_h, begun_c = begun_h + by_h, begun_c + by_c
            last = np.asarray(t == made.lengths - 1)[:, None]
            of_h, of_c = np.where(last, 0.0, of_h), np.where(last, 0.0, of_c)
    if layer.memory:
        begun_h, begun_c = of_h, of_c
    flat = sums.reshape(-1, sums.shape[-1])
    arrays |= {"weight_ih": flat.T @ made.x.reshape(len(flat), -1), "bias_ih": flat.sum(axis=0)}
    of_x = (flat @ d.weight_ih).reshape(made.x.shape) if made.wants_x else None
    return DirectionGradients(of_x, begun_h, begun_c, arrays)


class _Step:
    """One step of a cell's equation on traced arrays."""

    def __init__(self, made: DirectionPass, sums: FloatArray, h: FloatArray, c: FloatArray, paths: list[str]) -> None:
        layer, d, self.tape = made.layer, made.d, new_tape()
        seen = layer_arrays(d)  # type: ignore[arg-type]
        self.arrays = {path: self.tape.variable(seen[path]) for path in paths}
        self.sums = self.tape.variable(sums)
        self.h = self.tape.variable(h)
        self.c = self.tape.variable(c)
        run: Any = EquationRun(self.tape, made.values, layer)
        traced = with_arrays(d, {"bias_ih": d.bias_ih, **self.arrays})
        equation: Any = layer.declaration.equation
        now: dict[str, Any] = equation(CellRun(layer, made.key, traced, run), self.sums, self.h, self.c)
        if (p := traced.projection) is not None:
            hidden = run.operand(f"{made.key}.hidden", run.state(f"{made.key}.hidden", now["h"]))
            v = hidden @ p.weight.T + p.bias
            real = v if p.function is None else softmax(v) if p.function == "softmax" else activate(p.function, v)
            now["h"] = run.gate(f"{made.key}.s", v, real) if isinstance(p.function, Activation) else real
        self.after = run.state(f"{made.key}.h", now["h"]), now.get("c")

    def back(self, of_h: FloatArray, of_c: FloatArray) -> None:
        """Compute the gradients of this step from those of h and c after it."""
        h, c = self.after
        self.tape.backward([(h, of_h), *([] if c is None else [(c, of_c)])])
