"""The two ways in which values of the contract are written in C: `Scalar` by operators, `Lanes` by calls of targets/runtime/qrnn_lanes.h.

A `Value` is an expression of C with the interval that its values lie in. Each operation gets the interval of its result from `Translator`
(contract_to_c.py) and chooses the type of C that holds it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from qrnn.arithmetic import cells

INT32 = (-(1 << 31), (1 << 31) - 1)
UINT32 = (0, (1 << 32) - 1)
INT64 = (-(1 << 63), (1 << 63) - 1)
SIGNED, UNSIGNED, LONG, LANES, NUMBER = "int32_t", "uint32_t", "int64_t", "qrnn_lanes", "number"
"""Kinds of values: the types of C, and numbers that are known when the code is written."""


class TranslationError(Exception):
    """A function uses what is not translated, or a value is not proved to fit its type."""


@dataclass(frozen=True)
class Value:
    """An expression of C and the interval of its values. ``atom`` is true where it needs no parentheses as an operand."""

    text: str
    kind: str
    low: int
    high: int
    atom: bool = True
    factors: tuple[Value, Value] | None = None
    """The two lanes whose product this is, where the product does not fit 32 bits and is not yet written."""
    terms: tuple[Value, Value] | None = None
    """The two lanes whose sum this is, where the sum does not fit 32 bits and is not yet written."""

    @property
    def operand(self) -> str:
        """The text as an operand of an operator."""
        return self.text if self.atom else f"({self.text})"

    def within(self, bounds: tuple[int, int]) -> bool:
        """Return whether every value lies within ``bounds``."""
        return bounds[0] <= self.low and self.high <= bounds[1]


@dataclass(frozen=True)
class Condition:
    """A comparison of two values."""

    left: Value
    sign: str
    right: Value
    text: str

    @property
    def lanes(self) -> bool:
        """Whether the result may differ from lane to lane."""
        return LANES in (self.left.kind, self.right.kind)

    @property
    def decided(self) -> bool | None:
        """The result, where the bounds decide it, else None."""
        a, b = self.left, self.right
        always = {"<": a.high < b.low, "<=": a.high <= b.low, ">": a.low > b.high, ">=": a.low >= b.high}
        never = {"<": a.low >= b.high, "<=": a.low > b.high, ">": a.high <= b.low, ">=": a.high < b.low}
        return True if always[self.sign] else False if never[self.sign] else None


@dataclass(frozen=True)
class Table:
    """An argument that is a table: ``name`` in C, and the bounds of its entries."""

    text: str
    low: int
    high: int
    entry: str = ""
    """The function of `Lanes` that reads entries; "": ``[k]``."""


def number(n: int) -> Value:
    """Return a number that is known when the code is written."""
    return Value(str(n), NUMBER, n, n)


def literal(n: int, kind: str) -> str:
    """Return a number as C writes it in an expression of ``kind``."""
    if kind == UNSIGNED:
        return f"{n}U" if n < 1 << 16 else f"UINT32_C({n})"
    if kind == LONG:
        return f"INT64_C({n})" if n != INT64[0] else "INT64_MIN"
    named = {INT32[0]: "INT32_MIN", INT32[1]: "INT32_MAX"}
    return named.get(n) or (str(n) if abs(n) < 1 << 16 else f"INT32_C({n})")


class Scalar:
    """The dialect of C's operators on int32_t, uint32_t and int64_t."""

    def as_kind(self, v: Value, kind: str) -> Value:
        """Return the same value with another type."""
        if v.kind == kind:
            return v
        if v.kind == NUMBER:
            return replace(v, text=literal(v.low, kind), kind=kind, atom=v.low >= 0)
        return replace(v, text=f"({kind}){v.operand}", kind=kind)

    def name(self, v: Value) -> str:
        """Return the type of a variable that holds ``v``."""
        return SIGNED if v.kind == NUMBER else v.kind

    def binary(self, op: str, a: Value, b: Value, low: int, high: int) -> Value:
        """Write ``a op b``, within [low, high]."""
        if op in ("<<", ">>"):
            return self.shift(op, a, b, low, high)
        kind = self._kind(a, b, low, high)
        first = self.as_kind(a, kind)
        # The usual conversions widen the other operand, or it is a number in any of the types.
        second = b if kind == LONG and b.kind == SIGNED and first.kind == LONG else self.as_kind(b, kind)
        if kind == LONG and a.kind != LONG and b.kind == LONG:
            first = a if a.kind == SIGNED else self.as_kind(a, LONG)
        return Value(f"{first.operand} {op} {second.operand}", kind, low, high, atom=False)

    def _kind(self, a: Value, b: Value, low: int, high: int) -> str:
        unsigned = UNSIGNED in (a.kind, b.kind) or not high <= INT32[1]
        fits = min(a.low, b.low, low) >= 0 and max(a.high, b.high, high) <= UINT32[1]
        if unsigned and fits and not {LONG, SIGNED} & {a.kind, b.kind}:
            return UNSIGNED
        if INT32[0] <= low and high <= INT32[1] and a.within(INT32) and b.within(INT32):
            return SIGNED
        return LONG

    def shift(self, op: str, a: Value, by: Value, low: int, high: int) -> Value:
        """Write ``a << by`` or ``a >> by``, within [low, high]."""
        count = self.as_kind(by, UNSIGNED)
        fits = INT32[0] <= low and high <= INT32[1] and by.high < 32
        if a.kind == UNSIGNED and op == "<<" and high <= UINT32[1] and by.high < 32:
            return Value(f"{a.operand} << {count.operand}", UNSIGNED, low, high, atom=False)
        if op == "<<":
            if not fits and a.low < 0:
                raise TranslationError(f"{a.text} << {by.text}: a negative number of 64 bits is shifted left")
            if not fits or a.kind == NUMBER:
                kind = SIGNED if fits else LONG
                left = (
                    f"{'INT32_C' if fits else 'INT64_C'}({a.low})"
                    if a.kind == NUMBER
                    else self.as_kind(a, kind).operand
                )
                return Value(f"{left} << {count.operand}", kind, low, high, atom=False)
            return Value(f"qrnn_shift_left({self.as_kind(a, SIGNED).text}, {count.text})", SIGNED, low, high)
        kind = a.kind if a.kind != NUMBER else SIGNED
        left = f"INT32_C({a.low})" if a.kind == NUMBER else a.operand
        return Value(f"{left} >> {count.operand}", kind, low, high, atom=False)

    def divide(self, a: Value, b: Value, low: int, high: int) -> Value:
        """Write the quotient ``a / b``, within [low, high]."""
        kind = self._kind(a, b, low, high)
        return Value(f"{self.as_kind(a, kind).operand} / {self.as_kind(b, kind).operand}", kind, low, high, atom=False)

    def compare(self, a: Value, sign: str, b: Value) -> str:
        """Write the comparison of ``a`` and ``b``."""
        kind = LONG if LONG in (a.kind, b.kind) else UNSIGNED if UNSIGNED in (a.kind, b.kind) else SIGNED
        return f"{self.as_kind(a, kind).operand} {sign} {self.as_kind(b, kind).operand}"

    def either(self, condition: Condition, yes: Value, no: Value) -> Value:
        """Write ``yes`` where the condition holds, else ``no``."""
        low, high = min(yes.low, no.low), max(yes.high, no.high)
        kind = self._kind(yes, no, low, high)
        text = f"({condition.text}) ? {self.as_kind(yes, kind).operand} : {self.as_kind(no, kind).operand}"
        return Value(text, kind, low, high, atom=False)

    def saturate(self, x: Value, low: Value, high: Value) -> Value:
        """Write x clamped to [low, high]; an end that x cannot pass is left out."""
        bounds = max(x.low, low.low), min(x.high, high.high)
        wide = "" if all(v.within(INT32) for v in (x, low, high)) else "64"
        kind = LONG if wide else SIGNED
        ends = [self.as_kind(v, kind).text for v in (x, low, high)]
        if x.low >= low.high:
            return Value(f"qrnn_at_most{wide}({ends[0]}, {ends[2]})", kind, *bounds)
        if x.high <= high.low:
            return Value(f"qrnn_at_least{wide}({ends[0]}, {ends[1]})", kind, *bounds)
        if (
            not wide and high.kind != NUMBER and low.text == f"-{high.text}"
        ):  # in order: two steps, which take fewer instructions
            return Value(f"qrnn_at_least(qrnn_at_most({ends[0]}, {ends[2]}), {ends[1]})", kind, *bounds)
        return Value(f"qrnn_saturate{wide}({', '.join(ends)})", kind, *bounds)

    def shift_right_round(self, x: Value, shift: Value, low: int, high: int) -> Value:
        """Write a rounding right shift of ``x``, within [low, high]."""
        half = (1 << shift.high) >> 1
        wide = "" if x.within(INT32) and x.high + half <= INT32[1] and shift.high < 32 else "64"
        kind = LONG if wide else SIGNED
        text = f"qrnn_shift_right_round{wide}({self.as_kind(x, kind).text}, {self.as_kind(shift, UNSIGNED).text})"
        return Value(text, kind, low, high)

    def magnitude(self, x: Value, low: int, high: int) -> Value:
        """Write the magnitude of ``x``, within [low, high]."""
        return Value(f"qrnn_magnitude({self.as_kind(x, SIGNED).text})", SIGNED, low, high)

    def entry(self, table: Table, index: Value, offset: int) -> Value:
        """Write the entry of a table at ``index + offset``."""
        at = index.text if not offset else f"{index.operand} + {offset}"
        return Value(f"{table.text}[{at}]", SIGNED, table.low, table.high)


