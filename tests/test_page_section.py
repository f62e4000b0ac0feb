"""One section of a page is replaced, and the rest is left as it is."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

from page_section import section_of, with_section

PAGE = "# Page\n\nText.\n\n## One\n\nfirst\n\n## Two\n\nsecond\n"


def test_a_section_is_found_replaced_and_added() -> None:
    assert section_of(PAGE, "## One") == "## One\n\nfirst\n\n"
    assert section_of(PAGE, "## Two") == "## Two\n\nsecond\n"
    assert section_of(PAGE, "## Three") == ""
    assert with_section(PAGE, "## One", "## One\n\nnew\n") == PAGE.replace("first", "new")
    assert with_section(PAGE, "## Two", "## Two\n\nnew") == PAGE.replace("second", "new")
    assert with_section(PAGE, "## Three", "## Three\n\nthird") == f"{PAGE}\n## Three\n\nthird\n"
    for title in ("## One", "## Two"):
        assert with_section(PAGE, title, section_of(PAGE, title)) == PAGE
