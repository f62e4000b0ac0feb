"""Where a loop uses its variables decides in which of its blocks each is declared in C."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qrnn.export.loops.values import LoopError


@dataclass(frozen=True)
class Use:
    """A use of a name in a statement, in a block: the path of the statements around it. ``loop`` says whether it is the variable of a loop."""

    name: str
    path: tuple[tuple[int, str], ...]
    statement: ast.stmt
    stored: bool
    loop: bool = False


def uses_of(statements: Sequence[ast.stmt], path: tuple[tuple[int, str], ...] = ()) -> Iterator[Use]:
    """Iterate over every use of a name, in the order of the text, except that what a statement reads comes before what it assigns."""
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
    """Return the innermost block that all of these lie in."""
    found = paths[0]
    for path in paths[1:]:
        length = 0
        while length < min(len(found), len(path)) and found[length] == path[length]:
            length += 1
        found = found[:length]
    return found


def always_returns(statements: Sequence[ast.stmt]) -> bool:
    """Return whether every way through statements ends with a return."""
    for statement in statements:
        if isinstance(statement, ast.Return):
            return True
        if isinstance(statement, ast.If) and always_returns(statement.body) and always_returns(statement.orelse):
            return True
    return False


def check_assigned(
    statements: Sequence[ast.stmt], variables: set[str], before: frozenset[str] = frozenset()
) -> frozenset[str]:
    """Refuse a variable that may be read before it is assigned, which in Python would hold what an earlier row left in it.

    Returns those of ``variables`` that are assigned after the statements, given those that were ``before``.
    """
    for statement in statements:
        if isinstance(statement, ast.Return | ast.Break | ast.Continue):
            _check_read(statement, variables, before)
            return frozenset(variables)  # nothing follows
        if isinstance(statement, ast.If):
            _check_read(statement.test, variables, before)
            before = check_assigned(statement.body, variables, before) & check_assigned(
                statement.orelse, variables, before
            )
        elif isinstance(statement, ast.For):
            _check_read(statement.iter, variables, before)
            check_assigned(statement.body, variables, before)  # it may not run at all
        else:
            _check_read(statement, variables, before)
            stored = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            if isinstance(statement, ast.AugAssign) and (new := (stored & variables) - before):
                raise LoopError(f"{min(new)} may be read before it is assigned")
            before |= stored & variables
    return before


def _check_read(node: ast.AST, variables: set[str], before: frozenset[str]) -> None:
    found = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    for name in found:
        if name in variables - before:
            raise LoopError(f"{name} may be read before it is assigned")
