"""Odd gate functions may have tables for arguments of both signs, which targets/runtime/qrnn_gates_dsp.h reads by fewer instructions."""

from __future__ import annotations

import numpy as np

from qrnn.arithmetic import gates as g
from qrnn.arithmetic.gates import evaluate_odd
from qrnn.model.parts import GateFunction, Int32Array

MOST_BITS = 14
"""The most bits of a segment: factors of up to 2^bits are halfwords with a sign."""


def has_signed_table(function: GateFunction) -> bool:
    """Return whether a function of kind ODD may have a table for both signs.

    Its table begins with 0, nothing is cut off, and the value at -32768, which the contract takes for that at -32767, is the last entry.
    """
    bits = int(function.params[g.SEGMENT_BITS])
    if function.params[g.CUT] or function.table[0] or not 1 <= bits <= MOST_BITS:
        return False
    return evaluate_odd(32767, 0, bits, 0, [int(v) for v in function.table]) == int(function.table[-1])


def signed_table(function: GateFunction) -> Int32Array:
    """Return the entries for -2^15 … 2^15, of which the middle one is that of 0; all with the other sign where the offset is negative."""
    mirrored = np.concatenate([-function.table[:0:-1], function.table])
    return -mirrored if function.params[g.OFFSET] < 0 else mirrored


def signed_values(function: GateFunction) -> list[int]:
    """Return the parameters of ``qrnn_evaluate_signed``: what its sum begins with, the bits of a segment, and -1 for a negative offset."""
    offset, bits = int(function.params[g.OFFSET]), int(function.params[g.SEGMENT_BITS])
    return [(abs(offset) << bits) + (1 << bits >> 1), bits, -int(offset < 0), 0, 0]
