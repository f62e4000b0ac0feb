"""The table of logarithms that `qrnn.arithmetic.logarithms` reads."""

from __future__ import annotations

import numpy as np

from qrnn.arithmetic.logarithms import LN2, LOG_FRAC, LOG_SEGMENT_BITS
from qrnn.arithmetic.reals import round_half_up
from qrnn.model.parts import Int32Array, check_array, require

SEGMENTS = 1 << (15 - LOG_SEGMENT_BITS)


def log_table() -> Int32Array:
    """Return ln(1 + k / 128) with 24 fraction bits, k = 0 … 128: between its entries a line is wrong by less than 2^-17."""
    table: Int32Array = round_half_up(np.log1p(np.arange(SEGMENTS + 1) / SEGMENTS) * 2.0**LOG_FRAC).astype(np.int32)
    return table


def check_log_table(owner: str, table: Int32Array) -> None:
    """Raise ModelFileError unless ``table`` can serve `qrnn.arithmetic.logarithms.natural_log`."""
    check_array(owner, "table", table, np.int32, (SEGMENTS + 1,))
    require(bool(table.min() >= 0 and table.max() <= LN2), f"{owner}: an entry of its table not in 0…ln 2")
