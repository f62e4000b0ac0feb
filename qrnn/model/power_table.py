"""The table of powers of 2 that `qrnn.arithmetic.running_softmax` reads."""

from __future__ import annotations

import numpy as np

from qrnn.arithmetic.reals import round_half_up
from qrnn.arithmetic.running_softmax import POWER_BITS
from qrnn.model.parts import Int32Array, check_array, require

SEGMENTS = 128


def power_table() -> Int32Array:
    """Return 2^(23 + k / 128), k = 0 … 128: between its entries a line is above the power by less than 2^-18 of it."""
    table: Int32Array = round_half_up(2.0 ** (POWER_BITS + np.arange(SEGMENTS + 1) / SEGMENTS)).astype(np.int32)
    return table


def check_power_table(owner: str, table: Int32Array) -> None:
    """Raise ModelFileError unless ``table`` can serve `qrnn.arithmetic.running_softmax.power_mantissa`."""
    check_array(owner, "table", table, np.int32, (SEGMENTS + 1,))
    least, most = 1 << POWER_BITS, 2 << POWER_BITS
    require(bool(table.min() >= least and table.max() <= most), f"{owner}: an entry of its table not in {least}…{most}")
