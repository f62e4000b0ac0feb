"""The reference backend: the contract run as plain Python on unbounded integers. Slow, and the definition of right.

Dot products are NumPy int64; every accumulator is checked against int32, so an overflow that the proof missed is an error here.
"""

from __future__ import annotations

import numpy as np

from qrnn.arithmetic import cells, fixedpoint, gates
from qrnn.backends.base import Engine, LayerState, Trace
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.recurrent.definition import CellKind
from qrnn.model.kinds.recurrent.quantized import QuantDirection, QuantProjection
from qrnn.model.parts import GateFunction, IndexArray, Int16Array, Matrix, Operand, pack_gates


def matvec(matrix: Matrix, operand: list[int], rows: slice = slice(None)) -> list[int]:
    """requantize(weight · operand + bias) of the given rows, [rows] int32."""
    acc = matrix.weight[rows].astype(np.int64) @ np.asarray(operand, np.int64) + matrix.bias[rows]
    shifts, multipliers = matrix.left_shift[rows].tolist(), matrix.multiplier[rows].tolist()
    out = []
    for a, multiplier, shift in zip(acc.tolist(), multipliers, shifts, strict=True):
        if not fixedpoint.INT32_MIN <= a << shift <= fixedpoint.INT32_MAX:
            raise AssertionError(f"accumulator {a} << {shift} leaves int32: the overflow proof is wrong")
        out.append(fixedpoint.requantize(a, multiplier, shift))
    return out


def gate_integers(functions: tuple[GateFunction, ...]) -> tuple[list[list[int]], list[list[int]]]:
    """``params`` and ``tables`` as the contract's `evaluate` reads them, of Python's integers."""
    params, tables = pack_gates(functions)
    return params.tolist(), tables.tolist()


def to_operands(values: list[int], operand: Operand) -> list[int]:
    """The matvec operands of int16 values."""
    return [fixedpoint.to_operand(v, operand.shift, operand.limit) for v in values]


def softmax(row: list[int], in_frac: int, table: list[int]) -> list[int]:
    """Probabilities of one step, Q1.14."""
    weights = [gates.exp_weight(max(row) - v, in_frac, table) for v in row]
    return [gates.softmax_divide(w, sum(weights)) for w in weights]


def project(p: QuantProjection, hidden: list[int], h_frac: int) -> list[int]:
    """What is fed back in place of ``hidden`` [H]: [P] with h_frac fraction bits."""
    sums = matvec(p.matrix, to_operands(hidden, p.operand))
    v = [fixedpoint.saturate16_shifted(s, shift) for s, shift in zip(sums, p.pre_shift.tolist(), strict=True)]
    if p.table is not None:
        v = softmax(v, p.in_frac, p.table.tolist())
    elif p.function is not None:
        params, tables = gate_integers((p.function,))
        v = [gates.evaluate(x, params, tables, 0) for x in v]
    return [cells.rnn_hidden_state(x, p.out_frac - h_frac) for x in v]


class _Cell:
    """One direction's cell; ``step`` is one time step: (gate arguments [G·H], h' [H], c')."""

    def __init__(self, layer: QuantRecurrent, d: QuantDirection) -> None:
        self.layer, self.d, self.shifts = layer, d, layer.shifts(d)
        self.pre_shift = d.pre_shift.tolist()
        self.units = range(layer.hidden_size)
        self.params, self.tables = gate_integers(d.gates)

    def rows(self, gate: str) -> slice:
        """The rows of a gate."""
        H, k = self.layer.hidden_size, self.layer.gates.index(gate)
        return slice(k * H, (k + 1) * H)

    def activate(self, role: str, arguments: list[int]) -> list[int]:
        """The gate function of ``role``."""
        k = self.layer.roles.index(role)
        return [gates.evaluate(a, self.params, self.tables, k) for a in arguments]

    def arguments(self, gate: str, xs: list[int], hs: list[int], c: list[int] | None = None) -> list[int]:
        """Pre-activations of a gate from its own partial sums; ``c`` for the peephole, where the gate has one."""
        rows, peephole = self.rows(gate), self.d.peephole
        if peephole is not None and c is not None:
            weights, shifts = peephole.weight[rows].tolist(), peephole.shift[rows].tolist()
            xs = [x + cells.peephole(v, w, s) for x, v, w, s in zip(xs, c, weights, shifts, strict=True)]
        return [cells.preactivation(x, h, s) for x, h, s in zip(xs, hs, self.pre_shift[rows], strict=True)]

    def sums(self, x: list[int], h: list[int]) -> tuple[list[int], list[int]]:
        """W·x and R·h of every row."""
        xs = matvec(self.d.ih, to_operands(x, self.layer.x_operand))
        return xs, matvec(self.d.hh, to_operands(h, self.layer.h_operand))


