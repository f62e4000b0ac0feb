"""One section of a page, which another tool than that of the page writes."""

from __future__ import annotations

DEFAULTS = "## The default beside its floor"
"""The section of docs/accuracy.md that tools/accuracy_page.py writes."""

WINDOWS = "## Convolutions and whole models"
"""The section of docs/benchmarks/devices.md that tools/bench_windows.py writes."""

MEMORY = "## Memory of `run` and `compare`"
"""The section of docs/large_data.md that tools/measure_memory.py writes."""

SMALL = "## A small LSTM with one input"
"""The section of docs/benchmarks/devices.md that tools/bench_small.py writes."""

EXPORTERS = "## Models as exporters write them"
"""The section of docs/conformance.md that tools/exporters.py writes."""

COVERAGE = "## Coverage"
"""The section of docs/tests.md that tools/measure_coverage.py writes."""

MINUTES = "## The minutes"
"""The section of docs/ten_tasks.md that tools/ten_tasks.py writes."""


def section_of(page: str, title: str) -> str:
    """Return the section that begins with the line ``title``, or nothing."""
    before, found, _ = _parts(page, title)
    return page[len(before) : len(before) + len(found)]


def with_section(page: str, title: str, text: str) -> str:
    """Return a page with the section replaced by ``text``, or with ``text`` added at its end."""
    before, found, after = _parts(page, title)
    if not text:
        return page
    return f"{before}{text.rstrip()}\n\n{after}" if found and after else f"{before.rstrip()}\n\n{text.rstrip()}\n"


def _parts(page: str, title: str) -> tuple[str, str, str]:
    """Return what comes before a section, the section, and what comes after it."""
    before, heading, rest = page.partition(f"{title}\n")
    own, next_heading, after = rest.partition("\n## ")
    if not heading:
        return page, "", ""
    return before, heading + own + ("\n" if next_heading else ""), f"## {after}" if next_heading else ""
