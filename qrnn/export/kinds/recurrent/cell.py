"""The C of one direction of a recurrent layer has its constants, and the function that takes its state one step further."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np

from qrnn.arithmetic.fixedpoint import shift_right_round
from qrnn.export.c_text import CONSTANT, CONSTANTS, array, copy, fields
from qrnn.export.code import Code, operand_format, operand_words
from qrnn.export.lists import Lists
from qrnn.export.loops.values import Array
from qrnn.export.matrices import CMatrix, c_matrix, plain_rows, unit_rows
from qrnn.export.translated import translate_step
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.recurrent.quantized import QuantDirection, QuantRecurrentDefinition
from qrnn.targets import Kernels


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


class Gives(Enum):
    """What a step function gives besides the states: nothing, the new h, or the new h from an x that is an input of the model."""

    NOTHING = 0
    H = 1
    H_OF_INPUT = 2


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
    code: Code,
    layer: QuantRecurrentDefinition,
    number: int,
    name: str,
    h: str,
    c: str,
    states: str,
    gives: Gives = Gives.NOTHING,
) -> str:
    """Add the constants and the step function of a direction, and return the function's name.

    The function takes (``states``, x) and updates ``h`` and ``c`` among ``states``. Unless ``gives`` is NOTHING it takes (``states``, x, y),
    where y is NULL or gets the new h. Where the kernels allow it, the old h then becomes its own operands, y is where the new one is put
    together, and an input of the model is read where the caller has it.
    """
    d = layer.directions[number]
    H, P, G = layer.hidden_size, layer.output_size, len(layer.gates)
    rows = unit_rows(H, G, code.kernels)
    ih = c_matrix(f"{name}_ih", d.ih, None, rows, code.kernels, code.lists)
    raw = code.kernels == "mla" and gives is Gives.H_OF_INPUT and not ih.wide and reads_input(code.kernels, layer, ih)
    hh = c_matrix(f"{name}_hh", d.matrix_hh, d.pre_shift, rows, code.kernels, code.lists)
    if raw and keeps_in_place(code.kernels, layer, ih, hh):
        ih = c_matrix(f"{name}_ih", d.ih, None, rows, code.kernels, code.lists, raw=True)
    code.matrix(ih)
    code.matrix(hh)
    code.headers |= {"qrnn_contract_lanes.h", "qrnn_matrix.h"}
    gate_array = code.gates(f"{name}_gates", d.gates)
    _cell(code, layer, d, name, gate_array, ih, hh)
    in_place = gives is not Gives.NOTHING and keeps_in_place(code.kernels, layer, ih, hh)
    direct = in_place and gives is Gives.H_OF_INPUT and reads_input(code.kernels, layer, ih)
    x_words, h_words = operand_words(ih, code.kernels), operand_words(hh, code.kernels)
    of_x = "const uint32_t *x_operand" if direct else "const int16_t *x"
    head = f"QRNN_APART void {name}_step({states}, {of_x}, int16_t *hidden)"
    lines = [
        f"/* One step: the input's {layer.input_size} features and the state before it give the state after it. */",
        head if in_place else f"static void {name}_step({states}, const int16_t *x)",
        "{",
        *([] if direct else [f"    const qrnn_operand_format x_format = {operand_format(layer.x_operand, ih)};"]),
        f"    const qrnn_operand_format h_format = {operand_format(layer.h_operand, hh)};",
        *_operands(code.kernels, ih, hh, h, ("" if direct else x_words, h_words), in_place),
    ]
    hidden = "hidden" if in_place else h
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
        f"    qrnn_to_operands({h}, {P}U, h_format, h_operand);",
        *([] if direct else [f"    qrnn_to_operands(x, {layer.input_size}U, x_format, x_operand);"]),
        *call,
    ]
    if d.projection is not None:
        lines += _projection(code, layer, d, name, h)
    lines.append("}")
    code.functions.append("\n".join(lines))
    if gives is not Gives.NOTHING:
        of_format = "" if ih.raw else operand_format(layer.x_operand, ih)
        copied = (x_words, layer.input_size, of_format) if direct else None
        _giving(code, name, h, P, states, in_place, copied)
    return f"{name}_{'step' if gives is Gives.NOTHING else 'next'}"


def keeps_in_place(kernels: Kernels, layer: QuantRecurrentDefinition, ih: CMatrix, hh: CMatrix) -> bool:
    """Return whether the old h of a layer may become its own operands, in the place that it has."""
    lstm, alone = layer.declaration.form(layer) == "lstm", layer.directions[0].projection is None
    plain = all(m.lists is Lists.NONE and not (m.four or m.left_shift) for m in (ih, hh))
    fits = kernels == "dsp" or (kernels in ("mla", "mve") and not hh.wide)
    return lstm and alone and plain and fits and hh.columns == layer.hidden_size


def reads_input(kernels: Kernels, layer: QuantRecurrentDefinition, ih: CMatrix) -> bool:
    """Return whether the integers of the model's input, which are within its limit, are the operands as the kernels read them."""
    narrow = kernels == "mla" and not ih.wide
    return (kernels == "dsp" or narrow) and layer.x_operand.shift == 0 and ih.columns == layer.input_size


