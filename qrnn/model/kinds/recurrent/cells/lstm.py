"""LSTM: with a forget gate, without (1997) or with one that is coupled to the input gate; with peepholes; with a projection.

Sources: Hochreiter, Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000; Gers, Schmidhuber 2000 (peepholes); Sak, Senior, Beaufays 2014
(projection); ONNX operator specification, LSTM-14, https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from qrnn.arithmetic.arrays import of_arrays
from qrnn.arithmetic.cells import lstm_hidden_state, lstm_output_argument
from qrnn.model.activation import activate
from qrnn.model.gate_values import gate_integers
from qrnn.model.kinds.recurrent.cell import (
    Cell,
    CellRun,
    FloatSettings,
    Gate,
    QuantSettings,
    StateBounds,
    largest_value,
)
from qrnn.model.kinds.recurrent.direction import Direction, Forget
from qrnn.model.kinds.recurrent.quantized_direction import CellShifts, QuantDirection
from qrnn.model.kinds.recurrent.step_parts import (
    gate_scratch,
    head_parts,
    head_scratch,
    input_parts,
    mantissa_parts,
    recurrent_parts,
)
from qrnn.model.layer_facts import Scratch, Step, StepLoop
from qrnn.model.parts import FloatArray, GateFunction, Int64Array


def lstm_step(contract: Any) -> Step:
    """Return the step of docs/arithmetic.md, section 4, LSTM, whose rows are the blocks i, f (with ``own_forget``), g, o."""
    dot, requantize, to_operand = contract.dot, contract.requantize, contract.to_operand
    preactivation, peephole, evaluate = contract.preactivation, contract.peephole, contract.evaluate
    coupled_forget, lstm_cell_state = contract.coupled_forget, contract.lstm_cell_state
    lstm_output_argument, lstm_hidden_state = contract.lstm_output_argument, contract.lstm_hidden_state
    saturate16_shifted, rnn_hidden_state = contract.saturate16_shifted, contract.rnn_hidden_state
    exp_weight, softmax_divide = contract.exp_weight, contract.softmax_divide

    def step(
        n: int, t: int, k: int, x: Any, out: Any, h: Any, c: Any,
        ih: Any, ih_bias: Any, ih_multiplier: Any, ih_left_shift: Any, x_shift: int, x_limit: int,
        pre_shift: Any, params: Any, tables: Any,
        hh: Any, hh_bias: Any, hh_multiplier: Any, hh_left_shift: Any, h_shift: int, h_limit: int,
        own_forget: int, coupled: int,
        input_frac: int, forget_frac: int, product: int, argument: int, hidden_shift: int,
        has_peephole: int, peephole_weight: Any, peephole_shift: Any,
        head: int, v_weight: Any, v_bias: Any, v_multiplier: Any, v_left_shift: Any, v_shift: int, v_limit: int,
        v_pre_shift: Any, v_params: Any, v_tables: Any, v_frac: int, exp_table: Any, v_out_shift: int,
        pre: Any, hidden: Any, hidden_read: Any, value: Any, x_read: Any, h_read: Any,
    ) -> int:  # fmt: skip
        units = hidden.shape[1]
        output = 2 + own_forget  # the block of o
        for j in range(x.shape[2]):
            x_read[n, j] = to_operand(x[n, t, j], x_shift, x_limit)
        for j in range(h.shape[1]):
            h_read[n, j] = to_operand(h[n, j], h_shift, h_limit)
        for u in range(units):
            for b in range(output):
                r = b * units + u
                x_part = requantize(dot(ih, r, x_read, n) + ih_bias[r], ih_multiplier[r], ih_left_shift[r])
                h_part = requantize(dot(hh, r, h_read, n) + hh_bias[r], hh_multiplier[r], hh_left_shift[r])
                if has_peephole == 1 and b < output - 1:
                    x_part = x_part + peephole(c[n, u], peephole_weight[r], peephole_shift[r])
                pre[n, r] = preactivation(x_part, h_part, pre_shift[r])
            i = evaluate(pre[n, u], params, tables, 0)
            f = 1 << forget_frac
            if coupled == 1:
                f = coupled_forget(i, input_frac)
            if own_forget == 1:
                f = evaluate(pre[n, units + u], params, tables, 1)
            g = evaluate(pre[n, (output - 1) * units + u], params, tables, output - 1)
            c[n, u] = lstm_cell_state(i, f, g, c[n, u], forget_frac, product)
            r = output * units + u
            x_part = requantize(dot(ih, r, x_read, n) + ih_bias[r], ih_multiplier[r], ih_left_shift[r])
            h_part = requantize(dot(hh, r, h_read, n) + hh_bias[r], hh_multiplier[r], hh_left_shift[r])
            if has_peephole == 1:
                x_part = x_part + peephole(c[n, u], peephole_weight[r], peephole_shift[r])
            pre[n, r] = preactivation(x_part, h_part, pre_shift[r])
            o = evaluate(pre[n, r], params, tables, output)
            a = evaluate(lstm_output_argument(c[n, u], argument), params, tables, output + 1)
            hidden[n, u] = lstm_hidden_state(o, a, hidden_shift)
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


class Lstm(Cell):
    """Long short-term memory."""

    name = "lstm"
    rows: ClassVar[tuple[Gate, ...]] = (
        Gate("i", "gate", peephole=True),  # input
        Gate("f", "gate", peephole=True),  # forget
        Gate("g", "candidate"),
        Gate("o", "gate", peephole=True),  # output
    )
    output_function = Gate("output", "output")
    has_cell_state = True
    cell_product = ("i", "g")
    takes_projection = True
    forgets: ClassVar[tuple[Forget, ...]] = ("gate", "one", "coupled")

    def gates(self, forget: Forget) -> tuple[str, ...]:
        """Return i, f, g and o, without f where the forget gate is 1 or coupled to i, so that it has no rows."""
        return tuple(gate.name for gate in self.rows if forget == "gate" or gate.name != "f")

    def equation(self, cell: CellRun, wx: FloatArray, h: FloatArray, c: FloatArray) -> dict[str, FloatArray]:
        """Compute c' = f ⊙ c + i ⊙ g and h' = o ⊙ output(c') in float64.

        The gates i, f and o and the candidate g are functions of W·x + R·h + b; peepholes add p ⊙ c to the arguments of i and f, and p ⊙ c'
        to that of o. Without a forget gate of its own, f is 1, or 1 - i where it is coupled.
        """
        layer, d = cell.layer, cell.d
        pre = cell.split(wx + cell.recurrent(h) + d.bias_hh)
        peephole = cell.split(np.zeros(wx.shape[1]) if d.peephole is None else d.peephole)
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
        now["c"] = cell.run.state(f"{cell.key}.c", forget * c + now["i"] * now["g"])
        now["pre_o"] = pre["o"] + peephole["o"] * now["c"]
        now["o"] = cell.activate("o", now["pre_o"])
        now["h"] = now["o"] * cell.activate("output", now["c"])
        return now

    def shifts(self, layer: QuantSettings, d: QuantDirection, fracs: Mapping[str, int], hidden_frac: int) -> CellShifts:
        """Return the fraction bits of i and f, and the shifts from i·g to c, from c to its function's argument and from o·output(c) to h.

        An f of 1 has 15 fraction bits, and an f of 1 - i those of i.
        """
        return CellShifts(
            input_frac=fracs["i"],
            forget_frac={"gate": fracs.get("f", 0), "one": 15, "coupled": fracs["i"]}[layer.forget],
            product=fracs["i"] + fracs["g"] - layer.c_frac,
            argument=layer.c_frac - d.gates[-1].in_frac,
            hidden=fracs["o"] + fracs["output"] - hidden_frac,
        )

    def state_bounds(self, functions: Mapping[str, GateFunction]) -> StateBounds:
        """Return that h = o·output(c) is bounded where |o| ≤ 1 and |output| ≤ 1, and has at most the fraction bits of both together."""
        o, output = functions["o"], functions["output"]
        return StateBounds(largest_value(o) <= 1 and largest_value(output) <= 1, o.out_frac + output.out_frac)

    def step_loop(self, layer: QuantSettings, d: QuantDirection) -> StepLoop:
        """Return the step that `lstm_step` makes, with the matrices, the form of f, shifts, peephole and projection as its parameters."""
        s, forms = layer.shifts(d), (int(layer.forget == "gate"), int(layer.forget == "coupled"))
        parameters = (
            *input_parts(layer, d),
            *recurrent_parts(layer, d),
            *forms,
            *(s.input_frac, s.forget_frac, s.product, s.argument, s.hidden),
            *mantissa_parts(d.peephole),
            *head_parts(d.projection, layer.h_frac),
        )
        operands = (Scratch((size,), np.int16) for size in (layer.input_size, layer.output_size))
        return StepLoop(lstm_step, parameters, (gate_scratch(layer), *head_scratch(layer), *operands))

    def hidden(self, layer: QuantSettings, d: QuantDirection, pre: Any, c: Any) -> Int64Array:
        """Return o · output(c), of the gates' arguments ``pre`` [M, G·H] and the new c [M, H]."""
        s, first = layer.shifts(d), pre.shape[1] - c.shape[1]
        o = gate_integers(d.gates[-2], pre[:, first:])
        argument = of_arrays(lstm_output_argument)(c.astype(np.int64), s.argument)
        hidden: Int64Array = of_arrays(lstm_hidden_state)(o, gate_integers(d.gates[-1], argument), s.hidden)
        return hidden

    def cell_rounding(self, c_frac: int) -> str:
        """Return that both products of c' = f·c + i·g are rounded to the fraction bits of c."""
        return f"f·c and i·g to {c_frac} bits"

    def sensitivities(
        self, layer: FloatSettings, d: Direction, seen: Callable[[str], FloatArray], h: FloatArray, c: FloatArray | None
    ) -> dict[str, FloatArray]:
        """Return the derivatives of c' = f ⊙ c + i ⊙ g by i, f and g, and that of h' = o ⊙ output(c') by o.

        Where f is coupled to i, f = 1 - i, that by i is g - c.
        """
        assert c is not None
        i = seen("g") - c if layer.forget == "coupled" else seen("g")
        return {"i": i, "f": c, "g": seen("i"), "o": activate(d.activations["output"], seen("c"))}


CELL = Lstm()
