"""The float64 oracle: the ONNX equations of the recurrent operators, written from the operator specification.

It knows nothing of the integer contract; it is checked against ONNX Runtime, and everything else is measured against it.
Source: ONNX operator specification, LSTM-14, GRU-14, RNN-14, https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.model.batch import Batch, make_batch
from qrnn.model.float_model import (
    Activation,
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
``.c`` and ``.h`` for the states after each step, all in time order (also for a reverse direction).
"""


@dataclass(frozen=True)
class OracleResult:
    """``outputs`` by graph output name, batch first, zero on padded steps; ``tensors`` between layers, [N, T, F] or [N, F]."""

    outputs: dict[str, FloatArray]
    tensors: dict[str, FloatArray]


def activate(activation: Activation, x: FloatArray) -> FloatArray:
    """The real function, in float64."""
    result: FloatArray
    if activation.kind == "sigmoid":
        result = 0.5 * (1.0 + np.tanh(0.5 * x))
    elif activation.kind == "tanh":
        result = np.tanh(x)
    elif activation.kind == "relu":
        result = np.maximum(x, 0.0)
    else:
        result = np.clip(activation.alpha * x + activation.beta, 0.0, 1.0)
    return result


def run_oracle(
    model: FloatModel, inputs: Mapping[str, Any], lengths: Any = None, observer: Observer | None = None
) -> OracleResult:
    """Run the float model on batch-first arrays, given as for `qrnn.Session.run`."""
    return run_oracle_batch(model, make_batch(model.inputs, inputs, lengths), observer)


def run_oracle_batch(model: FloatModel, batch: Batch, observer: Observer | None = None) -> OracleResult:
    """`run_oracle` on a checked batch."""
    tensors: dict[str, FloatArray] = dict(batch.features)
    mask = batch.mask

    def put(name: str, value: FloatArray) -> None:
        tensors[name] = value
        if observer is not None:
            observer(name, value, mask if model.tensors[name].has_time else None)

    for name, value in batch.features.items():
        put(name, value)
    for layer in model.layers:
        match layer:
            case Recurrent():
                _run_recurrent(layer, batch, tensors, put, observer)
            case Dense():
                put(layer.output, tensors[layer.input] @ layer.weight.T + layer.bias)
            case Pointwise():
                put(layer.output, activate(layer.activation, tensors[layer.input]))
            case Softmax():
                e = np.exp(tensors[layer.input] - tensors[layer.input].max(axis=-1, keepdims=True))
                put(layer.output, e / e.sum(axis=-1, keepdims=True))
            case Embedding():
                put(layer.output, layer.table[batch.tokens[layer.input]])
            case LastStep():
                put(layer.output, tensors[layer.input][np.arange(batch.size), batch.lengths - 1])
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


def _run_recurrent(
    layer: Recurrent,
    batch: Batch,
    tensors: dict[str, FloatArray],
    put: Callable[[str, FloatArray], None],
    observer: Observer | None,
) -> None:
    x = tensors[layer.input]
    mask = batch.mask
    steps = np.arange(batch.steps)
    backwards = np.where(
        mask, batch.lengths[:, None] - 1 - steps, steps
    )  # each sequence reversed within its own length
    sequences = np.arange(batch.size)[:, None]
    ys, h_ns, c_ns = [], [], []
    for number, direction in enumerate(layer.directions):
        order = backwards if direction.reverse else np.broadcast_to(steps, mask.shape)
        traces = _run_direction(layer, direction, x[sequences, order], batch)
        last = batch.lengths - 1
        h_ns.append(traces["h"][np.arange(batch.size), last])
        if layer.cell == "lstm":
            c_ns.append(traces["c"][np.arange(batch.size), last])
        in_time = {name: trace[sequences, order] for name, trace in traces.items()}  # the reversal is its own inverse
        ys.append(np.where(mask[:, :, None], in_time["h"], 0.0))
        if observer is not None:
            for name, trace in in_time.items():
                observer(f"{layer.name}[{number}].{name}", trace, mask)
    put(layer.output, np.concatenate(ys, axis=-1))
    put(layer.h_n, np.concatenate(h_ns, axis=-1))
    if layer.c_n is not None:
        put(layer.c_n, np.concatenate(c_ns, axis=-1))


def _run_direction(layer: Recurrent, d: Direction, x: FloatArray, batch: Batch) -> dict[str, FloatArray]:
    """Every quantity of one direction at every step, [N, T, H], in the order of processing; frozen past a sequence's end."""
    H = layer.hidden_size
    N, T, _ = x.shape
    f, g = d.activations.get("gate"), d.activations["candidate"]
    h = initial_state(d.h_0, batch)
    c = initial_state(d.c_0, batch) if d.c_0 is not None else np.zeros((N, H))
    wx = x @ d.weight_ih.T + d.bias_ih
    names = {"lstm": "ifgo", "gru": "rzn", "rnn": "h"}[layer.cell]
    pre_names = [f"pre_{name}" for name in names]
    keys = [*pre_names, "h"] + ([] if layer.cell == "rnn" else list(names)) + (["c"] if layer.cell == "lstm" else [])
    out = {key: np.zeros((N, T, H)) for key in keys}
    rows = [slice(k * H, (k + 1) * H) for k in range(len(names))]
    for t in range(T):
        a = wx[:, t]
        active = (t < batch.lengths)[:, None]
        now: dict[str, FloatArray] = {}
        if layer.cell == "lstm":
            assert f is not None
            pre = a + h @ d.weight_hh.T + d.bias_hh
            pi, pf, pg, po = (pre[:, r] for r in rows)
            i, forget, candidate, o = activate(f, pi), activate(f, pf), activate(g, pg), activate(f, po)
            c_new = forget * c + i * candidate
            h_new = o * activate(d.activations["output"], c_new)
            now = {"pre_i": pi, "pre_f": pf, "pre_g": pg, "pre_o": po, "i": i, "f": forget, "g": candidate, "o": o}
        elif layer.cell == "gru":
            assert f is not None
            R, b = d.weight_hh, d.bias_hh
            pr = a[:, rows[0]] + h @ R[rows[0]].T + b[rows[0]]
            pz = a[:, rows[1]] + h @ R[rows[1]].T + b[rows[1]]
            r, z = activate(f, pr), activate(f, pz)
            if layer.linear_before_reset:
                pn = a[:, rows[2]] + r * (h @ R[rows[2]].T + b[rows[2]])
            else:
                pn = a[:, rows[2]] + (r * h) @ R[rows[2]].T + b[rows[2]]
            n = activate(g, pn)
            h_new = (1.0 - z) * n + z * h
            c_new = c
            now = {"pre_r": pr, "pre_z": pz, "pre_n": pn, "r": r, "z": z, "n": n}
        else:
            pre = a + h @ d.weight_hh.T + d.bias_hh
            h_new, c_new = activate(g, pre), c
            now = {"pre_h": pre}
        h, c = np.where(active, h_new, h), np.where(active, c_new, c)
        for name, value in now.items():
            out[name][:, t] = value
        out["h"][:, t] = h
        if layer.cell == "lstm":
            out["c"][:, t] = c
    return out
