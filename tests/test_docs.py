"""README.md and docs/: links resolve, commands and their options exist, names in code and in prose are names of the code."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import qrnn.model.parts
from qrnn.backends.cpu.isa import ISAS
from qrnn.cli.commands import app
from qrnn.examples import digits_calibration, digits_model, digits_test
from qrnn.model.kinds import quantized_kinds
from qrnn.model.layer import Layer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = ("qrnn", "tools", "targets", "tests")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
MADE_BY_A_TOOL = re.compile(r"^Made by `python tools/", re.MULTILINE)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    return FENCE.sub("", text(page))


def fences(page: Path, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(text(page)) if language in languages]


def files() -> list[str]:
    """All files of the code, relative to the root."""
    return [p.relative_to(ROOT).as_posix() for folder in CODE for p in (ROOT / folder).rglob("*") if p.is_file()]


def words_of_the_code() -> set[str]:
    sources = [ROOT / name for name in files() if name.endswith((".py", ".h", ".c", ".toml", ".js"))]
    return set(re.findall(r"\w+", "\n".join(s.read_text(encoding="utf-8") for s in sources if s != Path(__file__))))


# --- links -----------------------------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_page
def test_links_resolve(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(there), f"{page.name}: {link}"


def test_figures_of_the_readme_are_on_the_pages_that_it_names() -> None:
    (good,) = re.findall(r"^## How good\n(.*?)^## ", text(ROOT / "README.md"), re.MULTILINE | re.DOTALL)
    for point in re.split(r"^- ", good, flags=re.MULTILINE)[1:]:
        pages = [text(ROOT / name.partition("#")[0]) for name in re.findall(r"\]\(([^)\s]+)\)", point)]
        for figure in re.findall(r"\*\*([\d.,]+)\*\*", point):
            assert any(figure in page for page in pages), f"{figure} is on none of the pages of: {point}"


# --- commands --------------------------------------------------------------------------------------------------------------------------


def commands(page: Path) -> list[list[str]]:
    """Words of every command line in fences, and of every command in code spans."""
    found = []
    for block in fences(page, "sh", "console"):
        if "<<" not in block and '-c "' not in block:
            found += [
                shlex.split(line.removeprefix("$ "), comments=True) for line in block.replace("\\\n", " ").splitlines()
            ]
    spans = SPAN.findall(prose(page))
    found += [
        shlex.split(span.replace("\\|", "|"))
        for span in spans
        if span.startswith(("qrnn ", "python ")) and "/ limit" not in span
    ]
    parts: list[list[str]] = []
    for words in found:
        part: list[str] = []
        for word in [*words, "&&"]:
            if word == "&&":
                parts.append(part)
                part = []
            else:
                part.append(word)
    return [part for part in parts if part]


@cache
def subcommands() -> dict[str, Any]:
    """Name → command, as click objects (typer may bring a click of its own)."""
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def options(command: Any) -> set[str]:
    return {name for p in command.params for name in (*p.opts, *p.secondary_opts) if name.startswith("-")} | {"--help"}


def check_command(words: list[str]) -> None:
    program = words[0].removeprefix(".venv/bin/")
    if program == "qrnn" and len(words) > 1 and not words[1].startswith("-"):
        assert words[1] in subcommands(), f"qrnn {words[1]} is no command"
        command, rest = subcommands()[words[1]], words[2:]
        if hasattr(command, "commands") and rest:
            assert rest[0] in command.commands, f"qrnn {words[1]} {rest[0]} is no command"
            command, rest = command.commands[rest[0]], rest[1:]
        given = [w for w in rest if w not in ("…", "[NAME]")]
        for word in given:
            if word.startswith("-"):
                assert word.split("=")[0] in options(command), f"{shlex.join(words)}: no option {word}"
        if any(not w.startswith("-") for w in given):  # a whole command line, whose values the parser counts
            parser = command.make_parser(command.context_class(command))
            assert parser.parse_args(given)[1] == [], f"{shlex.join(words)}: too many arguments"
    elif program in ("python", "python3") and len(words) > 1 and words[1].startswith(("tools/", "./tools/")):
        tool = ROOT / words[1]
        assert tool.is_file() or (tool / "__main__.py").is_file(), words[1]
        source = "".join(
            path.read_text(encoding="utf-8") for path in ([tool] if tool.is_file() else sorted(tool.glob("*.py")))
        )
        for word in words[2:]:
            if word.startswith("-"):
                assert f'"{word}"' in source, f"{shlex.join(words)}: no option {word}"
            elif word.startswith("docs/") and "gpu" not in word:
                assert (ROOT / word).exists(), f"{shlex.join(words)}: no {word}"
    elif program.endswith("python") and words[1:3] == ["-m", "pytest"]:
        for word in words[3:]:
            if word.startswith("tests/"):
                assert (ROOT / word).exists(), f"{shlex.join(words)}: no {word}"


@each_page
def test_commands_exist(page: Path) -> None:
    for words in commands(page):
        check_command(words)


def test_every_command_is_listed_with_options_that_it_has() -> None:
    rows = re.findall(r"^\| `qrnn (\w+)[^`]*` \| (.*) \|$", text(ROOT / "docs" / "commands.md"), re.MULTILINE)
    assert len({name for name, _ in rows}) == len(rows)
    assert {name for name, _ in rows} == set(subcommands())
    for name, row in rows:
        for option in re.findall(r"(?<![\w-])(--?[a-z][\w-]*)", " ".join(SPAN.findall(row))):
            assert option in options(subcommands()[name]), f"qrnn {name} has no {option}"


def test_wrong_commands_are_found() -> None:
    for words in (
        "qrnn convart x",
        "qrnn run --inputs x",
        "python tools/none.py",
        "python tools/none",
        "python tools/gpu_check --wet-run",
        "python tools/bench_devices.py --no",
    ):
        with pytest.raises(AssertionError):
            check_command(words.split())


# --- Python ----------------------------------------------------------------------------------------------------------------------------


@each_page
def test_python_compiles_and_its_names_exist(page: Path) -> None:
    modules = {"qrnn": qrnn, "layers": qrnn.layers}
    for block in fences(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                assert hasattr(modules[node.value.id], node.attr), f"{node.value.id}.{node.attr}"
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qrnn"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"from {node.module} import {alias.name}"


def test_the_first_example_in_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example runs on the bundled digits, from the conversion to the difference of two models."""
    block = next(b for b in fences(ROOT / "docs" / "python.md", "python") if "load_onnx" in b)
    monkeypatch.chdir(tmp_path)
    shutil.copy(digits_model(), tmp_path / "model.onnx")
    with np.load(digits_calibration()) as made, np.load(digits_test()) as test:
        calibration, x, labels = made["x"][:40], test["x"][:40], test["labels"][:40]
    names: dict[str, Any] = {
        "calibration": calibration,
        "x": x,
        "x_int16": np.zeros(x.shape, np.int16),
        "labels": labels,
        "lengths": np.full(40, x.shape[1]),
        "frames": list(x[:1].swapaxes(0, 1)),
        "frame": x[:1, 0],
    }
    exec(compile(block, "python.md", "exec"), names)
    assert (tmp_path / "model.qrnn").is_file()
    assert (tmp_path / "model_m4" / "model.c").is_file()


