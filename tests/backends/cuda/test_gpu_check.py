"""tools/gpu_check without a GPU: the whole command in Numba's simulator, and parts that fail, crash and hang."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

sys.path.append(str(Path(__file__).resolve().parents[3] / "tools"))

from gpu_check import command, part_exactness, part_sanitizer, pool, process, report
from gpu_check.frame import CheckError, Options, load_part, part_names

from qrnn.backends import available_backends

ROOT = Path(__file__).resolve().parents[3]
TOOL = ROOT / "tools" / "gpu_check"
PARTS = [load_part(name) for name in part_names()]
needs_numba_cuda = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed (pip install -e '.[dev]')"
)


def environment(**more: str) -> dict[str, str]:
    """Return an environment without this checkout on the path: the command finds it by itself."""
    left_out = ("PYTHONPATH", "NUMBA_ENABLE_CUDASIM")
    return {key: value for key, value in os.environ.items() if key not in left_out} | more


def check(*arguments: str, tool: Path = TOOL) -> subprocess.CompletedProcess[str]:
    """The command, as a user starts it from another folder."""
    words = [sys.executable, str(tool), *arguments]
    path = {} if tool == TOOL else {"PYTHONPATH": str(ROOT)}  # a copy of the command is beside no qrnn
    return subprocess.run(
        words, env=environment(**path), cwd="/", capture_output=True, text=True, timeout=300, check=False
    )


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "gpu_check.json").read_text(encoding="utf-8"))
    return found


# --- the parts as they are -------------------------------------------------------------------------------------------------------------


def test_parts_are_what_the_frame_wants() -> None:
    assert {"device", "exactness", "sanitizer", "latency"} <= {part.name for part in PARTS}
    assert len({part.order for part in PARTS}) == len({part.title for part in PARTS}) == len(PARTS)
    assert sum(part.seconds for part in PARTS) < 450, "the whole command has 8 minutes"
    assert all(callable(part.module.measure) and callable(part.module.page) for part in PARTS)


def test_the_process_that_all_parts_share_imports_nothing_of_cuda() -> None:
    code = "from gpu_check.command import *\nfor name in part_names(): load_part(name)\nimport sys; print(' '.join(sys.modules))"
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tools")))
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(PYTHONPATH=path), capture_output=True, text=True, timeout=60, check=True
    )  # fmt: skip
    assert "numba.cuda" not in done.stdout.split()
    assert "gpu_check.command" in done.stdout.split()


@needs_numba_cuda
@pytest.mark.parametrize(
    "chosen",
    [("device",), pytest.param(tuple(part.name for part in PARTS), marks=pytest.mark.matrix)],
    ids=["one", "all"],
)
def test_a_dry_run(chosen: tuple[str, ...], tmp_path: Path) -> None:
    """The whole command takes about 40 s of processor time."""
    done = check("--dry-run", "--parts", *chosen, "--output", str(tmp_path / "out"))
    log = (tmp_path / "out" / "log.txt").read_text(encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr + log
    found = results(tmp_path / "out")
    assert found["parts"].keys() == set(chosen)
    assert all(record["state"] == "ok" and record["result"] for record in found["parts"].values())
    page = (tmp_path / "out" / "gpu_check.md").read_text(encoding="utf-8")
    assert all(f"## {part.title}\n" in page for part in PARTS if part.name in chosen)
    assert "cannot be made" not in page
    assert "A dry run" in page
    assert (
        len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) <= 8
    )  # what a lent machine may give back
    if "exactness" in chosen:
        exactness = found["parts"]["exactness"]["result"]
        assert exactness["not_run"] == 0 < exactness["collected"]
        assert sum(group.get("passed", 0) for group in exactness["groups"].values()) >= 3
    refused = check("--page", str(tmp_path / "out" / "gpu_check.json"), "--output", str(tmp_path / "page.md"))
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "dry run" in refused.stderr
    assert not (tmp_path / "page.md").exists()


@pytest.mark.skipif("cuda" in available_backends(), reason="there is a GPU here")
@pytest.mark.skipif(command.has_driver(), reason="there is a driver here")
def test_without_a_gpu_it_ends_with_one_line(tmp_path: Path) -> None:
    done = check("--output", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no GPU to check: backend 'cuda': " in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_is_found_without_a_gpu_but_with_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the part that finds out what is wrong runs."""
    monkeypatch.setattr(command, "has_driver", lambda: True)
    monkeypatch.setattr(command, "_self", lambda: [sys.executable, "-c", "import sys; print('no device'); sys.exit(2)"])
    assert command.main(["--output", str(tmp_path)]) == 2
    assert results(tmp_path)["parts"].keys() == {"device"}
    assert results(tmp_path)["device"] == "no device"


