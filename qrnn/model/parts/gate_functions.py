"""The functions of gates as the contract's `qrnn.arithmetic.gates` reads them, with the proof that their values stay in range."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qrnn.arithmetic import gates as g
from qrnn.model.parts.arrays import ACCUMULATOR_LIMIT, Int32Array, Int64Array, check_array, require
from qrnn.system.brief import Brief


@dataclass(frozen=True)
class GateFunction(Brief):
    """One gate function of the contract: ``params`` [8] int64 and ``table`` int32, empty where it has none (`qrnn.arithmetic.gates`)."""

    name: str
    params: Int64Array
    table: Int32Array

    def __post_init__(self) -> None:
        check_array(self.name, "params", self.params, np.int64, (g.PARAMS,))
        kind, in_frac, out_frac = (int(v) for v in self.params[:3])
        self._require(0 <= in_frac <= 15 and 0 <= out_frac <= 15, f"fraction bits {in_frac}, {out_frac} not in 0…15")
        if kind in (g.ODD, g.TABLE):
            self._check_table(kind)
        elif kind == g.RAMP:
            slope, intercept, shift, low, high = (int(v) for v in self.params[g.SLOPE :])
            self._require(0 <= shift <= 15, f"shift {shift} not in 0…15")
            self._check_line(slope, intercept, 1 << 15)
            self._require(-32768 <= low <= high <= 32768, f"bounds {low}, {high} not in order or beyond ±32768")
        elif kind == g.THRESHOLD:
            at, slope, intercept, high, below = (int(v) for v in self.params[g.THRESHOLD_AT :])
            self._require(-32768 <= at <= 32767, f"threshold {at} not an int16")
            self._check_line(slope, intercept, 0)
            self._require(abs(high) <= 32768 and abs(below) <= 32768, f"bounds {below}, {high} beyond ±32768")
        else:
            self._require(False, f"kind {kind} unknown, expected 0 (odd), 1 (ramp), 2 (table) or 3 (threshold)")
        if kind in (g.RAMP, g.THRESHOLD):
            check_array(self.name, "table", self.table, np.int32, (0,))
        self._require(self.bounds[0] >= -32768 and self.bounds[1] <= 32768, f"outputs {self.bounds} beyond ±32768")

    def _require(self, condition: bool, message: str) -> None:
        require(condition, f"gate {self.name}: {message}")

    def _check_line(self, slope: int, intercept: int, rounding: int) -> None:
        fits = abs(slope) <= 32767 and abs(slope) * 32768 + abs(intercept) + rounding < ACCUMULATOR_LIMIT
        self._require(fits, f"slope {slope} with intercept {intercept} does not fit 32 bits")

    def _check_table(self, kind: int) -> None:
        """Check the size of the table, its values, and that the product of a difference with a fraction fits 32 bits."""
        bits = int(self.params[g.SEGMENT_BITS])
        self._require(0 <= bits <= 15, f"segment bits {bits} not in 0…15")
        range_bits, last = (15, g.CUT) if kind == g.ODD else (16, g.HIGHEST)
        check_array(self.name, "table", self.table, np.int32, ((1 << (range_bits - bits)) + 1,))
        if kind == g.ODD:
            offset, cut = int(self.params[g.OFFSET]), int(self.params[g.CUT])
            self._require(offset in (0, 1 << 14, -(1 << 14)), f"offset {offset}, expected 0 or ±16384")
            self._require(0 <= cut <= 32767, f"cut {cut} not in 0…32767")
            largest = abs(offset) or 32767
        else:
            lowest, highest = int(self.params[g.LOWEST]), int(self.params[g.HIGHEST])
            self._require(-32768 <= lowest <= highest <= 32767, f"clip {lowest}, {highest} not in order or not int16")
            largest = 32768
        table = self.table.astype(np.int64)
        self._require(bool((np.abs(table) <= largest).all()), f"table leaves its range ±{largest}")
        self._require(bool((np.abs(np.diff(table)) <= 65534).all()), "table entries differ by more than 65534")
        self._require(not self.params[last + 1 :].any(), "unused parameters are not zero")

    @property
    def in_frac(self) -> int:
        """Return the fraction bits of the argument."""
        return int(self.params[g.IN_FRAC])

    @property
    def out_frac(self) -> int:
        """Return the fraction bits of the value."""
        return int(self.params[g.OUT_FRAC])

    @cached_property
    def bounds(self) -> tuple[int, int]:
        """Return the least and the largest value of the function.

        Each kind is monotone between few inputs (rounding and clamping are monotone), which are its knots and the ends of its range.
        """
        kind = int(self.params[g.KIND])
        if kind == g.ODD:
            bits, center = int(self.params[g.SEGMENT_BITS]), abs(int(self.params[g.OFFSET]))
            top = max(abs(v) for v in self._table_extremes(0, 32767 - int(self.params[g.CUT]), bits))
            return center - top, center + top
        if kind == g.TABLE:
            lowest, bits, highest = (int(v) for v in self.params[g.LOWEST : g.HIGHEST + 1])
            return self._table_extremes(lowest + 32768, highest + 32768, bits)
        if kind == g.RAMP:
            ends = [g.evaluate_ramp(x, *(int(v) for v in self.params[g.SLOPE :])) for x in (-32768, 32767)]
            return min(ends), max(ends)
        at, slope, intercept, high, below = (int(v) for v in self.params[g.THRESHOLD_AT :])
        above = [min(x * slope + intercept, high) for x in (at + 1, 32767) if at < 32767]
        return min([below, *above]), max([below, *above])

    def _table_extremes(self, first: int, last: int, bits: int) -> tuple[int, int]:
        """Return the least and the largest p over first … last."""
        table = self.table.tolist()
        knots = table[-(-first >> bits) : (last >> bits) + 1]
        values = [*knots, *(g.piecewise_linear(m, table, bits) for m in (first, last))]
        return min(values), max(values)


def pack_gates(functions: tuple[GateFunction, ...]) -> tuple[Int64Array, Int32Array]:
    """Return ``params`` [G, 8] and ``tables`` [G, longest] as the contract's `evaluate` reads them; short tables are padded with zeros."""
    tables = np.zeros((len(functions), max(1, *(f.table.size for f in functions), 0)), np.int32)
    for row, function in zip(tables, functions, strict=True):
        row[: function.table.size] = function.table
    return np.stack([f.params for f in functions]), tables


EXP_TABLE_SIZE = 129
"""The number of entries of the softmax's table of e^-d."""


def check_exp_table(owner: str, table: Int32Array) -> None:
    """Raise ModelFileError unless ``table`` can serve `qrnn.arithmetic.gates.exp_weight`."""
    check_array(owner, "table", table, np.int32, (EXP_TABLE_SIZE,))
    require(bool(table[0] == 32768 and table.min() >= 0 and table.max() <= 32768), f"layer {owner}: exp table")
