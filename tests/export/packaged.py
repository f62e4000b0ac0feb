"""Exports in the layout of each package."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from export.kinds import kind
from qrnn.export.folder import export_model
from qrnn.targets import load_target


def export(package: str, folder: Path, which: str = "embedded", target: str = "generic", **more: Any) -> Path:
    export_model(kind(which), load_target(target), folder, "net", package=package, **more)
    return folder


def run(*command: Any, **more: Any) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def every_file(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
