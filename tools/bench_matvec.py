"""Speed of the CPU backend's plain matvec on one core, beside its limit, and write docs/benchmarks/matvec.md.

    python tools/bench_matvec.py [--output docs/benchmarks/matvec.md]

A multiply-add reads one byte of weights, so weight bytes a second that one core can load bound multiply-adds a second. That rate is
measured in the same run, by a Numba loop that sums the same bytes as 64-bit words. Results are verified before they are timed; rounds of
both are interleaved; medians.
"""

from __future__ import annotations

import argparse
import platform
import re
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numba
import numpy as np

from qrnn.atomic import write_atomically
from qrnn.backends.cpu.jit import jit
from qrnn.backends.cpu.kernels import matvec
from qrnn.bench import processor

SIZES = (64, 128, 256, 512, 1024)
ROUNDS = 31
MACS_PER_ROUND = 1 << 25


@jit
def repeat_matvec(weight: Any, x: Any, acc: Any, repeats: int) -> None:
    """The kernel under test, ``repeats`` times."""
    for _ in range(repeats):
        matvec(weight, x, acc, 0, weight.shape[0])


@jit
def repeat_load(words: Any, repeats: int) -> int:
    """Load every word once a repeat, in eight independent sums."""
    total = 0
    for _ in range(repeats):
        for k in range(words.shape[0]):
            total += words[k]
        words[0] = total  # keeps the repeats apart
    return total


def seconds(call: Callable[[], Any]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(hidden: int) -> tuple[float, float]:
    """(GMAC/s of the matvec, GB/s of loads) for an LSTM's recurrent matrix [4H, H]."""
    rng = np.random.default_rng(hidden)
    weight = rng.integers(-127, 128, (4 * hidden, hidden)).astype(np.int8)
    x = rng.integers(-127, 128, hidden).astype(np.int16)
    acc = np.zeros(4 * hidden, np.int32)
    words = weight.copy().reshape(-1).view(np.int64)
    repeats = max(1, MACS_PER_ROUND // weight.size)
    repeat_matvec(weight, x, acc, 1)
    if not np.array_equal(acc, weight.astype(np.int64) @ x):
        raise SystemExit(f"wrong sums at H = {hidden}: not timed")
    repeat_load(words, 1)
    kernel, load = [], []
    for _ in range(ROUNDS):
        kernel.append(seconds(lambda: repeat_matvec(weight, x, acc, repeats)))
        load.append(seconds(lambda: repeat_load(words, repeats)))
    work = repeats * weight.size / 1e9
    return work / median(kernel), work / median(load)


def vector_instructions() -> str:
    """Multiplying and widening vector instructions of the compiled kernel, with how often each stands in it."""
    code = "\n".join(repeat_matvec.inspect_asm().values())
    found = Counter(re.findall(r"\bv?p(?:madd|mul|dp|movsx)\w+|\bs(?:mlal|mull|addlp|shll|dot)2?\b", code))
    return ", ".join(f"`{name}` ×{count}" for name, count in sorted(found.items())) or "none"


PAGE = """# The plain matvec

Made by `python tools/bench_matvec.py` on {date}: {processor}, one core, Python {python}, Numba {numba}.

int8 weights [4H, H] times int16 operands into int32, as plain Numba loops. Instructions in the compiled code that multiply or widen
vectors: {instructions}. The limit is the rate at which the same core loads the same bytes ({rounds} interleaved rounds, medians).

| H | weights KiB | GMAC/s | limit, GB/s loaded | share of the limit |
|---|---|---|---|---|
{rows}

What lies between the two, as far as the code tells: each row ends in a horizontal sum of the vector's lanes, which weighs most where rows
are short, and weights are widened to 16 bits before they are multiplied. A SIMD kernel with packed rows avoids both; the
place for it is `matvec` in `qrnn/backends/cpu/kernels.py`.
"""


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Measure the plain matvec and write docs/benchmarks/matvec.md.")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/matvec.md"))
    arguments = parser.parse_args()
    rows = []
    for hidden in SIZES:
        macs, limit = measure(hidden)
        rows.append(
            f"| {hidden} | {4 * hidden * hidden / 1024:.0f} | {macs:.1f} | {limit:.1f} | {100 * macs / limit:.0f} % |"
        )
        print(rows[-1], flush=True)
    page = PAGE.format(
        date=datetime.now(UTC).date(),
        processor=processor(),
        python=platform.python_version(),
        numba=numba.__version__,
        rounds=ROUNDS,
        instructions=vector_instructions(),
        rows="\n".join(rows),
    )
    write_atomically(arguments.output, page.encode())


if __name__ == "__main__":
    main()
