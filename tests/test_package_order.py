"""The packages of qrnn stand in one line, each importing only those before it, and no files of a package import each other in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ORDER = (
    "errors",
    "examples",
    "system",  # files, written whole and read with care; the version
    "arithmetic",
    "model",
    "layers",
    "equations",  # the float64 oracle
    "quantization",
    "backends",
    "running",  # sessions, streams, and how long they take
    "refinement",  # after running: it looks at what the quantized model computes
    "accuracy",
    "conversion",  # quantize: calibration, quantization and refinement, with its choices measured
    "targets",
    "export",
    "devices",
    "onnx_import",  # the doors: models of other formats, and this package as a backend of ONNX
    "torch_import",
    "onnx_backend",
    "lab",
    "",  # `qrnn` itself, which offers the public names
    "cli",
    "__main__",
)
"""The packages and modules of qrnn. Each may import those before it and none after it, wherever in a file the import stands."""

MODULES = {"errors", "targets", "torch_import", "onnx_backend", "__init__", "__main__"}
"""The files that lie in no package: the errors, the targets, and doors under their public names."""

Graph = Mapping[str, Mapping[str, int]]
"""Module → the modules that it imports, with the line of the first import."""


def sources(root: Path) -> dict[str, Path]:
    """Every module of qrnn, by its dotted name."""
    found = {}
    for path in (root / "qrnn").rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path) -> Graph:
    """Return what every module imports of qrnn, in functions and for type checkers too."""
    modules = sources(root)
    graph: dict[str, dict[str, int]] = {name: {} for name in modules}
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for target in imported(node):
                while target and target not in modules:
                    target = target.rpartition(".")[0]  # a name inside a module
                if target and target != name:
                    graph[name].setdefault(target, node.lineno)  # type: ignore[attr-defined]
    return graph


def imported(node: ast.AST) -> Iterator[str]:
    """The dotted names that an import statement reads; relative imports are not used in qrnn."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: a relative import"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package(module: str) -> str:
    """The part of qrnn that a module belongs to, as in `ORDER`."""
    return [*module.split("."), ""][1]


def upward(graph: Graph) -> list[str]:
    """The imports that go against `ORDER`."""
    place = {name: k for k, name in enumerate(ORDER)}
    return [
        f"{module} (line {line}) imports {other}, which comes after it"
        for module, others in graph.items()
        for other, line in others.items()
        if place[package(other)] > place[package(module)]
    ]


def circles(graph: Graph) -> list[list[str]]:
    """Modules that import each other, directly or through others; each list is one circle with all that take part in it."""
    reached = {name: reachable(graph, name) for name in graph}
    found = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in graph
        if name in reached[name]
    }
    return [list(circle) for circle in sorted(found)]


def reachable(graph: Graph, start: str) -> set[str]:
    """All that a module imports, directly or through others."""
    seen: set[str] = set()
    waiting: list[str] = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += graph[name]
    return seen


def test_the_order_names_every_package() -> None:
    assert sorted(ORDER) == sorted({package(module) for module in sources(ROOT)})


def test_imports_go_down_the_line() -> None:
    assert upward(imports(ROOT)) == []


def test_no_files_import_each_other() -> None:
    assert circles(imports(ROOT)) == []


def test_files_lie_in_packages() -> None:
    assert {path.stem for path in (ROOT / "qrnn").glob("*.py")} == MODULES


def written(root: Path, files: Mapping[str, str]) -> Path:
    """Return a tree with such sources."""
    for name, text in files.items():
        path = root / "qrnn" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    "statement",
    [
        "import qrnn.cli.common",
        "from qrnn.cli import common",
        "from qrnn.cli.common import console",
        "def late():\n    from qrnn.cli.common import console",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from qrnn.cli.common import console",
        "from qrnn import cli",
        "from qrnn import load",
    ],
)
def test_an_import_against_the_order_is_found(statement: str, tmp_path: Path) -> None:
    root = written(tmp_path, {"__init__.py": "", "cli/__init__.py": "", "cli/common.py": "", "model/a.py": statement})
    (found,) = upward(imports(root))
    assert found.startswith("qrnn.model.a (line ")


@pytest.mark.parametrize("way", [("b",), ("b", "c"), ("b", "c", "d")])
def test_a_circle_is_found(way: Iterable[str], tmp_path: Path) -> None:
    names = ["a", *way]
    files = {f"model/{n}.py": f"from qrnn.model.{m} import x" for n, m in zip(names, [*names[1:], "a"], strict=True)}
    graph = imports(written(tmp_path, {**files, "model/reader.py": "from qrnn.model import a"}))
    assert circles(graph) == [[f"qrnn.model.{name}" for name in names]]
    assert upward(graph) == []
