"""Run many cases in several worker processes, and count their outcomes."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fuzzing.outcome import FAULT, ROOT, Outcome

CHUNK = 1000
"""Cases that a worker is given at a time."""

KEPT_CASES = 5
"""How many cases are named for each kind of fault."""


@dataclass
class Tally:
    """Outcomes counted by verdict and kind."""

    verdicts: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    facts: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[Outcome]] = field(default_factory=lambda: defaultdict(list))
    """Kind of fault → its first cases."""
    slowest: Outcome | None = None
    hungriest: Outcome | None = None
    largest: Outcome | None = None

    @property
    def count(self) -> int:
        return self.verdicts.total()

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        self.verdicts[outcome.verdict] += 1
        self.kinds[outcome.verdict][outcome.kind] += 1
        self.facts.update(outcome.facts)
        if outcome.verdict == FAULT:
            self.faults[outcome.kind].append(outcome)
            self.faults[outcome.kind].sort(key=lambda o: o.case)
            del self.faults[outcome.kind][KEPT_CASES:]
        if self.slowest is None or outcome.seconds > self.slowest.seconds:
            self.slowest = outcome
        if self.hungriest is None or outcome.kilobytes > self.hungriest.kilobytes:
            self.hungriest = outcome
        if self.largest is None or outcome.size > self.largest.size:
            self.largest = outcome


def environment() -> dict[str, str]:
    """Return the environment of a worker: it finds the tests, the tools and this checkout, and computes on one thread."""
    paths = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tools"), os.environ.get("PYTHONPATH", "")]
    one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    return {**os.environ, **one, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}


class Worker:
    """A worker process."""

    def __init__(self, name: str, seed: int) -> None:
        command = [sys.executable, "-m", "fuzzing.worker", name, str(seed)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), text=True, bufsize=1
        )

    def run(self, first: int, count: int) -> list[Outcome]:
        """Return the outcomes of ``count`` cases from ``first`` on."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{first} {count}\n")
        self._process.stdin.flush()
        outcomes = []
        for line in self._process.stdout:
            if not line.strip():
                break
            outcomes.append(Outcome.read(line))
        if [o.case for o in outcomes] != list(range(first, first + count)):
            raise RuntimeError(f"a worker ended after {len(outcomes)} of {count} cases from {first} on")
        return outcomes

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def fuzz(
    name: str,
    seed: int,
    cases: Sequence[int],
    workers: int = 1,
    progress: Callable[[Tally], object] = lambda _: None,
) -> Tally:
    """Run a range of cases on ``workers`` processes."""
    chunks: queue.Queue[tuple[int, int]] = queue.Queue()
    size = max(1, min(CHUNK, -(-len(cases) // workers)))
    for start in range(0, len(cases), size):
        chunks.put((cases[start], min(size, len(cases) - start)))
    tally, lock, failures = Tally(), threading.Lock(), list[BaseException]()

    def work() -> None:
        try:
            worker = Worker(name, seed)
            try:
                while not failures:
                    try:
                        chunk = chunks.get_nowait()
                    except queue.Empty:
                        return
                    outcomes = worker.run(*chunk)
                    with lock:
                        for outcome in outcomes:
                            tally.add(outcome)
                        progress(tally)
            finally:
                worker.close()
        except BaseException as error:  # noqa: BLE001  # raised below, in the thread that asked
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return tally
