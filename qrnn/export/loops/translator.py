"""Loops of layers (`RowLoop`, `StepLoop`) and functions of the contract are translated from their Python to C99.

The language is small: integers, arrays with all of their indices, ``shape``, ``for … in range``, ``if``, arithmetic, comparisons, and calls
of the contract, which C has on int64_t in targets/runtime/qrnn_contract_wide.h. Anything else is a `LoopError`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from qrnn.export.loops.expressions import Expressions, Surroundings, Translation, Variable, plain
from qrnn.export.loops.source import Absent, Named, brief, indices, signature, without_docstring
from qrnn.export.loops.uses import always_returns, check_assigned, common_block, uses_of
from qrnn.export.loops.values import C_TYPES, INT32, NUMBER, Array, LoopError, Value, literal, number
from qrnn.export.names import Names

WIDE_HEADER = "qrnn_contract_wide.h"


class Translator(Expressions):
    """The statements of one loop, on their way to C."""

    def body(self, statements: Sequence[ast.stmt] | None = None) -> Translation:
        """Translate the statements of the function, or ``statements``."""
        statements = without_docstring(self._tree.body if statements is None else statements)
        self._plan(statements)
        self._statements(statements)
        if self._around.returns != "void" and not always_returns(statements):
            raise LoopError("a way through it that returns nothing")
        unread = [v for v in self._variables.values() if not v.read and v.place is not None]
        for variable in sorted(unread, key=lambda v: -(v.place or 0)):
            line = self.result.lines[variable.place or 0]
            indent = line[: len(line) - len(line.lstrip())]
            self.result.lines.insert((variable.place or 0) + 1, f"{indent}(void){variable.text};")
        return self.result

    def _plan(self, statements: Sequence[ast.stmt]) -> None:
        """Decide where each variable is declared: where it is first assigned, if every use lies behind that, and else at the top."""
        uses = list(uses_of(statements))
        check_assigned(statements, {u.name for u in uses if u.stored} - set(self._named))
        targets = {u.name for u in uses if u.loop}
        for name in dict.fromkeys(u.name for u in uses if u.stored):
            if name in targets:
                raise LoopError(f"{name} is assigned, and is the variable of a loop")
            if (known := self._named.get(name)) is not None:
                if not isinstance(known, Value) or known.kind != "int64_t" or not known.text.isidentifier():
                    raise LoopError(f"the parameter {name} is assigned")
                continue
            own = [u for u in uses if u.name == name]
            stores = [u for u in own if u.stored]
            first = own[0]
            common = common_block([u.path for u in own])
            direct = first.stored and first.path == common and isinstance(first.statement, ast.Assign | ast.AnnAssign)
            constant = direct and len(stores) == 1 and first.path == ()
            self._variables[name] = Variable(self._around.names.new(name))
            if direct:
                self._declaring[first.statement] = name
                if constant:
                    self._constants.add(name)
            else:
                self._line(f"int64_t {self._variables[name].text} = 0;")
                self._variables[name].place = len(self.result.lines) - 1

    def _line(self, text: str) -> None:
        self.result.lines.append("    " * self._depth + text)

    def _statements(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            self._statement(statement)
            if isinstance(statement, ast.Return | ast.Break | ast.Continue):
                return  # nothing that follows is reached

    def _statement(self, statement: ast.stmt) -> None:
        match statement:
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                return
            case ast.Assign(targets=[target], value=value):
                self._assign(statement, target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._assign(statement, target, value)
            case ast.AugAssign(target=target, op=op, value=value):
                read = ast.parse(ast.unparse(target), mode="eval").body
                self._assign(statement, target, ast.BinOp(left=read, op=op, right=value), adds=True)
            case ast.If():
                self._if(statement)
            case ast.For():
                self._for(statement)
            case ast.Return():
                self._return(statement)
            case ast.Break() | ast.Continue() if self._loops:
                self._line(f"{ast.unparse(statement)};")
            case _:
                raise LoopError(f"the statement {brief(statement)!r}")

    def _assign(self, statement: ast.stmt, target: ast.expr, value: ast.expr, adds: bool = False) -> None:
        if isinstance(target, ast.Subscript):
            array, place = self._element(target)
            if not array.writable:
                raise LoopError(f"{ast.unparse(target.value)} is written")
            found = self.value(value)
            text = found.written_as("int64_t" if array.kind == "int64_t" else found.kind).operand
            if found.kind == NUMBER:
                text = literal(found.low)
                if not C_TYPES[array.kind][0] <= found.low <= C_TYPES[array.kind][1]:
                    raise LoopError(f"{found.low} is written to an {array.kind}")
            cast = "" if found.kind in (array.kind, NUMBER) else f"({array.kind})"
            self._line(f"{place} = {cast}{text};")
            return
        if not isinstance(target, ast.Name):
            raise LoopError(f"the statement {brief(statement)!r}")
        name = target.id
        if name in self._named and not isinstance(self._named[name], Value):
            raise LoopError(f"{name} is assigned")
        if self._alias(name, value):
            return
        variable = self._variables.get(name)
        was_read = variable is not None and variable.read
        found = self.value(value)
        if variable is None:  # a parameter of a function of the contract
            self._line(f"{self._c_name(name)} = {found.written_as('int64_t').text};")
            return
        if adds:
            variable.read = was_read  # to add to a variable is not to use it
        if self._declaring.get(statement) == name:
            if name in self._constants and found.kind == NUMBER:
                self._named[name] = found
                return
            variable.place = len(self.result.lines)
            self._line(f"int64_t {variable.text} = {plain(found)};")
        else:
            self._line(f"{variable.text} = {plain(found)};")

    def _c_name(self, name: str) -> str:
        found = self._named[name]
        assert isinstance(found, Value)
        return found.text

    def _alias(self, name: str, value: ast.expr) -> bool:
        """Return whether a name only stands for an array from here on."""
        if name not in self._constants:
            return False
        found: Named | None = None
        if isinstance(value, ast.Name):
            found = self._named.get(value.id)
        elif isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name):
            array = self._named.get(value.value.id)
            if isinstance(array, Array) and len(indices(value)) == len(array.lead) and array.shape:
                self._led(value, array)
                found = Array(array.text, array.kind, array.shape, (), array.low, array.high, array.writable)
        if not isinstance(found, Array):
            return False
        self._named[name] = found
        return True

    def _if(self, statement: ast.If) -> None:
        condition = self.condition(statement.test)
        if condition.decided is not None:
            self._statements(statement.body if condition.decided else statement.orelse)
            return
        self._line(f"if ({condition.text}) {{")
        self._inner(statement.body)
        if statement.orelse:
            self._line("} else {")
            self._inner(statement.orelse)
        self._line("}")

    def _inner(self, statements: Sequence[ast.stmt]) -> None:
        self._depth += 1
        self._statements(statements)
        self._depth -= 1

    def _for(self, statement: ast.For) -> None:
        call = statement.iter
        if (
            statement.orelse
            or not isinstance(statement.target, ast.Name)
            or not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range")
            or not 1 <= len(call.args) <= 3
            or call.keywords
        ):
            raise LoopError(f"the loop {brief(statement)!r}")
        name = statement.target.id
        if name in self._named or name in self._loops:
            raise LoopError(f"the loop over {name}, which is something else already")
        values = [self.value(a) for a in call.args]
        start, stop = (number(0), values[0]) if len(values) == 1 else (values[0], values[1])
        by = values[2] if len(values) == 3 else number(1)
        if by.kind != NUMBER or by.low == 0:
            raise LoopError(f"the loop {brief(statement)!r}: its step is not a number")
        narrow = start.within(INT32) and stop.within(INT32) and abs(by.low) < 1 << 15
        kind = "int32_t" if narrow and all(v.kind != "int64_t" for v in (start, stop)) else "int64_t"
        if stop.kind != NUMBER:
            end = self._around.names.new(f"{name}_end")
            self._line(f"const {kind} {end} = {stop.written_as(kind).text};")
            stop = Value(end, kind, stop.low, stop.high)
        if name not in self._loop_names:
            self._loop_names[name] = self._around.names.new(name)
        text = self._loop_names[name]
        low, high = (start.low, stop.high - 1) if by.low > 0 else (stop.low + 1, start.high)
        sign, move = (
            ("<", f"{text}++")
            if by.low == 1
            else (">", f"{text} -= {-by.low}")
            if by.low < 0
            else ("<", f"{text} += {by.low}")
        )
        head = f"{kind} {text} = {plain(start)}; {text} {sign} {plain(stop)}; {move}"
        self._line(f"for ({head}) {{")
        self._named[name] = Value(text, kind, low, max(low, high))
        self._loops.append(name)
        self._inner(statement.body)
        self._loops.pop()
        del self._named[name]
        self._line("}")

    def _return(self, statement: ast.Return) -> None:
        if statement.value is None or self._around.returns == "void":
            raise LoopError(f"the statement {brief(statement)!r}")
        found = self.value(statement.value)
        if self._around.returns == "int64_t":
            self._line(f"return {plain(found)};")
            return
        if not 0 <= found.low <= found.high <= 1 << 15:
            raise LoopError(
                f"the statement {brief(statement)!r}: how many rows it may return is not known; return a number, or one of two numbers"
            )
        self.result.least_returned = min(self.result.least_returned, found.low)
        self.result.most_returned = max(self.result.most_returned, found.high)
        self._line(f"return {found.low}U;" if found.kind == NUMBER else f"return (uint32_t)({found.text});")


def contract_function(function: Callable[..., Any]) -> tuple[str, list[str]]:
    """Return the head and the statements of a function of the contract on int64_t."""
    arguments = signature(function)
    texts = [
        f"const QRNN_FLASH {a.kind} *{a.text}" if isinstance(a, Array) else f"int64_t {a.text}"
        for a in arguments.values()
    ]
    named: dict[str, Named] = dict(arguments)
    if function.__name__ == "evaluate":
        named["row"] = Absent("the row of its tables")
    translator = Translator(function, named, Surroundings(Names([*arguments, "row"]), returns="int64_t"))
    lines = translator.body().lines
    return f"static inline int64_t qrnn_wide_{function.__name__}({', '.join(texts)})", lines
