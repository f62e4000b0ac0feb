"""The greedy search by itself, on points that are made up."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from qrnn.conversion.greedy import Greedy, Point

VALUES = dict.fromkeys("abc", ("8", "16"))
START = dict.fromkeys(VALUES, "8")


def search(noise: Mapping[str, float], cost: Mapping[str, float], rest: float = 0.5) -> Greedy:
    """Return a search where each part adds ``noise`` at 8 bits and none at 16, and ``cost`` at 16, to what is always there."""

    def measure(widths: Mapping[str, str]) -> Point:
        found = rest + sum(noise[name] for name, width in widths.items() if width == "8")
        return Point({"y": found}, sum(cost[name] for name, width in widths.items() if width == "16"))

    return Greedy(VALUES, measure, lambda widths: measure(widths).cost)


def wider(greedy: Greedy) -> str:
    widths = greedy.take_back(greedy.spend(START))
    return "".join(name for name, width in widths.items() if width == "16")


@pytest.mark.parametrize(
    ("noise", "cost", "expected"),
    [
        ({"a": 0.1, "b": 0.1, "c": 0.1}, {"a": 1, "b": 1, "c": 1}, ""),
        ({"a": 0.1, "b": 9.0, "c": 0.1}, {"a": 1, "b": 9, "c": 1}, "b"),
        ({"a": 3.0, "b": 9.0, "c": 0.1}, {"a": 1, "b": 9, "c": 1}, "ab"),
        ({"a": 0.502, "b": 0.0, "c": 0.0}, {"a": 5, "b": 1, "c": 1}, "a"),
        ({"a": 0.3, "b": 0.3, "c": 0.0}, {"a": 5, "b": 4, "c": 1}, "b"),
    ],
    ids=["nothing needed", "one", "two", "a little too much", "the cheaper of equals"],
)
def test_noise_is_brought_within_what_is_allowed(
    noise: dict[str, float], cost: dict[str, float], expected: str
) -> None:
    assert wider(search(noise, cost)) == expected


def test_nothing_is_spent_where_nothing_helps() -> None:
    greedy = search({"a": 0.0, "b": 0.0, "c": 0.0}, dict.fromkeys("abc", 1.0), rest=5.0)
    assert greedy.spend(START) == START


def test_figures_that_differ_in_their_last_bits_give_the_same_widths() -> None:
    for last in (0.0, 1e-15, -1e-15):
        assert wider(search({"a": 0.3, "b": 0.3 + last, "c": 0.0}, dict.fromkeys("abc", 1.0))) == "a"


def test_what_a_model_cannot_have_is_not_taken() -> None:
    greedy = search({"a": 2.0, "b": 1.0, "c": 0.0}, dict.fromkeys("abc", 1.0))
    possible = greedy.measure

    def measure(widths: Mapping[str, str]) -> Point:
        return Point({"y": math.inf}, math.inf) if widths["a"] == "16" else possible(widths)

    greedy.measure = measure
    assert wider(greedy) == "b"


def test_what_costs_nothing_and_is_better_is_taken() -> None:
    noise = {"8": 0.8, "16": 0.5, "fine": 0.3, "finer": 0.28, "dear": 0.1}
    cost = {"8": 0.0, "16": 1.0, "fine": 1.0, "finer": 1.0, "dear": 2.0}

    def measure(widths: Mapping[str, str]) -> Point:
        assert widths["a"] != "dear", "what costs more is not measured"
        return Point({"y": noise[widths["a"]]}, cost[widths["a"]])

    greedy = Greedy({"a": tuple(noise)}, measure, lambda widths: cost[widths["a"]])
    assert greedy.exchange({"a": "16"}) == {"a": "fine"}, "finer is too little better to change for"
    assert greedy.exchange({"a": "finer"}) == {"a": "fine"}, "and fine comes first"
    assert greedy.exchange({"a": "8"}) == {"a": "8"}
