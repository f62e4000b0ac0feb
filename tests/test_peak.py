"""Limits of memory see what one program, or one case of a fuzzer, took: not what the process before it had."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from peak import CLEAR, forget_peak, peak

TESTS = Path(__file__).parent
MB = 1 << 20


def test_a_program_does_not_begin_with_the_peak_of_what_started_it() -> None:
    """The parent holds 2 GB for a moment, which ``ru_maxrss`` of its child would report."""
    child = "from peak import peak; print(peak())"
    parent = f"""
import subprocess, sys
from peak import peak
held = b"x" * {2 << 30}
del held
print(peak(), flush=True)
subprocess.run([sys.executable, "-c", {child!r}], check=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", parent], cwd=TESTS, capture_output=True, text=True, timeout=60, check=True
    )
    before, after = map(int, done.stdout.split())
    assert before > 2048 * MB
    assert after < 256 * MB


@pytest.mark.skipif(not CLEAR.exists(), reason="the kernel cannot forget a peak")
def test_a_case_is_measured_whatever_the_case_before_it_took() -> None:
    for size in (300, 100):
        before = forget_peak()
        held = np.ones(size * MB, np.uint8)
        del held
        assert 0.9 * size * MB < peak() - before < (size + 50) * MB
