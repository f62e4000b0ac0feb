"""The C of one direction of a recurrent layer has its constants, and the function that takes its state one step further."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qrnn.arithmetic.fixedpoint import shift_right_round
from qrnn.export.c_text import CONSTANT, CONSTANTS, array, fields
from qrnn.export.code import Code, operand_format, operand_words
from qrnn.export.loops.values import Array
from qrnn.export.matrices import CMatrix, c_matrix, plain_rows, unit_rows
from qrnn.export.translated import translate_step
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.recurrent.quantized import QuantDirection, QuantRecurrentDefinition


class Runtime(NamedTuple):
    """The header of targets/runtime that computes a form of a cell, its function, and the feature that includes the form.

    ``resets`` says whether the function takes room for z, for r·h and for the operands of r·h.
    """

    header: str
    function: str
    feature: str = ""
    resets: bool = False


RUNTIME = {
    "lstm": Runtime("qrnn_lstm.h", "qrnn_lstm_step"),
    "rnn": Runtime("qrnn_rnn.h", "qrnn_rnn_step"),
    "gru_reset_after": Runtime("qrnn_gru.h", "qrnn_gru_step", "QRNN_USE_GRU_RESET_AFTER"),
    "gru_reset_before": Runtime("qrnn_gru.h", "qrnn_gru_step_before", "QRNN_USE_GRU_RESET_BEFORE", resets=True),
}
"""The forms of cells (`qrnn.model.kinds.recurrent.cell.Cell.form`) that the runtime computes; any other is translated."""

FORGET = {"gate": "QRNN_FORGET_GATE", "one": "QRNN_FORGET_ONE", "coupled": "QRNN_FORGET_COUPLED"}
UNIT_FRAC = 15


def is_unit(layer: QuantRecurrentDefinition) -> bool:
    """Return whether QRNN_UNIT_GATES is true: gates that scale a state lie in [0, 1] with 15 fraction bits, and a GRU's n is an int16."""
    scaling = {"f", "r", "z"} | ({"i"} if layer.forget == "coupled" else set())
    for d in layer.directions:
        for role, function in zip(layer.roles, d.gates, strict=True):
            low, high = function.bounds
            if role in scaling and (function.out_frac != UNIT_FRAC or low < 0):
                return False
            if role == "n" and max(-low, high) > 32767:
                return False  # a mean of n and h must be an int16
    return True


def is_bounded(layer: QuantRecurrentDefinition) -> bool:
    """Return whether QRNN_BOUNDED_STATES is true: the gate functions of an LSTM or RNN alone keep its states within ±32767."""
    for d in layer.directions if layer.declaration.reset_gate is None else ():
        largest = [max(-low, high) for low, high in (f.bounds for f in d.gates)]
        value = largest[-2] * largest[-1] if layer.has_cell_state else largest[-1]
        if shift_right_round(value, layer.shifts(d).hidden) > 32767:
            return False  # rounding is monotone, and takes a negative value no further from 0
    return True


def translated_direction(
    code: Code, prefix: str, layer: QuantRecurrent, number: int, name: str, states: tuple[str, str], head: str
) -> str:
    """Add the step function of a direction of a cell without a header, by translating its own definition, and return its name.

    ``states`` are h and c in C; ``head`` has the parameters that hold them. The row that the definition writes is h, and is left out.
    """
    loop = layer.direction_loop(number)
    P, cells = layer.output_size, layer.hidden_size if layer.c_n is not None else 0
    arrays = [Array(states[0], "int16_t", (P,)), Array(states[1], "int32_t", (cells,))]
    translate_step(code, prefix, layer, loop, f"{name}_loop", head, arrays, (layer.input_size, P))
    given = ", ".join(parameter.split()[-1].lstrip("*") for parameter in head.split(", "))
    lines = [
        f"/* One step: the input's {layer.input_size} features and the state before it give the state after it. */",
        f"static void {name}_step({head}, const int16_t *x)",
        "{",
        f"    int16_t y[{P}];",
        "",
        f"    (void){name}_loop({given}, x, y);",
        "}",
    ]
    code.functions.append("\n".join(lines))
    return f"{name}_step"


