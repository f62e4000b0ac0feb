"""What a forked child of this process answers."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable
from typing import Any


def answer_of_child(run: Callable[..., None], *arguments: Any) -> Any:
    """Return what ``run(*arguments, answers)`` puts into its queue in a forked child; the child has to end by itself within a minute."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=run, args=(*arguments, answers))
    with warnings.catch_warnings():
        # Python warns of forks in processes with threads, which is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    child.join(60)
    alive = child.is_alive()
    if alive:
        child.kill()
    assert not alive, "the child waits for threads that it does not have"
    assert child.exitcode == 0
    return answers.get()
