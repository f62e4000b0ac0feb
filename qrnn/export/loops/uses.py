"""Where a loop uses its variables: in which of its blocks each is declared in C."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Use:
    """A name in a statement, in a block: the path of the statements around it. ``loop``: it is the variable of a loop."""

    name: str
    path: tuple[tuple[int, str], ...]
    statement: ast.stmt
    stored: bool
    loop: bool = False


def uses_of(statements: Sequence[ast.stmt], path: tuple[tuple[int, str], ...] = ()) -> Iterator[Use]:
    """Every use of a name, in the order of the text, but for what a statement reads before it assigns."""
    for statement in statements:
        inner: list[tuple[str, list[ast.stmt]]] = []
        here: list[ast.AST] = [statement]
        if isinstance(statement, ast.For):
            yield Use(ast.unparse(statement.target), path, statement, stored=False, loop=True)
            here, inner = [statement.iter], [("body", statement.body)]
        elif isinstance(statement, ast.If):
            here, inner = [statement.test], [("body", statement.body), ("else", statement.orelse)]
        found = [n for part in here for n in ast.walk(part) if isinstance(n, ast.Name)]
        for node in sorted(found, key=lambda n: isinstance(n.ctx, ast.Store)):
            yield Use(node.id, path, statement, isinstance(node.ctx, ast.Store))
        for which, block in inner:
            yield from uses_of(block, (*path, (id(statement), which)))


def common_block(paths: Sequence[tuple[tuple[int, str], ...]]) -> tuple[tuple[int, str], ...]:
    """The innermost block that all of these lie in."""
    found = paths[0]
    for path in paths[1:]:
        length = 0
        while length < min(len(found), len(path)) and found[length] == path[length]:
            length += 1
        found = found[:length]
    return found


def always_returns(statements: Sequence[ast.stmt]) -> bool:
    """Whether every way through statements ends with a return."""
    for statement in statements:
        if isinstance(statement, ast.Return):
            return True
        if isinstance(statement, ast.If) and always_returns(statement.body) and always_returns(statement.orelse):
            return True
    return False
