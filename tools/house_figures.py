"""Count what the rebuild of the layers changed, between two revisions, and write docs/rebuild.md.

    python tools/house_figures.py BEFORE AFTER [--output docs/rebuild.md]

Both revisions are taken out of the repository into a temporary folder; nothing of them is run. The additions of `ADDITIONS` are found
among the commits from BEFORE to AFTER by the first words of their titles; one that is not there yet is left out.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from import_graph import circles, imports, longest_chain, packages
from provenance import ROOT

from qrnn.system.atomic import write_atomically

FOLDERS = ("qrnn", "tools", "targets", "tests")
SOURCES = (".py", ".c", ".h", ".S", ".ld", ".toml", ".js", ".css", ".html", ".in")
CELL_NAMES = frozenset(["lstm", "gru", "rnn", "min_gru", "indrnn", "ln_lstm", "ln_gru"])

ADDITIONS: Mapping[str, tuple[str, ...]] = {
    "layer and RMS normalization: the arithmetic": (
        "Layer and RMS normalization in the contract",
        "The integers of a normalization's gain, bias and epsilon",
        "Golden vectors of normalizations",
        "The wide contract in C has the functions of normalizations",
    ),
    "layer and RMS normalization: the kind of layer": ("Layer normalization is a kind of layer",),
    "minGRU": ("minGRU (Feng et al. 2024)",),
    "IndRNN": ("IndRNN (Li et al. 2018)",),
    "minGRU and IndRNN: backends and exported C": ("minGRU and IndRNN run on every backend",),
    "causal convolution": ("A causal convolution over time is a kind of layer",),
    "LSTM and GRU with layer normalization": (
        "A direction may normalize its sums",
        "LSTM with layer normalization",
        "GRU with layer normalization",
    ),
}  # fmt: skip
"""What was added → how the titles of its commits begin."""


@dataclass(frozen=True)
class House:
    """The counts of one revision.

    ``files`` and ``lines`` are of source text by folder, ``by_package`` lines of qrnn/ by package; ``naming`` says how many files of qrnn/
    and tools/ name each kind of integer layer (or more than one of them); ``comparing`` counts lines and files in which a cell's name is
    compared.
    """

    files: Mapping[str, int]
    lines: Mapping[str, int]
    by_package: Mapping[str, int]
    naming: Mapping[str, int]
    comparing: tuple[int, int]
    packages: int
    floors: int
    package_circles: Sequence[Sequence[str]]
    file_circles: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Addition:
    """What one commit changed: new files and files that were there, and lines added and removed, by folder."""

    revision: str
    title: str
    new: Counter[str]
    changed: Counter[str]
    added: Counter[str]
    removed: Counter[str]


def git(*arguments: str) -> str:
    """Return what git prints."""
    return subprocess.run(("git", "-C", str(ROOT), *arguments), capture_output=True, text=True, check=True).stdout


def check_out(revision: str, folder: Path) -> Path:
    """Write a revision's files below ``folder`` and return where they are."""
    packed = subprocess.run(("git", "-C", str(ROOT), "archive", revision), capture_output=True, check=True).stdout
    place = folder / revision
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(place, filter="data")
    return place


def text_of(root: Path, *folders: str) -> dict[Path, str]:
    """Return the text of every source file in some folders of a checkout."""
    paths = [p for folder in folders for p in sorted((root / folder).rglob("*")) if p.suffix in SOURCES and p.is_file()]
    return {path: path.read_text(encoding="utf-8") for path in paths}


def kinds_of(root: Path) -> set[str]:
    """Return the names of the integer layers in the newer revision: the dataclasses ``Quant…`` in a module of `qrnn/model/kinds`."""
    found = set()
    for path in sorted((root / "qrnn" / "model" / "kinds").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            bases = {base.id for base in getattr(node, "bases", ()) if isinstance(base, ast.Name)}
            if isinstance(node, ast.ClassDef) and bases & {
                "QuantLayer",
                "QuantMatrixLayer",
                "QuantRecurrentDefinition",
            }:
                found.add(node.name)
    return found - {"QuantMatrixLayer", "QuantRecurrentDefinition"}


def lines_by_package(root: Path, texts: Mapping[Path, str]) -> dict[str, int]:
    """Return the lines of each package of qrnn/; files that lie in none count as ``qrnn itself``."""
    found = Counter[str]()
    for path, text in texts.items():
        parts = path.relative_to(root / "qrnn").parts
        found[parts[0] if len(parts) > 1 else "qrnn itself"] += text.count("\n")
    return dict(found)


def comparing_lines(source: str) -> set[int]:
    """Return the numbers of the lines in which a cell's name is compared."""
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Compare, ast.MatchValue)))
    return {node.lineno for node in nodes if compares_cells(node)}


def compares_cells(node: ast.AST) -> bool:
    """Return whether a comparison, a pattern or a membership has a cell's name written out on one side."""
    if isinstance(node, ast.Compare):
        sides = [part for side in (node.left, *node.comparators) for part in getattr(side, "elts", [side])]
    elif isinstance(node, ast.MatchValue):
        sides = [node.value]
    else:
        return False
    return any(isinstance(side, ast.Constant) and side.value in CELL_NAMES for side in sides)


