"""tools/bench_windows.py: its section of docs/benchmarks/devices.md, from one small layer."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import bench_windows
from bench_windows import Row, Shape
from page_section import WINDOWS, section_of, with_section

import qrnn
from qrnn.devices.toolchain import toolchains

SMALL = Shape(2, 4, 3, 3, 5)
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "devices.md"


@pytest.fixture(scope="module")
def row() -> Row:
    target = qrnn.load_target("cortex-m4")
    if not toolchains(target):
        pytest.skip("no compiler for cortex-m4")
    found = bench_windows.run(str(SMALL), SMALL.quantized(), target, None)
    if found.refused is not None:
        pytest.skip(found.refused)
    return found


def test_the_section(row: Row) -> None:
    assert row.needs is not None
    assert row.needs.instructions is not None
    assert (row.compared, row.difference) == ("1, 30", None)
    assert row.multiply_adds == 5 * 4 * 2 * 3 * 3
    wrong = replace(row, what="net", difference="sequence 0, output y[0, 1]: 5, expected 4")
    refused = replace(row, what="other", needs=None, refused="no compiler")
    text = bench_windows.section([row, refused], [wrong, refused], {"net": "conv 360"}, "Made now.")
    each = row.needs.instructions / 360
    assert f"| 2 → 4, 3×3, 5 bands | cortex-m4 | all equal | 360 | {row.needs.instructions:,.0f} | {each:.2f} |" in text
    assert "| other | cortex-m4 | – | 360 | no compiler |" in text
    assert "| net | cortex-m4 | 1, 30 | sequence 0, output y[0, 1]: 5, expected 4 | 360 |" in text
    assert "- net: conv 360" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows[:4]} == {10}
    assert {line.count("|") for line in rows[4:]} == {12}


def test_the_section_is_replaced_and_the_rest_is_kept() -> None:
    page = "# Page\n\n## First\n\na\n\n## Last\n\nb\n"
    once = with_section(page, WINDOWS, f"{WINDOWS}\n\nold\n")
    twice = with_section(once, WINDOWS, f"{WINDOWS}\n\n### Part\n\nnew\n")
    assert section_of(twice, WINDOWS) == f"{WINDOWS}\n\n### Part\n\nnew\n"
    assert "old" not in twice
    assert twice.startswith(page.rstrip())


def test_names_of_layers() -> None:
    assert [str(shape) for shape in (Shape(32, 32, 1), Shape(1, 8, 3, 3, 32), Shape(4, 4, 5, groups=4, bits=16))] == [
        "32 → 32, 1 tap",
        "1 → 8, 3×3, 32 bands",
        "depthwise 4 → 4, 5 taps, 16 bits",
    ]
    assert str(Shape(8, 8, 3, groups=2)) == "2 groups, 8 → 8, 3 taps"


def test_sequences_are_padded() -> None:
    found = bench_windows.padded("x", np.arange(6.0).reshape(3, 2), np.array([1, 2]))
    assert found["x"].tolist() == [[[0, 1], [0, 0]], [[2, 3], [4, 5]]]
    assert found["lengths"].tolist() == [1, 2]


def test_the_page_has_the_section() -> None:
    """The page has a row for every layer that is measured, on every target, and no run that differs from the host."""
    section = section_of(PAGE.read_text(encoding="utf-8"), WINDOWS)
    for target in bench_windows.TARGETS:
        for shape in bench_windows.SHAPES:
            assert f"| {shape} | {target} | all equal |" in section
        for model in bench_windows.MODELS:
            assert f"| {model} | {target} |" in section
    assert "expected" not in section