def recurrent_direction(
    code: Code, layer: QuantRecurrentDefinition, number: int, name: str, h: str, c: str, states: str
) -> str:
    """Add the constants and the step function of a direction, and return the function's name.

    The function takes (``states``, x) and updates ``h`` and ``c`` among ``states``.
    """
    d = layer.directions[number]
    H, P, G = layer.hidden_size, layer.output_size, len(layer.gates)
    rows = unit_rows(H, G, code.kernels)
    ih = c_matrix(f"{name}_ih", d.ih, None, rows, code.kernels, code.lists)
    hh = c_matrix(f"{name}_hh", d.matrix_hh, d.pre_shift, rows, code.kernels, code.lists)
    code.matrix(ih)
    code.matrix(hh)
    code.headers |= {"qrnn_contract_lanes.h", "qrnn_matrix.h"}
    gate_array = code.gates(f"{name}_gates", d.gates)
    _cell(code, layer, d, name, gate_array, ih, hh)
    x_words, h_words = operand_words(ih.columns, ih.wide), operand_words(hh.columns, hh.wide)
    lines = [
        f"/* One step: the input's {layer.input_size} features and the state before it give the state after it. */",
        f"static void {name}_step({states}, const int16_t *x)",
        "{",
        f"    const qrnn_operand_format x_format = {operand_format(layer.x_operand)};",
        f"    const qrnn_operand_format h_format = {operand_format(layer.h_operand)};",
        f"    uint32_t x_operand[{x_words}];",
        f"    uint32_t h_operand[{h_words}];",
    ]
    hidden = f"{h}"
    if d.projection is not None:
        lines.append(f"    int16_t hidden[{H}];")
        hidden = "hidden"
    runtime = RUNTIME[layer.declaration.form(layer)]
    code.headers.add(runtime.header)
    code.features |= {runtime.feature} if runtime.feature else set()
    arguments = [f"&{name}", "x_operand", "h_operand", *([c] if layer.has_cell_state else []), hidden]
    if runtime.resets:
        lines += [f"    uint32_t r_operand[{h_words}];", f"    int32_t z[{H}];", f"    int16_t reset[{H}];"]
        arguments += ["z", "reset", "r_operand"]
    call = [f"    {runtime.function}({', '.join(arguments)});"]
    lines += [
        "",
        f"    qrnn_to_operands(x, {layer.input_size}U, x_format, x_operand);",
        f"    qrnn_to_operands({h}, {P}U, h_format, h_operand);",
        *call,
    ]
    if d.projection is not None:
        lines += _projection(code, layer, d, name, h)
    lines.append("}")
    code.functions.append("\n".join(lines))
    return f"{name}_step"


def _cell(
    code: Code, layer: QuantRecurrentDefinition, d: QuantDirection, name: str, gate_array: str, ih: CMatrix, hh: CMatrix
) -> None:
    """Add the ``qrnn_cell`` of a direction."""
    shifts, peephole, peephole_shift = layer.shifts(d), "NULL", "NULL"
    if d.peephole is not None:
        rows = unit_rows(layer.hidden_size, len(layer.gates), code.kernels)
        code.features.add("QRNN_USE_PEEPHOLE")
        peephole, peephole_shift = f"{name}_peephole", f"{name}_peephole_shift"
        for kind, array_name, values in (
            ("int16_t", peephole, d.peephole.weight),
            ("uint8_t", peephole_shift, d.peephole.shift),
        ):
            picked = np.where(rows < 0, 0, values[np.maximum(rows, 0)])
            code.define(array(kind, array_name, picked, place=CONSTANTS))
    members = [
        ("ih", ih.initializer.replace("\n", "\n    ")),
        ("hh", hh.initializer.replace("\n", "\n    ")),
        ("gate", gate_array),
        ("peephole", peephole),
        ("peephole_shift", peephole_shift),
        ("units", f"{layer.hidden_size}U"),
        ("h_limit", f"{layer.h_operand.limit}U"),
        ("h_shift", f"{layer.h_operand.shift}U"),
        ("forget", FORGET[layer.forget]),
        ("input_frac", f"{shifts.input_frac}U"),
        ("forget_frac", f"{shifts.forget_frac}U"),
        ("product_shift", f"{shifts.product}U"),
        ("argument_shift", f"{shifts.argument}U"),
        ("reset_frac", f"{shifts.reset_frac}U"),
        ("update_frac", f"{shifts.update_frac}U"),
        ("candidate_shift", f"{shifts.candidate}U"),
        ("hidden_shift", f"{shifts.hidden}U"),
    ]
    code.define(f"{CONSTANT} qrnn_cell {name} = {{\n{fields(members)}\n}};")


def _projection(code: Code, layer: QuantRecurrentDefinition, d: QuantDirection, name: str, h: str) -> list[str]:
    """Return the statements that compute the state from ``hidden``."""
    p = d.projection
    assert p is not None
    P = layer.output_size
    rows = plain_rows(P, code.kernels)
    matrix = c_matrix(f"{name}_projection", p.matrix, p.pre_shift, rows, code.kernels, code.lists)
    code.matrix(matrix)
    code.define(f"{CONSTANT} qrnn_matrix {name}_projection = {matrix.initializer};")
    code.headers |= {"qrnn_dense.h", "qrnn_projection.h"}
    words, form = operand_words(matrix.columns, matrix.wide), operand_format(p.operand)
    lines = [
        "    {",
        f"        const qrnn_operand_format format = {form};",
        f"        uint32_t operand[{words}];",
        "",
        f"        qrnn_to_operands(hidden, {layer.hidden_size}U, format, operand);",
        f"        qrnn_dense(&{name}_projection, operand, {P}U, {h});",
    ]
    gate = "NULL"
    if p.table is not None:
        code.headers.add("qrnn_softmax.h")
        table = code.shared_array("uint16_t", "table_exp", p.table)
        lines.append(f"        qrnn_softmax({h}, {P}U, {p.in_frac}U, {table}, {h});")
    elif p.function is not None:
        gate = code.gates(f"{name}_projected", [p.function])
    lines += [f"        qrnn_to_state({gate}, {P}U, {p.out_frac - layer.h_frac}U, {h});", "    }"]
    return lines