# --- names in prose --------------------------------------------------------------------------------------------------------------------


def exists_as_path(name: str, known: list[str]) -> bool:
    return (ROOT / name).exists() or (ROOT / "docs" / name).exists() or any(k.endswith(f"/{name}") for k in known)


@each_page
def test_files_named_in_prose_exist(page: Path) -> None:
    known = files()
    for span in SPAN.findall(prose(page)):
        if (
            page.name != "CHANGELOG.md"
            and "NAME" not in span
            and re.fullmatch(r"[\w./-]+\.(py|h|S|c)|(?:qrnn|tools|tests|targets|docs)/[\w./-]*", span)
        ):
            assert exists_as_path(span, known), f"{page.name}: {span}"


@each_page
def test_dotted_names_exist(page: Path) -> None:
    for span in SPAN.findall(prose(page)):
        if match := re.match(r"qrnn((?:\.\w+)+)(?=\(|$)", span):
            found: Any = qrnn
            for part in match[1].split(".")[1:]:
                if not hasattr(found, part):
                    importlib.import_module(f"{found.__name__}.{part}")
                found = getattr(found, part)


def test_extending_names_what_the_code_has() -> None:
    """Every class, function, constant and file in the recipes is a word of the code."""
    page = ROOT / "docs" / "extending.md"
    known = words_of_the_code()
    for span in SPAN.findall(prose(page)):
        if re.fullmatch(r"[\w.]+", span) and not span.endswith((".py", ".md", ".h")):
            for word in span.split("."):
                assert word in known, span


