"""Progress of long calls, by a bar or by the caller's own function; and what calls tell the logger."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

import numpy as np
import pytest
from accuracy.pairs import pair
from models import Shape

import qrnn
from qrnn.system import progress
from qrnn.system.progress import reporting


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make stderr a terminal; in the test itself, since pytest sets stderr after fixtures."""
    found = Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return found


def work(wanted: Any, patience: float = 0.0) -> None:
    with reporting(wanted, "working", patience) as report:
        for done in range(3):
            report(done + 1, 3)


def test_a_terminal_gets_a_bar_that_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_a_terminal(monkeypatch)
    work(None)
    assert "working" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")  # the line is cleared


@pytest.mark.parametrize("wanted", [False, print])
def test_a_bar_can_be_turned_off(
    monkeypatch: pytest.MonkeyPatch, wanted: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = at_a_terminal(monkeypatch)
    work(wanted)
    assert terminal.getvalue() == ""
    assert capsys.readouterr().out == ("1 3\n2 3\n3 3\n" if wanted is print else "")


def test_short_calls_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_a_terminal(monkeypatch)
    work(None, patience=60.0)
    assert "working" not in terminal.getvalue()


def test_no_terminal_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    work(None)
    assert out.getvalue() == ""
    work(True)  # asked for
    assert "working" in out.getvalue()


def test_without_rich_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_a_terminal(monkeypatch)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    work(None)
    assert terminal.getvalue() == ""


def test_calls_inside_of_others_show_no_bar_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_a_terminal(monkeypatch)
    with reporting(None, "outer", 0.0) as report:
        work(None)
        report(1, 1)
    assert "working" not in terminal.getvalue()
    with pytest.raises(KeyboardInterrupt), reporting(None, "outer", 0.0):
        raise KeyboardInterrupt
    work(None)  # the next one does again
    assert "working" in terminal.getvalue()


def test_conversion_and_comparison_show_one(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_a_terminal(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.0)
    x = np.random.default_rng(1).normal(size=(6, 5, 3))
    model, quantized = pair(Shape("gru"), x)
    for call, label in (
        (lambda **more: qrnn.quantize(model, {"x": x}, **more), "calibrating"),
        (lambda **more: qrnn.compare(model, quantized, {"x": x}, **more), "comparing"),
        (lambda **more: qrnn.explain(model, quantized, {"x": x}, **more), "ablating"),
    ):
        terminal.truncate(0)
        call(progress=False)
        assert label not in terminal.getvalue()
        call()
        assert label in terminal.getvalue()


def test_choices_are_logged_under_the_name_of_the_package(caplog: pytest.LogCaptureFixture) -> None:
    x = np.random.default_rng(1).normal(size=(6, 5, 3))
    model, _ = pair(Shape("gru"), x)
    with caplog.at_level(logging.INFO, logger="qrnn"):
        quantized = qrnn.quantize(model, {"x": x})
    logged = [record.getMessage() for record in caplog.records]
    assert quantized.provenance.decisions
    assert logged == [f"{model.name}: {reason}" for reason in quantized.provenance.decisions]
    assert all(record.name.split(".")[0] == "qrnn" for record in caplog.records)
    assert logging.getLogger("qrnn").handlers == []
    caplog.clear()
    with caplog.at_level(logging.DEBUG, logger="qrnn"):
        qrnn.compare(model, quantized, {"x": x})
    assert any("SQNR" in record.getMessage() for record in caplog.records)
