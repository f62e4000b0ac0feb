"""The errors of the other activations in docs/arithmetic.md are those that tools/arithmetic_figures.py prints."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_errors_of_every_activation(capsys: pytest.CaptureFixture[str]) -> None:
    document = (ROOT / "docs" / "arithmetic.md").read_text(encoding="utf-8")
    section = document.partition("### Every activation")[2].partition("\n### ")[0]
    quoted = re.findall(r"^\| (.+ \| Q\d+\.\d+ \| .+) \|$", section, re.M)
    assert runpy.run_path(str(ROOT / "tools" / "arithmetic_figures.py"))["main"](["gates"]) == 0
    printed = [line.strip() for line in capsys.readouterr().out.splitlines() if "| Q" in line]
    assert len(quoted) == 16
    assert quoted == printed
