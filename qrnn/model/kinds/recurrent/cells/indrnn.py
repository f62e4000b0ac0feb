"""IndRNN: a simple recurrent network whose units each read their own past alone.

Source: Li et al. 2018, "Independently Recurrent Neural Network (IndRNN)", https://arxiv.org/abs/1803.04831, equation 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qrnn.model.kinds.recurrent.cell import Cell, CellRun, Gate, QuantSettings, StateBounds, largest_value
from qrnn.model.kinds.recurrent.quantized_direction import CellShifts, QuantDirection
from qrnn.model.kinds.recurrent.step_parts import diagonal_parts, gate_scratch, input_parts
from qrnn.model.layer_facts import Scratch, Step, StepLoop
from qrnn.model.parts import FloatArray, GateFunction


def indrnn_step(contract: Any) -> Step:
    """Return the step of docs/arithmetic.md, section 4, IndRNN."""
    dot, requantize, to_operand, evaluate = contract.dot, contract.requantize, contract.to_operand, contract.evaluate
    preactivation, peephole, rnn_hidden_state = contract.preactivation, contract.peephole, contract.rnn_hidden_state

    def step(
        n: int, t: int, k: int, x: Any, out: Any, h: Any, c: Any,
        ih: Any, ih_bias: Any, ih_multiplier: Any, ih_left_shift: Any, x_shift: int, x_limit: int,
        pre_shift: Any, params: Any, tables: Any,
        diagonal: Any, diagonal_shift: Any, hidden_shift: int,
        pre: Any, x_read: Any,
    ) -> int:  # fmt: skip
        for j in range(x.shape[2]):
            x_read[n, j] = to_operand(x[n, t, j], x_shift, x_limit)
        for r in range(h.shape[1]):
            x_part = requantize(dot(ih, r, x_read, n) + ih_bias[r], ih_multiplier[r], ih_left_shift[r])
            h_part = peephole(h[n, r], diagonal[r], diagonal_shift[r])
            pre[n, r] = preactivation(x_part, h_part, pre_shift[r])
            h[n, r] = rnn_hidden_state(evaluate(pre[n, r], params, tables, 0), hidden_shift)
            out[n, k, r] = h[n, r]
        return 1

    return step


class IndRnn(Cell):
    """h' = f(W·x + u ⊙ h + b)."""

    name = "indrnn"
    rows = (Gate("h", "candidate"),)
    recurrence = "diagonal"
    state_gate = "h"

    def equation(self, cell: CellRun, wx: FloatArray, h: FloatArray, c: FloatArray) -> dict[str, FloatArray]:
        """Compute h' = f(W·x + u ⊙ h + b) in float64, with a weight u of each unit for its own past."""
        pre = wx + cell.recurrent(h) + cell.d.bias_hh
        return {"pre_h": pre, "h": cell.activate("h", pre)}

    def shifts(self, layer: QuantSettings, d: QuantDirection, fracs: Mapping[str, int], hidden_frac: int) -> CellShifts:
        """Return the shift that takes the value of f from its own fraction bits to those of h."""
        return CellShifts(hidden=fracs["h"] - hidden_frac)

    def state_bounds(self, functions: Mapping[str, GateFunction]) -> StateBounds:
        """Return that h is bounded where |f| ≤ 1, and that it has at most the fraction bits of f's value."""
        return StateBounds(largest_value(functions["h"]) <= 1, functions["h"].out_frac)

    def step_loop(self, layer: QuantSettings, d: QuantDirection) -> StepLoop:
        """Return the step that `indrnn_step` makes, with the matrix of x, the diagonal of h and the shift as its parameters."""
        parameters = *input_parts(layer, d), *diagonal_parts(d), layer.shifts(d).hidden
        return StepLoop(indrnn_step, parameters, (gate_scratch(layer), Scratch((layer.input_size,), np.int16)))


CELL = IndRnn()
