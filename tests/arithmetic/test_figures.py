"""The figures in docs/arithmetic.md are those that tools/arithmetic_figures.py prints."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
from functools import cache
from pathlib import Path

import pytest

from qrnn.arithmetic import CONTRACT_VERSION

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "arithmetic.md").read_text(encoding="utf-8")
TOOL = runpy.run_path(str(ROOT / "tools" / "arithmetic_figures.py"))
EXACT = ("gates", "ramps", "sizes")
"""Sections whose figures depend on nothing but the contract."""


@cache
def printed(section: str) -> str:
    """What the tool prints of a section; the gates take seconds."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert TOOL["main"]([section]) == 0
    return out.getvalue()


def test_the_document_is_of_this_contract() -> None:
    assert DOCUMENT.startswith(f"# The numeric contract, version {CONTRACT_VERSION}\n")
    assert f"offsets-{CONTRACT_VERSION}.json" in DOCUMENT


def test_every_quoted_section_exists() -> None:
    quoted = set(re.findall(r"\[([a-z]{3,})\]", DOCUMENT))
    assert quoted == set(TOOL["SECTIONS"])


def test_gate_errors() -> None:
    rows = re.findall(
        r"^\| \**(\d+)\** \| \**([\d.]+)\** \| \**(\S+?)\** \| \**([\d.]+)\** \| \**(\S+?)\** \|$", DOCUMENT, re.M
    )
    own = re.findall(r"^ +(\d+) +([\d.]+) (\S+) +([\d.]+) (\S+)$", printed("gates"), re.M)
    assert len(own) == 8
    assert rows == own


def test_errors_of_every_activation() -> None:
    """The errors of the other activations."""
    section = DOCUMENT.partition("### Every activation")[2].partition("\n### ")[0]
    quoted = re.findall(r"^\| (.+ \| Q\d+\.\d+ \| .+) \|$", section, re.M)
    own = [line.strip() for line in printed("gates").splitlines() if "| Q" in line]
    assert len(quoted) == 18
    assert quoted == own


def test_figures_of_elementwise_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    tool = runpy.run_path(str(ROOT / "tools" / "measure_elementwise.py"))
    sizes = {name: size for name, (size, _) in tool["table_sizes"]().items()}
    text = " ".join(DOCUMENT.split())
    assert sizes["sqrt"] == sizes["ln"] == sizes["x^0.3"]
    assert f"x^0.3 have {sizes['sqrt']} entries, that of 1/x {sizes['1/x']}, that of e^x {sizes['e^x']}." in text
    low, high = tool["log_errors"]()
    assert -(2.0**-15) - 2.0**-17 < low < -(2.0**-15)
    assert 0 < high < 2.0**-19
    totals = [100 * tool["total_error"](features) for features in (10, 64, 1024)]
    quoted = "at worst {:.2f} % of itself for 10 features, {:.2f} % for 64 and {:.1f} % for 1024".format(*totals)
    assert quoted in text


@pytest.mark.parametrize("section", EXACT[1:])
def test_quoted_figures(section: str) -> None:
    out = printed(section)
    sentence = next(line for line in DOCUMENT.splitlines() if f"[{section}]" in line)
    figures = {
        "ramps": re.findall(r"it is (\d\.\d+)", sentence),
        "sizes": re.findall(r"\b(\d{3,6}) (?:columns|with)", sentence),
    }[section]
    assert len(figures) >= 2
    for figure in figures:
        assert re.search(rf"\b{re.escape(figure)}\b", out), figure


def test_figures_of_normalizations(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the table and the sentences about int32 sums, of the sizes that they name; the last digit may differ with NumPy's."""
    assert runpy.run_path(str(ROOT / "tools" / "measure_norm.py"))["main"]([]) == 0
    layer, _, sums = re.split(r"^(?=RMS|int32)", capsys.readouterr().out, flags=re.M)
    cell = r"([\d.]+) / *([\d.]+) \(([\d.]+)\)"
    text = "\n".join(line for line in DOCUMENT.splitlines() if re.match(rf"^\| \d+ \| {cell}", line))
    quoted, own = ([float(v) for row in re.findall(cell, part) for v in row] for part in (text, layer))
    assert len(quoted) == len(own) == 5 * 4 * 3
    assert quoted == pytest.approx(own, abs=0.1)
    proved, calibrated, exact = map(float, re.findall(r"^ +64 +([\d.]+) +([\d.]+) +([\d.]+)$", sums, re.M)[0])
    paragraph = DOCUMENT[DOCUMENT.index("*int32 sums.*") :].partition("\n\n")[0]
    for figure in (proved, calibrated, exact):
        assert re.search(rf"\b{figure:.1f}\b", paragraph), figure
