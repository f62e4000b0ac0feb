"""Decisions by class, against a dense matrix; and what reports show of many classes."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from qrnn.accuracy.confusion import Agreement, Confusion
from qrnn.accuracy.decisions import MATRIX_CLASSES, MOST_CLASSES, SHOWN_CLASSES, Decisions

PAIRS = st.lists(st.tuples(st.integers(-1, 5), st.integers(0, 5)), min_size=1, max_size=60)


@given(PAIRS, st.integers(0, 60))
def test_counts_are_those_of_a_dense_matrix(pairs: list[tuple[int, int]], cut: int) -> None:
    """Labels may be numbers that are no class; data may come in pieces, empty ones too."""
    confusion, dense = Confusion(), np.zeros((7, 7), np.int64)
    for label, choice in pairs:
        dense[label + 1, choice + 1] += 1
    array = np.array(pairs)
    for piece in (array[:cut], array[cut:]):
        confusion.add(piece[:, 0], piece[:, 1])
    classes = confusion.classes
    assert classes == sorted({number for pair in pairs for number in pair})
    assert confusion.matrix(classes) == [[dense[a + 1, b + 1] for b in classes] for a in classes]
    for label, tally in confusion.by_class().items():
        assert tally == Agreement(int(dense[label + 1, label + 1]), int(dense[label + 1].sum()))
    mistakes = confusion.mistakes()
    assert sum(count for _, _, count in mistakes) == dense.sum() - np.trace(dense)
    assert [count for _, _, count in mistakes] == sorted((count for _, _, count in mistakes), reverse=True)


def decisions(classes: int, wrong: bool = True) -> Decisions:
    """Return decisions on 4 data of each class, of which the quantized model takes one for the next class, where ``wrong``."""
    labels = np.repeat(np.arange(classes), 4)
    decided = {
        "float": labels,
        "quantized": np.where(np.arange(len(labels)) % 4 == 0, (labels + wrong) % classes, labels),
    }
    found = Decisions("y", "argmax", "each sequence", agreement=Agreement(classes * (3 + (not wrong)), classes * 4))
    for source, choice in decided.items():
        found.correct[source] = Agreement(int((choice == labels).sum()), len(labels))
        found.confusion[source] = Confusion()
        found.confusion[source].add(labels, choice)
    return found


def page(found: Decisions) -> str:
    out = Console(file=io.StringIO(), width=80, color_system=None)
    with out.capture() as captured:
        found.render(out)
    return captured.get()


@pytest.mark.parametrize("classes", [2, MATRIX_CLASSES, SHOWN_CLASSES + 5, MOST_CLASSES + 6])
def test_what_is_shown_is_bounded_and_said(classes: int) -> None:
    found = decisions(classes)
    text, plain = page(found), found.to_dict()
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) < 60
    assert ("Confusion" in text) == (classes <= MATRIX_CLASSES)
    assert (f"of {classes} kinds of mistakes" in text) == (classes > MATRIX_CLASSES)
    assert (f"the {SHOWN_CLASSES} of {classes} classes with the most mistakes" in text) == (classes > SHOWN_CLASSES)
    assert plain["class_count"] == classes
    assert len(plain["classes"]) == min(classes, MOST_CLASSES)
    assert plain["classes"][0]["quantized"]["count"] == 3
    assert (plain["confusion"] is None) == (classes > MOST_CLASSES)
    json.dumps(plain, allow_nan=False)


def test_labels_may_be_any_numbers() -> None:
    """No matrix is made of labels that are as many as the data; a dense one of these would not fit into memory."""
    labels = np.arange(50_000) * 10**13
    found = Decisions(
        "y", "argmax", "each step", Agreement(1, 1), {"float": Agreement(0, 1), "quantized": Agreement(0, 1)}
    )
    for source in ("float", "quantized"):
        found.confusion[source] = Confusion()
        found.confusion[source].add(labels, np.zeros_like(labels) + 1)
    plain = found.to_dict()
    assert (plain["class_count"], len(plain["classes"]), plain["confusion"]) == (50_000, MOST_CLASSES, None)
    assert "of 50000 classes" in page(found)


def test_nothing_to_decide() -> None:
    """Data whose sequences all have no steps: no rate is known, and none is made up."""
    found = Decisions("y", "argmax", "each sequence", correct={"float": Agreement(), "quantized": Agreement()})
    plain = found.to_dict()
    assert plain["accuracy"]["float"] == {"count": 0, "total": 0, "rate": None, "confidence_95": [0.0, 1.0]}
    assert plain["accuracy_drop_points"] is None
    assert plain["classes"] == []
    json.dumps(plain, allow_nan=False)
    assert "accuracy" in page(found)


def test_no_mistake_is_said() -> None:
    assert "every class is recognized wherever it is" in page(decisions(3, wrong=False))


def test_the_worst_classes_are_listed() -> None:
    labels = np.repeat(np.arange(30), 3)
    found = Decisions(
        "y", "argmax", "each sequence", correct={"float": Agreement(0, 90), "quantized": Agreement(0, 90)}
    )
    for source in ("float", "quantized"):
        found.confusion[source] = Confusion()
        found.confusion[source].add(labels, np.where(labels < 25, labels, 0))
    assert found.worst_classes(5) == [25, 26, 27, 28, 29]
    assert found.worst_classes(30) == list(range(30))