class Lanes(Scalar):
    """The dialect of calls of targets/runtime/qrnn_lanes.h; it writes operators where no argument is a vector."""

    leaving = False
    """Whether the result is saturated to 16 bits by whoever gets it."""

    CALLS: ClassVar[dict[str, str]] = {
        "+": "add",
        "-": "subtract",
        "*": "multiply",
        "&": "and",
        "<<": "shift_left",
        ">>": "shift_right",
    }

    def vector(self, v: Value) -> Value:
        """Return the value in every lane."""
        if v.kind == LANES:
            if not v.within(INT32) and v.text == "":
                raise TranslationError("a product or a sum of lanes is not proved to fit 32 bits")
            return v
        return Value(f"qrnn_lanes_all({self.as_kind(v, SIGNED).text})", LANES, v.low, v.high)

    def binary(self, op: str, a: Value, b: Value, low: int, high: int) -> Value:
        """Write ``a op b`` lane by lane, within [low, high]."""
        if LANES not in (a.kind, b.kind):
            return super().binary(op, a, b, low, high)
        if op in ("<<", ">>"):
            text = f"qrnn_lanes_{self.CALLS[op]}({self.vector(a).text}, {self.as_kind(b, UNSIGNED).text})"
            self._fits(op, low, high)
            return Value(text, LANES, low, high)
        if not (INT32[0] <= low and high <= INT32[1]):
            pair = self.vector(a), self.vector(b)
            return Value("", LANES, low, high, factors=pair if op == "*" else None, terms=pair if op == "+" else None)
        return Value(f"qrnn_lanes_{self.CALLS[op]}({self.vector(a).text}, {self.vector(b).text})", LANES, low, high)

    def _fits(self, op: str, low: int, high: int) -> None:
        if not (INT32[0] <= low and high <= INT32[1]):
            raise TranslationError(f"a lane of {op} has values in [{low}, {high}], which are not proved to fit 32 bits")

    def either(self, condition: Condition, yes: Value, no: Value) -> Value:
        """Write ``yes`` in the lanes where the condition holds, else ``no``."""
        if LANES not in (yes.kind, no.kind) and not condition.lanes:
            return super().either(condition, yes, no)
        low, high = min(yes.low, no.low), max(yes.high, no.high)
        if not condition.lanes:
            return Value(
                f"({condition.text}) ? {self.vector(yes).text} : {self.vector(no).text}", LANES, low, high, False
            )
        if condition.sign == ">" and condition.left == no and condition.right == yes:  # the smaller of two
            text = f"qrnn_lanes_min({no.text}, {self.as_kind(yes, SIGNED).text})"
            return Value(text, LANES, low, min(high, yes.high))
        if condition.sign == "<=" and condition.left.kind == LANES and yes.kind != LANES:
            ends = [self.as_kind(v, SIGNED).text for v in (condition.right, yes)]
            text = f"qrnn_lanes_choose({condition.left.text}, {ends[0]}, {ends[1]}, {self.vector(no).text})"
            return Value(text, LANES, low, high)
        raise TranslationError(f"no operation of lanes chooses by {condition.text}")

    def saturate(self, x: Value, low: Value, high: Value) -> Value:
        """Write x clamped to [low, high] lane by lane."""
        if x.kind != LANES:
            return super().saturate(x, low, high)
        bounds = max(x.low, low.low), min(x.high, high.high)
        ends = (low.low, high.low) if low.kind == high.kind == NUMBER else None
        if ends == INT32 and x.terms is not None:
            a, b = x.terms
            return Value(f"qrnn_lanes_add_saturate32({a.text}, {b.text})", LANES, *bounds)
        text = self.vector(x).text
        if ends == (-32768, 32767):
            return Value(f"qrnn_lanes_saturate16({text})", LANES, *bounds)
        if ends == (-cells.STATE_LIMIT, cells.STATE_LIMIT):
            named = "state" if not x.within(ends) else ""
            return Value(f"qrnn_lanes_{named}({text})", LANES, *bounds) if named else x
        if low.text == f"-{high.text}":  # in order, as in `Scalar.saturate`
            most = self.as_kind(high, SIGNED).text
            return Value(f"qrnn_lanes_max(qrnn_lanes_min({text}, {most}), {low.text})", LANES, *bounds)
        if x.low < low.high:
            text = f"qrnn_lanes_max({text}, {self.as_kind(low, SIGNED).text})"
        if x.high > high.low:
            least = "at_most_32767" if high.low == high.high == 32767 and x.low >= 0 else "min"
            end = "" if least != "min" else f", {self.as_kind(high, SIGNED).text}"
            text = f"qrnn_lanes_{least}({text}{end})"
        return Value(text, LANES, *bounds)

    def shift_right_round(self, x: Value, shift: Value, low: int, high: int) -> Value:
        """Write a rounding right shift of ``x`` lane by lane, within [low, high]."""
        if x.kind != LANES:
            return super().shift_right_round(x, shift, low, high)
        if x.factors is not None:
            a, q = x.factors
            if not (shift.low == shift.high == 15 and a.within(INT32) and q.low >= 0 and q.high <= 1 << 15):
                raise TranslationError(f"round({a.text} * {q.text} / 2^{shift.text}) takes more than 32 bits")
            return Value(f"qrnn_lanes_multiply_q15({a.text}, {q.text})", LANES, low, high)
        full = ""
        if x.high + ((1 << shift.high) >> 1) > INT32[1]:
            if not self.leaving:
                raise TranslationError(f"{x.text} with its rounding takes more than 32 bits")
            full, low = "_full", max(low, -INT32[1])  # it takes -2^31 for -2^31 + 1, which saturates to the same
        text = f"qrnn_lanes_shift_right_round{full}({self.vector(x).text}, {self.as_kind(shift, UNSIGNED).text})"
        return Value(text, LANES, low, high)

    def magnitude(self, x: Value, low: int, high: int) -> Value:
        """Write the magnitude of ``x`` lane by lane, within [low, high]."""
        if x.kind != LANES:
            return super().magnitude(x, low, high)
        self._fits("magnitude", low, high)
        return Value(f"qrnn_lanes_size({x.text})", LANES, low, high)

    def with_sign(self, p: Value, sign: Value) -> Value:
        """Write p where sign ≥ 0, else -p."""
        end = max(abs(p.low), abs(p.high))
        return Value(f"qrnn_lanes_with_sign({p.text}, {sign.text})", LANES, -end, end)

    def entry(self, table: Table, index: Value, offset: int) -> Value:
        """Write the entries of a table at ``index + offset``, one for each lane."""
        if index.kind != LANES:
            return super().entry(table, index, offset)
        at = table.text if not offset else f"&{table.text}[{offset}]"
        return Value(f"{table.entry}({at}, {index.text})", LANES, table.low, table.high)
