"""The Python of a loop is read here, with what its names stand for."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qrnn.arithmetic import CONTRACT
from qrnn.export.loops.values import INT32, Array, LoopError, Value, wide

FUNCTIONS = {function.__name__: function for function in CONTRACT}
DOT = "dot"


@dataclass(frozen=True)
class Called:
    """A function of the contract, or `DOT`, by its name."""

    name: str


class Contract:
    """The contract that a loop's ``make`` is given: every attribute is the name of what it stands for."""

    def __getattr__(self, name: str) -> Called:
        if name == DOT or name in FUNCTIONS:
            return Called(name)
        raise AttributeError(name)


def made(make: Callable[[Any], Callable[..., Any]]) -> Callable[..., Any]:
    """Return the loop that ``make`` gives."""
    try:
        return make(Contract())
    except AttributeError as error:
        raise LoopError(f"the contract has no function {error}") from None


@dataclass(frozen=True)
class Absent:
    """A parameter that may only be used in one way, which ``what`` says in words."""

    what: str


@dataclass(frozen=True)
class Step:
    """The number t of a time step, which C does not have: a loop may only ask whether there is an input, ``x`` or NULL."""

    x: str


Named = Value | Array | Called | Absent | Step | Contract
"""What a name of a loop can stand for."""


def tree_of(function: Callable[..., Any]) -> ast.FunctionDef:
    """Return the syntax tree of a function."""
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        raise LoopError("its Python source is not there") from None
    found = ast.parse(text).body[0]
    if not isinstance(found, ast.FunctionDef):
        raise LoopError("it is not made by def")
    return found


def parameter_names(function: Callable[..., Any]) -> list[str]:
    """Return the names of a loop's parameters, all of which are positional."""
    arguments = tree_of(function).args
    if arguments.vararg or arguments.kwarg or arguments.kwonlyargs:
        raise LoopError("a parameter that has no place of its own")
    return [a.arg for a in (*arguments.posonlyargs, *arguments.args)]


def row_statements(function: Callable[..., Any], first: str, last: str) -> tuple[str, list[ast.stmt]]:
    """Return the variable of a loop over rows, ``for m in range(first, last)``, and the statements that compute one row."""
    *before, last_statement = without_docstring(tree_of(function).body)
    if (
        not isinstance(last_statement, ast.For)
        or not isinstance(last_statement.target, ast.Name)
        or ast.unparse(last_statement.iter) != f"range({first}, {last})"
        or last_statement.orelse
    ):
        raise LoopError(f"its last statement is no loop over range({first}, {last})")
    kept = _stored(before) & _stored(last_statement.body)
    if kept:
        raise LoopError(f"{min(kept)} goes on from row to row")
    return last_statement.target.id, [*before, *last_statement.body]


def _stored(statements: Sequence[ast.stmt]) -> set[str]:
    """Return the names that statements assign."""
    nodes = (n for statement in statements for n in ast.walk(statement))
    return {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def given_to_contract(function: Callable[..., Any], axes: Mapping[str, int]) -> set[str]:
    """Return those of the arrays ``axes`` of which a function of the contract is given more than one element.

    ``axes`` maps the name of an array to the number of its indices.
    """
    products = {name for name, v in inspect.getclosurevars(function).nonlocals.items() if v == Called(DOT)} | {DOT}
    found = set()
    for node in ast.walk(tree_of(function)):
        if not isinstance(node, ast.Call) or ast.unparse(node.func).split(".")[-1] in products | {"len"}:
            continue
        for argument in node.args:
            name, given = argument, 0
            if isinstance(argument, ast.Subscript):
                name, given = argument.value, len(indices(argument))
            if isinstance(name, ast.Name) and axes.get(name.id, 0) > given:
                found.add(name.id)
    return found


def signature(function: Callable[..., Any]) -> dict[str, Value | Array]:
    """Return the parameters of a function of the contract as C has them: an int64_t each, tables by their address.

    A parameter that says which row of others is read is no parameter in C: these begin at that row.
    """
    found: dict[str, Value | Array] = {}
    rows = "row" if function.__name__ == "evaluate" else ""
    for name, parameter in inspect.signature(function).parameters.items():
        if str(parameter.annotation) in ("int", "<class 'int'>"):
            if name != rows:
                found[name] = wide(name)
        else:
            lead = (rows,) if rows else ()
            found[name] = Array(name, "int32_t", (1 << 16,), lead, *INT32)
    return found


def without_docstring(statements: Sequence[ast.stmt]) -> Sequence[ast.stmt]:
    """Return the statements of a function without its docstring."""
    first = statements[0]
    return statements[1:] if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) else statements


def indices(node: ast.Subscript) -> list[ast.expr]:
    """Return the indices of a subscript, one for each axis."""
    return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]


def brief(node: ast.AST) -> str:
    """Return the first line of a statement."""
    return ast.unparse(node).split("\n")[0]
