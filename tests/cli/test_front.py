"""What the command line says before a command runs: help, version, completion, and a file in the place of a command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import qrnn.cli
from qrnn.cli.commands import app
from qrnn.examples import digits_calibration, digits_model
from qrnn.system.version import __version__


def ran(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qrnn", *arguments],
        capture_output=True, text=True, env={**os.environ, "COLUMNS": "80", **environment}, check=False,
    )  # fmt: skip


def test_help_lists_every_command_in_whole_sentences() -> None:
    done = ran("-h")
    assert done.returncode == 0
    assert "…" not in done.stdout
    assert "..." not in done.stdout.split("Commands:")[1]
    assert max(map(len, done.stdout.splitlines())) <= 80
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"\n  {command.callback.__name__} " in done.stdout
    assert ran("--help").stdout == done.stdout


def test_version() -> None:
    assert ran("--version").stdout == f"qrnn {__version__}\n"


def test_completion() -> None:
    done = ran(_QRNN_COMPLETE="complete_bash", COMP_WORDS="qrnn comp", COMP_CWORD="1")
    assert done.stdout.split() == ["compile", "compare"]
    done = ran(_QRNN_COMPLETE="complete_bash", COMP_WORDS="qrnn convert --calib", COMP_CWORD="2")
    assert done.stdout.split() == ["--calibration", "--calibrator"]


@pytest.mark.parametrize(
    ("name", "says"), [(str(digits_model()), "qrnn convert"), ("model.qrnn", "qrnn run model.qrnn")]
)
def test_a_model_in_the_place_of_a_command(name: str, says: str) -> None:
    done = ran(name)
    assert done.returncode == 2
    assert "is no command" in done.stderr
    assert says in " ".join(done.stderr.split())


def test_a_converted_model_gets_no_name_of_another_kind(tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(b"not to be lost")
    done = ran("convert", str(digits_model()), "--calibration", str(digits_calibration()), "-o", str(other))
    assert done.returncode == 2
    assert "what is written is a .qrnn file; give a name such as" in done.stderr
    assert other.read_bytes() == b"not to be lost"


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "m.qrnn").write_bytes(b"")
    done = ran("verify", str(tmp_path / "m.qrnn"))
    assert done.returncode == 2
    assert "qrnn export" in done.stderr


def test_a_warning_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    show = qrnn.cli._each_once()
    for text in ("the range is a guess", "another", "the range is a guess"):
        show(UserWarning(text), UserWarning, "file", 1)
    assert capsys.readouterr().err.splitlines() == ["warning: the range is a guess", "warning: another"]
