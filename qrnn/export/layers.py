"""The C of single layers: constants, and one function a layer (a direction, of recurrent ones) that does one time step of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from qrnn.arithmetic import gates as g
from qrnn.arithmetic.fixedpoint import shift_right_round
from qrnn.export.c_text import array, comment, fields
from qrnn.export.layout import COLUMNS
from qrnn.export.matrices import NARROW_LIMIT, CMatrix, c_matrix, plain_rows, unit_rows
from qrnn.export.names import Names
from qrnn.model.kinds.add import QuantAdd
from qrnn.model.kinds.concat import QuantConcat
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.kinds.embedding import QuantEmbedding
from qrnn.model.kinds.pointwise import QuantPointwise
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.recurrent.quantized import QuantDirection
from qrnn.model.kinds.softmax import QuantSoftmax
from qrnn.model.parts import GateFunction, Int32Array, Operand
from qrnn.model.quant_model import QuantModel
from qrnn.targets import Kernels

KINDS = {g.ODD: "ODD", g.RAMP: "RAMP", g.TABLE: "TABLE", g.THRESHOLD: "THRESHOLD"}
FORGET = {"gate": "QRNN_FORGET_GATE", "one": "QRNN_FORGET_ONE", "coupled": "QRNN_FORGET_COUPLED"}
UNIT_FRAC = 15
SHORT_ROW = 256
"""Columns of the longest row with which QRNN_SHORT_ROWS may be defined."""


@dataclass
class Code:
    """What the layers of a model add up to: ``features`` and ``headers`` of the runtime that it needs, definitions, functions."""

    kernels: Kernels
    names: Names = field(default_factory=Names)
    features: set[str] = field(default_factory=set)
    headers: set[str] = field(default_factory=set)
    definitions: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    weight_bytes: int = 0
    longest_row: int = 0
    even_rows: bool = True
    """Whether each row has an even number of the kernels' steps of columns."""
    _shared: dict[tuple[str, bytes], str] = field(default_factory=dict)

    def define(self, text: str) -> None:
        """Add constants."""
        self.definitions.append(text)

    def shared_array(self, kind: str, name: str, values: Int32Array) -> str:
        """The name of a constant array; equal ones are one."""
        key = (kind, values.tobytes())
        if key not in self._shared:
            self._shared[key] = self.names.new(name)
            self.define(array(kind, self._shared[key], values))
        return self._shared[key]

    def matrix(self, found: CMatrix) -> None:
        """Add a matrix's arrays and what it needs."""
        self.define(found.definitions)
        self.weight_bytes += found.weight_bytes
        self.longest_row = max(self.longest_row, found.columns)
        self.even_rows &= found.columns % (2 * COLUMNS[self.kernels]) == 0
        kind = "WIDE" if found.wide else "NARROW"
        self.features |= {f"QRNN_USE_FOUR_{kind}", "QRNN_USE_FOUR"} if found.four else {f"QRNN_USE_{kind}"}
        self.features |= {"QRNN_USE_LEFT_SHIFT"} if found.left_shift else set()
        self.features |= {"QRNN_USE_PRE_SHIFT"} if found.pre_shift else set()

    def gate(self, function: GateFunction) -> str:
        """The initializer of a ``qrnn_gate``."""
        kind = int(function.params[g.KIND])
        self.features.add(f"QRNN_GATE_{KINDS[kind]}")
        table = wide = "NULL"
        if kind == g.ODD:
            self.features |= {"QRNN_USE_CUT"} if function.params[g.CUT] else set()
            table = self.shared_array("int16_t", f"table_{function.name}", function.table)
        elif kind == g.TABLE:
            wide = self.shared_array("int32_t", f"table_{function.name}", function.table)
        values = ", ".join("INT32_MIN" if v == -(1 << 31) else str(v) for v in function.params[g.OFFSET :].tolist())
        return f"{{{table}, {wide}, {{{values}}}, QRNN_{KINDS[kind]}}}"

    def gates(self, name: str, functions: Sequence[GateFunction]) -> str:
        """The name of an array of gate functions."""
        rows = [f"    {self.gate(f)}, {comment(f.name)}" for f in functions]
        self.define("\n".join([f"static const qrnn_gate {name}[{len(rows)}] = {{", *rows, "};"]))
        return name


def operand_words(columns: int, wide: bool) -> str:
    """The C expression of an operand buffer's size."""
    return f"{'QRNN_WIDE_OPERAND_WORDS' if wide else 'QRNN_OPERAND_WORDS'}({columns}U)"


