"""C identifiers from a model's own names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain, count

KEYWORDS = frozenset(
    """
    auto break case char const continue default do double else enum extern float for goto if inline int long register restrict return
    short signed sizeof static struct switch typedef union unsigned void volatile while
    asm bool true false alignas alignof constexpr nullptr static_assert thread_local typeof typeof_unqual
    and bitand bitor catch class compl delete explicit export friend mutable namespace new not operator or private protected public
    template this throw try typeid typename using virtual wchar_t xor
    main NULL linux unix size_t
    """.split()  # noqa: SIM905
)
"""Words of C and, for it may read the header, of C++; and what compilers and their headers define."""

FILES = frozenset(
    """
    assert complex ctype errno fenv inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic stdbool stddef stdint stdio
    stdlib stdnoreturn string tgmath threads time uchar wchar wctype board
    all clean help install package test edit_cache rebuild_cache
    """.split()  # noqa: SIM905
)
"""What a model cannot be called: its header would hide a system's or a board's, or CMake has a target of that name."""

LOCALS = ("state", "length", "work", "t", "k")
"""Variables of the exported functions."""

DERIVED = frozenset(
    "d0 d1 forward gate gates hh ih index matrix peephole projected projection reverse step table weight".split()  # noqa: SIM905
)
"""First words of what `qrnn.export.layers` puts after a layer's name."""


def identifier(text: str) -> str:
    """``text`` as a C identifier: what C does not take becomes an underscore."""
    found = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "model"
    if found[0].isdigit():
        return f"n{found}"
    known = found in KEYWORDS or re.fullmatch(r"u?int\d+_\w+", found, re.IGNORECASE)  # int16_t, INT32_MIN, UINT32_C
    return f"{found}_" if known else found


def model_identifier(text: str) -> str:
    """The same for a model, whose name begins what is public and its files': nothing of the runtime's or of a system's."""
    found = identifier(text)
    if found.lower().startswith("qrnn"):
        return f"model_{found}"
    return f"{found}_" if found.lower() in FILES else found


class Names:
    """Identifiers that differ from each other, and by more than case: the second of two that would be equal gets a number."""

    def __init__(self, taken: Iterable[str] = (), prefixes: tuple[str, ...] = ()) -> None:
        """``taken`` are not given, nor what begins with one of ``prefixes``."""
        self._taken: set[str] = set()
        self._prefixes = tuple(prefix.lower() for prefix in prefixes)
        self.take(taken)

    def take(self, names: Iterable[str]) -> None:
        """Never give these."""
        self._taken.update(name.lower() for name in names)

    def new(self, text: str) -> str:
        """An identifier for ``text`` that was not given before."""
        name, number = identifier(text), 2
        if name.lower().startswith(self._prefixes):
            name = f"v_{name}"
        base = name
        while name.lower() in self._taken:
            name, number = f"{base}_{number}", number + 1
        self.take([name])
        return name

    def layers(self, texts: Sequence[str], prefix: str) -> dict[str, str]:
        """Text → an identifier that begins with ``prefix``, and is no other one's with words of `DERIVED` after it."""
        found: dict[str, str] = {}
        for number, text in enumerate(texts):
            base = identifier(text).rstrip("_")
            candidates = (f"{prefix}layer{k}_{base}" for k in count(number))
            free = (c for c in chain([prefix + base], candidates) if self._is_free(c, found.values()))
            found[text] = next(free)
            self.take([found[text]])
        return found

    def _is_free(self, name: str, others: Iterable[str]) -> bool:
        return name.lower() not in self._taken and not any(_derived(name, o) or _derived(o, name) for o in others)


def _derived(longer: str, shorter: str) -> bool:
    """Whether ``longer`` may be a name that comes of ``shorter``."""
    start = f"{shorter.lower()}_"
    return longer.lower().startswith(start) and longer.lower()[len(start) :].split("_")[0] in DERIVED
