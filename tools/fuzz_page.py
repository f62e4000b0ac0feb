"""The page and the printed report of tools/fuzz.py."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from fuzzing.outcome import Outcome
from fuzzing.pool import Tally
from fuzzing.watch import MEGABYTES, SECONDS
from provenance import when

from qrnn.running.bench import processor

KINDS_SHOWN = 40
"""Kinds of refusals in a table; the rest are counted together."""

TITLES = {"onnx": "ONNX files", "qrnn": ".qrnn files", "arrays": "Arrays, mappings and .npz archives"}

FACTS = {
    "parsed": "protobuf can parse the file",
    "valid": "onnx.checker accepts the file as well",
    "imported": "qrnn imports the file",
    "equals ONNX Runtime": "imported, and the float oracle gives what ONNX Runtime gives for the same file and data",
    "ONNX Runtime refuses it": "imported, but ONNX Runtime refuses the file or the data",
    "not compared: parameters left out": "imported; ONNX Runtime reads left-out activation parameters otherwise than the specification",
    "not compared: ill-conditioned": "imported; a change of 1e-6 of the inputs changes the result as much as what lies between the two",
    "not compared: infinite": "imported; ONNX Runtime's result is not finite or beyond 1e6",
    "not compared: large sizes": "imported; the file fixes sizes beyond 64",
    "not compared: data out of range": "imported; the data do not fit the inputs' types",
    "quantized and run": "imported, quantized on random data and run: the same bits by `reference` and `cpu`",
    "quantizer refused": "imported, and refused by the quantizer",
    "loaded": "the file loads",
    "run and streamed": "loaded, and run by `reference`, by `cpu` and as a stream: the same bits",
    "run": "loaded, and run by `reference` and `cpu`: the same bits (it reads sequences backwards, so it has no streams)",
    "refused when run": "loaded, and the data are refused by both backends",
    "too large to run": "loaded; an input has more than 1,000 features, so it is not run",
    "call taken": "calls whose result is that of the same values as plain arrays on `reference`",
    "call refused": "calls refused with a DataError",
    "archive": "cases that are .npz archives for `qrnn run`",
    "archive run": "archives that it takes, with the result of the same values plain on `reference`",
}
"""Fact → its words, in the order of the table."""

PROMISE = f"""# Robustness

Files and arrays may come from anywhere. qrnn promises for every one of them, however it is made:

- It is taken and means what it says, or it is refused with one error, a subclass of `QrnnError`, that names the place. There is no crash
  of the process, no other exception, no traceback and no warning.
- A file of up to 50 MB is read or refused within {SECONDS:g} s of CPU time, and within {MEGABYTES / 1024:g} GB of memory beyond what the
  process had.
- Nothing is opened but the file itself and, for an ONNX model, weights in the folder that the file lies in.
- What is taken is right: an imported model computes what ONNX Runtime computes from the same file, and every backend and stream gives the
  same bits.

## How it is checked

`tools/fuzz.py` makes inputs at random, each from a seed and a number, and gives them to qrnn in processes of their own. A process that
dies, takes too long or too much is noted as the fault of the case that it was at. Three kinds of inputs are made:

- **ONNX files.** Small valid models (every cell, direction and attribute, heads, states, and the shapes that exporters write; trained
  models where they are present) are edited: attributes, constants, names, edges, nodes, operators, opsets, states, lengths, external data,
  functions, subgraphs, inputs and outputs; nodes drawn from ONNX's own schemas are put in; small files are made to ask for much. The bytes
  of some are edited, whatever they mean. Imported models are compared with ONNX Runtime, quantized and run.
- **.qrnn files.** The model's JSON, its tensors and the header are edited, mostly with a checksum and an overflow proof made to fit. What
  loads is run by every backend, whole and as a stream, on values of every size.
- **Arrays.** Valid arrays are given other types, byte orders, layouts, shapes, values and wrappings, in mappings of every kind, with
  lengths and states, to `run`, `step`, `stream` and `pool`, three calls in a row. The result of a call that takes them is compared with
  that of the same values as plain arrays. Archives, whole and damaged, go to `qrnn run`.

