"""Cases of every fuzzer, always the same ones; and the harness itself finds what it is there to find."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from qrnn.errors import DataError, ModelFileError

if sys.platform != "linux":
    pytest.skip("the limits and clocks are Linux's", allow_module_level=True)

pytest.importorskip("onnxruntime")
sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

from fuzzing import onnx_corpus, onnx_fuzzer, quant_corpus
from fuzzing.outcome import ACCEPTED, FAULT, REFUSED, FaultError, Outcome, asked_for_too_much, message_kind
from fuzzing.pool import Tally, fuzz
from fuzzing.watch import Unwatched, Watch
from fuzzing.worker import NAMES, child, death

SEED = 1
FEW = {"onnx": 600, "qrnn": 300, "arrays": 300}
MANY = {"onnx": 200_000, "qrnn": 100_000, "arrays": 100_000}


def told(tally: Tally) -> str:
    """The faults of a run, for a person who is to mend them."""
    return "\n".join(
        f"{kind}: cases {[o.case for o in found]}\n{found[0].detail}" for kind, found in tally.faults.items()
    )


def check_cases(name: str, count: int) -> None:
    tally = fuzz(name, SEED, range(count))
    assert tally.count == count
    assert not tally.faults, told(tally)
    assert tally.verdicts[ACCEPTED] > 0.05 * tally.count
    assert tally.verdicts[REFUSED] > 0.05 * tally.count


def test_a_few_cases() -> None:
    """Models that are read and not run, so that nothing is compiled."""
    check_cases("onnx", 80)


@pytest.mark.matrix
@pytest.mark.parametrize("name", NAMES)
def test_some_cases(name: str) -> None:
    check_cases(name, FEW[name])


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_many_cases(name: str) -> None:
    tally = fuzz(name, SEED, range(MANY[name]), workers=len(os.sched_getaffinity(0)))
    assert tally.count == MANY[name]
    assert not tally.faults, told(tally)
    if name == "onnx":
        assert tally.facts["valid"] > 0.5 * tally.count


class Planted:
    """A fuzzer whose cases do what is not allowed, each in its own way."""

    def __init__(self, deeds: list[Callable[[Watch, Path], Any]], folder: Path) -> None:
        self._deeds, self._folder = deeds, folder

    def prepare(self, folder: Path) -> None:
        pass

    def make(self, seed: int, case: int) -> Callable[[Watch, Path], Any]:
        return self._deeds[case]

    def size(self, made: Any) -> int:
        return 1

    def judge(self, made: Callable[[Watch, Path], Any], watch: Watch, facts: list[str]) -> str:
        with watch.loading(self._folder):
            made(watch, self._folder)
        return "done"

    def write(self, made: Any, stem: Path) -> list[Path]:
        return []


def outcomes(deeds: list[Callable[[Watch, Path], Any]], folder: Path, together: int = 1) -> list[Outcome]:
    """Return the outcome of each deed, with ``together`` of them in each process."""
    found = []
    for case in range(0, len(deeds), together):
        watch, (reader, writer) = Watch(), os.pipe()
        with (folder / "errors").open("w+b") as errors:
            pid = os.fork()
            if pid == 0:
                os.dup2(writer, 1)
                child(Planted(deeds, folder), 0, case, case + together, watch, errors.fileno())
            os.close(writer)
            _, status = os.waitpid(pid, 0)
            with os.fdopen(reader, "rb") as pipe:
                lines = pipe.read().splitlines()
        found += [Outcome.read(line) for line in lines] if status == 0 else [death(watch, status, "")]
    return found


def refuse(_: Watch, __: Path) -> None:
    raise DataError("input 'x' has 3 steps")


def spin(*_: Any) -> None:
    while True:
        pass


def hide_memory_error(*_: Any) -> None:
    try:
        np.ones(1 << 40)
    except MemoryError:
        raise ModelFileError("cannot be evaluated") from None


@pytest.mark.filterwarnings(
    "ignore:.*multi-threaded.*:DeprecationWarning"
)  # of fork; the child computes nothing with threads
def test_every_kind_of_fault_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each deed is seen: a crash, an endless loop, memory, an exception, a warning, an opened file, output on stderr, and none."""
    monkeypatch.setattr("fuzzing.watch.SECONDS", 0.2)
    inside = tmp_path / "folder"
    inside.mkdir()
    (tmp_path / "outside").write_text("x")
    (inside / "weights").write_text("x")
    deeds: dict[str, tuple[Callable[[Watch, Path], Any], str, str]] = {
        "fine": (lambda _, folder: (folder / "weights").read_text(), ACCEPTED, "done"),
        "refused": (refuse, REFUSED, "DataError: input … has # steps"),
        "crash": (lambda *_: os.kill(os.getpid(), signal.SIGKILL), FAULT, "crash: SIGKILL in stage load"),
        "loop": (spin, FAULT, "more than 5 s of CPU time in stage load"),
        "memory": (lambda *_: np.ones(1 << 40), FAULT, "MemoryError"),
        "hidden memory": (hide_memory_error, FAULT, "asked for more than 1024 MB"),
        "exception": (lambda *_: {}["x"], FAULT, "KeyError"),
        "warning": (lambda *_: np.float64(1e308) * 10, FAULT, "warning: RuntimeWarning: overflow"),
        "opened": (lambda _, folder: (folder.parent / "outside").read_text(), FAULT, "opened a file outside"),
        "stderr": (lambda *_: os.write(2, b"words\n"), FAULT, "wrote to stderr: words"),
    }
    found = outcomes([deed for deed, _, _ in deeds.values()], inside)
    for outcome, (name, (_, verdict, kind)) in zip(found, deeds.items(), strict=True):
        assert (outcome.verdict, outcome.kind[: len(kind)]) == (verdict, kind), (name, outcome)


