"""The page about published networks: sizes, and that its tables hold together. Counting is `tools/bench_claims.py`'s own work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

from bench_claims import ACTIVITIES, KEYWORDS, SENSORS, SPEECH, Counted, page

from qrnn.targets import load_target

WEIGHTS = {
    "basic LSTM, small": 4 * 118 * (10 + 118) + 12 * 118,
    "LSTM, small": 4 * 144 * (10 + 98) + 98 * 144 + 12 * 98,
    "GRU, small": 3 * 154 * (10 + 154) + 12 * 154,
    "CRNN, small": 48 * 40 + 3 * 60 * (4 * 48 + 60) + 3 * 60 * 120 + 84 * 60 + 12 * 84,
}
"""The weights of the networks, by hand from the published sizes."""


@pytest.mark.parametrize("net", [net for net in KEYWORDS if net.name in WEIGHTS], ids=lambda net: net.name)
def test_sizes(net: object) -> None:
    model = net.model()  # type: ignore[attr-defined]
    weights = sum(array.size for layer in model.layers for array in matrices(layer))
    assert weights == WEIGHTS[net.name]  # type: ignore[attr-defined]


def matrices(layer: object) -> list:
    found = []
    for direction in getattr(layer, "directions", ()):
        found += [direction.weight_ih, direction.weight_hh]
        if direction.projection is not None:
            found.append(direction.projection.weight)
    weight = getattr(layer, "weight", None)
    return found + ([] if weight is None else [weight])


def test_page() -> None:
    def counted(nets: tuple, boards: tuple[str, ...]) -> list[Counted]:
        return [
            Counted(n, load_target(b), 1e6, 50_000, 2_000, 3e6, 12.5, "gcc", "traced") for n in nets for b in boards
        ]

    text = page("command", "today", counted(KEYWORDS, SPEECH), counted(ACTIVITIES, SENSORS))
    assert max(map(len, text.splitlines())) < 260
    assert text.count("| 12.5 | 12.5 |") == len(KEYWORDS) + len(ACTIVITIES)
    assert "163.0 times less than the published 2,038 ms" in text
