"""Measures and refinement read the real values of a gate function here."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.arithmetic.gates import evaluate
from qrnn.model.parts import FloatArray, GateFunction, Int64Array, pack_gates


@functools.lru_cache(maxsize=64)
def _gate_values(params: bytes, table: bytes) -> FloatArray:
    """Return the real output of a gate function for every int16, from -32768 up."""
    function = GateFunction("probe", np.frombuffer(params, np.int64), np.frombuffer(table, np.int32))
    packed_params, packed_tables = pack_gates((function,))
    tables = packed_tables.astype(object)  # plain integers: no wrap, and quick to index
    return (
        np.array([evaluate(x, packed_params, tables, 0) for x in range(-32768, 32768)], np.float64)
        * 2.0**-function.out_frac
    )


def gate_integers(function: GateFunction, pre: npt.NDArray[Any]) -> Int64Array:
    """Return the integer outputs of a gate function for int16 pre-activations."""
    integers: Int64Array = np.ldexp(gate_values(function, pre), function.out_frac).astype(np.int64)
    return integers


def gate_values(function: GateFunction, pre: npt.NDArray[Any]) -> FloatArray:
    """Return the real outputs of a gate function for int16 pre-activations."""
    values: FloatArray = _gate_values(function.params.tobytes(), function.table.tobytes())[pre.astype(np.int64) + 32768]
    return values
