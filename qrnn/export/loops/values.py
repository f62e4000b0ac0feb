"""Expressions of C carry the interval in which their values lie, for the translation of loops (`translator`).

An operation is computed in 32 bits where the intervals prove that it fits, and else in 64 bits, which the contract says are enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

INT32 = (-(1 << 31), (1 << 31) - 1)
INT64 = (-(1 << 63), (1 << 63) - 1)
NUMBER = "number"
"""The kind of a value that is known when the code is written."""

C_TYPES: dict[str, tuple[int, int]] = {
    f"{'' if signed else 'u'}int{bits}_t": (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    if signed
    else (0, (1 << bits) - 1)
    for bits in (8, 16, 32, 64)
    for signed in (True, False)
}
"""The integer types of C, and the values that they hold."""


class LoopError(Exception):
    """Raised for something in a loop that is not translated; the text says what, without its place."""


@dataclass(frozen=True)
class Value:
    """An expression of C. ``kind`` is its type, or `NUMBER`; ``atom`` says that it needs no parentheses as an operand."""

    text: str
    kind: str
    low: int
    high: int
    atom: bool = True

    @property
    def operand(self) -> str:
        """Return the text as an operand of an operator."""
        return self.text if self.atom else f"({self.text})"

    def within(self, bounds: tuple[int, int]) -> bool:
        """Return whether every value lies within ``bounds``."""
        return bounds[0] <= self.low and self.high <= bounds[1]

    def written_as(self, kind: str) -> Value:
        """Return the same value with the type int32_t or int64_t."""
        if self.kind == kind:
            return self
        if self.kind == NUMBER:
            return replace(self, text=literal(self.low, kind), kind=kind, atom=self.low >= 0)
        return replace(self, text=f"({kind}){self.operand}", kind=kind, atom=True)


@dataclass(frozen=True)
class Array:
    """An array of a loop: its element type, and its shape without the indices ``lead``, which C does not have.

    ``lead`` are the names of the first indices, which stand for the sequence or row that is computed. ``low`` and ``high`` are bounds of
    the elements. ``constant`` arrays are parameters of the model.
    """

    text: str
    kind: str
    shape: tuple[int, ...]
    lead: tuple[str, ...] = ()
    low: int = INT64[0]
    high: int = INT64[1]
    writable: bool = False
    constant: bool = False

    @property
    def type(self) -> str:
        """Return the element type, with the memory of a constant."""
        return f"QRNN_FLASH {self.kind}" if self.constant else self.kind


@dataclass(frozen=True)
class Condition:
    """A condition of C. ``decided`` is its truth, where the intervals decide it."""

    text: str
    decided: bool | None = None
    atom: bool = False


def number(n: int) -> Value:
    """Return a number that is known when the code is written."""
    return Value(str(n), NUMBER, n, n, atom=n >= 0)


def literal(n: int, kind: str = "int64_t") -> str:
    """Return a number as C writes it."""
    if not INT64[0] <= n <= INT64[1]:
        raise LoopError(f"the number {n} does not fit 64 bits")
    named = {INT32[0]: "INT32_MIN", INT64[0]: "INT64_MIN"}
    if n in named:
        return named[n]
    if abs(n) < 1 << 15:
        return str(n)
    return f"INT32_C({n})" if kind == "int32_t" and abs(n) <= INT32[1] else f"INT64_C({n})"


def wide(text: str) -> Value:
    """Return an int64_t of which nothing else is known."""
    return Value(text, "int64_t", *INT64)


def kind_of(*values: Value, ends: tuple[int, int] = (0, 0)) -> str:
    """Return int32_t where all values and ``ends`` fit it, else int64_t."""
    fits = INT32[0] <= ends[0] and ends[1] <= INT32[1]
    narrow = all(v.within(INT32) and v.kind not in ("int64_t", "uint32_t") for v in values)
    return "int32_t" if fits and narrow else "int64_t"


_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "<<": lambda a, b: a << b,
    ">>": lambda a, b: a >> b,
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
}


def binary(op: str, a: Value, b: Value) -> Value:
    """Return a op b, as Python means it: ``//`` and ``%`` round down, ``>>`` is arithmetic."""
    if a.kind == b.kind == NUMBER:
        if op in ("<<", ">>") and not 0 <= b.low <= 64:
            raise LoopError(f"a shift by {b.low} bits")
        if op in ("//", "%") and b.low == 0:
            raise LoopError("a division by 0")
        return number(_OPERATORS[op](a.low, b.low))
    if op in ("<<", ">>"):
        return _shift(op, a, b)
    if op in ("//", "%"):
        return _divide(op, a, b)
    if op in ("&", "|", "^"):
        ends = (0, min(v.high for v in (a, b) if v.low >= 0)) if op == "&" and max(a.low, b.low) >= 0 else INT64
        if ends == INT64 and kind_of(a, b) == "int32_t":
            ends = INT32
    elif op == "*":
        corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
        ends = min(corners), max(corners)
    else:
        ends = (a.low + b.low, a.high + b.high) if op == "+" else (a.low - b.high, a.high - b.low)
    ends = max(ends[0], INT64[0]), min(ends[1], INT64[1])
    kind = kind_of(a, b, ends=ends)
    return Value(f"{a.written_as(kind).operand} {op} {b.written_as(kind).operand}", kind, *ends, atom=False)


