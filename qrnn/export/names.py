"""C identifiers are made from a model's own names here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain, count

KEYWORDS = frozenset(
    """
    auto break case char const continue default do double else enum extern float for goto if inline int long register restrict return
    short signed sizeof static struct switch typedef union unsigned void volatile while
    asm bool true false alignas alignof constexpr nullptr static_assert thread_local typeof typeof_unqual
    and and_eq bitand bitor catch char8_t char16_t char32_t class compl concept const_cast consteval constinit co_await co_return co_yield
    decltype delete dynamic_cast explicit export final friend import module mutable namespace new noexcept not not_eq operator or or_eq
    override private protected public reinterpret_cast requires static_cast template this throw try typeid typename using virtual wchar_t
    xor xor_eq
    main NULL size_t ptrdiff_t errno stdin stdout stderr EOF I complex imaginary noreturn assert offsetof INFINITY NAN
    linux unix i386 mips sparc sun vax arm PPC near far huge interrupt
    PI HIGH LOW INPUT OUTPUT DEFAULT EXTERNAL INTERNAL SERIAL DISPLAY
    """.split()  # noqa: SIM905
)
"""Words of C and of C++, which may read the header, and macros of compilers, standard headers and Arduino."""

FILES = frozenset(
    """
    assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic stdbit stdbool stdckdint
    stddef stdint stdio stdlib stdnoreturn string strings tgmath threads time uchar wchar wctype
    aio alloca ar argz byteswap cpio dirent dlfcn elf endian envz err error execinfo fcntl features fnmatch ftw getopt glob grp iconv ifaddrs
    langinfo libgen link malloc memory mqueue ndbm netdb newlib nl_types paths poll pthread pty pwd reent regex resolv sched search semaphore
    spawn stropts syscall sysexits syslog tar termios trace ucontext ulimit unistd unwind utime utmp utmpx values wait wordexp
    arm_acle arm_mve arm_neon arduino board cmsis_gcc config conio core_cm0 core_cm4 core_cm7 cpuid dos freertos immintrin io intrin main
    platform process stdafx task windows wire
    all check clean default_target help install package test edit_cache rebuild_cache
    con prn aux nul com0 com1 com2 com3 com4 com5 com6 com7 com8 com9 lpt0 lpt1 lpt2 lpt3 lpt4 lpt5 lpt6 lpt7 lpt8 lpt9
    cnd mtx res sem
    """.split()  # noqa: SIM905
)
"""Names that a model cannot have. Its header would hide one of C, a system, a compiler or a board; CMake or Make has a target of that name;
Windows has a device of it; or a system's function begins with it and ends as one of the model's (``sem_init``)."""

SYSTEM_PREFIXES = ("pthread", "posix", "cmsis")
"""Names that begin so belong to a system, too."""

LOCALS = ("state", "length", "work", "t", "k", "scratch")
"""The variables of the exported functions."""

DERIVED = frozenset(
    "channels d0 d1 forward gate gates hh ih index loop matrix peephole projected projection reverse row step table taken weight window".split()  # noqa: SIM905
)
"""The first words of what `qrnn.export.kinds` puts after a layer's name."""


def identifier(text: str) -> str:
    """Return ``text`` as a C identifier: what C does not take becomes an underscore."""
    found = _plain(text)
    if found[0].isdigit():
        return f"n{found}"
    known = found in KEYWORDS or re.fullmatch(r"u?int\d+_\w+", found, re.IGNORECASE)  # int16_t, INT32_MIN, UINT32_C
    return f"{found}_" if known else found


def _plain(text: str) -> str:
    """Return ``text`` with an underscore in place of what no identifier of C has."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "model"


def model_identifier(text: str) -> str:
    """Return ``text`` as the identifier of a model, which begins its public names and the names of its files.

    It is none of the runtime's or of a system's.
    """
    plain = _plain(text)
    taken = plain.lower().startswith(("qrnn", *SYSTEM_PREFIXES)) or plain.lower() in FILES or identifier(plain) != plain
    return f"model_{plain}" if taken else plain


class Names:
    """Identifiers that differ from each other, and by more than case: the second of two that would be equal gets a number."""

    def __init__(self, taken: Iterable[str] = (), prefixes: tuple[str, ...] = ()) -> None:
        """Begin with the names ``taken``, which are not given, and neither is a name that begins with one of ``prefixes``."""
        self._taken: set[str] = set()
        self._prefixes = tuple(prefix.lower() for prefix in prefixes)
        self.take(taken)

    def take(self, names: Iterable[str]) -> None:
        """Let these names never be given."""
        self._taken.update(name.lower() for name in names)

    def new(self, text: str) -> str:
        """Return an identifier for ``text`` that was not given before."""
        name, number = identifier(text), 2
        if name.lower().startswith(self._prefixes):
            name = f"v_{name}"
        base = name
        while name.lower() in self._taken:
            name, number = f"{base}_{number}", number + 1
        self.take([name])
        return name

    def layers(self, texts: Sequence[str], prefix: str) -> dict[str, str]:
        """Return an identifier for each text, which begins with ``prefix`` and is no other one with words of `DERIVED` after it."""
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
    """Return whether ``longer`` may be a name that is made from ``shorter``."""
    start = f"{shorter.lower()}_"
    return longer.lower().startswith(start) and longer.lower()[len(start) :].split("_")[0] in DERIVED
