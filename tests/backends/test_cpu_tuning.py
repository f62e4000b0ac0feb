"""The thresholds of the CPU backend are data: what the file says is checked, what a user gives is checked, and no bit depends on them."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import Shape

from backends.generators import Case, assert_equal, eager, integers
from qrnn import BackendError, Session
from qrnn.backends.cpu.engine import CpuEngine
from qrnn.backends.cpu.tuning import DATA, Tuning, read_thresholds, thresholds


def test_every_field_has_a_default_a_unit_and_a_description() -> None:
    assert [f.name for f in fields(Tuning)] == list(thresholds())
    for name, threshold in thresholds().items():
        assert getattr(Tuning(), name) == threshold.value
        assert threshold.unit
        assert threshold.description.endswith(".")


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("thread_teams", 1, "expected True or False"),
    ("cores", 0, r"expected a whole number from 1 to 4,096 \(threads\), or None"),
    ("largest_team", 129, r"expected a whole number from 1 to 128 \(threads\)"),
    ("task_macs", 2.5, r"expected a whole number from 1 to .* \(multiply-adds\)"),
    ("task_macs", True, "expected a whole number"),
    ("task_macs", None, "expected a whole number"),
    ("few_steps", -1, r"expected a whole number from 0 to .* \(time steps\)"),
    ("byte_cache_share", float("nan"), r"expected a number from 0 to 1,000 \(caches\)"),
    ("byte_cache_share", "much", "expected a number"),
])  # fmt: skip
def test_a_wrong_value_is_one_error(name: str, value: Any, expected: str) -> None:
    with pytest.raises(BackendError, match=expected) as error:
        Tuning(**{name: value})
    assert str(error.value).startswith(f"Tuning({name}={value!r})")
    assert thresholds()[name].description in str(error.value)


def test_the_tuning_of_another_backend_is_refused() -> None:
    model = Case(Shape("rnn", 3, 4), lengths=(5, 5)).quantized()
    with pytest.raises(BackendError, match=r"takes no such tuning; expected a qrnn.backends.cpu.tuning.Tuning"):
        Session(model, "cpu", tuning={"few_steps": 3})
    with pytest.raises(BackendError, match="takes no such tuning; leave it out"):
        Session(model, "reference", tuning=Tuning())


@pytest.mark.parametrize(("change", "expected"), [
    (lambda d: "[", "cannot be read as JSON"),
    (lambda d: d | {"schema": 2}, "expected schema 1"),
    (lambda d: d | {"fields": [1]}, "expected schema 1 and an object 'fields'"),
    (lambda d: {"schema": 1, "fields": {"few_steps": 16}}, "few_steps: expected an object with the keys"),
    (lambda d: {"schema": 1, "fields": {"few_steps": {"value": 16}}}, "few_steps: expected an object with the keys"),
    (lambda d: changed(d, unit=""), "few_steps: expected texts for unit and description"),
    (lambda d: changed(d, most="many"), "few_steps: least or most is 'many', expected a number"),
    (lambda d: changed(d, value=-3), "few_steps: the default is -3, expected a whole number"),
    (lambda d: changed(d, value="16"), "few_steps: the default is '16', expected a whole number"),
])  # fmt: skip
def test_a_damaged_file_is_named(change: Any, expected: str, tmp_path: Path) -> None:
    found = change(json.loads(DATA.read_text(encoding="utf-8")))
    path = tmp_path / "tuning.json"
    path.write_text(found if isinstance(found, str) else json.dumps(found), encoding="utf-8")
    with pytest.raises(BackendError, match=expected) as error:
        read_thresholds(path)
    assert str(path) in str(error.value)


def changed(content: Any, **entry: Any) -> Any:
    """The content of a file with another entry for few_steps."""
    return {"schema": 1, "fields": {"few_steps": content["fields"]["few_steps"] | entry}}


def ends_of(name: str) -> list[Any]:
    """The least and a large value of a field; numbers of threads and of spins stay small enough for a test."""
    threshold = thresholds()[name]
    if isinstance(threshold.value, bool):
        return [True, False]
    if name == "cores":
        return [1, 3]
    if "spins" in name:
        return [threshold.least, 1 << 12]
    return [type(threshold.value or 0)(end) for end in (threshold.least, threshold.most)]


@pytest.mark.wide(cover=False, keep=3)
@pytest.mark.parametrize("name", list(thresholds()))
def test_no_bit_depends_on_a_threshold(name: str) -> None:
    """Each field at both ends of its range, around the tuning by which everything is shared."""
    runs = [
        Case(Shape("lstm", 40, 40, (False, True)), "dense", sequences=n, steps=18, lengths=(18,) * n) for n in (1, 4)
    ]
    for case in runs:
        model = case.quantized()
        batch = case.batch(model)
        want, _ = integers(Session(model, "reference"), batch)
        for value in ends_of(name):
            session = Session(model, "cpu", 2, tuning=replace(eager(2, wake_spins=1 << 14), **{name: value}))
            assert isinstance(session.engine, CpuEngine)
            assert_equal(want, integers(session, batch)[0])
            x = case.data()["x"][:, :5]
            np.testing.assert_array_equal(
                session.run({"x": x}).outputs["y"], Session(model, "reference").run({"x": x}).outputs["y"]
            )
