"""Layers of kind function compute y = f(x) for any function of one number: a root, a logarithm, a power, and what graphs spell out.

An argument is clipped to twice the range that calibration saw, about its middle. Within it the integer function is wrong by at most one unit
of the output at every int16, or saturates where the output's format does not hold f. Where f has no value, it has that of the nearest
argument that has one; where f is infinite, the end of what calibration saw of the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.arithmetic import gates as g
from qrnn.arithmetic.arrays import of_arrays
from qrnn.arithmetic.octaves import OCTAVE_ENTRY_MAX, OCTAVE_GUARD, octave_value
from qrnn.arithmetic.reals import round_half_up
from qrnn.errors import QuantizationError
from qrnn.model.formats import output_frac
from qrnn.model.kinds.pointwise import QuantPointwise
from qrnn.model.layer import Layer, QuantLayer
from qrnn.model.layer_facts import Bytes, Loop, Rounding, RowLoop
from qrnn.model.one_input import QuantOneInput
from qrnn.model.padding import without_padding
from qrnn.model.parts import FloatArray, GateFunction, Int32Array, Int64Array, require
from qrnn.model.scalar_function import ScalarFunction, clip_bounds
from qrnn.model.surroundings import Checks, Equations, Plan

LARGEST_ERROR = 1.0
"""The largest error of the integer function, in units of the output; half of it is the rounding."""

LEAST_BITS = 3
"""The least segments of an octave are 2^3."""

INTEGERS = np.arange(-32768, 32768)


@dataclass(frozen=True)
class Function(Layer):
    """Compute y = function(x), element by element; calibration refuses an x at which it is NaN or infinite."""

    name: str
    input: str
    output: str
    function: ScalarFunction

    def equation(self, run: Equations) -> None:
        """Compute function(x) in float64."""
        run.write(self.output, without_padding(run, self.input, self.function(run.read(self.input))))

    def quantize(self, plan: Plan) -> QuantLayer:
        """Make the table of the function with the fewest segments that keep its error within `LARGEST_ERROR`; a clip is exact without one."""
        in_frac = plan.frac(self.input, self.name)
        if (bounds := clip_bounds(self.function)) is not None:
            return self._clip(plan, in_frac, *bounds)
        out_frac, reason = output_frac(plan, self.output)
        low, high = plan.span(self.output)
        wanted = integer_values(self.function, in_frac, out_frac, low, high)
        if wanted is None:
            raise QuantizationError(f"layer {self.name!r}: {self.function} has a value at no x")
        ends = argument_ends(*plan.span(self.input), in_frac)
        bits, table, error = choose_table(self.function, in_frac, out_frac, wanted, ends)
        least, most = (end / 2.0**in_frac for end in ends)
        plan.decide(
            f"{self.output}: int16 with {out_frac} fraction bits ({reason}); {self.function} by a table of {table.size} entries, "
            f"wrong by at most {error:.2f} units for x from {least:g} to {most:g}"
        )
        plan.set_format(self.output, out_frac)
        return QuantFunction(
            self.name, self.input, self.output, str(self.function), bits, table, *ends, in_frac, out_frac
        )

    def _clip(self, plan: Plan, in_frac: int, low: float, high: float) -> QuantPointwise:
        """Return the integer clip, in the format of x: exact where its bounds are integers there."""
        least, most = (int(round_half_up(min(max(bound, -(2.0**15)), 2.0**15) * 2.0**in_frac)) for bound in (low, high))
        least, most = min(max(least, -32768), 32767), min(max(most, -32768), 32767)
        params = np.zeros(g.PARAMS, np.int64)
        params[: g.HIGH + 1] = g.RAMP, in_frac, in_frac, 1, 0, 0, least, most
        function = GateFunction(str(self.function), params, np.zeros(0, np.int32))
        plan.set_format(self.output, in_frac, max(abs(least), abs(most)))
        return QuantPointwise(self.name, self.input, self.output, function, in_frac, in_frac)


def integer_values(function: ScalarFunction, in_frac: int, out_frac: int, low: float, high: float) -> FloatArray | None:
    """Return the function at every int16 x in units of the output, [65536], without a gap; None where it has no value at all.

    Where it has none, the nearest argument's value stands; where it is infinite, ``low`` or ``high``.
    """
    y = function(INTEGERS / 2.0**in_frac)
    held = np.flatnonzero(~np.isnan(y))
    if not held.size:
        return None
    after = np.clip(np.searchsorted(held, np.arange(65536)), 0, held.size - 1)
    before = np.maximum(after - 1, 0)
    here = np.arange(65536)
    nearer = np.abs(held[before] - here) <= np.abs(held[after] - here)
    y = y[np.where(nearer, held[before], held[after])]
    y = np.where(np.isposinf(y), high, np.where(np.isneginf(y), low, y))
    with np.errstate(over="ignore"):
        units: FloatArray = np.clip(np.ldexp(y, out_frac), -1e15, 1e15)
    return units


def argument_ends(low: float, high: float, in_frac: int) -> tuple[int, int]:
    """Return the least and the greatest argument, integers within ±32767: twice the range from ``low`` to ``high``, about its middle."""
    room = (high - low) / 2
    least, most = np.floor((low - room) * 2.0**in_frac), np.ceil((high + room) * 2.0**in_frac)
    return int(np.clip(least, -32767, 32767)), int(np.clip(most, -32767, 32767))


def choose_table(
    function: ScalarFunction, in_frac: int, out_frac: int, wanted: FloatArray, ends: tuple[int, int]
) -> tuple[int, Int32Array, float]:
    """Return bits and table of the fewest segments that keep the error within `LARGEST_ERROR` for every argument, and the error.

    With 2^14 segments an octave has a knot at every integer.
    """
    clipped = np.clip(wanted[np.clip(INTEGERS, *ends) + 32768], -32768.0, 32767.0)
    for bits in range(LEAST_BITS, 15):
        table = octave_table(function, bits, in_frac, out_frac, wanted)
        error = float(np.abs(table_values(bits, table, *ends) - clipped).max())
        if error <= LARGEST_ERROR:
            break
    return bits, table, error


def table_values(bits: int, table: Int32Array, lowest: int, highest: int) -> Int64Array:
    """Return the integer function at every int16, [65536]."""
    over_arrays = of_arrays(octave_value)
    values: Int64Array = over_arrays(np.clip(INTEGERS, lowest, highest), bits, table.astype(np.int64))
    return values


def knots(bits: int) -> Any:
    """Return the magnitudes of the knots of one sign, [(16 - bits) · 2^bits + 1], from 0 to 32768."""
    octaves = [np.arange(1 << bits, 2 << bits) << shift for shift in range(15 - bits)]
    return np.concatenate([np.arange(1 << bits), *octaves, [32768]])


def octave_table(function: ScalarFunction, bits: int, in_frac: int, out_frac: int, wanted: FloatArray) -> Int32Array:
    """Return the table of `octave_value` with 2^bits segments an octave, of the function whose values are ``wanted``.

    A knot beyond int16, at 32768, has the function's own value there, or where that has none, the value at 32767.
    """
    at = knots(bits)
    entries = []
    for sign in (1, -1):
        values = wanted[np.minimum(32768 + sign * at, 65535)]
        if sign == 1:
            beyond = np.ldexp(function(np.array([2.0 ** (15 - in_frac)])), out_frac)[0]
            values[-1] = beyond if np.isfinite(beyond) else wanted[-1]
        entries.append(values)
    scaled = round_half_up(np.concatenate(entries) * 2.0**OCTAVE_GUARD)
    table: Int32Array = np.clip(scaled, -OCTAVE_ENTRY_MAX, OCTAVE_ENTRY_MAX).astype(np.int32)
    return table


def function_rows(contract: Any) -> Loop:
    """Return the loop that sets each element of out to `octave_value` of the same element of x, within lowest … highest."""
    octave_value, saturate = contract.octave_value, contract.saturate

    def rows(first: int, last: int, bits: int, table: Any, lowest: int, highest: int, x: Any, out: Any) -> None:
        for m in range(first, last):
            for k in range(out.shape[1]):
                out[m, k] = octave_value(saturate(x[m, k], lowest, highest), bits, table)

    return rows


@dataclass(frozen=True)
class QuantFunction(QuantOneInput):
    """Compute y = `octave_value` of each element within lowest … highest, int16; x has in_frac fraction bits, y out_frac.

    ``table`` [2 · ((16 - bits) · 2^bits + 1)] holds both signs; ``function`` says in words what it is the table of.
    """

    name: str
    input: str
    output: str
    function: str
    bits: int
    table: Int32Array
    lowest: int
    highest: int
    in_frac: int
    out_frac: int

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        require(0 <= self.bits <= 14, f"{where}: bits {self.bits} not in 0…14")
        entries = 2 * (((16 - self.bits) << self.bits) + 1)
        require(self.table.shape == (entries,), f"{where}: table {list(self.table.shape)}, expected [{entries}]")
        require(int(np.abs(self.table.astype(np.int64)).max()) <= OCTAVE_ENTRY_MAX, f"{where}: an entry beyond ±2^26")
        require(
            -32768 <= self.lowest <= self.highest <= 32767,
            f"{where}: an argument from {self.lowest} to {self.highest}, expected int16",
        )
        self.check_fracs()

    def check(self, checks: Checks) -> None:
        """Refuse an output of another shape than the input's."""
        source = checks.tensors[self.input]
        checks.expect(self.output, source.features, source.has_time)

    def row_loops(self) -> tuple[RowLoop, ...]:
        """Return one loop, which looks up every element."""
        return (RowLoop(function_rows, (self.bits, self.table, self.lowest, self.highest), self.inputs),)

    def roundings(self) -> tuple[Rounding, ...]:
        """Return the one rounding of the value."""
        return (
            Rounding(self.name, f"the value, once, to {self.out_frac} bits", f"argument, {self.lowest}…{self.highest}"),
        )

    def own_bytes(self) -> Bytes:
        """Return the bytes of the table."""
        return Bytes(weights=self.table.nbytes)
