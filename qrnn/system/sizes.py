"""Write sizes for people."""

from __future__ import annotations


def size_text(count: int) -> str:
    """Return a number of bytes with a unit."""
    if count < 10_000:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < 10_000_000 else f"{count / 1048576:.1f} MiB"
