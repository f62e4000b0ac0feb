"""Recurrent layers in float64: the walk over directions and steps; the equation of a step is the cell's.

They know nothing of the integer contract; they are checked against ONNX Runtime, and everything else is measured against them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from qrnn.model.activation import activate, softmax
from qrnn.model.kinds.last_step import last_of
from qrnn.model.kinds.recurrent.cell import CellRun
from qrnn.model.kinds.recurrent.definition import Direction, RecurrentDefinition
from qrnn.model.kinds.recurrent.start import real_start
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.surroundings import Equations
from qrnn.model.time import TimeAxis


def run_equation(layer: RecurrentDefinition, run: Equations) -> None:
    """Compute ``output``, ``h_n`` and ``c_n`` of a layer, and show each direction's quantities at every step."""
    group, given = layer.grouping, run.over(layer.input)
    x, axis = group.apart(run.operand(f"{layer.name}.x", run.read(layer.input))), group.axis(given)
    steps, mask = np.arange(axis.steps), axis.mask
    # each sequence reversed within its own length
    backwards = np.where(mask, axis.lengths[:, None] - 1 - steps, steps)
    sequences = np.arange(len(x))[:, None]
    ys, h_ns, c_ns = [], [], []
    begins = start_values(layer, run.size, run.states, run.read)
    for key, direction, own in zip(layer.keys, layer.directions, begins, strict=True):
        order = backwards if direction.reverse else np.broadcast_to(steps, mask.shape)
        starts = [None if s is None else group.starts(s, given) for s in own]
        for state, parts, values in zip("hc", (layer.h_start, layer.c_start), own, strict=True):
            if parts and values is not None:
                run.observe(f"{key}.{state}_0", values[:, None], TimeAxis(np.ones(run.size, np.int64), 1))
        traces = _run_direction(layer, key, direction, x[sequences, order], run, axis.lengths, starts)
        h_ns.append(last_of(axis, traces["h"]))
        if layer.has_cell_state:
            c_ns.append(last_of(axis, traces["c"]))
        in_time = {name: trace[sequences, order] for name, trace in traces.items()}  # the reversal is its own inverse
        ys.append(np.where(mask[:, :, None], in_time["h"], 0.0))
        for name, trace in in_time.items():
            run.observe(f"{key}.{name}", trace, axis)
    run.write(layer.output, group.together(np.concatenate(ys, axis=-1), run.size))
    for tensor, last in zip(layer.outputs[1:], (h_ns, c_ns), strict=False):
        run.write(tensor, group.states_together(np.stack(last, axis=1), run.size).reshape(run.size, -1))


def start_values(
    layer: RecurrentDefinition,
    size: int,
    states: Mapping[str, FloatArray],
    read: Callable[[str], FloatArray],
) -> list[tuple[FloatArray, FloatArray | None]]:
    """Return h_0 [N, P] and, where the cell has c, c_0 [N, H] of each direction; ``read`` gives a tensor of the run by its name."""
    h = real_start(layer.h_start, read, [d.h_0.of(size, states) for d in layer.directions])
    if not layer.has_cell_state:
        return [(own, None) for own in h]
    c = real_start(layer.c_start, read, [d.c_0.of(size, states) for d in layer.directions if d.c_0 is not None])
    return [(own, cell) for own, cell in zip(h, c, strict=True)]


def _run_direction(
    layer: RecurrentDefinition,
    key: str,
    d: Direction,
    x: FloatArray,
    run: Equations,
    lengths: IndexArray,
    starts: Sequence[FloatArray | None],
) -> dict[str, FloatArray]:
    """Compute every quantity of one direction at every step, in the order of processing; ``starts`` are h_0 and, where there is one, c_0.

    Where nobody observes quantities, they are h and c alone. States are frozen past a sequence's end, or, of a layer without memory, what each
    step begins with.
    """
    step, cell = layer.declaration.equation, CellRun(layer, key, d, run)
    N, T, _ = x.shape
    h_0, c_0 = starts
    assert h_0 is not None
    c_0 = np.zeros((N, layer.hidden_size)) if c_0 is None else c_0
    h, c = h_0, c_0
    wx = x @ d.weight_ih.T + d.bias_ih
    out: dict[str, FloatArray] = {}
    for t in range(T):
        active = (t < lengths)[:, None]
        if not layer.memory:
            h, c = h_0, c_0
        now = step(cell, wx[:, t], h, c)
        if d.projection is not None:
            now["hidden"] = run.state(f"{key}.hidden", now["h"])
            v = run.operand(f"{key}.hidden", now["hidden"]) @ d.projection.weight.T + d.projection.bias
            now["pre_s"], function = v, d.projection.function
            real = v if function is None else softmax(v) if function == "softmax" else activate(function, v)
            now["h"] = run.gate(f"{key}.s", v, real)
        now["h"] = run.state(f"{key}.h", now["h"])
        h = now["h"] = np.where(active, now["h"], h)
        if "c" in now:
            c = now["c"] = np.where(active, now["c"], c)
        if not run.is_observed:
            now = {name: now[name] for name in ("h", "c") if name in now}
        if not out:
            out = {name: np.zeros((N, T, value.shape[1])) for name, value in now.items()}
        for name, value in now.items():
            out[name][:, t] = value
    return out
