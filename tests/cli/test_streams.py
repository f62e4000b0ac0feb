"""Streams that are full, closed or not read, interrupts, and errors of the system: one line, and the status that shells expect."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import full

from cli.running import Cli
from qrnn.errors import DataError

QRNN = [sys.executable, "-m", "qrnn"]

PRINTING: dict[str, list[str]] = {
    "inspect": ["inspect", "gru.qrnn"],
    "inspect json": ["inspect", "gru.qrnn", "--json"],
    "run": ["run", "gru.qrnn", "-i", "x.npz", "-o", "out.npz"],
    "help": ["--help"],
    "help of a command": ["convert", "--help"],
}


def run(folder: Path, arguments: list[str], **more: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*QRNN, *arguments], cwd=folder, stderr=subprocess.PIPE, check=False, timeout=200, **more)


@pytest.fixture(scope="module")
def good_files(good_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the good files, since commands here write beside them."""
    return Path(shutil.copytree(good_files, tmp_path_factory.mktemp("streams") / "files"))


def one_line(done: subprocess.CompletedProcess[bytes], says: str) -> None:
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, len(lines)) == (2, 1), done
    assert lines[0].startswith("error: ")
    assert says in lines[0]


@pytest.mark.wide("unbuffered")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", PRINTING)
def test_stdout_is_full(good_files: Path, tmp_path: Path, command: str, unbuffered: str) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with full(tmp_path).open("wb", buffering=0) as out:
        one_line(run(good_files, PRINTING[command], stdout=out, env=environment), "No space left on device")


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("command", PRINTING)
def test_stdout_is_closed(good_files: Path, command: str) -> None:
    one_line(run(good_files, PRINTING[command], preexec_fn=lambda: os.close(1)), "cannot write to stdout")


def test_what_prints_nothing_needs_no_stdout(good_files: Path, tmp_path: Path) -> None:
    """A command that prints nothing runs without stdout, and does not take its output file for stdout."""
    command = ["inspect", "none.qrnn"]
    one_line(run(good_files, command, preexec_fn=lambda: os.close(1)), "no such file")
    code = """
import sys
from qrnn.cli import _open_standard_streams
_open_standard_streams()
print(open(sys.argv[1], "w").fileno(), file=sys.stderr)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "file")]
    done = subprocess.run(command, stderr=subprocess.PIPE, check=True, preexec_fn=lambda: os.close(1))
    assert int(done.stderr) > 2


def test_stderr_is_closed_or_full(good_files: Path, tmp_path: Path) -> None:
    """Nobody hears of the mistake, and nothing of it goes to stdout."""
    command = [*QRNN, "inspect", "none.qrnn"]
    done = subprocess.run(command, cwd=good_files, stdout=subprocess.PIPE, check=False, preexec_fn=lambda: os.close(2))
    assert (done.returncode, done.stdout) == (2, b"")
    with full(tmp_path).open("wb", buffering=0) as err:
        done = subprocess.run(command, cwd=good_files, stdout=subprocess.PIPE, stderr=err, check=False)
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("command", PRINTING)
def test_stdout_is_not_read(good_files: Path, command: str) -> None:
    """A reader that leaves, as ``| head -1`` does, ends the command silently with 128 plus the number of SIGPIPE."""
    reading, writing = os.pipe()
    os.close(reading)
    done = run(good_files, PRINTING[command], stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.wide("environment")
@pytest.mark.parametrize("command", ["inspect", "inspect json", "run", "help"])
@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "latin-1"}],
)  # fmt: skip
def test_terminals_that_know_few_characters(
    good_files: Path, tmp_path: Path, command: str, environment: dict[str, str]
) -> None:
    arguments = [str(tmp_path / "ß→.npz") if a == "out.npz" else a for a in PRINTING[command]]
    done = run(good_files, arguments, stdout=subprocess.PIPE, env=os.environ | environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout


def interrupted(process: subprocess.Popen[bytes], seconds: float) -> None:
    time.sleep(seconds)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert (process.returncode, err) == (130, b"interrupted\n")


def test_interrupt(good_files: Path) -> None:
    """A command that says when it has begun, and then waits.

    It sleeps for short times, since a signal just before a long sleep would be seen after it alone.
    """
    code = """
import time
from unittest import mock
from qrnn.cli import main

def wait(*_):
    print("begun", flush=True)
    while True:
        time.sleep(0.05)

with mock.patch("qrnn.targets.load_target", wait):
    main()
