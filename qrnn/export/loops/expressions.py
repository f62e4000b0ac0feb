"""The expressions of a loop are translated to C here."""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qrnn.arithmetic import CONTRACT
from qrnn.export.loops.source import (
    DOT,
    FUNCTIONS,
    Absent,
    Called,
    Contract,
    Named,
    Step,
    brief,
    indices,
    signature,
    tree_of,
)
from qrnn.export.loops.values import (
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

_SIGNS: dict[type, str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="
}  # fmt: skip
_OPERATORS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.LShift: "<<", ast.RShift: ">>", ast.BitAnd: "&", ast.BitOr: "|",
    ast.BitXor: "^", ast.FloorDiv: "//", ast.Mod: "%",
}  # fmt: skip
_HELPERS = {"max": 2, "min": 2, "abs": 1}
"""The functions of Python that C has in qrnn_contract_wide.h, and how many arguments they take there."""


@dataclass
class Surroundings:
    """What stands around a loop in C.

    ``array`` gives the array for a name of the loop, and is asked only for arrays that the loop uses; ``dot`` gives the C function for the
    types of weights and operands; ``names`` are the names of variables; ``returns`` is the type of what is returned.
    """

    names: Names
    returns: str = "void"
    array: Callable[[str], Array | None] = lambda name: None
    dot: Callable[[str, str], str] = lambda weight, x: ""


@dataclass
class Variable:
    """A variable of C. ``place`` is the line that declares it."""

    text: str
    read: bool = False
    place: int | None = None


@dataclass
class Translation:
    """The statements of a loop, in C."""

    lines: list[str] = field(default_factory=list)
    least_returned: int = 1 << 15
    """The least number that is returned."""
    most_returned: int = 0
    """The largest number that is returned."""
    last_row: int = -1
    """The last row of the output that is written."""
    arrays_read: set[str] = field(default_factory=set)
    """The arrays of C that are read."""


class Expressions:
    """The expressions of one loop. ``named`` are its parameters; ``row`` is the one by which rows of the output are counted."""

    def __init__(
        self, function: Callable[..., Any], named: Mapping[str, Named], around: Surroundings, row: str | None = None
    ) -> None:
        self._tree, self._around, self._row = tree_of(function), around, row
        closure = inspect.getclosurevars(function)
        self._outer = {**closure.builtins, **function.__globals__, **closure.nonlocals}
        self._named: dict[str, Named] = dict(named)
        self._variables: dict[str, Variable] = {}
        self._depth = 1
        self._loops: list[str] = []
        self._loop_names: dict[str, str] = {}
        self._constants: set[str] = set()
        """The variables that are assigned once, before anything else uses them."""
        self._declaring: dict[ast.stmt, str] = {}
        self.result = Translation()

    def value(self, node: ast.expr) -> Value:
        """Return an expression of Python as one of C."""
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
        raise LoopError(f"the expression {brief(node)!r}")

    def condition(self, node: ast.expr) -> Condition:
        """Return a condition of Python as one of C."""
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
        """Return the indices that C has."""
        given = indices(node)
        for name, index in zip(array.lead, given, strict=False):
            if not isinstance(index, ast.Name) or index.id != name:
                raise LoopError(f"{ast.unparse(node)}: its index is {name} in every loop")
        return given[len(array.lead) :]

    def _element(self, node: ast.Subscript) -> tuple[Array, str]:
        """Return the array, and the expression of its element."""
        array = self._array(node.value)
        given = self._led(node, array)
        if len(given) != len(array.shape):
            raise LoopError(f"{ast.unparse(node)}: an array is read with all of its indices")
        if not array.shape:
            return array, array.text
        values = []
        for axis, index in enumerate(given):
            if axis == 0 and array.shape[0] < 0 and array.writable:  # rows of the output
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
        return array, f"{array.text}[{flat_index(values, array.shape).text}]"

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
            raise LoopError(f"the call {brief(node)!r}")
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
            raise LoopError(f"the call {brief(node)!r}")
        found = values[0]
        if name == "abs":
            return wide(f"qrnn_wide_abs({plain(found)})")
        for other in values[1:]:
            choose = max if name == "max" else min
            ends = choose(found.low, other.low), choose(found.high, other.high)
            found = Value(f"qrnn_wide_{name}({plain(found)}, {plain(other)})", "int64_t", *ends)
        return found

    def _contract(self, function: Callable[..., Any], node: ast.Call) -> Value:
        """Return a call of the contract: arrays by their address, a row of `evaluate` by the addresses of its own."""
        expected = signature(function)
        names = list(inspect.signature(function).parameters)
        if len(node.args) != len(names):
            raise LoopError(f"the call {brief(node)!r}: {function.__name__} takes {len(names)} arguments")
        given = dict(zip(names, node.args, strict=True))
        leads = {lead for argument in expected.values() if isinstance(argument, Array) for lead in argument.lead}
        texts = []
        for name, argument in expected.items():
            if isinstance(argument, Array):
                index = [given[lead] for lead in argument.lead]
                texts.append(self._address(given[name], index, argument, function.__name__))
            elif name not in leads:
                texts.append(plain(self.value(given[name])))
        return wide(f"qrnn_wide_{function.__name__}({', '.join(texts)})")

    def _address(self, node: ast.expr, index: list[ast.expr], expected: Array, function: str) -> str:
        """Return where the array begins that a function of the contract reads."""
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
        return f"&{array.text}[{flat_index(zeros, array.shape).text}]"

    def _dot(self, node: ast.Call) -> Value:
        if len(node.args) != 4:
            raise LoopError(f"the call {brief(node)!r}: dot takes a matrix, a row, an array and a sequence")
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
                f"the call {brief(node)!r}: dot takes a matrix, a row, an array of a sequence and the sequence"
            )
        row = self.value(node.args[1])
        if not 0 <= row.low <= row.high < rows and row.kind != "int64_t":
            raise LoopError(f"the call {brief(node)!r}: the matrix has {rows} rows")
        begin = flat_index([row, number(0)], weight.shape).text
        self.result.arrays_read |= {weight.text, x.text}
        return Value(
            f"{self._around.dot(weight.type, x.kind)}(&{weight.text}[{begin}], {x.text}, {columns}U)", "int32_t", *INT32
        )

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
        """Return what the loop finds around it by a name."""
        if isinstance(found, bool | int):
            return number(int(found))
        if isinstance(found, Called | Contract):
            return found
        if callable(found) and found in CONTRACT:
            return Called(found.__name__)
        if name in _HELPERS and found is getattr(builtins, name):
            return Called(name)
        raise LoopError(f"the name {name}")


def flat_index(indices: Sequence[Value], shape: Sequence[int]) -> Value:
    """Return the place of an element in an array that is flat in C."""
    found = indices[0]
    for index, length in zip(indices[1:], shape[1:], strict=True):
        found = _sum(binary("*", found, number(length)), index)
    return found


def _sum(a: Value, b: Value) -> Value:
    if a == number(0) or b == number(0):
        return b if a == number(0) else a
    return binary("+", a, b)


def plain(v: Value) -> str:
    """Return the text of a value that becomes an int64_t, or a loop's own type."""
    return literal(v.low) if v.kind == NUMBER else v.text
