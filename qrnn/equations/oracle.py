"""The float64 oracle: the ONNX equations of the recurrent operators, written from the operator specification.

It knows nothing of the integer contract; it is checked against ONNX Runtime, and everything else is measured against it.
Source: ONNX operator specification, LSTM-14, GRU-14, RNN-14, https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.model.batch import Batch, make_batch, with_time_axis, without_time_axis
from qrnn.model.float_model import (
    GATE_ROLE,
    Activation,
    Add,
    Concat,
    Dense,
    Direction,
    Embedding,
    FloatArray,
    FloatModel,
    InitialState,
    LastStep,
    Pointwise,
    Recurrent,
    Softmax,
)

Observer = Callable[[str, FloatArray, npt.NDArray[np.bool_] | None], None]
"""Called as observer(name, values, mask): ``layer[d].pre_i`` … [N, T, H] with the mask of real steps [N, T], or [N, F] with None.

Names: ``<tensor>`` for graph inputs and layer outputs; ``<layer>[d].<gate>`` for gate outputs, ``.pre_<gate>`` for their arguments,
``.c`` and ``.h`` for the states after each step (``.hidden`` and ``.pre_s`` before a projection), all in time order
(also for a reverse direction).
"""


class Substitutes:
    """What stands in for parts of the float model while it runs; here nothing does. See `qrnn.accuracy.explain`.

    Names are those of `Observer`, or as the methods say.
    """

    def tensor(self, name: str, values: FloatArray) -> FloatArray:
        """A tensor between layers as it is kept."""
        return values

    def operand(self, reader: str, values: FloatArray) -> FloatArray:
        """What a matrix reads of a tensor or state: ``<layer>.x`` of any layer with weights, ``<layer>[d].h``, ``<layer>[d].hidden``."""
        return values

    def gate(self, name: str, argument: FloatArray, value: FloatArray) -> FloatArray:
        """The value of ``<layer>[d].<role>`` at its argument, not yet clipped; the cell's role is ``output``, a projection's ``s``."""
        return value

    def state(self, name: str, values: FloatArray) -> FloatArray:
        """``<layer>[d].h``, ``.hidden`` and ``.c`` after a step."""
        return values


@dataclass(frozen=True)
class OracleResult:
    """``outputs`` by graph output name, batch first, zero on padded steps; ``tensors`` between layers, [N, T, F] or [N, F]."""

    outputs: dict[str, FloatArray]
    tensors: dict[str, FloatArray]


def activate(activation: Activation, x: FloatArray) -> FloatArray:
    """The real function, in float64; see `qrnn.model.float_model.Activation`."""
    alpha, beta = activation.alpha, activation.beta
    result: FloatArray
    match activation.kind:
        case "sigmoid":
            result = 0.5 * (1.0 + np.tanh(0.5 * x))
        case "tanh":
            result = np.tanh(x)
        case "relu":
            result = np.maximum(x, 0.0)
        case "hard_sigmoid":
            result = np.clip(alpha * x + beta, 0.0, 1.0)
        case "hard_tanh":
            result = np.clip(x, -1.0, 1.0)
        case "step":
            result = np.where(x >= 0.0, 1.0, 0.0)
        case "affine":
            result = alpha * x + beta
        case "leaky_relu":
            result = np.where(x >= 0.0, x, alpha * x)
        case "thresholded_relu":
            result = np.where(x > alpha, x, 0.0)
        case "scaled_tanh":
            result = alpha * np.tanh(beta * x)
        case "elu":
            result = np.where(x >= 0.0, x, alpha * np.expm1(np.minimum(x, 0.0)))
        case "softsign":
            result = x / (1.0 + np.abs(x))
        case "softplus":
            result = np.logaddexp(0.0, x)
    return result


def softmax(x: FloatArray) -> FloatArray:
    """e^x / Σ e^x over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    result: FloatArray = e / e.sum(axis=-1, keepdims=True)
    return result


def run_oracle(
    model: FloatModel, inputs: Mapping[str, Any], lengths: Any = None, observer: Observer | None = None
) -> OracleResult:
    """Run the float model on batch-first arrays, given as for `qrnn.Session.run`."""
    inputs, without = with_time_axis(model.inputs, inputs)
    result = run_oracle_batch(model, make_batch(model.inputs, inputs, lengths), observer)
    return replace(result, outputs=without_time_axis(model.outputs, result.outputs)) if without else result


def run_oracle_batch(
    model: FloatModel, batch: Batch, observer: Observer | None = None, substitutes: Substitutes | None = None
) -> OracleResult:
    """`run_oracle` on a checked batch; ``substitutes`` for parts of the model, none when left out."""
    instead = substitutes or Substitutes()
    tensors: dict[str, FloatArray] = dict(batch.features)
    mask = batch.mask

    def put(name: str, value: FloatArray) -> None:
        value = tensors[name] = instead.tensor(name, value)
        if observer is not None:
            observer(name, value, mask if model.tensors[name].has_time else None)

    for name, value in batch.features.items():
        put(name, value)
    for layer in model.layers:
        match layer:
            case Recurrent():
                _run_recurrent(layer, batch, tensors, put, observer, instead)
            case Dense():
                x = instead.operand(f"{layer.name}.x", tensors[layer.input])
                put(layer.output, x @ layer.weight.T + layer.bias)
            case Pointwise():
                x = tensors[layer.input]
                put(layer.output, instead.gate(layer.name, x, activate(layer.activation, x)))
            case Softmax():
                put(layer.output, softmax(tensors[layer.input]))
            case Add():
                put(layer.output, tensors[layer.left] + tensors[layer.right])
            case Embedding():
                put(layer.output, layer.table[batch.tokens[layer.input]])
            case LastStep():
                put(layer.output, _last(tensors[layer.input], batch))
            case Concat():
                put(
                    layer.output,
                    np.concatenate([tensors[name][..., indices] for name, indices in layer.parts], axis=-1),
                )
    outputs: dict[str, FloatArray] = {}
    for output in model.outputs:
        lead = (batch.size, batch.steps) if output.has_time else (batch.size,)
        value = np.zeros((*lead, output.features))
        for name, indices, positions in output.parts:
            value[..., positions] = tensors[name][..., indices]
        if output.has_time:
            value[~mask] = 0.0
        outputs[output.name] = value.reshape(*lead, *output.shape)
    return OracleResult(outputs, tensors)


