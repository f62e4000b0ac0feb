"""What a run takes: the default keeps every value, the shards are together everything, and every test ends."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from selection import covering, parse_shard

TESTS = Path(__file__).parent

SUITE = """
import time
import pytest

@pytest.mark.wide
@pytest.mark.shard_by("size")
@pytest.mark.parametrize("size", range(6))
@pytest.mark.parametrize("isa", "abc")
def test_wide(size, isa):
    pass

@pytest.mark.wide("isa", keep=4)
@pytest.mark.parametrize("size", range(6))
@pytest.mark.parametrize("isa", "abc")
def test_of_isas(size, isa):
    pass

@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("size", range(6))
def test_samples(size):
    pass

def test_plain():
    pass

@pytest.mark.matrix
def test_whole():
    pass
"""

SLOW = """
import time
import pytest

@pytest.mark.time_limit(0.5)
def test_slow():
    time.sleep(60)

def test_next():
    pass
"""

STUCK = """
import signal
import time
import pytest
import time_limit

time_limit.GRACE = 0.5

@pytest.mark.time_limit(0.5)
def test_stuck():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    time.sleep(60)
"""


def run(
    folder: Path, source: str, *options: str, case: str = "", python: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run pytest on a file, or a case of it, with this project's options and hooks; ``python`` are the interpreter's options."""
    (folder / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (folder / "test_it.py").write_text(source)
    command = [
        sys.executable,
        *python,
        "-m",
        "pytest",
        "-c",
        TESTS.parent / "pyproject.toml",
        "--rootdir",
        folder,
        f"{folder}/test_it.py{case}",
    ]
    command += ["-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=60, check=False)


def taken(folder: Path, *options: str) -> set[str]:
    """Return the tests that a run takes."""
    done = run(folder, SUITE, "--collect-only", "-q", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return {line.partition("::")[2] for line in done.stdout.splitlines() if "::" in line}


def test_the_default_run_keeps_every_value(tmp_path: Path) -> None:
    default = taken(tmp_path)
    wide = [name.removeprefix("test_wide[")[:-1].split("-") for name in default if name.startswith("test_wide")]
    assert {isa for isa, _ in wide} == set("abc")
    assert {size for _, size in wide} == set("012345")
    assert len(wide) == 6
    assert sum(name.startswith("test_of_isas") for name in default) == 4
    assert sum(name.startswith("test_samples") for name in default) == 2
    assert "test_plain" in default
    assert "test_whole" not in default


@pytest.mark.matrix
def test_shards_are_together_everything(tmp_path: Path) -> None:
    """Each test of the matrix is in one shard, with all others of its key."""
    matrix = taken(tmp_path, "-m", "matrix")
    shards = [taken(tmp_path, "-m", "matrix", "--shard", f"{k}/2") for k in range(2)]
    assert set.union(*shards) == matrix
    assert sum(map(len, shards)) == len(matrix) == 12 + 14 + 4 + 1
    for size in range(6):
        assert sum(any(f"test_wide[{isa}-{size}]" in shard for isa in "abc") for shard in shards) == 1
    assert taken(tmp_path, "-m", "not long", "--shard", "1/2") == shards[1] | taken(tmp_path)


def test_a_case_that_is_named_is_run(tmp_path: Path) -> None:
    cases = {
        f"test_it.py::test_wide[{isa}-{size}]": {"isa": isa, "size": size} for isa in range(3) for size in range(6)
    }
    named = {
        name.replace(f"[{k}-", f"[{isa}-"): values
        for name, values in cases.items()
        for k, isa in enumerate("abc")
        if f"[{k}-" in name
    }
    case = min(named.keys() - covering(named, ("isa", "size")))
    assert "1 passed" in run(tmp_path, SUITE, "-q", case=case.removeprefix("test_it.py")).stdout


@pytest.mark.parametrize("text", ["", "1", "4/4", "-1/4", "a/4", "1/0"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(pytest.UsageError, match="expected K/N"):
        parse_shard(text)


def test_a_covering_depends_on_the_cases_alone() -> None:
    cases = {f"{a}-{b}": {"a": a, "b": b} for a in range(5) for b in range(7)}
    again = dict(reversed(cases.items()))
    assert covering(cases, ("a", "b")) == covering(again, ("a", "b"))
    assert len(covering(cases, ("a", "b"))) == 7


def test_a_slow_test_fails_and_the_next_is_run(tmp_path: Path) -> None:
    """The slow test fails on a busy machine too, where its limit is longer."""
    done = run(tmp_path, SLOW)
    assert "Failed: call took more than 0.5 s" in done.stdout
    assert "time.sleep(60)" in done.stdout
    assert "1 failed, 1 passed" in done.stdout


def test_a_test_that_does_not_come_back_is_ended(tmp_path: Path) -> None:
    done = run(tmp_path, STUCK)
    assert done.returncode == 1
    assert "Timeout (0:00:01)!" in done.stderr
    assert "in test_stuck" in done.stderr


@pytest.mark.matrix
def test_a_run_closes_what_it_opened(tmp_path: Path) -> None:
    done = run(tmp_path, "def test_nothing():\n    pass\n", python=("-X", "dev"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ResourceWarning" not in done.stderr


BUSY = """
import subprocess
import sys
import time
import pytest

SPIN = "import time; end = time.process_time() + 0.4\\nwhile time.process_time() < end: pass"

def test_of_its_own():
    exec(SPIN)

def test_of_a_program():
    subprocess.run([sys.executable, "-c", SPIN], check=True)

def test_that_waits():
    time.sleep(0.3)
"""


@pytest.mark.parametrize(
    "options", [(), pytest.param(("-n", "2"), marks=pytest.mark.matrix)], ids=["one process", "two"]
)
def test_the_processor_time_of_tests_and_their_programs_is_printed(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run(tmp_path, BUSY, "--cpu-seconds", "2", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "s of processor time in 3 tests" in done.stdout
    seconds = {
        name: float(value) for value, name in re.findall(r"^ *([\d.]+) s test_it.py::(\w+)$", done.stdout, re.MULTILINE)
    }
    assert seconds.keys() == {"test_of_its_own", "test_of_a_program"}
    assert all(0.35 < value < 4.0 for value in seconds.values()), (
        seconds
    )  # 0.4 s, by a clock of 10 ms, and what starts a program