"""
    command = [sys.executable, "-c", code, "targets", "generic"]
    process = subprocess.Popen(command, cwd=good_files, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    interrupted(process, 0.0)


@pytest.mark.matrix
def test_interrupt_of_kernels(good_files: Path) -> None:
    command = [*QRNN, "bench", "gru.qrnn", "--seconds", "60"]
    interrupted(subprocess.Popen(command, cwd=good_files, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE), 4)


@pytest.mark.matrix
def test_interrupt_of_many_processes(good_files: Path, tmp_path: Path) -> None:
    """Ctrl-C reaches all of them, and one says so; here it reaches the first alone."""
    data = ["--calibration", "x.npz", "--data", "x.npz"]
    command = [*QRNN, "sweep", "gru.onnx", *data, "-o", str(tmp_path / "out"), "--jobs", "2"]
    interrupted(subprocess.Popen(command, cwd=good_files, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE), 6)


# --- outputs on stdout -------------------------------------------------------------------------------------------------------------------


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_outputs_on_stdout(good_files: Path, name: str) -> None:
    """The file and nothing else: what people read goes to stderr."""
    done = run(good_files, ["run", "gru.qrnn", "-i", "x.npz", "-o", name], stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert np.load(io.BytesIO(done.stdout))["logits"].shape == (6, 5, 3)
    assert b"wrote /dev/stdout" in done.stderr


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_models_and_pictures_on_stdout(good_files: Path, name: str) -> None:
    done = run(good_files, ["convert", "gru.onnx", "--calibration", "x.npz", "-o", name], stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert int.from_bytes(done.stdout[:8], "little") < len(done.stdout)
    done = run(good_files, ["gates", "--gates", "step", "--plot", name], stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout[:4]) == (0, b"\x89PNG")


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_reports_on_stdout(good_files: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    import json

    monkeypatch.chdir(good_files)
    for command in (
        ["compare", "gru.onnx", "gru.qrnn", "--data", "x.npz", "--json", name],
        ["bench", "gru.qrnn", "--seconds", "0.001", "--json", name],
    ):
        done = cli(*command)
        assert (done.status, done.lines) == (0, [])
        assert isinstance(json.loads(done.out), dict)


def test_two_reports_on_stdout(good_files: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(good_files)
    done = cli("compare", "gru.onnx", "gru.qrnn", "--data", "x.npz", "--json", "-", "--plot", "/dev/stdout")
    assert (done.status, len(done.lines), done.out) == (2, 1, "")
    assert "--json and --plot both name" in done.lines[0]


TUNE = ["tune", "gru.onnx", "--calibration", "x.npz", "--data", "x.npz", "--min-sqnr", "1"]


@pytest.mark.parametrize("command", [["run", "gru.qrnn", "-i", "x.npz", "-o"], ["gates", "--plot"], [*TUNE, "-o"]])
def test_two_things_on_stdout(good_files: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.chdir(good_files)
    done = cli(*command, "-", "--json")
    assert (done.status, len(done.lines), done.out) == (2, 1, "")
    assert "both go to stdout" in done.lines[0]


# --- errors that no command foresees ------------------------------------------------------------------------------------------------------

ERRORS: dict[str, tuple[Callable[[], BaseException], int, str]] = {
    "of a file": (lambda: PermissionError(errno.EACCES, "Permission denied", "/some/file"), 2, "error: /some/file: Permission denied"),
    "of a name in bytes": (lambda: FileNotFoundError(errno.ENOENT, "No such", b"/a\xff"), 2, "error: /a\\udcff: no such file"),
    "of no file": (lambda: OSError(errno.ENOSPC, "No space left on device"), 2, "error: cannot print, or write a temporary file: No space"),
    "without a number": (lambda: OSError("it went wrong"), 2, "error: it went wrong"),
    "memory": (MemoryError, 2, "error: not enough memory; "),
    "memory of an array": (lambda: MemoryError("Unable to allocate 8 TiB"), 2, "error: not enough memory (Unable to allocate 8 TiB); "),
    "recursion": (RecursionError, 2, "error: an input is nested too deeply"),
    "a warning": (lambda: UserWarning("beware"), 2, "error: beware"),
    "interrupt": (KeyboardInterrupt, 130, "interrupted"),
    "end of file": (EOFError, 2, "error: a file or stream ended too early"),
    "many lines": (lambda: DataError("a\nb\x1b[2J\udcff"), 2, "error: a b\\x1b[2J\\udcff"),
}  # fmt: skip


@pytest.mark.wide(cover=False, keep=4)
@pytest.mark.parametrize("kind", ERRORS)
def test_errors_of_the_system(cli: Cli, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    make, status, says = ERRORS[kind]

    def fail(*_: Any) -> Any:
        raise make()

    monkeypatch.setattr("qrnn.targets.load_target", fail)
    done = cli("targets", "generic")
    assert (done.status, done.out, len(done.lines)) == (status, "", 1)
    assert done.lines[0].startswith(says)


def test_faults_of_qrnn_keep_their_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr("qrnn.targets.load_target", fail)
    with pytest.raises(ZeroDivisionError):
        cli("targets", "generic")


@pytest.mark.parametrize("swept", [False, pytest.param(True, marks=pytest.mark.matrix)])
def test_names_that_are_no_unicode(
    good_files: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, swept: bool
) -> None:
    """Such names pass from ONNX to C and the report, through everything that names are written to."""
    name = os.fsdecode(b"m\xff")
    for file in ("gru.onnx", "x.npz"):
        (tmp_path / (name + file[-5:])).write_bytes((good_files / file).read_bytes())
    onnx, data, model = f"{name}.onnx", f"{name}x.npz"[:2] + ".npz", f"{name}.qrnn"
    (tmp_path / data).write_bytes((good_files / "x.npz").read_bytes())
    sweep = ["--limit", "1", "--jobs", "1", "--no-latency", "--target", "generic", "-o", f"{name}sweep"]
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["convert", onnx, "--calibration", data, "-o", model],
        ["inspect", model],
        ["inspect", model, "--json"],
        ["run", model, "-i", data, "-o", f"{name}.out"],
        ["compare", onnx, model, "--data", data, "--json", f"{name}.json", "--plot", f"{name}.png"],
        ["export", model, "-o", f"{name}c"],
        ["verify", f"{name}c"],
        *([["sweep", onnx, "--calibration", data, "--data", data, *sweep]] if swept else []),
    ):
        done = cli(*arguments)
        assert (done.status, done.err) == (0, ""), arguments
