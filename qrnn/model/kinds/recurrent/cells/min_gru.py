"""minGRU: a GRU whose gate and candidate read x alone.

Source: Feng et al. 2024, "Were RNNs All We Needed?", https://arxiv.org/abs/2410.01201, section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qrnn.model.kinds.recurrent.cell import (
    Cell,
    CellRun,
    FloatSettings,
    Gate,
    QuantSettings,
    StateBounds,
    mixed_bounds,
)
from qrnn.model.kinds.recurrent.direction import Direction
from qrnn.model.kinds.recurrent.quantized_direction import CellShifts, QuantDirection
from qrnn.model.kinds.recurrent.step_parts import gate_scratch, input_parts
from qrnn.model.layer_facts import Scratch, Step, StepLoop
from qrnn.model.parts import FloatArray, GateFunction


def min_gru_step(contract: Any) -> Step:
    """Return the step of docs/arithmetic.md, section 4, minGRU, whose rows are the blocks z, n."""
    dot, requantize, to_operand = contract.dot, contract.requantize, contract.to_operand
    preactivation, evaluate, gru_hidden_state = contract.preactivation, contract.evaluate, contract.gru_hidden_state

    def step(
        n: int, t: int, k: int, x: Any, out: Any, h: Any, c: Any,
        ih: Any, ih_bias: Any, ih_multiplier: Any, ih_left_shift: Any, x_shift: int, x_limit: int,
        pre_shift: Any, params: Any, tables: Any,
        update_frac: int, candidate: int,
        pre: Any, x_read: Any,
    ) -> int:  # fmt: skip
        units = h.shape[1]
        for j in range(x.shape[2]):
            x_read[n, j] = to_operand(x[n, t, j], x_shift, x_limit)
        for r in range(2 * units):
            x_part = requantize(dot(ih, r, x_read, n) + ih_bias[r], ih_multiplier[r], ih_left_shift[r])
            pre[n, r] = preactivation(x_part, 0, pre_shift[r])
        for u in range(units):
            update = evaluate(pre[n, u], params, tables, 0)
            new = evaluate(pre[n, units + u], params, tables, 1)
            h[n, u] = gru_hidden_state(update, new, h[n, u], update_frac, candidate)
            out[n, k, u] = h[n, u]
        return 1

    return step


class MinGru(Cell):
    """h' = z·h + (1 - z)·n, of z and n that know nothing of h."""

    name = "min_gru"
    rows = (Gate("z", "gate"), Gate("n", "candidate"))  # update, candidate
    recurrence = "none"

    def equation(self, cell: CellRun, wx: FloatArray, h: FloatArray, c: FloatArray) -> dict[str, FloatArray]:
        """Compute h' = z·h + (1 - z)·n in float64, where z and n are functions of W·x + b alone.

        Without ``update_keeps``, 1 - z takes the place of z.
        """
        pre = cell.split(wx + cell.d.bias_hh)
        z, n = cell.activate("z", pre["z"]), cell.activate("n", pre["n"])
        if not cell.layer.update_keeps:
            z = 1.0 - z
        return {"pre_z": pre["z"], "pre_n": pre["n"], "z": z, "n": n, "h": z * h + (1.0 - z) * n}

    def shifts(self, layer: QuantSettings, d: QuantDirection, fracs: Mapping[str, int], hidden_frac: int) -> CellShifts:
        """Return the fraction bits of z, and the shift that takes n from its own fraction bits to those of h."""
        return CellShifts(update_frac=fracs["z"], candidate=fracs["n"] - layer.h_frac)

    def state_bounds(self, functions: Mapping[str, GateFunction]) -> StateBounds:
        """Return what z and n say of h, which is mixed of h before and n."""
        return mixed_bounds(functions["z"], functions["n"])

    def step_loop(self, layer: QuantSettings, d: QuantDirection) -> StepLoop:
        """Return the step that `min_gru_step` makes, with the matrix of x and the shifts as its parameters."""
        s = layer.shifts(d)
        parameters = *input_parts(layer, d), s.update_frac, s.candidate
        return StepLoop(min_gru_step, parameters, (gate_scratch(layer), Scratch((layer.input_size,), np.int16)))

    def sensitivities(
        self, layer: FloatSettings, d: Direction, seen: Callable[[str], FloatArray], h: FloatArray, c: FloatArray | None
    ) -> dict[str, FloatArray]:
        """Return the derivatives of h' = z·h + (1 - z)·n: h - n by z, and 1 - z by n."""
        return {"z": h - seen("n"), "n": 1.0 - seen("z")}


CELL = MinGru()
