"""docs/ten_tasks.md: its tasks are those of its table of minutes, and their blocks run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from schemes import BYTES

import qrnn
from qrnn.examples import digits_calibration, digits_model, digits_test

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

from page_section import MINUTES, section_of
from ten_tasks import PAGE, Task, run_task, section, tasks

TEXT = PAGE.read_text(encoding="utf-8")
TASKS = tasks(TEXT)


def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user, in which ``qrnn`` and ``python`` are of this checkout."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, call in (("qrnn", f'"{sys.executable}" -m qrnn'), ("python", f'"{sys.executable}"')):
        (folder / name).write_text(f'#!/bin/sh\nexec {call} "$@"\n')
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_there_are_ten_tasks_after_the_set_up() -> None:
    assert [task.number for task in TASKS] == list(range(11))
    assert all(task.blocks for task in TASKS)


def test_the_table_of_minutes_has_every_task() -> None:
    minutes = section_of(TEXT, MINUTES)
    if not minutes:
        pytest.skip("the page has no minutes yet: python tools/ten_tasks.py writes them")
    named = re.findall(r"^\| (?:(\d+)\. )?(.*?) \|", minutes, re.MULTILINE)
    assert [(int(number or 0), title) for number, title in named if title not in ("task", "---", "together")] == [
        (task.number, task.title) for task in TASKS
    ]


def test_the_section() -> None:
    made = section({"Set-up": 60.0, "1. First": 30.0}, {"2. Second": "node"}, load=1.5)
    assert "| Set-up | 1.0 |\n| 1. First | 0.5 |\n| 2. Second | not done here: no node |\n| together | 1.5 |" in made


def test_data_files(tmp_path: Path) -> None:
    with_model = tmp_path / "work"
    with_model.mkdir()
    with np.load(digits_calibration()) as data:
        x = data["x"][:20]
    qrnn.save(qrnn.quantize(qrnn.load_onnx(digits_model()), {"x": x}, BYTES), with_model / "digits.qrnn")
    run_task(TASKS[4], with_model, environment(tmp_path))
    assert (with_model / "classes.txt").read_text().split() == ["high", "low"]
    assert (with_model / "scores.npz").is_file()


@pytest.mark.matrix
@pytest.mark.time_limit(900)
def test_every_task_but_those_that_install(tmp_path: Path) -> None:
    work, user = tmp_path / "work", environment(tmp_path)
    (work / "demo").mkdir(parents=True)
    for path in (digits_model(), digits_calibration(), digits_test()):
        shutil.copy(path, work / "demo")
    done = [task for task in TASKS[2:] if can_run(task)]
    for task in done:
        run_task(task, work, user)
    assert len(done) >= 5


def can_run(task: Task) -> bool:
    installs = any("pip install" in block for _, block in task.blocks)
    return not installs and all(shutil.which(need) for need in task.needs)
