"""Run cases in a process: ``python -m fuzzing.worker NAME SEED`` reads lines ``first count`` and writes one outcome per line.

It prepares the fuzzer once and forks a child for every line, so that a child starts at once and with the same memory. A child that dies is
noted as the fault of its last case, and another continues with the next case.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, Protocol

from peak import forget_peak, peak

from fuzzing.outcome import ACCEPTED, FAULT, REFUSED, FaultError, Outcome, asked_for_too_much, error_kind, fault_kind
from fuzzing.outcome import message_kind as kind_of
from fuzzing.watch import MEGABYTES, SECONDS, Watch
from qrnn.errors import QrnnError

NAMES = ("onnx", "qrnn", "arrays")


class Fuzzer(Protocol):
    """One kind of untrusted input."""

    def prepare(self, folder: Path) -> None:
        """Make the corpus and import and compile what cases use; ``folder`` is the worker's own."""

    def make(self, seed: int, case: int) -> Any:
        """Return the input of a case, always the same."""

    def size(self, made: Any) -> int:
        """Return the bytes of an input."""

    def judge(self, made: Any, watch: Watch, facts: list[str]) -> str:
        """Give an input to the code under test and return the kind of success; QrnnError is a refusal, any other exception a fault."""

    def write(self, made: Any, stem: Path) -> list[Path]:
        """Write an input to files whose names begin with ``stem``, for a person to look at."""


def fuzzer(name: str) -> Fuzzer:
    """Return the fuzzer of a name."""
    if name not in NAMES:
        raise ValueError(f"fuzzer {name!r}, expected one of {NAMES}")
    found: Fuzzer = importlib.import_module(f"fuzzing.{name}_fuzzer").FUZZER
    return found


def run_case(chosen: Fuzzer, seed: int, case: int, watch: Watch) -> Outcome:
    """Return the outcome of a case, where the process survives it."""
    facts: list[str] = []
    before = forget_peak()  # a case before this one, in the same process, may have taken much
    watch.begin(case)
    made = chosen.make(seed, case)
    size = chosen.size(made)
    try:
        outcome = Outcome(case, ACCEPTED, chosen.judge(made, watch, facts))
    except QrnnError as error:
        outcome = Outcome(case, REFUSED, error_kind(error), str(error))
        if asked_for_too_much(error):
            outcome = Outcome(case, FAULT, f"asked for more than {MEGABYTES} MB: {error_kind(error)}", str(error))
        elif not str(error).strip():
            outcome = Outcome(case, FAULT, f"a refusal without words: {type(error).__name__}")
    except FaultError as error:
        outcome = Outcome(case, FAULT, str(error).splitlines()[0], str(error))
    except BaseException as error:  # noqa: BLE001  # every other exception is what is looked for
        outcome = Outcome(case, FAULT, fault_kind(error), "".join(traceback.format_exception(error)))
    finally:
        watch.end()
    if outcome.verdict != FAULT and watch.opened:
        outcome = Outcome(case, FAULT, "opened a file outside of the model's folder", watch.opened[0])
    if outcome.verdict != FAULT and watch.warned:
        outcome = Outcome(case, FAULT, f"warning: {kind_of(watch.warned[0])}", watch.warned[0])
    grown = (peak() - before) >> 10
    if outcome.verdict != FAULT and grown > MEGABYTES << 10:
        outcome = Outcome(case, FAULT, f"took more than {MEGABYTES} MB")
    outcome.facts, outcome.seconds, outcome.kilobytes, outcome.size = facts, watch.seconds, grown, size
    return outcome


def death(watch: Watch, status: int, text: str) -> Outcome:
    """Return the outcome of a case at which a process died."""
    case, stage = watch.case, watch.stage
    code = os.waitstatus_to_exitcode(status)
    name = signal.Signals(-code).name if code < 0 else f"exit {code}"
    if stage == "oracle":
        return Outcome(case, ACCEPTED, "the other runtime died", name)
    if code == -signal.SIGPROF:
        return Outcome(case, FAULT, f"more than {SECONDS:g} s of CPU time in stage {stage}", text, seconds=SECONDS)
    if code == -signal.SIGALRM:
        return Outcome(case, FAULT, f"stuck in stage {stage}", text)
    return Outcome(case, FAULT, f"crash: {name} in stage {stage}", text)


def child(chosen: Fuzzer, seed: int, first: int, last: int, watch: Watch, errors: int) -> None:
    """Run the cases in a process of their own, which ends with them; whatever it says on stderr goes to a file."""
    try:
        os.dup2(errors, 2)
        os.ftruncate(errors, 0)
        os.lseek(errors, 0, os.SEEK_SET)
        watch.install()
        _run_cases(chosen, seed, range(first, last), watch, errors)
    except BaseException:  # noqa: BLE001  # only the parent may clean up: this process ends here
        os.write(2, traceback.format_exc().encode())
        os._exit(1)
    os._exit(0)


def _run_cases(chosen: Fuzzer, seed: int, cases: range, watch: Watch, errors: int) -> None:
    written = 0
    for case in cases:
        outcome = run_case(chosen, seed, case, watch)
        said = os.fstat(errors).st_size
        if said > written + watch.forgiven and outcome.verdict != FAULT:
            text = os.pread(errors, 2000, written).decode(errors="replace")
            outcome = Outcome(case, FAULT, f"wrote to stderr: {kind_of(text)}", text, size=outcome.size)
        written = said
        os.write(1, outcome.line())


def main(name: str, seed: int) -> None:
    """Run the worker; see the module."""
    chosen, watch = fuzzer(name), Watch()
    warnings.filterwarnings(
        "ignore", ".*multi-threaded.*", DeprecationWarning
    )  # of fork: the threads of others are idle here
    folder = Path(tempfile.mkdtemp(prefix="qrnn-fuzz-"))
    try:
        chosen.prepare(folder)
        with tempfile.TemporaryFile() as errors:
            for line in sys.stdin:
                first, count = (int(v) for v in line.split())
                case, last = first, first + count
                while case < last:
                    start = time.perf_counter()
                    pid = os.fork()
                    if pid == 0:
                        child(chosen, seed, case, last, watch, errors.fileno())
                    _, status = os.waitpid(pid, 0)
                    if status == 0:
                        break
                    text = os.pread(errors.fileno(), 4000, 0).decode(errors="replace")
                    os.write(1, death(watch, status, text or f"after {time.perf_counter() - start:.1f} s").line())
                    case = watch.case + 1
                os.write(1, b"\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
