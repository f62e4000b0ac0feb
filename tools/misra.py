"""Check the exported C of small models by Cppcheck and its MISRA addon, and write docs/misra.md, the list of deviations.

    python tools/misra.py            what is found beside the list, and what is listed and not found; exit status 1 where there is any
    python tools/misra.py --write    writes docs/misra.md anew, with the number of places of each rule

The deviations, with their reasons, are in tools/data/misra.toml. Debian: apt-get install cppcheck.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from misra_models import MODELS, write
from provenance import ROOT, when

from qrnn.system.atomic import write_atomically

PAGE = ROOT / "docs" / "misra.md"
LIST = ROOT / "tools" / "data" / "misra.toml"
ENABLED = "warning,portability,performance"
"""What Cppcheck itself is asked for; nothing of it is allowed."""

LIBRARY = {
    "SIZE_MAX": "0xFFFFFFFFU",
    "INT32_MIN": "(-2147483647 - 1)",
    "INT32_MAX": "2147483647",
    "DBL_MANT_DIG": "53",
    "FLT_EVAL_METHOD": "0",
}
"""Macros of the C library's headers, which Cppcheck does not read. With macros it checks one configuration, that of the model's target."""

INTRODUCTION = """\
# Deviations from MISRA C:2012

Made by `python tools/misra.py --write` on {when}.

{version} and its addon `misra` check the C that `qrnn export` writes for these small models:

{models}

Of each, they check the model's C file with the runtime headers that it includes, its self-test and its header for real numbers, in one
configuration: that of the target, with the macros that its compiler defines. The addon finds violations of most of the rules that a program can
decide. No rule is broken but those of the table, and each of these is; `python tools/misra.py` says otherwise, with file and line, and so does
a test. Cppcheck itself (`--enable={enabled}`) has nothing to say.

This is no statement of compliance, which has to be made for a whole product; it is what the deviation records of one need of this part of it.
The words of the rules are MISRA's and not repeated here: *about* says in a few others what a rule is about. A place in a runtime header counts
once.
"""

_LINE = re.compile(r"(?P<file>[^:\n]*):(?P<line>\d+):(?P<severity>\w+):(?P<id>[\w.-]+):(?P<text>.*)")
_RULE = "misra-c2012-"


@dataclass(frozen=True)
class Finding:
    """What Cppcheck says of a place: the file's name without the model's folder, the line, and the rule's number or Cppcheck's own name."""

    file: str
    line: int
    what: str
    is_rule: bool


@dataclass(frozen=True)
class Deviation:
    """A rule that the C breaks: its number, ``required`` or ``advisory``, what it asks for in a few words, and why the C deviates."""

    rule: str
    category: str
    about: str
    reason: str


@cache
def deviations() -> tuple[Deviation, ...]:
    """Return the committed list, in the order of the rules' numbers."""
    found = [Deviation(**entry) for entry in tomllib.loads(LIST.read_text(encoding="utf-8"))["deviation"]]
    return tuple(sorted(found, key=lambda d: _number(d.rule)))


def check(name: str) -> frozenset[Finding]:
    """Return what Cppcheck finds in the exported C of a model of `MODELS`: the model, its self-test and its functions for real numbers."""
    with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
        folder = Path(temporary).resolve() / "net"
        write(name, folder)
        macros = {**LIBRARY, **{key: str(value) for key, value in MODELS[name].macros}}
        files = [folder / "net.c", folder / "test" / "net_selftest.c", folder / "net_float.h"]
        command = [
            *(
                "cppcheck",
                "-q",
                "--std=c99",
                "--language=c",
                "--platform=unix32",
                f"--enable={ENABLED}",
                "--addon=misra",
            ),
            "--template={file}:{line}:{severity}:{id}:{message}",
            *(f"-D{key}={value}" for key, value in macros.items()),
            *(f"-I{folder}", *map(str, files)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        lines = [_LINE.fullmatch(line) for line in done.stderr.splitlines()]
        if done.returncode != 0 or not lines:
            raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr[-2000:]}")
        return frozenset(_finding(folder, line) for line in lines if line is not None and _counts(line))


def _counts(line: re.Match[str]) -> bool:
    """Return whether a line is of the addon, or of what Cppcheck is asked for: with an addon it gives its remarks on style, too."""
    return line["id"].startswith(_RULE) or line["severity"] not in ("style", "information", "note")


def _finding(folder: Path, line: re.Match[str]) -> Finding:
    file = line["file"].removeprefix(f"{folder}/")
    is_rule = line["id"].startswith(_RULE)
    return Finding(file, int(line["line"]), line["id"].removeprefix(_RULE), is_rule)


def unlisted(findings: Iterable[Finding]) -> list[str]:
    """Return, as lines of text, what is found and not allowed by the list."""
    rules = {d.rule for d in deviations()}
    over = sorted({(f.file, f.line, f.what) for f in findings if not f.is_rule or f.what not in rules})
    return [f"{file}:{line}: {what}" for file, line, what in over]


def unused(findings: Iterable[Finding]) -> list[str]:
    """Return the rules of the list that nothing deviates from."""
    found = {f.what for f in findings if f.is_rule}
    return [d.rule for d in deviations() if d.rule not in found]


def version() -> str:
    """Return Cppcheck's name and version."""
    return subprocess.run(["cppcheck", "--version"], capture_output=True, text=True, check=True).stdout.strip()


def page(found: Mapping[str, frozenset[Finding]]) -> str:
    """Return docs/misra.md: the list, with the places of each rule, of which one of a runtime header counts once for all models."""
    places: dict[str, set[tuple[str, str, int]]] = defaultdict(set)
    for model, findings in found.items():
        for f in findings:
            places[f.what].add(("" if f.file.startswith("qrnn_") else model, f.file, f.line))
    rows = [f"| {d.rule} | {d.category} | {len(places[d.rule])} | {d.about} | {d.reason} |" for d in deviations()]
    intro = INTRODUCTION.format(
        when=when(), version=version(), models="\n".join(f"- {name}" for name in found), enabled=ENABLED
    )
    return "\n".join(
        [intro, "| Rule | Category | Places | About | Why the C deviates |", "|---|---|---:|---|---|", *rows, ""]
    )


def main() -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/misra.md anew")
    options = parser.parse_args()
    if shutil.which("cppcheck") is None:
        parser.error("cppcheck is not installed; apt-get install cppcheck")
    found = {name: check(name) for name in MODELS}
    all_findings = frozenset[Finding]().union(*found.values())
    problems = [
        *(f"not in {LIST.name}: {line}" for line in unlisted(all_findings)),
        *(f"in {LIST.name}, and not found: rule {rule}" for rule in unused(all_findings)),
    ]
    print("\n".join(problems) or "nothing but what is listed")
    if options.write and not problems:
        write_atomically(PAGE, page(found).encode())
    return 1 if problems else 0


def _number(rule: str) -> tuple[int, ...]:
    return tuple(int(part) for part in rule.split("."))


if __name__ == "__main__":
    sys.exit(main())