@pytest.mark.matrix
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_every_case_that_takes_much_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first process held, or the case before, does not hide what a case takes."""
    monkeypatch.setattr("fuzzing.worker.MEGABYTES", 200)
    held = np.ones(600 << 20, np.uint8)
    del held
    large = [lambda *_: np.ones(300 << 20, np.uint8).size] * 2
    small: list[Callable[[Watch, Path], Any]] = [lambda *_: np.ones(100 << 20, np.uint8).size]
    found = outcomes([*large, *small], tmp_path, together=3)
    assert [outcome.kind for outcome in found] == ["took more than 200 MB"] * 2 + ["done"]
    assert 90 << 10 < found[2].kilobytes < 200 << 10


def test_kinds_of_messages_have_no_names_and_numbers() -> None:
    assert message_kind("node 'a' [1, 2] has 3.5e-2 of \"x\" (b)") == "node … has # of …"
    assert asked_for_too_much(ValueError("Unable to allocate 8 GiB"))
    assert not asked_for_too_much(ValueError("no"))


def test_cases_are_made_again_alike() -> None:
    for case in range(40):
        assert onnx_fuzzer.make_file(3, case) == onnx_fuzzer.make_file(3, case)


def test_edits_of_the_corpus_are_made_and_mostly_valid(tmp_path: Path) -> None:
    """Few edits fail, every edit is used, and half of the files are valid for protobuf and onnx.checker."""
    watch, done, valid = Unwatched(), [], 0
    count = 400
    for case in range(count):
        content, edits = onnx_fuzzer.make_file(SEED, case)
        done += edits[1:]
        valid += onnx_fuzzer.is_valid(content, watch, [])
    assert valid > count / 2
    failed = [name for name in done if "failed" in name]
    assert len(failed) < 0.02 * len(done), failed
    assert {edit.__name__ for _, edit in onnx_fuzzer.EDITS} <= set(done)


def test_a_wrong_import_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An importer that mistook a function would be found beside ONNX Runtime."""
    from fuzzing import onnx_oracle

    content = dict(onnx_corpus.corpus())["head GRU 17"]
    import onnx

    from qrnn.onnx_import import import_model

    model = import_model(onnx.ModelProto.FromString(content), "m")
    assert onnx_oracle.compare(model, content, 1, Unwatched(), tmp_path) == "equals ONNX Runtime"
    monkeypatch.setattr("qrnn.equations.oracle.np.tanh", np.arctan)
    with pytest.raises(FaultError, match="wrong import: values"):
        onnx_oracle.compare(model, content, 1, Unwatched(), tmp_path)


@pytest.mark.matrix
def test_backends_that_differ_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from fuzzing.qrnn_fuzzer import run_alike
    from qrnn.backends.reference import ReferenceEngine

    model = next(e.model for e in quant_corpus.entries() if e.name == "lstm, states")
    assert run_alike(model, Random(0)) == "run and streamed"
    rows = ReferenceEngine.rows
    monkeypatch.setattr(ReferenceEngine, "rows", lambda self, layer, *given: 0 * rows(self, layer, *given))
    with pytest.raises(FaultError, match="backends differ"):
        run_alike(model, Random(0))


def test_the_page_holds_the_counts() -> None:
    from fuzz_page import Run, faults_text, page

    tally = Tally()
    for k in range(3):
        tally.add(Outcome(k, REFUSED, "DataError: a | b", facts=["parsed"], seconds=0.1))
    tally.add(Outcome(3, FAULT, "crash: SIGSEGV in stage load"))
    text = page([Run("onnx", 7, tally, 60.0)])
    assert "| ONNX files | 7 | 4 | 0 | 3 | 1 | 1 |" in text
    assert "| DataError: a \\| b | 3 |" in text
    assert "Protobuf parses 75 % of the files" in text
    assert "| crash: SIGSEGV in stage load | 1 | 3 |" in text
    assert "1 × crash: SIGSEGV in stage load\n      cases 3" in faults_text(Run("onnx", 7, tally, 60.0))
