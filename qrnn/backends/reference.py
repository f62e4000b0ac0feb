"""The reference backend: the contract run as plain Python on unbounded integers. Slow, and the definition of right.

Dot products are NumPy int64; every accumulator is checked against int32, so an overflow that the proof missed is an error here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qrnn.arithmetic import cells, fixedpoint, gates
from qrnn.backends.base import Engine, LayerState, Trace
from qrnn.model.float_model import GATES, IndexArray
from qrnn.model.parts import Int16Array, Operand, QuantMatrix, pack_gates
from qrnn.model.quant_model import QuantDense, QuantDirection, QuantPointwise, QuantRecurrent, QuantSoftmax


def matvec(matrix: QuantMatrix, operand: list[int], rows: slice = slice(None)) -> list[int]:
    """requantize(weight · operand + bias) of the given rows, [rows] int32."""
    acc = matrix.weight[rows].astype(np.int64) @ np.asarray(operand, np.int64) + matrix.bias[rows]
    shifts, multipliers = matrix.left_shift[rows].tolist(), matrix.multiplier[rows].tolist()
    out = []
    for a, multiplier, shift in zip(acc.tolist(), multipliers, shifts, strict=True):
        if not fixedpoint.INT32_MIN <= a << shift <= fixedpoint.INT32_MAX:
            raise AssertionError(f"accumulator {a} << {shift} leaves int32: the overflow proof is wrong")
        out.append(fixedpoint.requantize(a, multiplier, shift))
    return out


def to_operands(values: list[int], operand: Operand) -> list[int]:
    """The matvec operands of int16 values."""
    return [fixedpoint.to_operand(v, operand.shift, operand.limit) for v in values]


class ReferenceEngine(Engine):
    """See the module."""

    name = "reference"

    def recurrent(
        self, layer: QuantRecurrent, x: Int16Array, state: LayerState, lengths: IndexArray, trace: Trace | None
    ) -> tuple[Int16Array, LayerState]:
        N, T, _ = x.shape
        H, D, G = layer.hidden_size, len(layer.directions), len(GATES[layer.cell])
        y = np.zeros((N, T, D * H), np.int16)
        h_n, c_n = state[0].copy(), state[1].copy()
        for number, d in enumerate(layer.directions):
            pre_trace = np.zeros((N, T, G * H), np.int16)
            h_trace = np.zeros((N, T, H), np.int16)
            c_trace = np.zeros((N, T, H if layer.cell == "lstm" else 0), np.int32)
            packed = pack_gates(d.gates)
            for n in range(N):
                h, c = h_n[n, number].tolist(), c_n[n, number].tolist()
                steps = range(int(lengths[n]))
                for t in reversed(steps) if d.reverse else steps:
                    pre, h, c = self.step(layer, d, packed, x[n, t].tolist(), h, c)
                    pre_trace[n, t], h_trace[n, t], c_trace[n, t] = pre, h, c
                h_n[n, number], c_n[n, number] = h, c
            y[:, :, number * H : (number + 1) * H] = h_trace
            if trace is not None:
                key = f"{layer.name}[{number}]"
                trace.arrays.update({f"{key}.pre": pre_trace, f"{key}.h": h_trace, f"{key}.c": c_trace})
        return y, (h_n, c_n)

    @staticmethod
    def step(
        layer: QuantRecurrent, d: QuantDirection, packed: tuple[Any, Any], x: list[int], h: list[int], c: list[int]
    ) -> tuple[list[int], list[int], list[int]]:
        """One time step of one direction: (gate arguments [G·H], h', c')."""
        H, (params, tables) = layer.hidden_size, packed
        shifts = d.pre_shift.tolist()
        xs = matvec(d.ih, to_operands(x, layer.x_operand))
        units = range(H)

        def gate(value: int, role: int) -> int:
            return int(gates.evaluate(value, params, tables, role))

        if layer.cell == "gru" and not layer.linear_before_reset:
            hs = matvec(d.hh, to_operands(h, layer.h_operand), slice(0, 2 * H))
            pre = [cells.preactivation(xs[k], hs[k], shifts[k]) for k in range(2 * H)]
            operand = layer.h_operand
            rh = [cells.reset_operand(gate(pre[u], 0), h[u], operand.shift, operand.limit) for u in units]
            hs += matvec(d.hh, rh, slice(2 * H, 3 * H))
            pre += [cells.preactivation(xs[k], hs[k], shifts[k]) for k in range(2 * H, 3 * H)]
        else:
            hs = matvec(d.hh, to_operands(h, layer.h_operand))
            split = 2 * H if layer.cell == "gru" else len(hs)
            pre = [cells.preactivation(xs[k], hs[k], shifts[k]) for k in range(split)]
            pre += [
                cells.candidate_after_reset(xs[k], hs[k], gate(pre[k - split], 0), shifts[k])
                for k in range(split, len(hs))
            ]
        if layer.cell == "lstm":
            i, f, g, o = ([gate(pre[r * H + u], r) for u in units] for r in range(4))
            c = [cells.lstm_cell_state(i[u], f[u], g[u], c[u], layer.c_frac) for u in units]
            in_frac = d.gates[4].in_frac
            arguments = [cells.lstm_output_argument(v, layer.c_frac, in_frac) for v in c]
            h = [cells.lstm_hidden_state(o[u], gate(arguments[u], 4), layer.h_frac) for u in units]
        elif layer.cell == "gru":
            h = [
                cells.gru_hidden_state(gate(pre[H + u], 1), gate(pre[2 * H + u], 2), h[u], layer.h_frac) for u in units
            ]
        else:
            h = [cells.rnn_hidden_state(gate(pre[u], 0), d.gates[0].out_frac, layer.h_frac) for u in units]
        return pre, h, c

    def dense(self, layer: QuantDense, x: Int16Array) -> Int16Array:
        shifts = layer.pre_shift.tolist()
        rows = []
        for operand in x.tolist():
            sums = matvec(layer.matrix, to_operands(operand, layer.operand))
            rows.append([fixedpoint.saturate16_shifted(s, shift) for s, shift in zip(sums, shifts, strict=True)])
        return np.array(rows, np.int16).reshape(len(rows), -1)

    def pointwise(self, layer: QuantPointwise, x: Int16Array) -> Int16Array:
        params, tables = pack_gates((layer.function,))
        function, out = layer.function, np.empty_like(x)
        for index, value in np.ndenumerate(x):
            y = gates.evaluate(fixedpoint.align16(int(value), layer.in_frac, function.in_frac), params, tables, 0)
            out[index] = fixedpoint.shift_right_round(int(y), function.out_frac - layer.out_frac)
        return out

    def softmax(self, layer: QuantSoftmax, x: Int16Array) -> Int16Array:
        table, rows = layer.table.tolist(), []
        for row in x.tolist():
            weights = [gates.exp_weight(max(row) - v, layer.in_frac, table) for v in row]
            rows.append([gates.softmax_divide(w, sum(weights)) for w in weights])
        return np.array(rows, np.int16).reshape(x.shape)

    def align(self, x: Int16Array, from_frac: int, to_frac: int) -> Int16Array:
        return np.array(
            [[fixedpoint.align16(v, from_frac, to_frac) for v in row] for row in x.tolist()], np.int16
        ).reshape(x.shape)


ENGINE = ReferenceEngine
