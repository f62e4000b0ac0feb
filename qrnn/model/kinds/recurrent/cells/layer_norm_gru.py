"""GRU with layer normalization inside.

Source: Ba, Kiros, Hinton 2016, "Layer Normalization", https://arxiv.org/abs/1607.06450, supplement, which has the reset gate behind the
recurrent matrix; the other forms put the same normalizations into the GRU of Cho et al. 2014.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qrnn.model.kinds.recurrent.cell import CellRun, QuantSettings, RecurrentSettings
from qrnn.model.kinds.recurrent.cells.gru import Gru
from qrnn.model.kinds.recurrent.quantized_direction import QuantDirection
from qrnn.model.kinds.recurrent.step_parts import gate_scratch, input_parts, norm_parts, recurrent_parts
from qrnn.model.layer_facts import Scratch, Step, StepLoop
from qrnn.model.parts import FloatArray


def layer_norm_gru_step(contract: Any) -> Step:
    """Return the step of docs/arithmetic.md, section 4, layer normalization, whose rows are the blocks r, z, n.

    What is normalized lies side by side in ``value``: the sums of x and h, or those of x, then those of h. The first ``early`` rows need no
    reset gate, and the first ``early_groups`` groups are theirs.
    """
    dot, requantize, to_operand = contract.dot, contract.requantize, contract.to_operand
    preactivation, evaluate, reset_operand = contract.preactivation, contract.evaluate, contract.reset_operand
    candidate_after_reset, gru_hidden_state = contract.candidate_after_reset, contract.gru_hidden_state
    norm_variance, norm_exponent = contract.norm_variance, contract.norm_exponent
    norm_scale, normalize = contract.norm_scale, contract.normalize

    def step(
        n: int, t: int, k: int, x: Any, out: Any, h: Any, c: Any,
        ih: Any, ih_bias: Any, ih_multiplier: Any, ih_left_shift: Any, x_shift: int, x_limit: int,
        pre_shift: Any, params: Any, tables: Any,
        hh: Any, hh_bias: Any, hh_multiplier: Any, hh_left_shift: Any, h_shift: int, h_limit: int,
        after: int, reset_frac: int, update_frac: int, candidate: int,
        begin: Any, end: Any, norm_shift: Any, epsilon: Any, gain: Any, gain_shift: Any, bias: Any,
        apart: int, sum_shift: int, early: int, early_groups: int,
        pre: Any, value: Any, reset: Any, update: Any, x_read: Any, h_read: Any, reset_read: Any,
    ) -> int:  # fmt: skip
        units = h.shape[1]
        rows = 3 * units
        for j in range(x.shape[2]):
            x_read[n, j] = to_operand(x[n, t, j], x_shift, x_limit)
        for u in range(units):
            h_read[n, u] = to_operand(h[n, u], h_shift, h_limit)
        for phase in range(2):
            for r in range(phase * early, early + phase * (rows - early)):
                x_part = requantize(dot(ih, r, x_read, n) + ih_bias[r], ih_multiplier[r], ih_left_shift[r])
                if after == 1 or r < 2 * units:
                    h_part = requantize(dot(hh, r, h_read, n) + hh_bias[r], hh_multiplier[r], hh_left_shift[r])
                else:
                    h_part = requantize(dot(hh, r, reset_read, n) + hh_bias[r], hh_multiplier[r], hh_left_shift[r])
                if apart == 1:
                    value[n, r] = preactivation(x_part, 0, pre_shift[r])
                    value[n, rows + r] = preactivation(0, h_part, pre_shift[r])
                elif after == 1 and r >= 2 * units:
                    value[n, r] = candidate_after_reset(
                        x_part, h_part, reset[n, r - 2 * units], reset_frac, pre_shift[r]
                    )
                else:
                    value[n, r] = preactivation(x_part, h_part, pre_shift[r])
            for g in range(phase * early_groups, early_groups + phase * (begin.shape[0] - early_groups)):
                count = end[g] - begin[g]
                total = 0
                squares = 0
                for j in range(begin[g], end[g]):
                    total = total + value[n, j]
                    squares = squares + value[n, j] * value[n, j]
                variance = norm_variance(count, total, squares, norm_shift[g], epsilon[g])
                e = norm_exponent(variance)
                scale = norm_scale(variance, e)
                for j in range(begin[g], end[g]):
                    value[n, j] = normalize(value[n, j], count, total, scale, e, gain[j], gain_shift[j], bias[j])
            if phase == 0:
                for r in range(2 * units):
                    pre[n, r] = value[n, r]
                    if apart == 1:
                        pre[n, r] = preactivation(value[n, r], value[n, rows + r], sum_shift)
                for u in range(units):
                    reset[n, u] = evaluate(pre[n, u], params, tables, 0)
                    update[n, u] = evaluate(pre[n, units + u], params, tables, 1)
                    reset_read[n, u] = reset_operand(reset[n, u], h[n, u], reset_frac, h_shift, h_limit)
        for u in range(units):
            row = 2 * units + u
            pre[n, row] = value[n, row]
            if apart == 1 and after == 1:
                pre[n, row] = candidate_after_reset(
                    value[n, row], value[n, rows + row], reset[n, u], reset_frac, sum_shift
                )
            elif apart == 1:
                pre[n, row] = preactivation(value[n, row], value[n, rows + row], sum_shift)
            new = evaluate(pre[n, row], params, tables, 2)
            h[n, u] = gru_hidden_state(update[n, u], new, h[n, u], update_frac, candidate)
            out[n, k, u] = h[n, u]
        return 1

    return step


class LayerNormGru(Gru):
    """A GRU whose sums are normalized."""

    name = "layer_norm_gru"
    normalizes = True

    def form(self, layer: RecurrentSettings) -> str:
        """Return the cell's own name, whether r multiplies R·h + b or h."""
        return self.name

    def refuses_groups(self, layer: RecurrentSettings, sums: Sequence[int], recurrent: Sequence[int]) -> str:
        """Refuse a group that holds rows of n and of a gate before it, because n is computed after r.

        All groups are possible where x and h are normalized apart and r multiplies the normalized R·h.
        """
        if recurrent and layer.linear_before_reset:
            return ""
        for groups in (sums, recurrent or sums):
            if 2 * layer.hidden_size not in np.cumsum(groups):
                return (
                    f"normalizations of {list(groups)} rows, of which one is of n and of a gate before it; n needs r first, but where "
                    "linear_before_reset is set and x and h are normalized apart"
                )
        return ""

    def equation(self, cell: CellRun, wx: FloatArray, h: FloatArray, c: FloatArray) -> dict[str, FloatArray]:
        """Compute the step of a GRU in float64 with W·x + R·h normalized, or W·x and R·h normalized apart and then added.

        With ``linear_before_reset``, r multiplies R·h + b, after its normalization where it has one; otherwise R reads r ⊙ h.
        """
        layer, d, norms, now, H = cell.layer, cell.d, cell.norms, dict[str, FloatArray](), h.shape[1]
        after, read = layer.linear_before_reset, cell.operand(h)
        R, b = dict(zip(layer.gates, np.split(d.matrix_hh, 3), strict=True)), cell.split(d.bias_hh)
        of_h = {gate: read @ R[gate].T + b[gate] for gate in layer.gates if after or gate != "n"}
        if norms.recurrent is None:
            of_x = cell.split(wx)
            sums = np.concatenate([of_x[gate] + of_h[gate] for gate in ("r", "z")], axis=1)
            now["pre_r"], now["pre_z"] = np.split(cell.normalize(now, "sum", norms.sums, sums), 2, axis=1)
        else:
            of_x = cell.split(cell.normalize(now, "sum", norms.sums, wx))
            side_by_side = np.concatenate(list(of_h.values()), axis=1)
            normal = cell.normalize(now, "recurrent_sum", norms.recurrent, side_by_side)
            of_h = dict(zip(of_h, np.split(normal, len(of_h), axis=1), strict=True))
            now["pre_r"], now["pre_z"] = (of_x[gate] + of_h[gate] for gate in ("r", "z"))
        r, z = cell.activate("r", now["pre_r"]), cell.activate("z", now["pre_z"])
        if not layer.update_keeps:
            z = 1.0 - z
        if after:
            of_n = r * of_h["n"]
        else:
            now["reset_h"] = r * h
            of_n = cell.operand(now["reset_h"]) @ R["n"].T + b["n"]
            if norms.recurrent is not None:
                of_n = cell.normalize(now, "recurrent_sum", norms.recurrent, of_n, 2 * H)
        pre_n = of_x["n"] + of_n
        now["pre_n"] = pre_n if norms.recurrent is not None else cell.normalize(now, "sum", norms.sums, pre_n, 2 * H)
        n = cell.activate("n", now["pre_n"])
        return now | {"r": r, "z": z, "n": n, "h": z * h + (1.0 - z) * n}

    def step_loop(self, layer: QuantSettings, d: QuantDirection) -> StepLoop:
        """Return the step that `layer_norm_gru_step` makes, with the matrices, shifts and normalizations as its parameters.

        The groups that need no reset gate come first.
        """
        assert d.norms is not None, "a direction of this cell has norms"
        s, H, norms, after = layer.shifts(d), layer.hidden_size, d.norms, layer.linear_before_reset
        early = 3 * H if after and norms.recurrent else 2 * H
        ends = np.cumsum([norm.parameters.features for norm in norms.of_rows]).tolist()
        placed = list(zip(norms.of_rows, [0, *ends], strict=False))
        order = [p for p in placed if p[1] % (3 * H) < early], [p for p in placed if p[1] % (3 * H) >= early]
        groups, begins = zip(*order[0], *order[1], strict=True)
        parameters = (
            *input_parts(layer, d),
            *recurrent_parts(layer, d),
            *(int(after), s.reset_frac, s.update_frac, s.candidate),
            *norm_parts(groups, begins),
            *(int(norms.recurrent != ()), norms.sum_shift, early, len(order[0])),
        )
        scratch = Scratch((ends[-1],), np.int16), Scratch((H,), np.int32), Scratch((H,), np.int32)
        operands = (Scratch((size,), np.int16) for size in (layer.input_size, H, H))
        return StepLoop(layer_norm_gru_step, parameters, (gate_scratch(layer), *scratch, *operands))


CELL = LayerNormGru()