The tests run some cases of each kind every time, always the same ones, and the full counts with `pytest -m long tests/fuzzing`.
A case is made again by `python tools/fuzz.py onnx --seed S --case K --write case`.
"""


@dataclass(frozen=True)
class Run:
    """The cases of one fuzzer, and how long they took by the clock."""

    name: str
    seed: int
    tally: Tally
    seconds: float


def faults_text(run: Run) -> str:
    """Return the outcome of a run, and its faults with a case of each."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(run.tally.verdicts.items()))
    lines = [f"{run.name}, seed {run.seed}: {run.tally.count} cases in {run.seconds:.0f} s: {counts}"]
    for kind, count in run.tally.kinds["fault"].most_common():
        cases = ", ".join(str(outcome.case) for outcome in run.tally.faults[kind])
        lines.append(f"  {count} × {kind}\n      cases {cases}")
    return "\n".join(lines)


def page(runs: Sequence[Run]) -> str:
    """Return the whole page."""
    packages = " · ".join(f"{name} {_version(name)}" for name in ("numpy", "onnx", "onnxruntime", "protobuf"))
    made = f"\n## Result\n\nMade by `python tools/fuzz.py --output docs/robustness.md` on {when()},"
    made += f" on {processor()}, Python {platform.python_version()} · {packages}.\n\n"
    return PROMISE + made + _summary(runs) + "".join(_section(run) for run in runs)


def _summary(runs: Sequence[Run]) -> str:
    rows = ["| inputs | seed | cases | accepted | refused | faults | minutes |", "|---|---|---|---|---|---|---|"]
    for run in runs:
        v = run.tally.verdicts
        counts = [run.tally.count, v["accepted"], v["refused"], v["fault"]]
        cells = [TITLES[run.name], str(run.seed), *(f"{n:,}" for n in counts), f"{run.seconds / 60:.0f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _section(run: Run) -> str:
    tally = run.tally
    lines = [f"\n## {TITLES[run.name]}\n"]
    if "parsed" in tally.facts:
        parsed, valid = (100 * tally.facts[name] / tally.count for name in ("parsed", "valid"))
        lines.append(f"Protobuf parses {parsed:.0f} % of the files, and onnx.checker accepts {valid:.0f} % of all.\n")
    lines += ["| of them | count |", "|---|---|"]
    lines += [f"| {words} | {tally.facts[fact]:,} |" for fact, words in FACTS.items() if tally.facts[fact]]
    lines.append(f"\n{_extreme(run)}\n")
    refusals = tally.kinds["refused"].most_common()
    lines += [f"Kinds of refusal: {len(refusals)}. Names, numbers and lists are left out of the messages (… and #).\n"]
    lines += ["| refusal | count |", "|---|---|"]
    lines += [f"| {_cell(kind)} | {count:,} |" for kind, count in refusals[:KINDS_SHOWN]]
    if rest := refusals[KINDS_SHOWN:]:
        lines.append(f"| {len(rest)} further kinds | {sum(count for _, count in rest):,} |")
    if tally.faults:
        lines += ["\n| fault | count | cases |", "|---|---|---|"]
        for kind, count in tally.kinds["fault"].most_common():
            cases = ", ".join(str(outcome.case) for outcome in tally.faults[kind])
            lines.append(f"| {_cell(kind)} | {count:,} | {cases} |")
    return "\n".join(lines) + "\n"


def _extreme(run: Run) -> str:
    """Return the slowest case, the one that took most memory, and the largest."""

    def named(outcome: Outcome | None) -> str:
        return "none" if outcome is None else f"case {outcome.case}"

    tally = run.tally
    if tally.slowest is None or not tally.slowest.seconds:
        return "No time is taken of these: they are calls, not files."
    grown = 0.0 if tally.hungriest is None else tally.hungriest.kilobytes / 1024
    size = 0 if tally.largest is None else tally.largest.size
    return (
        f"The slowest took {tally.slowest.seconds:.2f} s of CPU time to read ({named(tally.slowest)}); the hungriest raised the peak of its\n"
        f"process's memory by {grown:.0f} MB ({named(tally.hungriest)}); the largest has {size:,} bytes ({named(tally.largest)})."
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
