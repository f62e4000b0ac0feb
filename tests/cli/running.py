"""Run the command line inside the test's process, and return its exit status and output. Any exception but an exit is a failure."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_import.builders import Graph

from qrnn.cli import main


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of stderr that hold text."""
        return [line for line in self.err.splitlines() if line.strip()]


Cli = Callable[..., Done]


def make_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*arguments: Any) -> Done:
        monkeypatch.setattr(sys, "argv", ["qrnn", *map(str, arguments)])
        capsys.readouterr()
        status = 0
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            try:
                main()
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        out, err = capsys.readouterr()
        return Done(status, out, err)

    return run


def tree(folder: Path) -> dict[str, bytes | None]:
    """Return every file below ``folder`` with its bytes, and every folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@dataclass
class Workplace:
    """A folder with good files, and the commands that read them."""

    folder: Path
    cli: Cli

    def path(self, name: str) -> Path:
        return self.folder / name

    def npz(self, name: str = "edited.npz", **arrays: Any) -> Path:
        """Write arrays to a file."""
        path = self.folder / name
        np.savez(path, **arrays)
        return path

    def refused(self, *arguments: Any, says: str | tuple[str, ...], usage: bool = False) -> str:
        """Run a command that must be refused: status 2, one line on stderr (or a usage error) with ``says``, and no file made or changed."""
        before = tree(self.folder)
        done = self.cli(*arguments)
        assert done.status == 2, (done, arguments)
        assert tree(self.folder) == before
        assert "Traceback" not in done.err
        if usage:
            assert done.lines[-1].startswith("Error: "), done.err
        else:
            assert len(done.lines) == 1, done.err
            assert done.lines[0].startswith("error: ")
        for part in (says,) if isinstance(says, str) else says:
            assert part in done.lines[-1], done.err
        assert done.out == ""
        return done.lines[-1]


def unsupported() -> bytes:
    """Return an ONNX file with a node that is refused."""
    g = Graph()
    x = g.input("x", ["batch", "time", 4])
    y = g.recurrent("GRU", g.node("Transpose", [g.node("Sin", [x])], perm=[1, 0, 2]), 4, 5)[0]
    g.node("Squeeze", [y, g.const(np.array([1], np.int64))], ["y"])
    g.output("y")
    return g.model().SerializeToString()