def _operands(kernels: Kernels, ih: CMatrix, hh: CMatrix, h: str, words: tuple[str, str], in_place: bool) -> list[str]:
    """Return the declarations of the operands of x and of h."""
    own = [f"    uint32_t {name}_operand[{count}];" for name, count in zip("xh", words, strict=True) if count]
    if not in_place:
        return own
    shared = (
        kernels == "mve" and not ih.wide and ih.columns <= hh.columns
    )  # each of the two takes half of the room of h
    x = [f"    uint32_t *const x_operand = &h_operand[{hh.columns // 4}];"] if shared else own[:-1]
    return [
        "#if defined(QRNN_OPERANDS_IN_PLACE)",
        f"    uint32_t *const h_operand = (uint32_t *)(void *){h};",
        *x,
        "#else",
        *own,
        "#endif",
    ]


def _giving(
    code: Code, name: str, h: str, size: int, states: str, in_place: bool, copied: tuple[str, int, str] | None
) -> None:
    """Add the function that takes a step and gives the new h, in ``y`` where there is one.

    ``copied`` has the words, the number and the format, "" for int16 as they are, of the operands of x where its step takes operands, which x
    itself is where it lies in whole words and apart from y.
    """
    given = ", ".join(parameter.split()[-1].lstrip("*") for parameter in states.split(", "))
    after = ["if (y != NULL) {", f"    {copy('y', h, size, 'int16_t')}", "}"]
    of_x, x = ("const uint32_t *x_operand", "x_operand") if copied else ("const int16_t *x", "x")
    with_y = f"{states}, {of_x}, int16_t *y"
    if not in_place:
        body = [f"{name}_step({given}, x);", *after]
    else:
        alone = [
            f"int16_t hidden[{size}];",
            "",
            f"{name}_step({given}, {x}, hidden);",
            copy(h, "hidden", size, "int16_t"),
        ]
        what = "A step whose new state nobody asks for: it is put together on the stack."
        code.functions.append(_under_in_place(what, f"QRNN_APART void {name}_alone({states}, {of_x})", alone))
        body = [
            "#if defined(QRNN_OPERANDS_IN_PLACE)",
            "if (y == NULL) {",
            f"    {name}_alone({given}, {x});",
            "} else {",
            f"    {name}_step({given}, {x}, y);",
            f"    {copy(h, 'y', size, 'int16_t')}",
            "}",
            "#else",
            f"{name}_step({given}, {x}, {h});",
            *after,
            "#endif",
        ]
    if copied is not None:
        code.functions.append(
            _function(
                "A step that gives the new state in y, unless this is NULL.",
                f"static void {name}_given({with_y})",
                body,
            )
        )
        words, count, form = copied
        other = [
            *([f"const qrnn_operand_format x_format = {form};"] if form else []),
            f"uint32_t x_operand[{words}];",
            "",
            f"qrnn_to_operands(x, {count}U, x_format, x_operand);"
            if form
            else copy("x_operand", "x", count, "int16_t"),
            f"{name}_given({given}, x_operand, y);",
        ]
        whole = f"{states}, const int16_t *x, int16_t *y"
        code.functions.append(
            _function("The same for x that is copied.", f"QRNN_APART void {name}_copied({whole})", other)
        )
        body = [
            "#if defined(QRNN_OPERANDS_IN_PLACE)",
            "const uintptr_t x_at = (uintptr_t)x;",
            "const uintptr_t y_at = (uintptr_t)y;",
            "",
            f"if (((x_at % sizeof(uint32_t)) == 0U) && ((y_at >= (x_at + {2 * count}U)) || (x_at >= (y_at + {2 * size}U)))) {{",
            f"    {name}_given({given}, (const uint32_t *)(const void *)x, y);",
            "    return;",
            "}",
            "#endif",
            f"{name}_copied({given}, x, y);",
        ]
        what = "A step whose operands are x itself, where this lies in whole words and apart from y."
    else:
        what = "A step that gives the new state in y, unless this is NULL."
    code.functions.append(_function(what, f"static void {name}_next({states}, const int16_t *x, int16_t *y)", body))


def _function(what: str, head: str, body: Sequence[str]) -> str:
    lines = (line if not line or line.startswith("#") else f"    {line}" for line in body)
    return "\n".join([f"/* {what} */", head, "{", *lines, "}"])


def _under_in_place(what: str, head: str, body: Sequence[str]) -> str:
    return "\n".join(["#if defined(QRNN_OPERANDS_IN_PLACE)", _function(what, head, body), "#endif"])


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
    words, form = operand_words(matrix, code.kernels), operand_format(p.operand, matrix)
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
