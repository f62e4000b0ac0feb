"""Exports that tests of ``qrnn export``, ``verify`` and ``fit`` share."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from installed import tool

from cli.running import Workplace
from qrnn.targets import targets_folder


def export(place: Workplace, *options: Any, name: str = "gru") -> Path:
    done = place.cli("export", place.path(f"{name}.qrnn"), "-o", place.path("c"), *options)
    assert (done.status, done.lines) == (0, []), done.err
    assert f"wrote {place.path('c')}: " in done.out
    return place.path("c")


def renew_digests(folder: Path) -> None:
    """Let the manifest name the files as they are now."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in manifest["files"]}
    path.write_text(json.dumps(manifest))


def emulator() -> None:
    for needed in ("arm-none-eabi-gcc", "qemu-system-arm"):
        tool(needed)


def target_of_ones_own(place: Workplace) -> Path:
    own = place.path("my.toml")
    text = (targets_folder() / "cortex-m0plus.toml").read_text()
    own.write_text(text.replace('name = "cortex-m0plus"', 'name = "my"', 1))
    return own


def without_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)


def edit(folder: Path, **values: Any) -> None:
    """Change the manifest; None takes a key out."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in manifest.items() if value is not None}))