def operand_format(operand: Operand) -> str:
    """The initializer of a ``qrnn_operand_format``."""
    return f"{{{operand.limit}U, {operand.shift}U, {int(operand.limit > NARROW_LIMIT)}U}}"


def is_unit(model: QuantModel) -> bool:
    """Whether QRNN_UNIT_GATES may be defined: gates that scale a state lie in [0, 1] with 15 fraction bits, and a GRU's n is an int16."""
    for layer in model.recurrent_layers:
        scaling = {"f", "r", "z"} | ({"i"} if layer.forget == "coupled" else set())
        for d in layer.directions:
            for role, function in zip(layer.roles, d.gates, strict=True):
                low, high = function.bounds
                if role in scaling and (function.out_frac != UNIT_FRAC or low < 0):
                    return False
                if role == "n" and max(-low, high) > 32767:
                    return False  # a mean of n and h must be an int16
    return True


def is_bounded(model: QuantModel) -> bool:
    """Whether QRNN_BOUNDED_STATES may be defined: the gate functions of LSTMs and RNNs alone keep their states within ±32767."""
    for layer in model.recurrent_layers:
        for d in layer.directions if layer.declaration.reset_gate is None else ():
            largest = [max(-low, high) for low, high in (f.bounds for f in d.gates)]
            value = largest[-2] * largest[-1] if layer.has_cell_state else largest[-1]
            if shift_right_round(value, layer.shifts(d).hidden) > 32767:
                return False  # rounding is monotone, and takes a negative value no further from 0
    return True


def recurrent_direction(code: Code, layer: QuantRecurrent, number: int, name: str, h: str, c: str, states: str) -> str:
    """Constants and the step function of a direction; returns its name: (``states``, x) → None, which updates ``h`` and ``c`` among these."""
    d = layer.directions[number]
    H, P, G = layer.hidden_size, layer.output_size, len(layer.gates)
    rows = unit_rows(H, G)
    ih = c_matrix(f"{name}_ih", d.ih, None, rows, code.kernels)
    hh = c_matrix(f"{name}_hh", d.matrix_hh, d.pre_shift, rows, code.kernels)
    code.matrix(ih)
    code.matrix(hh)
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
    call: list[str]
    hidden = f"{h}"
    if d.projection is not None:
        lines.append(f"    int16_t hidden[{H}];")
        hidden = "hidden"
    if layer.has_cell_state:
        call = [f"    qrnn_lstm_step(&{name}, x_operand, h_operand, {c}, {hidden});"]
        code.headers.add("qrnn_lstm.h")
    elif layer.declaration.state_gate is not None:
        call = [f"    qrnn_rnn_step(&{name}, x_operand, h_operand, {hidden});"]
        code.headers.add("qrnn_rnn.h")
    elif layer.linear_before_reset:
        call = [f"    qrnn_gru_step(&{name}, x_operand, h_operand, {hidden});"]
        code.headers.add("qrnn_gru.h")
        code.features.add("QRNN_USE_GRU_RESET_AFTER")
    else:
        lines += [f"    uint32_t r_operand[{h_words}];", f"    int32_t z[{H}];", f"    int16_t reset[{H}];"]
        call = [f"    qrnn_gru_step_before(&{name}, x_operand, h_operand, {hidden}, z, reset, r_operand);"]
        code.headers.add("qrnn_gru.h")
        code.features.add("QRNN_USE_GRU_RESET_BEFORE")
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
    code: Code, layer: QuantRecurrent, d: QuantDirection, name: str, gate_array: str, ih: CMatrix, hh: CMatrix
) -> None:
    """The ``qrnn_cell`` of a direction."""
    shifts, peephole, peephole_shift = layer.shifts(d), "NULL", "NULL"
    if d.peephole is not None:
        rows = unit_rows(layer.hidden_size, len(layer.gates))
        code.features.add("QRNN_USE_PEEPHOLE")
        peephole, peephole_shift = f"{name}_peephole", f"{name}_peephole_shift"
        for kind, array_name, values in (
            ("int16_t", peephole, d.peephole.weight),
            ("uint8_t", peephole_shift, d.peephole.shift),
        ):
            picked = np.where(rows < 0, 0, values[np.maximum(rows, 0)])
            code.define(array(kind, array_name, picked))
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
    code.define(f"static const qrnn_cell {name} = {{\n{fields(members)}\n}};")


