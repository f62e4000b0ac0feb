"""The C of a model's layers adds up to constants, functions, and what they need of the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from qrnn.arithmetic import gates as g
from qrnn.export.c_text import CONSTANT, CONSTANTS, array, comment
from qrnn.export.layout import COLUMNS, MOST_HALVES, VECTORS
from qrnn.export.lists import Lists
from qrnn.export.matrices import NARROW_LIMIT, Biases, CMatrix
from qrnn.export.names import Names
from qrnn.export.signed_tables import has_signed_table, signed_table, signed_values
from qrnn.model.parts import GateFunction, Int32Array, Operand
from qrnn.targets import Kernels, ListCosts

KINDS = {g.ODD: "ODD", g.RAMP: "RAMP", g.TABLE: "TABLE", g.THRESHOLD: "THRESHOLD"}

PROMISES = frozenset({"QRNN_UNIT_GATES", "QRNN_BOUNDED_STATES"})
"""Features that are true of a model unless a layer says otherwise."""

LONG_ROW, LONG_STEP = 128, 32
"""QRNN_LONG_ROWS: every row has at least so many columns, and a whole number of so many."""

SHORT_ROW = 256
"""The columns of the longest row with which QRNN_SHORT_ROWS may be defined."""


@dataclass
class Code:
    """The C that the layers of a model add up to: definitions, functions, and the ``features`` and ``headers`` of the runtime that it needs."""

    kernels: Kernels
    lists: ListCosts = field(default_factory=ListCosts)
    names: Names = field(default_factory=Names)
    features: set[str] = field(default_factory=set)
    headers: set[str] = field(default_factory=set)
    definitions: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    weight_bytes: int = 0
    fewer_bytes: int = 0
    """How many bytes of weights lists of tiles save."""
    longest_row: int = 0
    even_rows: bool = True
    """Whether the columns of each row are a multiple of two of the kernels' `COLUMNS`, so that QRNN_EVEN_ROWS is defined."""
    shortest_row: int = LONG_ROW
    """The columns of the shortest row, or `LONG_ROW` where that has more, or 0 where any row has no whole number of `LONG_STEP`."""
    longest_halves: int = 0
    """The columns of the longest row whose weights are stored as halfwords."""
    broken: set[str] = field(default_factory=set)
    """Those of `PROMISES` that are not true of some layer."""
    helpers: dict[str, str] = field(default_factory=dict)
    """The names of functions that several layers call, by what each of them does."""
    _shared: dict[tuple[str, bytes], str] = field(default_factory=dict)

    @property
    def all_features(self) -> set[str]:
        """Return the names that are defined before the runtime is included."""
        found = self.features | (PROMISES - self.broken)
        found |= {"QRNN_SHORT_ROWS"} if 0 < self.longest_row <= SHORT_ROW else set()
        if self.longest_halves:
            found |= {"QRNN_USE_HALVES"} | ({"QRNN_FEW_HALVES"} if self.longest_halves <= MOST_HALVES else set())
        if self.kernels in VECTORS:
            found.add(f"QRNN_BLOCK_ROWS {VECTORS[self.kernels].rows}U")
        long = self.kernels == "mla" and self.longest_row > 0 and self.shortest_row == LONG_ROW
        return found | ({"QRNN_EVEN_ROWS"} if self.even_rows else set()) | ({"QRNN_LONG_ROWS"} if long else set())

    def define(self, text: str) -> None:
        """Add constants."""
        self.definitions.append(text)

    def shared_array(self, kind: str, name: str, values: Int32Array) -> str:
        """Return the name of a constant array; equal arrays are defined once."""
        key = (kind, values.tobytes())
        if key not in self._shared:
            self._shared[key] = self.names.new(name)
            self.define(array(kind, self._shared[key], values, place=CONSTANTS))
        return self._shared[key]

    def matrix(self, found: CMatrix, gathered: bool = False) -> None:
        """Add a matrix's arrays and what it needs of the runtime; ``gathered``: a window's operands are brought together for it."""
        self.define(found.definitions)
        self.weight_bytes += found.weight_bytes
        self.fewer_bytes += 0 if found.lists is Lists.NONE else found.bytes_without_lists - found.weight_bytes
        self.features.add("QRNN_USE_COLUMNS" if gathered else "QRNN_USE_ROWS")
        kind = "WIDE" if found.wide else "NARROW"
        if found.halves:
            self.longest_halves = max(self.longest_halves, found.columns)
        else:
            self.longest_row = max(self.longest_row, found.columns)
            self.shortest_row = min(self.shortest_row, found.columns if found.columns % LONG_STEP == 0 else 0)
            self.even_rows &= found.columns % (2 * COLUMNS[self.kernels]) == 0
            self.features |= {f"QRNN_USE_FOUR_{kind}", "QRNN_USE_FOUR"} if found.four else {f"QRNN_USE_{kind}"}
        self.features |= {"QRNN_USE_BIASES"} if found.biases is Biases.LONG else {"QRNN_USE_NO_BIASES"}
        self.features |= {"QRNN_USE_SHORT_BIASES"} if found.biases is Biases.SHORT else set()
        self.features |= {"QRNN_USE_SHORT_MULTIPLIERS"} if found.short_multipliers else set()
        self.features |= {"QRNN_USE_RAW"} if found.raw else set()
        self.features |= {"QRNN_USE_LEFT_SHIFT"} if found.left_shift else set()
        if found.lists is not Lists.NONE:
            self.features |= {"QRNN_USE_LISTS", f"QRNN_USE_LISTS_OF_{found.lists.name}"}
            self.headers |= {"qrnn_lists.h", f"qrnn_lists_{self.kernels}.h"}
        self.features |= {"QRNN_USE_PRE_SHIFT"} if found.pre_shift else set()

    def gate(self, function: GateFunction) -> str:
        """Return the initializer of a ``qrnn_gate``."""
        kind = int(function.params[g.KIND])
        table = wide = "NULL"
        values = [int(v) for v in function.params[g.OFFSET :]]
        name = KINDS[kind]
        if kind == g.ODD and self.kernels == "dsp" and has_signed_table(function):
            name, values = "SIGNED", signed_values(function)
            array = self.shared_array("int16_t", f"table_{function.name}", signed_table(function))
            table = f"&{array}[{len(function.table) - 1}]"
        elif kind == g.ODD:
            self.features |= {"QRNN_USE_CUT"} if function.params[g.CUT] else set()
            table = self.shared_array("int16_t", f"table_{function.name}", function.table)
        elif kind == g.TABLE:
            wide = self.shared_array("int32_t", f"table_{function.name}", function.table)
        self.features.add(f"QRNN_GATE_{name}")
        listed = ", ".join("INT32_MIN" if v == -(1 << 31) else str(v) for v in values)
        return f"{{{table}, {wide}, {{{listed}}}, QRNN_{name}}}"

    def gates(self, name: str, functions: Sequence[GateFunction]) -> str:
        """Return the name of an array of gate functions."""
        rows = [f"    {self.gate(f)}, {comment(f.name)}" for f in functions]
        self.define("\n".join([f"{CONSTANT} qrnn_gate {name}[{len(rows)}] = {{", *rows, "};"]))
        return name


def operand_words(matrix: CMatrix, kernels: Kernels) -> str:
    """Return the C expression of the size of the buffer for a matrix's operands."""
    kind = "FOUR_" if matrix.four and kernels in ("plain", "mla") else "WIDE_" if matrix.wide else ""
    return f"QRNN_{kind}OPERAND_WORDS({matrix.columns}U)"


def operand_format(operand: Operand, matrix: CMatrix | None = None) -> str:
    """Return the initializer of the ``qrnn_operand_format`` for a matrix; for a convolution of channels alone without one."""
    four = matrix is not None and matrix.four
    return f"{{{operand.limit}U, {operand.shift}U, {int(operand.limit > NARROW_LIMIT)}U, {int(four)}U}}"


def c_function(code: Code, name: str, what: str, parameters: str, body: Sequence[str]) -> str:
    """Add the function (``parameters``, y) of one time step of a layer, and return its name."""
    lines = [f"    {line}" if line else "" for line in body]
    head = f"static void {name}({parameters}, int16_t *y)"
    code.functions.append("\n".join([comment(what), head, "{", *lines, "}"]))
    return name
