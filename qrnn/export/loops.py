"""Loops of layers (`RowLoop`, `StepLoop`) and functions of the contract, translated from their Python to C99.

The language is small: integers, arrays with all of their indices, ``shape``, ``for … in range``, ``if``, arithmetic, comparisons, and calls
of the contract, which C has on int64_t in targets/runtime/qrnn_contract_wide.h. Anything else is a `LoopError`.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qrnn.arithmetic import CONTRACT
from qrnn.export.loop_values import (
    C_TYPES,
    INT32,
    NUMBER,
    Array,
    Condition,
    LoopError,
    Value,
    binary,
    compare,
    either,
    joined,
    literal,
    negated,
    number,
    wide,
)
from qrnn.export.names import Names

FUNCTIONS = {function.__name__: function for function in CONTRACT}
DOT = "dot"
WIDE_HEADER = "qrnn_contract_wide.h"

_SIGNS: dict[type, str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="
}  # fmt: skip
_OPERATORS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.LShift: "<<", ast.RShift: ">>", ast.BitAnd: "&", ast.BitOr: "|",
    ast.BitXor: "^", ast.FloorDiv: "//", ast.Mod: "%",
}  # fmt: skip
_HELPERS = {"max": 2, "min": 2, "abs": 1}
"""Functions of Python that C has in qrnn_contract_wide.h, and how many arguments they take there."""


@dataclass(frozen=True)
class Called:
    """A function of the contract, or `DOT`, by its name."""

    name: str


class Contract:
    """What a loop's ``make`` is given: every attribute is the name of what it stands for."""

    def __getattr__(self, name: str) -> Called:
        if name == DOT or name in FUNCTIONS:
            return Called(name)
        raise AttributeError(name)


def made(make: Callable[[Any], Callable[..., Any]]) -> Callable[..., Any]:
    """The loop that ``make`` gives."""
    try:
        return make(Contract())
    except AttributeError as error:
        raise LoopError(f"the contract has no function {error}") from None


@dataclass(frozen=True)
class Absent:
    """A parameter that may only be used in one way. ``what``: that way, in words."""

    what: str


@dataclass(frozen=True)
class Step:
    """The number t of a time step, which C does not have: it may only be asked whether there is an input, ``x`` or NULL."""

    x: str


Named = Value | Array | Called | Absent | Step | Contract
"""What a name of a loop can stand for."""


def tree_of(function: Callable[..., Any]) -> ast.FunctionDef:
    """The syntax tree of a function."""
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        raise LoopError("its Python source is not there") from None
    found = ast.parse(text).body[0]
    if not isinstance(found, ast.FunctionDef):
        raise LoopError("it is not made by def")
    return found


def parameter_names(function: Callable[..., Any]) -> list[str]:
    """The parameters of a loop, all of which have their places."""
    arguments = tree_of(function).args
    if arguments.vararg or arguments.kwarg or arguments.kwonlyargs:
        raise LoopError("a parameter that has no place of its own")
    return [a.arg for a in (*arguments.posonlyargs, *arguments.args)]


@dataclass
class Surroundings:
    """What stands around a loop in C.

    ``array``: a name of the loop → the array that it is, where C is to have it only if it is used; ``dot``: the C function for types of
    weights and operands; ``names``: of variables; ``returns``: the type of what is returned.
    """

    names: Names
    returns: str = "void"
    array: Callable[[str], Array | None] = lambda name: None
    dot: Callable[[str, str], str] = lambda weight, x: ""


@dataclass
class _Variable:
    """A variable of C. ``place``: the line that declares it."""

    text: str
    read: bool = False
    place: int | None = None


@dataclass
class Translation:
    """The statements of a loop, in C."""

    lines: list[str] = field(default_factory=list)
    most_returned: int = 0
    """The largest number that is returned."""
    last_row: int = -1
    """The last row of the output that is written."""
    arrays_read: set[str] = field(default_factory=set)
    """The arrays of C that are read."""