def initial_state(state: InitialState, batch: Batch) -> FloatArray:
    """h_0 or c_0 of every sequence, [N, H]."""
    if state.source is not None and state.source in batch.states:
        given: FloatArray = batch.states[state.source][:, state.indices]
        return given
    return np.tile(state.value, (batch.size, 1))


def _last(values: FloatArray, batch: Batch) -> FloatArray:
    """Each sequence's own last real step of values [N, T, F], zero for a sequence of none."""
    last: FloatArray = values[np.arange(batch.size), np.maximum(batch.lengths, 1) - 1]
    return np.where((batch.lengths > 0)[:, None], last, 0.0)


def _run_recurrent(
    layer: Recurrent,
    batch: Batch,
    tensors: dict[str, FloatArray],
    put: Callable[[str, FloatArray], None],
    observer: Observer | None,
    instead: Substitutes,
) -> None:
    x = instead.operand(f"{layer.name}.x", tensors[layer.input])
    mask = batch.mask
    steps = np.arange(batch.steps)
    backwards = np.where(
        mask, batch.lengths[:, None] - 1 - steps, steps
    )  # each sequence reversed within its own length
    sequences = np.arange(batch.size)[:, None]
    ys, h_ns, c_ns = [], [], []
    for number, direction in enumerate(layer.directions):
        order = backwards if direction.reverse else np.broadcast_to(steps, mask.shape)
        traces = _run_direction(layer, f"{layer.name}[{number}]", direction, x[sequences, order], batch, instead)
        h_ns.append(_last(traces["h"], batch))
        if layer.cell == "lstm":
            c_ns.append(_last(traces["c"], batch))
        in_time = {name: trace[sequences, order] for name, trace in traces.items()}  # the reversal is its own inverse
        ys.append(np.where(mask[:, :, None], in_time["h"], 0.0))
        if observer is not None:
            for name, trace in in_time.items():
                observer(f"{layer.name}[{number}].{name}", trace, mask)
    put(layer.output, np.concatenate(ys, axis=-1))
    put(layer.h_n, np.concatenate(h_ns, axis=-1))
    if layer.c_n is not None:
        put(layer.c_n, np.concatenate(c_ns, axis=-1))


def _run_direction(
    layer: Recurrent, key: str, d: Direction, x: FloatArray, batch: Batch, instead: Substitutes
) -> dict[str, FloatArray]:
    """Every quantity of one direction at every step, in the order of processing.

    States are frozen past a sequence's end, or, of a layer without memory, what each step begins with.
    """
    step = {"lstm": _lstm_step, "gru": _gru_step, "rnn": _rnn_step}[layer.cell]
    cell = _Cell(layer, key, d, instead)
    N, T, _ = x.shape
    h = h_0 = initial_state(d.h_0, batch)
    c = c_0 = initial_state(d.c_0, batch) if d.c_0 is not None else np.zeros((N, layer.hidden_size))
    wx = x @ d.weight_ih.T + d.bias_ih
    out: dict[str, FloatArray] = {}
    for t in range(T):
        active = (t < batch.lengths)[:, None]
        if not layer.memory:
            h, c = h_0, c_0
        now = step(cell, wx[:, t], h, c)
        if d.projection is not None:
            now["hidden"] = instead.state(f"{key}.hidden", now["h"])
            v = instead.operand(f"{key}.hidden", now["hidden"]) @ d.projection.weight.T + d.projection.bias
            now["pre_s"], function = v, d.projection.function
            real = v if function is None else softmax(v) if function == "softmax" else activate(function, v)
            now["h"] = instead.gate(f"{key}.s", v, real)
        now["h"] = instead.state(f"{key}.h", now["h"])
        h = now["h"] = np.where(active, now["h"], h)
        if "c" in now:
            c = now["c"] = np.where(active, now["c"], c)
        if not out:
            out = {name: np.zeros((N, T, value.shape[1])) for name, value in now.items()}
        for name, value in now.items():
            out[name][:, t] = value
    return out


def _split(layer: Recurrent, rows: FloatArray) -> dict[str, FloatArray]:
    """Gate → its block of the last axis."""
    return dict(zip(layer.gates, np.split(rows, len(layer.gates), axis=-1), strict=True))


@dataclass(frozen=True)
class _Cell:
    """One direction with what stands in for its parts."""

    layer: Recurrent
    key: str
    d: Direction
    instead: Substitutes

    def activate(self, role: str, x: FloatArray) -> FloatArray:
        """The function of a gate or candidate, whose argument is clipped.

        The specification has clip apply "to the input of activations"; ONNX Runtime leaves out the cell on its way to the LSTM's output
        activation, and so does this.
        """
        clip = None if role == "output" else self.layer.clip
        real = activate(self.d.activations[GATE_ROLE[role]], x if clip is None else np.clip(x, -clip, clip))
        return self.instead.gate(f"{self.key}.{role}", x, real)

    def operand(self, h: FloatArray) -> FloatArray:
        """h, or r·h, as R reads it."""
        return self.instead.operand(f"{self.key}.h", h)


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
    now["c"] = cell.instead.state(f"{cell.key}.c", forget * c + now["i"] * now["g"])
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
