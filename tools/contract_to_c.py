"""Translate functions of the contract (`qrnn.arithmetic`) from their Python source to C99.

A `Translator` walks the syntax tree of one function and carries an interval for every value: the bounds of an operation follow from the
bounds of its arguments. An operation is written in 32 bits where its result is proved to fit, and in 64 bits where it must be; the
translation stops with an error where even these do not hold it. What intervals cannot see (a mean of two values lies between them) is
stated as a ``fact``.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from contract_dialects import (
    INT32,
    INT64,
    LANES,
    LONG,
    NUMBER,
    SIGNED,
    Condition,
    Lanes,
    Scalar,
    Table,
    TranslationError,
    Value,
    number,
)

from qrnn import arithmetic
from qrnn.arithmetic import fixedpoint


@dataclass(frozen=True)
class Callee:
    """A function of the contract that C has under ``name``, for arguments of these types within these bounds."""

    name: str
    kinds: tuple[str, ...]
    bounds: tuple[tuple[int, int], ...]
    entry: str = ""
    """`Table.entry` of its table."""
    facts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """What is known of expressions in its body, by which the bounds of its value are found."""

    def takes(self, arguments: list[Value | Table]) -> bool:
        """Return whether these arguments are within its bounds."""
        tables = all(a.entry == self.entry for a in arguments if isinstance(a, Table))
        pairs = zip(arguments, self.bounds, strict=True)
        return tables and all(low <= a.low and a.high <= high for a, (low, high) in pairs)


@dataclass
class Scope:
    """What a function's code sees: its arguments and variables, and facts about expressions (their Python text → bounds)."""

    names: dict[str, Value | Table]
    space: Mapping[str, Any]
    facts: dict[str, tuple[int, int]]
    lines: list[str] = field(default_factory=list)
    entries: dict[str, str] = field(default_factory=dict)
    """Variables that hold entries of a table, and the expressions that read these."""
    declared: set[str] = field(default_factory=set)
    """The names of variables in C; none is declared twice."""