def house(root: Path, kinds: set[str]) -> House:
    """Count a checkout; see `House`."""
    texts = {folder: text_of(root, folder) for folder in FOLDERS}
    code = {path: text for folder in ("qrnn", "tools") for path, text in texts[folder].items() if path.suffix == ".py"}
    named = {path: kinds & set(re.findall(r"\bQuant\w+", text)) for path, text in code.items()}
    naming = Counter(kind for found in named.values() for kind in found)
    comparing = {path: comparing_lines(text) for path, text in code.items()}
    graph = imports(root)
    between = packages(graph)
    return House(
        files={folder: len(found) for folder, found in texts.items()},
        lines={folder: sum(text.count("\n") for text in found.values()) for folder, found in texts.items()},
        by_package=lines_by_package(root, texts["qrnn"]),
        naming={**naming, "three or more of them": sum(len(found) >= 3 for found in named.values())},
        comparing=(sum(map(len, comparing.values())), sum(map(bool, comparing.values()))),
        packages=len(between),
        floors=longest_chain(between),
        package_circles=circles(between),
        file_circles=circles(graph),
    )


def addition(revision: str) -> Addition:
    """Count what a commit changed."""
    new, changed, added, removed = (Counter[str]() for _ in range(4))
    fresh = set(git("show", "--format=", "--name-only", "--diff-filter=A", revision).split())
    for line in git("show", "--format=", "--numstat", "--no-renames", revision).splitlines():
        plus, minus, name = line.split("\t")
        folder = name.split("/")[0] if name.split("/")[0] in FOLDERS else "docs"
        (new if name in fresh else changed)[folder] += 1
        added[folder] += 0 if plus == "-" else int(plus)  # a binary file has no lines
        removed[folder] += 0 if minus == "-" else int(minus)
    title = git("show", "--no-patch", "--format=%s", revision).strip()
    return Addition(git("rev-parse", "--short=7", revision).strip(), title, new, changed, added, removed)


def additions(before: str, after: str) -> dict[str, list[Addition]]:
    """Return the commits of each addition that is there, oldest first."""
    lines = git("log", "--reverse", "--no-merges", "--format=%H %s", f"{before}..{after}").splitlines()
    commits = [line.split(" ", 1) for line in lines]
    return {
        what: [addition(revision) for revision, title in commits if title.startswith(beginnings)]
        for what, beginnings in ADDITIONS.items()
    }


COUNTED = "docs/benchmarks/devices.md"
KEYS = ("model", "layer", "target", "H")
COUNTS = ("instructions a step", "qrnn, this command")
"""The columns of that page that say what a row is, and those that hold a number of counted instructions."""

Counts = Mapping[tuple[str, ...], str]


def counted(text: str) -> Counts:
    """Return the instructions a step of every row of the page of devices, by the heading above it and what the row is of."""
    found: dict[tuple[str, ...], str] = {}
    heading, columns, previous = "", [""], [""]
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else [""]
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|---"):
            columns = previous
        elif len(cells) == len(columns) > 1:
            row: dict[str, str] = {}
            for column, cell in zip(columns, cells, strict=True):
                row.setdefault(column, cell)  # the second "qrnn, this command" is of cycles
            for column in COUNTS:
                if column in row:
                    found[(heading, *(row[key] for key in KEYS if key in row))] = row[column]
        previous = cells
    return found


def as_number(text: str) -> int | None:
    """Return a count; None for a row that was not counted."""
    digits = text.replace(",", "")
    return int(digits) if digits.isdigit() else None


def count_rows(old: Counts, new: Counts) -> list[str]:
    """Return the rows of the counts that are not the same, after a line that says how many are, fewer or more."""
    pairs = {key: (as_number(old[key]), as_number(new[key])) for key in old if key in new}
    both = {key: (a, b) for key, (a, b) in pairs.items() if a is not None and b is not None}
    changes = {key: b - a for key, (a, b) in both.items()}
    fewer, more = (sum(sign * change > 0 for change in changes.values()) for sign in (-1, 1))
    lines = [
        f"{len(both)} rows are counted in both: {len(both) - fewer - more} are the same, {fewer} take fewer instructions, {more} take more.",
        "",
        "| table | row | before | after | change |",
        "|---|---|---|---|---|",
    ]
    for key, change in changes.items():
        if change:
            a, b = both[key]
            share = f"{change:+,} ({100 * change / a:+.3f} %)"
            lines.append(f"| {key[0]} | {', '.join(key[1:])} | {a:,} | {b:,} | {share} |")
    return lines


