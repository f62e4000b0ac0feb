"""Fronts, against the definition; effects of single choices; the table."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qrnn.errors import DataError
from qrnn.lab.axes import choices
from qrnn.lab.effects import effects
from qrnn.lab.pareto import csv_text, front
from qrnn.quantization.scheme import Scheme


def record(sqnr: float | None, flash: float | None, exact: bool = False, **scheme: Any) -> dict[str, Any]:
    figures = {"sqnr_db": sqnr, "flash_bytes": flash, "exact": exact}
    return {"key": "k", "scheme": choices(Scheme(**scheme)), "figures": figures, "cost": {"counted": False}}


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25))
def test_nothing_on_the_front_is_dominated_and_all_else_is(points: list[tuple[int, int]]) -> None:
    found = front([record(float(a), float(b)) for a, b in points], ("sqnr", "flash"))
    best = {points[i] for i in found}
    assert len(best) == len(found)  # of equals, one
    for a, b in points:
        beaten = any(x >= a and y <= b and (x, y) != (a, b) for x, y in points)
        assert ((a, b) in best) == (not beaten)


def test_of_equals_the_first() -> None:
    assert front([record(1.0, 5.0), record(2.0, 5.0), record(2.0, 5.0)], ("sqnr", "flash")) == [1]


def test_exact_is_best_and_unknown_is_not_compared() -> None:
    records = [record(50.0, 10.0), record(None, 10.0, exact=True), record(60.0, None), {"refused": "why"}]
    assert front(records, ("sqnr", "flash")) == [1]
    assert front([record(50.0, None), record(60.0, None)], ("sqnr", "flash")) == [1]  # flash is known of none
    assert front([], ("sqnr",)) == []
    with pytest.raises(DataError, match="figure 'beauty' is unknown"):
        front(records, ("sqnr", "beauty"))


def test_effects_are_medians_over_pairs_that_differ_in_one_choice() -> None:
    records = [record(50.0, 100.0), record(30.0, 60.0, weights=4), record(40.0, 90.0, gates="hard")]
    records.append(record(26.0, 52.0, weights=4, gates="hard"))
    found = {e["axis"]: e for e in effects(records)}
    assert set(found) == {"weights", "gates"}
    assert (found["weights"]["value"], found["weights"]["against"], found["weights"]["pairs"]) == ("4", "8", 2)
    assert found["weights"]["median"]["sqnr_db"] == -17.0
    assert found["weights"]["median"]["flash_bytes"] == -39.0
    assert found["weights"]["median"]["ram_bytes"] is None
    assert (found["weights"]["least"]["sqnr_db"], found["weights"]["most"]["sqnr_db"]) == (-20.0, -14.0)
    assert effects([]) == []


def test_table() -> None:
    refused = {"key": "r", "scheme": choices(Scheme(gates="step")), "refused": "not, here"}
    rows = list(csv.DictReader(io.StringIO(csv_text([record(50.123456789, 100.0), refused], [0]))))
    assert [row["front"] for row in rows] == ["1", "0"]
    assert (rows[0]["sqnr_db"], rows[0]["flash_bytes"], rows[0]["weights"]) == ("50.1235", "100", "8")
    assert (rows[1]["refused"], rows[1]["sqnr_db"], rows[1]["gates"]) == ("not, here", "", "step")
