"""The revision from which a page of figures was made, for its head."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = ("qrnn", "targets", "tools")


def revision() -> str:
    """Return the commit's short name, “with changes” where code differs from it; “an unknown revision” outside a checkout."""
    try:
        name = _git("rev-parse", "--short=7", "HEAD")
        return f"{name} with changes" if _git("status", "--porcelain", "--", *CODE) else name
    except (OSError, subprocess.CalledProcessError):
        return "an unknown revision"


def when() -> str:
    """Return date and revision, for ``Made by `COMMAND` on …``."""
    return f"{datetime.now(UTC).date()} at revision {revision()}"


def _git(*arguments: str) -> str:
    done = subprocess.run(("git", "-C", str(ROOT), *arguments), capture_output=True, text=True, check=True)
    return done.stdout.strip()