def _projection(code: Code, layer: QuantRecurrent, d: QuantDirection, name: str, h: str) -> list[str]:
    """Statements from ``hidden`` to the state."""
    p = d.projection
    assert p is not None
    P = layer.output_size
    matrix = c_matrix(f"{name}_projection", p.matrix, p.pre_shift, plain_rows(P), code.kernels)
    code.matrix(matrix)
    code.define(f"static const qrnn_matrix {name}_projection = {matrix.initializer};")
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


def dense(code: Code, layer: QuantDense, name: str) -> str:
    """The function (x, y) of a dense layer."""
    rows, columns = layer.matrix.weight.shape
    matrix = c_matrix(f"{name}_matrix", layer.matrix, layer.pre_shift, plain_rows(rows), code.kernels)
    code.matrix(matrix)
    code.define(f"static const qrnn_matrix {name}_matrix = {matrix.initializer};")
    code.headers.add("qrnn_dense.h")
    return _function(
        code,
        name,
        f"{columns} features to {rows}, with {layer.out_frac} fraction bits.",
        "const int16_t *x",
        [
            f"const qrnn_operand_format format = {operand_format(layer.operand)};",
            f"uint32_t operand[{operand_words(matrix.columns, matrix.wide)}];",
            "",
            f"qrnn_to_operands(x, {columns}U, format, operand);",
            f"qrnn_dense(&{name}_matrix, operand, {rows}U, y);",
        ],
    )


def pointwise(code: Code, layer: QuantPointwise, name: str, features: int) -> str:
    """The function (x, y) of a pointwise layer."""
    gate = code.gates(f"{name}_gate", [layer.function])
    code.headers.add("qrnn_pointwise.h")
    formats = f"{layer.in_frac}U, {layer.function.in_frac}U, {layer.function.out_frac - layer.out_frac}U"
    call = f"qrnn_pointwise({gate}, x, {features}U, {formats}, y);"
    return _function(code, name, layer.function.name + ".", "const int16_t *x", [call])


def softmax(code: Code, layer: QuantSoftmax, name: str, features: int) -> str:
    """The function (x, y) of a softmax."""
    table = code.shared_array("uint16_t", "table_exp", layer.table)
    code.headers.add("qrnn_softmax.h")
    call = f"qrnn_softmax(x, {features}U, {layer.in_frac}U, {table}, y);"
    return _function(code, name, "Probabilities with 14 fraction bits.", "const int16_t *x", [call])


def embedding(code: Code, layer: QuantEmbedding, name: str) -> str:
    """The function (token, y) of an embedding."""
    vocabulary, features = layer.table.shape
    table = code.names.new(f"{name}_table")
    code.define(array("int16_t", table, layer.table))
    body = [
        f"const uint32_t row = (token < {vocabulary}U) ? token : {vocabulary - 1}U; /* nothing beyond the table is read */",
        "",
        f"QRNN_COPY(y, &{table}[{features}U * row], {features}U * sizeof(*y));",
    ]
    return _function(code, name, f"Row `token` of {vocabulary}.", "uint32_t token", body)


def add(code: Code, layer: QuantAdd, name: str, features: int) -> str:
    """The function (a, b, y) of a sum."""
    code.headers.add("qrnn_vectors.h")
    code.features.add("QRNN_USE_ADD")
    shifts = ", ".join(f"{s}U" for s in layer.shifts)
    call = f"qrnn_add(a, b, {features}U, {shifts}, y);"
    return _function(code, name, "A sum.", "const int16_t *a, const int16_t *b", [call])


def concat(code: Code, layer: QuantConcat, name: str) -> str:
    """The function (part_0, part_1, …, y) of a concatenation."""
    code.headers.add("qrnn_vectors.h")
    code.features.add("QRNN_USE_SELECT")
    body, at = [], 0
    for number, part in enumerate(layer.parts):
        index = code.shared_array("uint16_t", f"{name}_index", part.indices.astype(np.int32))
        count = len(part.indices)
        body.append(f"qrnn_select(part_{number}, {index}, {count}U, {part.in_frac}U, {layer.out_frac}U, &y[{at}]);")
        at += count
    parameters = ", ".join(f"const int16_t *part_{number}" for number in range(len(layer.parts)))
    return _function(code, name, "Features of other vectors.", parameters, body)


def _function(code: Code, name: str, what: str, parameters: str, body: Sequence[str]) -> str:
    lines = [f"    {line}" if line else "" for line in body]
    head = f"static void {name}({parameters}, int16_t *y)"
    code.functions.append("\n".join([comment(what), head, "{", *lines, "}"]))
    return name