def test_a_toolkit_that_no_variable_names_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numba-cuda looks for NVVM where CUDA_HOME says, and an image may have `nvcc` on the path alone."""
    compiler = tmp_path / "cuda" / "bin" / "nvcc"
    for folder in (compiler.parent, tmp_path / "cuda" / "nvvm", tmp_path / "links"):
        folder.mkdir(parents=True)
    compiler.touch(mode=0o755)
    (tmp_path / "links" / "nvcc").symlink_to(compiler)
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(command, "TOOLKITS", ())
    monkeypatch.setenv("PATH", str(tmp_path / "links"))
    found = command.child_environment(dry_run=False)
    assert found["CUDA_HOME"] == found["CUDA_PATH"] == str(tmp_path / "cuda")
    assert found["PYTHONPATH"].split(os.pathsep)[:2] == [str(ROOT), str(ROOT / "tools")]
    assert "NUMBA_ENABLE_CUDASIM" not in found or "NUMBA_ENABLE_CUDASIM" in os.environ
    monkeypatch.setenv("CUDA_PATH", "/theirs")
    assert command.child_environment(dry_run=True).get("CUDA_HOME") is None
    assert command.child_environment(dry_run=True)["NUMBA_ENABLE_CUDASIM"] == "1"
    (tmp_path / "cuda" / "nvvm").rmdir()
    assert command.find_toolkit() is None


def test_a_part_that_does_not_exist_is_refused() -> None:
    done = check("--parts", "devices")
    assert done.returncode == 2
    assert "invalid choice: 'devices'" in done.stderr


# --- the frame, with parts that are made up --------------------------------------------------------------------------------------------

MADE_UP = {
    "hangs": """
        import os, subprocess, sys, time
        def measure(options, write):
            write({"step": 1})
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
            write({"step": 2, "child": child.pid})
            time.sleep(600)
    """,
    "crashes": """
        import os, signal
        def measure(options, write):
            write({"before": float("nan")})
            print("about to crash", flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
    """,
    "raises": """
        def measure(options, write):
            write({"kept": True})
            raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")
    """,
    "finds": """
        from gpu_check.frame import CheckError
        def measure(options, write):
            raise CheckError("3 of 5 are wrong")
    """,
    "import_fails": "import a_module_that_does_not_exist",
    "page_fails": """
        def measure(options, write):
            write({"x": 1})
        def page(result):
            raise KeyError("y")
    """,
    "works": """
        def measure(options, write):
            write({"dry_run": options.dry_run, "earlier": sorted(options.results), "step": options.results["hangs"]["step"]})
    """,
}


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    """A copy of the frame with the parts above, in that order."""
    tool = tmp_path / "tools" / "gpu_check"
    tool.mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "provenance.py", tool.parent)
    for path in TOOL.glob("*.py"):
        if not path.name.startswith("part_"):
            shutil.copy(path, tool)
    for number, (name, body) in enumerate(MADE_UP.items()):
        head = f"ORDER, SECONDS, TITLE = {number}, {1.0 if name == 'hangs' else 10.0}, 'It {name}'\n"
        lines = [line.removeprefix(" " * 8) for line in body.splitlines()]
        own = "" if "def page" in body else "def page(result):\n    return f'Result: {result}'\n"
        (tool / f"part_{name}.py").write_text(head + own + "\n".join(lines), encoding="utf-8")
    return tool


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_no_part_stops_the_next(made_up: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = check("--dry-run", "--output", str(out), tool=made_up)
    assert done.returncode == 1, done.stderr
    parts = results(out)["parts"]
    assert {name: record["state"] for name, record in parts.items()} == {
        "hangs": "killed at its limit", "crashes": "crashed (SIGSEGV)", "raises": "failed", "finds": "failed",
        "import_fails": "failed", "page_fails": "ok", "works": "ok",
    }  # fmt: skip
    assert parts["hangs"]["result"]["step"] == 2
    assert not alive(parts["hangs"]["result"]["child"])
    assert "part_hangs.py" in parts["hangs"]["said"], "where it hung"
    assert parts["crashes"]["result"] == {"before": None}
    assert "about to crash" in parts["crashes"]["said"]
    assert parts["raises"]["result"] == {"kept": True}
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in parts["raises"]["said"]
    assert parts["raises"]["limit"] > 40, "what is left of a part's time goes to the next"
    assert parts["finds"]["said"] == "finds: 3 of 5 are wrong\n"
    assert "a_module_that_does_not_exist" in parts["import_fails"]["said"]
    assert parts["works"]["result"] == {
        "dry_run": True, "earlier": ["crashes", "hangs", "page_fails", "raises"], "step": 2,
    }  # fmt: skip
    page = (out / "gpu_check.md").read_text(encoding="utf-8")
    for text in (
        "| It hangs | killed at its limit |",
        "3 of 5 are wrong",
        "cannot be made: KeyError: 'y'",
        "'step': 2",
    ):
        assert text in page
    assert "about to crash" in (out / "log.txt").read_text(encoding="utf-8")


@pytest.mark.matrix
def test_results_are_written_at_once(made_up: Path, tmp_path: Path) -> None:
    """While the part still runs: a kill of everything then loses nothing."""
    part = made_up / "part_hangs.py"
    part.write_text(
        part.read_text(encoding="utf-8").replace("SECONDS, TITLE = 0, 1.0", "SECONDS, TITLE = 0, 60.0"),
        encoding="utf-8",
    )
    out = tmp_path / "out"
    words = [sys.executable, str(made_up), "--dry-run", "--parts", "hangs", "--output", str(out)]
    with subprocess.Popen(words, env=environment(PYTHONPATH=str(ROOT)), stdout=subprocess.DEVNULL) as running:
        try:
            end = time.monotonic() + 60
            while time.monotonic() < end and not (out / "gpu_check.json").exists():
                time.sleep(0.05)
            while time.monotonic() < end and results(out)["parts"]["hangs"]["result"].get("step") != 2:
                time.sleep(0.05)
            found = results(out)["parts"]["hangs"]
            assert (found["state"], found["result"]["step"]) == ("running", 2)
            while time.monotonic() < end and "'step': 2" not in (out / "gpu_check.md").read_text(encoding="utf-8"):
                time.sleep(0.05)
            assert "'step': 2" in (out / "gpu_check.md").read_text(encoding="utf-8")
        finally:
            running.terminate()
    assert results(out)["parts"]["hangs"]["result"]["step"] == 2
    assert not alive(found["result"]["child"])


def test_a_long_output_leaves_a_log_that_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOG_BYTES", 1000)
    code = "print('begin'); print('x' * 100000); print('end')"
    ended = process.run_limited([sys.executable, "-c", code], 30, tmp_path / "log")
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert ended.state == "ok"
    assert log.startswith("begin\n")
    assert log.endswith("[the rest of this output is left out]\n")
    assert len(log) < 1100
    assert ended.said.endswith("end\n")


def made_document(**more: Any) -> dict[str, Any]:
    record = vars(report.Record("Device and versions", 10.0, "failed", 1.0, "it ``` failed"))
    head = {"command": "python tools/gpu_check", "date": "2026-01-01", "device": "Made-up H100", "dry_run": False}
    return {"format": report.FORMAT, **head, "code": report.code_digest(), "parts": {"device": record}} | more


def test_the_page_names_the_revision_that_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Measured where there is no Git, it is this checkout's if the code is the same, and otherwise nobody knows."""
    source, output = tmp_path / "r.json", tmp_path / "page.md"

    def make(document: dict[str, Any]) -> int:
        source.write_text(json.dumps(document), encoding="utf-8")
        return command.main(["--page", str(source), "--output", str(output)])

    assert make(made_document(revision="abcdef0")) == 0
    assert "at revision abcdef0 with Made-up H100." in output.read_text(encoding="utf-8")
    assert "it ''' failed" in output.read_text(encoding="utf-8")
    output.unlink()
    assert make(made_document(revision="an unknown revision", code="0" * 64)) == 2
    assert "check out the revision that it was measured from" in capsys.readouterr().err
    assert make(made_document(revision="an unknown revision", dry_run=True)) == 2
    assert make({"format": "another"}) == 2
    assert not output.exists()
    if report.revision() != "an unknown revision":
        assert report.with_revision(made_document(revision="an unknown revision"))["revision"] == report.revision()


# --- parts ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.matrix
def test_what_each_test_did_is_recorded_as_it_ends(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also of a test that hangs, and of one that leaves the device unusable: their processes are replaced, and the others' tests run."""
    (tmp_path / "test_some.py").write_text(
        "import time, warnings, pytest\n"
        "@pytest.mark.parametrize('n', range(6))\n"
        "@pytest.mark.xdist_group('one')\n"
        "def test_good(n): warnings.warn('old', DeprecationWarning)\n"
        "@pytest.mark.xdist_group('one')\n"
        "def test_bad(): assert 1 == 2\n"
        "@pytest.mark.xdist_group('one')\n"
        "def test_breaks(): raise RuntimeError('[700] Call to cuCtxSynchronize results in CUDA_ERROR_ILLEGAL_ADDRESS')\n"
        "@pytest.mark.xdist_group('one')\n"
        "def test_after_it(): pass\n"
        "def test_hangs(): time.sleep(600)\n"
        "def test_crashes(): import os; os.abort()\n"
        "def test_counts(record_property): record_property('repetitions', '5 of 5')\n"
        "def test_skips(): pytest.skip('no torch')\n",
        encoding="utf-8",
    )
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, (ROOT, ROOT / "tools")))):
        tests = pool.Pool(tmp_path, tmp_path, 2, 3.0)
    assert tests.collect("test", (str(tmp_path / "test_some.py"),), 60) == 0
    for _ in tests.run(part_exactness.together, lambda: True):
        pass
    found = part_exactness.summary(tests.events, 2)
    printed = capfd.readouterr()
    groups = {name.partition(": ")[2]: group for name, group in found["groups"].items()}
    outcomes = {name: {k: v for k, v in group.items() if k != "seconds"} for name, group in groups.items()}
    assert outcomes == {
        "test_good": {"passed": 6}, "test_bad": {"failed": 1}, "test_breaks": {"failed": 1}, "test_after_it": {"passed": 1},
        "test_hangs": {"failed": 1}, "test_crashes": {"failed": 1}, "test_counts": {"passed": 1}, "test_skips": {"skipped": 1},
    }, printed  # fmt: skip
    assert (found["collected"], found["not_run"], found["unfinished"]) == (13, 0, [])
    failures = {
        failure["test"].partition("::")[2].partition("@")[0]: "\n".join(failure["lines"])
        for failure in found["failures"]
    }
    assert "assert 1 == 2" in failures["test_bad"]
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in failures["test_breaks"]
    assert "its process ended with exit status 1" in failures["test_hangs"]
    assert "in test_hangs" in printed.err, "where it hung"
    assert "its process ended with exit status -6" in failures["test_crashes"]
    assert found["warnings"] == {"DeprecationWarning: old": 6}
    page = part_exactness.page(found)
    assert "8 tests passed, 4 failed, 1 were skipped and 0 did not end" in page
    assert "repetitions 5 of 5." in page


