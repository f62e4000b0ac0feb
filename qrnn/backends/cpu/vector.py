"""The contract's scalar functions, evaluated for many lanes at once: arithmetic is written once, and lifted here.

`lift` runs the Python code of a contract function on `Vec` values, whose operators emit LLVM vector instructions. Every `Vec` carries
bounds of its values: an operation is done in 32-bit lanes where its result is proved to fit, else in 64-bit ones, so that lifted code is
exact for the reason that the scalar code is, and no wider than it must be.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from qrnn import arithmetic
from qrnn.arithmetic import fixedpoint

I32, I64 = ir.IntType(32), ir.IntType(64)
INT32 = (-(1 << 31), (1 << 31) - 1)


def vector_type(lanes: int, bits: int) -> ir.VectorType:
    """<lanes x i``bits``>."""
    return ir.VectorType(ir.IntType(bits), lanes)


def splat(builder: Any, scalar: Any, lanes: int) -> Any:
    """The scalar in every lane."""
    kind = ir.VectorType(scalar.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(I32, lanes), None))


Parts = tuple[Any, ...]
"""A vector of 32-bit lanes as one LLVM value, or of 64-bit lanes as two: the even lanes and the odd ones.

So split, a product of 32-bit lanes needs no shuffles: the even lanes are the low halves of 64-bit words as they lie, the odd ones the high.
"""


def _join(builder: Any, parts: Parts) -> Parts:
    """The low 32 bits of even and odd lanes, as one vector."""
    if len(parts) == 1:
        return parts
    even, odd = parts
    half = even.type.count
    low = ir.Constant(even.type, [(1 << 32) - 1] * half)
    up = builder.shl(odd, ir.Constant(odd.type, [32] * half))
    return (builder.bitcast(builder.or_(builder.and_(even, low), up), vector_type(2 * half, 32)),)


def _part(builder: Any, parts: Parts) -> Parts:
    """32-bit lanes as 64-bit ones, sign-extended."""
    if len(parts) == 2:
        return parts
    half = parts[0].type.count // 2
    words = builder.bitcast(parts[0], vector_type(half, 64))
    by = ir.Constant(words.type, [32] * half)
    return (builder.ashr(builder.shl(words, by), by), builder.ashr(words, by))


class Mask:
    """One bit per lane; in parts like a `Vec`."""

    def __init__(self, builder: Any, parts: Parts) -> None:
        self.builder, self.parts = builder, parts

    def like(self, count: int) -> Parts:
        """In ``count`` parts."""
        if len(self.parts) == count:
            return self.parts
        bits = 32 * len(self.parts)
        lanes = tuple(self.builder.sext(p, vector_type(p.type.count, bits)) for p in self.parts)
        other = _part(self.builder, lanes) if count == 2 else _join(self.builder, lanes)
        return tuple(self.builder.icmp_signed("!=", p, ir.Constant(p.type, None)) for p in other)

    def __bool__(self) -> bool:
        raise TypeError("a contract function branches on a value; use fixedpoint.choose")


class Vec:
    """Integers, one per lane, each within [low, high]; 32-bit lanes where these fit, else 64-bit ones in two `Parts`."""

    def __init__(self, builder: Any, value: Any, low: int, high: int) -> None:
        if not -(1 << 63) <= low <= high < 1 << 63:
            raise AssertionError(f"values in [{low}, {high}] do not fit 64 bits")
        self.builder, self.low, self.high = builder, low, high
        self.parts: Parts = value if isinstance(value, tuple) else (value,)
        self.shifted: tuple[int, int] | None = None
        """What is proved of this value shifted left, where that is less than its bounds say (`requantize`'s accumulator)."""
        self.successor_of: Vec | None = None
        self.difference: tuple[Vec, Vec] | None = None
        """(table[k], table[k+1] - table[k]) of a looked-up table[k+1]."""

    @classmethod
    def scalar(cls, builder: Any, scalar: Any, lanes: int, low: int, high: int) -> Vec:
        """A run-time i32 in every lane."""
        return cls(builder, splat(builder, scalar, lanes), low, high)

    @property
    def lanes(self) -> int:
        return sum(int(p.type.count) for p in self.parts)

    @property
    def value(self) -> Any:
        """The low 32 bits of every lane, as one LLVM vector."""
        return _join(self.builder, self.parts)[0]

    def like(self, bits: int) -> Parts:
        """In lanes of ``bits``: sign-extended, or the low bits."""
        return _join(self.builder, self.parts) if bits == 32 else _part(self.builder, self.parts)

    def _other(self, other: Any) -> Vec:
        if isinstance(other, Vec):
            return other
        n, lanes = int(other), self.lanes
        if _bits(n, n) == 32:
            return Vec(self.builder, ir.Constant(vector_type(lanes, 32), [n] * lanes), n, n)
        half = ir.Constant(vector_type(lanes // 2, 64), [n] * (lanes // 2))
        return Vec(self.builder, (half, half), n, n)

    def _each(self, operation: str, other: Vec, bits: int) -> Parts:
        """An LLVM operation on lanes of ``bits``."""
        emit = getattr(self.builder, operation)
        return tuple(emit(a, b) for a, b in zip(self.like(bits), other.like(bits), strict=True))

    def _low_bits(self, operation: str, other: Vec, low: int, high: int) -> Vec:
        """An operation whose low bits depend on the low bits of its arguments alone."""
        return Vec(self.builder, self._each(operation, other, _bits(low, high)), low, high)

    def __add__(self, other: Any) -> Vec:
        o = self._other(other)
        result = self._low_bits("add", o, self.low + o.low, self.high + o.high)
        if isinstance(other, int) and other == 1:
            result.successor_of = self
        return result

    __radd__ = __add__

    def __sub__(self, other: Any) -> Vec:
        o = self._other(other)
        if self.difference is not None and self.difference[0] is o:
            return self.difference[1]
        return self._low_bits("sub", o, self.low - o.high, self.high - o.low)

    def __rsub__(self, other: Any) -> Vec:
        return self._other(other) - self

    def __neg__(self) -> Vec:
        return self._other(0) - self

    def __mul__(self, other: Any) -> Vec:
        o = self._other(other)
        corners = [a * b for a in (self.low, self.high) for b in (o.low, o.high)]
        return self._low_bits("mul", o, min(corners), max(corners))

    __rmul__ = __mul__

    def __bool__(self) -> bool:
        raise TypeError("a contract function branches on a value; use fixedpoint.choose")

    def __eq__(self, other: object) -> bool:
        raise TypeError("a contract function compares for equality; lift an inequality")

    __hash__ = None  # type: ignore[assignment]  # as there is no equality

    def __lshift__(self, other: Any) -> Vec:
        o = self._shift(other)
        corners = [a << b for a in (self.low, self.high) for b in (o.low, o.high)]
        low, high = self.shifted or (min(corners), max(corners))
        return Vec(self.builder, self._each("shl", o, _shift_bits(o, low, high)), low, high).narrowed()

    def _shift(self, other: Any) -> Vec:
        """A number of bits to shift by."""
        o = self._other(other)
        if not 0 <= o.low <= o.high <= 63:
            raise AssertionError(f"shifts by {o.low}…{o.high} bits are not lifted")
        return o

    def __rlshift__(self, other: Any) -> Vec:
        return self._other(other) << self

    def __rshift__(self, other: Any) -> Vec:
        o = self._shift(other)
        corners = [a >> b for a in (self.low, self.high) for b in (o.low, o.high)]
        shifted = self._each("ashr", o, _shift_bits(o, self.low, self.high))
        return Vec(self.builder, shifted, min(corners), max(corners)).narrowed()

    def __rrshift__(self, other: Any) -> Vec:
        return self._other(other) >> self

    def __and__(self, other: Any) -> Vec:
        o = self._other(other)
        if o.low < 0:
            raise AssertionError("only masks of low bits are lifted")
        return self._low_bits("and_", o, 0, o.high)

    def narrowed(self) -> Vec:
        """The same values in the least lanes that hold them."""
        return Vec(self.builder, self.like(_bits(self.low, self.high)), self.low, self.high)

    def _compare(self, sign: str, other: Vec) -> Mask:
        bits = _bits(min(self.low, other.low), max(self.high, other.high))
        pairs = zip(self.like(bits), other.like(bits), strict=True)
        return Mask(self.builder, tuple(self.builder.icmp_signed(sign, a, b) for a, b in pairs))

    # What the bounds decide is decided here: no instruction is spent on it.

    def __lt__(self, other: Any) -> Any:
        o = self._other(other)
        return self.high < o.low or (self.low < o.high and self._compare("<", o))

    def __gt__(self, other: Any) -> Any:
        return self._other(other) < self

    def __ge__(self, other: Any) -> Any:
        return self._other(other) <= self

    def __le__(self, other: Any) -> Any:
        o = self._other(other)
        return self.high <= o.low or (self.low <= o.high and self._compare("<=", o))


def _bits(low: int, high: int) -> int:
    return 32 if INT32[0] <= low and high <= INT32[1] else 64


def _shift_bits(by: Vec, low: int, high: int) -> int:
    """Lanes in which values within [low, high] can be shifted: LLVM leaves a shift by the lane's width or more undefined."""
    return 64 if by.high > 31 else _bits(low, high)


def choose(condition: Any, yes: Any, no: Any) -> Any:
    """`fixedpoint.choose`, lane by lane."""
    if not isinstance(condition, Mask):
        return fixedpoint.choose(condition, yes, no)
    if not isinstance(yes, Vec) and not isinstance(no, Vec):
        raise TypeError("a contract function chooses between two numbers by lane; make one of them a value")
    one = yes if isinstance(yes, Vec) else no
    a, b = one._other(yes), one._other(no)
    low, high = min(a.low, b.low), max(a.high, b.high)
    bits = _bits(low, high)
    lanes = zip(condition.like(bits // 32), a.like(bits), b.like(bits), strict=True)
    return Vec(one.builder, tuple(one.builder.select(m, u, v) for m, u, v in lanes), low, high)


def saturate(x: Any, low: Any, high: Any) -> Any:
    """`fixedpoint.saturate`: as it is there, and then its bounds are known to be those of the clamp."""
    found = _SATURATE(x, low, high)
    if isinstance(found, Vec):
        least = low.low if isinstance(low, Vec) else low
        most = high.high if isinstance(high, Vec) else high
        low_end, high_end = max(found.low, least), min(found.high, most)
        return Vec(found.builder, found.parts, low_end, max(low_end, high_end)).narrowed()
    return found


def shift_right_round(x: Any, shift: Any) -> Any:
    """`fixedpoint.shift_right_round`, or `shift_right_round_narrow` where x plus the half would leave 32 bits."""
    if not isinstance(x, Vec) or _bits(x.low, x.high) == 64 or _bits(x.low, x.high + (1 << 30)) == 32:
        return _SHIFT_RIGHT_ROUND(x, shift)
    s = x._other(shift)
    if s.low < 1 or s.high > 31:
        return _SHIFT_RIGHT_ROUND(x, shift)
    return _rebound(fixedpoint.shift_right_round_narrow)(x, s)


def lift(function: Callable[..., Any]) -> Callable[..., Any]:
    """A contract function that also takes `Vec` arguments (and a lookup table with ``[k]``): its own code, run on them."""
    if function is fixedpoint.choose:
        return choose
    if function is fixedpoint.saturate:
        return saturate
    if function is fixedpoint.shift_right_round:
        return shift_right_round
    return _rebound(function)


def _rebound(function: Any) -> Callable[..., Any]:
    if function not in _lifted:
        space = dict(function.__globals__)
        _lifted[function] = types.FunctionType(function.__code__, space, function.__name__)
        for name in function.__code__.co_names:
            if space.get(name) in _CONTRACT:
                space[name] = lift(space[name])
    return _lifted[function]


_CONTRACT = frozenset(arithmetic.CONTRACT)
_lifted: dict[Any, Callable[..., Any]] = {}
_SATURATE = _rebound(fixedpoint.saturate)
_SHIFT_RIGHT_ROUND = _rebound(fixedpoint.shift_right_round)