def test_extending_names_commits_that_are_there() -> None:
    """Each checklist ends with commits, which have that hash and that title."""
    page = " ".join(text(ROOT / "docs" / "extending.md").split())
    named = re.findall(r"\b([0-9a-f]{7}) \(\*(.*?)\*\)", page)
    assert len(named) >= page.count("**Shown by**") >= 10
    for revision, title in named:
        git = ("git", "-C", str(ROOT), "show", "--no-patch", "--format=%s", revision)
        done = subprocess.run(git, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip("this copy has no history, or not all of it")
        assert done.stdout.strip() == title


def test_the_glossary_is_in_alphabetical_order() -> None:
    terms = re.findall(r"^- \*\*(.+?)\*\*", text(ROOT / "docs" / "glossary.md"), re.MULTILINE)
    assert len(terms) > 70
    assert [term.lower() for term in terms] == sorted({term.lower() for term in terms})


# --- figures ---------------------------------------------------------------------------------------------------------------------------


def test_the_readmes_figures_of_the_demo(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "qrnn", "demo", "--short", "-o", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"})
    claimed = re.search(
        r"SQNR of ([\d.]+) dB for the logits, (\d+ of \d+) decisions.*? ([\d.]+ %) accuracy",
        text(ROOT / "README.md"),
        re.DOTALL,
    )
    assert claimed is not None
    sqnr, decisions, accuracy = claimed.groups()
    assert re.search(rf"logits.*{re.escape(sqnr)} dB", done.stdout)
    assert f"{decisions} as in float" in done.stdout
    assert done.stdout.count(accuracy) >= 2


def test_the_instruction_sets_are_listed() -> None:
    names = ", ".join([*(isa.name for isa in ISAS), "plain"])
    assert names in " ".join(text(ROOT / "docs" / "performance.md").replace("`", "").split())


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len(text(ROOT / "README.md").splitlines()) < 120


@each_page
def test_pages_of_figures_name_their_revision(page: Path) -> None:
    """All but docs/conformance.md, which a test compares with the code."""
    head = "\n".join(text(page).splitlines()[:8])
    if MADE_BY_A_TOOL.search(head) and page.name != "conformance.md":
        assert re.search(r"revision [0-9a-f]{7}", head), f"{page}: no revision in its head"


def test_the_page_of_types_is_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "file_format.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_page_of_types_names_every_type() -> None:
    """Independently of the tool: every dataclass of the modules that it mirrors."""
    page = text(ROOT / "docs" / "file_format.md")
    unwritten = (
        "Matrix",
        "QuantGraph",
        "QuantRecurrentDefinition",
        "CellShifts",
    )  # three are bases, CellShifts is computed from the rest
    kinds = {kind.__module__.removeprefix("qrnn.model.") for kind in quantized_kinds().values()}
    parts = {f"parts.{module.name}" for module in pkgutil.iter_modules(qrnn.model.parts.__path__)}
    for name in sorted({"quant_model", "quant_graph"} | parts | kinds):
        module = importlib.import_module(f"qrnn.model.{name}")
        for member in vars(module).values():
            own = isinstance(member, type) and member.__module__ == module.__name__
            own = own and not issubclass(member, Layer)  # float layers are in no file
            if own and hasattr(member, "__dataclass_fields__") and member.__name__ not in unwritten:
                assert f"#### `{member.__name__}`" in page
