"""Each kind of gate function against its definition in exact rational numbers, compiled and in Python; malformed ones refused."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arithmetic.evaluation import X, outputs
from qrnn.arithmetic import gates as g
from qrnn.errors import ModelFileError
from qrnn.model.parts import GateFunction, pack_gates

Definition = Callable[[int], int]
HALF = Fraction(1, 2)


def gate(kind: int, *values: int, table: Any = ()) -> GateFunction:
    params = np.zeros(g.PARAMS, np.int64)
    params[: 3 + len(values)] = kind, 11, 15, *values
    return GateFunction("tried", params, np.asarray(table, np.int32))


def line_between(table: list[int], width: int, m: int) -> int:
    """The broken line through (k · width, table[k]) at m, its rise from the knot on the left rounded half up."""
    k, rest = divmod(m, width)
    return table[k] + floor(Fraction(rest, width) * (table[k + 1] - table[k]) + HALF)


def odd_definition(offset: int, bits: int, cut: int, table: list[int]) -> Definition:
    def value(x: int) -> int:
        p = line_between(table, 2**bits, min(abs(x), 32767 - cut))
        sign = (-1 if x < 0 else 1) * (-1 if offset < 0 else 1)
        return abs(offset) + sign * p

    return value


def table_definition(lowest: int, bits: int, highest: int, table: list[int]) -> Definition:
    return lambda x: line_between(table, 2**bits, max(lowest, min(highest, x)) + 32768)


def ramp_definition(slope: int, intercept: int, shift: int, low: int, high: int) -> Definition:
    return lambda x: max(low, min(high, floor(Fraction(x * slope + intercept, 2**shift) + (HALF if shift else 0))))


def threshold_definition(at: int, slope: int, intercept: int, high: int, below: int) -> Definition:
    return lambda x: below if x <= at else min(x * slope + intercept, high)


def random_table(rng: np.random.Generator, entries: int, largest: int) -> list[int]:
    return [int(v) for v in rng.integers(-largest, largest + 1, entries)]


ODD_ROWS = ((0, 8, 0), (1 << 14, 8, 0), (-(1 << 14), 8, 300), (0, 15, 32767), (0, 0, 5), (1 << 14, 12, 20000))
TABLE_ROWS = ((-32768, 8, 32767), (-32767, 15, 32767), (-5, 0, 70), (100, 11, 100), (-20000, 13, 32767))
RAMP_ROWS = (
    (3277, 16384, 14, 0, 32768),
    (-32767, 1 << 29, 15, -32768, 32767),
    (1, 0, 0, -5, 7),
    (-3, 1, 1, -32768, 32768),
)
THRESHOLD_ROWS = (
    (-1, 0, 32768, 32768, 0),
    (-32768, 1, 0, 32767, -3),
    (32767, 0, 0, 0, 9),
    (20000, -2, 50000, 5000, -32768),
    (-9, 2, -1, 55, 0),
)


def cases() -> dict[str, tuple[GateFunction, Definition]]:
    rng, found = np.random.default_rng(0), {}
    for row in ODD_ROWS:
        table = random_table(rng, (1 << (15 - row[1])) + 1, abs(row[0]) or 32767)
        found[f"odd {row}"] = gate(g.ODD, *row, table=table), odd_definition(*row, table)
    for row in TABLE_ROWS:
        table = random_table(rng, (1 << (16 - row[1])) + 1, 32767)
        found[f"table {row}"] = gate(g.TABLE, *row, table=table), table_definition(*row, table)
    for ramp in RAMP_ROWS:
        found[f"ramp {ramp}"] = gate(g.RAMP, *ramp), ramp_definition(*ramp)
    for threshold in THRESHOLD_ROWS:
        found[f"threshold {threshold}"] = gate(g.THRESHOLD, *threshold), threshold_definition(*threshold)
    return found


CASES = cases()


@pytest.mark.wide(cover=False, keep=7)
@pytest.mark.parametrize("name", CASES)
def test_kind_is_its_definition_at_every_input(name: str) -> None:
    """The definition, the contract in Python, and the contract compiled for int16, int32 and int64 inputs."""
    function, definition = CASES[name]
    want = np.array([definition(x) for x in range(-32768, 32768)])
    params, tables = [function.params.tolist()], [function.table.tolist()]
    np.testing.assert_array_equal([g.evaluate(x, params, tables, 0) for x in range(-32768, 32768)], want)
    for dtype in (np.int16, np.int32, np.int64):
        np.testing.assert_array_equal(outputs(function, X.astype(dtype)), want)
    assert function.bounds[0] <= want.min()
    assert want.max() <= function.bounds[1]
    if not name.startswith("odd"):  # there both signs of the largest magnitude count, whether or not both occur
        assert function.bounds == (want.min(), want.max())


def test_rows_of_several_kinds_are_packed_together() -> None:
    functions = tuple(function for function, _ in CASES.values())
    params, tables = pack_gates(functions)
    for row, (_, definition) in enumerate(CASES.values()):
        for x in (-32768, -1, 0, 1, 12345, 32767):
            assert g.evaluate(x, params.tolist(), tables.tolist(), row) == definition(x)


GOOD = {
    g.ODD: (0, 13, 0, 0, 0),
    g.RAMP: (1, 0, 0, 0, 100),
    g.TABLE: (-32768, 13, 32767, 0, 0),
    g.THRESHOLD: (0, 1, 0, 100, 0),
}
ENTRIES = {g.ODD: 5, g.TABLE: 9, g.RAMP: 0, g.THRESHOLD: 0}


@pytest.mark.parametrize(
    ("kind", "column", "value", "says"),
    [
        (g.ODD, g.OFFSET, 1, "offset"),
        (g.ODD, g.OFFSET, 1 << 15, "offset"),
        (g.ODD, g.SEGMENT_BITS, 16, "segment bits"),
        (g.ODD, g.SEGMENT_BITS, -1, "segment bits"),
        (g.ODD, g.SEGMENT_BITS, 12, "table"),
        (g.ODD, g.CUT, -1, "cut"),
        (g.ODD, g.CUT, 32768, "cut"),
        (g.ODD, 6, 1, "unused"),
        (g.RAMP, g.SLOPE, 32768, "32 bits"),
        (g.RAMP, g.INTERCEPT, 1 << 31, "32 bits"),
        (g.RAMP, g.INTERCEPT, -(1 << 63), "32 bits"),
        (g.RAMP, g.SHIFT, 16, "shift"),
        (g.RAMP, g.SHIFT, -1, "shift"),
        (g.RAMP, g.LOW, 101, "bounds"),
        (g.RAMP, g.LOW, -32769, "bounds"),
        (g.RAMP, g.HIGH, 32769, "bounds"),
        (g.TABLE, g.LOWEST, -32769, "clip"),
        (g.TABLE, g.HIGHEST, 32768, "clip"),
        (g.TABLE, g.HIGHEST, -32769, "clip"),
        (g.TABLE, g.SEGMENT_BITS, 14, "table"),
        (g.TABLE, 7, 1, "unused"),
        (g.THRESHOLD, g.THRESHOLD_AT, -32769, "threshold"),
        (g.THRESHOLD, g.THRESHOLD_AT, 32768, "threshold"),
        (g.THRESHOLD, g.THRESHOLD_SLOPE, -32768, "32 bits"),
        (g.THRESHOLD, g.THRESHOLD_SLOPE, -2, "outputs"),
        (g.THRESHOLD, g.THRESHOLD_INTERCEPT, -40000, "outputs"),
        (g.THRESHOLD, g.THRESHOLD_HIGH, 32769, "bounds"),
        (g.THRESHOLD, g.THRESHOLD_BELOW, -32769, "bounds"),
        (g.THRESHOLD, g.KIND, 4, "kind 4"),
        (g.RAMP, g.IN_FRAC, 16, "fraction bits"),
        (g.ODD, g.OUT_FRAC, -1, "fraction bits"),
    ],
)
def test_malformed_parameters_are_refused(kind: int, column: int, value: int, says: str) -> None:
    params = gate(kind, *GOOD[kind], table=[0] * ENTRIES[kind]).params.copy()
    params[column] = value
    with pytest.raises(ModelFileError, match=says):
        GateFunction("tried", params, np.zeros(ENTRIES[kind], np.int32))


@pytest.mark.parametrize(
    ("kind", "offset", "table", "says"),
    [
        (g.ODD, 0, [0, 32768, 0, 0, 0], "range"),
        (g.ODD, 1 << 14, [0, 16385, 0, 0, 0], "range"),
        (g.ODD, 1 << 14, [0, -16385, 0, 0, 0], "range"),
        (g.TABLE, -32768, [32769, *[0] * 8], "range"),
        (g.TABLE, -32768, [-(1 << 31), *[0] * 8], "range"),
        (g.TABLE, -32768, [32768, -32768, *[0] * 7], "differ"),
        (g.TABLE, -32768, [32768, -32767, *[0] * 7], "differ"),
        (g.RAMP, 1, [0], "table"),
        (g.THRESHOLD, 1, [0], "table"),
    ],
)
def test_malformed_tables_are_refused(kind: int, offset: int, table: list[int], says: str) -> None:
    with pytest.raises(ModelFileError, match=says):
        gate(kind, offset, *GOOD[kind][1:], table=table)


NUMBERS = st.one_of(
    st.integers(-40000, 40000),
    st.integers(-20, 20),
    st.sampled_from([s * (1 << k) + d for k in (14, 15, 16, 30, 31, 63) for s in (-1, 1) for d in (-1, 0)]),
).filter(lambda v: -(1 << 63) <= v < 1 << 63)


@settings(max_examples=400, deadline=None)
@given(
    st.integers(0, 4),
    st.lists(NUMBERS, min_size=5, max_size=5),
    st.integers(11, 15),
    st.sampled_from((20, 16384, 32767, 32769)).flatmap(
        lambda largest: st.lists(st.integers(-largest, largest), min_size=33, max_size=33)
    ),
    st.booleans(),
)
def test_whatever_is_accepted_stays_in_its_widths(
    kind: int, values: list[int], bits: int, entries: list[int], likely: bool
) -> None:
    """Outputs lie within the bounds, these within ±32768, and every value on the way fits an int32."""
    if likely and kind == g.ODD:
        values[0] = (values[0] % 3 - 1) << 14
    if likely and kind == g.RAMP:
        values[2] %= 16
    if kind in (g.ODD, g.TABLE):
        values = [values[0], bits, values[2], 0, 0]
        entries = entries[: (1 << ((15 if kind == g.ODD else 16) - bits)) + 1]
    else:
        entries = []
    try:
        function = gate(kind, *values, table=entries)
    except ModelFileError:
        return
    low, high = function.bounds
    assert -32768 <= low <= high <= 32768
    steps = [abs(b - a) for a, b in pairwise(entries)]
    assert max(steps, default=0) * 32767 + 16384 < 1 << 31
    params, tables = [function.params.tolist()], [entries]
    if kind in (g.RAMP, g.THRESHOLD):
        rounding = (1 << values[2]) >> 1 if kind == g.RAMP else 0
        slope, intercept = values[0:2] if kind == g.RAMP else values[1:3]
        assert all(abs(x * slope + intercept) + rounding < 1 << 31 for x in (-32768, 32767))
    for x in {-32768, -32767, -1, 0, 1, 32766, 32767, *range(-32768, 32768, 1021), *values[:1]}:
        if -32768 <= x <= 32767:
            assert low <= g.evaluate(x, params, tables, 0) <= high