_OPERATORS: dict[type, tuple[str, Callable[[int, int], int]]] = {
    ast.Add: ("+", lambda a, b: a + b),
    ast.Sub: ("-", lambda a, b: a - b),
    ast.Mult: ("*", lambda a, b: a * b),
    ast.LShift: ("<<", lambda a, b: a << b),
    ast.RShift: (">>", lambda a, b: a >> b),
}
_SIGNS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_OPPOSITE = {"<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_CONTRACT = frozenset(arithmetic.CONTRACT)


def tree_of(function: Callable[..., Any]) -> ast.FunctionDef:
    """Return the syntax tree of a function of the contract."""
    found = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(found, ast.FunctionDef)
    return found


class Translator:
    """Translates the body of one function into one dialect.

    ``calls`` holds functions of the contract that are called in C; others are written out in place. ``leave`` is true where the outermost
    saturation is left to the reader of the value (a gate function saturates its argument itself).
    """

    def __init__(self, dialect: Scalar, calls: Mapping[Any, Sequence[Callee]], leave: str | None = None) -> None:
        self.d, self.calls, self.leave = dialect, calls, leave
        if leave is not None and isinstance(dialect, Lanes):
            dialect.leaving = True

    def function(
        self, function: Callable[..., Any], arguments: Mapping[str, Value | Table], facts: Mapping[str, tuple[int, int]]
    ) -> tuple[list[str], Value]:
        """Return the statements of a function without its last, and the value that it returns."""
        scope = Scope(dict(arguments), function.__globals__, dict(facts))
        value = self._body(tree_of(function).body, scope)
        return scope.lines, value

    def _body(self, statements: list[ast.stmt], scope: Scope) -> Value:
        for place, statement in enumerate(statements):
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                continue  # the docstring
            if isinstance(statement, ast.Return) and statement.value is not None:
                return self.value(statement.value, scope, last=True)
            if isinstance(statement, ast.Assign):
                (target,) = statement.targets
                assert isinstance(target, ast.Name)
                self._assign(target.id, self.value(statement.value, scope), scope)
            elif isinstance(statement, ast.If):
                condition = self.condition(statement.test, scope)
                yes, no = self._facts(statement.test, scope, True), self._facts(statement.test, scope, False)
                if not statement.orelse:
                    rest = statements[place + 1 :]
                    return self._two(condition, self._branch(statement.body, yes), self._branch(rest, no))
                names = {
                    ast.unparse(s.targets[0]) for s in (*statement.body, *statement.orelse) if isinstance(s, ast.Assign)
                }
                if len(names) != 1 or len(statement.body) != 1 or len(statement.orelse) != 1:
                    raise TranslationError("branches that do more than to assign one variable are not translated")
                sides = [self.value(s[0].value, side) for s, side in ((statement.body, yes), (statement.orelse, no))]  # type: ignore[attr-defined]
                self._assign(names.pop(), self._two(condition, *sides), scope)
            else:
                raise TranslationError(f"not translated: {ast.unparse(statement)}")
        raise TranslationError("a function ends without a value")

    def _branch(self, statements: list[ast.stmt], scope: Scope) -> Value:
        value = self._body(statements, scope)
        if scope.lines:
            raise TranslationError("a branch that has variables of its own is not translated")
        return value

    def _two(self, condition: Condition, yes: Value, no: Value) -> Value:
        if condition.decided is not None:
            return yes if condition.decided else no
        return self.d.either(condition, yes, no)

    def _facts(self, test: ast.expr, scope: Scope, holds: bool) -> Scope:
        """Return the scope of a branch: what the condition says of a name's bounds, or of the difference of two names."""
        assert isinstance(test, ast.Compare)
        sign = _SIGNS[type(test.ops[0])]
        sign = sign if holds else _OPPOSITE[sign]
        left, right = test.left, test.comparators[0]
        if sign in ("<", "<="):
            left, right, sign = right, left, {"<": ">", "<=": ">="}[sign]
        least = 1 if sign == ">" else 0
        found = Scope(dict(scope.names), scope.space, dict(scope.facts))
        a, b = self.value(left, scope), self.value(right, scope)
        found.facts[f"{ast.unparse(left)} - {ast.unparse(right)}"] = (least, a.high - b.low)
        for node, low, high in ((left, b.low + least, a.high), (right, b.low, a.high - least)):
            if isinstance(node, ast.Name) and isinstance(v := found.names.get(node.id), Value):
                found.names[node.id] = replace(v, low=max(v.low, low), high=min(v.high, high))
        return found

    def _assign(self, name: str, value: Value, scope: Scope) -> None:
        if name in scope.facts:
            low, high = scope.facts[name]
            value = self._known(value, low, high)
        if value.kind == NUMBER:
            scope.names[name] = value
            return
        own = name
        while own in scope.declared or any(v.text == own for v in scope.names.values()):
            own += "_"
        scope.declared.add(own)
        if value.kind == LANES:
            value = self.d.vector(value)  # type: ignore[attr-defined]
        scope.lines.append(f"const {self.d.name(value)} {own} = {value.text};")
        scope.names[name] = replace(value, text=own, atom=True)

    def _known(self, value: Value, low: int, high: int) -> Value:
        """Narrow a value's bounds by what is known of it; a sum that was too wide for lanes is written now."""
        if value.kind == LANES and value.terms is not None:
            return self.d.binary("+", *value.terms, low, high)
        return replace(value, low=max(low, value.low), high=min(high, value.high))

    def value(self, node: ast.expr, scope: Scope, last: bool = False) -> Value:
        """Translate an expression."""
        found = self._value(node, scope, last)
        if (bounds := scope.facts.get(ast.unparse(node))) is not None and not isinstance(node, ast.Name):
            found = self._known(found, *bounds)
        return found

    def _value(self, node: ast.expr, scope: Scope, last: bool) -> Value:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return number(node.value)
        if isinstance(node, ast.Name):
            found = scope.names.get(node.id, scope.space.get(node.id))
            if isinstance(found, int):
                return number(found)
            if isinstance(found, Value):
                return number(found.low) if found.low == found.high and found.kind != LANES else found
            raise TranslationError(f"{node.id} is no integer")
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self._operation(ast.Sub, number(0), self.value(node.operand, scope))
        if isinstance(node, ast.BinOp):
            a, b = self.value(node.left, scope), self.value(node.right, scope)
            if isinstance(node.op, ast.Sub) and (bounds := scope.facts.get(ast.unparse(node))) is not None:
                return self._operation(ast.Sub, a, b, bounds)
            return self._operation(type(node.op), a, b, scope.facts.get(ast.unparse(node)))
        if isinstance(node, ast.Subscript):
            return self._entry(node, scope)
        if isinstance(node, ast.Call):
            return self._call(node, scope, last)
        raise TranslationError(f"not translated: {ast.unparse(node)}")

    def _operation(self, op: type, a: Value, b: Value, known: tuple[int, int] | None = None) -> Value:
        if op is ast.BitAnd:
            if b.kind != NUMBER or b.low < 0:
                raise TranslationError("only masks of low bits are translated")
            return self.d.binary("&", a, b, 0, b.low)
        if op is ast.FloorDiv:
            if a.low < 0 or b.low <= 0:
                raise TranslationError("only positive numbers are divided")
            return self.d.divide(a, b, a.low // b.high, a.high // b.low)
        sign, compute = _OPERATORS[op]
        if sign in ("<<", ">>") and not 0 <= b.low <= b.high <= 62:
            raise TranslationError(f"a shift by {b.low} to {b.high} bits is not translated")
        if op in (ast.Add, ast.Sub):
            ends = (a.low + b.low, a.high + b.high) if op is ast.Add else (a.low - b.high, a.high - b.low)
        else:
            corners = [compute(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
            ends = min(corners), max(corners)
        if a.kind == b.kind == NUMBER:
            return number(ends[0])
        if known is not None:
            ends = max(ends[0], known[0]), min(ends[1], known[1])
        if not (INT64[0] <= ends[0] and ends[1] <= INT64[1]):
            raise TranslationError(f"{a.text} {sign} {b.text} has values in [{ends[0]}, {ends[1]}]: more than 64 bits")
        if op is ast.Mult and number(0) == a:
            return a
        if (
            op is ast.Sub
            and a == number(0)
            and b.kind in (SIGNED, LONG)
            and ends[1] <= {SIGNED: INT32, LONG: INT64}[b.kind][1]
        ):
            return Value(f"-{b.operand}", b.kind, *ends, atom=False)
        if op in (ast.LShift, ast.RShift) and b.kind == NUMBER and b.low == 0:
            return a
        return self.d.binary(sign, a, b, *ends)

    def _entry(self, node: ast.Subscript, scope: Scope) -> Value:
        table = scope.names[ast.unparse(node.value)]
        assert isinstance(table, Table)
        index, offset = node.slice, 0
        if isinstance(index, ast.BinOp) and isinstance(index.op, ast.Add):
            offset = self.value(index.right, scope).low
            index = index.left
        at = self.value(index, scope)
        found = self.d.entry(table, at, offset)
        name = {0: "from", 1: "to"}[offset]
        if scope.entries.setdefault(name, found.text) != found.text:
            raise TranslationError("a function that reads two places of a table is not translated")
        if (
            name not in scope.names
        ):  # an entry is read once, into a variable of 32 bits, and as soon as its place is known
            place = next(n for n, line in enumerate(scope.lines) if f" {at.text} = " in line) + 1 + offset
            self._assign(name, found, scope)
            scope.lines.insert(place, scope.lines.pop())
        return replace(found, text=name)

    def condition(self, node: ast.expr, scope: Scope) -> Condition:
        """Translate a comparison."""
        if not isinstance(node, ast.Compare) or len(node.ops) != 1:
            raise TranslationError(f"not translated: {ast.unparse(node)}")
        left, right = self.value(node.left, scope), self.value(node.comparators[0], scope)
        sign = _SIGNS[type(node.ops[0])]
        return Condition(left, sign, right, self.d.compare(left, sign, right))

    def _call(self, node: ast.Call, scope: Scope, last: bool) -> Value:
        assert isinstance(node.func, ast.Name)
        function = scope.space.get(node.func.id)
        if function not in _CONTRACT:
            raise TranslationError(f"{node.func.id} is no function of the contract")
        if last and self.leave == node.func.id:
            return self._left(self.value(node.args[0], scope))
        if function is fixedpoint.choose:
            return self._choose(node, scope)
        arguments: list[Value | Table] = []
        for argument in node.args:
            table = scope.names.get(argument.id) if isinstance(argument, ast.Name) else None
            arguments.append(table if isinstance(table, Table) else self.value(argument, scope))
        values = [v for v in arguments if isinstance(v, Value)]
        if function is fixedpoint.saturate:
            return self.d.saturate(*values)
        if function is fixedpoint.magnitude:
            (x,) = values
            ends = abs(x.low), abs(x.high)
            return self.d.magnitude(x, 0 if x.low < 0 < x.high else min(ends), max(ends))
        if function is fixedpoint.shift_right_round:
            x, shift = values
            rounded = [
                fixedpoint.shift_right_round(end, by) for end in (x.low, x.high) for by in (shift.low, shift.high)
            ]
            return x if shift.low == shift.high == 0 else self.d.shift_right_round(x, shift, min(rounded), max(rounded))
        return self._inner(function, arguments, scope)

    def _left(self, x: Value) -> Value:
        """Return a value that its reader saturates to 16 bits, within ±(2^31 - 1), so that it has a magnitude."""
        if x.within((-INT32[1], INT32[1])):
            return x
        if x.kind == LANES:
            raise TranslationError(f"{x.text} may be -2^31, which has no magnitude")
        return Value(f"qrnn_within_int32({x.text})", SIGNED, -INT32[1], INT32[1])

    def _inner(self, function: Callable[..., Any], arguments: list[Value | Table], scope: Scope) -> Value:
        """Translate a call of a function of the contract: a call, where ``calls`` names it, else its own expression in place."""
        names = [a.arg for a in tree_of(function).args.args]
        inner = Translator(self.d, self.calls)
        callees = self.calls.get(function)
        callee = next((c for c in callees or () if c.takes(arguments)), None)
        facts = callee.facts if callee is not None else {}
        lines, value = inner.function(function, dict(zip(names, arguments, strict=True)), facts)
        if callees is not None:
            if callee is None:
                raise TranslationError(f"no {function.__name__} in C takes these arguments")
            texts = [
                self.d.as_kind(a, kind).text if isinstance(a, Value) else a.text
                for a, kind in zip(arguments, callee.kinds, strict=True)
            ]
            return replace(value, text=f"{callee.name}({', '.join(texts)})", atom=True, factors=None, terms=None)
        if lines:
            raise TranslationError(f"{function.__name__} has variables of its own; let it be called")
        return value

    def _choose(self, node: ast.Call, scope: Scope) -> Value:
        test, yes_node, no_node = node.args
        condition = self.condition(test, scope)
        if condition.decided is not None:
            return self.value(yes_node if condition.decided else no_node, scope)
        if condition.lanes and condition.sign == "<" and condition.right == number(0):
            # a - p or a + p, by the sign of x
            if (
                isinstance(yes_node, ast.BinOp)
                and isinstance(no_node, ast.BinOp)
                and isinstance(yes_node.op, ast.Sub)
                and isinstance(no_node.op, ast.Add)
                and ast.dump(yes_node.left) == ast.dump(no_node.left)
                and ast.dump(yes_node.right) == ast.dump(no_node.right)
            ):
                signed = self.d.with_sign(self.value(yes_node.right, scope), condition.left)  # type: ignore[attr-defined]
                start = self.value(yes_node.left, scope)
                return replace(self._operation(ast.Add, start, signed), terms=(start, signed))
            raise TranslationError(f"no operation of lanes chooses by {condition.text}")
        yes, no = self.value(yes_node, scope), self.value(no_node, scope)
        if not condition.lanes and no.terms is not None and ast.unparse(yes_node) == f"0 - {ast.unparse(no_node)}":
            # -(a + b) or a + b: each written for itself, so that -a is a number where a is
            assert scope.lines[-1].startswith(f"const {LANES} {no.text} = ")
            scope.lines.pop()
            a, b = no.terms
            no = self._operation(ast.Add, a, b)
            yes = self._operation(ast.Sub, self._operation(ast.Sub, number(0), a), b)
        return self.d.either(condition, yes, no)