class Translator:
    """One loop. ``named``: its parameters; ``row``: the one by which rows of the output are counted."""

    def __init__(
        self, function: Callable[..., Any], named: Mapping[str, Named], around: Surroundings, row: str | None = None
    ) -> None:
        self._tree, self._around, self._row = tree_of(function), around, row
        closure = inspect.getclosurevars(function)
        self._outer = {**closure.builtins, **function.__globals__, **closure.nonlocals}
        self._named: dict[str, Named] = dict(named)
        self._variables: dict[str, _Variable] = {}
        self._depth = 1
        self._loops: list[str] = []
        self._loop_names: dict[str, str] = {}
        self._constants: set[str] = set()
        """Variables that are assigned once, before anything else uses them."""
        self._declaring: dict[ast.stmt, str] = {}
        self.result = Translation()

    def body(self, statements: Sequence[ast.stmt] | None = None) -> Translation:
        """Translate the statements of the function, or these of them."""
        statements = _without_docstring(self._tree.body if statements is None else statements)
        self._plan(statements)
        self._statements(statements)
        if self._around.returns != "void" and not _returns(statements):
            raise LoopError("a way through it that returns nothing")
        unread = [v for v in self._variables.values() if not v.read and v.place is not None]
        for variable in sorted(unread, key=lambda v: -(v.place or 0)):
            line = self.result.lines[variable.place or 0]
            indent = line[: len(line) - len(line.lstrip())]
            self.result.lines.insert((variable.place or 0) + 1, f"{indent}(void){variable.text};")
        return self.result

    # Variables

    def _plan(self, statements: Sequence[ast.stmt]) -> None:
        """Decide where each variable is declared: where it is first assigned, if every use lies behind that, and else at the top."""
        uses = list(_uses(statements))
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
            common = _common([u.path for u in own])
            direct = first.stored and first.path == common and isinstance(first.statement, ast.Assign | ast.AnnAssign)
            constant = direct and len(stores) == 1 and first.path == ()
            self._variables[name] = _Variable(self._around.names.new(name))
            if direct:
                self._declaring[first.statement] = name
                if constant:
                    self._constants.add(name)
            else:
                self._line(f"int64_t {self._variables[name].text} = 0;")
                self._variables[name].place = len(self.result.lines) - 1

    def _line(self, text: str) -> None:
        self.result.lines.append("    " * self._depth + text)

    def _lookup(self, node: ast.Name) -> Named:
        name = node.id
        if name in self._named:
            found = self._named[name]
            if isinstance(found, Absent):
                raise LoopError(f"{name}, which is only {found.what}")
            return found
        if (array := self._around.array(name)) is not None:
            self._named[name] = array
            return array
        if name in self._variables:
            self._variables[name].read = True
            return wide(self._variables[name].text)
        return self._of_python(name, self._outer.get(name))

    def _of_python(self, name: str, found: Any) -> Named:
        """Something that the loop finds around it."""
        if isinstance(found, bool | int):
            return number(int(found))
        if isinstance(found, Called | Contract):
            return found
        if callable(found) and found in CONTRACT:
            return Called(found.__name__)
        if name in _HELPERS and found is getattr(builtins, name):
            return Called(name)
        raise LoopError(f"the name {name}")

    # Statements

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
                raise LoopError(f"the statement {_brief(statement)!r}")

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
            raise LoopError(f"the statement {_brief(statement)!r}")
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
            self._line(f"int64_t {variable.text} = {_plain(found)};")
        else:
            self._line(f"{variable.text} = {_plain(found)};")

    def _c_name(self, name: str) -> str:
        found = self._named[name]
        assert isinstance(found, Value)
        return found.text

    def _alias(self, name: str, value: ast.expr) -> bool:
        """Whether a name only stands for an array from here on."""
        if name not in self._constants:
            return False
        found: Named | None = None
        if isinstance(value, ast.Name):
            found = self._named.get(value.id)
        elif isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name):
            array = self._named.get(value.value.id)
            if isinstance(array, Array) and len(_indices(value)) == len(array.lead) and array.shape:
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
            raise LoopError(f"the loop {_brief(statement)!r}")
        name = statement.target.id
        if name in self._named or name in self._loops:
            raise LoopError(f"the loop over {name}, which is something else already")
        values = [self.value(a) for a in call.args]
        start, stop = (number(0), values[0]) if len(values) == 1 else (values[0], values[1])
        by = values[2] if len(values) == 3 else number(1)
        if by.kind != NUMBER or by.low == 0:
            raise LoopError(f"the loop {_brief(statement)!r}: its step is not a number")
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
        head = f"{kind} {text} = {_plain(start)}; {text} {sign} {_plain(stop)}; {move}"
        self._line(f"for ({head}) {{")
        self._named[name] = Value(text, kind, low, max(low, high))
        self._loops.append(name)
        self._inner(statement.body)
        self._loops.pop()
        del self._named[name]
        self._line("}")

    def _return(self, statement: ast.Return) -> None:
        if statement.value is None:
            if self._around.returns != "void":
                raise LoopError("a return of nothing")
            self._line("return;")
            return
        found = self.value(statement.value)
        if self._around.returns == "int64_t":
            self._line(f"return {_plain(found)};")
            return
        if not 0 <= found.low <= found.high <= 1 << 15 or self._around.returns == "void":
            raise LoopError(
                f"the statement {_brief(statement)!r}: how many rows it may return is not known; return a number, or one of two numbers"
            )
        self.result.most_returned = max(self.result.most_returned, found.high)
        self._line(f"return {found.low}U;" if found.kind == NUMBER else f"return (uint32_t)({found.text});")

    # Expressions

    def value(self, node: ast.expr) -> Value:
        """An expression of Python as one of C."""
        match node:
            case ast.Constant(value=bool() | int() as n):
                return number(int(n))
            case ast.Name():
                found = self._lookup(node)
                if isinstance(found, Value):
                    return found
                raise LoopError(f"{node.id} as a number")
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return binary("-", number(0), self.value(operand))
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.value(operand)
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                return binary("-", number(-1), self.value(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return binary(_OPERATORS[type(op)], self.value(left), self.value(right))
            case ast.IfExp(test=test, body=yes, orelse=no):
                return either(self.condition(test), self.value(yes), self.value(no))
            case ast.Subscript():
                return self._subscript(node)
            case ast.Call():
                return self._call(node)
        raise LoopError(f"the expression {_brief(node)!r}")

    def condition(self, node: ast.expr) -> Condition:
        """A condition of Python as one of C."""
        match node:
            case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _SIGNS for op in ops):
                nodes = [left, *others]
                pairs = zip(nodes, ops, others, strict=False)
                return joined("&&", [self._compared(a, _SIGNS[type(op)], b) for a, op, b in pairs])
            case ast.BoolOp(op=op, values=values):
                return joined("&&" if isinstance(op, ast.And) else "||", [self.condition(v) for v in values])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return negated(self.condition(operand))
        return compare(self.value(node), "!=", number(0))

    def _compared(self, a: ast.expr, sign: str, b: ast.expr) -> Condition:
        found = self._named.get(a.id) if isinstance(a, ast.Name) else None
        if not isinstance(found, Step):
            return compare(self.value(a), sign, self.value(b))
        end = self.value(b)
        given = {(">=", 0), (">", -1), ("!=", -1)}
        past = {("<", 0), ("<=", -1), ("==", -1)}
        if end.kind != NUMBER or (sign, end.low) not in given | past:
            raise LoopError(
                f"a comparison of the time step with something else than 0: {ast.unparse(a)} {sign} {ast.unparse(b)}"
            )
        return Condition(f"{found.x} {'!=' if (sign, end.low) in given else '=='} NULL")

    def _subscript(self, node: ast.Subscript) -> Value:
        if isinstance(node.value, ast.Attribute):
            return self._shape(node.value, node.slice)
        array, place = self._element(node)
        self.result.arrays_read.add(array.text)
        return Value(place, array.kind, max(array.low, C_TYPES[array.kind][0]), min(array.high, C_TYPES[array.kind][1]))

    def _array(self, node: ast.expr) -> Array:
        found = self._lookup(node) if isinstance(node, ast.Name) else None
        if not isinstance(found, Array):
            raise LoopError(f"{ast.unparse(node)} as an array")
        return found

    def _shape(self, node: ast.Attribute, axis: ast.expr) -> Value:
        if node.attr != "shape":
            raise LoopError(f"the attribute {ast.unparse(node)}")
        array, at = self._array(node.value), self.value(axis)
        place = at.low - len(array.lead)
        if at.kind != NUMBER or not 0 <= place < len(array.shape) or array.shape[place] < 0:
            raise LoopError(f"the length {ast.unparse(node)}[{ast.unparse(axis)}], which C does not know")
        return number(array.shape[place])

    def _led(self, node: ast.Subscript, array: Array) -> list[ast.expr]:
        """The indices that C has."""
        given = _indices(node)
        for name, index in zip(array.lead, given, strict=False):
            if not isinstance(index, ast.Name) or index.id != name:
                raise LoopError(f"{ast.unparse(node)}: its index is {name} in every loop")
        return given[len(array.lead) :]

    def _element(self, node: ast.Subscript) -> tuple[Array, str]:
        """The array, and the expression of its element."""
        array = self._array(node.value)
        given = self._led(node, array)
        if len(given) != len(array.shape):
            raise LoopError(f"{ast.unparse(node)}: an array is read with all of its indices")
        if not array.shape:
            return array, array.text
        values = []
        for axis, index in enumerate(given):
            if axis == 0 and array.shape[0] < 0:  # rows of the output
                self._named[self._row or ""] = number(0)
                row = self.value(index)
                self._named[self._row or ""] = Absent("the first row that is written")
                if not 0 <= row.low <= row.high < 1 << 15:
                    raise LoopError(f"{ast.unparse(node)}: which row it writes is not known")
                self.result.last_row = max(self.result.last_row, row.high)
                values.append(row)
            else:
                found = self.value(index)
                if found.kind == NUMBER and not 0 <= found.low < array.shape[axis]:
                    raise LoopError(f"{ast.unparse(node)}: index {found.low} of {array.shape[axis]} elements")
                values.append(found)
        return array, f"{array.text}[{_flat(values, array.shape).text}]"

    def _call(self, node: ast.Call) -> Value:
        found: Named | None = None
        if isinstance(node.func, ast.Name):
            if node.func.id == "len" and len(node.args) == 1:
                return number(self._length(node.args[0]))
            found = self._lookup(node.func)
        elif isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            around = self._lookup(node.func.value)
            found = getattr(around, node.func.attr, None) if isinstance(around, Contract) else None
        if not isinstance(found, Called) or node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            raise LoopError(f"the call {_brief(node)!r}")
        if found.name == DOT:
            return self._dot(node)
        if found.name == "choose" and len(node.args) == 3:
            test, yes, no = node.args
            return either(self.condition(test), self.value(yes), self.value(no))
        if found.name in _HELPERS:
            return self._helper(found.name, node)
        return self._contract(FUNCTIONS[found.name], node)

    def _length(self, node: ast.expr) -> int:
        array = self._array(node)
        if array.lead or not array.shape or array.shape[0] < 0:
            raise LoopError(f"the length of {ast.unparse(node)}, which C does not know")
        return array.shape[0]

    def _helper(self, name: str, node: ast.Call) -> Value:
        values = [self.value(a) for a in node.args]
        least = _HELPERS[name]
        if len(values) < least or (least == 1 and len(values) != 1):
            raise LoopError(f"the call {_brief(node)!r}")
        found = values[0]
        if name == "abs":
            return wide(f"qrnn_wide_abs({_plain(found)})")
        for other in values[1:]:
            choose = max if name == "max" else min
            ends = choose(found.low, other.low), choose(found.high, other.high)
            found = Value(f"qrnn_wide_{name}({_plain(found)}, {_plain(other)})", "int64_t", *ends)
        return found

    def _contract(self, function: Callable[..., Any], node: ast.Call) -> Value:
        """A call of the contract: arrays by their address, a row of `evaluate` by the addresses of its own."""
        expected = signature(function)
        names = list(inspect.signature(function).parameters)
        if len(node.args) != len(names):
            raise LoopError(f"the call {_brief(node)!r}: {function.__name__} takes {len(names)} arguments")
        given = dict(zip(names, node.args, strict=True))
        leads = {lead for argument in expected.values() if isinstance(argument, Array) for lead in argument.lead}
        texts = []
        for name, argument in expected.items():
            if isinstance(argument, Array):
                index = [given[lead] for lead in argument.lead]
                texts.append(self._address(given[name], index, argument, function.__name__))
            elif name not in leads:
                texts.append(_plain(self.value(given[name])))
        return wide(f"qrnn_wide_{function.__name__}({', '.join(texts)})")

    def _address(self, node: ast.expr, index: list[ast.expr], expected: Array, function: str) -> str:
        """Where the array begins that a function of the contract reads."""
        given: list[ast.expr] = []
        if isinstance(node, ast.Subscript):
            array = self._array(node.value)
            given = self._led(node, array)
        else:
            array = self._array(node)
            given = (
                index if not array.lead else [i for i in index if not (isinstance(i, ast.Name) and i.id in array.lead)]
            )
        if array.kind != expected.kind:
            raise LoopError(
                f"{function} of {ast.unparse(node)}, an array of {array.kind}: it takes one of {expected.kind}"
            )
        if len(given) != len(array.shape) - 1:
            raise LoopError(f"{function} of {ast.unparse(node)}: it takes one row")
        self.result.arrays_read.add(array.text)
        if not given:
            return array.text
        zeros = [*(self.value(g) for g in given), number(0)]
        return f"&{array.text}[{_flat(zeros, array.shape).text}]"

    def _dot(self, node: ast.Call) -> Value:
        if len(node.args) != 4:
            raise LoopError(f"the call {_brief(node)!r}: dot takes a matrix, a row, an array and a sequence")
        weight, x = self._array(node.args[0]), self._array(node.args[2])
        rows, columns = (*weight.shape, 0, 0)[:2]
        at = node.args[3]
        if (
            weight.lead
            or len(weight.shape) != 2
            or not (isinstance(at, ast.Name) and x.lead == (at.id,))
            or x.shape != (columns,)
        ):
            raise LoopError(
                f"the call {_brief(node)!r}: dot takes a matrix, a row, an array of a sequence and the sequence"
            )
        row = self.value(node.args[1])
        if not 0 <= row.low <= row.high < rows and row.kind != "int64_t":
            raise LoopError(f"the call {_brief(node)!r}: the matrix has {rows} rows")
        begin = _flat([row, number(0)], weight.shape).text
        self.result.arrays_read |= {weight.text, x.text}
        return Value(
            f"{self._around.dot(weight.kind, x.kind)}(&{weight.text}[{begin}], {x.text}, {columns}U)", "int32_t", *INT32
        )


def signature(function: Callable[..., Any]) -> dict[str, Value | Array]:
    """The parameters of a function of the contract as C has them: an int64_t each, tables by their address.

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


def contract_function(function: Callable[..., Any]) -> tuple[str, list[str]]:
    """The head and the statements of a function of the contract on int64_t."""
    arguments = signature(function)
    texts = [f"const {a.kind} *{a.text}" if isinstance(a, Array) else f"int64_t {a.text}" for a in arguments.values()]
    named: dict[str, Named] = dict(arguments)
    if function.__name__ == "evaluate":
        named["row"] = Absent("the row of its tables")
    translator = Translator(function, named, Surroundings(Names([*arguments, "row"]), returns="int64_t"))
    lines = translator.body().lines
    return f"static inline int64_t qrnn_wide_{function.__name__}({', '.join(texts)})", lines


@dataclass(frozen=True)
class _Use:
    """A name in a statement, in a block: the path of the statements around it. ``loop``: it is the variable of a loop."""

    name: str
    path: tuple[tuple[int, str], ...]
    statement: ast.stmt
    stored: bool
    loop: bool = False


def _uses(statements: Sequence[ast.stmt], path: tuple[tuple[int, str], ...] = ()) -> Iterator[_Use]:
    """Every use of a name, in the order of the text, but for what a statement reads before it assigns."""
    for statement in statements:
        inner: list[tuple[str, list[ast.stmt]]] = []
        here: list[ast.AST] = [statement]
        if isinstance(statement, ast.For):
            yield _Use(ast.unparse(statement.target), path, statement, stored=False, loop=True)
            here, inner = [statement.iter], [("body", statement.body)]
        elif isinstance(statement, ast.If):
            here, inner = [statement.test], [("body", statement.body), ("else", statement.orelse)]
        found = [n for part in here for n in ast.walk(part) if isinstance(n, ast.Name)]
        for node in sorted(found, key=lambda n: isinstance(n.ctx, ast.Store)):
            yield _Use(node.id, path, statement, isinstance(node.ctx, ast.Store))
        for which, block in inner:
            yield from _uses(block, (*path, (id(statement), which)))


def _common(paths: Sequence[tuple[tuple[int, str], ...]]) -> tuple[tuple[int, str], ...]:
    """The innermost block that all of these lie in."""
    found = paths[0]
    for path in paths[1:]:
        length = 0
        while length < min(len(found), len(path)) and found[length] == path[length]:
            length += 1
        found = found[:length]
    return found


def _returns(statements: Sequence[ast.stmt]) -> bool:
    """Whether every way through statements ends with a return."""
    for statement in statements:
        if isinstance(statement, ast.Return):
            return True
        if isinstance(statement, ast.If) and _returns(statement.body) and _returns(statement.orelse):
            return True
    return False


def _without_docstring(statements: Sequence[ast.stmt]) -> Sequence[ast.stmt]:
    first = statements[0]
    return statements[1:] if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) else statements


def _indices(node: ast.Subscript) -> list[ast.expr]:
    return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]


def _flat(indices: Sequence[Value], shape: Sequence[int]) -> Value:
    """The place of an element in an array that C has flat."""
    found = indices[0]
    for index, length in zip(indices[1:], shape[1:], strict=True):
        found = _sum(binary("*", found, number(length)), index)
    return found


def _sum(a: Value, b: Value) -> Value:
    if a == number(0) or b == number(0):
        return b if a == number(0) else a
    return binary("+", a, b)


def _plain(v: Value) -> str:
    """The text of a value that becomes an int64_t, or a loop's own type."""
    return literal(v.low) if v.kind == NUMBER else v.text


def _brief(node: ast.AST) -> str:
    """The first line of a statement."""
    return ast.unparse(node).split("\n")[0]


def row_statements(function: Callable[..., Any], first: str, last: str) -> tuple[str, list[ast.stmt]]:
    """The variable of a loop over rows, ``for m in range(first, last)``, and the statements that compute one row."""
    *before, last_statement = _without_docstring(tree_of(function).body)
    if (
        not isinstance(last_statement, ast.For)
        or not isinstance(last_statement.target, ast.Name)
        or ast.unparse(last_statement.iter) != f"range({first}, {last})"
        or last_statement.orelse
    ):
        raise LoopError(f"its last statement is no loop over range({first}, {last})")
    return last_statement.target.id, [*before, *last_statement.body]


def given_to_contract(function: Callable[..., Any], axes: Mapping[str, int]) -> set[str]:
    """Those of the arrays ``axes``, name → number of indices, of which a function of the contract is given more than one element."""
    products = {name for name, v in inspect.getclosurevars(function).nonlocals.items() if v == Called(DOT)} | {DOT}
    found = set()
    for node in ast.walk(tree_of(function)):
        if not isinstance(node, ast.Call) or ast.unparse(node.func).split(".")[-1] in products | {"len"}:
            continue
        for argument in node.args:
            name, given = argument, 0
            if isinstance(argument, ast.Subscript):
                name, given = argument.value, len(_indices(argument))
            if isinstance(name, ast.Name) and axes.get(name.id, 0) > given:
                found.add(name.id)
    return found
