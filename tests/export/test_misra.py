"""Cppcheck and its MISRA addon say of exported C what docs/misra.md lists, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from installed import tool

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))
import misra


def test_a_model_has_only_listed_deviations() -> None:
    tool("cppcheck")
    assert misra.unlisted(misra.check("LSTM of 8 bits")) == []


@pytest.mark.matrix
@pytest.mark.time_limit(900)
def test_all_models_have_all_listed_deviations_and_no_other() -> None:
    tool("cppcheck")
    found = frozenset().union(*(misra.check(name) for name in misra.MODELS))
    assert misra.unlisted(found) == []
    assert misra.unused(found) == []


def test_the_page_has_the_list() -> None:
    listed = [
        line.split(" | ") for line in misra.PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")
    ]
    rows = {cells[0].strip("| "): (cells[1], *(cell.strip(" |") for cell in cells[3:])) for cells in listed[1:]}
    assert rows == {d.rule: (d.category, d.about, d.reason) for d in misra.deviations()}


def test_what_is_not_listed_is_named() -> None:
    findings = [
        misra.Finding("net.c", 7, "10.1", is_rule=True),
        misra.Finding("net.c", 8, "17.2", is_rule=True),
        misra.Finding("net.h", 9, "uninitvar", is_rule=False),
    ]
    assert misra.unlisted(findings) == ["net.c:8: 17.2", "net.h:9: uninitvar"]
    assert "10.1" not in misra.unused(findings)
    assert set(misra.unused(findings)) == {d.rule for d in misra.deviations()} - {"10.1"}
