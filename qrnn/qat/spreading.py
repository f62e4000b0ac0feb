"""Work that is independent row by row is spread over the cores here.

PyTorch's own threads wait busily for some milliseconds after each of its operations, and a thread of another pool would have to share a core
with one that waits. So where PyTorch's OpenMP is loaded, the work is given to its threads.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count as numbers
from typing import Any, TypeVar

from qrnn.backends.cpu.threads.pool import core_count, shared_pool

Part = TypeVar("Part")

MOST_PARTS = 16
"""The most parts: each has results of its own, which are added up at the end."""

_OPENMP = "libgomp.so.1"
"""The OpenMP library of PyTorch's packages for Linux; others are not looked for."""


def spread_parts(run: Callable[[int, int], Part], count: int, grain: int = 1) -> list[Part]:
    """Run rows 0 … count - 1 in parts of ``grain`` rows, or of multiples of it; return what each part gives, in their order.

    Which rows are a part does not depend on the threads.
    """
    pieces = -(-count // grain)
    parts = max(1, min(pieces, MOST_PARTS))
    return together(run, [min(count, pieces * k // parts * grain) for k in range(parts + 1)], core_count())


def together(run: Callable[[int, int], Part], bounds: Sequence[int], workers: int) -> list[Part]:
    """Run the parts between neighbouring ``bounds`` on so many threads at most; return what each gives, in their order.

    Every thread takes the next part when it has done one, the caller's own among them, so that a core on which something else runs does
    less.
    """
    parts = len(bounds) - 1
    found: list[Part | None] = [None] * parts
    errors: list[BaseException] = []
    following = numbers()

    def work() -> None:
        try:
            while not errors and (k := next(following)) < parts:
                found[k] = run(bounds[k], bounds[k + 1])
        except BaseException as error:  # noqa: BLE001  # it is raised again where all threads have ended
            errors.append(error)

    workers = min(workers, parts)
    parallel = _parallel() if workers > 1 else None
    if parallel is not None:
        parallel(_CALLED(lambda _: work()), None, workers, 0)
    else:
        others = [shared_pool().submit(work) for _ in range(workers - 1)]
        work()
        for other in others:
            other.result()
    if errors:
        raise errors[0]
    return found  # type: ignore[return-value]  # all parts are done


_CALLED = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _parallel() -> Any:
    """Return OpenMP's function that calls one on a team of threads, or None where no library of it is loaded."""
    if not hasattr(os, "RTLD_NOLOAD"):
        return None
    try:
        found = ctypes.CDLL(_OPENMP, mode=os.RTLD_NOLOAD | os.RTLD_NOW).GOMP_parallel
    except (OSError, AttributeError):
        return None
    found.argtypes, found.restype = (_CALLED, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return found