@pytest.mark.parametrize(
    ("status", "said", "state"),
    [
        (0, "1 passed in 3 s\n========= ERROR SUMMARY: 0 errors", "clean"),
        (0, "1 passed\n========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)", "clean"),
        (9, "1 passed\n========= ERROR SUMMARY: 3 errors", "found something"),
        (0, "1 passed\n========= RACECHECK SUMMARY: 2 hazards displayed (0 errors, 2 warnings)", "found something"),
        (1, "========= Error: Device not supported. Please refer to the documentation", "not available here"),
        (1, "1 failed\n========= ERROR SUMMARY: 0 errors", "failed with exit status 1"),
        (0, "1 skipped", "failed with exit status 0"),
        (-11, "", "failed with exit status -11"),
    ],
)
def test_what_the_sanitizer_says(status: int, said: str, state: str) -> None:
    assert part_sanitizer.outcome(status, said, 1.0)["state"] == state


@pytest.mark.parametrize(
    ("body", "states"),
    [
        ('echo "1 passed"; echo "========= ERROR SUMMARY: 0 errors"', {"clean"}),
        ('case "$2" in racecheck) echo "========= RACECHECK SUMMARY: 1 hazard displayed"; exit 9;; esac; echo "1 passed"',
         {"clean", "found something"}),
        ('case "$2" in memcheck) exec sleep 600;; esac; echo "1 passed"', {"clean", "not done in time"}),
    ],
    ids=["clean", "found", "hangs"],
)  # fmt: skip
def test_runs_of_the_sanitizer(body: str, states: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / part_sanitizer.PROGRAM
    program.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    written: list[dict[str, Any]] = []

    def measure() -> None:
        part_sanitizer.measure(Options(False, part_sanitizer.SPARE_SECONDS + 3.0), written.append)

    if states == {"clean"}:
        measure()
    else:
        with pytest.raises(CheckError, match="compute-sanitizer found something, or did not run to its end: "):
            measure()
    runs = [run for tests in written[-1]["runs"].values() for run in tests.values()]
    assert {run["state"] for run in runs} == states
    assert len(runs) == len(part_sanitizer.TESTS) * len(part_sanitizer.TOOLS)
    assert part_sanitizer.page(written[-1]).count("| clean |") == sum(run["state"] == "clean" for run in runs)
