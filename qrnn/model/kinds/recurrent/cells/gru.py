"""GRU: with the reset gate behind the recurrent matrix (``linear_before_reset``) or before it.

Sources: Cho et al. 2014, https://arxiv.org/abs/1406.1078; Chung et al. 2014, https://arxiv.org/abs/1412.3555; ONNX operator specification,
GRU-14, https://onnx.ai/onnx/operators/.
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
    RecurrentSettings,
    StateBounds,
    mixed_bounds,
)
from qrnn.model.kinds.recurrent.direction import Direction
from qrnn.model.kinds.recurrent.quantized_direction import CellShifts, QuantDirection
from qrnn.model.kinds.recurrent.step_parts import gate_scratch, input_parts, recurrent_parts
from qrnn.model.layer_facts import Scratch, Step, StepLoop
from qrnn.model.parts import FloatArray, GateFunction


def gru_step(contract: Any) -> Step:
    """Return the step of docs/arithmetic.md, section 4, GRU, whose rows are the blocks r, z, n."""
    dot, requantize, to_operand = contract.dot, contract.requantize, contract.to_operand
    preactivation, evaluate, reset_operand = contract.preactivation, contract.evaluate, contract.reset_operand
    candidate_after_reset, gru_hidden_state = contract.candidate_after_reset, contract.gru_hidden_state

    def step(
        n: int, t: int, k: int, x: Any, out: Any, h: Any, c: Any,
        ih: Any, ih_bias: Any, ih_multiplier: Any, ih_left_shift: Any, x_shift: int, x_limit: int,
        pre_shift: Any, params: Any, tables: Any,
        hh: Any, hh_bias: Any, hh_multiplier: Any, hh_left_shift: Any, h_shift: int, h_limit: int,
        after: int, reset_frac: int, update_frac: int, candidate: int,
        pre: Any, reset: Any, update: Any, x_read: Any, h_read: Any, reset_read: Any,
    ) -> int:  # fmt: skip
        units = h.shape[1]
        for j in range(x.shape[2]):
            x_read[n, j] = to_operand(x[n, t, j], x_shift, x_limit)
        for u in range(units):
            h_read[n, u] = to_operand(h[n, u], h_shift, h_limit)
        for u in range(units):
            for b in range(2):
                r = b * units + u
                x_part = requantize(dot(ih, r, x_read, n) + ih_bias[r], ih_multiplier[r], ih_left_shift[r])
                h_part = requantize(dot(hh, r, h_read, n) + hh_bias[r], hh_multiplier[r], hh_left_shift[r])
                pre[n, r] = preactivation(x_part, h_part, pre_shift[r])
            reset[n, u] = evaluate(pre[n, u], params, tables, 0)
            update[n, u] = evaluate(pre[n, units + u], params, tables, 1)
            reset_read[n, u] = reset_operand(reset[n, u], h[n, u], reset_frac, h_shift, h_limit)
        for u in range(units):
            r = 2 * units + u
            x_part = requantize(dot(ih, r, x_read, n) + ih_bias[r], ih_multiplier[r], ih_left_shift[r])
            if after == 1:
                h_part = requantize(dot(hh, r, h_read, n) + hh_bias[r], hh_multiplier[r], hh_left_shift[r])
                pre[n, r] = candidate_after_reset(x_part, h_part, reset[n, u], reset_frac, pre_shift[r])
            else:
                h_part = requantize(dot(hh, r, reset_read, n) + hh_bias[r], hh_multiplier[r], hh_left_shift[r])
                pre[n, r] = preactivation(x_part, h_part, pre_shift[r])
            new = evaluate(pre[n, r], params, tables, 2)
            h[n, u] = gru_hidden_state(update[n, u], new, h[n, u], update_frac, candidate)
            out[n, k, u] = h[n, u]
        return 1

    return step


class Gru(Cell):
    """Gated recurrent unit."""

    name = "gru"
    rows = (Gate("r", "gate"), Gate("z", "gate"), Gate("n", "candidate"))  # reset, update, candidate
    reset_gate = "r"

    def form(self, layer: RecurrentSettings) -> str:
        """Return ``gru_reset_after`` where r multiplies R·h + b, and ``gru_reset_before`` where it multiplies h."""
        return "gru_reset_after" if layer.linear_before_reset else "gru_reset_before"

    def apart(self, layer: RecurrentSettings) -> tuple[str, ...]:
        """Return n where r multiplies its R·h + b before W·x is added, and nothing otherwise."""
        return ("n",) if layer.linear_before_reset else ()

    def equation(self, cell: CellRun, wx: FloatArray, h: FloatArray, c: FloatArray) -> dict[str, FloatArray]:
        """Compute h' = z·h + (1 - z)·n of the gates r, z = σ(W·x + R·h + b) and a candidate n in float64.

        n = tanh(W·x + R·(r ⊙ h) + b), or tanh(W·x + b + r ⊙ (R·h + b_hh)) with ``linear_before_reset``; the functions may be others than σ and
        tanh. Without ``update_keeps``, 1 - z takes the place of z.
        """
        layer, d = cell.layer, cell.d
        a, b, read = cell.split(wx), cell.split(d.bias_hh), cell.operand(h)
        R = dict(zip(layer.gates, np.split(d.matrix_hh, 3), strict=True))
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

    def shifts(self, layer: QuantSettings, d: QuantDirection, fracs: Mapping[str, int], hidden_frac: int) -> CellShifts:
        """Return the fraction bits of r and z, and the shift that takes n from its own fraction bits to those of h."""
        return CellShifts(reset_frac=fracs["r"], update_frac=fracs["z"], candidate=fracs["n"] - layer.h_frac)

    def state_bounds(self, functions: Mapping[str, GateFunction]) -> StateBounds:
        """Return what z and n say of h, which is mixed of h before and n."""
        return mixed_bounds(functions["z"], functions["n"])

    def step_loop(self, layer: QuantSettings, d: QuantDirection) -> StepLoop:
        """Return the step that `gru_step` makes, with both matrices and the shifts as its parameters."""
        s, H = layer.shifts(d), layer.hidden_size
        own = int(layer.linear_before_reset), s.reset_frac, s.update_frac, s.candidate
        values = Scratch((H,), np.int32), Scratch((H,), np.int32)
        operands = (Scratch((size,), np.int16) for size in (layer.input_size, H, H))
        parameters = *input_parts(layer, d), *recurrent_parts(layer, d), *own
        return StepLoop(gru_step, parameters, (gate_scratch(layer), *values, *operands))

    def sensitivities(
        self, layer: FloatSettings, d: Direction, seen: Callable[[str], FloatArray], h: FloatArray, c: FloatArray | None
    ) -> dict[str, FloatArray]:
        """Return the derivatives of h' = z·h + (1 - z)·n: h - n by z, and 1 - z by n; for r, which acts through n, 1 stands."""
        return {"r": np.ones_like(h), "z": h - seen("n"), "n": 1.0 - seen("z")}


CELL = Gru()
