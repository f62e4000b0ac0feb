"""Sequences and data files become one data file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qrnn.datasets import sets
from qrnn.datasets.sets import joined, packed
from qrnn.errors import DataError


@st.composite
def data_files(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """Data files with one input, with and without lengths, and labels of sequences, of steps, or none."""
    labels = draw(st.sampled_from(["none", "sequence", "step"]))
    files: dict[str, dict[str, Any]] = {}
    for number in range(draw(st.integers(1, 4))):
        count, steps = draw(st.integers(0, 3)), draw(st.integers(1, 5))
        rng = np.random.default_rng(number)
        arrays: dict[str, Any] = {"x": rng.normal(size=(count, steps, 2)).astype(draw(st.sampled_from(["f4", "f8"])))}
        if draw(st.booleans()):
            arrays["lengths"] = rng.integers(0, steps, count, endpoint=True)
        if labels != "none":
            arrays["labels"] = rng.integers(0, 9, (count, steps) if labels == "step" else count)
        files[f"{number}.npz"] = arrays
    return files


@given(data_files())
def test_joined_files_hold_the_same_sequences(files: dict[str, dict[str, Any]]) -> None:
    made = joined(files)
    steps = {arrays["x"].shape[1] for arrays in files.values()}
    assert ("lengths" in made) == (len(steps) > 1 or any("lengths" in arrays for arrays in files.values()))
    assert made["x"].shape[1] == max(steps)
    at = 0
    for arrays in files.values():
        for row, sequence in enumerate(arrays["x"]):
            length = arrays["lengths"][row] if "lengths" in arrays else len(sequence)
            assert made["lengths"][at] == length if "lengths" in made else length == len(sequence)
            assert np.array_equal(made["x"][at, : len(sequence)], sequence)
            assert not made["x"][at, len(sequence) :].any()
            if "labels" in arrays:
                own = arrays["labels"][row]
                found = made["labels"][at]
                assert np.array_equal(found[: len(own)] if own.ndim else found, own)
            at += 1
    assert at == len(made["x"])


def test_rows_and_tokens_are_joined() -> None:
    rows = joined({"a": {"x": np.ones((2, 3))}, "b": {"x": np.zeros((1, 3))}})
    assert rows["x"].shape == (3, 3)
    assert "lengths" not in rows
    tokens = joined({"a": {"t": np.ones((2, 3), np.int64)}, "b": {"t": np.ones((1, 5), np.int32)}})
    assert tokens["t"].shape == (3, 5)
    assert tokens["lengths"].tolist() == [3, 3, 5]


X = np.zeros((2, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"x": np.zeros((2, 3, 5))}, r"b: x has the shape \[2, 3, 5\]"),
        ({"x": np.zeros((2, 4))}, "b: x has the shape"),
        ({"y": X}, "b: x, y is in one of a and b alone"),
        ({"x": X, "labels": np.zeros(2, int)}, "labels is in one"),
        ({"x": X, "lengths": np.zeros(3, int)}, "different numbers of sequences"),
        ({"x": X, "lengths": np.array([1, 4])}, "lengths from 1 to 4, expected 0 to 3"),
        ({"x": X, "lengths": np.array([1.0, 2.0])}, "expected integers"),
        ({"x": X, "lengths.t": np.array([1, 2])}, "several time axes"),
        ({"x": X.astype("U3")}, "expected real numbers"),
        ({"x": np.zeros((2, 3, 4), "M8[s]")}, "expected real numbers"),
        ({"x": np.float32(1)}, "a single number"),
    ],
)
def test_files_that_do_not_fit(other: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        joined({"a": {"x": X}, "b": other})
    with pytest.raises(DataError, match="holds no input"):
        joined({"a": {"lengths": np.zeros(2, int)}, "b": other})


def test_too_much_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "available_memory", lambda: 1000)
    with pytest.raises(DataError, match="give fewer sequences"):
        joined({"a": {"x": np.zeros((1, 100, 1))}, "b": {"x": np.zeros((1, 1, 1))}})
    with pytest.raises(DataError, match="give fewer sequences"):
        packed("x", [np.zeros((1000, 1))])


def test_packed() -> None:
    made = packed("x", [np.ones((2, 1)), np.ones((3, 1))], [4, 5])
    assert made["x"].dtype == np.float32
    assert made["x"][..., 0].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert made["labels"].tolist() == [4, 5]
    assert packed("x", [np.ones((2, 1)), np.ones((1, 1))], [np.array([1, 2]), np.array([3])])["labels"].tolist() == [
        [1, 2],
        [3, 0],
    ]
    with pytest.raises(DataError, match="name of what stands beside"):
        packed("lengths", [np.ones((2, 1))])
    with pytest.raises(DataError, match="no sequence"):
        packed("x", [])
