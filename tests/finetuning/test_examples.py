"""What trains a model is read from its arrays, and arrays that do not fit are refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from finetuning.classifiers import CLASSES, arrays, classifier
from qrnn.errors import DataError
from qrnn.finetuning.examples import examples, held_out
from qrnn.finetuning.goals import Goal, goal_of
from qrnn.model.float_model import FloatModel

N, T = 12, 6


def labels(*shape: int) -> Any:
    return np.random.default_rng(2).integers(0, CLASSES, shape)


def made(model: FloatModel, **more: Any) -> Any:
    data = {**arrays(N, T), **more}
    return examples(model, data, goal_of(model, data))


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"labels": labels(N)}, "last"),
        ({"labels": labels(N, T)}, "each"),
        ({"labels": np.ones((N, 1), np.int64), "label_lengths": np.ones(N, np.int64)}, "ctc"),
        ({"y": np.zeros((N, T, CLASSES))}, "targets"),
        ({}, "float"),
    ],
)
def test_the_goal_is_what_the_data_say(more: dict[str, Any], kind: str) -> None:
    found = made(classifier(), **more)
    assert found.goal.kind == kind
    assert found.goal.outputs == ("y",)
    assert "'y'" in str(found.goal)


@pytest.mark.parametrize(
    ("head", "classes", "values", "threshold"),
    [
        ("", 3, "scores", None),
        ("softmax", 3, "probabilities", None),
        ("sigmoid", 1, "probabilities", 0.5),
        ("", 1, "scores", 0.0),
    ],
)
@pytest.mark.parametrize("every", [True, False])
def test_what_the_output_is(head: str, classes: int, values: str, threshold: float | None, every: bool) -> None:
    goal = goal_of(classifier(every, head, classes), {"labels": labels(N)})
    assert (goal.kind, goal.values, goal.threshold, goal.classes) == ("last", values, threshold, max(2, classes))


def test_places_of_labels() -> None:
    data = arrays(N, T)
    last, each = labels(N), labels(N, T)
    found = made(classifier(), labels=last)
    rows, steps = found.places().where
    assert (rows == np.arange(N)).all()
    assert (steps == data["lengths"] - 1).all()
    found = made(classifier(), labels=each)
    rows, steps = found.places().where
    assert list(zip(rows.tolist(), steps.tolist(), strict=True)) == [
        (n, t) for n in range(N) for t in range(data["lengths"][n])
    ]
    assert (found.places().labels == each[rows, steps]).all()
    (rows,) = made(classifier(every=False), labels=last).places().where
    assert (rows == np.arange(N)).all()


def test_some_sequences_keep_what_belongs_to_them() -> None:
    each, targets = labels(N, T), np.random.default_rng(3).normal(size=(N, T, CLASSES))
    found = made(classifier(), labels=each)
    rows = np.flatnonzero(arrays(N, T)["lengths"] <= 4)
    part = found.take(rows)
    steps = part.batch.steps
    assert part.labels is not None
    assert (part.labels == each[rows, :steps]).all()
    part = made(classifier(), y=targets).take(rows)
    assert part.targets["y"].shape == (len(rows), steps, CLASSES)
    given = part.arrays()["x"]
    assert (given == arrays(N, T)["x"][rows, :steps]).all()
    assert sum(piece.size for piece in found.pieces(5)) == N


def test_values_at_padded_steps_do_not_count() -> None:
    data = arrays(N, T)
    padded = np.arange(T)[None, :] >= data["lengths"][:, None]
    each, targets = labels(N, T), np.zeros((N, T, CLASSES))
    each[padded], targets[padded] = -1, np.nan
    assert np.isfinite(made(classifier(), y=targets).targets["y"]).all()
    made(classifier(), labels=each)


def test_sequences_without_steps_are_left_out() -> None:
    data = arrays(N, T)
    data["lengths"][3] = 0
    model = classifier()
    found = examples(model, {**data, "labels": np.arange(N) % CLASSES}, goal_of(model, {"labels": labels(N)}))
    assert found.size == N - 1
    assert found.labels is not None
    assert (found.labels == np.delete(np.arange(N) % CLASSES, 3)).all()


def test_held_out_sequences_are_no_others() -> None:
    found = made(classifier(), labels=np.arange(N) % CLASSES)
    own, judged = held_out(found, 0.25, 7)
    again = held_out(found, 0.25, 7)
    assert (own.size, judged.size) == (9, 3)
    assert (own.digest(), judged.digest()) == (again[0].digest(), again[1].digest())
    assert judged.digest() != held_out(found, 0.25, 8)[1].digest()
    rows = np.concatenate([own.arrays()["x"][:, 0, 0], judged.arrays()["x"][:, 0, 0]])
    assert sorted(rows.tolist()) == sorted(arrays(N, T)["x"][:, 0, 0].tolist())
    with pytest.raises(DataError, match="3 sequences, of which none can be held out"):
        held_out(found.take(np.arange(3)), 0.5, 0)


CTC = {"labels": np.ones((N, 2), np.int64), "label_lengths": np.ones(N, np.int64)}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"labels": np.full(N, CLASSES)}, r"labels: value 3 at \[0\], expected a class of output 'y', 0…2"),
    ({"labels": np.full(N, -1)}, r"labels: value -1 at \[0\]"),
    ({"labels": np.zeros(N - 1, np.int64)}, r"labels: shape \[11\], expected \[12\]"),
    ({"labels": np.zeros((N, T + 1), np.int64)}, r"labels: shape \[12, 7\], expected \[12, 6\]"),
    ({"labels": np.zeros(N)}, "labels: type float64, expected integers"),
    ({"labels": labels(N), "y": np.zeros((N, T, CLASSES))}, "labels are given beside targets of 'y'"),
    ({"label_lengths": np.ones(N, np.int64)}, "label_lengths are given without labels"),
    ({**CTC, "label_lengths": np.ones(N)}, r"label_lengths: float64\[12\], expected integers \[12\]"),
    ({**CTC, "label_lengths": np.full(N, 3)}, r"label_lengths: value 3 at \[0\], expected 0…2"),
    ({**CTC, "labels": np.zeros((N, 2), np.int64)}, r"labels: 0 at \[0, 0\] is the blank"),
    ({**CTC, "label_lengths": np.full(N, 2)}, "sequence .* has 2, of which 1 repeat the one before.*at least 3"),
    ({"y": np.zeros((N, T, CLASSES + 1))}, r"targets of output 'y': shape \[12, 6, 4\], expected \[12, 6, 3\]"),
    ({"y": np.full((N, T, CLASSES), np.nan)}, "targets of output 'y': value nan at .*, expected a finite number"),
    ({"y": np.full((N, T, CLASSES), "a")}, "targets of output 'y': type <U1, expected real numbers"),
    ({"z": np.zeros(N)}, "array 'z' is not an input of the model"),
]


@pytest.mark.parametrize(("more", "says"), REFUSED)
def test_refused(more: dict[str, Any], says: str) -> None:
    data = {**arrays(N, T), **more}
    model = classifier()
    with pytest.raises(DataError, match=says):
        examples(model, data, goal_of(model, data))


def test_refused_by_the_goal() -> None:
    with pytest.raises(DataError, match="output 'z' is no output of the model"):
        goal_of(classifier(), {}, "z")
    with pytest.raises(DataError, match="blank=3, expected a class of output 'y', 0…2"):
        goal_of(classifier(), CTC, blank=3)
    with pytest.raises(DataError, match="two axes, but output 'y' is once for each sequence"):
        goal_of(classifier(every=False), {"labels": labels(N, T)})
    with pytest.raises(DataError, match="has 3 decisions a step; give targets"):
        goal_of(classifier(head="sigmoid"), {"labels": labels(N)})
    with pytest.raises(DataError, match="for CTC, but output 'y' has no scores of classes at every step"):
        goal_of(classifier(every=False), CTC)
    with pytest.raises(DataError, match="no targets of output 'y'"):
        examples(classifier(), arrays(), Goal("targets", ("y",)))
    with pytest.raises(DataError, match="validation data: no labels"):
        examples(classifier(), arrays(), Goal("last", ("y",), 3), "validation data")
