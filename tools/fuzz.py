"""Give mutated models, edited files and odd arrays to qrnn in watched processes, and write docs/robustness.md.

    python tools/fuzz.py [onnx|qrnn|arrays ...] [--cases N] [--seed S]   run, print the faults; exit status 1 where there are some
    python tools/fuzz.py --output docs/robustness.md                     all three, in full, and write the page
    python tools/fuzz.py onnx --seed S --case K [--write STEM]           one case again; STEM.onnx is what it was given

The page says what is promised and how it is checked. The tool needs Linux, whose kernel provides the limits and the clocks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "tests"), str(ROOT / "tools")]

from fuzz_page import Run, faults_text, page  # noqa: E402  # found by the line above where this is not run as a script
from fuzzing.pool import Tally, Worker, fuzz  # noqa: E402
from fuzzing.worker import NAMES, fuzzer  # noqa: E402

from qrnn.backends.cpu.threads.pool import core_count  # noqa: E402
from qrnn.system.atomic import write_atomically  # noqa: E402

CASES = {"onnx": 200_000, "qrnn": 100_000, "arrays": 100_000}
"""Cases of a full run."""

EVERY = 10.0
"""Seconds between lines of progress."""


def one_case(name: str, seed: int, case: int, stem: Path | None) -> int:
    """Run a case by itself, print its outcome, and write its input."""
    if stem is not None:
        chosen = fuzzer(name)
        with tempfile.TemporaryDirectory() as folder:
            chosen.prepare(Path(folder))
            for path in chosen.write(chosen.make(seed, case), stem):
                print(f"wrote {path}")
    worker = Worker(name, seed)
    outcome = worker.run(case, 1)[0]
    worker.close()
    print(f"{outcome.verdict}: {outcome.kind}\n{outcome.detail}")
    print(f"{outcome.seconds:.3f} s of CPU time, {outcome.kilobytes / 1024:.0f} MB, {', '.join(outcome.facts)}")
    return int(outcome.verdict == "fault")


def run(name: str, seed: int, cases: int, workers: int) -> Run:
    """Run ``cases`` cases, with a line of progress every `EVERY` seconds."""
    start = last = time.monotonic()

    def progress(tally: Tally) -> None:
        nonlocal last
        if time.monotonic() - last > EVERY:
            last = time.monotonic()
            counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(tally.verdicts.items()))
            print(f"{name}: {tally.count} of {cases}: {counts}", file=sys.stderr)

    tally = fuzz(name, seed, range(cases), workers, progress)
    return Run(name, seed, tally, time.monotonic() - start)


def main(arguments: list[str] | None = None) -> int:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="|".join(NAMES), help="what to fuzz; all when left out")
    parser.add_argument("--seed", type=int, default=1, help="another seed gives other cases")
    parser.add_argument("--cases", type=int, help="cases of each; the full counts when left out")
    parser.add_argument("--case", type=int, help="this case alone")
    parser.add_argument("--write", type=Path, metavar="STEM", help="with --case: write what the case is given")
    parser.add_argument("--workers", type=int, default=core_count(), help="processes")
    parser.add_argument("--output", type=Path, help="write the page here")
    given: Any = parser.parse_args(arguments)
    names = given.names or list(NAMES)
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"{unknown[0]!r}, expected some of {', '.join(NAMES)}")
    if given.case is not None:
        if len(given.names) != 1:
            parser.error("--case needs the name of one fuzzer")
        return one_case(names[0], given.seed, given.case, given.write)
    runs = [run(name, given.seed, given.cases or CASES[name], given.workers) for name in names]
    for result in runs:
        print(faults_text(result))
    if given.output is not None:
        write_atomically(given.output, page(runs).encode())
        print(f"wrote {given.output}")
    return int(any(result.tally.faults for result in runs))


if __name__ == "__main__":
    sys.exit(main())
