"""Scores are what their definitions say, and PyTorch's losses are the same."""

from __future__ import annotations

import itertools
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuning.classifiers import CLASSES, arrays, classifier, quantized
from qrnn.finetuning.examples import Examples, examples
from qrnn.finetuning.goals import goal_of
from qrnn.finetuning.scores import (
    Score,
    ctc_loss,
    decided,
    edit_distance,
    float_runner,
    log_probabilities,
    quantized_runner,
    score,
    with_followed,
)

N, T = 10, 6


def found(kind: str, head: str = "", classes: int = CLASSES) -> Examples:
    """Return examples with a goal of such a kind."""
    rng = np.random.default_rng(4)
    model = classifier(head=head, classes=classes)
    data = arrays(N, T)
    if kind == "last":
        data["labels"] = rng.integers(0, max(2, classes), N)
    elif kind == "each":
        data["labels"] = rng.integers(0, max(2, classes), (N, T))
    elif kind == "ctc":
        data |= {"labels": np.array([[1, 2]] * N), "label_lengths": np.minimum(data["lengths"], 2)}
    elif kind == "targets":
        data["y"] = rng.normal(size=(N, T, classes))
    return examples(model, data, goal_of(model, data))


@given(st.integers(1, 4), st.lists(st.integers(1, 2), max_size=3), st.integers(0, 2**32 - 1))
def test_ctc_is_the_sum_over_all_ways(steps: int, labels: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    chances = np.log(rng.dirichlet(np.ones(3), steps))
    ways = [
        path
        for path in itertools.product(range(3), repeat=steps)
        if [key for key, _ in groupby(path) if key != 0] == labels
    ]
    want = sum(np.exp(sum(chances[t, c] for t, c in enumerate(path))) for path in ways)
    got = ctc_loss(chances, np.array(labels, np.int64), 0)
    assert np.exp(-got) == pytest.approx(want, rel=1e-9, abs=1e-12)


@given(st.text("ab", max_size=6), st.text("ab", max_size=6))
def test_edit_distance(first: str, second: str) -> None:
    a, b = [ord(c) for c in first], [ord(c) for c in second]
    d = edit_distance(a, b)
    assert d == edit_distance(b, a)
    assert abs(len(a) - len(b)) <= d <= max(len(a), len(b))
    assert (d == 0) == (a == b)
    assert edit_distance([*a, 1], [*b, 1]) == d


@pytest.mark.parametrize("kind", ["last", "each"])
@pytest.mark.parametrize(("head", "classes"), [("", 3), ("softmax", 3), ("sigmoid", 1), ("", 1)])
def test_decisions_by_hand(kind: str, head: str, classes: int) -> None:
    judged = found(kind, head, classes)
    run = float_runner(judged.model)
    got = score(run, judged)
    values = run(judged.batch)["y"]
    places = judged.places()
    rows = values[places.where]
    if classes > 1:
        p = rows if head else np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
        p = p / p.sum(axis=1, keepdims=True)
        wrong = (rows.argmax(axis=1) != places.labels).sum()
    else:
        yes = rows[:, 0] if head else 1 / (1 + np.exp(-rows[:, 0]))
        p = np.stack([1 - yes, yes], axis=1)
        wrong = ((yes > 0.5) != places.labels).sum()
    assert (got.wrong, got.total) == (wrong, len(rows))
    assert got.loss == pytest.approx(-np.log(p[np.arange(len(p)), places.labels]).mean())


def test_noise_over_signal() -> None:
    judged = with_followed(found("float"))
    assert score(float_runner(judged.model), judged).loss == pytest.approx(0.0, abs=1e-12)
    model = quantized(judged.model, arrays(N, T))
    got = quantized_runner(model)(judged.batch)["y"]
    want = float_runner(judged.model)(judged.batch)["y"].astype(np.float32)
    expected = ((got - want) ** 2).sum() / (want.astype(np.float64) ** 2).sum()  # both are zero where steps are padded
    assert score(quantized_runner(model), judged).loss == pytest.approx(expected, rel=1e-9)
    assert "dB" in str(score(quantized_runner(model), judged))


def test_scores_are_ordered_by_decisions_then_loss() -> None:
    assert Score(9.0, 1, 10).key < Score(1.0, 2, 10).key < Score(2.0, 2, 10).key
    assert Score(0.1).key < Score(0.2).key
    assert Score(1.0, 1, 10).percent == 90.0


CASES: list[Any] = [
    ("last", "", 3),
    ("last", "sigmoid", 1),
    ("each", "", 1),
    ("each", "softmax", 3),
    ("ctc", "", 3),
    ("ctc", "softmax", 3),
    ("targets", "", 3),
    ("float", "", 3),
]


@pytest.mark.parametrize(("kind", "head", "classes"), CASES)
def test_losses_of_torch(kind: str, head: str, classes: int) -> None:
    torch = pytest.importorskip("torch")
    from qrnn.finetuning.losses import divergence, loss_of, powers

    judged = with_followed(found(kind, head, classes))
    outputs = {
        name: torch.tensor(v, requires_grad=True) for name, v in float_runner(judged.model)(judged.batch).items()
    }
    noisy = {name: 0.9 * v + 0.03 for name, v in outputs.items()}
    want = score(lambda _: {name: v.detach().numpy() for name, v in noisy.items()}, judged).loss
    power = powers(judged)
    got = loss_of(noisy, judged, power, 0.0)
    assert float(got.detach()) == pytest.approx(
        want, rel=2e-3 if head else 1e-5
    )  # probabilities are kept from 0 in another way
    got.backward()
    assert any(float(v.grad.abs().max()) > 0 for v in outputs.values())
    mixed = float(loss_of(noisy, judged, power, 0.25).detach())
    if judged.goal.of_labels:
        away = float(divergence(noisy, judged).detach())
        assert mixed == pytest.approx(0.75 * float(got.detach()) + 0.25 * away)
        assert float(divergence(outputs, judged).detach()) == pytest.approx(0.0, abs=1e-6)


def test_thresholds_decide_as_compare_does() -> None:
    judged = found("last", "sigmoid", 1)
    values = np.array([[0.4], [0.5], [0.6]])
    assert decided(values, judged.goal).tolist() == [0, 0, 1]
    chances = log_probabilities(values, judged.goal)
    assert np.exp(chances).sum(axis=1) == pytest.approx(1.0)