PAGE = """# Before and after the rebuild of the layers

Made by `python tools/house_figures.py {before} {after}` on {date}: revision {before} of {before_date} beside revision {after} of {after_date}.

{before} is the last revision before kinds of layers became modules of their own. {after} also has what was added since (below), and other work.

## Size

Files of source text ({suffixes}) and their lines.

| folder | files before | files after | lines before | lines after |
|---|---|---|---|---|
{sizes}

The same lines of qrnn by package; a dash is a package that is not there.

| package | before | after |
|---|---|---|
{packages}

## Who knows a kind of layer

How many files of `qrnn/` and `tools/` name each class of integer layers. A dash is a kind that was not there.

| class | files before | files after |
|---|---|---|
{naming}

## Who compares names of cells

Lines of `qrnn/` and `tools/` in which a cell's name ({cells}) is written out on one side of a comparison.

| | before | after |
|---|---|---|
| lines | {lines_before} | {lines_after} |
| files | {files_before} | {files_after} |

## Who imports whom

A floor is a member of the longest chain of packages of which each imports the next; packages that import each other in a circle all count.

| | before | after |
|---|---|---|
{structure}

## Counted instructions

Instructions a step of exported C, by [benchmarks/devices.md](benchmarks/devices.md) as it is at both revisions (made at {pages}); emulators
count them exactly.

{counts}

## What an addition takes

Each row is one commit: new files and files that were there, with the lines added and removed in both. *qrnn, changed* says how many places of
the engine had to learn of it.

| what | commit | qrnn, new | qrnn, changed | lines in qrnn | targets | tools | tests | docs |
|---|---|---|---|---|---|---|---|---|
{additions}
"""


def span(folder: str, one: Addition) -> str:
    """Return a folder's files and lines in a commit."""
    count = one.new[folder] + one.changed[folder]
    return f"{count}: +{one.added[folder]} −{one.removed[folder]}" if count else "–"


def number(counts: Mapping[str, int], name: str) -> str:
    """Return a count, or a dash for what was not counted."""
    return f"{counts[name]:,}" if name in counts else "–"


def described(found: Sequence[Sequence[str]]) -> str:
    """Return how many circles there are, and how many take part."""
    return f"{len(found)}, of {sum(map(len, found))}" if found else "0"


def page(before: str, after: str) -> str:
    """Return the whole page."""
    names = [git("rev-parse", "--verify", "--short=7", revision).strip() for revision in (before, after)]
    dates = [git("show", "--no-patch", "--format=%cs", revision).strip() for revision in names]
    with tempfile.TemporaryDirectory() as temporary:
        roots = [check_out(revision, Path(temporary)) for revision in names]
        kinds = kinds_of(roots[1])
        old, new = (house(root, kinds) for root in roots)
    rows = [f"| `{kind}` | {number(old.naming, kind)} | {number(new.naming, kind)} |" for kind in sorted(kinds)] + [
        f"| {several} | {old.naming[several]} | {new.naming[several]} |" for several in ["three or more of them"]
    ]
    pages = [git("show", f"{name}:{COUNTED}") for name in names]
    made_at = [
        found[1] if (found := re.search(r"revision ([0-9a-f]{7})", text)) else "an unknown one" for text in pages
    ]
    structure = {
        "packages": (str(old.packages), str(new.packages)),
        "floors": (str(old.floors), str(new.floors)),
        "circles of packages": (described(old.package_circles), described(new.package_circles)),
        "circles of files": (described(old.file_circles), described(new.file_circles)),
    }
    lines = [
        f"| {what} | {one.revision} | {one.new['qrnn']} | {one.changed['qrnn']} | +{one.added['qrnn']} −{one.removed['qrnn']} | "
        + " | ".join(span(folder, one) for folder in ("targets", "tools", "tests", "docs"))
        + " |"
        for what, commits in additions(*names).items()
        for one in commits
    ]
    return PAGE.format(
        before=names[0],
        after=names[1],
        before_date=dates[0],
        after_date=dates[1],
        date=datetime.now(UTC).date(),
        suffixes=", ".join(SOURCES),
        cells=", ".join(sorted(CELL_NAMES)),
        sizes="\n".join(
            f"| {folder} | {old.files[folder]} | {new.files[folder]} | {old.lines[folder]:,} | {new.lines[folder]:,} |"
            for folder in FOLDERS
        ),
        packages="\n".join(
            f"| {name} | {number(old.by_package, name)} | {number(new.by_package, name)} |"
            for name in sorted({*old.by_package, *new.by_package})
        ),
        naming="\n".join(rows),
        lines_before=old.comparing[0],
        lines_after=new.comparing[0],
        files_before=old.comparing[1],
        files_after=new.comparing[1],
        structure="\n".join(f"| {name} | {a} | {b} |" for name, (a, b) in structure.items()),
        additions="\n".join(lines),
        pages=" and ".join(made_at),
        counts="\n".join(count_rows(*map(counted, pages))),
    )


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Compare two revisions and write docs/rebuild.md.")
    parser.add_argument("before", help="a revision of the repository")
    parser.add_argument("after", help="a later one")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "rebuild.md")
    arguments = parser.parse_args()
    try:
        text = page(arguments.before, arguments.after)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{' '.join(error.cmd)}: {str(error.stderr).strip()}") from None
    write_atomically(arguments.output, text.encode())


if __name__ == "__main__":
    main()
