"""The page of a whole run of the tests says what pytest's files say."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

from runs_page import Run, page, read

XML = """<?xml version="1.0"?><testsuites><testsuite name="pytest" errors="1" failures="2" skipped="3" tests="1500" time="150.0">
<testcase/></testsuite></testsuites>"""


def test_the_page_holds_the_counts(tmp_path: Path) -> None:
    (tmp_path / "default.xml").write_text(XML)
    run = read(tmp_path / "default.xml")
    assert run == Run("default", 1494, 3, 3, 150.0)
    lines = page([run, Run("matrix-0", 6, 0, 0, 30.0)]).splitlines()
    assert "| default | 1,494 | 3 | 3 | 2.5 |" in lines
    assert "| together | 1,500 | 3 | 3 | 3.0 |" in lines
