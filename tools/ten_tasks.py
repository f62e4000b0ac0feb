"""Do the tasks of docs/ten_tasks.md as a new user would, and write how long each took.

    python tools/ten_tasks.py [NUMBER …] [--keep FOLDER]

A new folder gets a link to this checkout, a new virtual environment, and an empty cache of compiled code; then every block of the page runs as
it stands. With numbers, only the set-up and these tasks run, and nothing is written.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from page_section import MINUTES, with_section
from provenance import ROOT, when

from qrnn.system.atomic import write_atomically

PAGE = ROOT / "docs" / "ten_tasks.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Task:
    """A task of the page: its blocks by their language, and the programs and modules that it needs. Number 0 is the set-up."""

    number: int
    title: str
    blocks: tuple[tuple[str, str], ...]
    needs: tuple[str, ...]


def tasks(page: str) -> list[Task]:
    """Return the set-up and the tasks of the page, in their order."""
    found = []
    for number, part in enumerate(re.split(r"^## ", page.split(f"{MINUTES}\n")[0], flags=re.MULTILINE)):
        title, _, text = part.partition("\n")
        named = re.search(r"^Needs: (.*?)(?: \(|[,;.][^`]*$|$)", text, re.MULTILINE)
        needs = tuple(re.findall(r"`([^`]+)`", named[1])) if named else ()
        blocks = tuple((language, block) for language, block in FENCE.findall(text))
        found.append(Task(number, title.partition(". ")[2] if number else "Set-up", blocks, needs))
    return found


def run_task(task: Task, folder: Path, environment: Mapping[str, str]) -> None:
    """Run the blocks of a task, one after the other; CalledProcessError with what was printed where one fails."""
    for language, block in task.blocks:
        call = ["python", "-c", block] if language == "python" else ["bash", "-euc", block]
        program = shutil.which(call[0], path=environment["PATH"]) or call[0]
        subprocess.run([program, *call[1:]], cwd=folder, env=dict(environment), check=True)


def section(times: Mapping[str, float], missing: Mapping[str, str], load: float) -> str:
    """Return the section of the times, seconds by task; ``missing`` are the programs without which a task was left out."""
    rows = [f"| {name} | {seconds / 60:.1f} |" for name, seconds in times.items()]
    rows += [f"| {name} | not done here: no {program} |" for name, program in missing.items()]
    return "\n".join([
        MINUTES,
        "",
        f"Made by `python tools/ten_tasks.py` on {when()}: {os.cpu_count()} cores, Python {platform.python_version()}, a new virtual",
        f"environment, nothing compiled before; downloads from a near mirror are in it. On average {load:.1f} processes were at work.",
        "",
        "| task | minutes |",
        "|---|---|",
        *rows,
        f"| together | {sum(times.values()) / 60:.1f} |",
        "",
    ])  # fmt: skip


def main() -> None:
    """Do the tasks; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("numbers", type=int, nargs="*", help="the tasks to do; all when left out")
    parser.add_argument("--keep", type=Path, help="do them in this folder, and leave it")
    parser.add_argument("--output", type=Path, default=PAGE)
    options = parser.parse_args()
    base = options.keep or Path(tempfile.mkdtemp(prefix="ten-tasks-"))
    base.mkdir(parents=True, exist_ok=True)
    page = PAGE.read_text(encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {
        "PATH": f"{base / 'env' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "QRNN_CACHE_DIR": str(base / "cache"),
        "PIP_QUIET": "1",
        "COLUMNS": "100",
    }
    times: dict[str, float] = {}
    missing: dict[str, str] = {}
    loads: list[float] = []
    try:
        (base / "qrnn").symlink_to(ROOT)
        for task in tasks(page):
            if options.numbers and task.number not in (0, *options.numbers):
                continue
            name = f"{task.number}. {task.title}" if task.number else task.title
            lacks = [n for n in task.needs if n != "torch" and shutil.which(n, path=environment["PATH"]) is None]
            if lacks:
                missing[name] = lacks[0]
                continue
            print(f"== {name}", flush=True)
            began = time.perf_counter()
            run_task(task, base / "work" if task.number else base, environment)
            times[name] = time.perf_counter() - began
            loads.append(os.getloadavg()[0])
            print(f"-- {times[name]:.1f} s", flush=True)
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: a block ended with status {error.returncode}:\n{error.cmd[-1]}")
    finally:
        if options.keep is None:
            shutil.rmtree(base)
    text = section(times, missing, sum(loads) / len(loads))
    print(text)
    if not options.numbers:
        write_atomically(options.output, with_section(page, MINUTES, text).encode())


if __name__ == "__main__":
    main()
