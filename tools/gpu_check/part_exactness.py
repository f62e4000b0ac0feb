"""Run the project's tests that need a GPU, several processes at a time: every kernel must give the bits of the reference on the device."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from pathlib import Path

from gpu_check.frame import ROOT, CheckError, Options, Result, Write
from gpu_check.pool import Events, Pool, function_of

ORDER = 20
SECONDS = 130.0
TITLE = "Exactness"

CUDA = "tests/backends/cuda"
TESTS = (
    "tests/backends/test_exactness.py",
    f"{CUDA}/on_device/test_kinds.py",
    f"{CUDA}/on_device/test_races.py",
    f"{CUDA}/on_device",
    f"{CUDA}/simulated",
    "tests/backends/test_raw_layers.py",
    "tests/backends/test_golden.py",
    "tests/test_session.py",
    "tests/layers/test_quantized.py",
)
"""Files and folders, those that take longest first. Tests run that have ``cuda`` in their names or in those of their folders."""

DRY_TESTS = (
    f"{CUDA}/on_device/test_kinds.py::test_every_kind[9-rnn-8-block]",
    f"{CUDA}/on_device/test_races.py::test_ten_thousand_times[block]",
    f"{CUDA}/on_device/test_runs.py::test_jordans_network",
    f"{CUDA}/on_device/test_libraries.py",
)
"""The tests of a dry run are one of each sort, since a simulated step takes long."""

LONG = ("test_backend_equals_reference",)
"""Functions that run in processes of their own."""

MOST_PROCESSES = 14
"""The processes compile most of the time, and two cores are left for the driver's threads."""

COLLECT_SECONDS = 60.0
TEST_SECONDS = 90.0
"""A test that takes longer hangs: its process is ended and another one started."""

WRITE_SECONDS = 1.0
SPARE_SECONDS = 5.0
"""The time that is left at the end for the report to be written."""

SHOWN = 40
"""The number of failures that the page shows."""


def measure(options: Options, write: Write) -> None:
    """Measure the part; see `gpu_check.frame`."""
    tests = DRY_TESTS if options.dry_run else TESTS
    processes = 2 if options.dry_run else max(2, min(MOST_PROCESSES, (os.cpu_count() or 2) - 2))
    with tempfile.TemporaryDirectory(prefix="exactness-") as folder:
        pool = Pool(Path(folder), ROOT, processes, TEST_SECONDS)
        status = pool.collect("cuda", tests, COLLECT_SECONDS)
        write(summary(pool.events, processes))
        written = time.monotonic()
        for _ in pool.run(together, lambda: options.left() > SPARE_SECONDS):
            if time.monotonic() - written > WRITE_SECONDS:
                write(summary(pool.events, processes))
                written = time.monotonic()
        result = summary(pool.events, processes) | pool.kernels()
        write(result)
    if not pool.events.groups:
        raise CheckError(f"no tests were found: pytest ended with {status}")
    if result["failures"]:
        raise CheckError(f"{len(result['failures'])} tests failed, {result['not_run']} did not run")
    if result["not_run"]:
        raise CheckError(f"not all tests ran within {options.seconds:.0f} s: {result['not_run']} are left")


def together(test: str, group: str) -> str:
    """Name the process that a test runs in: its group's, or its file's where it has no group, or its own where it takes long."""
    name = function_of(test)
    return group or (name if name.partition("::")[2] in LONG else test.partition("::")[0])


def summary(events: Events, processes: int) -> Result:
    """Count what is known so far."""
    groups: dict[str, Counter[str]] = {}
    seconds: Counter[str] = Counter()
    for name, outcome in events.outcomes.items():
        groups.setdefault(group_of(name), Counter())[outcome["outcome"]] += 1
        seconds[group_of(name)] += outcome["seconds"]
    found = [{"name": name, **outcome} for name, outcome in events.outcomes.items()]
    return {
        "processes": processes,
        "collected": len(events.groups),
        "not_run": sum(test not in events.outcomes for test in events.groups),
        "groups": {name: {**counts, "seconds": seconds[name]} for name, counts in sorted(groups.items())},
        "failures": [{"test": o["name"], "lines": o["lines"]} for o in found if o["outcome"] == "failed"],
        "unfinished": sorted(events.began - events.outcomes.keys()),
        "skipped": Counter(line for o in found if o["outcome"] == "skipped" for line in o["lines"]),
        "warnings": dict(Counter(events.warnings).most_common(40)),
        "properties": {o["name"]: o["properties"] for o in found if o.get("properties")},
        "slowest": {o["name"]: o["seconds"] for o in sorted(found, key=lambda o: -o["seconds"])[:10]},
    }


def group_of(test: str) -> str:
    """Return a test's file and function, as the page names them."""
    path, _, name = function_of(test).partition("::")
    return f"{Path(path).stem}: {name}" if name else Path(path).stem


def page(result: Result) -> str:
    """Return Markdown of the section."""
    total = {
        outcome: sum(group.get(outcome, 0) for group in result["groups"].values())
        for outcome in ("passed", "failed", "skipped")
    }
    text = [
        f"{total['passed']} tests passed, {total['failed']} failed, {total['skipped']} were skipped and {result['not_run']} did not end; "
        f"in {result['processes']} processes on one device.",
        "",
        "| tests | passed | failed | skipped | seconds, summed |",
        "|---|---|---|---|---|",
    ]
    for name, group in result["groups"].items():
        counts = " | ".join(str(group.get(outcome, 0)) for outcome in ("passed", "failed", "skipped"))
        text.append(f"| {name.replace('_', ' ')} | {counts} | {group.get('seconds', 0.0):.1f} |")
    for name, found in result["properties"].items():
        text += ["", *(f"{_plain(name)}: {key} {value}." for key, value in found.items())]
    for title, counts in (("Skipped", result["skipped"]), ("Warnings", result["warnings"])):
        if counts:
            text += ["", f"{title}:", "", *(f"- {count} × {_plain(reason)}" for reason, count in counts.items())]
    if result["unfinished"]:
        text += ["", "Begun and not ended:", "", *(f"- {_plain(name)}" for name in result["unfinished"])]
    for failure in result["failures"][:SHOWN]:
        lines = [line.replace("```", "'''") for line in failure["lines"][-12:]]
        text += ["", f"**Failed:** {_plain(failure['test'])}", "", "```", *lines, "```"]
    if len(result["failures"]) > SHOWN:
        text += ["", f"{len(result['failures']) - SHOWN} more failures are in the JSON file."]
    return "\n".join(text)


def _plain(text: str) -> str:
    """Return text that is not read as Markdown."""
    return text.replace("|", "/").replace("_", "\\_").replace("*", "\\*").replace("`", "'")
