"""Quantized layers are made of these parts: gate functions, operands, matrices, initial states, tensor formats.

Each part checks its own arrays, so one that exists is well formed.
"""

from qrnn.model.parts.arrays import (
    ACCUMULATOR_LIMIT,
    LEFT_OUT,
    FloatArray,
    IndexArray,
    Int8Array,
    Int16Array,
    Int32Array,
    Int64Array,
    UInt8Array,
    check_array,
    require,
)
from qrnn.model.parts.formats import CELL_MAX, INT32_MAX, OFFSET_MAX, STATE_MAX, QuantInitialState, TensorFormat
from qrnn.model.parts.gate_functions import EXP_TABLE_SIZE, GateFunction, check_exp_table, pack_gates
from qrnn.model.parts.matrices import (
    SCALE_COLUMNS,
    SCALE_LIMIT,
    AnyMatrix,
    Matrix,
    Operand,
    QuantMatrix,
    QuantMatrix4,
    check_pre_shift,
    is_less_in_four_bits,
    pack_nibbles,
)

__all__ = [
    "ACCUMULATOR_LIMIT",
    "CELL_MAX",
    "EXP_TABLE_SIZE",
    "INT32_MAX",
    "LEFT_OUT",
    "OFFSET_MAX",
    "SCALE_COLUMNS",
    "SCALE_LIMIT",
    "STATE_MAX",
    "AnyMatrix",
    "FloatArray",
    "GateFunction",
    "IndexArray",
    "Int8Array",
    "Int16Array",
    "Int32Array",
    "Int64Array",
    "Matrix",
    "Operand",
    "QuantInitialState",
    "QuantMatrix",
    "QuantMatrix4",
    "TensorFormat",
    "UInt8Array",
    "check_array",
    "check_exp_table",
    "check_pre_shift",
    "is_less_in_four_bits",
    "pack_gates",
    "pack_nibbles",
    "require",
]
