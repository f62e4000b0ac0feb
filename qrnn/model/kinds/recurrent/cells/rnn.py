"""The simple recurrent network of Elman 1990; with a projection, the network of Jordan 1986.

Source of the equation: ONNX operator specification, RNN-14, https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qrnn.arithmetic.arrays import of_arrays
from qrnn.arithmetic.cells import rnn_hidden_state
from qrnn.model.gate_values import gate_integers
from qrnn.model.kinds.recurrent.cell import Cell, CellRun, Gate, QuantSettings, StateBounds, largest_value
from qrnn.model.kinds.recurrent.quantized_direction import CellShifts, QuantDirection
from qrnn.model.kinds.recurrent.step_parts import gate_scratch, head_parts, head_scratch, input_parts, recurrent_parts
from qrnn.model.layer_facts import Scratch, Step, StepLoop
from qrnn.model.parts import FloatArray, GateFunction, Int64Array


def rnn_step(contract: Any) -> Step:
    """Return the step of docs/arithmetic.md, section 4, RNN and projection."""
    dot, requantize, to_operand = contract.dot, contract.requantize, contract.to_operand
    preactivation, evaluate, rnn_hidden_state = contract.preactivation, contract.evaluate, contract.rnn_hidden_state
    saturate16_shifted = contract.saturate16_shifted
    exp_weight, softmax_divide = contract.exp_weight, contract.softmax_divide

    def step(
        n: int, t: int, k: int, x: Any, out: Any, h: Any, c: Any,
        ih: Any, ih_bias: Any, ih_multiplier: Any, ih_left_shift: Any, x_shift: int, x_limit: int,
        pre_shift: Any, params: Any, tables: Any,
        hh: Any, hh_bias: Any, hh_multiplier: Any, hh_left_shift: Any, h_shift: int, h_limit: int,
        hidden_shift: int,
        head: int, v_weight: Any, v_bias: Any, v_multiplier: Any, v_left_shift: Any, v_shift: int, v_limit: int,
        v_pre_shift: Any, v_params: Any, v_tables: Any, v_frac: int, exp_table: Any, v_out_shift: int,
        pre: Any, hidden: Any, hidden_read: Any, value: Any, x_read: Any, h_read: Any,
    ) -> int:  # fmt: skip
        units = hidden.shape[1]
        for j in range(x.shape[2]):
            x_read[n, j] = to_operand(x[n, t, j], x_shift, x_limit)
        for j in range(h.shape[1]):
            h_read[n, j] = to_operand(h[n, j], h_shift, h_limit)
        for r in range(units):
            x_part = requantize(dot(ih, r, x_read, n) + ih_bias[r], ih_multiplier[r], ih_left_shift[r])
            h_part = requantize(dot(hh, r, h_read, n) + hh_bias[r], hh_multiplier[r], hh_left_shift[r])
            pre[n, r] = preactivation(x_part, h_part, pre_shift[r])
            hidden[n, r] = rnn_hidden_state(evaluate(pre[n, r], params, tables, 0), hidden_shift)
        if head == 0:
            for u in range(units):
                h[n, u] = hidden[n, u]
        else:  # what is fed back is made by the projection
            for u in range(units):
                hidden_read[n, u] = to_operand(hidden[n, u], v_shift, v_limit)
            for p in range(h.shape[1]):
                v = requantize(dot(v_weight, p, hidden_read, n) + v_bias[p], v_multiplier[p], v_left_shift[p])
                value[n, p] = saturate16_shifted(v, v_pre_shift[p])
            if head == 2:
                for p in range(h.shape[1]):
                    value[n, p] = evaluate(value[n, p], v_params, v_tables, 0)
            if head == 3:
                largest = value[n, 0]
                for p in range(h.shape[1]):
                    if value[n, p] > largest:
                        largest = value[n, p]
                total = 0
                for p in range(h.shape[1]):
                    value[n, p] = exp_weight(largest - value[n, p], v_frac, exp_table)
                    total = total + value[n, p]
                for p in range(h.shape[1]):
                    value[n, p] = softmax_divide(value[n, p], total)
            for p in range(h.shape[1]):
                h[n, p] = rnn_hidden_state(value[n, p], v_out_shift)
        for p in range(h.shape[1]):
            out[n, k, p] = h[n, p]
        return 1

    return step


class Rnn(Cell):
    """h' = f(W·x + R·h + b)."""

    name = "rnn"
    rows = (Gate("h", "candidate"),)
    takes_projection = True
    state_gate = "h"

    def equation(self, cell: CellRun, wx: FloatArray, h: FloatArray, c: FloatArray) -> dict[str, FloatArray]:
        """Compute h' = f(W·x + R·h + b) in float64."""
        pre = wx + cell.recurrent(h) + cell.d.bias_hh
        return {"pre_h": pre, "h": cell.activate("h", pre)}

    def shifts(self, layer: QuantSettings, d: QuantDirection, fracs: Mapping[str, int], hidden_frac: int) -> CellShifts:
        """Return the shift that takes the value of f from its own fraction bits to those of h before a projection."""
        return CellShifts(hidden=fracs["h"] - hidden_frac)

    def state_bounds(self, functions: Mapping[str, GateFunction]) -> StateBounds:
        """Return that h is bounded where |f| ≤ 1, and that it has at most the fraction bits of f's value."""
        return StateBounds(largest_value(functions["h"]) <= 1, functions["h"].out_frac)

    def hidden(self, layer: QuantSettings, d: QuantDirection, pre: Any, c: Any) -> Int64Array:
        """Return f of the arguments ``pre`` [M, H]."""
        hidden: Int64Array = of_arrays(rnn_hidden_state)(gate_integers(d.gates[0], pre), layer.shifts(d).hidden)
        return hidden

    def step_loop(self, layer: QuantSettings, d: QuantDirection) -> StepLoop:
        """Return the step that `rnn_step` makes, with both matrices, the shift and the projection as its parameters."""
        parameters = (
            *input_parts(layer, d),
            *recurrent_parts(layer, d),
            layer.shifts(d).hidden,
            *head_parts(d.projection, layer.h_frac),
        )
        operands = (Scratch((size,), np.int16) for size in (layer.input_size, layer.output_size))
        return StepLoop(rnn_step, parameters, (gate_scratch(layer), *head_scratch(layer), *operands))


CELL = Rnn()
