"""The packages of qrnn stand in one line, each importing only those before it, and no files of a package import each other in a circle."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

from import_graph import Graph, circles, imports, longest_chain, package, packages, sources

ROOT = Path(__file__).parents[1]

ORDER = (
    "errors",
    "examples",
    "system",  # files, written whole and read with care; the version
    "arithmetic",
    "model",
    "data_files",  # arrays in files, read piece by piece and written as they come
    "layers",
    "equations",  # the float64 oracle
    "quantization",
    "backends",
    "running",  # sessions, streams, and how long they take
    "refinement",  # after running: it looks at what the quantized model computes
    "accuracy",
    "conversion",  # quantize: calibration, quantization and refinement, with its choices measured
    "hardware",  # descriptions of targets, chips and boards
    "targets",
    "export",
    "devices",
    "datasets",  # data files from recordings, tables and other files
    "onnx_import",  # the doors: models of other formats, and this package as a backend of ONNX
    "keras_import",
    "trained_files",  # which of the two a file needs
    "hybrid",  # models with parts in float, and their files
    "torch_import",
    "qat",  # training with the integer forward
    "onnx_backend",
    "finetuning",  # the loop over epochs around it
    "lab",
    "",  # `qrnn` itself, which offers the public names
    "cli",
    "__main__",
)
"""The packages and modules of qrnn. Each may import those before it and none after it, wherever in a file the import stands."""

MODULES = {"errors", "targets", "trained_files", "onnx_backend", "__init__", "__main__"}
"""The files that lie in no package: the errors, the targets, and doors."""


def upward(graph: Graph) -> list[str]:
    """The imports that go against `ORDER`."""
    place = {name: k for k, name in enumerate(ORDER)}
    return [
        f"{module} (line {line}) imports {other}, which comes after it"
        for module, others in graph.items()
        for other, line in others.items()
        if place[package(other)] > place[package(module)]
    ]


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


@pytest.mark.parametrize(
    ("graph", "members"),
    [
        ({}, 0),
        ({"a": {}}, 1),
        ({"a": {"b": 1, "c": 1}, "b": {"c": 1}, "c": {}}, 3),
        ({"a": {"b": 1}, "b": {"a": 1, "c": 1}, "c": {}, "d": {"a": 1}}, 4),
    ],
    ids=["nothing", "one", "a short way beside a long one", "a circle counts with all its members"],
)
def test_the_longest_chain(graph: Graph, members: int) -> None:
    assert longest_chain(graph) == members


def test_packages_import_what_their_modules_import() -> None:
    graph = {
        "qrnn": {"qrnn.cli": 3},
        "qrnn.cli": {"qrnn.cli.a": 1},
        "qrnn.cli.a": {"qrnn.errors": 2},
        "qrnn.errors": {},
    }
    assert packages(graph) == {"": {"cli": 3}, "cli": {"errors": 2}, "errors": {}}
