"""Every kernel gives the bits of the reference on the device: the project's tests that need a GPU, several processes at a time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gpu_check.frame import ROOT, CheckError, Options, Result, Write

ORDER = 20
SECONDS = 170.0
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
"""Files and folders, those that take longest first; of them the tests with ``cuda`` in their names or folders."""

DRY_TESTS = (
    f"{CUDA}/on_device/test_kinds.py::test_every_kind[9-rnn-8-block]",
    f"{CUDA}/on_device/test_races.py::test_ten_thousand_times[block]",
    f"{CUDA}/on_device/test_runs.py::test_jordans_network",
    f"{CUDA}/on_device/test_libraries.py",
)
"""Of a dry run: one of each kind, since a simulated step takes long."""

MOST_PROCESSES = 12
"""They compile most of the time, and a core is left for the driver's threads."""

TEST_SECONDS = 100.0
"""A test that takes longer hangs: its process is ended and another one started."""

WRITE_SECONDS = 1.0
SPARE_SECONDS = 5.0
"""At the end, for the report to be written."""

SHOWN = 40
"""Failures that the page shows."""


def measure(options: Options, write: Write) -> None:
    """See `gpu_check.frame`."""
    with tempfile.TemporaryDirectory(prefix="exactness-") as folder:
        record = Path(folder) / "record.jsonl"
        record.touch()
        processes = 2 if options.dry_run else max(2, min(MOST_PROCESSES, (os.cpu_count() or 2) - 2))
        environment = dict(os.environ) | {
            "GPU_CHECK_RECORD": str(record),
            "GPU_CHECK_TEST_SECONDS": str(TEST_SECONDS),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "CI": "1",  # the same random cases each time
        }
        command = pytest_command(DRY_TESTS if options.dry_run else TESTS, processes)
        child = subprocess.Popen(command, cwd=ROOT, env=environment)
        late = False
        while child.poll() is None:
            try:
                child.wait(WRITE_SECONDS)
            except subprocess.TimeoutExpired:
                write(summary(record, processes, None))
            if options.left() < SPARE_SECONDS and not late:
                late = True
                child.kill()  # its workers are ended with this part's session
        result = summary(record, processes, child.returncode)
        write(result)
    if late:
        raise CheckError(f"not all tests ran within {options.seconds:.0f} s: {result['not_run']} are left")
    if result["failures"] or child.returncode != 0:
        raise CheckError(f"{len(result['failures'])} tests failed; pytest ended with {child.returncode}")


def pytest_command(tests: tuple[str, ...], processes: int) -> list[str]:
    """No plugins but those needed, and none of the project's settings: a warning of a newer package is reported and is no failure."""
    settings = ["addopts=", "filterwarnings=default", "xfail_strict=true"]
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "gpu_check.recorder"]
    command += ["-p", "xdist.plugin", "-n", str(processes), "--dist", "loadgroup", "--max-worker-restart", "1000"]
    if _has_reorder():
        command.append("--no-loadscope-reorder")
    for setting in settings:
        command += ["-o", setting]
    return [*command, "-m", "not long", "-k", "cuda", *tests]


def _has_reorder() -> bool:
    """Whether pytest-xdist (from 3.7 on) would start groups of many tests first, and can be told not to."""
    try:
        numbers = version("pytest-xdist").split(".")
        return (int(numbers[0]), int(numbers[1])) >= (3, 7)
    except (PackageNotFoundError, ValueError, IndexError):
        return False


def summary(record: Path, processes: int, status: int | None) -> Result:
    """What the recorder has written so far."""
    outcomes: dict[str, dict[str, Any]] = {}
    began: dict[str, None] = {}
    warnings: Counter[str] = Counter()
    collected = 0
    for line in record.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # a line of which half is written
        if event["event"] == "collected":
            collected = max(collected, event["count"])
        elif event["event"] == "began":
            began[event["test"]] = None
        elif event["event"] == "warning":
            warnings[event["text"]] += 1
        elif outcomes.get(event["test"], {}).get("outcome") != "failed":  # a failure stays one
            outcomes[event["test"]] = event
    groups: dict[str, Counter[str]] = {}
    for name, outcome in outcomes.items():
        group = groups.setdefault(group_of(name), Counter())
        group[outcome["outcome"]] += 1
        group["seconds"] += outcome["seconds"]
    skipped = Counter(line for o in outcomes.values() if o["outcome"] == "skipped" for line in o["lines"])
    return {
        "processes": processes,
        "status": status,
        "collected": collected,
        "not_run": max(0, collected - len(outcomes)),
        "groups": {name: dict(counts) for name, counts in sorted(groups.items())},
        "failures": [
            {"test": name, "lines": outcome["lines"]}
            for name, outcome in outcomes.items()
            if outcome["outcome"] == "failed"
        ],
        "unfinished": [name for name in began if name not in outcomes],
        "skipped": dict(skipped),
        "warnings": dict(warnings.most_common(40)),
        "properties": {name: o["properties"] for name, o in outcomes.items() if o.get("properties")},
        "slowest": dict(sorted(((name, o["seconds"]) for name, o in outcomes.items()), key=lambda item: -item[1])[:10]),
    }


def group_of(test: str) -> str:
    """A test's file and function."""
    path, _, name = test.partition("::")
    return f"{Path(path).stem}: {re.split(r'[[@]', name)[0]}" if name else Path(path).stem


def page(result: Result) -> str:
    """Markdown of the section."""
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
    """Text that is not read as Markdown."""
    return text.replace("|", "/").replace("_", "\\_").replace("*", "\\*").replace("`", "'")
