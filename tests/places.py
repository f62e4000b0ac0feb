"""Places that files are written to and read from in tests: private devices, folders of other users, and users without privileges."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
NOT_ROOT = 65534


def device(path: Path, major: int, minor: int) -> Path:
    """Make a private character device: tests never write to the machine's."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
        with path.open("rb"):
            pass
    except OSError:
        pytest.skip("devices cannot be made or opened here")
    return path


def null(folder: Path) -> Path:
    """Make a device like /dev/null."""
    return device(folder / "null", 1, 3)


def full(folder: Path) -> Path:
    """Make a device like /dev/full."""
    return device(folder / "full", 1, 7)


def as_user(code: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run Python code as a user without privileges, where this is root."""
    drop = (
        f"import os, sys\nos.setgroups([])\nos.setgid({NOT_ROOT})\nos.setuid({NOT_ROOT})\n" if os.geteuid() == 0 else ""
    )
    source = f"import sys, qrnn.system.atomic, qrnn.system.files\n{drop}{code}"  # imported while that may be read
    return subprocess.run(
        [sys.executable, "-c", source, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )


def open_to_all(folder: Path) -> Path:
    """Let every user reach a test's folder."""
    temporary = Path(tempfile.gettempdir()).resolve()
    for each in (folder, *folder.parents):
        if each.resolve() == temporary or temporary not in each.resolve().parents:
            break
        each.chmod(each.stat().st_mode | 0o055)
    return folder
