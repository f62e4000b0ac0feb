"""LSTM with layer normalization inside.

Sources: Ba, Kiros, Hinton 2016, "Layer Normalization", https://arxiv.org/abs/1607.06450, equations 20 to 22 of its supplement; and, with each
gate's sum normalized, TensorFlow 1's LayerNormBasicLSTMCell, but that c itself stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from qrnn.model.activation import activate
from qrnn.model.kinds.recurrent.cell import CellRun, FloatSettings, Gate, QuantSettings
from qrnn.model.kinds.recurrent.cells.lstm import Lstm
from qrnn.model.kinds.recurrent.direction import Direction
from qrnn.model.kinds.recurrent.quantized_direction import CellShifts, QuantDirection
from qrnn.model.kinds.recurrent.step_parts import gate_scratch, input_parts, norm_parts, recurrent_parts
from qrnn.model.layer_facts import Scratch, Step, StepLoop
from qrnn.model.parts import FloatArray


def layer_norm_lstm_step(contract: Any) -> Step:
    """Return the step of docs/arithmetic.md, section 4, layer normalization, whose rows are the blocks i, f, g, o.

    What is normalized lies side by side in ``value``: the sums of x and h, or those of x, then those of h; and last c.
    """
    dot, requantize, to_operand = contract.dot, contract.requantize, contract.to_operand
    preactivation, evaluate, lstm_cell_state = contract.preactivation, contract.evaluate, contract.lstm_cell_state
    lstm_output_argument, lstm_hidden_state = contract.lstm_output_argument, contract.lstm_hidden_state
    norm_variance, norm_exponent = contract.norm_variance, contract.norm_exponent
    norm_scale, normalize = contract.norm_scale, contract.normalize

    def step(
        n: int, t: int, k: int, x: Any, out: Any, h: Any, c: Any,
        ih: Any, ih_bias: Any, ih_multiplier: Any, ih_left_shift: Any, x_shift: int, x_limit: int,
        pre_shift: Any, params: Any, tables: Any,
        hh: Any, hh_bias: Any, hh_multiplier: Any, hh_left_shift: Any, h_shift: int, h_limit: int,
        forget_frac: int, product: int, argument: int, hidden_shift: int,
        begin: Any, end: Any, norm_shift: Any, epsilon: Any, gain: Any, gain_shift: Any, bias: Any,
        apart: int, sum_shift: int, sum_groups: int, c_place: int,
        pre: Any, value: Any, x_read: Any, h_read: Any,
    ) -> int:  # fmt: skip
        units = h.shape[1]
        rows = 4 * units
        for j in range(x.shape[2]):
            x_read[n, j] = to_operand(x[n, t, j], x_shift, x_limit)
        for u in range(units):
            h_read[n, u] = to_operand(h[n, u], h_shift, h_limit)
        for r in range(rows):
            x_part = requantize(dot(ih, r, x_read, n) + ih_bias[r], ih_multiplier[r], ih_left_shift[r])
            h_part = requantize(dot(hh, r, h_read, n) + hh_bias[r], hh_multiplier[r], hh_left_shift[r])
            if apart == 1:
                value[n, r] = preactivation(x_part, 0, pre_shift[r])
                value[n, rows + r] = preactivation(0, h_part, pre_shift[r])
            else:
                value[n, r] = preactivation(x_part, h_part, pre_shift[r])
        for phase in range(2):  # the rows' sums; then c, which the gates make of them
            for g in range(phase * sum_groups, sum_groups + phase * (begin.shape[0] - sum_groups)):
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
                for r in range(rows):
                    pre[n, r] = value[n, r]
                    if apart == 1:
                        pre[n, r] = preactivation(value[n, r], value[n, rows + r], sum_shift)
                for u in range(units):
                    i = evaluate(pre[n, u], params, tables, 0)
                    f = evaluate(pre[n, units + u], params, tables, 1)
                    new = evaluate(pre[n, 2 * units + u], params, tables, 2)
                    c[n, u] = lstm_cell_state(i, f, new, c[n, u], forget_frac, product)
                    value[n, c_place + u] = lstm_output_argument(c[n, u], argument)
        for u in range(units):
            o = evaluate(pre[n, 3 * units + u], params, tables, 3)
            a = evaluate(value[n, c_place + u], params, tables, 4)
            h[n, u] = lstm_hidden_state(o, a, hidden_shift)
            out[n, k, u] = h[n, u]
        return 1

    return step


class LayerNormLstm(Lstm):
    """An LSTM whose sums are normalized, and whose c may be on its way to h; c itself is not."""

    name = "layer_norm_lstm"
    rows = tuple(Gate(gate.name, gate.role) for gate in Lstm.rows)
    takes_projection = False
    forgets = ("gate",)
    normalizes = True

    def equation(self, cell: CellRun, wx: FloatArray, h: FloatArray, c: FloatArray) -> dict[str, FloatArray]:
        """Compute c' = f ⊙ c + i ⊙ g and h' = o ⊙ output(norm(c')) in float64; c' is read as it is where it has no normalization.

        The arguments of the gates are W·x + R·h normalized, or W·x and R·h normalized apart and then added.
        """
        norms, wh = cell.norms, cell.recurrent(h) + cell.d.bias_hh
        now: dict[str, FloatArray] = {}
        if norms.recurrent is None:
            sums = cell.normalize(now, "sum", norms.sums, wx + wh)
        else:
            sums = cell.normalize(now, "sum", norms.sums, wx)
            sums = sums + cell.normalize(now, "recurrent_sum", norms.recurrent, wh)
        pre = cell.split(sums)
        now |= {f"pre_{gate}": argument for gate, argument in pre.items()}
        now |= {gate: cell.activate(gate, argument) for gate, argument in pre.items()}
        now["c"] = cell.run.state(f"{cell.key}.c", now["f"] * c + now["i"] * now["g"])
        now["pre_output"] = now["c"]
        if norms.cell is not None:
            now["pre_output"] = cell.normalize(now, "cell", norms.cell, now["c"])
        now["h"] = now["o"] * cell.activate("output", now["pre_output"])
        return now

    def shifts(self, layer: QuantSettings, d: QuantDirection, fracs: Mapping[str, int], hidden_frac: int) -> CellShifts:
        """Return the shifts of an LSTM; where c is normalized, ``argument`` takes it to the normalization's fraction bits instead."""
        plain = super().shifts(layer, d, fracs, hidden_frac)
        if d.norms is None or d.norms.cell is None:
            return plain
        return replace(plain, argument=layer.c_frac - d.norms.cell.in_frac)

    def step_loop(self, layer: QuantSettings, d: QuantDirection) -> StepLoop:
        """Return the step that `layer_norm_lstm_step` makes, with the matrices, shifts and normalizations as its parameters.

        The group of c, where there is one, comes after those of the rows.
        """
        assert d.norms is not None, "a direction of this cell has norms"
        s, norms = layer.shifts(d), d.norms
        begins = [0, *np.cumsum([norm.parameters.features for norm in norms.of_rows]).tolist()]
        groups = norms.of_rows if norms.cell is None else (*norms.of_rows, norms.cell)
        parameters = (
            *input_parts(layer, d),
            *recurrent_parts(layer, d),
            *(s.forget_frac, s.product, s.argument, s.hidden),
            *norm_parts(groups, begins[: len(groups)]),
            *(int(norms.recurrent != ()), norms.sum_shift, len(norms.of_rows), begins[-1]),
        )
        value = Scratch((begins[-1] + layer.hidden_size,), np.int16)
        operands = (Scratch((size,), np.int16) for size in (layer.input_size, layer.output_size))
        return StepLoop(layer_norm_lstm_step, parameters, (gate_scratch(layer), value, *operands))

    def sensitivities(
        self, layer: FloatSettings, d: Direction, seen: Callable[[str], FloatArray], h: FloatArray, c: FloatArray | None
    ) -> dict[str, FloatArray]:
        """Return the derivatives of c' = f ⊙ c + i ⊙ g by i, f and g, and that of h' = o ⊙ output(norm(c')) by o."""
        assert c is not None
        return {"i": seen("g"), "f": c, "g": seen("i"), "o": activate(d.activations["output"], seen("pre_output"))}


CELL = LayerNormLstm()
