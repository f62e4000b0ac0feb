"""Find out which compilers and emulators work on this machine; a test that needs another one is skipped, and the reason names it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")

PROGRAM = """
#include <stdint.h>
#include <stdio.h>
#include <string.h>
int main(void) { return (int)strlen("") + printf("%d", (int)sizeof(int64_t)) - 1; }
"""


def tool(name: str) -> str:
    """Return the path of a program; the test is skipped where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def compiler(name: str, *flags: str) -> str:
    """Return the path of a C compiler for this machine; the test is skipped unless it builds a program with ``flags`` that runs.

    A compiler can be there without the headers or libraries that a build needs: Debian's clang, for one, comes without its sanitizers.
    """
    return _working(name, flags, runs=True)


def cross_compiler(name: str, *flags: str) -> str:
    """Return the path of a compiler whose programs do not run here; the test is skipped unless it builds one."""
    return _working(name, flags, runs=False)


def _working(name: str, flags: tuple[str, ...], runs: bool) -> str:
    path = tool(name)
    problem = _problem(path, flags, runs)
    if problem:
        pytest.skip(f"{' '.join((Path(name).name, *flags))} builds no working program here: {problem}")
    return path


@cache
def _problem(path: str, flags: tuple[str, ...], runs: bool) -> str:
    """Return what goes wrong when a small program is built, and run where it ``runs``; empty where nothing does."""
    with tempfile.TemporaryDirectory(prefix="qrnn-") as folder:
        source, program = Path(folder, "probe.c"), Path(folder, "probe")
        source.write_text(PROGRAM)
        for command in ([path, *flags, str(source), "-o", str(program)], *([[str(program)]] if runs else [])):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[0]
    return ""
