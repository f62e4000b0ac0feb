"""What the modules of qrnn import of each other: circles of files, and how many packages stand on one another.

`tests/test_package_order.py` holds the packages to their order by this, and tools/house_figures.py counts with it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

Graph = Mapping[str, Mapping[str, int]]
"""Module → the modules that it imports, with the line of the first import."""


def sources(root: Path) -> dict[str, Path]:
    """Return every module of qrnn below a checkout's root, by its dotted name."""
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
            for target, line in imported(node):
                while target and target not in modules:
                    target = target.rpartition(".")[0]  # a name inside a module
                if target and target != name:
                    graph[name].setdefault(target, line)
    return graph


def imported(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the dotted names that an import statement reads, with its line; relative imports are not used in qrnn."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, node.lineno) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: a relative import"
        yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def package(module: str) -> str:
    """Return the part of qrnn that a module belongs to: the name after ``qrnn.``, or an empty text for ``qrnn`` itself."""
    return [*module.split("."), ""][1]


def packages(graph: Graph) -> dict[str, dict[str, int]]:
    """Return the same for packages: each with the packages that any of its modules imports, and a line of such an import."""
    found: dict[str, dict[str, int]] = {package(module): {} for module in graph}
    for module, others in graph.items():
        for other, line in others.items():
            if package(other) != package(module):
                found[package(module)].setdefault(package(other), line)
    return found


def circles(graph: Graph) -> list[list[str]]:
    """Return modules that import each other, directly or through others; each list is one circle with all that take part in it."""
    reached = {name: reachable(graph, name) for name in graph}
    found = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in graph
        if name in reached[name]
    }
    return [list(circle) for circle in sorted(found)]


def reachable(graph: Graph, start: str) -> set[str]:
    """Return all that a module imports, directly or through others."""
    seen: set[str] = set()
    waiting: list[str] = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += graph[name]
    return seen


def longest_chain(graph: Graph) -> int:
    """Return how many members the longest chain of imports has; a circle on the way counts with all that take part in it."""
    circle_of = {name: frozenset(circle) for circle in circles(graph) for name in circle}
    known: dict[frozenset[str], int] = {}

    def height(members: frozenset[str]) -> int:
        if members not in known:
            below = {circle_of.get(other, frozenset([other])) for name in members for other in graph[name]} - {members}
            known[members] = len(members) + max((height(other) for other in below), default=0)
        return known[members]

    return max((height(circle_of.get(name, frozenset([name]))) for name in graph), default=0)
