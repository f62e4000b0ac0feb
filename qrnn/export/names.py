"""C identifiers from a model's own names."""

from __future__ import annotations

import re

RESERVED = frozenset(
    """
    auto break case char const continue default do double else enum extern float for goto if inline int long register restrict return
    short signed sizeof static struct switch typedef union unsigned void volatile while asm bool true false main NULL state length work
    """.split()  # noqa: SIM905
)
"""Words of C, and names that exported functions use themselves."""


def identifier(text: str) -> str:
    """``text`` as a C identifier: what C does not take becomes an underscore."""
    found = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "model"
    return f"n{found}" if found[0].isdigit() else f"{found}_" if found in RESERVED else found


class Names:
    """Identifiers that differ from each other: the second of two that would be equal gets a number."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def new(self, text: str) -> str:
        """An identifier for ``text`` that was not given before."""
        name, number = identifier(text), 2
        base = name
        while name in self._taken:
            name, number = f"{base}_{number}", number + 1
        self._taken.add(name)
        return name