def _shift(op: str, a: Value, by: Value) -> Value:
    if by.kind == NUMBER and by.low == 0:
        return a
    if by.kind == NUMBER and not 0 <= by.low <= 62:
        raise LoopError(f"a shift by {by.low} bits")
    if op == "<<" and by.kind == NUMBER:
        return binary("*", a, number(1 << by.low))  # C does not define << of a negative number
    if op == "<<":
        power = Value(f"INT64_C(1) << {by.operand}", "int64_t", 1, 1 << 62, atom=False)
        return power if a == number(1) else replace(binary("*", a, power), low=INT64[0], high=INT64[1])
    kind = kind_of(a, by) if by.high < 32 else "int64_t"
    last = min(max(by.high, 0), 63)
    ends = [end >> s for end in (a.low, a.high) for s in (max(by.low, 0), last)]
    return Value(f"{a.written_as(kind).operand} >> {by.operand}", kind, min(ends), max(ends), atom=False)


def _divide(op: str, a: Value, b: Value) -> Value:
    if b.kind == NUMBER and b.low == 0:
        raise LoopError("a division by 0")
    if a.low >= 0 and b.low > 0:
        kind = kind_of(a, b)
        ends = (a.low // b.high, a.high // b.low) if op == "//" else (0, min(a.high, b.high - 1))
        sign = {"//": "/", "%": "%"}[op]
        return Value(f"{a.written_as(kind).operand} {sign} {b.written_as(kind).operand}", kind, *ends, atom=False)
    name = {"//": "floor_divide", "%": "floor_modulo"}[op]
    return wide(f"qrnn_wide_{name}({a.written_as('int64_t').text}, {b.written_as('int64_t').text})")


_COMPARED: dict[str, tuple[Callable[[Value, Value], bool], Callable[[Value, Value], bool]]] = {
    "<": (lambda a, b: a.high < b.low, lambda a, b: a.low >= b.high),
    "<=": (lambda a, b: a.high <= b.low, lambda a, b: a.low > b.high),
    ">": (lambda a, b: a.low > b.high, lambda a, b: a.high <= b.low),
    ">=": (lambda a, b: a.low >= b.high, lambda a, b: a.high < b.low),
    "==": (lambda a, b: a.low == a.high == b.low == b.high, lambda a, b: a.high < b.low or a.low > b.high),
    "!=": (lambda a, b: a.high < b.low or a.low > b.high, lambda a, b: a.low == a.high == b.low == b.high),
}
"""For each comparison, whether it always holds, and whether it never does."""


def compare(a: Value, sign: str, b: Value) -> Condition:
    """Return the comparison of two values."""
    always, never = _COMPARED[sign]
    decided = True if always(a, b) else False if never(a, b) else None
    kind = kind_of(a, b)
    return Condition(f"{a.written_as(kind).operand} {sign} {b.written_as(kind).operand}", decided)


def either(condition: Condition, yes: Value, no: Value) -> Value:
    """Return ``yes`` where the condition holds, else ``no``."""
    if condition.decided is not None:
        return yes if condition.decided else no
    kind = kind_of(yes, no)
    text = f"({condition.text}) ? {yes.written_as(kind).operand} : {no.written_as(kind).operand}"
    return Value(text, kind, min(yes.low, no.low), max(yes.high, no.high), atom=False)


def joined(word: str, parts: list[Condition]) -> Condition:
    """Join conditions by ``&&`` or ``||``."""
    ends = word == "||"  # one that holds decides ||, one that does not decides &&
    left = []
    for part in parts:
        if part.decided is ends:
            return Condition("", ends)
        if part.decided is None:
            left.append(part)
    if not left:
        return Condition("", not ends)
    return left[0] if len(left) == 1 else Condition(f" {word} ".join(f"({p.text})" for p in left))


def negated(condition: Condition) -> Condition:
    """Return the opposite condition."""
    if condition.decided is not None:
        return Condition("", not condition.decided)
    return Condition(f"!({condition.text})", atom=True)


def type_of(values: npt.NDArray[Any]) -> str:
    """Return the narrowest signed type of C that holds integers."""
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for bits in (8, 16, 32, 64):
        if C_TYPES[f"int{bits}_t"][0] <= low and high <= C_TYPES[f"int{bits}_t"][1]:
            return f"int{bits}_t"
    raise LoopError(f"numbers up to {high} do not fit 64 bits")


def type_of_dtype(dtype: npt.DTypeLike) -> str:
    """Return the type of C with the size of an integer type of NumPy."""
    return f"{np.dtype(dtype).name}_t"
