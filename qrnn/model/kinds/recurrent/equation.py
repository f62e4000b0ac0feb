"""The equations of recurrent layers in float64, written from the ONNX operator specification.

They know nothing of the integer contract; they are checked against ONNX Runtime, and everything else is measured against them.
Source: ONNX operator specification, LSTM-14, GRU-14, RNN-14, https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qrnn.model.activation import activate, softmax
from qrnn.model.kinds.last_step import last_of
from qrnn.model.kinds.recurrent.definition import GATE_ROLE, Direction, RecurrentDefinition
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.surroundings import Equations


def run_equation(layer: RecurrentDefinition, run: Equations) -> None:
    """Compute ``output``, ``h_n`` and ``c_n`` of a layer, and show each direction's quantities at every step."""
    x = run.operand(f"{layer.name}.x", run.read(layer.input))
    axis = run.over(layer.input)
    steps, mask = np.arange(axis.steps), axis.mask
    # each sequence reversed within its own length
    backwards = np.where(mask, axis.lengths[:, None] - 1 - steps, steps)
    sequences = np.arange(run.size)[:, None]
    ys, h_ns, c_ns = [], [], []
    for key, direction in zip(layer.keys, layer.directions, strict=True):
        order = backwards if direction.reverse else np.broadcast_to(steps, mask.shape)
        traces = _run_direction(layer, key, direction, x[sequences, order], run, axis.lengths)
        h_ns.append(last_of(axis, traces["h"]))
        if layer.cell == "lstm":
            c_ns.append(last_of(axis, traces["c"]))
        in_time = {name: trace[sequences, order] for name, trace in traces.items()}  # the reversal is its own inverse
        ys.append(np.where(mask[:, :, None], in_time["h"], 0.0))
        for name, trace in in_time.items():
            run.observe(f"{key}.{name}", trace, axis)
    run.write(layer.output, np.concatenate(ys, axis=-1))
    run.write(layer.h_n, np.concatenate(h_ns, axis=-1))
    if layer.c_n is not None:
        run.write(layer.c_n, np.concatenate(c_ns, axis=-1))


def _run_direction(
    layer: RecurrentDefinition, key: str, d: Direction, x: FloatArray, run: Equations, lengths: IndexArray
) -> dict[str, FloatArray]:
    """Every quantity of one direction at every step, in the order of processing.

    States are frozen past a sequence's end, or, of a layer without memory, what each step begins with.
    """
    step = {"lstm": _lstm_step, "gru": _gru_step, "rnn": _rnn_step}[layer.cell]
    cell = _Cell(layer, key, d, run)
    N, T, _ = x.shape
    h = h_0 = d.h_0.of(run.size, run.states)
    c = c_0 = d.c_0.of(run.size, run.states) if d.c_0 is not None else np.zeros((N, layer.hidden_size))
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
        if not out:
            out = {name: np.zeros((N, T, value.shape[1])) for name, value in now.items()}
        for name, value in now.items():
            out[name][:, t] = value
    return out


def _split(layer: RecurrentDefinition, rows: FloatArray) -> dict[str, FloatArray]:
    """Gate → its block of the last axis."""
    return dict(zip(layer.gates, np.split(rows, len(layer.gates), axis=-1), strict=True))


@dataclass(frozen=True)
class _Cell:
    """One direction in a run."""

    layer: RecurrentDefinition
    key: str
    d: Direction
    run: Equations

    def activate(self, role: str, x: FloatArray) -> FloatArray:
        """The function of a gate or candidate, whose argument is clipped.

        The specification has clip apply "to the input of activations"; ONNX Runtime leaves out the cell on its way to the LSTM's output
        activation, and so does this.
        """
        clip = None if role == "output" else self.layer.clip
        real = activate(self.d.activations[GATE_ROLE[role]], x if clip is None else np.clip(x, -clip, clip))
        return self.run.gate(f"{self.key}.{role}", x, real)

    def operand(self, h: FloatArray) -> FloatArray:
        """h, or r·h, as R reads it."""
        return self.run.operand(f"{self.key}.h", h)


def _lstm_step(cell: _Cell, wx: FloatArray, h: FloatArray, c: FloatArray) -> dict[str, FloatArray]:
    layer, d = cell.layer, cell.d
    pre = _split(layer, wx + cell.operand(h) @ d.weight_hh.T + d.bias_hh)
    peephole = _split(layer, np.zeros(wx.shape[1]) if d.peephole is None else d.peephole)
    now = {"pre_i": pre["i"] + peephole["i"] * c, "pre_g": pre["g"]}
    now["i"], now["g"] = cell.activate("i", now["pre_i"]), cell.activate("g", pre["g"])
    if layer.forget == "gate":
        now["pre_f"] = pre["f"] + peephole["f"] * c
        now["f"] = cell.activate("f", now["pre_f"])
        forget = now["f"]
    elif layer.forget == "coupled":
        forget = 1.0 - now["i"]
    else:
        forget = np.ones_like(c)
    now["c"] = cell.run.state(f"{cell.key}.c", forget * c + now["i"] * now["g"])
    now["pre_o"] = pre["o"] + peephole["o"] * now["c"]
    now["o"] = cell.activate("o", now["pre_o"])
    now["h"] = now["o"] * cell.activate("output", now["c"])
    return now


def _gru_step(cell: _Cell, wx: FloatArray, h: FloatArray, _c: FloatArray) -> dict[str, FloatArray]:
    layer, d = cell.layer, cell.d
    a, b, read = _split(layer, wx), _split(layer, d.bias_hh), cell.operand(h)
    R = dict(zip(layer.gates, np.split(d.weight_hh, 3), strict=True))
    now = {f"pre_{gate}": a[gate] + read @ R[gate].T + b[gate] for gate in ("r", "z")}
    r, z = cell.activate("r", now["pre_r"]), cell.activate("z", now["pre_z"])
    if not layer.update_keeps:
        z = 1.0 - z
    if layer.linear_before_reset:
        now["pre_n"] = a["n"] + r * (read @ R["n"].T + b["n"])
    else:
        now["reset_h"] = r * h
        now["pre_n"] = a["n"] + cell.operand(now["reset_h"]) @ R["n"].T + b["n"]
    n = cell.activate("n", now["pre_n"])
    return now | {"r": r, "z": z, "n": n, "h": z * h + (1.0 - z) * n}


def _rnn_step(cell: _Cell, wx: FloatArray, h: FloatArray, _c: FloatArray) -> dict[str, FloatArray]:
    pre = wx + cell.operand(h) @ cell.d.weight_hh.T + cell.d.bias_hh
    return {"pre_h": pre, "h": cell.activate("h", pre)}
