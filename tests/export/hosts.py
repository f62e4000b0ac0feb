"""Targets with an operating system, where this machine can build for them and run what it built."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest

from qrnn.devices.hosts import build_program, find_host_compiler, run_program, runner_of
from qrnn.errors import DeviceError
from qrnn.export.layout import VECTORS
from qrnn.targets import Target, load_target, target_names

HOST_TARGETS = tuple(name for name in target_names() if load_target(name).host is not None)
VECTOR_TARGETS = tuple(name for name in HOST_TARGETS if load_target(name).core.kernels in VECTORS)


def host_target(name: str) -> Target:
    """The target; the test is skipped where its compiler, its library, or what runs its programs, is not installed."""
    problem = _problem(name)
    if problem:
        pytest.skip(problem)
    return load_target(name)


@cache
def _problem(name: str) -> str:
    """What goes wrong when a small program is built for the target and run; empty where nothing does."""
    target = load_target(name)
    with tempfile.TemporaryDirectory(prefix="qrnn-") as folder:
        source, program = Path(folder) / "probe.c", Path(folder) / "probe"
        source.write_text("int main(void) { return 0; }\n", encoding="utf-8")
        try:
            find_host_compiler(target)
            runner_of(target)
            build_program(target, [source], [], program, ())
            run_program(target, program, b"", 60)
        except DeviceError as error:
            return f"{' '.join(str(error).split())[:300]}; apt-get install {' '.join(target.host.packages if target.host else ())}"
    return ""