class _Lstm(_Cell):
    def step(self, x: list[int], h: list[int], c: list[int]) -> tuple[list[int], list[int], list[int]]:
        xs, hs = self.sums(x, h)
        s, pre = self.shifts, {}
        for gate in self.layer.gates[:-1]:
            rows = self.rows(gate)
            pre[gate] = self.arguments(gate, xs[rows], hs[rows], None if gate == "g" else c)
        i, g = self.activate("i", pre["i"]), self.activate("g", pre["g"])
        if self.layer.forget == "gate":
            f = self.activate("f", pre["f"])
        elif self.layer.forget == "coupled":
            f = [cells.coupled_forget(v, s.input_frac) for v in i]
        else:
            f = [fixedpoint.Q15_ONE] * len(i)
        c = [cells.lstm_cell_state(i[u], f[u], g[u], c[u], s.forget_frac, s.product) for u in self.units]
        rows = self.rows("o")
        pre["o"] = self.arguments("o", xs[rows], hs[rows], c)
        o = self.activate("o", pre["o"])
        a = self.activate("output", [cells.lstm_output_argument(v, s.argument) for v in c])
        h = [cells.lstm_hidden_state(o[u], a[u], s.hidden) for u in self.units]
        return [v for gate in self.layer.gates for v in pre[gate]], h, c


class _Gru(_Cell):
    def step(self, x: list[int], h: list[int], c: list[int]) -> tuple[list[int], list[int], list[int]]:
        s, d, operand = self.shifts, self.d, self.layer.h_operand
        xs, hs = self.sums(x, h)
        pre = {gate: self.arguments(gate, xs[self.rows(gate)], hs[self.rows(gate)]) for gate in ("r", "z")}
        r, z, rows = self.activate("r", pre["r"]), self.activate("z", pre["z"]), self.rows("n")
        if self.layer.linear_before_reset:
            parts = zip(xs[rows], hs[rows], r, self.pre_shift[rows], strict=True)
            pre["n"] = [cells.candidate_after_reset(a, b, gate, s.reset_frac, shift) for a, b, gate, shift in parts]
        else:
            rh = [cells.reset_operand(r[u], h[u], s.reset_frac, operand.shift, operand.limit) for u in self.units]
            pre["n"] = self.arguments("n", xs[rows], matvec(d.hh, rh, rows))
        n = self.activate("n", pre["n"])
        h = [cells.gru_hidden_state(z[u], n[u], h[u], s.update_frac, s.candidate) for u in self.units]
        return [v for gate in self.layer.gates for v in pre[gate]], h, c


class _Rnn(_Cell):
    def step(self, x: list[int], h: list[int], c: list[int]) -> tuple[list[int], list[int], list[int]]:
        pre = self.arguments("h", *self.sums(x, h))
        return pre, [cells.rnn_hidden_state(v, self.shifts.hidden) for v in self.activate("h", pre)], c


_CELLS: dict[CellKind, type[_Lstm | _Gru | _Rnn]] = {"lstm": _Lstm, "gru": _Gru, "rnn": _Rnn}


class ReferenceEngine(Engine):
    """See the module."""

    name = "reference"

    def recurrent(
        self, layer: QuantRecurrent, x: Int16Array, state: LayerState, lengths: IndexArray, trace: Trace | None
    ) -> tuple[Int16Array, LayerState]:
        N, T, _ = x.shape
        H, P, D = layer.hidden_size, layer.output_size, len(layer.directions)
        y = np.zeros((N, T, D * P), np.int16)
        h_n, c_n = state[0].copy(), state[1].copy()
        for number, d in enumerate(layer.directions):
            pre_trace = np.zeros((N, T, len(layer.gates) * H), np.int16)
            h_trace = np.zeros((N, T, P), np.int16)
            c_trace = np.zeros((N, T, H if layer.cell == "lstm" else 0), np.int32)
            cell = _CELLS[layer.cell](layer, d)
            for n in range(N):
                h, c = h_n[n, number].tolist(), c_n[n, number].tolist()
                steps = range(int(lengths[n]))
                for t in reversed(steps) if d.reverse else steps:
                    pre, h, c = cell.step(x[n, t].tolist(), h, c)
                    if d.projection is not None:
                        h = project(d.projection, h, layer.h_frac)
                    pre_trace[n, t], h_trace[n, t], c_trace[n, t] = pre, h, c
                h_n[n, number], c_n[n, number] = h, c
            y[:, :, number * P : (number + 1) * P] = h_trace
            if trace is not None:
                key = f"{layer.name}[{number}]"
                trace.arrays.update({f"{key}.pre": pre_trace, f"{key}.h": h_trace, f"{key}.c": c_trace})
        return y, (h_n, c_n)

    def dense(self, layer: QuantDense, x: Int16Array) -> Int16Array:
        shifts = layer.pre_shift.tolist()
        rows = []
        for operand in x.tolist():
            sums = matvec(layer.matrix, to_operands(operand, layer.operand))
            rows.append([fixedpoint.saturate16_shifted(s, shift) for s, shift in zip(sums, shifts, strict=True)])
        return np.array(rows, np.int16).reshape(len(rows), len(shifts))


ENGINE = ReferenceEngine
